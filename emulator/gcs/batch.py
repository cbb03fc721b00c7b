"""Batches: several calls in one `multipart/mixed` request. Each part is an HTTP request."""

import secrets
from collections.abc import Callable, Iterator
from email.message import Message
from email.parser import BytesParser
from http import HTTPStatus
from urllib.parse import urlsplit

from emulator.gcs.errors import GcsError, invalid
from emulator.gcs.requests import Query, Request, Response, boundary_of

# Emulator: Cloud Storage accepts 100 calls, but its Python client sends up to 1000.
_MOST_CALLS = 1000


def answer_batch(request: Request, answer: Callable[[Request], Response]) -> Response:
    """Answer the calls of a batch in order. Raises GcsError if the batch is malformed."""
    boundary = f"batch_{secrets.token_urlsafe(16)}"
    lines: list[bytes] = []
    for number, part in enumerate(list(_parts(request)), 1):  # parse every part before any call runs
        try:
            response = answer(_request(request, part))
        except GcsError as error:
            response = Response(error.code, error.message.encode(), {"content-type": "text/plain"})
        lines.append(_part(boundary, _content_id(part) or str(number), response))
    body = b"".join([*lines, f"--{boundary}--\r\n".encode()])
    return Response(200, body, {"content-type": f"multipart/mixed; boundary={boundary}"})


def _parts(request: Request) -> Iterator[Message]:
    boundary = boundary_of(request.headers.get("content-type", "")).replace('"', "")
    head = f'content-type: multipart/mixed; boundary="{boundary}"\r\n\r\n'.encode()
    message = BytesParser().parsebytes(head + request.body)
    parts = message.get_payload()
    if not isinstance(parts, list):
        raise invalid("The batch does not hold the boundary that its Content-Type names.")
    if len(parts) > _MOST_CALLS:
        raise invalid(f"The batch holds {len(parts)} calls, the limit is {_MOST_CALLS}.")
    for part in parts:
        assert isinstance(part, Message)
        yield part


def _request(batch: Request, part: Message) -> Request:
    payload = part.get_payload(decode=True)
    raw = payload if isinstance(payload, bytes) else b""
    line, _, rest = raw.lstrip().partition(b"\n")
    words = line.decode("latin-1").split()
    if len(words) < 2:
        raise invalid("A part of the batch does not begin with a request line.")
    inner = BytesParser().parsebytes(rest)
    body = inner.get_payload(decode=True)
    url = urlsplit(words[1])
    return Request(
        method=words[0],
        path=url.path,
        query=Query(url.query),
        headers={name.lower(): str(value) for name, value in inner.items()},
        base=batch.base,
        body=body.strip() if isinstance(body, bytes) else b"",
    )


def _part(boundary: str, content_id: str, response: Response) -> bytes:
    body = response.body
    if not isinstance(body, bytes):
        body.file.close()
        response = Response(400, b"A batch cannot hold downloads.", {"content-type": "text/plain"})
        return _part(boundary, content_id, response)
    reply = content_id[1:] if content_id.startswith("<") else content_id
    closing = "" if reply.endswith(">") or not content_id.startswith("<") else ">"
    identity = f"<response-{reply}{closing}" if content_id.startswith("<") else f"response-{reply}"
    headers = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    head = (
        f"--{boundary}\r\ncontent-type: application/http\r\ncontent-id: {identity}\r\n\r\n"
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n{headers}"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode(errors="surrogateescape") + body + b"\r\n"


def _content_id(part: Message) -> str:
    """Return a part's Content-ID on one line, with its bytes unchanged: it may not be ASCII or UTF-8."""
    values = [str(value) for name, value in part.raw_items() if name.lower() == "content-id"]
    return " ".join(values[0].split()) if values else ""
