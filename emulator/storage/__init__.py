"""Where bytes are stored: `gs://` names, the `ObjectStore` protocol, local folders, Cloud Storage
endpoints."""

from emulator.storage.local import LocalStore
from emulator.storage.object_store import (
    AccessDenied,
    BucketNotEmpty,
    BucketNotFound,
    NameTaken,
    ObjectInfo,
    ObjectNotFound,
    ObjectStore,
    Staged,
    StorageError,
    StorageUnavailable,
)
from emulator.storage.routing_store import open_store
from emulator.storage.uri import GcsUri, InvalidUri

__all__ = [
    "AccessDenied",
    "BucketNotEmpty",
    "BucketNotFound",
    "GcsUri",
    "InvalidUri",
    "LocalStore",
    "NameTaken",
    "ObjectInfo",
    "ObjectNotFound",
    "ObjectStore",
    "Staged",
    "StorageError",
    "StorageUnavailable",
    "open_store",
]
