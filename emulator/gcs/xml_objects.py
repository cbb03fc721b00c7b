"""The XML API's calls on one object: get, copy, delete."""

import base64
import re
from dataclasses import replace
from urllib.parse import unquote_to_bytes

from emulator.gcs.bucket_store import Buckets
from emulator.gcs.conditions import Conditions
from emulator.gcs.configuration import copied_attributes
from emulator.gcs.encryption import encryption_attributes, key_digest
from emulator.gcs.errors import XmlError, not_found
from emulator.gcs.objects import ObjectCalls, source_check
from emulator.gcs.requests import Request, Response
from emulator.gcs.resources import time_text, xml_etag
from emulator.gcs.uploads import Sink
from emulator.gcs.xml_sinks import BodySink, new_attributes, object_headers, xml_response
from emulator.storage import GcsUri, ObjectNotFound
from emulator.storage.metadata import Attributes, StoredObject

# Parameters of a signed URL that set headers of the answer.
_OVERRIDES = {
    f"response-{name}": name
    for name in (
        *("cache-control", "content-disposition", "content-encoding", "content-language", "content-type"),
        "expires",
    )
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class XmlObjects:
    """Answers the calls on one object, except uploads."""

    def __init__(self, buckets: Buckets, objects: ObjectCalls) -> None:
        self._buckets = buckets
        self._objects = objects

    def get(self, request: Request, uri: GcsUri) -> Sink:
        return BodySink(lambda _: self._get(request, uri))

    def copy(self, request: Request, uri: GcsUri) -> Sink:
        return BodySink(lambda _: self._copy(request, uri))

    def delete(self, request: Request, uri: GcsUri) -> Sink:
        return BodySink(lambda _: self._delete(request, uri))

    def _get(self, request: Request, uri: GcsUri) -> Response:
        conditions = Conditions.parse_xml(request.query, request.headers)
        response = self._objects.download(request, uri, conditions)
        if response.status == 416:
            text, asked = "The requested range cannot be satisfied.", request.headers.get("range", "")
            size = {"content-range": response.headers["content-range"]}
            raise XmlError(416, "InvalidRange", text, asked[:200], size)
        headers = dict(response.headers)
        headers["etag"] = f'"{_md5_of(headers.get("x-goog-hash", "")) or headers["etag"]}"'
        for parameter, name in _OVERRIDES.items():
            if value := request.query.get(parameter):
                headers[name] = _CONTROL.sub(" ", value)
        return Response(response.status, response.body, headers)

    def _copy(self, request: Request, uri: GcsUri) -> Response:
        source = _copy_source(request.headers["x-goog-copy-source"])
        directive = request.headers.get("x-goog-metadata-directive", "COPY").upper()
        if directive not in ("COPY", "REPLACE"):
            raise _invalid(f"x-goog-metadata-directive must be COPY or REPLACE, it is {directive[:40]!r}.")
        bucket, key = self._buckets.bucket(uri.bucket), key_digest(request.headers)
        replacement = new_attributes(bucket, request.headers) if directive == "REPLACE" else None

        def change(copied: StoredObject) -> Attributes:
            kept = copied_attributes(copied, {}) if replacement is None else replacement
            return {**kept, **encryption_attributes(key)}

        conditions = Conditions.parse_xml_source(request.headers)
        check_source = source_check(conditions, key_digest(request.headers, of_source=True))
        check = replace(Conditions.parse_xml(request.query, request.headers), generation=None).check_write
        try:
            stored = self._buckets.copy(source, uri, check_source, check, change, conditions.generation)
        except ObjectNotFound as error:
            raise not_found(source) from error
        times = [("LastModified", time_text(stored.generation)), ("ETag", f'"{xml_etag(stored)}"')]
        return xml_response("CopyObjectResult", times, headers=object_headers(stored))

    def _delete(self, request: Request, uri: GcsUri) -> Response:
        conditions = Conditions.parse_xml(request.query, request.headers)
        self._buckets.delete(uri, conditions.check_change, conditions.generation)
        return Response(204)


def _copy_source(header: str) -> GcsUri:
    try:
        text = unquote_to_bytes(header.encode("latin-1")).decode()
    except UnicodeError:
        raise _invalid("x-goog-copy-source is not percent-encoded UTF-8.") from None
    bucket, _, name = text.removeprefix("/").partition("/")
    if not bucket or not name:
        raise _invalid(f"x-goog-copy-source must be like /bucket/object, it is {text[:100]!r}.")
    return GcsUri(bucket, name)


def _md5_of(hashes: str) -> str:
    """Return the ETag for the MD5 in an x-goog-hash header."""
    md5 = next((entry[4:] for entry in hashes.split(",") if entry.startswith("md5=")), "")
    return base64.b64decode(md5).hex()


def _invalid(details: str) -> XmlError:
    return XmlError(400, "InvalidArgument", "Invalid argument.", details)
