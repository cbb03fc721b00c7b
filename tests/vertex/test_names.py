"""Resource names and project numbers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.vertex.errors import InvalidArgument
from emulator.vertex.names import (
    BatchPredictionJobName,
    LocationName,
    ModelName,
    OperationName,
    check_project,
    project_number,
)

P = "projects/my-proj/locations/us-central1"


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (LocationName, P, LocationName("my-proj", "us-central1")),
        (LocationName, "projects/example.com:p/locations/eu", LocationName("example.com:p", "eu")),
        (BatchPredictionJobName, f"{P}/batchPredictionJobs/12",
         BatchPredictionJobName("my-proj", "us-central1", "12")),
        (ModelName, f"{P}/models/m-1_x", ModelName("my-proj", "us-central1", "m-1_x")),
        (ModelName, f"{P}/models/12@3", ModelName("my-proj", "us-central1", "12", "3")),
        (ModelName, f"{P}/models/12@default", ModelName("my-proj", "us-central1", "12", "default")),
        (OperationName, f"{P}/operations/9", OperationName("my-proj", "us-central1", "9")),
        (OperationName, f"{P}/models/m/operations/9", OperationName("my-proj", "us-central1", "9", "m")),
    ],
)  # fmt: skip
def test_name_parses_and_prints(kind: Any, text: str, expected: Any) -> None:
    assert kind.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (LocationName, ""),
        (LocationName, f"{P}/"),
        (LocationName, f"{P}\n"),
        (LocationName, "projects/../locations/l"),
        (LocationName, "projects/p/locations/"),
        (LocationName, f"projects/p/locations/{'l' * 129}"),
        (LocationName, f"projects/{'1' * 129}/locations/l"),
        (BatchPredictionJobName, f"{P}/batchPredictionJobs/abc"),
        (BatchPredictionJobName, f"{P}/batchPredictionJobs/-1"),
        (BatchPredictionJobName, f"{P}/batchPredictionJobs/\u0661"),
        (BatchPredictionJobName, f"{P}/batchPredictionJobs/12345678901234567890"),
        (ModelName, f"{P}/models/a/b"),
        (ModelName, f"{P}/models/m@"),
        (ModelName, f"{P}/models/m@1@2"),
        (ModelName, f"{P}/m"),
        (ModelName, f"{P}/models/.."),
        (OperationName, f"{P}/batchPredictionJobs/1/operations/2"),
    ],
)
def test_bad_name_is_an_invalid_argument_that_names_the_form(kind: Any, text: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        kind.parse(text, field="the_field")
    assert raised.value.message.startswith(
        f"List of found errors:\t1.Field: the_field; Message: Invalid {kind.__name__.removesuffix('Name')} "
        "resource name. Expected projects/PROJECT/locations/LOCATION"
    )
    assert f'got "{text}"' in raised.value.message


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("projects/my_project/locations/us-central1", "a project id or number has"),
        ("projects/My-Project/locations/us-central1/models/m", "a project id or number has"),
        ("projects/p/locations/us_central1", "a location has"),
        ("projects/p/locations/us-central1/models/m n", ""),
        ("projects//locations/us-central1", ""),
    ],
)
def test_the_part_that_is_wrong_is_told(text: str, rule: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        ModelName.parse(text)
    assert (f'got "{text}"; {rule}' if rule else f'got "{text}".\t') in raised.value.message


@pytest.mark.parametrize("text", ["", "Bad Project", "my_project", "-p", "p/q", "p\n"])
def test_what_cannot_be_a_project_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is no project: a project id or number has a-z"):
        check_project(text)


@pytest.mark.parametrize("text", ["my-project", "123", "example.com:p"])
def test_what_can_be_a_project_is_given_back(text: str) -> None:
    assert check_project(text) == text


def test_model_name_without_its_collection_is_taken_on_request() -> None:
    assert ModelName.parse(f"{P}/123", lenient=True) == ModelName("my-proj", "us-central1", "123")
    assert ModelName.parse(f"{P}/models/123", lenient=True) == ModelName("my-proj", "us-central1", "123")
    assert ModelName.parse(f"{P}/123@1", lenient=True).version == "1"


def test_parent_of_a_name_is_its_location() -> None:
    assert str(ModelName.parse(f"{P}/models/m").parent) == P


def test_project_number_is_configured_numeric_or_derived() -> None:
    assert project_number("p", {"p": "42"}) == "42"
    assert project_number("123456789012", {}) == "123456789012"
    # Jobs are stored under this number: it must never change.
    assert project_number("my-proj", {}) == "778245129035"


@given(st.text(min_size=1).filter(lambda text: not (text.isascii() and text.isdecimal())))
def test_derived_project_number_has_twelve_digits(project: str) -> None:
    number = project_number(project, {})
    assert number == project_number(project, {})
    assert len(number) == 12
    assert number.isdecimal()
    assert number[0] != "0"
