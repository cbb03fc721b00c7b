"""Buckets and objects as Cloud Storage has them: generations, metadata, checksums and conditions."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import BinaryIO

from emulator.storage.checksums import checksums_of
from emulator.storage.draft import Draft
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

# Looks at what is there (None: nothing) and raises when the caller's conditions do not hold.
Check = Callable[[StoredObject | None], None]
ObjectChange = Callable[[StoredObject], Attributes]
BucketChange = Callable[[StoredBucket], Attributes]

_LOCKS = 64
# Computing is as fast as reading a record up to here.
_RECORDED_FROM = 1 << 20


def _now_us() -> int:
    return time.time_ns() // 1000


class Buckets:
    """The buckets of one store. Safe for many threads; conditions hold among the threads of one process.

    Every method may raise InvalidUri (the name cannot exist here), BucketNotFound, and StorageError.
    """

    def __init__(self, store: LocalStore, clock: Callable[[], int] = _now_us) -> None:
        self._store = store
        self._metadata = Metadata(store)
        self._clock = clock
        self._locks = tuple(threading.Lock() for _ in range(_LOCKS))

    # Buckets

    def buckets(self) -> Iterator[StoredBucket]:
        """All buckets by name."""
        return map(self._metadata.bucket, self._store.buckets())

    def bucket(self, name: str) -> StoredBucket:
        """Look at one bucket."""
        self._require(name)
        return self._metadata.bucket(name)

    def create_bucket(self, name: str, attributes: Attributes) -> StoredBucket:
        """Make a bucket. Raises NameTaken when there is one of that name."""
        check_bucket(name, f"gs://{name}")
        folder = self._store.root / name
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
        """Give a bucket other attributes; `change` returns them, or raises."""
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
            if next(self._store.list(name), None):
                raise BucketNotEmpty(f"The bucket {name} is not empty.")
            self._store.remove_bucket(name)

    # Objects: looking

    def find(self, uri: GcsUri) -> StoredObject:
        """Look at an object; its checksums may be missing. Raises ObjectNotFound."""
        self._require(uri.bucket)
        return self._metadata.describe(self._store.stat(uri))

    def open(self, uri: GcsUri) -> tuple[StoredObject, BinaryIO]:
        """Open an object, described as it is in that moment. Raises ObjectNotFound."""
        self._require(uri.bucket)
        file = self._store.open_read(uri)
        status = os.fstat(file.fileno())
        info = ObjectInfo(uri, status.st_size, status.st_mtime_ns // 1000)
        return self._metadata.describe(info), file

    def list(
        self, bucket: str, prefix: str = "", *, start: str = "", shallow: bool = False
    ) -> Iterator[ObjectInfo]:
        """Objects by name, as `LocalStore.list` has them."""
        self._require(bucket)
        return self._store.list(bucket, prefix, start=start, shallow=shallow)

    def describe(self, info: ObjectInfo) -> StoredObject:
        """Add what is recorded of a listed object."""
        return self._metadata.describe(info)

    def with_checksums(self, stored: StoredObject) -> StoredObject:
        """Compute the checksums when they are missing; reads the whole object once. Of an object that was
        replaced in the meantime they stay missing. Raises ObjectNotFound."""
        if stored.checksums:
            return stored
        opened, file = self.open(stored.uri)
        with file:
            return self.hashed(stored, file) if opened.version == stored.version else stored

    def hashed(self, stored: StoredObject, file: BinaryIO) -> StoredObject:
        """The same for an object that `open` has opened; leaves the file at its end."""
        if stored.checksums:
            return stored
        computed = replace(stored, checksums=checksums_of(file))
        if computed.size >= _RECORDED_FROM:
            # A bucket that is mounted read-only keeps no record, and works all the same.
            with self._lock(stored.uri.bucket), contextlib.suppress(StorageError):
                current = self.find(stored.uri)
                if current.version == computed.version:
                    self._metadata.write([replace(current, checksums=computed.checksums)])
        return computed

    # Objects: changing

    def draft(self, bucket: str) -> Draft:
        """Begin an object."""
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
        """Turn a draft into the object, replacing what was there if `check` lets it. The draft is used up."""
        try:
            draft.seal()
            with self._lock(uri.bucket):
                current = self._current(uri)
                check(current)
                stored = StoredObject(
                    self._stamp(draft, uri, current),
                    attributes=attributes,
                    checksums=draft.checksums(),
                    component_count=component_count,
                )
                if component_count and stored.checksums:
                    # A composed object has no MD5 in Cloud Storage.
                    stored = replace(stored, checksums=replace(stored.checksums, md5=None))
                self._metadata.write([stored, current] if current else [stored])
                self._store.publish(draft.path, uri)
            self._store.settle(uri)  # outside, for it takes longer than all the rest
        finally:
            draft.discard()
        return stored

    def update(self, uri: GcsUri, change: ObjectChange) -> StoredObject:
        """Give an object other attributes; `change` returns them, or raises. Raises ObjectNotFound."""
        with self._lock(uri.bucket):
            stored = self.find(uri)
            changed = replace(
                stored,
                metageneration=stored.metageneration + 1,
                metadata_updated_us=self._clock(),
                attributes=change(stored),
            )
            self._metadata.write([changed])
        return changed

    def delete(self, uri: GcsUri, check: Check) -> None:
        """Remove an object. Raises ObjectNotFound."""
        with self._lock(uri.bucket):
            check(self.find(uri))
            self._store.delete(uri)
            self._metadata.forget(uri)

    def copy(
        self,
        source: GcsUri,
        destination: GcsUri,
        check_source: Check,
        check: Check,
        change: ObjectChange = lambda source: source.attributes,
    ) -> StoredObject:
        """Copy an object's bytes; `change` gives the copy's attributes. Raises ObjectNotFound."""
        return self._copy(source, destination, check_source, check, change)[1]

    def move(
        self,
        source: GcsUri,
        destination: GcsUri,
        check_source: Check,
        check: Check,
        change: ObjectChange = lambda source: source.attributes,
    ) -> StoredObject:
        """Copy an object, and remove it unless it has been changed since. Raises ObjectNotFound."""
        moved, copied = self._copy(source, destination, check_source, check, change)
        with self._lock(source.bucket):
            current = self._current(source)
            # What was written in the meantime was not moved: it stays, as if it had been written just after.
            if source != destination and current and current.revision == moved.revision:
                self._store.delete(source)
                self._metadata.forget(source)
        return copied

    def _copy(
        self,
        source: GcsUri,
        destination: GcsUri,
        check_source: Check,
        check: Check,
        change: ObjectChange,
    ) -> tuple[StoredObject, StoredObject]:
        """The object that was copied, and the copy."""
        stored, file = self.open(source)
        with file:
            check_source(stored)
            draft = self.draft(destination.bucket)
            try:
                if stored.checksums:
                    draft.copy(file, stored.checksums)
                else:
                    draft.append_file(file)
                copied = self.publish(draft, destination, change(stored), check, stored.component_count)
                return stored, copied
            finally:
                draft.discard()

    def compose(
        self,
        sources: Sequence[tuple[GcsUri, Check]],
        destination: GcsUri,
        attributes: Attributes,
        check: Check,
    ) -> StoredObject:
        """Make one object of several, one after the other. Raises ObjectNotFound."""
        draft = self.draft(destination.bucket)
        components = 0
        try:
            for uri, check_source in sources:
                stored, file = self.open(uri)
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

    def _current(self, uri: GcsUri) -> StoredObject | None:
        try:
            return self.find(uri)
        except ObjectNotFound:
            return None

    def _stamp(self, draft: Draft, uri: GcsUri, current: StoredObject | None) -> ObjectInfo:
        """Give the file the time that is to be the object's generation, later than that of what is there."""
        time_us = max(self._clock(), current.generation + 1 if current else 0)
        return ObjectInfo(uri, draft.size, draft.stamp(time_us))

    def _lock(self, bucket: str) -> threading.Lock:
        """What every change in a bucket holds: whoever deletes it sees all of a change or nothing."""
        return self._locks[hash(bucket) % _LOCKS]
