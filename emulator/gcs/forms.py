"""Uploads from HTML forms: a POST to a bucket with fields, a policy document and a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from urllib.parse import quote, urlencode, urlsplit

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from emulator.gcs.bucket_store import Buckets
from emulator.gcs.draft import Draft
from emulator.gcs.errors import XmlError, invalid
from emulator.gcs.policies import check_policy
from emulator.gcs.requests import Request, Response, boundary_of
from emulator.gcs.resources import xml_etag
from emulator.gcs.uploads import Sink
from emulator.gcs.xml_sinks import ObjectSink, new_attributes, object_headers, xml_response
from emulator.storage import GcsUri
from emulator.storage.metadata import StoredObject

_LONGEST_FIELDS = 128 << 10
_MOST_FIELDS = 200


class FormUploads:
    """Answers uploads from HTML forms."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    def upload(self, request: Request, uri: GcsUri) -> Sink:
        content_type = request.headers["content-type"]
        if not content_type.lower().startswith("multipart/form-data"):
            raise invalid(
                f"A POST to a bucket takes a form (multipart/form-data), not {content_type[:100]!r}."
            )
        self._buckets.bucket(uri.bucket)

        def open_file(fields: Mapping[str, str], filename: str) -> Sink:
            return self._open(request, uri.bucket, fields, filename)

        return _FormSink(boundary_of(content_type), open_file)

    def _open(self, request: Request, bucket: str, fields: Mapping[str, str], filename: str) -> Sink:
        sizes = check_policy({**fields, "bucket": bucket}, datetime.now(UTC))
        name = fields.get("key", "").replace("${filename}", filename)
        if not name:
            raise invalid("The form has no field key, which names the object.")
        named = {**fields, "x-goog-acl": fields.get("x-goog-acl") or fields.get("acl", "")}
        attributes = new_attributes(self._buckets.bucket(bucket), named)

        def publish(draft: Draft) -> Response:
            stored = self._buckets.publish(draft, GcsUri(bucket, name), attributes, lambda _: None)
            return _answer(request, stored, fields)

        return ObjectSink(self._buckets.draft(bucket), fields, publish, sizes)


class _FormSink:
    """Parses a form part by part. It keeps the fields and passes the file's bytes to another sink."""

    def __init__(self, boundary: str, open_file: Callable[[Mapping[str, str], str], Sink]) -> None:
        self._open_file = open_file
        self._fields: dict[str, str] = {}
        self._header = (bytearray(), bytearray())
        self._headers: dict[str, str] = {}
        self._name = ""
        self._value = bytearray()
        self._kept = 0
        self._file: Sink | None = None
        self._in_file = False
        self._ended = False
        self._parser = MultipartParser(
            boundary.encode("latin-1", "replace"),
            {
                "on_part_begin": self._begin_part,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_content,
                "on_part_data": self._content,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise invalid(f"The form cannot be read: {error}.") from None

    def finish(self) -> Response:
        if not self._ended:
            raise invalid("The form ends before its closing boundary.")
        if self._file is None:
            raise invalid("The form has no field file, which brings the object's bytes.")
        return self._file.finish()

    def abandon(self) -> None:
        if self._file is not None:
            self._file.abandon()

    def _begin_part(self) -> None:
        self._headers.clear()
        self._value.clear()

    def _end_header(self) -> None:
        name, value = (part.decode("utf-8", "replace") for part in self._header)
        self._headers[name.lower()] = value
        for part in self._header:
            part.clear()

    def _begin_content(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", ""))
        # The library decodes names as latin-1; browsers encode them as UTF-8.
        self._name, filename = (_text(options.get(name, b"")) for name in (b"name", b"filename"))
        if self._name.lower() == "file" and self._file is None:
            self._file = self._open_file(self._fields, filename.rpartition("/")[2])
            self._in_file = True

    def _content(self, data: bytes, start: int, end: int) -> None:
        if self._in_file and self._file:
            self._file.feed(data[start:end])
            return
        self._kept += end - start
        if self._kept > _LONGEST_FIELDS:
            text = "The fields of the form are too large."
            raise XmlError(
                400, "MaxPostPreDataLengthExceeded", text, f"The limit is {_LONGEST_FIELDS} bytes."
            )
        self._value += data[start:end]

    def _end_part(self) -> None:
        if self._in_file:
            self._in_file = False
        elif self._file is None:  # fields after the file are ignored
            self._fields[self._name.lower()] = self._value.decode("utf-8", "replace")
            if len(self._fields) > _MOST_FIELDS:
                raise invalid(f"The form has more than {_MOST_FIELDS} fields.")

    def _end(self) -> None:
        self._ended = True


def _text(option: bytes) -> str:
    try:
        return option.decode("latin-1").encode("latin-1").decode()
    except UnicodeDecodeError:
        return option.decode("latin-1")


def _answer(request: Request, stored: StoredObject, fields: Mapping[str, str]) -> Response:
    """Answer as the form's fields request: with a redirect, an XML document, or no body."""
    bucket, name, etag = stored.uri.bucket, stored.uri.object, f'"{xml_etag(stored)}"'
    headers = object_headers(stored)
    redirect = fields.get("success_action_redirect") or fields.get("redirect", "")
    if urlsplit(redirect).scheme in ("http", "https"):
        told = urlencode({"bucket": bucket, "key": name, "etag": etag})
        joint = "&" if "?" in redirect else "?"
        return Response(
            303, b"", {**headers, "location": quote(redirect, safe="%/:=&?~#+!$,;'@()*[]") + joint + told}
        )
    location = f"{request.base}/{bucket}/{quote(name)}"
    if fields.get("success_action_status") == "201":
        elements = [("Location", location), ("Bucket", bucket), ("Key", name), ("ETag", etag)]
        answer = xml_response("PostResponse", elements, headers={**headers, "location": location})
        return Response(201, answer.body, answer.headers)
    status = 200 if fields.get("success_action_status") == "200" else 204
    return Response(status, b"", {**headers, "location": location})
