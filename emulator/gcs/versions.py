"""Noncurrent versions of objects in versioned buckets, and soft-deleted versions.

A version is a file in a hidden folder of its bucket, next to its record.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from emulator.storage.confined import ConfinedPath
from emulator.storage.metadata import StoredObject
from emulator.storage.object_store import ObjectInfo, ObjectNotFound
from emulator.storage.uri import GcsUri

if TYPE_CHECKING:
    from emulator.storage.local import LocalStore

_RECORD = ".json"


class Versions:
    """The replaced or deleted versions of a store's objects.

    A soft-deleted version whose time is over counts as gone. Two threads must not change the same object at
    once.
    """

    def __init__(self, store: LocalStore, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock

    def keep(self, stored: StoredObject) -> None:
        """Keep a copy of the current object. Raises StorageError."""
        path = self._path(stored)
        temporary = self._store.stage(stored.uri.bucket)
        try:
            temporary.unlink()
            _link(self._store.path_of(stored.uri), temporary)
            path.parent.mkdir(parents=True, exist_ok=True)
            # The record comes last: a file without a record does not count.
            temporary.replace(path)
            self.write(stored)
        except OSError as error:
            raise self._store.unwritable(stored.uri, error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def write(self, stored: StoredObject) -> None:
        """Write the record of a version. Raises StorageError."""
        record = {"name": stored.uri.object, **stored.record()}
        temporary = self._store.stage(stored.uri.bucket)
        try:
            with temporary.open("wb") as file:
                file.write(json.dumps(record, separators=(",", ":")).encode())
            temporary.replace(_record_of(self._path(stored)))
        except OSError as error:
            raise self._store.unwritable(stored.uri, error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def find(self, uri: GcsUri, generation: int) -> StoredObject:
        """The record of one version. Raises ObjectNotFound."""
        stored = self._read(uri.bucket, self._folder(uri) / f"{generation}{_RECORD}")
        if stored is None:
            raise ObjectNotFound(f"{uri} has no version {generation}.")
        return stored

    def open(self, stored: StoredObject) -> BinaryIO:
        """Open one version. Raises ObjectNotFound."""
        try:
            return self._path(stored).open("rb")
        except OSError as error:
            raise ObjectNotFound(f"{stored.uri} has no version {stored.generation}.") from error

    def remove(self, stored: StoredObject) -> None:
        """Remove a version permanently."""
        path = self._path(stored)
        with contextlib.suppress(OSError):
            _record_of(path).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            path.parent.rmdir()  # fails while others are left
            path.parent.parent.rmdir()

    def list(self, bucket: str, prefix: str = "") -> list[StoredObject]:
        """All versions whose names begin with `prefix`, by name and generation."""
        folder = self._store.versions_folder(bucket)
        found = (self._read(bucket, path) for each in _entries(folder) for path in _records(each))
        wanted = (stored for stored in found if stored and stored.uri.object.startswith(prefix))
        return sorted(wanted, key=lambda stored: (stored.uri.object.encode(), stored.generation))

    def of(self, uri: GcsUri) -> Iterator[StoredObject]:
        """The versions of one object."""
        for path in _records(self._folder(uri)):
            if stored := self._read(uri.bucket, path):
                yield stored

    def _read(self, bucket: str, path: ConfinedPath) -> StoredObject | None:
        try:
            with path.open("rb") as file:
                record: dict[str, Any] = json.load(file)
            status = (path.parent / path.name.removesuffix(_RECORD)).stat()
            info = ObjectInfo(GcsUri(bucket, record["name"]), status.st_size, status.st_mtime_ns // 1000)
            stored = StoredObject.from_record(info, record)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        if stored.gone_us is not None and stored.gone_us <= self._clock():
            self.remove(stored)
            return None
        return stored

    def _folder(self, uri: GcsUri) -> ConfinedPath:
        return self._store.versions_folder(uri.bucket) / hashlib.sha256(uri.object.encode()).hexdigest()

    def _path(self, stored: StoredObject) -> ConfinedPath:
        return self._folder(stored.uri) / str(stored.generation)


def _record_of(path: ConfinedPath) -> ConfinedPath:
    return path.parent / f"{path.name}{_RECORD}"


def _entries(folder: ConfinedPath) -> list[ConfinedPath]:
    """The content of a folder, by name; empty if the folder does not exist."""
    try:
        return [folder / name for name in sorted(folder.names())]
    except OSError:
        return []


def _records(folder: ConfinedPath) -> list[ConfinedPath]:
    return [path for path in _entries(folder) if path.name.endswith(_RECORD)]


def _link(source: ConfinedPath, target: ConfinedPath) -> None:
    """Make a hard link, or a copy with the same time where that is impossible."""
    try:
        target.hardlink_to(source)
    except OSError:
        with source.open("rb") as file, target.open("wb") as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
            status = os.fstat(file.fileno())
            copy.flush()
            os.utime(copy.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
