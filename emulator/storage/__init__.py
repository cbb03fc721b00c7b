"""Where bytes live: `gs://` names, the `ObjectStore` protocol, and the folder that stands in for a bucket."""

from emulator.storage.local import LocalStore
from emulator.storage.object_store import ObjectInfo, ObjectNotFound, ObjectStore, StorageError
from emulator.storage.uri import GcsUri, InvalidUri

__all__ = [
    "GcsUri",
    "InvalidUri",
    "LocalStore",
    "ObjectInfo",
    "ObjectNotFound",
    "ObjectStore",
    "StorageError",
]
