"""What Cloud Storage records of objects and buckets beside the bytes, in a hidden folder of each bucket.

A file that someone put into the folder by hand has no record; it has a size and a time, and the rest follows
from them. A record belongs to one version of a file, told by time and size: it never outlives the bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from emulator.storage.checksums import Checksums
from emulator.storage.local import LocalStore
from emulator.storage.object_store import ObjectInfo
from emulator.storage.uri import GcsUri

Attributes = Mapping[str, Any]
_BUCKET_RECORD = "bucket.json"


@dataclass(frozen=True)
class StoredObject:
    """An object with its metadata. `attributes` are the fields that clients set, by their JSON names."""

    info: ObjectInfo
    metageneration: int = 1
    metadata_updated_us: int | None = None  # None: never since the object was written
    attributes: Attributes = field(default_factory=dict)
    checksums: Checksums | None = None  # None: not computed yet
    component_count: int | None = None  # of a composed object

    @property
    def uri(self) -> GcsUri:
        """The object's name."""
        return self.info.uri

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.info.size

    @property
    def generation(self) -> int:
        """The version of the bytes: as in Cloud Storage, the time they were written in microseconds."""
        return max(1, self.info.updated_us)  # 0 would say that there is no object

    @property
    def updated_us(self) -> int:
        """When bytes or metadata changed last."""
        return self.metadata_updated_us or self.info.updated_us

    @property
    def version(self) -> str:
        """What the record belongs to."""
        return f"{self.info.updated_us}-{self.info.size}"

    @property
    def revision(self) -> tuple[str, int]:
        """What is another after every change of the bytes or the attributes."""
        return self.version, self.metageneration

    def record(self) -> dict[str, Any]:
        """The JSON form of what the file itself does not say."""
        return {
            "metageneration": self.metageneration,
            "updatedUs": self.metadata_updated_us,
            "attributes": dict(self.attributes),
            "crc32c": self.checksums and self.checksums.crc32c,
            "md5": self.checksums and self.checksums.md5,
            "componentCount": self.component_count,
        }

    @classmethod
    def from_record(cls, info: ObjectInfo, record: Mapping[str, Any]) -> Self:
        """Read what `record` wrote."""
        crc32c = record["crc32c"]
        return cls(
            info,
            record["metageneration"],
            record["updatedUs"],
            record["attributes"],
            Checksums(crc32c, record["md5"]) if crc32c else None,
            record["componentCount"],
        )


@dataclass(frozen=True)
class StoredBucket:
    """A bucket with its metadata."""

    name: str
    created_us: int
    metageneration: int = 1
    updated_us: int | None = None
    attributes: Attributes = field(default_factory=dict)


class Metadata:
    """Reads and writes the records of a store's buckets. A record that cannot be read counts as none."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    def describe(self, info: ObjectInfo) -> StoredObject:
        """Add to a file's size and time what is recorded of this version of it."""
        versions = self._read(self._path(info.uri)).get("versions", {})
        try:
            return StoredObject.from_record(info, versions[StoredObject(info).version])
        except (KeyError, TypeError):
            return StoredObject(info)

    def write(self, versions: Sequence[StoredObject]) -> None:
        """Record versions of one object: the one that is there, and the one about to take its place.

        Both are in the file before the bytes change, so that a crash in between loses neither.
        Raises StorageError.
        """
        uri = versions[0].uri
        records = {stored.version: stored.record() for stored in versions}
        self._write(uri.bucket, self._path(uri), {"name": uri.object, "versions": records})

    def forget(self, uri: GcsUri) -> None:
        """Remove the record of an object that is gone."""
        with contextlib.suppress(OSError):
            self._path(uri).unlink(missing_ok=True)

    def bucket(self, name: str) -> StoredBucket:
        """Describe a bucket whose folder exists."""
        created_us = (self._store.root / name).stat().st_mtime_ns // 1000
        record = self._read(self._store.metadata_folder(name) / _BUCKET_RECORD)
        try:
            return StoredBucket(
                name,
                record["createdUs"],
                record["metageneration"],
                record["updatedUs"],
                record["attributes"],
            )
        except (KeyError, TypeError):
            return StoredBucket(name, created_us)

    def write_bucket(self, bucket: StoredBucket) -> None:
        """Record a bucket's metadata. Raises StorageError."""
        record = {
            "createdUs": bucket.created_us,
            "metageneration": bucket.metageneration,
            "updatedUs": bucket.updated_us,
            "attributes": dict(bucket.attributes),
        }
        self._write(bucket.name, self._store.metadata_folder(bucket.name) / _BUCKET_RECORD, record)

    def _path(self, uri: GcsUri) -> Path:
        # An object's name can be longer than a file's, and must not be a path here.
        digest = hashlib.sha256(uri.object.encode()).hexdigest()
        return self._store.metadata_folder(uri.bucket) / f"{digest}.json"

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        try:
            value = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def _write(self, bucket: str, path: Path, value: Mapping[str, Any]) -> None:
        temporary = self._store.stage(bucket)
        try:
            temporary.write_text(json.dumps(value, separators=(",", ":")), encoding="utf-8")
            path.parent.mkdir(exist_ok=True)
            temporary.replace(path)
        except OSError as error:
            raise self._store.unwritable(GcsUri(bucket, ""), error) from error
        finally:
            temporary.unlink(missing_ok=True)
