"""Calls on entries of access control lists: a bucket's, its default for new objects, an object's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from emulator.gcs.acl import Entries, changed, check_lists_allowed, check_public, entries_of, no_entry
from emulator.gcs.bucket_store import Buckets
from emulator.gcs.conditions import Conditions
from emulator.gcs.errors import required
from emulator.gcs.requests import Request, Response, json_response
from emulator.gcs.resources import bucket_acl_json, default_acl_json, object_acl_json
from emulator.storage import GcsUri
from emulator.storage.metadata import Attributes, StoredBucket, StoredObject

Render = Callable[[Attributes], dict[str, Any]]
Change = Callable[[Entries], Entries]


@dataclass(frozen=True)
class _Place:
    """Access to a stored list: read it, change it, and write an entry as JSON."""

    kind: str
    read: Callable[[], tuple[Entries, Render]]
    write: Callable[[Change], tuple[Entries, Render]]


class AclCalls:
    """Answers the calls on one kind of list: in a field of the bucket, or "" for an object's list."""

    def __init__(self, buckets: Buckets, field: str) -> None:
        self._buckets = buckets
        self._field = field

    def list(self, request: Request, *names: str) -> Response:
        place = self._place(request, names)
        entries, render = place.read()
        return json_response(
            {"kind": f"storage#{place.kind}s", "items": [render(entry) for entry in entries]}
        )

    def get(self, request: Request, *names: str) -> Response:
        return self._entry(*self._place(request, names[:-1]).read(), names[-1])

    def insert(self, request: Request, *names: str) -> Response:
        body = request.json()
        entity = body.get("entity")
        if not isinstance(entity, str) or not entity:
            raise required("entity")
        return self._put(request, names, entity, body)

    def update(self, request: Request, *names: str) -> Response:
        return self._put(request, names[:-1], names[-1], request.json())

    def delete(self, request: Request, *names: str) -> Response:
        self._place(request, names[:-1]).write(lambda entries: changed(entries, names[-1], None))
        return Response(204)

    def _put(
        self, request: Request, names: tuple[str, ...], entity: str, body: Mapping[str, Any]
    ) -> Response:
        place = self._place(request, names)
        return self._entry(*place.write(lambda entries: changed(entries, entity, body)), entity)

    def _entry(self, entries: Entries, render: Render, entity: str) -> Response:
        for entry in entries:
            if entry["entity"] == entity:
                return json_response(render(entry))
        raise no_entry(entity)

    def _place(self, request: Request, names: tuple[str, ...]) -> _Place:
        check_lists_allowed(self._buckets.bucket(names[0]).attributes)
        if self._field:
            return self._of_bucket(request, names[0])
        return self._of_object(request, GcsUri(*names))

    def _of_bucket(self, request: Request, bucket: str) -> _Place:
        conditions = Conditions.parse(request.query, request.headers)
        write_entry = bucket_acl_json if self._field == "acl" else default_acl_json

        def shown(stored: StoredBucket) -> tuple[Entries, Render]:
            entries = entries_of(stored.attributes, self._field)
            return entries, partial(write_entry, bucket=stored, base=request.base)

        def write(change: Change) -> tuple[Entries, Render]:
            def attributes(stored: StoredBucket) -> Attributes:
                conditions.check_bucket(stored)
                entries = change(entries_of(stored.attributes, self._field))
                check_public(entries, stored.attributes)
                return {**stored.attributes, self._field: entries}

            return shown(self._buckets.update_bucket(bucket, attributes))

        kind = "bucketAccessControl" if self._field == "acl" else "objectAccessControl"
        return _Place(kind, lambda: shown(self._buckets.bucket(bucket)), write)

    def _of_object(self, request: Request, uri: GcsUri) -> _Place:
        conditions = Conditions.parse(request.query, request.headers)
        generation = conditions.generation

        def shown(stored: StoredObject) -> tuple[Entries, Render]:
            entries = entries_of(stored.attributes, "acl", of_object=True)
            return entries, partial(object_acl_json, stored=stored, base=request.base)

        def write(change: Change) -> tuple[Entries, Render]:
            bucket = self._buckets.bucket(uri.bucket)

            def attributes(stored: StoredObject) -> Attributes:
                conditions.check_change(stored)
                entries = change(entries_of(stored.attributes, "acl", of_object=True))
                check_public(entries, bucket.attributes)
                return {**stored.attributes, "acl": entries}

            return shown(self._buckets.update(uri, attributes, generation))

        return _Place("objectAccessControl", lambda: shown(self._buckets.find(uri, generation)), write)
