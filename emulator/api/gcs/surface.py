"""From a URL of Cloud Storage to the call that answers it, and from errors to responses."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import unquote

from emulator.api.gcs.buckets import BucketCalls
from emulator.api.gcs.conditions import Conditions
from emulator.api.gcs.errors import GcsError, NotModified, from_storage, not_implemented
from emulator.api.gcs.messages import Request, Response, json_response
from emulator.api.gcs.objects import ObjectCalls
from emulator.storage import GcsUri, InvalidUri, StorageError
from emulator.storage.buckets import Buckets

_log = logging.getLogger(__name__)

JSON_PREFIX = "/storage/v1"
DOWNLOAD_PREFIX = "/download/storage/v1"

# What comes after an object or a bucket and is not emulated: 501 instead of 404.
_PARTS_NOT_EMULATED = {
    "acl": "Access control",
    "anywhereCaches": "Anywhere Cache",
    "defaultObjectAcl": "Access control",
    "folders": "Hierarchical namespace",
    "hmacKeys": "HMAC keys",
    "iam": "Access control",
    "lockRetentionPolicy": "Retention",
    "managedFolders": "Managed folders",
    "notificationConfigs": "Notifications",
    "restore": "Soft delete",
    "watch": "Watching for changes",
}


@dataclass(frozen=True)
class _Route:
    verb: str
    pattern: tuple[str, ...]
    call: Callable[..., Response]

    def match(self, segments: list[str]) -> list[str] | None:
        """The values of the pattern's `*`, or None."""
        if len(segments) != len(self.pattern):
            return None
        pairs = list(zip(self.pattern, segments, strict=True))
        if any(expected not in ("*", segment) for expected, segment in pairs):
            return None
        return [segment for expected, segment in pairs if expected == "*"]


class GcsSurface:
    """Answers Cloud Storage's requests, all but uploads. Synchronous and without any socket."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._objects = ObjectCalls(buckets)
        self._routes = list(_routes(BucketCalls(buckets), self._objects))

    def answer(self, request: Request) -> Response:
        """Answer a request below `/storage/v1` or `/download/storage/v1`."""
        return guarded(request, lambda: self._answer(request), _uri_of(request))

    def answer_xml(self, request: Request) -> Response:
        """Answer `GET /bucket/object`, the way Go's client and public URLs read objects."""
        bucket, _, name = request.path.lstrip("/").partition("/")
        response = guarded(request, lambda: self._download(request), GcsUri(bucket, unquote(name)))
        return response if response.status < 400 or response.status == 416 else _as_xml(response)

    def _download(self, request: Request) -> Response:
        bucket, _, name = "/".join(request.segments()).partition("/")
        conditions = Conditions.parse_xml(request.query, request.headers)
        return self._objects.download(request, GcsUri(bucket, name), conditions)

    def _answer(self, request: Request) -> Response:
        segments = request.segments()
        downloads = segments[0] == "download"
        segments = segments[3:] if downloads else segments[2:]
        allowed = []
        for route in self._routes:
            values = route.match(segments)
            if values is not None and route.verb == request.verb:
                if any(values[:1]) or not values:
                    return route.call(request, *values)
            elif values is not None:
                allowed.append(route.verb)
        for part in segments[::2]:
            if part in _PARTS_NOT_EMULATED:
                raise not_implemented(_PARTS_NOT_EMULATED[part])
        if allowed:
            message = f"{request.verb} is not possible here; use {' or '.join(sorted(set(allowed)))}."
            raise GcsError(405, "methodNotAllowed", message)
        message = f"There is nothing at {request.path}. An object's name must be percent-encoded, / as %2F."
        raise GcsError(404, "notFound", message)


