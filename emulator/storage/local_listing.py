"""Lists the objects of a bucket that is a folder: its files, and the objects whose names cannot be files."""

from __future__ import annotations

import contextlib
import errno
import heapq
import logging
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice

from emulator.storage import aside
from emulator.storage.confined import ConfinedPath
from emulator.storage.local_errors import ABSENT, certainly, refused
from emulator.storage.object_store import AccessDenied, ObjectInfo, ObjectNotFound
from emulator.storage.uri import MAX_OBJECT_BYTES, GcsUri, InvalidUri

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderListing:
    """A listing of one bucket.

    Attributes:
        top: the bucket's folder.
        stat: describes an object; raises ObjectNotFound.
        hidden: names of folders that hold no objects.
        prefix: of the wanted names.
        start: the first wanted name.
        shallow: only the first object of each folder below the prefix, which shows that the folder exists.
    """

    top: ConfinedPath
    stat: Callable[[GcsUri], ObjectInfo]
    hidden: tuple[str, ...]
    prefix: str
    start: str
    shallow: bool

    def objects(self) -> Iterator[ObjectInfo]:
        """The wanted objects, by name. Raises StorageError if a folder cannot be listed."""
        for _, same in groupby(heapq.merge(self._in_folder(), self._aside(), key=_by_name), key=_by_name):
            yield next(same)

    def _wants(self, name: str) -> bool:
        """Whether an object, or one in a folder (a name with a final slash), may be listed."""
        is_folder = name.endswith("/")
        return (name >= self.start or (is_folder and self.start.startswith(name))) and (
            name.startswith(self.prefix) or (is_folder and self.prefix.startswith(name))
        )

    def _share(self, folder: str) -> int | None:
        """How many of a folder's objects are listed; None means all."""
        return 1 if self.shallow and folder.startswith(self.prefix) else None

    def _in_folder(self) -> Iterator[ObjectInfo]:
        """The objects of a bucket that are files under their own names."""
        folder, _, _ = self.prefix.rpartition("/")
        if folder and not aside.is_path(folder, self.hidden):
            return
        below = self.top / folder if folder else self.top
        yield from self._walk(GcsUri(self.top.name, f"{folder}/" if folder else ""), below, ())

    def _aside(self) -> Iterator[ObjectInfo]:
        """The objects of a bucket in its hidden folder, because their names cannot be files."""
        for name in aside.names(self.top, self.prefix, self.start):
            with contextlib.suppress(ObjectNotFound, InvalidUri):  # deleted in the meantime
                yield self.stat(GcsUri(self.top.name, name))

    def _walk(
        self,
        parent: GcsUri,
        folder: ConfinedPath,
        ancestors: tuple[tuple[int, int], ...],
    ) -> Iterator[ObjectInfo]:
        with contextlib.ExitStack() as open_folder:
            try:
                descriptor = open_folder.enter_context(folder.opened())
                names = _scan(folder, descriptor)
            except OSError as error:
                if error.errno in ABSENT:
                    return
                problem = refused(parent, "listed", folder.path, error)
                if not ancestors or not isinstance(problem, AccessDenied):
                    raise problem from error
                # A folder that only root may read, such as `lost+found`, must not hide the rest.
                _log.warning("%s It is left out of the list.", problem)
                return
            status = os.fstat(descriptor)
            identity = status.st_dev, status.st_ino
            if identity in ancestors:  # a symbolic link to a folder above itself
                return
            for name in sorted(filter(_is_storable, names), key=str.encode):
                uri = parent / name
                if not self._wants(uri.object) or name.rstrip("/") in self.hidden:
                    continue
                if not name.endswith("/"):
                    yield from self._listed(uri, name, descriptor)
                elif len(uri.object.encode()) < MAX_OBJECT_BYTES:  # so names below it are not too long
                    below = self._walk(uri, folder / name.rstrip("/"), (*ancestors, identity))
                    yield from islice(below, self._share(uri.object))

    def _listed(self, uri: GcsUri, name: str, folder: int) -> Iterator[ObjectInfo]:
        """The object with that name in an open folder, if it can be read."""
        try:
            found = self._stat_entry(uri, name, folder)
        except AccessDenied as error:  # a link into a folder without permission
            _log.warning("%s It is left out of the list.", error)
        except (ObjectNotFound, InvalidUri, FileNotFoundError, PermissionError):
            pass
        else:
            yield found

    def _stat_entry(self, uri: GcsUri, name: str, folder: int) -> ObjectInfo:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode) or len(uri.object.encode()) > MAX_OBJECT_BYTES:
            return self.stat(uri)
        # A plain file in an open folder needs no further check of its path.
        if not stat.S_ISREG(status.st_mode):
            raise ObjectNotFound(f"{uri} is not a regular file.")
        return ObjectInfo(uri, status.st_size, status.st_mtime_ns // 1000)


def _scan(folder: ConfinedPath, descriptor: int) -> list[str]:
    """The names in an open folder; names of folders end in a slash."""
    with os.scandir(descriptor) as found:
        names = [f"{entry.name}/" if _leads_to_folder(folder, entry) else entry.name for entry in found]
    if not folder.access(os.X_OK):  # readable, but its files cannot be examined
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    return names


def _leads_to_folder(folder: ConfinedPath, entry: os.DirEntry[str]) -> bool:
    if entry.is_symlink():
        return (folder / entry.name).is_dir()
    return certainly(partial(entry.is_dir, follow_symlinks=False))


def _is_storable(name: str) -> bool:
    try:
        return not any(character in name for character in "\r\n") and bool(name.encode())
    except UnicodeEncodeError:
        return False


def _by_name(info: ObjectInfo) -> bytes:
    return info.uri.object.encode()
