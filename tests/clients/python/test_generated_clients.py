"""The generated clients: v1 and v1beta1 over gRPC and REST, in plain text and over TLS."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1, aiplatform_v1beta1
from google.protobuf import json_format, struct_pb2
from suite import (
    ACTION_INPUT,
    ACTION_RECOGNITION,
    GRPC,
    HTTP,
    LONG_INPUT,
    MODEL_FOLDER,
    MOVES,
    OBJECT_TRACKING,
    OUTPUT,
    PARENT,
    PETS,
    TERMINAL,
    TLS,
    TRACKING_INPUT,
    labels,
    output_lines,
    until,
)

Connect = Callable[[type[Any]], Any]


@pytest.fixture(scope="module", params=[aiplatform_v1, aiplatform_v1beta1], ids=["v1", "v1beta1"])
def api(request: pytest.FixtureRequest) -> Any:
    """The module of one version."""
    return request.param


@pytest.fixture(scope="module", params=["grpc", "grpc-tls", "rest", "rest-tls"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Make a client of a class over one transport."""

    def over(kind: type[Any]) -> Any:
        if request.param == "grpc":
            return kind(transport=kind.get_transport_class("grpc")(channel=grpc.insecure_channel(GRPC)))
        if request.param == "grpc-tls":
            return kind(client_options={"api_endpoint": TLS})
        return kind(
            transport="rest",
            client_options={"api_endpoint": HTTP if request.param == "rest" else f"https://{TLS}"},
            credentials=AnonymousCredentials(),
        )

    return over


def job_of(model: str, source: str, **others: Any) -> dict[str, Any]:
    """Return a job as the documentation's dictionaries have it."""
    return {
        "display_name": "generated client",
        "model": f"{PARENT}/models/{model}",
        "input_config": {"instances_format": "jsonl", "gcs_source": {"uris": [source]}},
        "output_config": {
            "predictions_format": "jsonl",
            "gcs_destination": {"output_uri_prefix": OUTPUT},
        },
        **others,
    }


def parameters(**values: float) -> Any:
    return json_format.ParseDict(values, struct_pb2.Value())


def finished(jobs: Any, api: Any, name: str) -> Any:
    """Wait for a job's end; the job."""
    states = [api.JobState[state] for state in TERMINAL]
    until(lambda: jobs.get_batch_prediction_job(name=name).state in states)
    return jobs.get_batch_prediction_job(name=name)


def test_documented_calls(api: Any, connect: Connect) -> None:
    jobs = connect(api.JobServiceClient)
    expected = [
        (OBJECT_TRACKING, TRACKING_INPUT, parameters(confidenceThreshold=0.5), PETS),
        (ACTION_RECOGNITION, ACTION_INPUT, struct_pb2.Value(), MOVES),
    ]
    created = [
        jobs.create_batch_prediction_job(
            parent=PARENT, batch_prediction_job=job_of(model, source, model_parameters=given)
        )
        for model, source, given, _ in expected
    ]
    assert {job.state for job in created} == {api.JobState.JOB_STATE_PENDING}
    for job, (*_, seen) in zip(created, expected, strict=True):
        done = finished(jobs, api, job.name)
        assert done.state == api.JobState.JOB_STATE_SUCCEEDED
        assert labels(output_lines(done.output_info.gcs_output_directory)) == seen


def test_cancel_and_delete(api: Any, connect: Connect) -> None:
    jobs = connect(api.JobServiceClient)
    name = jobs.create_batch_prediction_job(
        parent=PARENT, batch_prediction_job=job_of(OBJECT_TRACKING, LONG_INPUT)
    ).name
    running = api.JobState.JOB_STATE_RUNNING
    until(lambda: bool(jobs.get_batch_prediction_job(name=name).state == running))
    with pytest.raises(exceptions.GoogleAPICallError) as refused:
        jobs.delete_batch_prediction_job(name=name)
    assert refused.value.code == 400  # FAILED_PRECONDITION
    jobs.cancel_batch_prediction_job(name=name)
    assert finished(jobs, api, name).state == api.JobState.JOB_STATE_CANCELLED
    operation = jobs.delete_batch_prediction_job(name=name)
    operation.result(timeout=60)
    assert isinstance(operation.metadata, api.DeleteOperationMetadata)
    with pytest.raises(exceptions.NotFound, match="does not exist"):
        jobs.get_batch_prediction_job(name=name)


def test_list_with_filter_and_paging(api: Any, connect: Connect, request: pytest.FixtureRequest) -> None:
    jobs = connect(api.JobServiceClient)
    display_name = request.node.name
    names = {
        jobs.create_batch_prediction_job(
            parent=PARENT,
            batch_prediction_job=job_of(OBJECT_TRACKING, "gs://none/at-all", display_name=display_name),
        ).name
        for _ in range(5)
    }
    found = jobs.list_batch_prediction_jobs(
        request={
            "parent": PARENT,
            "filter": f'display_name="{display_name}"',
            "page_size": 2,
            "read_mask": {"paths": ["name"]},
        }
    )
    pages = list(found.pages)
    assert [len(page.batch_prediction_jobs) for page in pages] == [2, 2, 1]
    listed = [job for page in pages for job in page.batch_prediction_jobs]
    assert {job.name for job in listed} == names
    assert {job.display_name for job in listed} == {""}


def test_errors(api: Any, connect: Connect) -> None:
    jobs = connect(api.JobServiceClient)
    with pytest.raises(exceptions.NotFound):
        jobs.get_batch_prediction_job(name=f"{PARENT}/batchPredictionJobs/1")
    with pytest.raises(exceptions.BadRequest) as raised:
        jobs.create_batch_prediction_job(
            parent=PARENT, batch_prediction_job=job_of(OBJECT_TRACKING, TRACKING_INPUT, display_name="")
        )
    assert raised.value.details
    with pytest.raises(exceptions.MethodNotImplemented, match="ListCustomJobs"):
        list(jobs.list_custom_jobs(parent=PARENT))


def test_models(api: Any, connect: Connect) -> None:
    models = connect(api.ModelServiceClient)
    assert {OBJECT_TRACKING, ACTION_RECOGNITION} <= {
        model.name.rpartition("/")[2] for model in models.list_models(parent=PARENT)
    }
    operation = models.upload_model(
        parent=PARENT, model=api.Model(display_name="uploaded", artifact_uri=MODEL_FOLDER)
    )
    uploaded = operation.result(timeout=60).model
    assert models.get_model(name=f"{uploaded}@1").display_name == "uploaded"
    models.delete_model(name=uploaded).result(timeout=60)
    with pytest.raises(exceptions.NotFound):
        models.get_model(name=uploaded)
