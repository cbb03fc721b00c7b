"""Errors as Cloud Storage's JSON API words them; its envelope differs from that of Vertex."""

from typing import Any

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
    """A request that fails: the HTTP status, the API's reason and the message."""

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


class NotModified(Exception):
    """The caller has the current version (304)."""


def invalid(message: str, *, location: str = "") -> GcsError:
    """The request is wrong."""
    return GcsError(400, "invalid", message, location=location)


def required(parameter: str) -> GcsError:
    """A parameter is missing."""
    return GcsError(400, "required", f"Required parameter: {parameter}.", location=parameter)


def not_found(uri: GcsUri) -> GcsError:
    """There is no such object."""
    return GcsError(404, "notFound", f"No such object: {uri.bucket}/{uri.object}")


def condition_not_met() -> GcsError:
    """A precondition does not hold."""
    message = "At least one of the pre-conditions you specified did not hold."
    return GcsError(412, "conditionNotMet", message)


def not_implemented(what: str) -> GcsError:
    """A part of Cloud Storage that is not emulated."""
    message = f"{what} is not emulated; docs/cloud-storage.md lists what is."
    return GcsError(501, "notImplemented", message)


def from_storage(error: StorageError | InvalidUri, uri: GcsUri | None, *, reading: bool) -> GcsError:
    """Translate what the storage raised."""
    if isinstance(error, BucketNotFound):
        return GcsError(404, "notFound", "The specified bucket does not exist.")
    if isinstance(error, ObjectNotFound):
        return not_found(uri) if uri else GcsError(404, "notFound", str(error))
    if isinstance(error, InvalidUri) and reading and uri and uri.object:
        return not_found(uri)  # what cannot be stored is not there
    if isinstance(error, BucketNotEmpty):
        return GcsError(409, "conflict", "The bucket you tried to delete is not empty.")
    if isinstance(error, InvalidUri | NameTaken):
        return invalid(str(error))
    # Emulator: no 5xx, which clients retry for minutes; the disk will not be better then.
    return GcsError(403, "forbidden", str(error))
