"""Requests and responses of the Cloud Storage surface, without sockets."""

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from email.message import Message
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, unquote_to_bytes

from emulator.gcs.errors import invalid

MAX_JSON = 10 << 20
_JSON = "application/json; charset=UTF-8"
_LONE_BYTE = re.compile("[\udc80-\udcff]")  # surrogateescape: Python's form of a byte that is not UTF-8
_FORM = "application/x-www-form-urlencoded"
_METHOD_OVERRIDE = "x-http-method-override"


class Query:
    """The parameters of a URL."""

    def __init__(self, text: str) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in parse_qsl(text, keep_blank_values=True, errors="surrogateescape"):
            self._values.setdefault(name, []).append(value)

    def joined(self, text: str) -> "Query":
        """Return these parameters and those of another query string."""
        joined = Query(text)
        for name, values in self._values.items():
            joined._values[name] = values + joined._values.get(name, [])
        return joined

    def check(self) -> None:
        """Raise GcsError if a value is not UTF-8: the name that it means is unknown."""
        for name, values in self._values.items():
            if any(_LONE_BYTE.search(text) for text in (name, *values)):
                message = f"Invalid value for {name!a}: it is not percent-encoded UTF-8."
                raise invalid(message, location=ascii(name)[1:-1])

    def get(self, name: str, default: str = "") -> str:
        """Return the last value of a parameter, or the default."""
        return self._values.get(name, [default])[-1]

    def all(self, name: str) -> list[str]:
        """Return every value of a parameter."""
        return self._values.get(name, [])

    def names(self) -> list[str]:
        """Return the names of all parameters."""
        return list(self._values)

    def flag(self, name: str) -> bool:
        """Return whether a parameter's value is true."""
        return self.get(name).lower() == "true"

    def number(self, name: str) -> int | None:
        """Return a parameter's value as an integer, None if it is not given. Raises GcsError."""
        text = self.get(name)
        if not text:
            return None
        try:
            return int(text)
        except ValueError:
            raise invalid(f"Invalid value for {name}: {text!r} is no whole number.", location=name) from None


@dataclass(frozen=True)
class Request:
    """A request. `path` is percent-encoded, `headers` are by lower-case name, `base` is the server's URL
    as the client sees it, `http://host:port`."""

    method: str
    path: str
    query: Query
    headers: Mapping[str, str]
    base: str
    body: bytes = b""

    @property
    def verb(self) -> str:
        """The method, after X-HTTP-Method-Override: Java's HTTP client cannot send PATCH itself."""
        override = self.headers.get(_METHOD_OVERRIDE, "") if self.method == "POST" else ""
        method = override.strip().upper() or self.method
        return "GET" if method == "HEAD" else method

    def with_form_as_query(self) -> "Request":
        """Return the request with its form's fields as query parameters: Google's Python API client POSTs
        parameters as a form if the URL would be too long."""
        is_form = self.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM
        if not is_form or _METHOD_OVERRIDE not in self.headers or self.verb != "GET":
            return self
        return replace(self, query=self.query.joined(self.body.decode(errors="surrogateescape")), body=b"")

    def segments(self) -> list[str]:
        """Return the decoded segments of the path. An object's name, with its slashes, is one segment."""
        try:
            raw = self.path.strip("/").encode(errors="surrogateescape")
            return [unquote_to_bytes(segment).decode() for segment in raw.split(b"/")]
        except UnicodeDecodeError:
            raise invalid("The path is not percent-encoded UTF-8.") from None

    def json(self) -> dict[str, Any]:
        """Parse the body as a JSON object; an empty body gives {}. Raises GcsError."""
        return parse_json(self.body, self.headers)


def parse_json(body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    """Parse a JSON object, gzipped if the headers say so (Java's client does that). Raises GcsError."""
    if headers.get("content-encoding", "").lower() == "gzip" and body:
        body = b"".join(gunzip(zlib.decompressobj(wbits=31), body))
    try:
        value = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError) as error:
        raise invalid(f"Parse Error: the body is not JSON ({error}).") from None
    if not isinstance(value, dict):
        raise invalid("Parse Error: the body is not a JSON object.")
    return value


def boundary_of(content_type: str) -> str:
    """Return the boundary of a multipart Content-Type. Raises GcsError."""
    parsed = Message()
    parsed["content-type"] = content_type
    boundary = parsed.get_boundary()
    if not boundary:
        raise invalid("A multipart body needs a boundary in its Content-Type.")
    # gcloud puts it into single quotes, which do not quote in a header.
    return boundary[1:-1] if len(boundary) > 2 and boundary[0] == boundary[-1] == "'" else boundary


def gunzip(decompressor: Any, data: bytes, limit: int | None = MAX_JSON) -> Iterator[bytes]:
    """Decompress in pieces of at most a megabyte, so that a small body cannot exhaust memory."""
    total = 0
    try:
        while data and not decompressor.eof:
            piece = decompressor.decompress(data, 1 << 20)
            data = decompressor.unconsumed_tail
            total += len(piece)
            if limit is not None and total > limit:
                raise invalid(f"The body exceeds the limit of {limit} bytes.")
            yield piece
    except zlib.error as error:
        raise invalid(f"The body is not gzip as its Content-Encoding says ({error}).") from None


@dataclass(frozen=True)
class Media:
    """Part of an open file, to be sent as a body and then closed."""

    file: BinaryIO
    start: int
    length: int | None  # None: to the end of the file


@dataclass(frozen=True)
class Response:
    """A response; `body` is bytes or part of a file."""

    status: int
    body: bytes | Media = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def json_response(value: Mapping[str, Any], status: int = 200) -> Response:
    """Return an answer with a JSON body."""
    body = json.dumps(value, separators=(",", ":")).encode()
    etag = {"etag": value["etag"]} if "etag" in value else {}
    return Response(status, body, {"content-type": _JSON, "cache-control": "no-cache", **etag})
