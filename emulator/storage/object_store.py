"""The `ObjectStore` protocol: the storage operations that the rest of the emulator uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from emulator.storage.uri import GcsUri, wildcard_pattern


class StorageError(Exception):
    """The store could not do the operation; the message names the object, the cause and the remedy."""


class ObjectNotFound(StorageError):
    """There is no object of that name."""


class NameTaken(StorageError):
    """The name cannot be stored next to existing names: a folder and an object exclude each other."""


class BucketNotFound(StorageError):
    """There is no bucket of that name."""


class BucketNotEmpty(StorageError):
    """The bucket is not empty."""


class AccessDenied(StorageError):
    """The file system or the endpoint denies the access."""


class StorageUnavailable(StorageError):
    """The store as a whole cannot be reached: other objects fail too, and a later retry may help."""


@dataclass(frozen=True)
class ObjectInfo:
    """What the store knows of an object: name, size in bytes, time of the last change in microseconds."""

    uri: GcsUri
    size: int
    updated_us: int


@dataclass(frozen=True)
class Staged:
    """The name of bytes that wait to become an object below `prefix`; `group` names their owner."""

    prefix: GcsUri
    group: str
    name: str

    @property
    def bucket(self) -> str:
        """The bucket of the staged bytes."""
        return self.prefix.bucket


def go_on() -> None:
    """The default check of stores: never interrupts. No lambda, because stores are pickled."""


class ObjectStore(Protocol):
    """Objects by name. Implementations are picklable and thread-safe.

    Every method may raise InvalidUri (the name cannot exist in this store) and StorageError.
    """

    def open_read(self, uri: GcsUri) -> BinaryIO:
        """Open an object for streaming; contentEncoding gzip is unpacked. Raises ObjectNotFound."""
        ...

    def write(self, uri: GcsUri) -> AbstractContextManager[BinaryIO]:
        """Write an object, replacing an existing one.

        It appears completely when the block ends without an exception, otherwise not at all. A missing bucket
        is created, unless it is a real one.
        """
        ...

    def write_staged(self, staged: Staged) -> AbstractContextManager[BinaryIO]:
        """Write bytes that are not an object yet.

        They are complete when the block ends without an exception, otherwise gone. The name must not be
        staged already.
        """
        ...

    def publish_staged(self, staged: Staged, uri: GcsUri) -> None:
        """Turn staged bytes into the object, atomically, replacing an existing one.

        The staged name is free afterwards. Raises ObjectNotFound, with nothing changed, if nothing is staged.
        """
        ...

    def discard_staged(self, staged: Staged) -> None:
        """Remove staged bytes, if they exist."""
        ...

    def list_staged(self, prefix: GcsUri, group: str) -> Sequence[Staged]:
        """What a group has staged in the prefix's bucket, sorted."""
        ...

    def list(self, bucket: str, prefix: str = "") -> Iterator[ObjectInfo]:
        """Objects whose names start with `prefix`, ordered by the UTF-8 bytes of their names."""
        ...

    def stat(self, uri: GcsUri) -> ObjectInfo:
        """Size and time of one object. Raises ObjectNotFound."""
        ...

    def delete(self, uri: GcsUri) -> None:
        """Remove one object. Raises ObjectNotFound."""
        ...

    def local_path(self, uri: GcsUri) -> AbstractContextManager[Path]:
        """A file with the object's bytes, valid only inside the block. Raises ObjectNotFound."""
        ...

    def check_writable(self, prefix: GcsUri) -> None:
        """Raise StorageError or InvalidUri if no object can be written below `prefix`."""
        ...

    def interruptible(self, check: Callable[[], None]) -> ObjectStore:
        """The same store with a check: long operations call `check` regularly, which may raise to end them.

        The result need not be picklable.
        """
        ...

    def glob(self, uri: GcsUri) -> Sequence[ObjectInfo]:
        """The object with that name, or else those that its wildcards match, sorted; may be empty."""
        try:
            # An exact match wins: a bracket is more often part of a name such as "clip[1].jsonl" than a
            # wildcard.
            return [self.stat(uri)]
        except ObjectNotFound:
            if not uri.has_wildcards:
                return []
        pattern = wildcard_pattern(uri.object)
        candidates = self.list(uri.bucket, uri.wildcard_free_prefix)
        # Some consoles create empty objects whose names end in a slash, to show a folder.
        files = (info for info in candidates if not info.uri.object.endswith("/"))
        return [info for info in files if pattern.fullmatch(info.uri.object)]
