"""The generated clients over REST, v1 and v1beta1: messages, paging, operations, errors."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import aiplatform_v1, aiplatform_v1beta1
from google.protobuf import struct_pb2

PARENT = "projects/my-project/locations/us-central1"
Client = Callable[[type[Any]], Any]
LONG = {"input_config": {"instances_format": "jsonl", "gcs_source": {"uris": ["gs://bucket/long.jsonl"]}}}


def job_of(api: Any, **changes: Any) -> Any:
    fields = {
        "display_name": "gapic é",
        "model": f"{PARENT}/models/pets",
        "model_parameters": struct_pb2.Value(),
        "input_config": {"instances_format": "jsonl", "gcs_source": {"uris": ["gs://bucket/short.jsonl"]}},
        "output_config": {
            "predictions_format": "jsonl",
            "gcs_destination": {"output_uri_prefix": "gs://bucket/out"},
        },
    }
    return api.BatchPredictionJob(**{**fields, **changes})


@pytest.mark.parametrize("api", [aiplatform_v1, aiplatform_v1beta1], ids=["v1", "v1beta1"])
def test_job_lives_through_the_generated_client(client: Client, api: Any) -> None:
    jobs = client(api.JobServiceClient)
    created = jobs.create_batch_prediction_job(
        parent=PARENT, batch_prediction_job=job_of(api, display_name="lives", **LONG)
    )
    assert isinstance(created, api.BatchPredictionJob)
    assert created.state == api.JobState.JOB_STATE_PENDING
    assert created.completion_stats.incomplete_count == -1
    read = jobs.get_batch_prediction_job(name=created.name)
    assert (read.display_name, read.create_time) == ("lives", created.create_time)
    jobs.cancel_batch_prediction_job(name=created.name)
    deadline = time.monotonic() + 60
    while jobs.get_batch_prediction_job(name=created.name).state != api.JobState.JOB_STATE_CANCELLED:
        assert time.monotonic() < deadline
    operation = jobs.delete_batch_prediction_job(name=created.name)
    operation.result(timeout=60)
    assert isinstance(operation.metadata, api.DeleteOperationMetadata)
    assert jobs.get_operation({"name": operation.operation.name}).done
    assert operation.operation.name in [o.name for o in jobs.list_operations({"name": PARENT}).operations]


def test_list_follows_pages_and_masks(client: Client) -> None:
    jobs = client(aiplatform_v1.JobServiceClient)
    names = {
        jobs.create_batch_prediction_job(
            parent=PARENT,
            batch_prediction_job=job_of(aiplatform_v1, display_name="paged", labels={"n": str(n)}),
        ).name
        for n in range(5)
    }
    request = aiplatform_v1.ListBatchPredictionJobsRequest(
        parent=PARENT,
        filter='display_name="paged" AND labels.n:*',
        page_size=2,
        read_mask={"paths": ["name"]},
    )
    pages = list(jobs.list_batch_prediction_jobs(request=request).pages)
    assert [len(page.batch_prediction_jobs) for page in pages] == [2, 2, 1]
    found = [job for page in pages for job in page.batch_prediction_jobs]
    assert {job.name for job in found} == names
    assert {job.display_name for job in found} == {""}


def test_errors_arrive_as_the_sdk_s_exceptions(client: Client) -> None:
    jobs = client(aiplatform_v1.JobServiceClient)
    with pytest.raises(exceptions.NotFound, match=r"The BatchPredictionJob does not exist\."):
        jobs.get_batch_prediction_job(name=f"{PARENT}/batchPredictionJobs/1")
    with pytest.raises(exceptions.BadRequest, match="List of found errors:") as raised:
        jobs.create_batch_prediction_job(
            parent=PARENT, batch_prediction_job=job_of(aiplatform_v1, display_name="", output_config={})
        )
    (detail,) = raised.value.details
    assert "batch_prediction_job.display_name" in [found["field"] for found in detail["fieldViolations"]]
    with pytest.raises(exceptions.MethodNotImplemented, match=r"JobService\.ListCustomJobs is not"):
        jobs.list_custom_jobs(parent=PARENT)


def test_locations_are_known(client: Client) -> None:
    jobs = client(aiplatform_v1.JobServiceClient)
    assert jobs.get_location({"name": PARENT}).location_id == "us-central1"
    assert "us-central1" in [
        found.location_id for found in jobs.list_locations({"name": "projects/p"}).locations
    ]


@pytest.mark.parametrize("api", [aiplatform_v1, aiplatform_v1beta1], ids=["v1", "v1beta1"])
def test_model_lives_through_the_generated_client(client: Client, api: Any, uploadable: str) -> None:
    models = client(api.ModelServiceClient)
    model = api.Model(display_name="m", artifact_uri=uploadable, version_aliases=["first"])
    operation = models.upload_model(parent=PARENT, model=model, timeout=30)
    result = operation.result(timeout=30)
    assert isinstance(operation.metadata, api.UploadModelOperationMetadata)
    read = models.get_model(name=f"{result.model}@first")
    assert (read.name, read.version_id) == (result.model, "1")
    read.display_name = "n"
    updated = models.update_model(model=read, update_mask={"paths": ["display_name"]})
    assert updated.display_name == "n"
    merged = models.merge_version_aliases(name=f"{result.model}@1", version_aliases=["-first", "second"])
    assert set(merged.version_aliases) == {"default", "second"}
    assert result.model in [model.name for model in models.list_models(parent=PARENT)]
    models.delete_model(name=result.model).result(timeout=30)
    with pytest.raises(exceptions.NotFound):
        models.get_model(name=result.model)
