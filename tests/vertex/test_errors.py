"""The catalogue of errors."""

import pytest

from emulator.vertex.errors import CATALOGUE, ApiError, InvalidArgument, NotFound, Violations
from emulator.vertex.messages import load, to_json

HTTP = {
    "CANCELLED": 499, "UNKNOWN": 500, "INVALID_ARGUMENT": 400, "DEADLINE_EXCEEDED": 504, "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409, "PERMISSION_DENIED": 403, "RESOURCE_EXHAUSTED": 429, "FAILED_PRECONDITION": 400,
    "ABORTED": 409, "OUT_OF_RANGE": 400, "UNIMPLEMENTED": 501, "INTERNAL": 500, "UNAVAILABLE": 503,
    "DATA_LOSS": 500, "UNAUTHENTICATED": 401,
}  # fmt: skip


def test_catalogue_covers_the_codes_of_google_rpc() -> None:
    codes = load().pool.FindEnumTypeByName("google.rpc.Code").values_by_name
    expected = {code.number: name for name, code in codes.items() if name != "OK"}
    assert {code: error.status for code, error in CATALOGUE.items()} == expected
    assert {error.status: error.http_status for error in CATALOGUE.values()} == HTTP


def test_class_names_are_the_status_names() -> None:
    for error in CATALOGUE.values():
        assert error.__name__ == error.status.title().replace("_", "")


def test_status_carries_code_message_and_details() -> None:
    error = NotFound("The Model does not exist.", details=(load().rpc.ResourceInfo(resource_name="m"),))
    assert isinstance(error, ApiError)
    assert to_json(error.to_status()) == {
        "code": 5,
        "message": "The Model does not exist.",
        "details": [{"@type": "type.googleapis.com/google.rpc.ResourceInfo", "resourceName": "m"}],
    }


def test_violations_are_listed_in_one_message_with_details() -> None:
    violations = Violations()
    violations.raise_if_any()
    violations.add("batch_prediction_job.display_name", "Required field is not set.")
    violations.add("batch_prediction_job.labels", "Too many")
    with pytest.raises(InvalidArgument) as raised:
        violations.raise_if_any()
    assert raised.value.message == (
        "List of found errors:\t"
        "1.Field: batch_prediction_job.display_name; Message: Required field is not set.\t"
        "2.Field: batch_prediction_job.labels; Message: Too many.\t"
    )
    assert to_json(raised.value.to_status())["details"] == [
        {
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [
                {"field": "batch_prediction_job.display_name", "description": "Required field is not set."},
                {"field": "batch_prediction_job.labels", "description": "Too many"},
            ],
        }
    ]
    assert (len(violations), bool(violations), bool(Violations())) == (2, True, False)
