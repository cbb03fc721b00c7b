"""The JSON of buckets, objects, and entries of access control lists."""

import base64
import mimetypes
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from emulator.gcs.acl import OWNER, entries_of, is_uniform
from emulator.gcs.retention import retained_until_us
from emulator.storage.metadata import LAST_US, Attributes, StoredBucket, StoredObject

OCTET_STREAM = "application/octet-stream"
_BUCKET_DEFAULTS = {
    "location": "US",
    "locationType": "multi-region",
    "storageClass": "STANDARD",
    "rpo": "DEFAULT",
    "iamConfiguration": {
        "uniformBucketLevelAccess": {"enabled": False},
        "bucketPolicyOnly": {"enabled": False},
        "publicAccessPrevention": "inherited",
    },
}
_NOT_SHOWN = ("acl", "defaultObjectAcl", "iamPolicy")
# Only the standard library's table, because the tables of operating systems differ.
_TYPES = mimetypes.MimeTypes()


def object_json(
    stored: StoredObject, base: str, bucket: StoredBucket, *, full: bool = False, readable: bool = True
) -> dict[str, Any]:
    """Return an object's resource.

    Args:
        base: the server's URL as the client sees it.
        full: include the access control list.
        readable: the client sent the key with which the object was written.
    """
    uri, attributes = stored.uri, stored.attributes
    path = f"storage/v1/b/{uri.bucket}/o/{quote(uri.object, safe='')}"
    created = time_text(stored.generation)
    checksums = stored.checksums if readable else None
    resource = {
        "kind": "storage#object",
        "id": f"{uri.bucket}/{uri.object}/{stored.generation}",
        "selfLink": f"{base}/{path}",
        "mediaLink": f"{base}/download/{path}?generation={stored.generation}&alt=media",
        "name": uri.object,
        "bucket": uri.bucket,
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
        "retentionExpirationTime": _time_or_none(retained_until_us(stored, bucket)),
        **_deleted(stored),
        **{name: value for name, value in attributes.items() if name != "acl"},
        # Vertex: a composed object has no type unless the request gave one.
        "contentType": attributes.get("contentType") if stored.component_count else content_type(stored),
    }
    if full and not is_uniform(bucket.attributes):
        entries = entries_of(attributes, "acl", of_object=True)
        resource["acl"] = [object_acl_json(entry, stored, base) for entry in entries]
        resource["owner"] = {"entity": OWNER}
    return {key: value for key, value in resource.items() if value is not None}


def bucket_json(bucket: StoredBucket, base: str, *, full: bool = False) -> dict[str, Any]:
    """Return a bucket's resource, with `full` including the access control lists."""
    resource = {
        "kind": "storage#bucket",
        "id": bucket.name,
        "selfLink": f"{base}/storage/v1/b/{bucket.name}",
        # Emulator: every project sees every bucket, so no project owns it.
        "projectNumber": "0",
        "name": bucket.name,
        "generation": str(bucket.created_us),
        "timeCreated": time_text(bucket.created_us),
        "updated": time_text(bucket.updated_us or bucket.created_us),
        "metageneration": str(bucket.metageneration),
        "etag": bucket_etag(bucket),
        **_BUCKET_DEFAULTS,
        **{name: value for name, value in bucket.attributes.items() if name not in _NOT_SHOWN},
    }
    if full and not is_uniform(bucket.attributes):
        for field, render in (("acl", bucket_acl_json), ("defaultObjectAcl", default_acl_json)):
            entries = entries_of(bucket.attributes, field)
            resource[field] = [render(entry, bucket, base) for entry in entries]
        resource["owner"] = {"entity": entries_of({}, "acl")[0]["entity"]}
    return resource


