"""Cloud Storage as a folder: `gs://bucket/object` is `<root>/bucket/object`, whoever put it there.

Nothing outside the root is ever read or written, and a written object appears complete or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import BinaryIO

from emulator.storage.object_store import (
    AccessDenied,
    BucketNotEmpty,
    NameTaken,
    ObjectInfo,
    ObjectNotFound,
    ObjectStore,
    StorageError,
)
from emulator.storage.uri import MAX_OBJECT_BYTES, GcsUri, InvalidUri, check_bucket

_log = logging.getLogger(__name__)

# Unfinished writes lie in <bucket>/.vbe-tmp: on the bucket's own file system, so that a rename is atomic.
_TEMPORARY = ".vbe-tmp"
# What is recorded of objects beside their bytes (metadata.py) lies in <bucket>/.vbe-meta.
_METADATA = ".vbe-meta"
_HIDDEN = (_TEMPORARY, _METADATA)
_LEFTOVER_AGE_S = 3600
_MAX_SEGMENT_BYTES = 255
_ATTEMPTS = 50  # against other threads that prune folders
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_DENIED = (errno.EACCES, errno.EPERM)
_NAME_ERRORS = (
    errno.EISDIR,
    errno.ENOTEMPTY,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ELOOP,
    errno.ENAMETOOLONG,
)
_WRITE_CAUSES = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "the file would exceed the size limit for files; raise it",
    errno.EROFS: "the file system is read-only; mount it read-write",
    errno.EACCES: "permission is denied; give the server's user write access",
    errno.EPERM: "permission is denied; give the server's user write access",
    errno.EIO: "the disk reports an input/output error",
    errno.EISDIR: "a folder of that name exists; choose another name",
    errno.ENOTEMPTY: "a folder of that name exists; choose another name",
    errno.ENOTDIR: "an object stands where a folder is needed; choose another name",
    errno.EEXIST: "an object stands where a folder is needed; choose another name",
    errno.ELOOP: "a link that leads nowhere stands where a folder is needed; choose another name",
    errno.ENAMETOOLONG: "the name is too long for this file system; shorten it",
}


@dataclass(frozen=True)
class _Walk:
    """Which part of a bucket a listing wants."""

    prefix: str
    start: str
    shallow: bool

    def wants(self, name: str) -> bool:
        """Whether the object of that name, or one in the folder (its name ends in a slash), may be listed."""
        on_the_way = name.endswith("/") and self.start.startswith(name)
        return (name >= self.start or on_the_way) and (
            name.startswith(self.prefix) or self.prefix.startswith(name)
        )

    def share(self, folder: str) -> int | None:
        """How many of a folder's objects are listed; None for all."""
        return 1 if self.shallow and folder.startswith(self.prefix) else None


