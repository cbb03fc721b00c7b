"""Messages, their JSON and the conversion between the versions."""

import json
from typing import Any

import pytest

from emulator.vertex.errors import InvalidArgument
from emulator.vertex.messages import convert, from_json, is_repeated, load, only_in, to_json

CONTRACT = load()
V1, V1BETA1 = CONTRACT.v1, CONTRACT.v1beta1

JOB_JSON: dict[str, Any] = {
    "name": "projects/123456789012/locations/us-central1/batchPredictionJobs/1234",
    "displayName": "jé",
    "model": "projects/p/locations/us-central1/models/m",
    "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://b/in.jsonl"]}},
    "modelParameters": {"confidenceThreshold": 0.5, "maxPredictions": 2.0},
    "outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": "gs://b/out"}},
    "state": "JOB_STATE_RUNNING",
    "error": {
        "code": 3,
        "message": "bad",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"field": "a.b", "description": "wrong"}],
            }
        ],
    },
    "completionStats": {"successfulCount": "3", "incompleteCount": "-1"},
    "createTime": "2020-05-30T02:58:44.341643Z",
    "startTime": "2020-05-30T02:58:45Z",
    "labels": {"k": "v"},
}


@pytest.mark.parametrize("package", [V1, V1BETA1], ids=["v1", "v1beta1"])
def test_json_of_a_job_round_trips(package: Any) -> None:
    assert to_json(from_json(package.BatchPredictionJob, JOB_JSON)) == JOB_JSON


def test_json_accepts_snake_case_numbers_and_enum_numbers() -> None:
    job = from_json(
        V1.BatchPredictionJob,
        {
            "display_name": "j",
            "state": 3,
            "completion_stats": {"successful_count": 3},
            "manual_batch_tuning_parameters": {"batch_size": 8.0},
            "labels": None,
        },
    )
    assert to_json(job) == {
        "displayName": "j",
        "state": "JOB_STATE_RUNNING",
        "completionStats": {"successfulCount": "3"},
        "manualBatchTuningParameters": {"batchSize": 8},
    }


def test_json_writes_enums_as_numbers_on_request() -> None:
    job = V1.BatchPredictionJob(state=3)
    assert to_json(job, int_enums=True) == {"state": 3}


def test_value_without_a_kind_survives_bytes_and_is_null_in_json() -> None:
    job = V1.BatchPredictionJob()
    job.model_parameters.SetInParent()
    for copy in (
        V1.BatchPredictionJob.FromString(job.SerializeToString()),
        convert(job, V1.BatchPredictionJob),
    ):
        assert copy.HasField("model_parameters")
        assert copy.model_parameters.WhichOneof("kind") is None
        assert to_json(copy) == {"modelParameters": None}


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_operation_json_unpacks_any_of_the_private_pool(version: str) -> None:
    payload = {
        "name": "projects/1/locations/l/operations/2",
        "done": True,
        "metadata": {
            "@type": f"type.googleapis.com/google.cloud.aiplatform.{version}.DeleteOperationMetadata",
            "genericMetadata": {"createTime": "2020-05-30T02:58:44.341643Z"},
        },
        "response": {"@type": "type.googleapis.com/google.protobuf.Empty"},
    }
    operation = from_json(CONTRACT.longrunning.Operation, payload)
    metadata = CONTRACT.package(version).DeleteOperationMetadata()
    assert operation.metadata.Unpack(metadata)
    assert metadata.generic_metadata.create_time.seconds == 1590807524
    assert to_json(operation) == payload


