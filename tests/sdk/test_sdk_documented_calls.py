"""The documentation's Python calls, made by the official SDK over REST and nothing else changed."""

import json
import re
from typing import Any

import pytest
from google.api_core import exceptions

PARENT = re.compile(r"projects/\d{12}/locations/us-central1")
# The SDK wants an image with every artifact folder; the emulator runs none.
NO_CONTAINER = {"serving_container_image_uri": "unused"}
INPUT, LONG_INPUT, OUTPUT = "gs://bucket/short.jsonl", "gs://bucket/long.jsonl", "gs://bucket/out"


def documented_sample(
    aiplatform: Any,
    model_resource_name: str,
    job_display_name: str,
    sync: bool = True,
    gcs_source: str = INPUT,
) -> Any:
    """The documentation's sample, down to its own `init`."""
    aiplatform.init(project="my-project", location="us-central1")
    my_model = aiplatform.Model(model_resource_name)
    batch_prediction_job = my_model.batch_predict(
        job_display_name=job_display_name,
        gcs_source=gcs_source,
        gcs_destination_prefix=OUTPUT,
        sync=sync,
    )
    batch_prediction_job.wait()
    return batch_prediction_job


@pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
@pytest.mark.parametrize(
    "model", ["pets", "projects/my-project/locations/us-central1/models/pets"], ids=["id", "name"]
)
def test_batch_predict_runs_to_success(vertex: Any, server: Any, model: str, sync: bool) -> None:
    job = documented_sample(vertex, model, "documented sample", sync=sync)
    assert job.state.name == "JOB_STATE_SUCCEEDED"
    assert PARENT.match(job.resource_name)
    assert job.display_name == "documented sample"
    assert job.completion_stats.successful_count == 1
    directory = job.output_info.gcs_output_directory
    assert directory.startswith("gs://bucket/out/prediction-Pets-")
    output = server.buckets / directory.removeprefix("gs://").rstrip("/") / "predictions_00001.jsonl"
    (prediction,) = json.loads(output.read_text())["prediction"]
    assert prediction["displayName"] == "cat"
    assert job.create_time <= job.start_time <= job.end_time


def test_batch_predict_takes_every_option(vertex: Any) -> None:
    job = vertex.Model("pets").batch_predict(
        job_display_name="options",
        gcs_source=[INPUT],
        gcs_destination_prefix=OUTPUT,
        instances_format="jsonl",
        predictions_format="jsonl",
        model_parameters={"confidenceThreshold": 0.5, "maxPredictions": 3},
        labels={"team": "video"},
    )
    message = job.to_dict()
    assert message["labels"] == {"team": "video"}
    assert message["modelParameters"] == {"confidenceThreshold": 0.5, "maxPredictions": 3.0}
    assert message["inputConfig"] == {"instancesFormat": "jsonl", "gcsSource": {"uris": [INPUT]}}
    assert message["modelVersionId"] == "1"


def test_failed_job_raises_with_its_status(vertex: Any) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)Job failed with.*code: .*gs://bucket/missing\.jsonl"):
        documented_sample(vertex, "pets", "fails", gcs_source="gs://bucket/missing.jsonl")


def test_job_is_created_without_reading_the_model(vertex: Any) -> None:
    job = vertex.BatchPredictionJob.create(
        job_display_name="by name", model_name="pets", gcs_source=INPUT, gcs_destination_prefix=OUTPUT
    )
    assert job.done()


def test_job_is_cancelled(vertex: Any) -> None:
    held = vertex.BatchPredictionJob.submit(
        job_display_name="cancel me",
        model_name="projects/my-project/locations/us-central1/models/pets",
        gcs_source=LONG_INPUT,
        gcs_destination_prefix=OUTPUT,
    )
    assert not held.done()
    held.cancel()
    with pytest.raises(RuntimeError, match="CANCELED"):
        held._block_until_complete()
    assert held.state.name == "JOB_STATE_CANCELLED"
    with pytest.raises(exceptions.BadRequest, match="JOB_STATE_CANCELLED"):
        held.cancel()


def test_job_is_found_by_name_and_by_id(vertex: Any) -> None:
    job = documented_sample(vertex, "pets", "find me")
    by_project_id = f"projects/my-project/locations/us-central1/batchPredictionJobs/{job.name}"
    for name in (job.resource_name, job.name, by_project_id):
        assert vertex.BatchPredictionJob(name).to_dict() == job.to_dict()


def test_jobs_are_listed_with_a_filter(vertex: Any) -> None:
    jobs = [documented_sample(vertex, "pets", f"listed {number}") for number in range(3)]
    found = vertex.BatchPredictionJob.list(filter='display_name:"listed *" AND state="JOB_STATE_SUCCEEDED"')
    assert [job.resource_name for job in found] == [job.resource_name for job in reversed(jobs)]
    newest_last = vertex.BatchPredictionJob.list(filter='display_name="listed 0"', order_by="create_time")
    assert [job.name for job in newest_last] == [jobs[0].name]
    assert vertex.BatchPredictionJob.list(filter='display_name="no such job"') == []


def test_job_is_deleted(vertex: Any) -> None:
    job = documented_sample(vertex, "pets", "delete me")
    job.delete()
    with pytest.raises(exceptions.NotFound, match=job.name):
        vertex.BatchPredictionJob(job.resource_name)


def test_models_are_listed_and_read(vertex: Any) -> None:
    (model,) = vertex.Model.list(filter='display_name="Pets"', order_by="create_time desc")
    assert model.name == "pets"
    assert model.version_id == "1"
    assert vertex.Model("pets@default").resource_name == model.resource_name
    assert vertex.Model("pets@1").versioned_resource_name == f"{model.resource_name}@1"
    assert model.supported_input_storage_formats == ["jsonl"]


def test_model_is_uploaded_updated_used_and_deleted(vertex: Any, server: Any, uploadable: str) -> None:
    model = vertex.Model.upload(
        display_name="Uploaded", artifact_uri=uploadable, labels={"from": "test"}, **NO_CONTAINER
    )
    assert model.display_name == "Uploaded"
    assert model.version_aliases == ["default"]
    assert model.to_dict()["artifactUri"] == uploadable
    model.update(display_name="Renamed", description="a text")
    assert vertex.Model(model.resource_name).display_name == "Renamed"
    second = vertex.Model.upload(
        parent_model=model.resource_name, artifact_uri=uploadable, is_default_version=False, **NO_CONTAINER
    )
    assert second.version_id == "2"
    versions = model.versioning_registry.list_versions()
    assert sorted(version.version_id for version in versions) == ["1", "2"]
    job = documented_sample(vertex, second.versioned_resource_name, "with an upload")
    assert job.to_dict()["model"].endswith("@2")
    model.versioning_registry.add_version_aliases(["best"], "2")
    assert vertex.Model(f"{model.resource_name}@best").version_id == "2"
    model.delete()
    with pytest.raises(exceptions.NotFound):
        vertex.Model(model.resource_name)


def test_upload_of_an_empty_folder_tells_what_to_do(vertex: Any) -> None:
    with pytest.raises(exceptions.GoogleAPICallError, match=r"put model\.toml and its ONNX file there"):
        vertex.Model.upload(display_name="Nothing", artifact_uri="gs://bucket/nothing/here", **NO_CONTAINER)
