"""Routes requests of the JSON API to the calls that answer them, and turns errors into responses."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from emulator.gcs.acl_calls import AclCalls
from emulator.gcs.bucket_store import Buckets
from emulator.gcs.buckets import BucketCalls
from emulator.gcs.errors import GcsError, NotModified, from_storage, not_implemented
from emulator.gcs.objects import ObjectCalls
from emulator.gcs.requests import Request, Response, json_response
from emulator.storage import GcsUri, InvalidUri, StorageError

_log = logging.getLogger(__name__)

JSON_PREFIX = "/storage/v1"
DOWNLOAD_PREFIX = "/download/storage/v1"

# Collections below a bucket or an object that are not emulated: 501 instead of 404.
_PARTS_NOT_EMULATED = {
    "anywhereCaches": "Anywhere Cache",
    "bulkRestore": "Restoring several objects at once",
    "folders": "Hierarchical namespace",
    "hmacKeys": "HMAC keys",
    "iam": "Access control of single objects",
    "managedFolders": "Managed folders",
    "notificationConfigs": "Notifications",
    "operations": "Long-running operations",
    "relocate": "Moving a bucket",
    "restore": "Soft delete of buckets",
    "watch": "Watching for changes",
}


@dataclass(frozen=True)
class _Route:
    verb: str
    pattern: tuple[str, ...]
    name: str
    call: Callable[..., Response]

    def match(self, segments: list[str]) -> list[str] | None:
        """Return the values of the pattern's `*`; None if the path does not match."""
        if len(segments) != len(self.pattern):
            return None
        pairs = list(zip(self.pattern, segments, strict=True))
        if any(expected not in ("*", segment) for expected, segment in pairs):
            return None
        return [segment for expected, segment in pairs if expected == "*"]


class GcsSurface:
    """Answers the JSON API's requests, except uploads. It is synchronous and uses no socket."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self.objects = ObjectCalls(buckets)
        lists = [
            ("b/*/acl", "bucketAccessControls", AclCalls(buckets, "acl")),
            ("b/*/defaultObjectAcl", "defaultObjectAccessControls", AclCalls(buckets, "defaultObjectAcl")),
            ("b/*/o/*/acl", "objectAccessControls", AclCalls(buckets, "")),
        ]
        self._routes = list(_routes(BucketCalls(buckets), self.objects, lists))

    def answer(self, request: Request) -> Response:
        """Answer a request below `/storage/v1` or `/download/storage/v1`."""
        return guarded(request, lambda: self._answer(request), _uri_of(request))

    def name(self, request: Request) -> str:
        """Return the method that a request calls, as in `storage.objects.get`; "" if there is none."""
        segments = _below_prefix(request)
        fitting = (route for route in self._routes if route.match(segments) is not None)
        return next((route.name for route in fitting if route.verb == request.verb), "")

    def _answer(self, request: Request) -> Response:
        segments = _below_prefix(request)
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
    """Run `call` and turn any exception into an error response.

    Args:
        request: the request that is answered.
        call: returns the response.
        uri: the object or bucket to name in errors, if known.
        reading: answer 404, not 400, for a name that no object can have; None derives it from the method.
    """
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
        # Emulator: the message names the cause, which the real service hides: this is a developer's tool.
        message = f"{type(error).__name__}: {error}. The log has the traceback."
        return error_response(request, GcsError(500, "internalError", message))


def error_response(request: Request, error: GcsError) -> Response:
    """Return an error response: JSON, or plain text for a download."""
    if request.query.get("alt") == "media":
        return Response(error.code, error.message.encode(), {"content-type": "text/html; charset=UTF-8"})
    return json_response(error.to_json(), error.code)


def _below_prefix(request: Request) -> list[str]:
    segments = request.segments()
    return segments[3:] if segments[0] == "download" else segments[2:]


def _uri_of(request: Request) -> GcsUri | None:
    """Return the object or bucket in a request's path, for error messages; None if there is none."""
    with suppress(GcsError, IndexError):
        segments = request.segments()
        segments = segments[segments.index("b") :] if "b" in segments else []
        if segments[-1] == "compose":  # here an error concerns a source, not this object
            return None
        return GcsUri(segments[1], segments[3] if len(segments) > 3 and segments[2] == "o" else "")
    return None


def _routes(
    buckets: BucketCalls, objects: ObjectCalls, lists: Sequence[tuple[str, str, AclCalls]]
) -> Iterator[_Route]:
    table: list[tuple[str, str, str, Any]] = [
        ("GET", "b", "buckets.list", buckets.list),
        ("POST", "b", "buckets.insert", buckets.insert),
        ("GET", "b/*", "buckets.get", buckets.get),
        ("PUT", "b/*", "buckets.update", buckets.update),
        ("PATCH", "b/*", "buckets.patch", buckets.patch),
        ("DELETE", "b/*", "buckets.delete", buckets.delete),
        ("GET", "b/*/storageLayout", "buckets.getStorageLayout", buckets.storage_layout),
        ("POST", "b/*/lockRetentionPolicy", "buckets.lockRetentionPolicy", buckets.lock_retention_policy),
        ("GET", "b/*/iam", "buckets.getIamPolicy", buckets.get_policy),
        ("PUT", "b/*/iam", "buckets.setIamPolicy", buckets.set_policy),
        ("GET", "b/*/iam/testPermissions", "buckets.testIamPermissions", buckets.test_permissions),
        ("GET", "b/*/notificationConfigs", "notifications.list", buckets.nothing("notifications")),
        ("GET", "b/*/folders", "folders.list", buckets.nothing("folders")),
        ("GET", "b/*/managedFolders", "managedFolders.list", buckets.nothing("managedFolders")),
        ("GET", "b/*/o", "objects.list", objects.list),
        ("GET", "b/*/o/*", "objects.get", objects.get),
        ("PUT", "b/*/o/*", "objects.update", objects.update),
        ("PATCH", "b/*/o/*", "objects.patch", objects.patch),
        ("DELETE", "b/*/o/*", "objects.delete", objects.delete),
        ("POST", "b/*/o/*/restore", "objects.restore", objects.restore),
        ("POST", "b/*/o/*/compose", "objects.compose", objects.compose),
        ("POST", "b/*/o/*/copyTo/b/*/o/*", "objects.copy", objects.copy),
        ("POST", "b/*/o/*/rewriteTo/b/*/o/*", "objects.rewrite", objects.rewrite),
        ("POST", "b/*/o/*/moveTo/o/*", "objects.move", objects.move),
        ("GET", "projects/*/serviceAccount", "projects.serviceAccount.get", buckets.service_account),
        (
            "GET",
            "projects/*/hmacKeys",
            "projects.hmacKeys.list",
            lambda request, _: buckets.nothing("hmacKeysMetadata")(request),
        ),
    ]
    for where, resource, calls in lists:
        table += [
            ("GET", where, f"{resource}.list", calls.list),
            ("POST", where, f"{resource}.insert", calls.insert),
            ("GET", f"{where}/*", f"{resource}.get", calls.get),
            ("PUT", f"{where}/*", f"{resource}.update", calls.update),
            ("PATCH", f"{where}/*", f"{resource}.patch", calls.update),
            ("DELETE", f"{where}/*", f"{resource}.delete", calls.delete),
        ]
    for verb, pattern, name, call in table:
        yield _Route(verb, tuple(pattern.split("/")), f"storage.{name}", call)
