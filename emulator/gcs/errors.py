"""Errors in the formats of Cloud Storage's two APIs: JSON envelope and XML document."""

from collections.abc import Mapping
from typing import Any

from emulator.gcs.retention import ObjectProtected
from emulator.storage import (
    BucketNotEmpty,
    BucketNotFound,
    GcsUri,
    InvalidUri,
    NameTaken,
    ObjectNotFound,
    StorageError,
)


class GcsError(Exception):
    """A request failed: the HTTP status, the API's reason and the message."""

    def __init__(self, code: int, reason: str, message: str, *, location: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.location = location

    def to_json(self) -> dict[str, Any]:
        """Return the envelope."""
        entry = {"message": self.message, "domain": "global", "reason": self.reason}
        if self.location:
            entry |= {"locationType": "parameter", "location": self.location}
        return {"error": {"code": self.code, "message": self.message, "errors": [entry]}}


class XmlError(GcsError):
    """A request to the XML API failed: the HTTP status, the error's name, its text and the details."""

    def __init__(
        self, code: int, name: str, text: str, details: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(code, name, f"{text} {details}".rstrip())
        self.name = name
        self.text = text
        self.details = details
        self.headers = headers or {}

    @classmethod
    def of(cls, error: GcsError) -> "XmlError":
        """Return an error that both APIs share in the XML API's words."""
        if isinstance(error, XmlError):
            return error
        name, text = _XML_NAMES.get(error.code, ("InvalidArgument", "Invalid argument."))
        if "ncryptionKey" in error.reason or "ncryptedWith" in error.reason:
            name = error.reason[0].upper() + error.reason[1:]
        return cls(error.code, name, text, error.message if error.message != text else "")


class NotModified(Exception):
    """The caller already has the current version (304)."""


def invalid(message: str, *, location: str = "") -> GcsError:
    """Return a 400 error. `location`: the parameter or field that is wrong."""
    return GcsError(400, "invalid", message, location=location)


def required(parameter: str) -> GcsError:
    """Return the error for a missing parameter."""
    return GcsError(400, "required", f"Required parameter: {parameter}.", location=parameter)


def not_found(uri: GcsUri) -> GcsError:
    """Return the error for an object or bucket that does not exist."""
    return GcsError(404, "notFound", f"No such object: {uri.bucket}/{uri.object}")


def condition_not_met() -> GcsError:
    """Return the error for a precondition that does not hold."""
    message = "At least one of the pre-conditions you specified did not hold."
    return GcsError(412, "conditionNotMet", message)


def not_implemented(what: str) -> GcsError:
    """Return the error for a part of Cloud Storage that is not emulated."""
    message = f"{what} is not emulated; buckets, objects and their metadata are."
    return GcsError(501, "notImplemented", message)


def xml_from_storage(error: StorageError | InvalidUri, uri: GcsUri, *, reading: bool) -> XmlError:
    """Translate an error of the storage for the XML API."""
    if isinstance(error, BucketNotFound):
        return XmlError(404, "NoSuchBucket", "The specified bucket does not exist.")
    if isinstance(error, BucketNotEmpty):
        return XmlError(409, "BucketNotEmpty", "The bucket you tried to delete is not empty.")
    if isinstance(error, InvalidUri) and not uri.object:
        return XmlError(400, "InvalidBucketName", "The specified bucket is not valid.", str(error))
    if isinstance(error, NameTaken) and not uri.object:
        return XmlError(409, "BucketAlreadyOwnedByYou", _OWNED)
    return XmlError.of(from_storage(error, uri if uri.object else None, reading=reading))


def from_storage(error: StorageError | InvalidUri, uri: GcsUri | None, *, reading: bool) -> GcsError:
    """Translate an error of the storage for the JSON API."""
    if isinstance(error, BucketNotFound):
        return GcsError(404, "notFound", "The specified bucket does not exist.")
    if isinstance(error, ObjectNotFound):
        return not_found(uri) if uri else GcsError(404, "notFound", str(error))
    if isinstance(error, InvalidUri) and reading and uri and uri.object:
        return not_found(uri)  # a name that cannot be stored has no object
    if isinstance(error, BucketNotEmpty):
        return GcsError(409, "conflict", "The bucket you tried to delete is not empty.")
    if isinstance(error, InvalidUri | NameTaken):
        return invalid(str(error))
    if isinstance(error, ObjectProtected):
        return GcsError(403, "forbidden", str(error))
    # Emulator: no 5xx, which clients would retry for minutes; a problem of the disk would remain.
    return GcsError(403, "forbidden", str(error))


_OWNED = "Your previous request to create the named bucket succeeded and you already own it."
_XML_NAMES = {
    403: ("AccessDenied", "Access denied."),
    404: ("NoSuchKey", "The specified key does not exist."),
    405: ("MethodNotAllowed", "The specified method is not allowed against this resource."),
    409: ("OperationAborted", "Another request is changing the same thing."),
    412: ("PreconditionFailed", "At least one of the pre-conditions you specified did not hold."),
    500: ("InternalError", "We encountered an internal error. Please try again."),
    501: ("NotImplemented", "A header or query you provided requested a function that is not implemented."),
    503: ("ServiceUnavailable", "The service is temporarily unavailable."),
}
