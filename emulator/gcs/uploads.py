"""Uploads in one request, simple and multipart, as sinks that receive the body piece by piece."""

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.message import Message
from email.parser import BytesParser
from typing import Any, Protocol

from emulator.gcs.acl import check_lists_allowed
from emulator.gcs.bucket_store import Buckets
from emulator.gcs.conditions import Conditions
from emulator.gcs.configuration import check_bucket_allows, object_attributes, parameters
from emulator.gcs.draft import Draft
from emulator.gcs.encryption import encryption_attributes, key_digest
from emulator.gcs.errors import invalid, required
from emulator.gcs.requests import Request, Response, boundary_of, gunzip, json_response, parse_json
from emulator.gcs.resources import OCTET_STREAM, object_json
from emulator.storage import GcsUri, ObjectNotFound
from emulator.storage.metadata import Attributes

_LONGEST_PREAMBLE = 1 << 20


class Sink(Protocol):
    """Receives a request's body. Every method may raise GcsError, StorageError and InvalidUri."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""

    def finish(self) -> Response:
        """Return the response. Called after the last byte."""

    def abandon(self) -> None:
        """Clean up. Called if the client is gone or a method has raised."""


@dataclass(frozen=True)
class Target:
    """The object that an upload creates."""

    uri: GcsUri
    attributes: Attributes
    conditions: Conditions
    hashes: tuple[tuple[str, str], ...]  # as the client gave them: CRC32C or MD5, value
    full: bool  # the answer includes the access control list

    @classmethod
    def parse(
        cls, buckets: Buckets, request: Request, bucket: str, body: Mapping[str, Any], media_type: str
    ) -> "Target":
        """Build the target from URL, metadata and headers. Raises GcsError."""
        name = request.query.get("name") or body.get("name")
        if not isinstance(name, str) or not name:
            raise required("name")
        stored_bucket = buckets.bucket(bucket)
        if "acl" in body:
            check_lists_allowed(stored_bucket.attributes)
        named = {"contentEncoding": request.query.get("contentEncoding") or None, **body}
        attributes = {
            "contentType": media_type or OCTET_STREAM,
            **object_attributes(named),
            **parameters(request.query, stored_bucket.attributes),
            **encryption_attributes(key_digest(request.headers)),
        }
        check_bucket_allows(attributes, stored_bucket)
        conditions = Conditions.parse(request.query, request.headers)
        told = [("CRC32C", _text(body, "crc32c")), ("MD5", _text(body, "md5Hash"))]
        hashes = tuple((kind, value) for kind, value in told if value)
        projection = request.query.get("projection", "full" if "acl" in body else "noAcl")
        target = cls(GcsUri(bucket, name), attributes, conditions, hashes, projection == "full")
        return target.with_hashes(request.headers)

    def with_hashes(self, headers: Mapping[str, str]) -> "Target":
        """Return the target with the checksums from these headers added: all given checksums are compared."""
        pairs = (entry.strip().partition("=") for entry in headers.get("x-goog-hash", "").split(","))
        told = [(name.strip().upper(), value.strip()) for name, _, value in pairs]
        told += [("MD5", entry.strip()) for entry in headers.get("content-md5", "").split(",")]
        known = tuple((kind, value) for kind, value in told if kind in ("CRC32C", "MD5") and value)
        return replace(self, hashes=(*self.hashes, *known))

    def check(self, buckets: Buckets) -> None:
        """Refuse before the first byte what would be refused after the last one. Raises GcsError."""
        try:
            self.conditions.check_write(buckets.find(self.uri))
        except ObjectNotFound:
            self.conditions.check_write(None)

    def publish(self, buckets: Buckets, draft: Draft, base: str) -> Response:
        """Compare the checksums, publish the draft as the object, and return the response."""
        found = draft.checksums()
        computed = {"MD5": found.md5, "CRC32C": found.crc32c}
        for kind, told in self.hashes:
            if told != computed[kind]:
                draft.discard()
                text = (
                    f'Provided {kind} hash "{told}" doesn\'t match calculated {kind} hash "{computed[kind]}".'
                )
                raise invalid(text)
        stored = buckets.publish(draft, self.uri, self.attributes, self.conditions.check_write)
        bucket = buckets.bucket(self.uri.bucket)
        return json_response(object_json(stored, base, bucket, full=self.full))


class MediaSink:
    """The sink of a simple upload: the body is the object."""

    def __init__(self, buckets: Buckets, target: Target, base: str) -> None:
        self._buckets = buckets
        self._target = target
        self._base = base
        target.check(buckets)
        self._draft = buckets.draft(target.uri.bucket)

    def feed(self, data: bytes) -> None:
        self._draft.append(data)

    def finish(self) -> Response:
        return self._target.publish(self._buckets, self._draft, self._base)

    def abandon(self) -> None:
        self._draft.discard()


class MultipartSink:
    """The sink of a multipart upload: metadata as JSON, then the object, separated by a boundary."""

    def __init__(self, content_type: str, open_media: Callable[[bytes, Message], MediaSink]) -> None:
        """Prepare to parse. `open_media` is called with the metadata and the second part's headers."""
        self._boundary = b"--" + boundary_of(content_type).encode("latin-1", "replace")
        self._open_media = open_media
        self._buffer = bytearray()
        self._delimiter = b""
        self._media: MediaSink | None = None
        self._ended = False

    def feed(self, data: bytes) -> None:
        if self._ended:  # ignore the epilogue
            return
        self._buffer += data
        if self._media is None:
            self._read_preamble()
        if self._media is not None:
            self._pass_on(self._media)

    def finish(self) -> Response:
        if self._media is None or not self._ended:
            raise invalid("The multipart body ends before its closing boundary.")
        return self._media.finish()

    def abandon(self) -> None:
        if self._media is not None:
            self._media.abandon()

    def _read_preamble(self) -> None:
        """Parse everything before the second part's content, once it has all arrived."""
        boundary = re.escape(self._boundary)
        # Some clients end lines with a bare line feed. All lines end as the first one does.
        line = rb"[ \t]*(\r?\n)"
        headers = rb"((?:[^\r\n]+\r?\n)*)\r?\n"
        pattern = rb"(?:\r?\n)*" + boundary + line + headers + rb"(.*?)\r?\n" + boundary + line + headers
        match = re.match(pattern, self._buffer, re.DOTALL)
        if match is None:
            if len(self._buffer) > _LONGEST_PREAMBLE:
                raise invalid("The multipart body does not begin with two parts, the first of them JSON.")
            return
        self._delimiter = match[1] + self._boundary
        self._media = self._open_media(match[3], BytesParser().parsebytes(match[5]))
        del self._buffer[: match.end()]

    def _pass_on(self, media: MediaSink) -> None:
        end = self._buffer.find(self._delimiter)
        self._ended = end >= 0
        # Hold back the last bytes: they may be the beginning of the delimiter.
        count = end if self._ended else max(0, len(self._buffer) - len(self._delimiter) + 1)
        if count:
            media.feed(bytes(memoryview(self._buffer)[:count]))
            del self._buffer[:count]


