"""What creating, reading, listing, cancelling and deleting a job means."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from emulator.service import Call
from emulator.service.model_registry import folder_model
from emulator.vertex.contract import load
from emulator.vertex.errors import ApiError, FailedPrecondition, InvalidArgument, NotFound, Unimplemented
from emulator.vertex.job_state import JobState
from emulator.vertex.messages import from_json
from tests.service.service_client import (
    LOCATION,
    NUMBER,
    PARENT,
    PROJECT,
    Client,
    N,
    job_body,
    request_types,
    write_model,
)

CREATE = "JobService/CreateBatchPredictionJob"
LIST = "JobService/ListBatchPredictionJobs"
CANCEL = "JobService/CancelBatchPredictionJob"
DELETE = "JobService/DeleteBatchPredictionJob"


def violations(client: Client, **changes: Any) -> dict[str, str]:
    """The field violations of a creation, by field path."""
    with pytest.raises(InvalidArgument) as caught:
        client.create(**changes)
    found = {item["field"]: item["description"] for item in caught.value.details[0]["fieldViolations"]}
    for number, (path, text) in enumerate(found.items(), start=1):
        assert f"\t{number}.Field: {path}; Message: {text}" in caught.value.message
    return found


def finish(client: Client, name: str, state: JobState, **values: Any) -> None:
    job = client.database.claim_job("runner", 10**9)
    assert job is not None
    assert job.name == name
    if state is JobState.CANCELLED:
        client.call(CANCEL, {"name": name})
    assert client.database.finish_job(job.id, "runner", state, **values)


def test_created_job_is_the_request_and_its_state(client: Client) -> None:
    job = client.create(labels={"team": "vision"})
    number = job["name"].rpartition("/")[2]
    assert job["name"] == f"{N}/batchPredictionJobs/{number}"
    assert 10**18 <= int(number) < 2**63
    assert job["createTime"] == job["updateTime"]
    expected = {
        **job_body(labels={"team": "vision"}, model=f"{N}/models/tracker"),
        "name": job["name"],
        "state": "JOB_STATE_PENDING",
        "completionStats": {"incompleteCount": "-1"},
        "createTime": job["createTime"],
        "updateTime": job["updateTime"],
    }
    assert job == expected
    assert client.get(job["name"]) == expected
    assert len(client.wake_ups) == 1


@pytest.mark.parametrize("project", [PROJECT, NUMBER])
def test_project_id_and_number_are_one_project(client: Client, project: str) -> None:
    name = client.create()["name"]
    place = f"projects/{project}/locations/{LOCATION}"
    assert client.get(f"{place}/batchPredictionJobs/{name.rpartition('/')[2]}")["name"] == name
    assert len(client.call(LIST, {"parent": place})["batchPredictionJobs"]) == 1


@pytest.mark.parametrize(
    ("model", "stored"),
    [
        (f"{PARENT}/models/tracker", f"{N}/models/tracker"),
        (f"{N}/models/tracker@1", f"{N}/models/tracker@1"),
        (f"{PARENT}/models/tracker@default", f"{N}/models/tracker@default"),
        (f"{PARENT}/tracker", f"{N}/models/tracker"),
    ],
)
def test_model_is_given_back_with_the_projects_number(client: Client, model: str, stored: str) -> None:
    job = client.create(model=model)
    assert job["model"] == stored
    assert "modelVersionId" not in job
    client.database.claim_job("runner", 10**9)
    assert client.get(job["name"])["modelVersionId"] == "1"


def test_strict_refuses_a_model_name_without_its_collection(make_client: Callable[..., Client]) -> None:
    found = violations(make_client(strict=True), model=f"{PARENT}/tracker")
    assert found.keys() == {"batch_prediction_job.model"}
    assert "Invalid Model resource name" in found["batch_prediction_job.model"]


def test_model_of_another_project_can_be_used(client: Client) -> None:
    other = "projects/other-project/locations/us-central1/models/tracker"
    assert client.create(model=other)["model"].endswith("/models/tracker")


def test_version_in_use_is_the_one_of_the_creation(client: Client) -> None:
    job = client.create()
    client.database.add_version(NUMBER, LOCATION, _another_version(client), ["default"])
    client.database.claim_job("runner", 10**9)
    assert client.get(job["name"])["modelVersionId"] == "1"
    assert client.create()["model"] == f"{N}/models/tracker"
    client.database.claim_job("runner", 10**9)
    newest = client.call(LIST, {"parent": PARENT, "pageSize": 1})["batchPredictionJobs"][0]
    assert newest["modelVersionId"] == "2"


def _another_version(client: Client) -> Any:
    (source,) = [s for s in client.registry.catalogue().sources if s.id == "tracker"]
    return folder_model(source)


@pytest.mark.parametrize(
    ("changes", "field", "text"),
    [
        ({"displayName": None}, "display_name", "Required field is not set."),
        ({"displayName": "a\0b"}, "display_name", "must not contain NUL"),
        ({"displayName": "x" * 129}, "display_name", "129 characters"),
        ({"model": None}, "model", "Required field is not set."),
        ({"model": "tracker"}, "model", 'got "tracker"'),
        ({"model": "publishers/google/models/gemini"}, "model", "Invalid Model resource name"),
        (
            {"model": f"projects/{PROJECT}/locations/europe-west4/models/tracker"},
            "model",
            "europe-west4; it must be in the location of the job, us-central1",
        ),
        ({"inputConfig": None}, "input_config.instances_format", "Required field is not set."),
        ({"inputConfig": {"instancesFormat": "jsonl"}}, "input_config", "Exactly one source is required"),
        (
            {"inputConfig": {"instancesFormat": "csv", "gcsSource": {"uris": ["gs://bucket/x"]}}},
            "input_config.instances_format",
            'does not support the format "csv"; video models take jsonl',
        ),
        (
            {"inputConfig": {"instancesFormat": "jsonl", "gcsSource": {}}},
            "input_config.gcs_source.uris",
            "Required field is not set.",
        ),
        (
            {"inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://ok/x", "/tmp/x"]}}},
            "input_config.gcs_source.uris[1]",
            '"/tmp/x" is not a Cloud Storage URI',
        ),
        (
            {"inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://bucket"]}}},
            "input_config.gcs_source.uris[0]",
            "names a bucket but no object",
        ),
        (
            {"inputConfig": {"instancesFormat": "jsonl", "bigquerySource": {"inputUri": "bq://p.d.t"}}},
            "input_config.bigquery_source",
            "JSON Lines in Cloud Storage only",
        ),
        (
            {"outputConfig": {"predictionsFormat": "jsonl"}},
            "output_config",
            "Exactly one destination is required",
        ),
        (
            {"outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": "gs://"}}},
            "output_config.gcs_destination.output_uri_prefix",
            "names no bucket",
        ),
        (
            {"outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": ""}}},
            "output_config.gcs_destination.output_uri_prefix",
            "Required field is not set.",
        ),
        (
            {"outputConfig": {"predictionsFormat": "bigquery", "bigqueryDestination": {"outputUri": "bq://p"}}},
            "output_config.bigquery_destination",
            "JSON Lines in Cloud Storage only",
        ),
        ({"labels": {"Team": "x"}}, "labels", "There can be no more than 64 labels"),
        ({"labels": {"team": "a b"}}, "labels", '"team": "a b"'),
        ({"labels": {"k" * 65: ""}}, "labels", "at most 64 characters"),
        ({"labels": {"": "x"}}, "labels", "must not be empty"),
        ({"labels": {f"k{n}": "" for n in range(65)}}, "labels", "Got 65 labels"),
        (
            {"modelParameters": {"confidenceThreshold": 2}},
            "model_parameters.confidenceThreshold",
            "from 0 to 1",
        ),
        ({"modelParameters": {"speed": 2}}, "model_parameters.speed", "Unknown parameter"),
        ({"modelParameters": "fast"}, "model_parameters", "must be a JSON object"),
        ({"generateExplanation": True}, "generate_explanation", "do not support explanations"),
    ],
)  # fmt: skip
def test_wrong_field_is_named(client: Client, changes: dict[str, Any], field: str, text: str) -> None:
    found = violations(client, **changes)
    assert text in found[f"batch_prediction_job.{field}"]
    assert client.call(LIST, {"parent": PARENT}) == {}
    assert client.wake_ups == []


def test_all_problems_are_reported_at_once(client: Client) -> None:
    found = violations(
        client,
        displayName="",
        labels={"A": "b"},
        inputConfig={"instancesFormat": "csv", "gcsSource": {"uris": ["x", "gs://bucket/y", "z"]}},
        outputConfig={},
        modelParameters={"confidenceThreshold": -1, "maxPredictions": 1.5},
    )
    assert set(found) == {
        f"batch_prediction_job.{field}"
        for field in (
            "display_name",
            "labels",
            "input_config.instances_format",
            "input_config.gcs_source.uris[0]",
            "input_config.gcs_source.uris[2]",
            "output_config",
            "output_config.predictions_format",
            "model_parameters.confidenceThreshold",
            "model_parameters.maxPredictions",
        )
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"displayName": "日" * 128},
        {"labels": {"équipe": "日本", "a-b_c": "", "1": "x" * 64}},
        {"labels": {f"k{n}": "" for n in range(64)}},
        {"modelParameters": None},
        {"modelParameters": {}},
        {"modelParameters": {"maxPredictions": 7.0, "minBoundingBoxSize": 0.1}},
        {"inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://bucket/a*.jsonl"]}}},
        {"outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": "gs://bucket/a/"}}},
        {"serviceAccount": "me@project.iam.gserviceaccount.com"},
        {"encryptionSpec": {"kmsKeyName": "projects/p/locations/l/keyRings/r/cryptoKeys/k"}},
        {"manualBatchTuningParameters": {"batchSize": 4}},
        {"disableContainerLogging": True},
    ],
)  # fmt: skip
def test_right_field_is_kept(client: Client, changes: dict[str, Any]) -> None:
    job = client.create(**changes)
    for key, value in changes.items():
        assert job.get(key) == value


@pytest.mark.parametrize("kind", ["absent", "null", "no kind"])
def test_parameters_may_be_a_value_without_content(client: Client, kind: str) -> None:
    """Java sends a Value with no kind, Python a null: both mean that there are no parameters."""
    request = load().v1.CreateBatchPredictionJobRequest(parent=PARENT)
    request.batch_prediction_job.CopyFrom(
        from_json(load().v1.BatchPredictionJob, job_body(modelParameters=None))
    )
    if kind == "null":
        request.batch_prediction_job.model_parameters.null_value = 0
    elif kind == "no kind":
        request.batch_prediction_job.model_parameters.SetInParent()
    job = client.service.methods()[CREATE](request, Call()).message
    assert job.HasField("model_parameters") == (kind != "absent")


def test_output_only_fields_of_a_request_do_not_count(client: Client) -> None:
    job = client.create(
        name="projects/p/locations/l/batchPredictionJobs/1", state="JOB_STATE_SUCCEEDED",
        createTime="2001-01-01T00:00:00Z", startTime="2001-01-01T00:00:00Z", error={"code": 5},
        completionStats={"successfulCount": "7"}, outputInfo={"gcsOutputDirectory": "gs://x/y"},
        modelVersionId="9", partialFailures=[{"code": 3}], resourcesConsumed={"replicaHours": 1.0},
    )  # fmt: skip
    assert job["state"] == "JOB_STATE_PENDING"
    assert job["completionStats"] == {"incompleteCount": "-1"}
    assert not job.keys() & {
        "error",
        "outputInfo",
        "startTime",
        "modelVersionId",
        "partialFailures",
        "resourcesConsumed",
    }
    assert not job["createTime"].startswith("2001")


def test_dedicated_resources_are_dropped(client: Client) -> None:
    resources = {"machineSpec": {"machineType": "n1-standard-4"}, "startingReplicaCount": 1}
    assert "dedicatedResources" not in client.create(dedicatedResources=resources)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"instanceConfig": {"keyField": "id"}}, "batch_prediction_job.instance_config"),
        (
            {"model": None, "unmanagedContainerModel": {"artifactUri": "gs://b/x"}},
            "batch_prediction_job.unmanaged_container_model",
        ),
    ],
)
def test_field_that_is_not_emulated_is_named(client: Client, changes: dict[str, Any], path: str) -> None:
    with pytest.raises(Unimplemented, match=re.escape(path)):
        client.create(**changes)


def test_model_and_container_together_are_refused(client: Client) -> None:
    found = violations(client, unmanagedContainerModel={"artifactUri": "gs://b/x"})
    assert "not both" in found["batch_prediction_job.model"]


def test_fields_of_v1beta1_are_refused_by_name(client: Client) -> None:
    request = {"parent": PARENT, "batchPredictionJob": job_body()}
    path = "batch_prediction_job.model_monitoring_config"
    with pytest.raises(Unimplemented, match="model_monitoring_config"):
        client.raw(CREATE, request, "v1beta1", path)
    output_only = "batch_prediction_job.model_monitoring_status"
    assert client.call(CREATE, request, "v1beta1", output_only)["state"] == "JOB_STATE_PENDING"


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("nothing", "models/nothing. Models there: "),
        ("tracker@7", "No version or alias 7"),
        ("tracker@best", "It has 1, default"),
    ],
)
def test_missing_model_is_not_found(client: Client, model: str, text: str) -> None:
    with pytest.raises(NotFound, match=r"^The Model does not exist") as caught:
        client.create(model=f"{PARENT}/models/{model}")
    assert text in caught.value.message


def test_folder_model_that_cannot_be_used_says_why(client: Client) -> None:
    (client.models_folder / "tracker" / "model.onnx").unlink()
    with pytest.raises(NotFound, match=r"model\.onnx, which does not exist"):
        client.create()


def test_folder_model_added_later_is_there_at_once(client: Client) -> None:
    client.create()
    write_model(client.models_folder / "late")
    assert client.create(model=f"{PARENT}/models/late")["model"] == f"{N}/models/late"


@pytest.mark.parametrize("parent", ["", "projects/p", f"{PARENT}/models/m"])
def test_wrong_parent_is_invalid(client: Client, parent: str) -> None:
    for rpc, request in (
        (CREATE, {"parent": parent, "batchPredictionJob": job_body()}),
        (LIST, {"parent": parent}),
    ):
        with pytest.raises(InvalidArgument, match="Invalid Location resource name"):
            client.call(rpc, request)


@pytest.mark.parametrize("rpc", ["JobService/GetBatchPredictionJob", CANCEL, DELETE])
def test_unknown_job_is_not_found(client: Client, rpc: str) -> None:
    name = client.create()["name"]
    elsewhere = name.replace(LOCATION, "europe-west4")
    for missing in (f"{PARENT}/batchPredictionJobs/1", elsewhere, f"{PARENT}/batchPredictionJobs/{'9' * 19}"):
        with pytest.raises(NotFound, match=r"^The BatchPredictionJob does not exist"):
            client.call(rpc, {"name": missing})
    with pytest.raises(InvalidArgument, match="Invalid BatchPredictionJob resource name"):
        client.call(rpc, {"name": f"{PARENT}/batchPredictionJobs/abc"})


def test_running_job_shows_its_start_and_its_counts(client: Client) -> None:
    name = client.create()["name"]
    row = client.database.claim_job("runner", 10**9)
    assert row is not None
    job = client.get(name)
    assert job["state"] == "JOB_STATE_RUNNING"
    assert job["startTime"] >= job["createTime"]
    assert job["completionStats"] == {"incompleteCount": "-1"}
    client.database.start_output(row.id, "runner", "gs://out-bucket/prediction-x")
    client.database.set_progress(row.id, "runner", successful=2, failed=1, incomplete=3)
    job = client.get(name)
    assert job["completionStats"] == {"successfulCount": "2", "failedCount": "1", "incompleteCount": "3"}
    assert job["outputInfo"] == {"gcsOutputDirectory": "gs://out-bucket/prediction-x"}
    assert not job.keys() & {"endTime", "error"}


def test_finished_job_has_error_and_partial_failures(client: Client) -> None:
    name = client.create()["name"]
    status = client.status(code=3, message="line 2")
    finish(
        client, name, JobState.FAILED, error=client.status(code=9, message="no bucket"),
        partial_failures=[status, status], successful=0, failed=2, incomplete=0,
    )  # fmt: skip
    job = client.get(name)
    assert (job["state"], job["error"]) == ("JOB_STATE_FAILED", {"code": 9, "message": "no bucket"})
    assert job["partialFailures"] == [{"code": 3, "message": "line 2"}] * 2
    assert job["completionStats"] == {"failedCount": "2"}
    assert job["endTime"] == job["updateTime"]


def test_pending_job_is_cancelled_at_once(client: Client) -> None:
    name = client.create()["name"]
    assert client.call(CANCEL, {"name": name}) == {}
    job = client.get(name)
    assert (job["state"], job["error"]) == ("JOB_STATE_CANCELLED", {"code": 1, "message": "CANCELED"})
    assert job["endTime"] == job["updateTime"]
    assert not job.keys() & {"startTime", "completionStats"}


def test_running_job_is_cancelled_by_its_runner(client: Client) -> None:
    name = client.create()["name"]
    row = client.database.claim_job("runner", 10**9)
    assert row is not None
    for _ in range(2):  # Asking again changes nothing.
        assert client.call(CANCEL, {"name": name}) == {}
        assert client.get(name)["state"] == "JOB_STATE_CANCELLING"
    assert len(client.wake_ups) == 3, "the runner is to look at once"
    client.database.finish_job(row.id, "runner", JobState.CANCELLED, successful=1, failed=0, incomplete=4)
    job = client.get(name)
    assert job["error"] == {"code": 1, "message": "CANCELED"}
    assert job["completionStats"] == {"successfulCount": "1", "incompleteCount": "4"}


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_finished_job_cannot_be_cancelled(client: Client, state: JobState) -> None:
    name = client.create()["name"]
    finish(client, name, state)
    with pytest.raises(FailedPrecondition, match=state.proto_name):
        client.call(CANCEL, {"name": name})
    assert client.get(name)["state"] == state.proto_name


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_delete_is_a_finished_operation(client: Client, version: str) -> None:
    name = client.create()["name"]
    client.call(CANCEL, {"name": name})
    operation = client.call(DELETE, {"name": name}, version)
    metadata = operation["metadata"]
    assert operation["done"] is True
    assert metadata["@type"].endswith(f"google.cloud.aiplatform.{version}.DeleteOperationMetadata")
    assert metadata["genericMetadata"].keys() == {"createTime", "updateTime"}
    assert operation["response"] == {"@type": "type.googleapis.com/google.protobuf.Empty"}
    assert operation["name"].startswith(f"{N}/operations/")
    assert client.call("Operations/GetOperation", {"name": operation["name"]}) == operation
    with pytest.raises(NotFound):
        client.get(name)


@pytest.mark.parametrize("state", ["JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_CANCELLING"])
def test_unfinished_job_cannot_be_deleted(client: Client, state: str) -> None:
    name = client.create()["name"]
    if state != "JOB_STATE_PENDING":
        client.database.claim_job("runner", 10**9)
    if state == "JOB_STATE_CANCELLING":
        client.call(CANCEL, {"name": name})
    with pytest.raises(FailedPrecondition, match=state):
        client.call(DELETE, {"name": name})
    assert client.get(name)["state"] == state
    assert client.call("Operations/ListOperations", {"name": PARENT}) == {}


def names(response: dict[str, Any]) -> list[str]:
    return [job["displayName"] for job in response.get("batchPredictionJobs", [])]


def test_list_pages_are_newest_first_and_stable(client: Client) -> None:
    for n in range(5):
        client.create(displayName=f"job {n}")
    first = client.call(LIST, {"parent": PARENT, "pageSize": 2})
    assert names(first) == ["job 4", "job 3"]
    client.create(displayName="new")
    second = client.call(LIST, {"parent": PARENT, "pageSize": 2, "pageToken": first["nextPageToken"]})
    assert names(second) == ["job 2", "job 1"]
    # The size may change between pages.
    third = client.call(LIST, {"parent": PARENT, "pageSize": 9, "pageToken": second["nextPageToken"]})
    assert names(third) == ["job 0"]
    assert "nextPageToken" not in third


def test_exactly_full_page_is_the_last_one(client: Client) -> None:
    for _ in range(2):
        client.create()
    assert "nextPageToken" not in client.call(LIST, {"parent": PARENT, "pageSize": 2})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('display_name="a"', ["a"]),
        ('display_name:"a*"', ["ab", "a"]),
        ('displayName!="a"', ["ab", "b"]),
        ('state="JOB_STATE_CANCELLED"', ["b"]),
        ('state!="JOB_STATE_CANCELLED" AND display_name:"*b"', ["ab"]),
        ("labels.team=red", ["a"]),
        ("labels.team:*", ["ab", "a"]),
        ('NOT labels.team:* OR display_name="a"', ["b", "a"]),
        ('model_display_name="Swings"', ["b"]),
        ('create_time>"2020-05-18T00:00:00Z"', ["ab", "b", "a"]),
        ('create_time<"2020-05-18T00:00:00Z"', []),
    ],
)
def test_list_is_filtered(client: Client, text: str, expected: list[str]) -> None:
    client.create(displayName="a", labels={"team": "red"})
    second = client.create(displayName="b", model=f"{PARENT}/models/swings")
    client.create(displayName="ab", labels={"team": "blue"})
    client.call(CANCEL, {"name": second["name"]})
    assert names(client.call(LIST, {"parent": PARENT, "filter": text})) == expected


def test_filtered_list_pages(client: Client) -> None:
    for n in range(6):
        client.create(displayName="even" if n % 2 == 0 else "odd", labels={"n": str(n)})
    request = {"parent": PARENT, "filter": 'display_name="even"', "pageSize": 2}
    first = client.call(LIST, request)
    second = client.call(LIST, {**request, "pageToken": first["nextPageToken"]})
    numbers = [job["labels"]["n"] for page in (first, second) for job in page["batchPredictionJobs"]]
    assert numbers == ["4", "2", "0"]
    assert "nextPageToken" not in second


@pytest.mark.parametrize(("display_name", "directory_bytes"), [("Traffic", 46), ("é" * 128, 255)])
def test_the_longest_output_prefix_leaves_room_for_the_longest_name(
    client: Client, display_name: str, directory_bytes: int
) -> None:
    """An object's name has at most 1024 bytes; below the prefix come a directory and a file."""
    write_model(client.models_folder / "named", display_name=display_name)
    room = 1024 - directory_bytes - len("//predictions_00001.jsonl")

    def create(prefix: str) -> dict[str, Any]:
        destination = {"gcsDestination": {"outputUriPrefix": f"gs://bucket/{prefix}"}}
        return client.create(
            model=f"{PARENT}/models/named", outputConfig={"predictionsFormat": "jsonl", **destination}
        )

    assert create("p" * room)["state"] == "JOB_STATE_PENDING"
    with pytest.raises(InvalidArgument, match="output_uri_prefix"):
        create("p" * (room + 1))


