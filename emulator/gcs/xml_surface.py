"""Routes requests of the XML API to sinks, which receive the body and answer, and writes errors as XML."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from emulator.gcs.addressing import address
from emulator.gcs.bucket_store import Buckets
from emulator.gcs.errors import GcsError, NotModified, XmlError, xml_from_storage
from emulator.gcs.forms import FormUploads
from emulator.gcs.objects import ObjectCalls
from emulator.gcs.parts import PartsUploads
from emulator.gcs.requests import Request, Response
from emulator.gcs.resumable import Sessions
from emulator.gcs.signed_urls import check_expiry
from emulator.gcs.uploads import Sink
from emulator.gcs.xml_buckets import XmlBuckets
from emulator.gcs.xml_documents import document
from emulator.gcs.xml_objects import XmlObjects
from emulator.gcs.xml_uploads import XmlUploads
from emulator.storage import GcsUri, InvalidUri, StorageError

_log = logging.getLogger(__name__)

#: Parameters of features that are not emulated: they are answered with 501 and an alternative.
NOT_EMULATED = {
    "acl": "Access control is not emulated",
    "billing": "Requester pays is not emulated",
    "compose": "Compose objects with the JSON API; over XML that is not emulated",
    "cors": "Set a bucket's CORS configuration with the JSON API; over XML that is not emulated",
    "defaultObjectAcl": "Access control is not emulated",
    "delete": "Delete several objects with a batch of the JSON API; over XML that is not emulated",
    "encryption": "Encryption keys are not emulated",
    "encryptionConfig": "Encryption keys are not emulated",
    "iam": "Access control is not emulated",
    "inventory": "Inventory reports are not emulated",
    "legal-hold": "Set holds with the JSON API; over XML that is not emulated",
    "lifecycle": "Set a bucket's life cycle with the JSON API; over XML that is not emulated",
    "logging": "Usage logs are not emulated",
    "object-lock": "Set retention with the JSON API; over XML that is not emulated",
    "policy": "Access control is not emulated",
    "requestPayment": "Requester pays is not emulated",
    "retention": "Set retention with the JSON API; over XML that is not emulated",
    "storageClass": "Set a bucket's storage class with the JSON API; over XML that is not emulated",
    "tagging": "Set a bucket's labels with the JSON API; over XML that is not emulated",
    "versioning": "Set a bucket's versioning with the JSON API; over XML that is not emulated",
    "versions": "List versions with the JSON API; over XML that is not emulated",
    "website": "Web sites are not emulated",
}


@dataclass(frozen=True)
class _Route:
    """One call. `mark` distinguishes calls of the same method: a parameter (`?uploads`), a header, or ""."""

    level: str
    verb: str
    mark: str
    call: Callable[[Request, GcsUri], Sink]

    def fits(self, level: str, request: Request) -> bool:
        if (self.level, self.verb) != (level, request.verb):
            return False
        if self.mark.startswith("?"):
            return bool(request.query.all(self.mark[1:]))
        return not self.mark or self.mark in request.headers


class XmlSurface:
    """Answers the XML API's requests. It is synchronous and uses no socket."""

    def __init__(self, buckets: Buckets, objects: ObjectCalls, sessions: Sessions) -> None:
        self._parts = PartsUploads(buckets)
        calls = (
            XmlBuckets(buckets, objects, self._parts),
            XmlObjects(buckets, objects),
            XmlUploads(buckets, sessions, self._parts),
            FormUploads(buckets),
        )
        self._routes = list(_routes(*calls))

    def open(self, request: Request) -> Sink:
        """Return the sink that receives the body and answers. Raises what `guarded_xml` translates."""
        request.query.check()
        check_expiry(request.query, datetime.now(UTC))
        uri = address(request.path, request.headers.get("host", ""))
        for name in request.query.names():
            if name in NOT_EMULATED:
                raise _not_implemented(f"{NOT_EMULATED[name]} (?{name}).")
        level = "object" if uri.object else "bucket" if uri.bucket else "service"
        for route in self._routes:
            if route.fits(level, request):
                return route.call(request, uri)
        allowed = sorted({route.verb for route in self._routes if route.level == level})
        details = f"{request.verb} is not possible here in this form; there are {', '.join(allowed)}."
        raise GcsError(405, "methodNotAllowed", details)

    def close(self) -> None:
        """Delete open uploads."""
        self._parts.close()


def continues_resumable(request: Request, target: GcsUri) -> bool:
    """Return whether a request can only continue or cancel the resumable upload of that object."""
    if request.method not in ("PUT", "DELETE") or set(request.query.names()) != {"upload_id"}:
        return False
    try:
        return address(request.path, request.headers.get("host", "")) == target
    except GcsError:
        return False


def guarded_xml(request: Request, call: Callable[[], Response]) -> Response:
    """Run `call` and turn any exception into an error document."""
    try:
        return call()
    except NotModified:
        return Response(304)
    except GcsError as error:
        return error_document(XmlError.of(error))
    except (StorageError, InvalidUri) as error:
        uri = address(request.path, request.headers.get("host", ""))
        return error_document(xml_from_storage(error, uri, reading=request.verb in ("GET", "DELETE")))
    except Exception as error:
        _log.exception("%s %r failed", request.method, request.path)
        # Emulator: the message names the cause, which the real service hides: this is a developer's tool.
        message = f"{type(error).__name__}: {error}. The log has the traceback."
        return error_document(XmlError.of(GcsError(500, "internalError", message)))


def error_document(error: XmlError) -> Response:
    """Return an error document. Clients expect `Details` in every one."""
    elements = [("Code", error.name), ("Message", error.text), ("Details", error.details)]
    headers = {"content-type": "application/xml; charset=UTF-8", **error.headers}
    return Response(error.code, document("Error", elements), headers)


def _not_implemented(details: str) -> XmlError:
    return XmlError.of(GcsError(501, "notImplemented", details))


def _routes(
    buckets: XmlBuckets, objects: XmlObjects, uploads: XmlUploads, forms: FormUploads
) -> Iterator[_Route]:
    # The first matching route is used.
    yield _Route("service", "GET", "", buckets.list)
    yield _Route("bucket", "GET", "?uploads", buckets.list_uploads)
    yield _Route("bucket", "GET", "?location", buckets.location)
    yield _Route("bucket", "GET", "", buckets.list_objects)
    yield _Route("bucket", "PUT", "", buckets.create)
    yield _Route("bucket", "DELETE", "", buckets.delete)
    yield _Route("bucket", "POST", "content-type", forms.upload)
    yield _Route("object", "GET", "?uploadId", uploads.list_parts)
    yield _Route("object", "GET", "", objects.get)
    yield _Route("object", "PUT", "?partNumber", uploads.put_part)
    yield _Route("object", "PUT", "?uploadId", uploads.put_part)
    yield _Route("object", "PUT", "?upload_id", uploads.continue_resumable)
    yield _Route("object", "PUT", "x-goog-copy-source", objects.copy)
    yield _Route("object", "PUT", "", uploads.put)
    yield _Route("object", "POST", "?uploads", uploads.begin_parts)
    yield _Route("object", "POST", "?uploadId", uploads.complete_parts)
    yield _Route("object", "POST", "x-goog-resumable", uploads.begin_resumable)
    yield _Route("object", "DELETE", "?uploadId", uploads.abort_parts)
    yield _Route("object", "DELETE", "?upload_id", uploads.cancel_resumable)
    yield _Route("object", "DELETE", "", objects.delete)
