"""Writes errors as AIP-193 JSON, for every surface that answers in JSON."""

from http import HTTPStatus
from typing import Any

from emulator.api.transcoding import dump_json
from emulator.http import HttpResponse
from emulator.vertex.errors import ApiError
from emulator.vertex.messages import to_json

JSON_HEADERS = {
    "content-type": "application/json; charset=UTF-8",
    # Vertex: recorded headers of the front end.
    "vary": "Origin, X-Origin, Referer",
    "x-content-type-options": "nosniff",
}
# The google.rpc names of HTTP statuses; any other status has its HTTP name.
_STATUS_NAMES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 405: "UNIMPLEMENTED"}


def json_response(value: Any, status: int = 200, *, pretty: bool = True) -> HttpResponse:
    """Return a response with a JSON body."""
    return HttpResponse(status, dump_json(value, pretty=pretty), JSON_HEADERS)


def error_response(error: ApiError) -> HttpResponse:
    """Return an error as AIP-193 JSON: the HTTP status as code, then message, status and details."""
    details = to_json(error.to_status()).get("details", [])
    return _error(error.http_status, error.message, error.status, details)


def plain_error(http_status: int, message: str) -> HttpResponse:
    """Return the AIP-193 JSON of an error of HTTP itself, such as an unknown path."""
    name = _STATUS_NAMES.get(http_status, HTTPStatus(http_status).name)
    return _error(http_status, message, name, [])


def _error(http_status: int, message: str, status: str, details: list[Any]) -> HttpResponse:
    error = {"code": http_status, "message": message, "status": status}
    if details:
        error["details"] = details
    return json_response({"error": error}, http_status)
