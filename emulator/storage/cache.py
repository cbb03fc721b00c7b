"""A cache folder of downloaded files with a size limit, shared by the worker processes of one machine.

A process that uses a file holds a shared lock on it; a process that downloads one holds an exclusive lock.
Locks end with their process, so a killed worker leaves nothing locked. `<name>.part` is an unfinished
download. It has its final size from the beginning, so it counts towards the limit.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from emulator.storage.object_store import StorageError

_PART = ".part"
_LOCK_FILE = ".lock"
_LOOK_INTERVAL_S = 0.05
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")


@dataclass(frozen=True)
class FileCache:
    """Files by key. Safe for many threads and processes; picklable.

    `limit` is in bytes. Files in use are never evicted: they may exceed the limit, and the folder shrinks
    once one is released.
    """

    folder: Path
    limit: int

    @contextlib.contextmanager
    def file(
        self, key: str, name: str, size: int, fetch: Callable[[BinaryIO], None], check: Callable[[], None]
    ) -> Iterator[Path]:
        """The file for a key, complete and unchanged until the block ends.

        Args:
            key: identifies one version of some bytes; other bytes need another key.
            name: the object's name; its suffix (`.mp4`) is kept.
            size: the number of bytes that `fetch` writes.
            fetch: writes the bytes; called only if the file is missing and no other process fetches it.
            check: called while another process fetches the file; may raise to end the wait.

        Raises:
            StorageError: the folder cannot be used.
            Exception: whatever `fetch` and `check` raise.
        """
        path = self.folder / (hashlib.sha256(key.encode()).hexdigest() + _suffix_of(name))
        with contextlib.ExitStack() as using:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                while (file := _opened_shared(path)) is None:
                    self._fetch(path, size, fetch, check)
                using.callback(self._let_go, file)
                # LRU by modification time. Set it explicitly, because the file system's own clock is too
                # coarse.
                now_ns = time.time_ns()
                os.utime(path, ns=(now_ns, now_ns))
            except OSError as error:
                raise self._unusable(error) from error
            yield path

    def _fetch(
        self, path: Path, size: int, fetch: Callable[[BinaryIO], None], check: Callable[[], None]
    ) -> None:
        """Fetch the file, or wait until another process has finished or failed fetching it."""
        part = path.with_name(path.name + _PART)
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            while not _try_lock(file, fcntl.LOCK_EX):
                check()
                if path.exists() or not _is_at(file, part):
                    return
                time.sleep(_LOOK_INTERVAL_S)
            if not _is_at(file, part):
                return
            if path.exists():
                part.unlink()
                return
            try:
                self._fill(file, size, fetch)
                part.rename(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise

    def _fill(self, file: BinaryIO, size: int, fetch: Callable[[BinaryIO], None]) -> None:
        file.truncate(0)  # a killed worker's leftover is not trusted
        self._make_room(size)
        file.truncate(size)
        file.seek(0)
        fetch(file)
        file.flush()
        # A file with its final name must be complete, even after a power cut.
        os.fsync(file.fileno())

    def _let_go(self, file: BinaryIO) -> None:
        file.close()
        with contextlib.suppress(OSError):
            self._make_room(0)

    def _make_room(self, size: int) -> None:
        """Evict the least recently used files that are not in use, until `size` more bytes fit."""
        with (self.folder / _LOCK_FILE).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            files = sorted(self._files(), key=lambda found: found[1].st_mtime_ns)
            excess = sum(status.st_size for _, status in files) + size - self.limit
            for path, status in files:
                if excess <= 0:
                    return
                if status.st_size and _remove_unused(path):
                    excess -= status.st_size

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.folder.iterdir():
            # Another process may just be renaming its finished download.
            with contextlib.suppress(FileNotFoundError):
                if path.name != _LOCK_FILE:
                    yield path, path.stat()

    def _unusable(self, error: OSError) -> StorageError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            cause = "there is no space left; free some, or lower gcs_cache_mb"
        else:
            cause = f"{error.strerror or error}; make it writable, or name another with data_dir"
        return StorageError(f"The folder for downloaded videos {self.folder} cannot be used: {cause}.")


def _suffix_of(name: str) -> str:
    suffix = Path(name.rpartition("/")[2]).suffix
    return suffix if _SUFFIX.fullmatch(suffix) and suffix != _PART else ""


def _opened_shared(path: Path) -> BinaryIO | None:
    """Open a file with a lock that keeps it from being evicted until it is closed; None if it is missing."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    # Only an evicting process holds an exclusive lock, and it is about to remove the file.
    if _try_lock(file, fcntl.LOCK_SH) and _is_at(file, path):
        return file
    file.close()
    return None


def _remove_unused(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        if not _try_lock(file, fcntl.LOCK_EX):
            return False
        path.unlink()
    return True


def _try_lock(file: BinaryIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether the path still refers to the open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