@pytest.mark.parametrize(
    ("payload", "texts"),
    [
        ({"displayName": 5}, ["Invalid value at 'job.display_name' (TYPE_STRING), 5"]),
        ({"nope": 1}, ["Invalid JSON payload received. Unknown name \"nope\" at 'job': Cannot find field."]),
        (
            {"inputConfig": {"b": 2, "gcsSource": {"uris": "x"}}, "n\u00e4": {}},
            [
                "Invalid JSON payload received. Unknown name \"b\" at 'job.input_config': Cannot find field.",
                "Invalid value at 'job.input_config.gcs_source.uris' (TYPE_STRING), \"x\"",
                "Invalid JSON payload received. Unknown name \"n\u00e4\" at 'job': Cannot find field.",
            ],
        ),
        (
            {"state": "LOST"},
            [
                "Invalid value at 'job.state' "
                '(type.googleapis.com/google.cloud.aiplatform.v1.JobState), "LOST"'
            ],
        ),
        (
            {"createTime": "yesterday"},
            [
                "Invalid value at 'job.create_time' "
                '(type.googleapis.com/google.protobuf.Timestamp), "yesterday"'
            ],
        ),
        ({"labels": {"a": 1, "b": "c"}}, ["Invalid value at 'job.labels[\"a\"]' (TYPE_STRING), 1"]),
        (
            {"labels": []},
            [
                "Invalid value at 'job.labels' "
                "(type.googleapis.com/google.cloud.aiplatform.v1.BatchPredictionJob.LabelsEntry), a list"
            ],
        ),
        (
            {"displayName": {}},
            ["Invalid value at 'job' (display_name), Starting an object on a scalar field"],
        ),
        (
            {"displayName": ["a"]},
            [
                "Invalid JSON payload received. Unknown name \"displayName\" at 'job': "
                "Proto field is not repeating, cannot start list."
            ],
        ),
        (
            {"inputConfig": []},
            [
                "Invalid JSON payload received. Unknown name \"inputConfig\" at 'job': "
                "Proto field is not repeating, cannot start list."
            ],
        ),
        (
            {"inputConfig": {"gcsSource": ""}},
            [
                "Invalid value at 'job.input_config.gcs_source' "
                '(type.googleapis.com/google.cloud.aiplatform.v1.GcsSource), ""'
            ],
        ),
        (
            {"partialFailures": [{"code": 1}, {"code": "x"}, 3]},
            [
                "Invalid value at 'job.partial_failures[1].code' (TYPE_INT32), \"x\"",
                "Invalid value at 'job.partial_failures[2]' (type.googleapis.com/google.rpc.Status), 3",
            ],
        ),
        (
            {"inputConfig": {"gcsSource": {}, "bigquerySource": {}}},
            [
                "Invalid value at 'job.input_config' (oneof), oneof field 'source' is already set. "
                "Cannot set 'bigquerySource'"
            ],
        ),
        (
            {"manualBatchTuningParameters": {"batchSize": 2**40}},
            [
                "Invalid value at 'job.manual_batch_tuning_parameters.batch_size' "
                f"(TYPE_INT32), {2**40}"
            ],
        ),
        (
            [],
            [
                "Invalid value at 'job' "
                "(type.googleapis.com/google.cloud.aiplatform.v1.BatchPredictionJob), a list"
            ],
        ),
    ],
)  # fmt: skip
def test_bad_json_is_explained_field_by_field(payload: Any, texts: list[str]) -> None:
    with pytest.raises(InvalidArgument) as raised:
        from_json(V1.BatchPredictionJob, payload, at="job")
    assert raised.value.message == "\n".join(texts)
    violations = to_json(raised.value.to_status())["details"][0]["fieldViolations"]
    assert [violation["description"] for violation in violations] == texts


def test_bad_json_at_the_root_has_no_path() -> None:
    with pytest.raises(InvalidArgument) as raised:
        from_json(V1.CreateBatchPredictionJobRequest, {"x": 1, "batchPredictionJob": {"y": 2}})
    assert raised.value.message == (
        'Invalid JSON payload received. Unknown name "x": Cannot find field.\n'
        "Invalid JSON payload received. Unknown name \"y\" at 'batch_prediction_job': Cannot find field."
    )


def test_deeply_nested_json_is_an_invalid_argument() -> None:
    deep: Any = 1
    for _ in range(500):
        deep = {"a": deep}
    with pytest.raises(InvalidArgument, match=r"'model_parameters' \(.*protobuf\.Value\), an object"):
        from_json(V1.BatchPredictionJob, {"modelParameters": deep, "displayName": "j"})


def test_long_values_are_cut_in_error_texts() -> None:
    with pytest.raises(InvalidArgument) as raised:
        from_json(V1.BatchPredictionJob, {"createTime": "x" * 10_000})
    assert len(raised.value.message) < 400


def test_fields_of_v1beta1_only_are_named_and_dropped_by_conversion() -> None:
    job = V1BETA1.BatchPredictionJob(display_name="j", endpoint="projects/p/locations/l/endpoints/e")
    job.model_monitoring_config.objective_configs.add()
    job.input_config.gcs_source.uris.append("gs://b/in")
    assert only_in(job, V1.BatchPredictionJob) == ["model_monitoring_config", "endpoint"]
    converted = convert(job, V1.BatchPredictionJob)
    assert converted == V1.BatchPredictionJob(
        display_name="j", input_config={"gcs_source": {"uris": ["gs://b/in"]}}
    )
    assert only_in(converted, V1BETA1.BatchPredictionJob) == []
    # Nothing unknown is left behind in the bytes.
    assert convert(converted, V1BETA1.BatchPredictionJob).endpoint == ""


def test_only_in_looks_into_nested_messages() -> None:
    request = V1BETA1.CreateBatchPredictionJobRequest(batch_prediction_job={"endpoint": "e"})
    found = only_in(request, V1.CreateBatchPredictionJobRequest)
    assert found == ["batch_prediction_job.endpoint"]


def _twins(first: Any, second: Any, seen: set[str]) -> list[tuple[Any, Any]]:
    if first.full_name in seen:
        return []
    pairs = [(first, second)]
    for field in first.fields:
        other = second.fields_by_number.get(field.number)
        if other is not None and field.message_type is not None and other.message_type is not None:
            pairs += _twins(field.message_type, other.message_type, seen | {first.full_name})
    return pairs


@pytest.mark.parametrize("name", ["BatchPredictionJob", "UploadModelRequest", "UpdateModelRequest"])
def test_versions_agree_on_number_name_and_kind_of_shared_fields(name: str) -> None:
    """What `convert` relies on."""
    for first, second in _twins(getattr(V1, name).DESCRIPTOR, getattr(V1BETA1, name).DESCRIPTOR, set()):
        for field in first.fields:
            other = second.fields_by_number.get(field.number)
            if other is not None:
                assert (field.name, field.type) == (other.name, other.type), field.full_name
                assert is_repeated(field) == is_repeated(other)


def test_json_text_is_serialisable() -> None:
    assert json.loads(json.dumps(to_json(from_json(V1.BatchPredictionJob, JOB_JSON)))) == JOB_JSON
