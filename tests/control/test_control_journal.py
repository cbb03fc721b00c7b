"""The journal of calls, the explanation of a job, metrics and the stream of events."""

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.cloud import aiplatform_v1
from google.cloud.aiplatform_v1.services.job_service.transports import JobServiceGrpcTransport
from prometheus_client.parser import text_string_to_metric_families

from emulator.app import Emulator
from tests.conftest import TEST_CACHE
from tests.control.project import Project, client_of, job_id, make_settings


def requests(project: Project, **query: Any) -> Any:
    return project.control("GET", "requests", params={"project": project.id, **query})


def test_was_it_called(project: Project) -> None:
    assert requests(project)["count"] == 0
    name = project.create(name="nightly")
    project.get(name)
    project.get(name)
    assert requests(project, method="CreateBatchPredictionJob")["count"] == 1
    assert requests(project, method="JobService/Get*")["count"] == 2
    assert requests(project, method="UploadModel")["count"] == 0
    assert requests(project, contains="nightly")["count"] == 1
    [created, *gets] = requests(project)["requests"]
    assert created["request"]["batchPredictionJob"]["displayName"] == "nightly"
    assert (created["surface"], created["version"], created["status"]) == ("rest", "v1", "OK")
    assert requests(project, after=created["number"])["requests"] == gets


def test_project_by_number_is_the_same_project(project: Project) -> None:
    project.get(project.create())
    number = requests(project)["requests"][0]["project"]
    assert number.isdecimal()
    assert project.control("GET", "requests", params={"project": number})["count"] == 2


def test_failed_and_unreadable_and_unemulated_calls_are_there_too(project: Project) -> None:
    jobs = f"/v1/{project.parent}/batchPredictionJobs"
    project.http.get(f"{jobs}/123")
    project.http.post(jobs, content=b'{"displayName": 3')
    project.http.get(f"/v1/{project.parent}/customJobs")
    assert [request["status"] for request in requests(project)["requests"]] == ["NOT_FOUND"]
    last = project.control("GET", "requests")["requests"][-2:]
    assert [(request["method"], request["status"]) for request in last] == [
        ("JobService/CreateBatchPredictionJob", "INVALID_ARGUMENT"),
        ("JobService/ListCustomJobs", "UNIMPLEMENTED"),
    ]


def test_secrets_are_not_kept(project: Project) -> None:
    headers = {"Authorization": "Bearer s3cr3t", "Cookie": "s3cr3t", "User-Agent": "me"}
    project.http.get(f"/v1/{project.parent}/models?access_token=s3cr3t&key=s3cr3t", headers=headers)
    [request] = requests(project)["requests"]
    assert request["headers"] == {"user-agent": "me"}
    assert "s3cr3t" not in project.http.get("/_emulator/requests").text


def test_grpc_calls_are_in_the_journal(project: Project) -> None:
    with grpc.insecure_channel(project.emulator.grpc_address) as channel:
        jobs = aiplatform_v1.JobServiceClient(transport=JobServiceGrpcTransport(channel=channel))
        list(jobs.list_batch_prediction_jobs(parent=project.parent, timeout=30))
    [request] = requests(project, surface="grpc")["requests"]
    assert request["method"] == "JobService/ListBatchPredictionJobs"
    assert "grpc-python" in request["headers"]["user-agent"]


def test_unknown_question_is_refused(project: Project) -> None:
    error = project.error("GET", "/_emulator/requests?verb=GET")
    assert "'verb' is not known here" in error["message"]


def test_explain_tells_every_step_and_what_was_not_honoured(project: Project) -> None:
    accelerated = {
        "machineType": "n1-standard-4",
        "acceleratorType": "NVIDIA_TESLA_T4",
        "acceleratorCount": 1,
    }
    name = project.create(
        "a.mp4",
        "none.mp4",
        serviceAccount="me@example.com",
        dedicatedResources={"machineSpec": accelerated, "startingReplicaCount": 1},
    )
    job = project.finish(name)
    explained = project.control("GET", f"jobs/{job_id(name)}/explain")
    assert explained["job"]["name"] == job["name"]
    assert explained["executionProvider"] == "cpu"
    assert explained["canned"] is False
    assert explained["notHonoured"] == [
        {
            "field": "dedicated_resources",
            "fidelity": "dropped",
            "note": "as the real service drops it for AutoML video models; accelerators are used as the"
            " setting `provider` says",
        },
        {"field": "service_account", "fidelity": "ignored", "note": "there is no access control"},
    ]
    steps = explained["steps"]
    assert [step["step"] for step in steps if step["step"] not in ("provider", "video", "cache")] == [
        "state", "state", "output", "input", "decoder", "state",
    ]  # fmt: skip
    texts = {step["step"]: step["text"] for step in steps}
    assert texts["input"] == "2 instances of 2 videos"
    assert texts["decoder"].startswith("OpenCV ")
    assert texts["output"] == job["outputInfo"]["gcsOutputDirectory"]
    videos = sorted(step["text"] for step in steps if step["step"] == "video")
    assert videos == [
        "gs://bucket/a.mp4: 1 predicted, 0 failed, in predictions_00001.jsonl",
        "gs://bucket/none.mp4: 0 predicted, 1 failed",
    ]
    assert steps == sorted(steps, key=lambda step: step["time"])


