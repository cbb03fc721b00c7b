"""Video classification with the official SDK: its own parameter and result types, over REST and gRPC."""

import json
from typing import Any

import grpc
import pytest
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import BadRequest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1
from google.cloud.aiplatform.v1.schema.predict.params_v1.types import VideoClassificationPredictionParams
from google.cloud.aiplatform.v1.schema.predict.prediction_v1.types import VideoClassificationPredictionResult
from google.protobuf import json_format, struct_pb2

PARENT = "projects/my-project/locations/us-central1"
SEGMENT, SHOT, SECOND = "segment-classification", "shot-classification", "one-sec-interval-classification"
PARAMS = "batch_prediction_job.model_parameters"


def lines_of(server: Any, job: Any) -> list[dict[str, Any]]:
    """The lines that a finished job wrote."""
    folder = server.buckets / job.output_info.gcs_output_directory.removeprefix("gs://")
    files = sorted(folder.iterdir())
    assert [path.name for path in files] == ["predictions_00001.jsonl"]
    return [json.loads(line) for line in files[0].read_text().splitlines()]


def test_a_job_gives_segments_shots_and_seconds(vertex: Any, server: Any) -> None:
    parameters = VideoClassificationPredictionParams(
        confidence_threshold=0.5,
        max_predictions=2,
        segment_classification=True,
        shot_classification=True,
        one_sec_interval_classification=True,
    )
    model = vertex.Model("colours")
    assert model.gca_resource.predict_schemata.prediction_schema_uri.endswith(
        "video_classification_1.0.0.yaml"
    )
    job = model.batch_predict(
        job_display_name="colours",
        gcs_source="gs://bucket/colours.jsonl",
        gcs_destination_prefix="gs://bucket/out",
        model_parameters=dict(type(parameters).to_dict(parameters, preserving_proto_field_name=False)),
    )
    (line,) = lines_of(server, job)
    assert line["instance"]["content"] == "gs://bucket/colours.mp4"
    results = [VideoClassificationPredictionResult.from_json(json.dumps(item)) for item in line["prediction"]]
    found = sorted(
        (
            one.type_,
            one.display_name,
            one.time_segment_start.total_seconds(),
            one.time_segment_end.total_seconds(),
        )
        for one in results
    )
    assert found == [
        (SECOND, "green", 2.25, 2.25),
        (SECOND, "red", 0.5, 0.5),
        (SEGMENT, "red", 0.0, 2.5),
        (SHOT, "green", 1.3, 2.5),
        (SHOT, "red", 0.0, 1.3),
    ]
    assert {(one.id, one.display_name) for one in results} == {("2", "red"), ("3", "green")}
    assert [one.confidence for one in results] == sorted((one.confidence for one in results), reverse=True)


def test_without_parameters_there_are_segments_of_all_labels(vertex: Any, server: Any) -> None:
    job = vertex.Model("colours").batch_predict(
        job_display_name="plain",
        gcs_source="gs://bucket/colours.jsonl",
        gcs_destination_prefix="gs://bucket/out",
    )
    (line,) = lines_of(server, job)
    found = [(one["type"], one["displayName"], one["timeSegmentEnd"]) for one in line["prediction"]]
    assert sorted(found) == [(SEGMENT, "green", "2.500s"), (SEGMENT, "red", "2.500s")]


def test_nothing_that_passes_is_a_success(vertex: Any, server: Any) -> None:
    job = vertex.Model("colours").batch_predict(
        job_display_name="nothing",
        gcs_source="gs://bucket/colours.jsonl",
        gcs_destination_prefix="gs://bucket/out",
        model_parameters={"confidenceThreshold": 1.0},
    )
    assert job.state.name == "JOB_STATE_SUCCEEDED"
    assert job.completion_stats.successful_count == 1
    assert [line["prediction"] for line in lines_of(server, job)] == [[]]


@pytest.mark.parametrize("transport", ["rest", "grpc"])
@pytest.mark.parametrize(
    ("parameters", "field", "problem"),
    [
        ({"shotClassification": 1}, "shotClassification", "Expected true or false, got 1"),
        ({"segmentClassification": "yes"}, "segmentClassification", 'Expected true or false, got "yes"'),
        ({"maxPredictions": 1.5}, "maxPredictions", "Expected a whole number"),
        ({"minBoundingBoxSize": 0.1}, "minBoundingBoxSize", "Unknown parameter"),
    ],
)
def test_bad_parameters_are_named(
    server: Any, transport: str, parameters: dict[str, Any], field: str, problem: str
) -> None:
    with pytest.raises(BadRequest, match=problem) as caught:
        create(server, transport, parameters)
    assert f"{PARAMS}.{field}" in str(caught.value)


@pytest.mark.parametrize("transport", ["rest", "grpc"])
def test_integral_doubles_and_strings_are_taken(server: Any, transport: str) -> None:
    job = create(
        server, transport, {"maxPredictions": 3.0, "confidenceThreshold": "0.25", "shotClassification": True}
    )
    assert job.state in (aiplatform_v1.JobState.JOB_STATE_PENDING, aiplatform_v1.JobState.JOB_STATE_RUNNING)


def create(server: Any, transport: str, parameters: dict[str, Any]) -> aiplatform_v1.BatchPredictionJob:
    value = json_format.ParseDict(parameters, struct_pb2.Value())
    job = aiplatform_v1.BatchPredictionJob(
        display_name="wire",
        model=f"{PARENT}/models/colours",
        model_parameters=value,
        input_config={"instances_format": "jsonl", "gcs_source": {"uris": ["gs://bucket/colours.jsonl"]}},
        output_config={
            "predictions_format": "jsonl",
            "gcs_destination": {"output_uri_prefix": "gs://bucket/out"},
        },
    )
    with client_of(server, transport) as client:
        return client.create_batch_prediction_job(parent=PARENT, batch_prediction_job=job)


def client_of(server: Any, transport: str) -> aiplatform_v1.JobServiceClient:
    if transport == "rest":
        return aiplatform_v1.JobServiceClient(
            credentials=AnonymousCredentials(),
            transport="rest",
            client_options=ClientOptions(api_endpoint=server.url),
        )
    channel = grpc.insecure_channel(server.grpc_address)
    kind = aiplatform_v1.JobServiceClient.get_transport_class("grpc")
    return aiplatform_v1.JobServiceClient(transport=kind(channel=channel))
