"""Calls on objects: list, get, download, patch, delete, copy, rewrite, compose."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from emulator.gcs.acl import check_lists_allowed
from emulator.gcs.bucket_store import Buckets
from emulator.gcs.conditions import Conditions
from emulator.gcs.configuration import (
    check_bucket_allows,
    copied_attributes,
    object_attributes,
    parameters,
    replaced_object,
)
from emulator.gcs.encryption import check_key, encryption_attributes, is_readable, key_digest
from emulator.gcs.errors import invalid, not_implemented, required
from emulator.gcs.masks import apply_mask, parse_mask
from emulator.gcs.media import media_response
from emulator.gcs.object_list import Listing
from emulator.gcs.requests import Request, Response, json_response
from emulator.gcs.resources import object_json
from emulator.storage import GcsUri, ObjectInfo, StorageError
from emulator.storage.metadata import Attributes, StoredObject

# Larger objects take long to hash; a listing shows their checksums only if they are already known.
_QUICKLY_HASHED = 8 << 20
_MOST_SOURCES = 32


class ObjectCalls:
    """Answers the calls on objects."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    def list(self, request: Request, bucket: str) -> Response:
        mask = parse_mask(request.query.get("fields"))
        if request.query.get("filter"):
            raise not_implemented("Filtering a list by contexts")
        page = Listing.parse(request.query).page(self._buckets, bucket)
        value: dict[str, Any] = {"kind": "storage#objects"}
        if page.next_token:
            value["nextPageToken"] = page.next_token
        if page.prefixes:
            value["prefixes"] = page.prefixes
        if page.items:
            stored_bucket = self._buckets.bucket(bucket)
            value["items"] = [
                object_json(self.described(entry), request.base, stored_bucket, **_shown(request))
                for entry in page.items
            ]
        return json_response(apply_mask(mask, value))

    def get(self, request: Request, bucket: str, name: str) -> Response:
        conditions = Conditions.parse(request.query, request.headers)
        if request.query.get("alt") == "media":
            return self.download(request, GcsUri(bucket, name), conditions)
        stored = self._buckets.find(
            GcsUri(bucket, name), conditions.generation, soft_deleted=request.query.flag("softDeleted")
        )
        conditions.check_read(stored)
        return self._resource(request, self._buckets.with_checksums(stored))

    def download(self, request: Request, uri: GcsUri, conditions: Conditions) -> Response:
        """Answer with the object's bytes."""
        key = key_digest(request.headers)
        stored, file = self._buckets.open(uri, conditions.generation)
        try:
            check_key(stored, key)
            if stored.size <= _QUICKLY_HASHED:
                # Hash the open file: its name may already belong to a newer version.
                stored = self._buckets.hashed(stored, file)
            conditions.check_read(stored)
            return media_response(stored, file, request.headers)
        except BaseException:
            file.close()
            raise

    def update(self, request: Request, bucket: str, name: str) -> Response:
        return self._change(request, GcsUri(bucket, name), is_patch=False)

    def patch(self, request: Request, bucket: str, name: str) -> Response:
        return self._change(request, GcsUri(bucket, name), is_patch=True)

    def delete(self, request: Request, bucket: str, name: str) -> Response:
        conditions = Conditions.parse(request.query, request.headers)
        self._buckets.delete(GcsUri(bucket, name), conditions.check_change, conditions.generation)
        return Response(204)

    def restore(self, request: Request, bucket: str, name: str) -> Response:
        conditions = Conditions.parse(request.query, request.headers)
        if conditions.generation is None:
            raise required("generation")
        check = replace(conditions, generation=None).check_write
        return self._resource(
            request, self._buckets.restore(GcsUri(bucket, name), conditions.generation, check)
        )

    def copy(self, request: Request, bucket: str, name: str, to_bucket: str, to_name: str) -> Response:
        return self._resource(request, self._copy(request, bucket, name, to_bucket, to_name))

    def rewrite(self, request: Request, bucket: str, name: str, to_bucket: str, to_name: str) -> Response:
        stored = self._copy(request, bucket, name, to_bucket, to_name)
        value = {
            "kind": "storage#rewriteResponse",
            "totalBytesRewritten": str(stored.size),
            "objectSize": str(stored.size),
            "done": True,  # every copy is done in one call, whatever its size
            "resource": self._json(request, stored),
        }
        return json_response(apply_mask(parse_mask(request.query.get("fields")), value))

    def move(self, request: Request, bucket: str, name: str, to_name: str) -> Response:
        return self._resource(request, self._copy(request, bucket, name, bucket, to_name, self._buckets.move))

    def compose(self, request: Request, bucket: str, name: str) -> Response:
        body = request.json()
        sources = body.get("sourceObjects")
        if not isinstance(sources, list) or not sources:
            raise required("sourceObjects")
        if len(sources) > _MOST_SOURCES:
            raise invalid(
                f"The number of source components provided ({len(sources)}) exceeds the maximum (32)"
            )
        key = key_digest(request.headers)
        parts = [_source(bucket, entry) for entry in sources]
        attributes = object_attributes(_resource(body.get("destination")))
        stored = self._buckets.compose(
            [(uri, conditions.generation, source_check(conditions, key)) for uri, conditions in parts],
            GcsUri(bucket, name),
            self._new_attributes(request, bucket, {**attributes, **encryption_attributes(key)}),
            Conditions.parse(request.query, request.headers).check_write,
        )
        return self._resource(request, stored)

    def _copy(
        self,
        request: Request,
        bucket: str,
        name: str,
        to_bucket: str,
        to_name: str,
        way: Callable[..., StoredObject] | None = None,
    ) -> StoredObject:
        """Copy an object, or move it if `way` is the function that moves."""
        body = request.json()
        source_conditions = Conditions.parse_source(request.query)
        key, source_key = key_digest(request.headers), key_digest(request.headers, of_source=True)
        if way:  # a move keeps everything, the key included
            source_key = key

        def change(source: StoredObject) -> Attributes:
            kept = source.attributes if way else copied_attributes(source, body)
            return self._new_attributes(request, to_bucket, {**kept, **encryption_attributes(key)})

        return (way or self._buckets.copy)(
            GcsUri(bucket, name),
            GcsUri(to_bucket, to_name),
            source_check(source_conditions, source_key),
            replace(Conditions.parse(request.query, request.headers), generation=None).check_write,
            change,
            source_conditions.generation,
        )

    def _new_attributes(self, request: Request, bucket: str, attributes: Attributes) -> Attributes:
        """Add the attributes from the request's parameters and check them. Raises GcsError."""
        stored = self._buckets.bucket(bucket)
        attributes = {**attributes, **parameters(request.query, stored.attributes)}
        check_bucket_allows(attributes, stored)
        return attributes

    def _change(self, request: Request, uri: GcsUri, *, is_patch: bool) -> Response:
        conditions = Conditions.parse(request.query, request.headers)
        body, bucket = request.json(), self._buckets.bucket(uri.bucket)
        may_shorten = request.query.flag("overrideUnlockedRetention")
        if "acl" in body or request.query.get("predefinedAcl"):
            check_lists_allowed(bucket.attributes)

        def change(stored: StoredObject) -> Attributes:
            conditions.check_change(stored)
            new = replaced_object(stored, body, may_shorten=may_shorten, is_patch=is_patch)
            new |= parameters(request.query, bucket.attributes)
            check_bucket_allows(new, bucket)
            return new

        stored = self._buckets.update(uri, change, conditions.generation)
        return self._resource(request, self._buckets.with_checksums(stored), full=True)

    def _resource(self, request: Request, stored: StoredObject, *, full: bool = False) -> Response:
        value = self._json(request, stored, full=full)
        return json_response(apply_mask(parse_mask(request.query.get("fields")), value))

    def _json(self, request: Request, stored: StoredObject, *, full: bool = False) -> dict[str, Any]:
        bucket = self._buckets.bucket(stored.uri.bucket)
        readable = is_readable(stored, key_digest(request.headers))
        return object_json(stored, request.base, bucket, **_shown(request, full=full), readable=readable)

    def described(self, entry: ObjectInfo | StoredObject) -> StoredObject:
        """Return an entry of a listing with its attributes; noncurrent versions have them already."""
        return self.quickly(entry if isinstance(entry, StoredObject) else self._buckets.describe(entry))

    def quickly(self, stored: StoredObject) -> StoredObject:
        """Add the checksums unless the object is too large to hash quickly."""
        if stored.checksums or stored.size > _QUICKLY_HASHED:
            return stored
        try:
            return self._buckets.with_checksums(stored)
        except StorageError:  # deleted since the listing saw it
            return stored


def _shown(request: Request, *, full: bool = False) -> dict[str, bool]:
    """Return the argument `full` of `object_json` for a request's `projection`."""
    return {"full": request.query.get("projection", "full" if full else "noAcl") == "full"}


def source_check(conditions: Conditions, key: str) -> Callable[[StoredObject | None], None]:
    """Return the check of a copy's source: its preconditions and its key."""

    def check(stored: StoredObject | None) -> None:
        conditions.check_change(stored)
        assert stored is not None
        check_key(stored, key)

    return check


def _resource(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _source(bucket: str, entry: object) -> tuple[GcsUri, Conditions]:
    fields = _resource(entry)
    name = fields.get("name")
    if not isinstance(name, str) or not name:
        raise required("sourceObjects.name")
    asked = fields.get("generation"), _resource(fields.get("objectPreconditions")).get("ifGenerationMatch")
    try:
        generation, match = (None if value is None else int(value) for value in asked)
    except (TypeError, ValueError, OverflowError):
        raise invalid(f"Invalid generation of source object {name}.") from None
    return GcsUri(bucket, name), Conditions(generation=generation, generation_match=match)
