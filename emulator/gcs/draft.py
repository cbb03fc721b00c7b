"""The bytes of an object that is being uploaded."""

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
    """An object's bytes while they arrive in chunks; hashed on the way.

    Not thread-safe. No file is open between chunks: an upload may pause for hours.
    """

    def __init__(self, store: LocalStore, bucket: str) -> None:
        self._store = store
        self.bucket = bucket
        self.path = store.stage(bucket)
        self.size = 0
        self._hasher = Hasher()
        self._checksums: Checksums | None = None

    def append(self, data: bytes) -> None:
        """Append bytes. Raises StorageError; the earlier bytes stay valid."""
        with self._file() as file:
            file.seek(self.size)  # overwrites what a failed attempt may have left
            file.write(data)
        self.size += len(data)
        self._hasher.update(data)

    def cut(self, size: int) -> None:
        """Truncate to that many bytes; the next chunk goes there."""
        self._hasher = Hasher()
        with self._file() as file:
            while (at := file.tell()) < size:
                self._hasher.update(file.read(min(_PIECE, size - at)))
        self.size = size

    def append_file(self, source: BinaryIO) -> None:
        """Append all bytes of a file."""
        while data := source.read(_PIECE):
            self.append(data)

    def copy(self, source: BinaryIO, checksums: Checksums) -> None:
        """Copy a file with known checksums; the draft must be empty."""
        with self._file() as file:
            shutil.copyfileobj(source, file, _PIECE)
            self.size = file.tell()
        self._checksums = checksums

    def checksums(self) -> Checksums:
        """The checksums of the bytes so far."""
        return self._checksums or self._hasher.checksums()

    def seal(self) -> None:
        """Fsync the bytes; nothing may be appended after this."""
        with self._file() as file:
            file.truncate(self.size)
            file.flush()
            os.fsync(file.fileno())

    def stamp(self, time_us: int) -> int:
        """Set the file's time; returns the stored time, because some file systems round it."""
        with self._file() as file:
            os.utime(file.fileno(), ns=(time_us * 1000, time_us * 1000))
            return os.fstat(file.fileno()).st_mtime_ns // 1000

    def discard(self) -> None:
        """Remove the bytes; harmless if they are gone or have become an object."""
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