def test_page_token_of_another_query_is_invalid(client: Client) -> None:
    for _ in range(2):
        client.create()
    token = client.call(LIST, {"parent": PARENT, "pageSize": 1})["nextPageToken"]
    for other in ({"filter": 'display_name="x"'}, {"parent": "projects/p/locations/us-central1"}):
        with pytest.raises(InvalidArgument, match="page_token"):
            client.call(LIST, {"parent": PARENT, "pageToken": token, **other})
    with pytest.raises(InvalidArgument, match="page_token"):
        client.call(LIST, {"parent": PARENT, "pageToken": "nonsense"})


@pytest.mark.parametrize(
    ("request_part", "field", "text"),
    [
        ({"filter": "size=3"}, "filter", "'size'"),
        ({"pageSize": -1}, "page_size", "got -1"),
        ({"readMask": "colour"}, "read_mask", "BatchPredictionJob has no field 'colour'"),
        ({"readMask": "name,labels.team"}, "read_mask", "BatchPredictionJob has no field 'labels.team'"),
        ({"pageToken": "x"}, "page_token", "is not one that this list returned"),
        ({"parent": "projects/p"}, "parent", 'projects/PROJECT/locations/LOCATION, got "projects/p"'),
    ],
)
def test_wrong_list_request_is_invalid(
    client: Client, request_part: dict[str, Any], field: str, text: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        client.call(LIST, {"parent": PARENT, **request_part})
    (violation,) = caught.value.details[0]["fieldViolations"]
    assert violation["field"] == field
    assert text in violation["description"]


@pytest.mark.parametrize("mask", ["name,createTime", "name,completionStats.incompleteCount", "*"])
def test_list_obeys_its_read_mask(client: Client, mask: str) -> None:
    job = client.create()
    (shown,) = client.call(LIST, {"parent": PARENT, "readMask": mask})["batchPredictionJobs"]
    expected = (
        job if mask == "*" else {key: job[key] for key in {part.split(".")[0] for part in mask.split(",")}}
    )
    assert shown == expected


def test_rest_extras_are_those_of_the_documentation(client: Client) -> None:
    job = client.create(model=f"{PARENT}/models/swings")
    extras = {"modelDisplayName": "Swings", "modelObjective": "ACTION_RECOGNITION"}
    assert client.extras("JobService/GetBatchPredictionJob", {"name": job["name"]}) == extras
    assert client.extras(LIST, {"parent": PARENT}) == {"batchPredictionJobs": [extras]}
    assert client.extras(LIST, {"parent": PARENT, "readMask": "name"}) == {}
    client.database.request_cancel(int(job["name"].rpartition("/")[2]))
    assert client.extras("JobService/GetBatchPredictionJob", {"name": job["name"]}) == extras
    assert client.extras(DELETE, {"name": job["name"]}) == {}


def test_every_error_is_an_api_error(client: Client) -> None:
    """Whatever a client sends, the service answers with an error of the catalogue."""
    for rpc, method in client.service.methods().items():
        with pytest.raises(ApiError):
            method(request_types()[rpc](), Call())


@pytest.mark.parametrize("version", ["x", "-1", str(2**31), "9" * 30])
def test_a_kept_job_with_a_version_that_cannot_be_is_refused(client: Client, version: str) -> None:
    job = load().v1.BatchPredictionJob(
        display_name="job", model=f"{PARENT}/models/tracker", model_version_id=version
    )
    with pytest.raises(InvalidArgument, match="modelVersionId is"):
        client.service.jobs.keep(PARENT, job)
