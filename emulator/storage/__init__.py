"""Where bytes live: `gs://` names, the `ObjectStore` protocol, and the folder that stands in for a bucket."""

from emulator.storage.local import LocalStore
from emulator.storage.object_store import (
    BucketNotEmpty,
    BucketNotFound,
    NameTaken,
    ObjectInfo,
    ObjectNotFound,
    ObjectStore,
    StorageError,
)
from emulator.storage.uri import GcsUri, InvalidUri

__all__ = [
    "BucketNotEmpty",
    "BucketNotFound",
    "GcsUri",
    "InvalidUri",
    "LocalStore",
    "NameTaken",
    "ObjectInfo",
    "ObjectNotFound",
    "ObjectStore",
    "StorageError",
]
