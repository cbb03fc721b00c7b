"""The catalogue of errors: a class per google.rpc code, with its HTTP status (code.proto, AIP-193)."""

from collections.abc import Mapping
from typing import Any, ClassVar

BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"


class ApiError(Exception):
    """An error as clients see it. `details` are protobuf messages, or their JSON with an "@type"."""

    code: ClassVar[int]
    http_status: ClassVar[int]
    status: ClassVar[str]

    def __init__(self, message: str, *, details: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def to_status(self) -> Any:
        """Return the `google.rpc.Status` message, details packed."""
        # Imported here, so that code that only raises errors (workers above all) does not import protobuf.
        from google.protobuf import json_format

        from emulator.vertex.contract import load

        contract = load()
        status = contract.rpc.Status(code=self.code, message=self.message)
        for detail in self.details:
            packed = status.details.add()
            if isinstance(detail, Mapping):
                json_format.ParseDict(detail, packed, descriptor_pool=contract.pool)
            else:
                packed.Pack(detail)
        return status


class Cancelled(ApiError):
    """The operation was cancelled, typically by the caller."""

    code, http_status, status = 1, 499, "CANCELLED"


class Unknown(ApiError):
    """An error without further information."""

    code, http_status, status = 2, 500, "UNKNOWN"


class InvalidArgument(ApiError):
    """The request is wrong, whatever the state of the system."""

    code, http_status, status = 3, 400, "INVALID_ARGUMENT"

    @classmethod
    def at(cls, message: str, violations: list[tuple[str, str]]) -> "InvalidArgument":
        """Return an error with a BadRequest detail of (field, description) pairs; "" is the request."""
        fields = [
            {"field": field, "description": text} if field else {"description": text}
            for field, text in violations
        ]
        return cls(message, details=({"@type": BAD_REQUEST, "fieldViolations": fields},))


class DeadlineExceeded(ApiError):
    """The deadline passed before the operation could complete."""

    code, http_status, status = 4, 504, "DEADLINE_EXCEEDED"


class NotFound(ApiError):
    """A named resource does not exist."""

    code, http_status, status = 5, 404, "NOT_FOUND"


class AlreadyExists(ApiError):
    """The resource to create exists already."""

    code, http_status, status = 6, 409, "ALREADY_EXISTS"


class PermissionDenied(ApiError):
    """The caller may not do this."""

    code, http_status, status = 7, 403, "PERMISSION_DENIED"


class ResourceExhausted(ApiError):
    """A quota or a disk is exhausted."""

    code, http_status, status = 8, 429, "RESOURCE_EXHAUSTED"


class FailedPrecondition(ApiError):
    """The system is not in the state that the operation needs."""

    code, http_status, status = 9, 400, "FAILED_PRECONDITION"


class Aborted(ApiError):
    """The operation lost a conflict with a concurrent one."""

    code, http_status, status = 10, 409, "ABORTED"


class OutOfRange(ApiError):
    """The operation reached past the valid range."""

    code, http_status, status = 11, 400, "OUT_OF_RANGE"


class Unimplemented(ApiError):
    """The emulator does not have this."""

    code, http_status, status = 12, 501, "UNIMPLEMENTED"


class Internal(ApiError):
    """An internal invariant is broken."""

    code, http_status, status = 13, 500, "INTERNAL"


class Unavailable(ApiError):
    """The service cannot answer now; a retry may succeed."""

    code, http_status, status = 14, 503, "UNAVAILABLE"


class DataLoss(ApiError):
    """Data is lost or corrupted beyond recovery."""

    code, http_status, status = 15, 500, "DATA_LOSS"


class Unauthenticated(ApiError):
    """The request has no valid credentials."""

    code, http_status, status = 16, 401, "UNAUTHENTICATED"


CATALOGUE: Mapping[int, type[ApiError]] = {error.code: error for error in ApiError.__subclasses__()}


class Violations:
    """Field problems of one request, collected so that one error reports them all."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str]] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def __len__(self) -> int:
        return len(self._found)

    @property
    def found(self) -> tuple[tuple[str, str], ...]:
        """The (field path, message) pairs in order."""
        return tuple(self._found)

    def add(self, field: str, message: str) -> None:
        self._found.append((field, message))

    def to_error(self) -> InvalidArgument:
        """Return the error that lists every problem."""
        # Vertex: the general validator's envelope, tabs included (recorded tuning and custom jobs).
        listed = "".join(
            f"{number}.Field: {field}; Message: {text.removesuffix('.')}.\t"
            for number, (field, text) in enumerate(self._found, start=1)
        )
        return InvalidArgument.at(f"List of found errors:\t{listed}", self._found)

    def raise_if_any(self) -> None:
        """Raise that error if there is any problem."""
        if self._found:
            raise self.to_error()
