"""The XML API's uploads: in one request, in a resumable session, or in parts."""

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote

from emulator.gcs.bucket_store import Buckets
from emulator.gcs.conditions import Conditions
from emulator.gcs.draft import Draft
from emulator.gcs.errors import XmlError
from emulator.gcs.parts import LARGEST_PART, MOST_PARTS, Part, PartsUpload, PartsUploads, part_number
from emulator.gcs.requests import Request, Response
from emulator.gcs.resources import xml_etag
from emulator.gcs.resumable import Sessions
from emulator.gcs.uploads import Sink, Target
from emulator.gcs.xml_buckets import time_of
from emulator.gcs.xml_documents import UPLOAD_NAMESPACE, Element
from emulator.gcs.xml_sinks import (
    BodySink,
    ObjectSink,
    Sizes,
    new_attributes,
    number_between,
    object_headers,
    told_hashes,
    xml_response,
)
from emulator.storage import GcsUri, ObjectNotFound

_EMPTY = {"content-type": "text/html; charset=UTF-8"}


class XmlUploads:
    """Answers the XML API's uploads."""

    def __init__(self, buckets: Buckets, sessions: Sessions, parts: PartsUploads) -> None:
        self._buckets = buckets
        self._sessions = sessions
        self._parts = parts

    # In one request

    def put(self, request: Request, uri: GcsUri) -> Sink:
        attributes = new_attributes(self._buckets.bucket(uri.bucket), request.headers)
        conditions = Conditions.parse_xml(request.query, request.headers)
        told_hashes(request.headers)
        self._check_now(conditions, uri)

        def publish(draft: Draft) -> Response:
            stored = self._buckets.publish(draft, uri, attributes, conditions.check_write)
            return Response(200, b"", {**_EMPTY, **object_headers(stored)})

        sizes = Sizes.parse(request.headers.get("x-goog-content-length-range", ""))
        return ObjectSink(self._buckets.draft(uri.bucket), request.headers, publish, sizes)

    # In a resumable session

    def begin_resumable(self, request: Request, uri: GcsUri) -> Sink:
        if request.headers["x-goog-resumable"].lower() != "start":
            raise _invalid(
                f"x-goog-resumable must be start, it is {request.headers['x-goog-resumable'][:40]!r}."
            )
        target = Target(
            uri,
            new_attributes(self._buckets.bucket(uri.bucket), request.headers),
            Conditions.parse_xml(request.query, request.headers),
            tuple((kind.upper(), value) for kind, value in told_hashes(request.headers)),
            full=False,
        )

        def begin(_body: bytes) -> Response:
            session = self._sessions.start(target)
            headers = {**_EMPTY, "x-guploader-uploadid": session.id}
            location = f"{request.base}{request.path}?upload_id={session.id}"
            return Response(201, b"", {**headers, "location": location})

        return BodySink(begin)

    def continue_resumable(self, request: Request, uri: GcsUri) -> Sink:
        self._check_target(request, uri)
        return _ResumableSink(self._sessions.sink(request), lambda: self._written(uri))

    def cancel_resumable(self, request: Request, uri: GcsUri) -> Sink:
        self._check_target(request, uri)
        return BodySink(lambda _: replace(self._sessions.cancel(request), headers=_EMPTY))

    # In parts

    def begin_parts(self, request: Request, uri: GcsUri) -> Sink:
        attributes = new_attributes(self._buckets.bucket(uri.bucket), request.headers)

        def begin(_body: bytes) -> Response:
            upload = self._parts.begin(uri, attributes)
            named: list[Element] = [("Bucket", uri.bucket), ("Key", uri.object), ("UploadId", upload.id)]
            return xml_response("InitiateMultipartUploadResult", named, UPLOAD_NAMESPACE)

        return BodySink(begin)

    def put_part(self, request: Request, uri: GcsUri) -> Sink:
        if "x-goog-copy-source" in request.headers:
            text = "A header or query you provided requested a function that is not implemented."
            raise XmlError(501, "NotImplemented", text, "A part cannot be copied; send its bytes.")
        if not request.query.get("uploadId"):
            raise _invalid("uploadId is missing; POST to the object with ?uploads gives one.")
        number = part_number(request.query.get("partNumber"))
        upload = self._upload(request, uri)

        def add(draft: Draft) -> Response:
            part = self._parts.add(upload, number, draft)
            hashes = f"crc32c={part.checksums.crc32c},md5={part.checksums.md5}"
            return Response(200, b"", {**_EMPTY, "etag": part.etag, "x-goog-hash": hashes})

        return ObjectSink(self._buckets.draft(uri.bucket), request.headers, add, Sizes(most=LARGEST_PART))

    def complete_parts(self, request: Request, uri: GcsUri) -> Sink:
        upload = self._upload(request, uri)
        conditions = Conditions.parse_xml(request.query, request.headers)

        def complete(body: bytes) -> Response:
            stored = self._parts.complete(upload, body, conditions)
            location = f"{request.base}/{uri.bucket}/{quote(uri.object)}"
            named: list[Element] = [
                *(("Location", location), ("Bucket", uri.bucket), ("Key", uri.object)),
                ("ETag", f'"{xml_etag(stored)}"'),
            ]
            headers = object_headers(stored)
            return xml_response("CompleteMultipartUploadResult", named, UPLOAD_NAMESPACE, headers)

        return BodySink(complete)

    def list_parts(self, request: Request, uri: GcsUri) -> Sink:
        upload = self._upload(request, uri)
        query = request.query
        after = number_between(query, "part-number-marker", 0, MOST_PARTS, 0)
        most = number_between(query, "max-parts", 1, 1000, 1000)

        def answer(_body: bytes) -> Response:
            numbers = [number for number in sorted(upload.parts) if number > after]
            shown, more = numbers[:most], len(numbers) > most
            content: list[Element] = [
                *(("Bucket", uri.bucket), ("Key", uri.object), ("UploadId", upload.id)),
                ("StorageClass", upload.attributes.get("storageClass", "STANDARD")),
                ("PartNumberMarker", str(after)),
                *((("NextPartNumberMarker", str(shown[-1])),) if more else ()),
                *(("MaxParts", str(most)), ("IsTruncated", str(more).lower())),
                *_parts_of(upload, shown),
            ]
            return xml_response("ListPartsResult", content, UPLOAD_NAMESPACE)

        return BodySink(answer)

    def abort_parts(self, request: Request, uri: GcsUri) -> Sink:
        upload = self._upload(request, uri)

        def abort(_body: bytes) -> Response:
            self._parts.abort(upload)
            return Response(204)

        return BodySink(abort)

    def _upload(self, request: Request, uri: GcsUri) -> PartsUpload:
        self._buckets.bucket(uri.bucket)
        return self._parts.find(uri, request.query.get("uploadId"))

    def _check_target(self, request: Request, uri: GcsUri) -> None:
        """Raise XmlError if the upload belongs to another object."""
        upload_id = request.query.get("upload_id")
        if self._sessions.target(upload_id) not in (None, uri):
            raise _invalid(f"The upload {upload_id[:100]!r} is of another object than {uri}.")

    def _written(self, uri: GcsUri) -> Response:
        stored = self._buckets.with_checksums(self._buckets.find(uri))
        return Response(200, b"", {**_EMPTY, **object_headers(stored)})

    def _check_now(self, conditions: Conditions, uri: GcsUri) -> None:
        """Check the preconditions before the first byte, not only after the last one. Raises GcsError."""
        try:
            conditions.check_write(self._buckets.find(uri))
        except ObjectNotFound:
            conditions.check_write(None)


class _ResumableSink:
    """One request of a resumable session. In the XML API the final answer has no body."""

    def __init__(self, inner: Sink, written: Callable[[], Response]) -> None:
        self._inner = inner
        self._written = written

    def feed(self, data: bytes) -> None:
        self._inner.feed(data)

    def finish(self) -> Response:
        response = self._inner.finish()
        return self._written() if response.status == 200 and response.body else response

    def abandon(self) -> None:
        self._inner.abandon()


def _parts_of(upload: PartsUpload, numbers: list[int]) -> list[Element]:
    parts: list[tuple[int, Part | None]] = [(number, upload.parts.get(number)) for number in numbers]
    return [
        (
            "Part",
            [
                *(("PartNumber", str(number)), ("LastModified", time_of(part.uploaded))),
                *(("ETag", part.etag), ("Size", str(part.draft.size))),
            ],
        )
        for number, part in parts
        if part
    ]


def _invalid(details: str) -> XmlError:
    return XmlError(400, "InvalidArgument", "Invalid argument.", details)
