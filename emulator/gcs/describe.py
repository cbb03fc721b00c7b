"""Describes a Cloud Storage request for journal and faults, and writes the response of a fault."""

import json
from contextlib import suppress

from emulator.gcs.addressing import address
from emulator.gcs.errors import GcsError, XmlError
from emulator.gcs.requests import Query, Request, Response
from emulator.gcs.resumable import Sessions
from emulator.gcs.surface import GcsSurface, error_response
from emulator.gcs.xml_surface import error_document
from emulator.instructions.faults import UNKNOWN_STORAGE_METHOD, RpcFault
from emulator.service.control import StorageCall
from emulator.storage import GcsUri
from emulator.vertex.errors import CATALOGUE

_INSERT = "storage.objects.insert"
_FAILED_PRECONDITION, _UNAVAILABLE = 9, 14
_PRECONDITION_FAILED = 412
_STATUSES = {_PRECONDITION_FAILED: "FAILED_PRECONDITION", 405: "UNIMPLEMENTED", 416: "OUT_OF_RANGE"}
_REASONS = {
    400: "invalid",
    401: "authError",
    403: "forbidden",
    404: "notFound",
    409: "conflict",
    _PRECONDITION_FAILED: "conditionNotMet",
    429: "rateLimitExceeded",
    500: "internalError",
    501: "notImplemented",
}
_XML_METHODS = {
    ("service", "GET"): "storage.buckets.list",
    ("bucket", "GET"): "storage.objects.list",
    ("bucket", "PUT"): "storage.buckets.insert",
    ("bucket", "DELETE"): "storage.buckets.delete",
    ("bucket", "POST"): _INSERT,
    ("object", "GET"): "storage.objects.get",
    ("object", "PUT"): _INSERT,
    ("object", "POST"): _INSERT,
    ("object", "DELETE"): "storage.objects.delete",
}
_XML_UPLOADS = ("uploadId", "upload_id", "uploads")


class Describe:
    """Finds the method, bucket and object of a request."""

    def __init__(self, surface: GcsSurface, sessions: Sessions) -> None:
        self._surface = surface
        self._sessions = sessions

    def json(self, request: Request, head: bytes = b"") -> StorageCall:
        """Describe a request of the JSON API. `head`: the start of its body, if the name is in the body."""
        segments: list[str] = []
        with suppress(GcsError):
            segments = request.segments()
        at = segments.index("b") if "b" in segments else len(segments)
        below = [*segments[at + 1 :], "", "", ""]
        if "upload" in segments[:at]:
            uri = self._sessions.target(request.query.get("upload_id"))
            uri = uri or GcsUri(below[0], request.query.get("name") or _name_in(head))
            return _call(_INSERT, uri.bucket, uri.object, "json", request)
        method = self._surface.name(request) if segments else ""
        bucket = below[0] or _name_in(head)
        name = below[2] if below[1] == "o" else ""
        return _call(method or UNKNOWN_STORAGE_METHOD, bucket, name, "json", request)

    def xml(self, request: Request) -> StorageCall:
        """Describe a request of the XML API."""
        uri = GcsUri("", "")
        with suppress(GcsError):
            uri = address(request.path, request.headers.get("host", ""))
        level = "object" if uri.object else "bucket" if uri.bucket else "service"
        method = _XML_METHODS.get((level, request.verb), UNKNOWN_STORAGE_METHOD)
        if level == "object" and any(request.query.all(name) for name in _XML_UPLOADS):
            method = _INSERT
        elif method == _INSERT and "x-goog-copy-source" in request.headers:
            method = "storage.objects.copy"
        return _call(method, uri.bucket, uri.object, "xml", request)


def status_of(http_status: int) -> str:
    """Return the google.rpc name of an HTTP status, as in `OK` and `NOT_FOUND`."""
    if http_status < 400:
        return "OK"
    usual = (3, 13, *CATALOGUE)  # if codes share an HTTP status, the most usual one comes first
    named = (CATALOGUE[code].status for code in usual if CATALOGUE[code].http_status == http_status)
    return _STATUSES.get(http_status) or next(named, "UNKNOWN")


def faulty(request: Request, fault: RpcFault, number: int, *, is_json: bool) -> Response:
    """Return the error response of an injected fault, in the format of the API that was called."""
    code = fault.code or _UNAVAILABLE
    status = _PRECONDITION_FAILED if code == _FAILED_PRECONDITION else CATALOGUE[code].http_status
    message = fault.message or f"This call fails because a fault was asked for (fault {number})."
    error = GcsError(status, _REASONS.get(status, "backendError"), message)
    return error_response(request, error) if is_json else error_document(XmlError.of(error))


def _call(method: str, bucket: str, name: str, api: str, request: Request) -> StorageCall:
    return StorageCall(method, bucket, name, api, _parameters(request.query), request.headers)


def _parameters(query: Query) -> dict[str, str]:
    # Values that are not printable text are left out of the journal.
    values = {name: query.get(name) for name in query.names()}
    return {name: value for name, value in values.items() if value.isprintable()}


def _name_in(head: bytes) -> str:
    """Return the member `name` of the JSON at the start of a body; "" if it cannot be parsed."""
    text = head.decode(errors="replace")
    with suppress(ValueError):
        value, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
        return str(value.get("name", ""))
    return ""