def guarded(
    request: Request, call: Callable[[], Response], uri: GcsUri | None, *, reading: bool | None = None
) -> Response:
    """Call, and turn whatever it raises into an error response."""
    try:
        request.query.check()
        return call()
    except NotModified:
        return Response(304)
    except GcsError as error:
        return error_response(request, error)
    except (StorageError, InvalidUri) as error:
        if reading is None:
            reading = request.verb in ("GET", "DELETE", "PATCH")
        return error_response(request, from_storage(error, uri, reading=reading))
    except Exception as error:
        _log.exception("%s %s failed", request.method, request.path)
        # Emulator: it is a developer's tool, so the cause is told where the real service hides it.
        message = f"{type(error).__name__}: {error}. The log has the traceback."
        return error_response(request, GcsError(500, "internalError", message))


def error_response(request: Request, error: GcsError) -> Response:
    """Write an error; downloads have them in plain text."""
    if request.query.get("alt") == "media":
        return Response(error.code, error.message.encode(), {"content-type": "text/html; charset=UTF-8"})
    return json_response(error.to_json(), error.code)


def _uri_of(request: Request) -> GcsUri | None:
    """The object, or the bucket, that a request is about, for its error message."""
    with suppress(GcsError, IndexError):
        segments = request.segments()
        segments = segments[segments.index("b") :] if "b" in segments else []
        if segments[-1] == "compose":  # what is missing is one of the sources, not this object
            return None
        return GcsUri(segments[1], segments[3] if len(segments) > 3 and segments[2] == "o" else "")
    return None


def _as_xml(response: Response) -> Response:
    codes = {304: "NotModified", 404: "NoSuchKey", 412: "PreconditionFailed"}
    message = ""
    if isinstance(response.body, bytes) and response.body:
        with suppress(ValueError, KeyError):
            message = json.loads(response.body)["error"]["message"]
    code = codes.get(response.status, "InvalidRequest")
    body = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    document = f"<?xml version='1.0' encoding='UTF-8'?>{body}".encode()
    return Response(response.status, document, {"content-type": "application/xml; charset=UTF-8"})


def _routes(buckets: BucketCalls, objects: ObjectCalls) -> Iterator[_Route]:
    table: list[tuple[str, str, Any]] = [
        ("GET", "b", buckets.list),
        ("POST", "b", buckets.insert),
        ("GET", "b/*", buckets.get),
        ("PUT", "b/*", buckets.update),
        ("PATCH", "b/*", buckets.patch),
        ("DELETE", "b/*", buckets.delete),
        ("GET", "b/*/storageLayout", buckets.storage_layout),
        ("GET", "b/*/iam", buckets.iam_policy),
        ("GET", "b/*/iam/testPermissions", buckets.test_permissions),
        ("GET", "b/*/acl", buckets.nothing("bucketAccessControls")),
        ("GET", "b/*/defaultObjectAcl", buckets.nothing("objectAccessControls")),
        ("GET", "b/*/notificationConfigs", buckets.nothing("notifications")),
        ("GET", "b/*/folders", buckets.nothing("folders")),
        ("GET", "b/*/managedFolders", buckets.nothing("managedFolders")),
        ("GET", "b/*/o", objects.list),
        ("GET", "b/*/o/*", objects.get),
        ("PUT", "b/*/o/*", objects.update),
        ("PATCH", "b/*/o/*", objects.patch),
        ("DELETE", "b/*/o/*", objects.delete),
        ("GET", "b/*/o/*/acl", buckets.nothing("objectAccessControls")),
        ("POST", "b/*/o/*/compose", objects.compose),
        ("POST", "b/*/o/*/copyTo/b/*/o/*", objects.copy),
        ("POST", "b/*/o/*/rewriteTo/b/*/o/*", objects.rewrite),
        ("POST", "b/*/o/*/moveTo/o/*", objects.move),
        ("GET", "projects/*/hmacKeys", lambda request, _: buckets.nothing("hmacKeysMetadata")(request)),
    ]
    for verb, pattern, call in table:
        yield _Route(verb, tuple(pattern.split("/")), call)