@dataclass(frozen=True)
class LocalStore(ObjectStore):
    """Buckets as sub-folders of `root`. Files dropped in by hand are objects at once."""

    root: Path

    def open_read(self, uri: GcsUri) -> BinaryIO:
        path = self._path(uri)
        try:
            # Non-blocking, or a named pipe dropped into the bucket would hang the reader.
            descriptor = os.open(
                path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            )
        except OSError as error:
            raise self._unreadable(uri, path, error) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise self._not_a_file(uri, path)
        return os.fdopen(descriptor, "rb", buffering=1 << 16)

    def stat(self, uri: GcsUri) -> ObjectInfo:
        path = self._path(uri)
        try:
            status = path.stat()
        except OSError as error:
            raise self._unreadable(uri, path, error) from error
        if not stat.S_ISREG(status.st_mode):
            raise self._not_a_file(uri, path)
        return ObjectInfo(uri, status.st_size, status.st_mtime_ns // 1000)

    @contextlib.contextmanager
    def local_path(self, uri: GcsUri) -> Iterator[Path]:
        # Opened, not only looked at: who decodes the file could not say that it may not be read.
        self.open_read(uri).close()
        yield self._path(uri)

    @contextlib.contextmanager
    def write(self, uri: GcsUri) -> Iterator[BinaryIO]:
        path = self._path(uri)
        temporary = self.root / uri.bucket / _TEMPORARY / secrets.token_hex(16)
        try:
            self._make_folder(temporary.parent)
            self._make_folder(path.parent)
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            self._publish(temporary, path)
            _settle(path.parent)
        except OSError as error:
            if error.errno not in _WRITE_CAUSES:
                raise
            raise self.unwritable(uri, error) from error
        finally:
            # After a success there is nothing left to unlink; after a failure no half-written file may stay.
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            self._prune(path.parent)

    def delete(self, uri: GcsUri) -> None:
        path = self._path(uri)
        self.stat(uri)
        try:
            path.unlink()
        except OSError as error:
            raise self._unreadable(uri, path, error, "deleted") from error
        self._prune(path.parent)

    def list(
        self, bucket: str, prefix: str = "", *, start: str = "", shallow: bool = False
    ) -> Iterator[ObjectInfo]:
        """As the protocol says. Only names from `start` on; with `shallow`, of each folder below the prefix
        its first object only, which tells that the folder is there."""
        check_bucket(bucket, f"gs://{bucket}")
        top = self.root / bucket
        if not self._inside(top) or "\0" in prefix or len(prefix.encode()) > MAX_OBJECT_BYTES:
            return
        folder, _, _ = prefix.rpartition("/")
        if folder and not all(map(_is_folder_name, folder.split("/"))):
            return
        below = top / folder if folder else top
        if self._inside(below):
            walk = _Walk(prefix, start, shallow)
            yield from self._walk(GcsUri(bucket, f"{folder}/" if folder else ""), below, walk, ())

    def stage(self, bucket: str) -> Path:
        """Make an empty file on the bucket's file system, for `publish` to give a name."""
        temporary = self.root / bucket / _TEMPORARY / secrets.token_hex(16)
        try:
            self._make_folder(temporary.parent)
            temporary.touch(exist_ok=False)
        except OSError as error:
            raise self.unwritable(GcsUri(bucket, ""), error) from error
        return temporary

    def publish(self, staged: Path, uri: GcsUri) -> None:
        """Turn a staged file into the object, replacing what was there. Its bytes are on the disk before, its
        name is after `settle`."""
        path = self._path(uri)
        try:
            self._make_folder(path.parent)
            self._publish(staged, path)
        except OSError as error:
            self._prune(path.parent)
            raise self.unwritable(uri, error) from error

    def settle(self, uri: GcsUri) -> None:
        """Bring the name of a published object to the disk."""
        try:
            _settle(self._path(uri).parent)
        except OSError as error:
            raise self.unwritable(uri, error) from error

    def buckets(self) -> Iterator[str]:
        """Names of the folders that are buckets, sorted."""
        try:
            names = sorted(path.name for path in self.root.iterdir()) if self.root.is_dir() else []
        except OSError as error:
            raise _refused("The buckets", "listed", self.root, error) from error
        yield from filter(self.has_bucket, names)

    def has_bucket(self, bucket: str) -> bool:
        """Whether there is a folder of that name and it can be a bucket's."""
        try:
            check_bucket(bucket, f"gs://{bucket}")
        except InvalidUri:
            return False
        path = self.root / bucket
        return self._inside(path) and _certainly(path.is_dir)

    def remove_bucket(self, bucket: str) -> None:
        """Remove a bucket's folder. Raises BucketNotEmpty when it holds anything but empty folders."""
        top = self.root / bucket
        for folder, _, _ in os.walk(top, topdown=False):
            parts = Path(folder).relative_to(top).parts
            if parts and parts[0] not in _HIDDEN:
                with contextlib.suppress(OSError):  # what is left is reported below
                    Path(folder).rmdir()
        try:
            if any(path.name not in _HIDDEN for path in top.iterdir()):
                raise BucketNotEmpty(f"The bucket {bucket} is not empty; delete the files in {top} first.")
            for hidden in _HIDDEN:
                shutil.rmtree(top / hidden, ignore_errors=True)
            top.rmdir()
        except OSError as error:
            raise _refused(f"The bucket {bucket}", "deleted", top, error) from error

    def metadata_folder(self, bucket: str) -> Path:
        """Where a bucket's metadata lies; may not exist yet."""
        return self.root / bucket / _METADATA

    def check_writable(self, prefix: GcsUri) -> None:
        folder = self._path(prefix / "probe").parent
        while not _certainly(folder.exists) and folder != folder.parent:
            folder = folder.parent
        if not _certainly(folder.is_dir):
            raise self.unwritable(prefix, OSError(errno.ENOTDIR, ""))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise self.unwritable(prefix, OSError(errno.EACCES, ""))

    def interruptible(self, check: Callable[[], None]) -> ObjectStore:  # noqa: ARG002
        return self

    def unwritable(self, uri: GcsUri, error: OSError) -> StorageError:
        """Explain why an object, or a bucket when it names none, cannot be written."""
        cause = _WRITE_CAUSES.get(error.errno or errno.EIO, error.strerror)
        kinds = {**dict.fromkeys(_NAME_ERRORS, NameTaken), **dict.fromkeys(_DENIED, AccessDenied)}
        kind = kinds.get(error.errno or errno.EIO, StorageError)
        return kind(f"{uri} cannot be written below {self.root}: {cause}.")

    def remove_leftovers(self) -> None:
        """Remove what killed writers left behind. Files younger than an hour may still be in use."""
        oldest = time.time() - _LEFTOVER_AGE_S
        for leftover in self.root.glob(f"*/{_TEMPORARY}/*"):
            with contextlib.suppress(OSError):
                if leftover.stat().st_mtime < oldest:
                    leftover.unlink()

    def _path(self, uri: GcsUri) -> Path:
        """The file of an object. Raises InvalidUri for names a folder cannot hold or that leave the root."""
        GcsUri.parse(str(uri))  # a GcsUri built by hand has not been checked yet
        segments = uri.object.split("/")
        if segments[-1] == "":
            raise InvalidUri(f'"{uri}" names a folder, not an object; name an object in it.')
        for segment in segments:
            self._check_segment(segment, uri)
        path = self.root.joinpath(uri.bucket, *segments)
        if not self._inside(path):
            raise InvalidUri(f'"{uri}" leads out of the storage folder {self.root} through a symbolic link.')
        return path

    def _check_segment(self, segment: str, uri: GcsUri) -> None:
        if segment in ("", ".", ".."):
            raise InvalidUri(
                f'"{uri}" holds an empty, "." or ".." segment, which a local folder cannot store.'
            )
        if segment in _HIDDEN:
            raise InvalidUri(f'"{uri}": the name {segment} is reserved.')
        if len(segment.encode()) > _MAX_SEGMENT_BYTES:
            raise InvalidUri(f'"{uri}" holds a segment of over {_MAX_SEGMENT_BYTES} bytes; shorten it.')
        if os.name == "nt" and any(character in segment for character in '\\:*?"<>|'):
            raise InvalidUri(f'"{uri}" holds a character that a Windows folder cannot store.')

    def _inside(self, path: Path) -> bool:
        """Whether a path of checked names below the root stays there: only links could lead elsewhere.

        What cannot be told, such as what lies behind a folder that may not be entered, is reported by the
        operation that follows, which that stops as well.
        """
        below = takewhile(lambda at: at != self.root, (path, *path.parents))
        return not any(_certainly(at.is_symlink) for at in below) or self._resolves_inside(path)

    def _resolves_inside(self, path: Path) -> bool:
        try:
            return path.resolve().is_relative_to(self.root.resolve())
        except RuntimeError:  # links in a loop lead nowhere, so not outside either
            return True
        except OSError:
            return False

    def _make_folder(self, folder: Path) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            # A folder may vanish in between: another thread's delete prunes empty ones.
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except (FileNotFoundError, FileExistsError):
                if attempt == _ATTEMPTS or (folder.exists() and not folder.is_dir()):
                    raise
            else:
                return

    def _publish(self, temporary: Path, path: Path) -> None:
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(FileNotFoundError):
                temporary.replace(path)
                break
            # A delete pruned the folder between its creation and now.
            self._make_folder(path.parent)
        else:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(temporary))

    def _prune(self, folder: Path) -> None:
        """Remove empty folders up to the bucket: in Cloud Storage there are none, and they block names."""
        bucket_depth = len(self.root.parts) + 1
        with contextlib.suppress(OSError):
            while len(folder.parts) > bucket_depth:
                folder.rmdir()
                folder = folder.parent

    def _walk(
        self, parent: GcsUri, folder: Path, walk: _Walk, ancestors: tuple[tuple[int, int], ...]
    ) -> Iterator[ObjectInfo]:
        try:
            identity, entries = _scan(folder)
        except OSError as error:
            if error.errno in _ABSENT:
                return
            refused = _refused(parent, "listed", folder, error)
            if not ancestors or not isinstance(refused, AccessDenied):
                raise refused from error
            # A folder that only root may read, such as `lost+found`, must not hide the rest of the bucket.
            _log.warning("%s It is left out of the list.", refused)
            return
        if identity in ancestors:  # a symbolic link to a folder above itself
            return
        for name in sorted(filter(_is_storable, entries), key=str.encode):
            uri = parent / name
            if not walk.wants(uri.object) or name.rstrip("/") in _HIDDEN:
                continue
            if not name.endswith("/"):
                yield from self._listed(uri, entries[name])
            elif self._holds_names(uri, entries[name]):
                below = self._walk(uri, folder / name, walk, (*ancestors, identity))
                yield from islice(below, walk.share(uri.object))

    def _holds_names(self, folder: GcsUri, entry: os.DirEntry[str]) -> bool:
        """Whether a folder can hold objects: names below it are short enough, and it lies inside the root."""
        # What is no link lies where the folder above it does.
        return len(folder.object.encode()) < MAX_OBJECT_BYTES and (
            not entry.is_symlink() or self._inside(Path(entry.path))
        )

    def _listed(self, uri: GcsUri, entry: os.DirEntry[str]) -> Iterator[ObjectInfo]:
        """The object of that name, if the entry is one that can be read."""
        try:
            found = self._stat_entry(uri, entry)
        except AccessDenied as error:  # a link into a folder that may not be entered
            _log.warning("%s It is left out of the list.", error)
        except (ObjectNotFound, InvalidUri, FileNotFoundError, PermissionError):
            pass
        else:
            yield found

    def _stat_entry(self, uri: GcsUri, entry: os.DirEntry[str]) -> ObjectInfo:
        if entry.is_symlink() or len(uri.object.encode()) > MAX_OBJECT_BYTES:
            return self.stat(uri)
        # A plain file of a folder that was found inside the root needs no further look at its path.
        status = entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise self._not_a_file(uri, Path(entry.path))
        return ObjectInfo(uri, status.st_size, status.st_mtime_ns // 1000)

    def _not_a_file(self, uri: GcsUri, path: Path) -> ObjectNotFound:
        if _certainly(path.is_dir):
            return ObjectNotFound(f"{uri} is a folder, not an object; name a file in it or use {uri}/*.")
        return ObjectNotFound(f"{uri} is not a regular file.")

    def _unreadable(self, uri: GcsUri, path: Path, error: OSError, done: str = "read") -> StorageError:
        if _certainly(path.is_dir):
            return self._not_a_file(uri, path)
        if error.errno in _ABSENT:
            return ObjectNotFound(f"{uri} does not exist; put the file at {path}.")
        return _refused(uri, done, path, error)


def _refused(what: object, done: str, path: Path, error: OSError) -> StorageError:
    """Explain why something that may be there cannot be read, listed or deleted."""
    if error.errno not in _DENIED:
        return StorageError(f"{what} cannot be {done}: {error.strerror} ({path}).")
    closed = (at for at in reversed(path.parents) if _certainly(at.is_dir) and not os.access(at, os.X_OK))
    remedy = f"give the server's user access to {next(closed, path)}"
    return AccessDenied(f"{what} cannot be {done}: permission is denied; {remedy}.")


def _scan(folder: Path) -> tuple[tuple[int, int], dict[str, os.DirEntry[str]]]:
    """What tells a folder from all others, and what lies in it by name; folders' names end in a slash."""
    with os.scandir(folder) as found:
        entries = {f"{entry.name}/" if _certainly(entry.is_dir) else entry.name: entry for entry in found}
    if not os.access(folder, os.X_OK):  # its names may be read, but nothing about them
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    status = folder.stat()
    return (status.st_dev, status.st_ino), entries


def _certainly(holds: Callable[[], bool]) -> bool:
    """Ask something of a path; no, where it cannot be told: a loop of links, a folder not to be entered."""
    try:
        return holds()
    except OSError:
        return False


def _is_storable(name: str) -> bool:
    try:
        return not any(character in name for character in "\r\n") and bool(name.encode())
    except UnicodeEncodeError:
        return False


def _is_folder_name(segment: str) -> bool:
    return segment not in ("", ".", "..", *_HIDDEN) and len(segment.encode()) <= _MAX_SEGMENT_BYTES


def _settle(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    if os.name != "nt":
        # Suppressed: another thread may have deleted the object already, and its folder.
        with contextlib.suppress(FileNotFoundError), _opened(folder) as descriptor:
            os.fsync(descriptor)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
