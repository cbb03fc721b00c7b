"""The metadata of objects and buckets, as JSON records in a hidden folder of each bucket.

A file that was put into the folder by hand has no record; its size and time determine everything. A record
belongs to one version of a file, identified by time and size, so it never outlives the bytes.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from emulator.members import is_integer
from emulator.storage.checksums import Checksums
from emulator.storage.confined import ConfinedPath
from emulator.storage.object_store import ObjectInfo, StorageError
from emulator.storage.uri import GcsUri

if TYPE_CHECKING:
    from emulator.storage.local import LocalStore

Attributes = Mapping[str, Any]
_BUCKET_RECORD = "bucket.json"
_MOST_RECORD_BYTES = 4 << 20
LAST_US = 253_402_300_799_999_999
"""The end of the year 9999, the latest time that RFC 3339 can write."""
# Attributes that are not texts.
_FLAGS = ("temporaryHold", "eventBasedHold", "defaultEventBasedHold", "objectRetention")
_LISTS = ("acl", "defaultObjectAcl", "cors")
_MAPS = (
    *("autoclass", "billing", "contexts", "customPlacementConfig", "customerEncryption", "encryption"),
    *("hierarchicalNamespace", "iamConfiguration", "iamPolicy", "ipFilter", "labels", "lifecycle", "logging"),
    *("metadata", "retention", "retentionPolicy", "softDeletePolicy", "versioning", "website"),
)
# Members whose values affect the emulator.
_NUMBERS_IN = {"retentionPolicy": "retentionPeriod", "softDeletePolicy": "retentionDurationSeconds"}


@dataclass(frozen=True)
class StoredObject:
    """An object with its metadata. `attributes` are the fields that clients set, by JSON name."""

    info: ObjectInfo
    metageneration: int = 1
    metadata_updated_us: int | None = None  # None: never since the object was written
    attributes: Attributes = field(default_factory=dict)
    checksums: Checksums | None = None  # None: not computed yet
    component_count: int | None = None  # of a composed object
    retained_from_us: int | None = None  # when an event-based hold was released: retention counts from then
    deleted_us: int | None = None  # of a version that is not the current one
    gone_us: int | None = None  # of a soft-deleted version: when it is deleted for good

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
        """The version of the bytes: as in Cloud Storage, the time when they were written, in microseconds."""
        return max(1, self.info.updated_us)  # generation 0 would mean that there is no object

    @property
    def updated_us(self) -> int:
        """The last change of the bytes or the metadata."""
        return self.metadata_updated_us or self.info.updated_us

    @property
    def content_encoding(self) -> str:
        """The content encoding: usually `gzip` or empty."""
        return str(self.attributes.get("contentEncoding") or "").lower()

    @property
    def version(self) -> str:
        """The key of the record: the version of the file that it belongs to."""
        return f"{self.info.updated_us}-{self.info.size}"

    @property
    def revision(self) -> tuple[str, int]:
        """A value that changes with every change of the bytes or the attributes."""
        return self.version, self.metageneration

    def record(self) -> dict[str, Any]:
        """The JSON of everything that the file itself does not tell."""
        return {
            "metageneration": self.metageneration,
            "updatedUs": self.metadata_updated_us,
            "attributes": dict(self.attributes),
            "crc32c": self.checksums and self.checksums.crc32c,
            "md5": self.checksums and self.checksums.md5,
            "componentCount": self.component_count,
            "retainedFromUs": self.retained_from_us,
            "deletedUs": self.deleted_us,
            "goneUs": self.gone_us,
        }

    @classmethod
    def from_record(cls, info: ObjectInfo, record: Mapping[str, Any]) -> Self:
        """Parse what `record` wrote. Raises KeyError, TypeError or ValueError for an invalid record."""
        crc32c = record["crc32c"]
        for name in ("updatedUs", "componentCount", "retainedFromUs", "deletedUs", "goneUs"):
            _check(record.get(name) is None or _is_number(record[name]))
        _check(_is_number(record["metageneration"]))
        _check_attributes(record["attributes"])
        _check(crc32c is None or len(base64.b64decode(crc32c, validate=True)) == 4)
        _check(record["md5"] is None or len(base64.b64decode(record["md5"], validate=True)) == 16)
        return cls(
            info,
            record["metageneration"],
            record["updatedUs"],
            record["attributes"],
            Checksums(crc32c, record["md5"]) if crc32c else None,
            record["componentCount"],
            record.get("retainedFromUs"),
            record.get("deletedUs"),
            record.get("goneUs"),
        )


@dataclass(frozen=True)
class StoredBucket:
    """A bucket with its metadata."""

    name: str
    created_us: int
    metageneration: int = 1
    updated_us: int | None = None
    attributes: Attributes = field(default_factory=dict)

    @property
    def keeps_versions(self) -> bool:
        """Whether a replaced or deleted object stays as a noncurrent version."""
        return self._flag("versioning", "enabled")

    @property
    def soft_delete_us(self) -> int:
        """How long a deleted object can be restored, in microseconds; 0 for not at all."""
        return self._seconds("softDeletePolicy", "retentionDurationSeconds")

    @property
    def retention_us(self) -> int:
        """How long an object must be kept after its creation, in microseconds; 0 for not at all."""
        return self._seconds("retentionPolicy", "retentionPeriod")

    @property
    def object_defaults(self) -> Attributes:
        """The attributes of an object whose writer does not set them."""
        key = self._part("encryption").get("defaultKmsKeyName")
        defaults = {
            "storageClass": self.attributes.get("storageClass"),
            "eventBasedHold": self.attributes.get("defaultEventBasedHold") or None,
            "kmsKeyName": key and f"{key}/cryptoKeyVersions/1",
            "acl": self.attributes.get("defaultObjectAcl"),
        }
        return {name: value for name, value in defaults.items() if value is not None}

    def _part(self, name: str) -> Attributes:
        value = self.attributes.get(name)
        return value if isinstance(value, Mapping) else {}

    def _flag(self, part: str, name: str) -> bool:
        return self._part(part).get(name) is True

    def _seconds(self, part: str, name: str) -> int:
        return int(self._part(part).get(name) or 0) * 1_000_000


class Metadata:
    """Reads and writes the records of a store's buckets. An unreadable record counts as missing."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    def describe(self, info: ObjectInfo) -> StoredObject:
        """Add the recorded metadata of this version to a file's size and time."""
        versions = self._read(self._path(info.uri)).get("versions", {})
        try:
            return StoredObject.from_record(info, versions[StoredObject(info).version])
        except (KeyError, TypeError, ValueError):
            return StoredObject(info)

    def write(self, versions: Sequence[StoredObject]) -> None:
        """Record versions of one object: the current one, and the one about to replace it.

        Both are in the file before the bytes change, so a crash in between loses neither. Raises
        StorageError.
        """
        uri = versions[0].uri
        records = {stored.version: stored.record() for stored in versions}
        self._write(uri.bucket, self._path(uri), {"name": uri.object, "versions": records})

    def forget(self, uri: GcsUri) -> None:
        """Remove the record of an object that is gone."""
        with contextlib.suppress(OSError):
            self._path(uri).unlink(missing_ok=True)

    def bucket(self, name: str) -> StoredBucket:
        """The metadata of a bucket whose folder exists."""
        record = self._read(self._store.records(name) / _BUCKET_RECORD)
        try:
            _check(_is_number(record["createdUs"]) and _is_number(record["metageneration"]))
            _check(record["updatedUs"] is None or _is_number(record["updatedUs"]))
            _check_attributes(record["attributes"])
            return StoredBucket(
                name,
                record["createdUs"],
                record["metageneration"],
                record["updatedUs"],
                record["attributes"],
            )
        except (KeyError, TypeError, ValueError):
            return StoredBucket(name, (self._store.top / name).stat().st_mtime_ns // 1000)

    def recorded_bucket(self, name: str) -> StoredBucket:
        """Like `bucket`, and record it: a folder's time is that of its last change, not of its creation."""
        path = self._store.records(name) / _BUCKET_RECORD
        bucket = self.bucket(name)
        # Nothing changes in a folder that cannot be written, so it needs no record.
        with contextlib.suppress(StorageError, OSError):
            if not path.exists():
                self.write_bucket(bucket, create_only=True)
        return bucket

    def write_bucket(self, bucket: StoredBucket, *, create_only: bool = False) -> None:
        """Record a bucket's metadata; `create_only` keeps an existing record. Raises StorageError."""
        record = {
            "createdUs": bucket.created_us,
            "metageneration": bucket.metageneration,
            "updatedUs": bucket.updated_us,
            "attributes": dict(bucket.attributes),
        }
        path = self._store.records(bucket.name) / _BUCKET_RECORD
        self._write(bucket.name, path, record, create_only=create_only)

    def _path(self, uri: GcsUri) -> ConfinedPath:
        # An object's name may be longer than a file name allows, and must not be used as a path here.
        digest = hashlib.sha256(uri.object.encode()).hexdigest()
        return self._store.records(uri.bucket) / f"{digest}.json"

    @staticmethod
    def _read(path: ConfinedPath) -> dict[str, Any]:
        try:
            with path.open("rb") as file:
                value = json.loads(file.read(_MOST_RECORD_BYTES))
        except (OSError, ValueError, TypeError, RecursionError):  # TypeError: an idle pipe returns None
            return {}
        return value if isinstance(value, dict) else {}

    def _write(
        self, bucket: str, path: ConfinedPath, value: Mapping[str, Any], *, create_only: bool = False
    ) -> None:
        temporary = self._store.stage(bucket)
        try:
            with temporary.open("wb") as file:
                file.write(json.dumps(value, separators=(",", ":")).encode())
            path.parent.mkdir(exist_ok=True)
            if create_only:
                path.hardlink_to(temporary)
            else:
                temporary.replace(path)
        except OSError as error:
            raise self._store.unwritable(GcsUri(bucket, ""), error) from error
        finally:
            temporary.unlink(missing_ok=True)


def _check(fits: bool) -> None:
    if not fits:
        raise ValueError("a record that this emulator did not write")


def _is_number(value: object) -> bool:
    return is_integer(value, 0, LAST_US)


def _check_attributes(attributes: object) -> None:
    """Raise ValueError or TypeError if attributes have types that clients cannot set."""
    _check(isinstance(attributes, dict))
    assert isinstance(attributes, dict)
    for name, value in attributes.items():
        if name in _FLAGS:
            _check(isinstance(value, bool | dict))
        elif name in _LISTS:
            _check(isinstance(value, list) and all(isinstance(entry, dict) for entry in value))
        else:
            _check(isinstance(value, dict if name in _MAPS else str))
    _check_members(attributes)


def _check_members(attributes: Attributes) -> None:
    for name, member in _NUMBERS_IN.items():
        int(attributes.get(name, {}).get(member) or 0)
    for name in ("acl", "defaultObjectAcl"):
        for entry in attributes.get(name, ()):
            _check(isinstance(entry.get("entity"), str) and isinstance(entry.get("role"), str))
    _check(all(isinstance(text, str) for text in attributes.get("metadata", {}).values()))
    if encryption := attributes.get("customerEncryption"):
        _check(isinstance(encryption.get("encryptionAlgorithm"), str))
        _check(isinstance(encryption.get("keySha256"), str))
    if retention := attributes.get("retention"):
        _check(datetime.fromisoformat(retention.get("retainUntilTime")).tzinfo is not None)
        _check(isinstance(retention.get("mode"), str))
