"""Customer-supplied encryption keys: reading an object requires the key with which it was written.

Emulator: the bytes are not encrypted; of the key only its digest is stored.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping

from emulator.gcs.errors import GcsError
from emulator.storage.metadata import Attributes, StoredObject

_FIELD = "customerEncryption"
_ALGORITHM = "AES256"


def key_digest(headers: Mapping[str, str], *, of_source: bool = False) -> str:
    """Return the digest of a request's key, "" if it has none. Raises GcsError if the key is invalid."""
    prefix = "x-goog-copy-source-encryption-" if of_source else "x-goog-encryption-"
    algorithm, key, told = (headers.get(prefix + name, "") for name in ("algorithm", "key", "key-sha256"))
    if not (algorithm or key or told):
        return ""
    if algorithm != _ALGORITHM:
        raise _invalid(f"The encryption algorithm {algorithm[:40]!r} is not supported; use {_ALGORITHM}.")
    try:
        secret = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if len(secret) != 32:
        raise _invalid("Missing an encryption key, or it is not base64 encoded, or it is not 256 bits long.")
    digest = base64.b64encode(hashlib.sha256(secret).digest()).decode()
    if told != digest:
        raise _invalid("Missing a SHA256 hash of the encryption key, or it does not match the key.")
    return digest


def encryption_attributes(digest: str) -> Attributes:
    """Return the attributes of an object written with this key."""
    return {_FIELD: {"encryptionAlgorithm": _ALGORITHM, "keySha256": digest}} if digest else {}


def is_readable(stored: StoredObject, digest: str) -> bool:
    """Return whether a request with this key digest ("" for none) may read the object."""
    return _digest_of(stored) in ("", digest)


def check_key(stored: StoredObject, digest: str) -> None:
    """Raise GcsError unless the key digest ("" for none) is the object's."""
    needed = _digest_of(stored)
    if needed == digest:
        return
    if not digest:
        reason = "resourceIsEncryptedWithCustomerEncryptionKey"
        message = "The target object is encrypted by a customer-supplied encryption key."
    elif not needed:
        reason = "resourceNotEncryptedWithCustomerEncryptionKey"
        message = "The target object is not encrypted by a customer-supplied encryption key."
    else:
        reason, message = "customerEncryptionKeyIsIncorrect", "The provided encryption key is incorrect."
    raise GcsError(400, reason, message)


def _digest_of(stored: StoredObject) -> str:
    encryption = stored.attributes.get(_FIELD) or {}
    return str(encryption.get("keySha256", ""))


def _invalid(message: str) -> GcsError:
    return GcsError(400, "customerEncryptionKeyFormatIsInvalid", message)
