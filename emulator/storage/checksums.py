"""The two checksums that Cloud Storage keeps for every object, in the form of its API."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import BinaryIO

_PIECE = 1 << 20


@dataclass(frozen=True)
class Checksums:
    """Both checksums: base64 of the big-endian bytes. A composed object has no MD5."""

    crc32c: str
    md5: str | None


class Hasher:
    """Computes checksums incrementally: both, or CRC32C alone, which is faster."""

    def __init__(self, *, md5: bool = True) -> None:
        # Imported here: the server starts without it, and most servers never need it.
        import google_crc32c

        self._crc32c = google_crc32c.Checksum()
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None

    def update(self, data: bytes) -> None:
        """Add the next bytes."""
        self._crc32c.update(data)
        if self._md5:
            self._md5.update(data)

    def checksums(self) -> Checksums:
        """Return the checksums of all bytes so far."""
        return Checksums(_text(self._crc32c.digest()), _text(self._md5.digest()) if self._md5 else None)


def checksums_of(file: BinaryIO) -> Checksums:
    """Read a file to its end and return its checksums."""
    hasher = Hasher()
    while data := file.read(_PIECE):
        hasher.update(data)
    return hasher.checksums()


def _text(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
