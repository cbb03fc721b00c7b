"""Buckets and objects as in Cloud Storage: generations, metadata, checksums and conditions."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import BinaryIO

from emulator.gcs.draft import Draft
from emulator.gcs.retention import check_unprotected
from emulator.gcs.versions import Versions
from emulator.storage.checksums import checksums_of
from emulator.storage.local import LocalStore
from emulator.storage.metadata import Attributes, Metadata, StoredBucket, StoredObject
from emulator.storage.object_store import (
    BucketNotEmpty,
    BucketNotFound,
    NameTaken,
    ObjectInfo,
    ObjectNotFound,
    StorageError,
)
from emulator.storage.uri import GcsUri, check_bucket

# Gets the existing object (or None), and raises if the caller's conditions do not hold.
Check = Callable[[StoredObject | None], None]
ObjectChange = Callable[[StoredObject], Attributes]
BucketChange = Callable[[StoredBucket], Attributes]

_LOCKS = 64
# Below this size, computing checksums is as fast as reading a record of them.
_RECORDED_FROM = 1 << 20


def _now_us() -> int:
    return time.time_ns() // 1000


class Buckets:
    """The buckets of one store.

    Thread-safe. Conditions are atomic only among the threads of one process. Every method may raise
    InvalidUri (the name cannot exist here), BucketNotFound, and StorageError.
    """

    def __init__(self, store: LocalStore, clock: Callable[[], int] = _now_us) -> None:
        self._store = store
        self._metadata = Metadata(store)
        self._versions = Versions(store, clock)
        self._clock = clock
        self._locks = tuple(threading.Lock() for _ in range(_LOCKS))

    # Buckets

    def buckets(self) -> Iterator[StoredBucket]:
        """All buckets, by name."""
        return map(self._metadata.recorded_bucket, self._store.buckets())

    def bucket(self, name: str) -> StoredBucket:
        """One bucket with its metadata."""
        self._require(name)
        return self._metadata.recorded_bucket(name)

    def create_bucket(self, name: str, attributes: Attributes) -> StoredBucket:
        """Create a bucket. Raises NameTaken if it exists."""
        check_bucket(name, f"gs://{name}")
        folder = self._store.top / name
        bucket = StoredBucket(name, self._clock(), attributes=attributes)
        with self._lock(name):
            try:
                folder.mkdir(parents=True)
            except FileExistsError as error:
                raise NameTaken(f"There is a bucket {name} already ({folder}).") from error
            except OSError as error:
                raise self._store.unwritable(GcsUri(name, ""), error) from error
            self._metadata.write_bucket(bucket)
        return bucket

    def update_bucket(self, name: str, change: BucketChange) -> StoredBucket:
        """Change a bucket's attributes; `change` returns the new ones, or raises."""
        with self._lock(name):
            bucket = self.bucket(name)
            changed = replace(
                bucket,
                metageneration=bucket.metageneration + 1,
                updated_us=self._clock(),
                attributes=change(bucket),
            )
            self._metadata.write_bucket(changed)
        return changed

    def delete_bucket(self, name: str, check: Callable[[StoredBucket], None]) -> None:
        """Remove an empty bucket. Raises BucketNotEmpty."""
        with self._lock(name):
            check(self.bucket(name))
            if next(self._store.list(name), None) or self.list_versions(name, soft_deleted=False):
                raise BucketNotEmpty(f"The bucket {name} is not empty.")
            self._store.remove_bucket(name)

    # Objects: reading

    def find(self, uri: GcsUri, generation: int | None = None, *, soft_deleted: bool = False) -> StoredObject:
        """An object, or one version of it; its checksums may be missing. Raises ObjectNotFound."""
        self._require(uri.bucket)
        current = None if soft_deleted else self._current(uri, missing_ok=generation is not None)
        if current and generation in (None, current.generation):
            return current
        stored = self._versions.find(uri, generation or 0)
        if (stored.gone_us is not None) != soft_deleted:
            raise ObjectNotFound(f"{uri} has no version {generation}.")
        return stored

    def open(self, uri: GcsUri, generation: int | None = None) -> tuple[StoredObject, BinaryIO]:
        """Open an object or one version, with the metadata of the same moment. Raises ObjectNotFound."""
        self._require(uri.bucket)
        if generation is not None:
            stored = self.find(uri, generation)
            if stored.deleted_us is not None:
                return stored, self._versions.open(stored)
        file = self._store.open_stored(uri)
        status = os.fstat(file.fileno())
        stored = self._metadata.describe(ObjectInfo(uri, status.st_size, status.st_mtime_ns // 1000))
        if generation not in (None, stored.generation):  # replaced between the two reads
            file.close()
            return self.open(uri, generation)
        return stored, file

    def list(
        self, bucket: str, prefix: str = "", *, start: str = "", shallow: bool = False
    ) -> Iterator[ObjectInfo]:
        """Objects by name, as in `LocalStore.list`."""
        self._require(bucket)
        return self._store.list(bucket, prefix, start=start, shallow=shallow)

    def list_versions(self, bucket: str, prefix: str = "", *, soft_deleted: bool) -> Sequence[StoredObject]:
        """The noncurrent versions of objects, or the soft-deleted ones, by name and generation."""
        self._require(bucket)
        kept = self._versions.list(bucket, prefix)
        return [stored for stored in kept if (stored.gone_us is not None) == soft_deleted]

    def describe(self, info: ObjectInfo) -> StoredObject:
        """Add the recorded metadata to a listed object."""
        return self._metadata.describe(info)

    def with_checksums(self, stored: StoredObject) -> StoredObject:
        """Compute missing checksums by reading the whole object once.

        They stay missing if the object was replaced in the meantime. Raises ObjectNotFound.
        """
        if stored.checksums:
            return stored
        if stored.deleted_us is not None:
            with self._versions.open(stored) as file:
                return replace(stored, checksums=checksums_of(file))
        opened, file = self.open(stored.uri)
        with file:
            return self.hashed(stored, file) if opened.version == stored.version else stored

    def hashed(self, stored: StoredObject, file: BinaryIO) -> StoredObject:
        """Like `with_checksums`, for an object that `open` has opened; leaves the file at its end."""
        if stored.checksums:
            return stored
        computed = replace(stored, checksums=checksums_of(file))
        if computed.size >= _RECORDED_FROM:
            # A bucket that is mounted read-only keeps no record, which is no error.
            with self._lock(stored.uri.bucket), contextlib.suppress(StorageError):
                current = self.find(stored.uri)
                if current.version == computed.version:
                    self._metadata.write([replace(current, checksums=computed.checksums)])
        return computed

    # Objects: changing

    def draft(self, bucket: str) -> Draft:
        """Begin a new object."""
        with self._lock(bucket):
            self._require(bucket)
            return Draft(self._store, bucket)

    def publish(
        self,
        draft: Draft,
        uri: GcsUri,
        attributes: Attributes,
        check: Check,
        component_count: int | None = None,
    ) -> StoredObject:
        """Publish a draft as the object, also over an existing one if `check` allows it. Uses it up."""
        try:
            draft.seal()
            with self._lock(uri.bucket):
                current = self._current(uri, missing_ok=True)
                check(current)
                self._require(uri.bucket)
                bucket = self._metadata.bucket(uri.bucket)
                if current:
                    self._set_aside(current, bucket)
                stored = StoredObject(
                    self._stamp(draft, uri, current),
                    attributes={**bucket.object_defaults, **attributes},
                    checksums=draft.checksums(),
                    component_count=component_count,
                )
                if component_count and stored.checksums:
                    # Cloud Storage has no MD5 for a composed object.
                    stored = replace(stored, checksums=replace(stored.checksums, md5=None))
                self._metadata.write([stored, current] if current else [stored])
                self._store.publish(draft.path, uri)
            self._store.settle(uri)  # outside the lock, because it takes longest
        finally:
            draft.discard()
        return stored

    def update(self, uri: GcsUri, change: ObjectChange, generation: int | None = None) -> StoredObject:
        """Change an object's attributes; `change` returns the new ones, or raises. Raises ObjectNotFound."""
        with self._lock(uri.bucket):
            stored = self.find(uri, generation)
            attributes = change(stored)
            released = stored.attributes.get("eventBasedHold") and not attributes.get("eventBasedHold")
            changed = replace(
                stored,
                metageneration=stored.metageneration + 1,
                metadata_updated_us=self._clock(),
                attributes=attributes,
                retained_from_us=self._clock() if released else stored.retained_from_us,
            )
            if changed.deleted_us is None:
                self._metadata.write([changed])
            else:
                self._versions.write(changed)
        return changed

    def delete(self, uri: GcsUri, check: Check, generation: int | None = None) -> None:
        """Delete an object, or one version permanently. Raises ObjectNotFound."""
        with self._lock(uri.bucket):
            stored = self.find(uri, generation)
            check(stored)
            self._remove(stored, for_good=generation is not None)

    def restore(self, uri: GcsUri, generation: int, check: Check) -> StoredObject:
        """Make a soft-deleted version the current object again. Raises ObjectNotFound."""
        stored = self.find(uri, generation, soft_deleted=True)
        with self._versions.open(stored) as file:
            restored = self._publish_copy(stored, file, uri, stored.attributes, check)
        with self._lock(uri.bucket):
            self._versions.remove(stored)
        return restored

    def copy(
        self,
        source: GcsUri,
        destination: GcsUri,
        check_source: Check,
        check: Check,
        change: ObjectChange = lambda source: source.attributes,
        generation: int | None = None,
    ) -> StoredObject:
        """Copy an object or one version; `change` returns the copy's attributes. Raises ObjectNotFound."""
        return self._copy(source, destination, check_source, check, change, generation)[1]

    def move(
        self,
        source: GcsUri,
        destination: GcsUri,
        check_source: Check,
        check: Check,
        change: ObjectChange = lambda source: source.attributes,
        generation: int | None = None,
    ) -> StoredObject:
        """Copy an object, then delete it unless it has changed since. Raises ObjectNotFound."""
        self._check_unprotected(self.find(source, generation))
        moved, copied = self._copy(source, destination, check_source, check, change, generation)
        with self._lock(source.bucket):
            current = self._current(source, missing_ok=True)
            # A version written in the meantime was not moved. It stays, as if it had been written just after.
            if source != destination and current and current.revision == moved.revision:
                self._remove(current, for_good=False)
        return copied

    def _copy(
        self,
        source: GcsUri,
        destination: GcsUri,
        check_source: Check,
        check: Check,
        change: ObjectChange,
        generation: int | None,
    ) -> tuple[StoredObject, StoredObject]:
        """Copy; returns the source and the copy."""
        stored, file = self.open(source, generation)
        with file:
            check_source(stored)
            return stored, self._publish_copy(stored, file, destination, change(stored), check)

    def _publish_copy(
        self, stored: StoredObject, file: BinaryIO, uri: GcsUri, attributes: Attributes, check: Check
    ) -> StoredObject:
        draft = self.draft(uri.bucket)
        try:
            if stored.checksums:
                draft.copy(file, stored.checksums)
            else:
                draft.append_file(file)
            return self.publish(draft, uri, attributes, check, stored.component_count)
        finally:
            draft.discard()

    def compose(
        self,
        sources: Sequence[tuple[GcsUri, int | None, Check]],
        destination: GcsUri,
        attributes: Attributes,
        check: Check,
    ) -> StoredObject:
        """Concatenate several objects to one. Raises ObjectNotFound."""
        draft = self.draft(destination.bucket)
        components = 0
        try:
            for uri, generation, check_source in sources:
                stored, file = self.open(uri, generation)
                with file:
                    check_source(stored)
                    draft.append_file(file)
                components += stored.component_count or 1
            return self.publish(draft, destination, attributes, check, components)
        finally:
            draft.discard()

    def _require(self, bucket: str) -> None:
        if not self._store.has_bucket(bucket):
            raise BucketNotFound(f"There is no bucket {bucket}.")

    def _current(self, uri: GcsUri, *, missing_ok: bool) -> StoredObject | None:
        try:
            return self._metadata.describe(self._store.stat(uri))
        except ObjectNotFound:
            if missing_ok:
                return None
            raise

    def _check_unprotected(self, stored: StoredObject) -> None:
        bucket = self._metadata.bucket(stored.uri.bucket)
        check_unprotected(stored, bucket, self._clock, is_kept=False)

    def _set_aside(self, current: StoredObject, bucket: StoredBucket) -> None:
        """Keep the object that is about to be replaced or deleted, if the bucket is configured so."""
        check_unprotected(current, bucket, self._clock, is_kept=bucket.keeps_versions)
        if bucket.keeps_versions:
            self._versions.keep(replace(current, deleted_us=self._clock()))
        elif bucket.soft_delete_us:
            now = self._clock()
            self._versions.keep(replace(current, deleted_us=now, gone_us=now + bucket.soft_delete_us))

    def _remove(self, stored: StoredObject, *, for_good: bool) -> None:
        """Delete an object or a version, as far as the bucket's configuration allows."""
        bucket = self._metadata.bucket(stored.uri.bucket)
        if for_good:  # a version deleted by its number does not become noncurrent
            versioning = {**bucket.attributes, "versioning": {"enabled": False}}
            bucket = replace(bucket, attributes=versioning)
        if stored.deleted_us is None:
            self._set_aside(stored, bucket)
            self._store.delete(stored.uri)
            self._metadata.forget(stored.uri)
            return
        check_unprotected(stored, bucket, self._clock, is_kept=False)
        if bucket.soft_delete_us:
            self._versions.write(replace(stored, gone_us=self._clock() + bucket.soft_delete_us))
        else:
            self._versions.remove(stored)

    def _stamp(self, draft: Draft, uri: GcsUri, current: StoredObject | None) -> ObjectInfo:
        """Set the file's time to the object's new generation, later than that of the existing object."""
        time_us = max(self._clock(), current.generation + 1 if current else 0)
        return ObjectInfo(uri, draft.size, draft.stamp(time_us))

    def _lock(self, bucket: str) -> threading.Lock:
        """The lock for every change in a bucket: a deletion of the bucket sees all of a change or nothing."""
        return self._locks[hash(bucket) % _LOCKS]
