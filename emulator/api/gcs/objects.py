"""Calls about objects: list, get, download, patch, delete, copy, rewrite, compose."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from emulator.api.gcs.conditions import Conditions
from emulator.api.gcs.errors import invalid, required
from emulator.api.gcs.fields import apply_mask, parse_mask
from emulator.api.gcs.listing import Listing
from emulator.api.gcs.media import media_response
from emulator.api.gcs.messages import Request, Response, json_response
from emulator.api.gcs.resources import object_attributes, object_json, patched_object
from emulator.storage import GcsUri, StorageError
from emulator.storage.buckets import Buckets
from emulator.storage.metadata import Attributes, StoredObject

# A larger object's checksums take long to compute; a listing shows them when they are known already.
_QUICKLY_HASHED = 8 << 20
_MOST_SOURCES = 32


class ObjectCalls:
    """Answers the calls about objects."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    def list(self, request: Request, bucket: str) -> Response:
        mask = parse_mask(request.query.get("fields"))
        listing = Listing.parse(request.query)
        if request.query.flag("softDeleted"):
            listing = replace(listing, end="\0")  # nothing is kept of deleted objects
        page = listing.page(self._buckets, bucket)
        value: dict[str, Any] = {"kind": "storage#objects"}
        if page.next_token:
            value["nextPageToken"] = page.next_token
        if page.prefixes:
            value["prefixes"] = page.prefixes
        if page.items:
            described = (self._quickly(self._buckets.describe(info)) for info in page.items)
            value["items"] = [object_json(stored, request.base) for stored in described]
        return json_response(apply_mask(mask, value))

    def get(self, request: Request, bucket: str, name: str) -> Response:
        conditions = Conditions.parse(request.query, request.headers)
        if request.query.get("alt") == "media":
            return self.download(request, GcsUri(bucket, name), conditions)
        stored = self._buckets.find(GcsUri(bucket, name))
        conditions.check_read(stored)
        return self._resource(request, self._buckets.with_checksums(stored))

    def download(self, request: Request, uri: GcsUri, conditions: Conditions) -> Response:
        """Answer with the bytes."""
        stored, file = self._buckets.open(uri)
        try:
            conditions.check_read(stored)
            if stored.size <= _QUICKLY_HASHED:
                # Of the open file: by its name another version may be there by now.
                stored = self._buckets.hashed(stored, file)
            return media_response(stored, file, request.headers.get("range", ""))
        except BaseException:
            file.close()
            raise

    def update(self, request: Request, bucket: str, name: str) -> Response:
        body = request.json()
        return self._change(request, GcsUri(bucket, name), lambda _: object_attributes(body))

    def patch(self, request: Request, bucket: str, name: str) -> Response:
        body = request.json()
        return self._change(request, GcsUri(bucket, name), lambda old: patched_object(old, body))

    def delete(self, request: Request, bucket: str, name: str) -> Response:
        conditions = Conditions.parse(request.query, request.headers)
        self._buckets.delete(GcsUri(bucket, name), conditions.check_change)
        return Response(204)

    def copy(self, request: Request, bucket: str, name: str, to_bucket: str, to_name: str) -> Response:
        return self._resource(request, self._copy(request, bucket, name, to_bucket, to_name))

    def rewrite(self, request: Request, bucket: str, name: str, to_bucket: str, to_name: str) -> Response:
        stored = self._copy(request, bucket, name, to_bucket, to_name)
        value = {
            "kind": "storage#rewriteResponse",
            "totalBytesRewritten": str(stored.size),
            "objectSize": str(stored.size),
            "done": True,  # copied in one go, however large
            "resource": object_json(stored, request.base),
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
        parts = [_source(bucket, entry) for entry in sources]
        stored = self._buckets.compose(
            [(uri, conditions.check_change) for uri, conditions in parts],
            GcsUri(bucket, name),
            object_attributes(_resource(body.get("destination"))),
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
        """Copy an object, or move it: `way` is what does that."""
        body = request.json()

        def change(source: StoredObject) -> Attributes:
            # Vertex: a resource in the body replaces the source's metadata as a whole.
            return object_attributes(body) if object_attributes(body) else source.attributes

        return (way or self._buckets.copy)(
            GcsUri(bucket, name),
            GcsUri(to_bucket, to_name),
            Conditions.parse_source(request.query).check_change,
            replace(Conditions.parse(request.query, request.headers), generation=None).check_write,
            change,
        )

    def _change(self, request: Request, uri: GcsUri, change: Any) -> Response:
        conditions = Conditions.parse(request.query, request.headers)

        def checked(stored: StoredObject) -> Attributes:
            conditions.check_change(stored)
            attributes: Attributes = change(stored.attributes)
            return attributes

        return self._resource(request, self._buckets.with_checksums(self._buckets.update(uri, checked)))

    def _resource(self, request: Request, stored: StoredObject) -> Response:
        value = object_json(stored, request.base)
        return json_response(apply_mask(parse_mask(request.query.get("fields")), value))

    def _quickly(self, stored: StoredObject) -> StoredObject:
        if stored.checksums or stored.size > _QUICKLY_HASHED:
            return stored
        try:
            return self._buckets.with_checksums(stored)
        except StorageError:  # deleted in the meantime; it was there when the listing saw it
            return stored


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
