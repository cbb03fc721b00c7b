"""The SDK's own classes, over gRPC with TLS (its default), and over REST in plain text and with TLS."""

from typing import Any

import google.auth
import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.cloud.aiplatform import jobs as sdk_jobs
from suite import (
    ACTION_INPUT,
    ACTION_RECOGNITION,
    HTTP,
    LOCATION,
    LONG_INPUT,
    MODEL_FOLDER,
    MOVES,
    OBJECT_TRACKING,
    OUTPUT,
    PETS,
    PROJECT,
    TLS,
    TRACKING_INPUT,
    labels,
    output_lines,
    until,
)


@pytest.fixture(scope="module", params=["grpc-tls", "rest", "rest-tls"])
def transport(request: pytest.FixtureRequest) -> str:
    """Point the SDK at the emulator; what it remembers is for the whole process."""
    sdk_jobs._JOB_WAIT_TIME = 0.5  # it asks every 5 s
    if request.param == "grpc-tls":
        credentials, _ = google.auth.default()
        aiplatform.init(
            project=PROJECT,
            location=LOCATION,
            api_endpoint=TLS,
            api_transport="grpc",
            credentials=credentials,
        )
    else:
        aiplatform.init(
            project=PROJECT,
            location=LOCATION,
            api_endpoint=HTTP if request.param == "rest" else f"https://{TLS}",
            api_transport="rest",
            credentials=AnonymousCredentials(),
        )
    return str(request.param)


def submitted(name: str, source: str = TRACKING_INPUT, **options: Any) -> Any:
    """Return a job that exists and is not waited for."""
    job = aiplatform.Model(OBJECT_TRACKING).batch_predict(
        job_display_name=name, gcs_source=source, gcs_destination_prefix=OUTPUT, sync=False, **options
    )
    job.wait_for_resource_creation()
    return job


def test_object_tracking_with_parameters(transport: str) -> None:
    job = aiplatform.Model(OBJECT_TRACKING).batch_predict(
        job_display_name=f"tracking {transport}",
        gcs_source=TRACKING_INPUT,
        gcs_destination_prefix=OUTPUT,
        model_parameters={"confidenceThreshold": 0.5},
        labels={"suite": "python"},
    )
    assert job.state.name == "JOB_STATE_SUCCEEDED"
    assert job.completion_stats.successful_count == 1
    assert job.to_dict()["modelParameters"] == {"confidenceThreshold": 0.5}
    lines = output_lines(job.output_info.gcs_output_directory)
    assert labels(lines) == PETS
    (blob,) = job.iter_outputs()
    assert blob.name.endswith("/predictions_00001.jsonl")


def test_action_recognition_without_parameters(transport: str) -> None:
    job = aiplatform.Model(ACTION_RECOGNITION).batch_predict(
        job_display_name=f"actions {transport}", gcs_source=ACTION_INPUT, gcs_destination_prefix=OUTPUT
    )
    assert labels(output_lines(job.output_info.gcs_output_directory)) == MOVES


def test_get_and_list_with_filter(transport: str) -> None:
    jobs = [submitted(f"listed {transport} {number}") for number in range(3)]
    for job in jobs:
        job.wait()
    found = aiplatform.BatchPredictionJob.list(
        filter=f'display_name:"listed {transport} *" AND state="JOB_STATE_SUCCEEDED"'
    )
    assert [job.resource_name for job in found] == [job.resource_name for job in reversed(jobs)]
    assert aiplatform.BatchPredictionJob(jobs[0].name).to_dict() == jobs[0].to_dict()


def test_cancel(transport: str) -> None:
    job = submitted(f"cancelled {transport}", LONG_INPUT)
    until(lambda: bool(job.state.name == "JOB_STATE_RUNNING"))
    job.cancel()
    until(lambda: bool(job.state.name == "JOB_STATE_CANCELLED"))
    with pytest.raises(RuntimeError, match="CANCEL"):
        job.wait()


def test_delete_with_its_operation(transport: str) -> None:
    job = submitted(f"deleted {transport}")
    job.wait()
    name = job.resource_name
    job.delete()
    with pytest.raises(exceptions.NotFound, match="does not exist"):
        aiplatform.BatchPredictionJob(name)


def test_errors_are_the_sdk_s_own_exceptions(transport: str) -> None:
    with pytest.raises(exceptions.NotFound, match="no-such-model"):
        aiplatform.Model("no-such-model")
    with pytest.raises(exceptions.InvalidArgument if transport == "grpc-tls" else exceptions.BadRequest):
        aiplatform.Model(OBJECT_TRACKING).batch_predict(
            job_display_name="bad", gcs_source="no/uri", gcs_destination_prefix=OUTPUT
        )
    with pytest.raises(RuntimeError, match=r"(?s)Job failed with.*missing\.jsonl"):
        aiplatform.Model(OBJECT_TRACKING).batch_predict(
            job_display_name="fails",
            gcs_source=TRACKING_INPUT.replace("object-tracking", "missing"),
            gcs_destination_prefix=OUTPUT,
        )


def test_model_is_uploaded_and_deleted(transport: str) -> None:
    model = aiplatform.Model.upload(
        display_name=f"uploaded {transport}",
        artifact_uri=MODEL_FOLDER,
        serving_container_image_uri="unused",  # the SDK insists on one
    )
    assert model.name in [found.name for found in aiplatform.Model.list()]
    job = model.batch_predict(
        job_display_name="with an upload", gcs_source=TRACKING_INPUT, gcs_destination_prefix=OUTPUT
    )
    assert labels(output_lines(job.output_info.gcs_output_directory)) == {"thing"}
    model.delete()
    with pytest.raises(exceptions.NotFound):
        aiplatform.Model(model.resource_name)
