"""Objects stored with `contentEncoding: gzip`, read unpacked."""

from __future__ import annotations

import gzip
import io
import zlib
from typing import TYPE_CHECKING, BinaryIO

from emulator.storage.object_store import StorageError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from emulator.storage.uri import GcsUri

# Limit against zip bombs: repetitive text shrinks a hundredfold, so a higher ratio is suspicious.
_MOST_TIMES = 200
_ALWAYS_BYTES = 256 << 20


class _Unpacked(io.RawIOBase):
    """Decompresses a file, up to a limit. Raises StorageError."""

    def __init__(self, uri: GcsUri, packed: BinaryIO, size: int) -> None:
        self._uri = uri
        self._packed = packed
        self._gzip = gzip.GzipFile(fileobj=packed, mode="rb")
        self._left = max(_ALWAYS_BYTES, size * _MOST_TIMES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        try:
            data = self._gzip.read(len(memoryview(buffer)))
        except (OSError, EOFError, zlib.error) as error:
            raise StorageError(
                f"{self._uri} says contentEncoding gzip and cannot be unpacked ({error}); store it again, or"
                " remove its contentEncoding."
            ) from error
        self._left -= len(data)
        if self._left < 0:
            raise StorageError(
                f"{self._uri} unpacks to over {_MOST_TIMES} times its size; store it without gzip."
            )
        memoryview(buffer).cast("B")[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._gzip.close()
        self._packed.close()
        super().close()


def unpacked(uri: GcsUri, packed: BinaryIO, size: int) -> io.BufferedReader:
    """Open the unpacked content of a gzipped file of that size; closing it closes the file."""
    return io.BufferedReader(_Unpacked(uri, packed, size), 1 << 16)


def is_gzip(file: BinaryIO) -> bool:
    """Whether a file begins with gzip's magic bytes; rewinds the file."""
    file.seek(0)
    begins = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return begins