def bucket_acl_json(entry: Attributes, bucket: StoredBucket, base: str) -> dict[str, Any]:
    """Return the JSON of an entry of a bucket's list."""
    link = f"{base}/storage/v1/b/{bucket.name}/acl/{quote(entry['entity'], safe='')}"
    return {
        "kind": "storage#bucketAccessControl",
        "id": f"{bucket.name}/{entry['entity']}",
        "selfLink": link,
        "bucket": bucket.name,
        **_acl_entry(entry),
        "etag": bucket_etag(bucket),
    }


def default_acl_json(entry: Attributes, bucket: StoredBucket, base: str) -> dict[str, Any]:  # noqa: ARG001
    """Return the JSON of an entry of a bucket's default list for new objects."""
    return {"kind": "storage#objectAccessControl", **_acl_entry(entry), "etag": bucket_etag(bucket)}


def object_acl_json(entry: Attributes, stored: StoredObject, base: str) -> dict[str, Any]:
    """Return the JSON of an entry of an object's list."""
    uri, entity = stored.uri, entry["entity"]
    path = f"storage/v1/b/{uri.bucket}/o/{quote(uri.object, safe='')}/acl/{quote(entity, safe='')}"
    return {
        "kind": "storage#objectAccessControl",
        "id": f"{uri.bucket}/{uri.object}/{stored.generation}/{entity}",
        "selfLink": f"{base}/{path}",
        "bucket": uri.bucket,
        "object": uri.object,
        "generation": str(stored.generation),
        **_acl_entry(entry),
        "etag": object_etag(stored),
    }


def content_type(stored: StoredObject) -> str:
    """Return the type that the writer gave, else the type for the name's suffix."""
    named = stored.attributes.get("contentType")
    return str(named) if named else _TYPES.guess_type(stored.uri.object)[0] or OCTET_STREAM


def object_etag(stored: StoredObject) -> str:
    """Return the JSON API's ETag. Vertex: generation and metageneration as a protobuf message in base64."""
    message = b"\x08" + _varint(stored.generation) + b"\x10" + _varint(stored.metageneration)
    return base64.b64encode(message).decode()


def object_etags(stored: StoredObject) -> list[str]:
    """Return the ETags of the JSON API and of the XML API, which may be equal."""
    return [object_etag(stored), xml_etag(stored)]


def xml_etag(stored: StoredObject) -> str:
    """Return the XML API's ETag. Vertex: the MD5, or the JSON API's ETag if the object has no MD5."""
    md5 = stored.checksums and stored.checksums.md5
    return base64.b64decode(md5).hex() if md5 else object_etag(stored)


def bucket_etag(bucket: StoredBucket) -> str:
    """Return a bucket's ETag. Vertex: the metageneration, in the form of `object_etag`."""
    return base64.b64encode(b"\x08" + _varint(bucket.metageneration)).decode()


def time_text(time_us: int) -> str:
    """Return a time in Cloud Storage's form: RFC 3339 with milliseconds."""
    time_us = min(max(time_us, 0), LAST_US)  # a file may have any time
    when = datetime.fromtimestamp(time_us // 1_000_000, UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{time_us // 1000 % 1000:03d}Z"


def _deleted(stored: StoredObject) -> dict[str, Any]:
    """Return the fields with the times of a noncurrent version."""
    if stored.gone_us is None:
        return {"timeDeleted": _time_or_none(stored.deleted_us)}
    return {"softDeleteTime": _time_or_none(stored.deleted_us), "hardDeleteTime": time_text(stored.gone_us)}


def _time_or_none(time_us: int | None) -> str | None:
    return None if time_us is None else time_text(time_us)


def _acl_entry(entry: Attributes) -> dict[str, Any]:
    kind, _, rest = entry["entity"].partition("-")
    shown = {"entity": entry["entity"], "role": entry["role"]}
    if kind in ("user", "group"):
        shown["email"] = rest
    elif kind == "domain":
        shown["domain"] = rest
    elif kind == "project":
        team, _, number = rest.partition("-")
        shown["projectTeam"] = {"projectNumber": number, "team": team}
    return shown


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