def metrics(project: Project) -> dict[tuple[str, ...], float]:
    response = project.http.get("/_emulator/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_metrics_are_prometheus(project: Project) -> None:
    project.finish(project.create())
    samples = metrics(project)
    key = ("vertex_emulator_call_seconds_count", "JobService/CreateBatchPredictionJob", "OK", "rest")
    assert samples[key] >= 1
    assert samples["vertex_emulator_jobs", "SUCCEEDED"] >= 1
    assert samples[("vertex_emulator_workers_ready",)] == 1


@pytest.mark.skipif(TEST_CACHE == "off", reason="there is no cache")
def test_what_was_known_of_videos_is_explained_and_counted(project: Project) -> None:
    project.finish(project.create("a.mp4"))
    before = metrics(project)
    name = project.create("a.mp4")
    project.finish(name)
    steps = project.control("GET", f"jobs/{job_id(name)}/explain")["steps"]
    (text,) = (step["text"] for step in steps if step["step"] == "cache")
    kept, of = re.fullmatch(r"(\d+) of (\d+) grid points from the cache", text).groups()  # type: ignore[union-attr]
    assert int(kept) == int(of) > 0
    hits = ("vertex_emulator_prediction_cache_hits_total",)
    assert metrics(project)[hits] >= before[hits] + int(kept)


def events(response: httpx.Response) -> Iterator[tuple[str, str, Any]]:
    """Id, kind and data of each event of a stream."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if name in ("id", "event", "data"):
            fields[name] = value
        elif not line and fields:
            yield fields["id"], fields["event"], json.loads(fields["data"])
            fields = {}


def test_changes_of_state_are_sent_as_they_happen(project: Project) -> None:
    with project.http.stream("GET", f"/_emulator/events?project={project.id}") as response:
        stream = events(response)
        threading.Thread(target=project_job, args=(project,)).start()
        seen: list[tuple[str, str, Any]] = []
        while not seen or seen[-1][2].get("state") != "JOB_STATE_SUCCEEDED":
            seen.append(next(stream))
    states = [data["state"] for _, kind, data in seen if kind == "state"]
    assert states == ["JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_SUCCEEDED"]
    name = seen[0][2]["job"]
    # Who lost the connection continues after the last event that it saw.
    headers = {"last-event-id": seen[-2][0]}
    with project.http.stream("GET", f"/_emulator/events?job={job_id(name)}", headers=headers) as response:
        assert next(events(response)) == seen[-1]


def project_job(project: Project) -> None:
    with client_of(project.emulator) as http:
        Project(project.emulator, http, project.buckets, id=project.id).create()


def test_open_streams_and_held_calls_do_not_keep_the_server_from_stopping(tmp_path: Path) -> None:
    emulator = Emulator(make_settings(tmp_path))
    with emulator, client_of(emulator) as http, client_of(emulator) as another:
        project = Project(emulator, http, emulator.settings.buckets)
        name = project.create(headers={"x-goog-emulator-instructions": "pace=immediate,pending=hold"})
        answers: list[Any] = []
        getting = threading.Thread(target=lambda: answers.append(another.get(f"/v1/{name}").json()))
        getting.start()
        while "vertex_emulator_calls_held 1.0" not in http.get("/_emulator/metrics").text:
            time.sleep(0.01)
        with http.stream("GET", "/_emulator/events?after=0") as response:
            assert next(events(response))[1] == "state"
            emulator.stop()
        getting.join(60)
    assert answers[0]["state"] == "JOB_STATE_PENDING"
