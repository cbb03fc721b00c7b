"""Bytes on their way to become an object."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import BinaryIO

from emulator.storage.checksums import Checksums, Hasher
from emulator.storage.local import LocalStore
from emulator.storage.object_store import BucketNotFound
from emulator.storage.uri import GcsUri

_PIECE = 1 << 20


class Draft:
    """An object's bytes while they come in, piece by piece, hashed on the way.

    Not safe for two threads at once. Nothing is held open between pieces: an upload may pause for hours.
    """

    def __init__(self, store: LocalStore, bucket: str) -> None:
        self._store = store
        self.bucket = bucket
        self.path = store.stage(bucket)
        self.size = 0
        self._hasher = Hasher()
        self._checksums: Checksums | None = None

    def append(self, data: bytes) -> None:
        """Add bytes. Raises StorageError; what came before stays good."""
        with self._file() as file:
            file.seek(self.size)  # overwrites what a failed attempt may have left
            file.write(data)
        self.size += len(data)
        self._hasher.update(data)

    def cut(self, size: int) -> None:
        """Forget what came in behind that many bytes: what is added next comes there."""
        self._hasher = Hasher()
        with self._file() as file:
            while (at := file.tell()) < size:
                self._hasher.update(file.read(min(_PIECE, size - at)))
        self.size = size

    def append_file(self, source: BinaryIO) -> None:
        """Add all bytes of a file."""
        while data := source.read(_PIECE):
            self.append(data)

    def copy(self, source: BinaryIO, checksums: Checksums) -> None:
        """Take all bytes of a file whose checksums are known; the draft must be empty."""
        with self._file() as file:
            shutil.copyfileobj(source, file, _PIECE)
            self.size = file.tell()
        self._checksums = checksums

    def checksums(self) -> Checksums:
        """Return the checksums of what is there."""
        return self._checksums or self._hasher.checksums()

    def seal(self) -> None:
        """Bring the bytes to the disk; nothing is added any more."""
        with self._file() as file:
            file.truncate(self.size)
            file.flush()
            os.fsync(file.fileno())

    def stamp(self, time_us: int) -> int:
        """Set the file's time; returns what it is then: some file systems store less than microseconds."""
        with self._file() as file:
            os.utime(file.fileno(), ns=(time_us * 1000, time_us * 1000))
            return os.fstat(file.fileno()).st_mtime_ns // 1000

    def discard(self) -> None:
        """Remove what came in; harmless when it is gone or has become an object."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _file(self) -> Iterator[BinaryIO]:
        try:
            with self.path.open("r+b") as file:
                yield file
        except FileNotFoundError as error:
            raise BucketNotFound(f"The bucket {self.bucket} was deleted during the upload.") from error
        except OSError as error:
            raise self._store.unwritable(GcsUri(self.bucket, ""), error) from error
