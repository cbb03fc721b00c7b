"""Model parameters of the three objectives."""

from typing import Any

import pytest

from emulator.vertex.errors import Violations
from emulator.vertex.messages import from_json, load
from emulator.vertex.objectives import Objective, parameter_names, parse_parameters
from emulator.vertex.parameters import ModelParameters

PARAMS = "google.cloud.aiplatform.v1.schema.predict.params"


def _parse(payload: Any, objective: Objective = Objective.OBJECT_TRACKING) -> tuple[ModelParameters, Any]:
    job = from_json(load().v1.BatchPredictionJob, {"modelParameters": payload})
    violations = Violations()
    return parse_parameters(objective, job.model_parameters, violations), violations.found


@pytest.mark.parametrize("objective", Objective)
def test_parameters_are_those_of_the_schema(objective: Objective) -> None:
    descriptor = load().message(f"{PARAMS}.{objective.schema_title}PredictionParams").DESCRIPTOR
    assert set(parameter_names(objective)) == {field.json_name for field in descriptor.fields}


def test_defaults_are_the_documented_ones() -> None:
    assert _parse({}) == (ModelParameters(0.0, 50, 0.0), ())
    assert _parse({}, Objective.ACTION_RECOGNITION)[0].max_predictions == 50
    classification, _ = _parse({}, Objective.CLASSIFICATION)
    assert classification == ModelParameters(
        max_predictions=10_000,
        segment_classification=True,
        shot_classification=False,
        one_sec_interval_classification=False,
    )


def test_no_parameters_may_be_none_null_or_a_value_without_a_kind() -> None:
    empty = load().protobuf.Value()
    for value in (
        None,
        empty,
        from_json(load().v1.BatchPredictionJob, {"modelParameters": None}).model_parameters,
    ):
        violations = Violations()
        assert parse_parameters(Objective.OBJECT_TRACKING, value, violations) == ModelParameters()
        assert not violations


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"confidenceThreshold": 0.5, "maxPredictions": 2.0}, ModelParameters(0.5, 2)),
        ({"confidence_threshold": 1, "min_bounding_box_size": 0.25}, ModelParameters(1.0, 50, 0.25)),
        ({"confidenceThreshold": "0.5", "maxPredictions": "3"}, ModelParameters(0.5, 3)),
        ({"confidenceThreshold": None}, ModelParameters()),
    ],
)
def test_parameters_are_read_leniently(payload: Any, expected: ModelParameters) -> None:
    assert _parse(payload) == (expected, ())


def test_classification_flags_are_read() -> None:
    flags = {"segmentClassification": False, "shotClassification": True, "oneSecIntervalClassification": True}
    found, violations = _parse(flags, Objective.CLASSIFICATION)
    assert violations == ()
    assert (found.segment_classification, found.shot_classification) == (False, True)
    assert found.one_sec_interval_classification


@pytest.mark.parametrize(
    ("payload", "key", "problem"),
    [
        ({"confidenceThreshold": 1.01}, "confidenceThreshold", "Expected a number from 0 to 1, got 1.01"),
        ({"confidenceThreshold": -0.1}, "confidenceThreshold", "got -0.1"),
        ({"confidenceThreshold": "NaN"}, "confidenceThreshold", 'got "NaN"'),
        ({"confidenceThreshold": "high"}, "confidenceThreshold", 'got "high"'),
        ({"confidenceThreshold": True}, "confidenceThreshold", "got true"),
        ({"confidenceThreshold": {}}, "confidenceThreshold", "got an object"),
        ({"maxPredictions": 0}, "maxPredictions", "Expected a whole number from 1 to 2147483647, got 0"),
        ({"maxPredictions": 1.5}, "maxPredictions", "got 1.5"),
        ({"maxPredictions": 1e10}, "maxPredictions", "got 1e+10"),
        ({"maxPredictions": "Infinity"}, "maxPredictions", 'got "Infinity"'),
        ({"maxPredictions": [1]}, "maxPredictions", "got a list"),
        ({"minBoundingBoxSize": 2}, "minBoundingBoxSize", "Expected a number from 0 to 1"),
        ({"shotClassification": True}, "shotClassification", 'Unknown parameter "shotClassification" for a '
         "video object tracking model. It takes confidenceThreshold, maxPredictions, minBoundingBoxSize"),
    ],
)  # fmt: skip
def test_bad_parameter_is_a_violation_with_its_path(payload: Any, key: str, problem: str) -> None:
    found, violations = _parse(payload)
    ((field, message),) = violations
    assert field == f"batch_prediction_job.model_parameters.{key}"
    assert problem in message
    assert found == ModelParameters()


def test_not_a_number_in_a_value_is_a_violation() -> None:
    value = load().protobuf.Value()
    value.struct_value.fields["confidenceThreshold"].number_value = float("nan")
    value.struct_value.fields["maxPredictions"].number_value = float("inf")
    violations = Violations()
    parse_parameters(Objective.OBJECT_TRACKING, value, violations)
    assert {message.rpartition(" ")[2] for _, message in violations.found} == {"nan", "inf"}


def test_all_bad_parameters_are_reported() -> None:
    _, violations = _parse({"confidenceThreshold": 2, "maxPredictions": 0, "x": 1})
    assert len(violations) == 3


@pytest.mark.parametrize("payload", ["text", 5, True, [1]])
def test_parameters_that_are_no_object_are_a_violation(payload: Any) -> None:
    _, violations = _parse(payload)
    assert violations == (
        ("batch_prediction_job.model_parameters", "The model parameters must be a JSON object"),
    )


def test_boolean_flags_take_nothing_else() -> None:
    _, violations = _parse({"segmentClassification": 1}, Objective.CLASSIFICATION)
    assert violations[0][1] == "Expected true or false, got 1"


def test_objective_names_its_schemas() -> None:
    tracking = Objective.OBJECT_TRACKING
    base = "gs://google-cloud-aiplatform/schema/predict"
    assert tracking.instance_schema_uri == f"{base}/instance/video_object_tracking_1.0.0.yaml"
    assert tracking.parameters_schema_uri == f"{base}/params/video_object_tracking_1.0.0.yaml"
    assert tracking.prediction_schema_uri == f"{base}/prediction/video_object_tracking_1.0.0.yaml"
    assert tracking.display_text == "Video object tracking"


def test_problems_come_in_the_order_of_the_names_however_the_map_is_filled() -> None:
    names = [f"unknown{number}" for number in range(20)]
    for filled in (names, names[::-1]):
        _, found = _parse(dict.fromkeys(filled, 1))
        assert [field for field, _ in found] == sorted(
            f"batch_prediction_job.model_parameters.{name}" for name in names
        )
