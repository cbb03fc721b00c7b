"""The JSON of buckets and objects, and which of their fields a client may set."""

import base64
import mimetypes
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from emulator.api.gcs.errors import invalid
from emulator.storage.metadata import Attributes, StoredBucket, StoredObject

OCTET_STREAM = "application/octet-stream"
_TEXT_FIELDS = (
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "customTime",
    "storageClass",
)
_OBJECT_FIELDS = (*_TEXT_FIELDS, "eventBasedHold", "metadata", "temporaryHold")
# What the server says of a bucket; everything else is kept as the client sent it.
_BUCKET_OUTPUT = (
    *("kind", "id", "selfLink", "name", "projectNumber", "timeCreated", "updated", "metageneration", "etag"),
    *("acl", "defaultObjectAcl", "owner"),
)
_BUCKET_DEFAULTS = {"location": "US", "locationType": "multi-region", "storageClass": "STANDARD"}
_LAST_US = 253_402_300_799_999_999  # the end of the year 9999
# Of the standard library only: the tables of the operating system differ from one to the next.
_TYPES = mimetypes.MimeTypes()


def object_json(stored: StoredObject, base: str) -> dict[str, Any]:
    """Return an object's resource; `base` is where the client reaches the server."""
    bucket, name = stored.uri.bucket, stored.uri.object
    path = f"storage/v1/b/{bucket}/o/{quote(name, safe='')}"
    created = time_text(stored.generation)
    checksums = stored.checksums
    resource = {
        "kind": "storage#object",
        "id": f"{bucket}/{name}/{stored.generation}",
        "selfLink": f"{base}/{path}",
        "mediaLink": f"{base}/download/{path}?generation={stored.generation}&alt=media",
        "name": name,
        "bucket": bucket,
        "generation": str(stored.generation),
        "metageneration": str(stored.metageneration),
        "storageClass": "STANDARD",
        "size": str(stored.size),
        "md5Hash": checksums and checksums.md5,
        "crc32c": checksums and checksums.crc32c,
        "componentCount": stored.component_count,
        "etag": object_etag(stored),
        "timeCreated": created,
        "updated": time_text(stored.updated_us),
        "timeStorageClassUpdated": created,
        "timeFinalized": created,
        **stored.attributes,
        "contentType": content_type(stored),
    }
    return {key: value for key, value in resource.items() if value is not None}


def bucket_json(bucket: StoredBucket, base: str) -> dict[str, Any]:
    """Return a bucket's resource."""
    return {
        "kind": "storage#bucket",
        "id": bucket.name,
        "selfLink": f"{base}/storage/v1/b/{bucket.name}",
        # Emulator: every project sees every bucket, so none of them owns it.
        "projectNumber": "0",
        "name": bucket.name,
        "timeCreated": time_text(bucket.created_us),
        "updated": time_text(bucket.updated_us or bucket.created_us),
        "metageneration": str(bucket.metageneration),
        "etag": bucket_etag(bucket),
        **_BUCKET_DEFAULTS,
        **bucket.attributes,
    }


def content_type(stored: StoredObject) -> str:
    """The type the writer named; a file without a record is judged by its name."""
    named = stored.attributes.get("contentType")
    return str(named) if named else _TYPES.guess_type(stored.uri.object)[0] or OCTET_STREAM


def object_etag(stored: StoredObject) -> str:
    """Vertex: Cloud Storage writes both generations as a protobuf message in base64."""
    message = b"\x08" + _varint(stored.generation) + b"\x10" + _varint(stored.metageneration)
    return base64.b64encode(message).decode()


def bucket_etag(bucket: StoredBucket) -> str:
    """Vertex: the metageneration in the same form."""
    return base64.b64encode(b"\x08" + _varint(bucket.metageneration)).decode()


def object_attributes(body: Mapping[str, Any]) -> dict[str, Any]:
    """Take the fields that a client may set from an object's resource; output fields are ignored.

    Raises:
        GcsError: a value of the wrong type.
    """
    attributes = {name: body[name] for name in _OBJECT_FIELDS if body.get(name) is not None}
    for name in _TEXT_FIELDS:
        if name in attributes and not isinstance(attributes[name], str):
            raise invalid(f"Invalid value for {name}: text is needed.", location=name)
    if "metadata" in attributes:
        attributes["metadata"] = _custom_metadata(attributes["metadata"])
    return attributes


def patched_object(old: Attributes, body: Mapping[str, Any]) -> dict[str, Any]:
    """Apply a PATCH: null removes a field, and a key of `metadata`."""
    merged = {**old, **{name: body[name] for name in _OBJECT_FIELDS if name in body}}
    if isinstance(body.get("metadata"), dict):
        both = {**old.get("metadata", {}), **body["metadata"]}
        merged["metadata"] = {key: value for key, value in both.items() if value is not None}
    return object_attributes(merged)


def bucket_attributes(body: Mapping[str, Any]) -> dict[str, Any]:
    """Take what is kept of a bucket's resource."""
    kept = {key: value for key, value in body.items() if key not in _BUCKET_OUTPUT and value is not None}
    if isinstance(kept.get("location"), str):
        kept["location"] = kept["location"].upper()
        kept.setdefault("locationType", "region" if re.search(r"\d$", kept["location"]) else "multi-region")
    return kept


def patched_bucket(old: Attributes, body: Mapping[str, Any]) -> dict[str, Any]:
    """Apply a PATCH: null removes a field, and a label."""
    merged = {**old, **body}
    if isinstance(body.get("labels"), dict):
        both = {**old.get("labels", {}), **body["labels"]}
        merged["labels"] = {key: value for key, value in both.items() if value is not None}
    return bucket_attributes(merged)


def time_text(time_us: int) -> str:
    """RFC 3339 with milliseconds, as Cloud Storage writes times."""
    time_us = min(max(time_us, 0), _LAST_US)  # a file's time can be anything
    when = datetime.fromtimestamp(time_us // 1_000_000, UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{time_us // 1000 % 1000:03d}Z"


def _custom_metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(entry, str) for entry in value.values()):
        raise invalid("Invalid value for metadata: an object of texts is needed.", location="metadata")
    return value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
