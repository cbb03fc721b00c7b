"""The `ObjectStore` protocol: what the rest of the emulator may ask of the place where bytes live."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from emulator.storage.uri import GcsUri, wildcard_pattern


class StorageError(Exception):
    """The store could not do what was asked; the message names the object, the cause and the remedy."""


class ObjectNotFound(StorageError):
    """There is no object of that name."""


class NameTaken(StorageError):
    """The name cannot be stored beside the names that are there: folders and objects exclude each other."""


class BucketNotFound(StorageError):
    """There is no bucket of that name."""


class BucketNotEmpty(StorageError):
    """The bucket still holds something."""


class AccessDenied(StorageError):
    """Whoever keeps the bytes does not let the emulator do that."""


class StorageUnavailable(StorageError):
    """The store as a whole cannot be reached: no other object fares better, and trying later may help."""


@dataclass(frozen=True)
class ObjectInfo:
    """What the store knows about one object."""

    uri: GcsUri
    size: int
    updated_us: int


@dataclass(frozen=True)
class Staged:
    """The name of bytes that wait to become an object below `prefix`; `group` tells whose they are."""

    prefix: GcsUri
    group: str
    name: str

    @property
    def bucket(self) -> str:
        """The bucket they lie in."""
        return self.prefix.bucket


class ObjectStore(Protocol):
    """Objects by name. Implementations are picklable and safe to use from many threads.

    Every method may raise InvalidUri (the name cannot exist in this store) and StorageError.
    """

    def open_read(self, uri: GcsUri) -> BinaryIO:
        """Open an object for streaming, unpacked when its contentEncoding is gzip. Raises ObjectNotFound."""
        ...

    def write(self, uri: GcsUri) -> AbstractContextManager[BinaryIO]:
        """Write an object, replacing what was there. It appears complete when the block ends without an
        exception, and not at all otherwise. A bucket that is missing is created, unless it is a real one."""
        ...

    def write_staged(self, staged: Staged) -> AbstractContextManager[BinaryIO]:
        """Write bytes that are no object yet. They are complete when the block ends without an exception, and
        gone otherwise. Nothing of that name may be staged already."""
        ...

    def publish_staged(self, staged: Staged, uri: GcsUri) -> None:
        """Turn staged bytes into the object, in one step and in place of what was there; nothing is staged
        under that name afterwards. Raises ObjectNotFound when nothing is: then nothing has changed."""
        ...

    def discard_staged(self, staged: Staged) -> None:
        """Remove staged bytes, if they are there."""
        ...

    def list_staged(self, prefix: GcsUri, group: str) -> Sequence[Staged]:
        """What a group has staged in that prefix's bucket, sorted."""
        ...

    def list(self, bucket: str, prefix: str = "") -> Iterator[ObjectInfo]:
        """Objects whose name starts with `prefix`, in the order of their names' UTF-8 bytes."""
        ...

    def stat(self, uri: GcsUri) -> ObjectInfo:
        """Look at one object. Raises ObjectNotFound."""
        ...

    def delete(self, uri: GcsUri) -> None:
        """Remove one object. Raises ObjectNotFound."""
        ...

    def local_path(self, uri: GcsUri) -> AbstractContextManager[Path]:
        """A file with the object's bytes, valid inside the block only. Raises ObjectNotFound."""
        ...

    def check_writable(self, prefix: GcsUri) -> None:
        """Raise StorageError (or InvalidUri) when no object could be written below `prefix`."""
        ...

    def interruptible(self, check: Callable[[], None]) -> ObjectStore:
        """The same store for a caller that may have to stop: whatever takes long calls `check` now and then,
        which may raise to end it. It need not be picklable."""
        ...

    def glob(self, uri: GcsUri) -> Sequence[ObjectInfo]:
        """The object of that name, or else the objects its wildcards match, sorted; may be empty."""
        try:
            # A name with a bracket in it is more often a file "clip[1].jsonl" than a wildcard: exact wins.
            return [self.stat(uri)]
        except ObjectNotFound:
            if not uri.has_wildcards:
                return []
        pattern = wildcard_pattern(uri.object)
        candidates = self.list(uri.bucket, uri.wildcard_free_prefix)
        # Consoles make empty objects that end in a slash, to show a folder.
        files = (info for info in candidates if not info.uri.object.endswith("/"))
        return [info for info in files if pattern.fullmatch(info.uri.object)]
