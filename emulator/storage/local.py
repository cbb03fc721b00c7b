"""Cloud Storage as a folder: `gs://bucket/object` is the file `<root>/bucket/object`, also if put there by
hand.

Nothing outside the root is ever read or written. A written object appears completely or not at all.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from emulator.storage import aside
from emulator.storage.confined import ConfinedPath, LeadsOut
from emulator.storage.gzipped import unpacked
from emulator.storage.local_errors import ABSENT, NAME_ERRORS, WRITE_CAUSES, refused, unwritable
from emulator.storage.local_listing import FolderListing
from emulator.storage.metadata import Metadata
from emulator.storage.object_store import (
    BucketNotEmpty,
    ObjectInfo,
    ObjectNotFound,
    ObjectStore,
    Staged,
    StorageError,
)
from emulator.storage.uri import MAX_OBJECT_BYTES, GcsUri, InvalidUri, check_bucket

_log = logging.getLogger(__name__)

# Unfinished writes are in <bucket>/.vbe-tmp: on the bucket's file system, so that a rename is atomic.
_TEMPORARY = ".vbe-tmp"
# Metadata of objects (metadata.py) is in <bucket>/.vbe-meta.
_METADATA = ".vbe-meta"
# Noncurrent and soft-deleted versions (versions.py) are in <bucket>/.vbe-versions.
_VERSIONS = ".vbe-versions"
_HIDDEN = (_TEMPORARY, _METADATA, _VERSIONS, aside.FOLDER)
# On Linux, the folder with a path for each open file.
_DESCRIPTORS = Path("/proc/self/fd")
_LEFTOVER_AGE_S = 3600
# Prefix for staged files in the same folder. They wait until a server continues their job.
_STAGED = "staged."
_STAGED_AGE_S = 7 * 86400
_ATTEMPTS = 50  # other threads may prune folders


@dataclass(frozen=True)
class Unfinished:
    """A file of a bucket that is not an object yet.

    `group` and `name` are those of a staged file; both are "" for an upload or another write.
    """

    path: ConfinedPath
    group: str
    name: str
    age_s: float

    @property
    def is_leftover(self) -> bool:
        """Whether the file is so old that its writer must be gone; a server that starts removes it."""
        return self.age_s > (_STAGED_AGE_S if self.group else _LEFTOVER_AGE_S)


@dataclass(frozen=True)
class LocalStore(ObjectStore):
    """Buckets as sub-folders of `root`. A file that is dropped in by hand is an object at once."""

    root: Path

    @property
    def top(self) -> ConfinedPath:
        """The root as a confined path: no link leads out of it."""
        return ConfinedPath(self.root)

    def open_read(self, uri: GcsUri) -> BinaryIO:
        file = self.open_stored(uri)
        if not self._is_gzipped(uri, file):
            return file
        return unpacked(uri, file, os.fstat(file.fileno()).st_size)

    def open_stored(self, uri: GcsUri) -> BinaryIO:
        """Open an object's stored bytes, gzipped or not. Raises ObjectNotFound."""
        path = self.path_of(uri)
        try:
            # Non-blocking: a reader must not hang on a named pipe in the bucket.
            descriptor = path.descriptor(os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise self._unreadable(uri, path, error) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise self._not_a_file(uri, path)
        return os.fdopen(descriptor, "rb", buffering=1 << 16)

    def stat(self, uri: GcsUri) -> ObjectInfo:
        path = self.path_of(uri)
        try:
            status = path.stat()
        except OSError as error:
            raise self._unreadable(uri, path, error) from error
        if not stat.S_ISREG(status.st_mode):
            raise self._not_a_file(uri, path)
        return ObjectInfo(uri, status.st_size, status.st_mtime_ns // 1000)

    @contextlib.contextmanager
    def local_path(self, uri: GcsUri) -> Iterator[Path]:
        # The file is opened here, because the decoder could not report a missing permission. Where the system
        # has paths for open files, the decoder gets that one: the object's own path could lead elsewhere by
        # then.
        with self.open_stored(uri) as file:
            if not self._is_gzipped(uri, file):
                yield _path_of_open(file, self.path_of(uri))
                return
        temporary = self.stage(uri.bucket)
        try:
            with self.open_read(uri) as unzipped, temporary.open("r+b") as file:
                shutil.copyfileobj(unzipped, file, 1 << 20)
                file.flush()
                yield _path_of_open(file, temporary)
        finally:
            temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def write(self, uri: GcsUri) -> Iterator[BinaryIO]:
        path = self._destination(uri)
        temporary = self.top / uri.bucket / _TEMPORARY / secrets.token_hex(16)
        try:
            self._make_folder(temporary.parent)
            self._make_way(uri, path)
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            _settle(self._give_name(temporary, uri).parent)
        except OSError as error:
            if error.errno not in WRITE_CAUSES:
                raise
            raise self.unwritable(uri, error) from error
        finally:
            # After a success there is nothing to unlink; after a failure no partial file may stay.
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            self._prune(path.parent)

    @contextlib.contextmanager
    def write_staged(self, staged: Staged) -> Iterator[BinaryIO]:
        path = self._staged_path(staged)
        try:
            self._make_folder(path.parent)
            with path.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            raise
        except BaseException as error:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno in WRITE_CAUSES:
                raise self.unwritable(staged.prefix, error) from error
            raise

    def publish_staged(self, staged: Staged, uri: GcsUri) -> None:
        path = self._staged_path(staged)
        try:
            if path.exists():
                self.publish(path, uri)
                self.settle(uri)
                return
        except StorageError:
            if path.exists():
                raise
        raise ObjectNotFound(f"What was to become {uri} is not, or no longer, at {path}.")

    def discard_staged(self, staged: Staged) -> None:
        with contextlib.suppress(OSError):
            self._staged_path(staged).unlink(missing_ok=True)

    def list_staged(self, prefix: GcsUri, group: str) -> Sequence[Staged]:
        start = self._staged_path(Staged(prefix, group, ""))
        try:
            names = sorted(start.parent.names())
        except OSError:
            return []
        return [
            Staged(prefix, group, name.removeprefix(start.name))
            for name in names
            if name.startswith(start.name)
        ]

    def delete(self, uri: GcsUri) -> None:
        path = self.path_of(uri)
        self.stat(uri)
        try:
            path.unlink()
            self._drop_aside(uri)
        except OSError as error:
            raise self._unreadable(uri, path, error, "deleted") from error
        self._prune(path.parent)

    def list(
        self, bucket: str, prefix: str = "", *, start: str = "", shallow: bool = False
    ) -> Iterator[ObjectInfo]:
        """Objects as in the protocol, restricted to names from `start` on.

        With `shallow`, only the first object of each folder below the prefix, which shows that the folder
        exists.
        """
        check_bucket(bucket, f"gs://{bucket}")
        if "\0" in prefix or len(prefix.encode()) > MAX_OBJECT_BYTES:
            return
        yield from FolderListing(self.top / bucket, self.stat, _HIDDEN, prefix, start, shallow).objects()

    def stage(self, bucket: str) -> ConfinedPath:
        """Create an empty file on the bucket's file system, which `publish` renames."""
        temporary = self.top / bucket / _TEMPORARY / secrets.token_hex(16)
        try:
            self._make_folder(temporary.parent)
            temporary.open("xb").close()
        except OSError as error:
            raise self.unwritable(GcsUri(bucket, ""), error) from error
        return temporary

    def publish(self, staged: ConfinedPath, uri: GcsUri) -> None:
        """Rename a staged file to the object, replacing an existing one.

        Fsync its bytes before; call `settle` to make the name durable.
        """
        try:
            self._give_name(staged, uri)
        except OSError as error:
            self._prune(self._path(uri).parent)
            raise self.unwritable(uri, error) from error

    def settle(self, uri: GcsUri) -> None:
        """Fsync the folder of a published object, so that its name is durable."""
        try:
            _settle(self.path_of(uri).parent)
        except OSError as error:
            raise self.unwritable(uri, error) from error

    def buckets(self) -> Iterator[str]:
        """The names of the folders that are buckets, sorted."""
        try:
            names = sorted(self.top.names()) if self.root.is_dir() else []
        except OSError as error:
            raise refused("The buckets", "listed", self.root, error) from error
        yield from filter(self.has_bucket, names)

    def has_bucket(self, bucket: str) -> bool:
        """Whether there is a folder of that name and the name is valid for a bucket."""
        try:
            check_bucket(bucket, f"gs://{bucket}")
        except InvalidUri:
            return False
        return (self.top / bucket).is_dir()

    def remove_bucket(self, bucket: str) -> None:
        """Remove a bucket's folder. Raises BucketNotEmpty if it contains more than empty folders."""
        top = self.top / bucket
        try:
            for name in top.names():
                if name not in _HIDDEN:
                    _remove_empty(top / name)
            if any(name not in _HIDDEN for name in top.names()):
                raise BucketNotEmpty(f"The bucket {bucket} is not empty; delete the files in {top} first.")
            for hidden in _HIDDEN:
                with contextlib.suppress(OSError):  # what is left blocks `rmdir` below
                    (top / hidden).remove_tree()
            top.rmdir()
        except OSError as error:
            raise refused(f"The bucket {bucket}", "deleted", top.path, error) from error

    def metadata_folder(self, bucket: str) -> Path:
        """The folder with a bucket's metadata, for messages; it may not exist."""
        return self.records(bucket).path

    def records(self, bucket: str) -> ConfinedPath:
        """The folder with a bucket's metadata; it may not exist."""
        return self.top / bucket / _METADATA

    def versions_folder(self, bucket: str) -> ConfinedPath:
        """The folder with a bucket's noncurrent versions; it may not exist."""
        return self.top / bucket / _VERSIONS

    def check_writable(self, prefix: GcsUri) -> None:
        folder = self._destination(prefix / "probe").parent
        while folder.parts and not folder.exists():
            folder = folder.parent
        if not folder.parts and not folder.exists():
            folder = _nearest(self.root)
        if not folder.is_dir():
            raise self.unwritable(prefix, OSError(errno.ENOTDIR, ""))
        if not folder.access(os.W_OK | os.X_OK):
            raise self.unwritable(prefix, OSError(errno.EACCES, ""))

    def interruptible(self, check: Callable[[], None]) -> ObjectStore:  # noqa: ARG002
        return self

    def unwritable(self, uri: GcsUri, error: OSError) -> StorageError:
        """The error for an object, or a bucket if the URI names no object, that cannot be written."""
        return unwritable(uri, self.root, error)

    def remove_leftovers(self) -> None:
        """Remove the files of killed writers. Files younger than an hour may still be in use."""
        for file in self.unfinished():
            if file.is_leftover:
                with contextlib.suppress(OSError):
                    file.path.unlink()

    def unfinished(self) -> Iterator[Unfinished]:
        """The files of all buckets that wait to become objects; those that cannot be read are left out."""
        now = time.time()
        for bucket in self.buckets():
            folder = self.top / bucket / _TEMPORARY
            with contextlib.suppress(OSError):
                for path in map(folder.__truediv__, folder.names()):
                    group, _, name = path.name.removeprefix(_STAGED).partition(".")
                    is_staged = path.name.startswith(_STAGED)
                    with contextlib.suppress(FileNotFoundError):
                        age_s = now - path.lstat().st_mtime
                        yield Unfinished(path, *((group, name) if is_staged else ("", "")), age_s)

    def _staged_path(self, staged: Staged) -> ConfinedPath:
        check_bucket(staged.bucket, str(staged.prefix))
        return self.top / staged.bucket / _TEMPORARY / f"{_STAGED}{staged.group}.{staged.name}"

    def _is_gzipped(self, uri: GcsUri, file: BinaryIO) -> bool:
        """Whether these bytes were stored with contentEncoding gzip."""
        status = os.fstat(file.fileno())
        info = ObjectInfo(uri, status.st_size, status.st_mtime_ns // 1000)
        return Metadata(self).describe(info).content_encoding == "gzip"

    def path_of(self, uri: GcsUri) -> ConfinedPath:
        """The file of an object, whether it exists or not. Raises InvalidUri."""
        path, beside = self._path(uri), self._beside(uri)
        return beside if not path.is_file() and beside.is_file() else path

    def _path(self, uri: GcsUri) -> ConfinedPath:
        """The file of an object under its own name. Raises InvalidUri, also if it leaves the root."""
        GcsUri.parse(str(uri))  # a GcsUri built by hand has not been checked yet
        if not aside.is_path(uri.object, _HIDDEN):
            return self._beside(uri)
        return self._within(uri, self.top / uri.bucket / uri.object)

    def _beside(self, uri: GcsUri) -> ConfinedPath:
        """The file of an object in the hidden folder. Raises InvalidUri."""
        return self._within(uri, aside.path_of(self.top / uri.bucket, uri.object))

    def _within(self, uri: GcsUri, path: ConfinedPath) -> ConfinedPath:
        """Raise early if a path leads out of the root. Operations themselves catch later links."""
        try:
            path.stat()
        except LeadsOut as error:
            raise self._outside(uri) from error
        except OSError:
            pass
        return path

    def _outside(self, uri: GcsUri) -> InvalidUri:
        return InvalidUri(f'"{uri}" leads out of the storage folder {self.root} through a symbolic link.')

    def _destination(self, uri: GcsUri) -> ConfinedPath:
        """The file to write; the hidden one if a folder has its name, or a file its folder's name."""
        path = self._path(uri)
        taken, folder = path.is_dir(), path.parent
        while not taken and len(folder.parts) > 1:
            taken, folder = folder.is_file(), folder.parent
        return self._beside(uri) if taken else path

    def _give_name(self, staged: ConfinedPath, uri: GcsUri) -> ConfinedPath:
        """Rename a staged file to the object's file; returns its path."""
        path, beside = self._destination(uri), self._beside(uri)
        try:
            self._make_folder(path.parent)
            self._publish(staged, path)
        except OSError as error:
            # Another thread has just written `a` where this one writes `a/b`, or the reverse.
            if path == beside or error.errno not in NAME_ERRORS:
                raise
            self._prune(path.parent)
            self._make_folder(beside.parent)
            self._publish(staged, beside)
            return beside
        if path != beside:
            self._drop_aside(uri)
        return path

    def _drop_aside(self, uri: GcsUri) -> None:
        """Remove the hidden file of an object that is stored under its own name again, or is gone."""
        beside = self._beside(uri)
        if beside.exists():
            beside.unlink(missing_ok=True)
            self._prune(beside.parent)

    def _make_way(self, uri: GcsUri, path: ConfinedPath) -> None:
        """Create an object's folder, so that an impossible name fails before bytes are written."""
        try:
            self._make_folder(path.parent)
        except OSError:
            # Another thread has just written `a` where this one writes `a/b`, which goes to the hidden
            # folder.
            if self._destination(uri) == path:
                raise

    def _make_folder(self, folder: ConfinedPath) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            # A folder may vanish in between: another thread's delete prunes empty ones.
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except (FileNotFoundError, FileExistsError):
                if attempt == _ATTEMPTS or (folder.exists() and not folder.is_dir()):
                    raise
            else:
                return

    def _publish(self, temporary: ConfinedPath, path: ConfinedPath) -> None:
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(FileNotFoundError):
                temporary.replace(path)
                break
            # A delete has pruned the folder since it was created.
            self._make_folder(path.parent)
        else:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(temporary))

    def _prune(self, folder: ConfinedPath) -> None:
        """Remove empty folders up to the bucket: Cloud Storage has no empty folders, and they block names."""
        with contextlib.suppress(OSError):
            while len(folder.parts) > 1:
                folder.rmdir()
                folder = folder.parent

    def _not_a_file(self, uri: GcsUri, path: ConfinedPath) -> ObjectNotFound:
        if path.is_dir():
            return ObjectNotFound(f"{uri} is a folder, not an object; name a file in it or use {uri}/*.")
        return ObjectNotFound(f"{uri} is not a regular file.")

    def _unreadable(
        self, uri: GcsUri, path: ConfinedPath, error: OSError, done: str = "read"
    ) -> StorageError | InvalidUri:
        if isinstance(error, LeadsOut):
            return self._outside(uri)
        if path.is_dir() or error.errno == errno.ENXIO:  # a socket, or a device that does not exist
            return self._not_a_file(uri, path)
        if error.errno in ABSENT:
            remedy = "upload it" if path == self._beside(uri) else f"put the file at {path}"
            return ObjectNotFound(f"{uri} does not exist; {remedy}.")
        return refused(uri, done, path.path, error)


def is_unstaged_write(parts: Sequence[str]) -> bool:
    """Whether a path below a bucket is a file that is being written, and that no job has staged."""
    return len(parts) == 2 and parts[0] == _TEMPORARY and not parts[1].startswith(_STAGED)


def _remove_empty(folder: ConfinedPath) -> None:
    """Remove a folder and its sub-folders, as far as they contain no file."""
    with contextlib.suppress(OSError):
        for name in folder.names():
            _remove_empty(folder / name)
        folder.rmdir()


def _nearest(folder: Path) -> ConfinedPath:
    """The nearest existing folder above one that does not exist."""
    return ConfinedPath(next(filter(Path.exists, folder.absolute().parents)))


def _path_of_open(file: BinaryIO, path: ConfinedPath) -> Path:
    by_descriptor = _DESCRIPTORS / str(file.fileno())
    return by_descriptor if by_descriptor.exists() else path.path


def _settle(folder: ConfinedPath) -> None:
    """Fsync a folder, so that the names in it are durable."""
    # Suppressed: another thread may have deleted the object already, and its folder.
    with contextlib.suppress(FileNotFoundError), folder.opened() as descriptor:
        os.fsync(descriptor)
