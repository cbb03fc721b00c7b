"""The cache folder for raw results of models: one file per key, with a size limit, safe to share.

A missing result is computed again, so a fault of the folder costs only time: a damaged, foreign or truncated
file counts as missing, and a result that cannot be written is not kept. No lock is needed: a file appears
whole, under its name, or not at all. Imports no numpy.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import platform
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from emulator.files import cause, open_regular, read_bounded

log = logging.getLogger(__name__)

SETTING = "prediction_cache_mb"
_MAGIC = b"vertex-emulator prediction cache 1\n"
_CHECKSUM_BYTES = hashlib.sha256().digest_size
_NAME = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{16}\.part")
# A partial file that is older than this was left by a killed process.
_PART_AGE_S = 600.0
# A file that was changed this recently may change again without a new modification time.
_SETTLED_NS = 2_000_000_000
_PIECE = 4 << 20
_MOST_DIGESTS = 1024


@dataclass(frozen=True)
class CachePlace:
    """The place of the cache: a folder and its limit in bytes. Picklable.

    `downloads` is a folder of files that never change, each a version of an object at an endpoint.
    """

    folder: Path
    limit: int
    downloads: Path | None = None

    @classmethod
    def below(cls, data_dir: Path, megabytes: int) -> CachePlace | None:
        """The place in a data folder; None if the setting turns the cache off."""
        data_dir = data_dir.absolute()
        folder = data_dir / "cache" / "predictions"
        return cls(folder, megabytes * 1_000_000, data_dir / "gcs-cache") if megabytes else None


class PredictionCache:
    """Contents by key. Safe for many threads and processes. Never raises for a fault of the folder.

    Each kind of fault is logged once.
    """

    def __init__(self, place: CachePlace) -> None:
        self._folder, self._limit = place.folder, place.limit
        self.videos = VideoDigests(place.downloads)
        self._said: set[str] = set()

    def get(self, key: str) -> bytes | None:
        """The content of that key; None if it is missing or damaged."""
        path = self._folder / _name_of(key)
        try:
            data = read_bounded(path, self._limit)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn("read", f"{path} cannot be read ({cause(error)}), so it is computed again")
            return None
        head = len(_MAGIC) + _CHECKSUM_BYTES
        content = data[head:]
        if data[:head] != _MAGIC + _checksum(key, content):
            self._warn("damaged", f"{path} is damaged or foreign; such files are ignored and made anew")
            return None
        with contextlib.suppress(OSError):
            _touch(path)
        return content

    def put(self, key: str, content: bytes) -> None:
        """Keep a content in place of the key's old one. Evicts the least recently used files if needed."""
        data = _MAGIC + _checksum(key, content) + content
        if len(data) > self._limit:
            self._warn("limit", f"{len(data)} bytes are more than all of {SETTING}, so they are not kept")
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._write(_name_of(key), data)
            self._make_room()
        except OSError as error:
            self._warn("write", self._trouble(error))

    def _write(self, name: str, data: bytes) -> None:
        part = self._folder / f"{name}.{secrets.token_hex(8)}.part"
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
            _touch(part)
            part.replace(self._folder / name)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise

    def _make_room(self) -> None:
        """Evict the least recently used files down to the limit, and partial files of killed processes."""
        files = sorted(self._files(), key=lambda found: found[1].st_mtime_ns)
        excess = sum(status.st_size for _, status in files) - self._limit
        old_s = time.time() - _PART_AGE_S
        for path, status in files:
            is_part = path.suffix == ".part"
            if (status.st_mtime < old_s) if is_part else (excess > 0):
                path.unlink(missing_ok=True)
                excess -= status.st_size

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """The cache's own files in the folder. Other files are left alone."""
        with os.scandir(self._folder) as entries:
            for entry in entries:
                is_own = _NAME.fullmatch(entry.name) or _PART.fullmatch(entry.name)
                if not is_own or not entry.is_file(follow_symlinks=False):
                    text = f"{entry.path} is not of the cache; what else lies there is left alone"
                    self._warn("foreign", text)
                    continue
                with contextlib.suppress(FileNotFoundError):  # another process has removed it
                    yield Path(entry.path), entry.stat(follow_symlinks=False)

    def _trouble(self, error: OSError) -> str:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = f"there is no space left; free some, or lower {SETTING}"
        else:
            remedy = f"{error.strerror or error}; make it writable, or set {SETTING} to 0"
        return f"nothing more can be kept in {self._folder}: {remedy}. Predictions are computed all the same"

    def _warn(self, kind: str, text: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            log.warning("Prediction cache: %s.", text)

    @cached_property
    def code(self) -> str:
        """The digest of the code that decodes and infers: other code may give other results."""
        folder = Path(__file__).parent
        digest = hashlib.sha256()
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes() + b"\0")
        return digest.hexdigest()

    @cached_property
    def processor(self) -> str:
        """A digest of the kind of processor: its instruction set decides how sums are rounded."""
        known = [platform.machine()]
        with contextlib.suppress(OSError):
            text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
            lines = (
                line for line in text.splitlines() if line.startswith(("model name", "flags", "Features"))
            )
            known += sorted(set(lines))
        return hashlib.sha256("\n".join(known).encode()).hexdigest()


@dataclass(frozen=True)
class VideoIdentity:
    """A video by its content, and the state of the file when that content was read."""

    digest: str
    stamp: tuple[object, ...]


class VideoDigests:
    """SHA-256 of videos. Safe to use from many threads.

    An unchanged file (size, modification time, inode) is not read again; neither is a version of an object at
    an endpoint.
    """

    def __init__(self, downloads: Path | None = None) -> None:
        self._downloads = downloads
        self._known: dict[tuple[object, ...], str] = {}
        self._lock = threading.Lock()

    def get(self, path: Path, check: Callable[[], None] = lambda: None) -> VideoIdentity:
        """Identify the video in a file. `check` is called now and then, and may raise to end the reading.

        Raises OSError.
        """
        stamp = self.stamp(path)
        if (known := self._known.get(stamp)) is not None:
            return VideoIdentity(known, stamp)
        digest = hashlib.sha256()
        with open_regular(path) as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                check()
        identity = VideoIdentity(digest.hexdigest(), stamp)
        if self._is_settled(path) and self.stamp(path) == stamp:
            with self._lock:
                self._known[stamp] = identity.digest
                while len(self._known) > _MOST_DIGESTS:
                    del self._known[next(iter(self._known))]
        return identity

    def stamp(self, path: Path) -> tuple[object, ...]:
        """A value that changes with the file's content. Raises OSError."""
        status = path.stat()
        if self._is_download(path):
            # The modification time of a download is the time of its last use.
            return path.name, status.st_dev, status.st_ino, status.st_size
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def _is_settled(self, path: Path) -> bool:
        return self._is_download(path) or time.time_ns() - path.stat().st_mtime_ns > _SETTLED_NS

    def _is_download(self, path: Path) -> bool:
        return self._downloads is not None and path.parent == self._downloads


def _touch(path: Path) -> None:
    """Note the use of a file, for eviction by last use. The file system's own clock is too coarse."""
    os.utime(path, ns=(time.time_ns(),) * 2)


def _name_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _checksum(key: str, content: bytes) -> bytes:
    digest = hashlib.sha256(key.encode() + b"\0")
    digest.update(content)
    return digest.digest()