class GunzipSink:
    """Decompresses a body for another sink."""

    def __init__(self, inner: Sink) -> None:
        self._inner = inner
        self._decompressor = zlib.decompressobj(wbits=31)

    def feed(self, data: bytes) -> None:
        for piece in gunzip(self._decompressor, data, limit=None):
            self._inner.feed(piece)

    def finish(self) -> Response:
        if not self._decompressor.eof:
            raise invalid("The gzipped body ends too early.")
        return self._inner.finish()

    def abandon(self) -> None:
        self._inner.abandon()


def media_sink(buckets: Buckets, request: Request, bucket: str) -> Sink:
    """Return the sink for a simple upload. Raises GcsError."""
    media_type = request.headers.get("content-type", "")
    encoding = request.headers.get("content-encoding") or None
    target = Target.parse(
        buckets, request, bucket, {"contentEncoding": encoding} if encoding else {}, media_type
    )
    return MediaSink(buckets, target, request.base)


def multipart_sink(buckets: Buckets, request: Request, bucket: str) -> Sink:
    """Return the sink for a multipart upload. Raises GcsError."""

    def open_media(metadata: bytes, headers: Message) -> MediaSink:
        body = parse_json(metadata, {})
        target = Target.parse(buckets, request, bucket, body, str(headers.get("content-type") or ""))
        return MediaSink(buckets, target, request.base)

    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "multipart/related":
        # multipart/form-data is refused, because a form on any web page can send it.
        raise invalid(f"A multipart upload must be multipart/related, it is {content_type[:100]!r}.")
    sink = MultipartSink(content_type, open_media)
    gzipped = request.headers.get("content-encoding", "").lower() == "gzip"
    return GunzipSink(sink) if gzipped else sink


def _text(body: Mapping[str, Any], name: str) -> str:
    return str(body.get(name) or "")
