"""Failures on demand: what clients and jobs see of them, and that each is accounted for."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import pytest
from google.cloud import aiplatform_v1
from google.cloud.aiplatform_v1.services.job_service.transports import JobServiceGrpcTransport

from tests.control.project import Project, job_id

HEADER = "x-goog-emulator-instructions"


@pytest.fixture
def jobs(project: Project) -> Iterator[aiplatform_v1.JobServiceClient]:
    with grpc.insecure_channel(project.emulator.grpc_address) as channel:
        yield aiplatform_v1.JobServiceClient(transport=JobServiceGrpcTransport(channel=channel))


def plan(project: Project, **members: Any) -> str:
    """Add a plan for this project; its path."""
    answer = project.control("POST", "faults", {"project": project.id, **members})
    return f"faults/{answer['id']}"


def account(project: Project, path: str) -> tuple[int, int]:
    answer = project.control("GET", path)
    return answer["matched"], answer["fired"]


def listed(project: Project) -> httpx.Response:
    return project.http.get(f"/v1/{project.parent}/batchPredictionJobs")


def test_first_calls_fail_then_all_is_well(project: Project) -> None:
    path = plan(project, on="rpc", method="ListBatch*", code="UNAVAILABLE", message="try again", times=2)
    answers = [listed(project) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].json()["error"] == {"code": 503, "message": "try again", "status": "UNAVAILABLE"}
    assert account(project, path) == (3, 2)
    project.control("DELETE", path)
    assert project.error("GET", f"/_emulator/{path}")["status"] == "NOT_FOUND"


def test_skipped_calls_pass(project: Project) -> None:
    path = plan(project, on="rpc", code=404, skip=1, times=1)
    assert [listed(project).status_code for _ in range(3)] == [200, 404, 200]
    assert account(project, path) == (3, 1)


def test_plan_is_for_its_method_and_project_only(project: Project) -> None:
    plan(project, on="rpc", method="ModelService/*", code="INTERNAL")
    assert listed(project).status_code == 200
    assert project.http.get(f"/v1/{project.parent}/models").status_code == 500
    assert project.http.get("/v1/projects/other/locations/us-central1/models").status_code == 200


def test_grpc_calls_fail_alike(project: Project, jobs: aiplatform_v1.JobServiceClient) -> None:
    path = plan(project, on="rpc", code="RESOURCE_EXHAUSTED", message="no quota", times=1)
    with pytest.raises(Exception, match="429 no quota"):
        jobs.list_batch_prediction_jobs(parent=project.parent, retry=None, timeout=30)
    assert not list(jobs.list_batch_prediction_jobs(parent=project.parent, retry=None, timeout=30))
    assert account(project, path) == (2, 1)


def test_connection_is_reset(project: Project, jobs: aiplatform_v1.JobServiceClient) -> None:
    path = plan(project, on="rpc", reset=True, times=2)
    address = httpx.URL(project.emulator.url)
    with socket.create_connection((address.host, address.port or 80), timeout=30) as connection:
        request = f"GET /v1/{project.parent}/batchPredictionJobs HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.sendall(request.encode())
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with pytest.raises(Exception, match="Connection reset by peer"):
        jobs.list_batch_prediction_jobs(parent=project.parent, retry=None, timeout=30)
    assert listed(project).status_code == 200
    assert account(project, path) == (3, 2)


def test_delayed_call_is_answered_while_others_are(project: Project) -> None:
    plan(project, on="rpc", method="ListBatchPredictionJobs", delay="700ms", times=1)
    response = listed(project)
    assert response.status_code == 200
    assert response.elapsed.total_seconds() >= 0.7


@pytest.mark.parametrize(
    ("instructions", "status", "message"),
    [
        ("return-503", 503, "a fault was asked for"),
        ("delay-1ms; return-RESOURCE_EXHAUSTED", 429, "a fault was asked for"),
        ('{"return": "NOT_FOUND", "message": "gone"}', 404, "gone"),
        ("return-700", 400, "write one of CANCELLED"),
        ("explode", 400, "there is no instruction 'explode'"),
        ("{", 400, "cannot be read"),
        ('{"faults": [{"kind": "x"}]}', 400, "needs a kind"),
        ('{"return": 503, "message": "\\ud800"}', 400, "without halves of surrogate pairs"),
        ('{"message": ' + "[" * 4000, 400, "cannot be read"),
    ],
)
def test_instructions_of_one_request(project: Project, instructions: str, status: int, message: str) -> None:
    response = project.http.get(f"/v1/{project.parent}/models", headers={HEADER: instructions})
    assert response.status_code == status
    assert message in response.json()["error"]["message"]
    assert project.http.get(f"/v1/{project.parent}/models").status_code == 200


def test_a_text_that_cannot_be_sent_makes_no_plan(project: Project) -> None:
    plan = b'{"on": "rpc", "code": 7, "message": "\\ud800"}'
    response = project.http.post("/_emulator/faults", content=plan)
    assert "half of a surrogate pair" in response.json()["error"]["message"]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_number_that_no_plan_can_have_is_not_found(project: Project, method: str) -> None:
    assert project.error(method, f"/_emulator/faults/{'9' * 30}")["status"] == "NOT_FOUND"


def test_instructions_in_grpc_metadata(project: Project, jobs: aiplatform_v1.JobServiceClient) -> None:
    with pytest.raises(Exception, match="409 This call fails"):
        jobs.list_batch_prediction_jobs(
            parent=project.parent, retry=None, timeout=30, metadata=[(HEADER, "return-ABORTED")]
        )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, 'A fault needs "on": "rpc", "on": "storage" or "on": "job"'),
        ({"on": "rpc"}, "The fault does nothing"),
        ({"on": "rpc", "code": "X"}, "code is 'X'; write one of CANCELLED"),
        ({"on": "rpc", "code": 503, "kind": "fail-job"}, "no member 'kind'"),
        ({"on": "rpc", "delay": "soon"}, "write a time such as 2s"),
        ({"on": "job"}, "needs a kind, one of fail-instance"),
        ({"on": "job", "kind": "fail-job", "instance": 1}, "no member 'instance'"),
        ({"on": "job", "kind": "fail-instance", "instance": 0}, "a whole number from 1 on"),
        ({"on": "job", "kind": "fail-job", "times": -1}, "a whole number from 0 on"),
        ({"on": "rpc", "code": True}, "code is True; write one of CANCELLED"),
        ({"on": "rpc", "code": 7, "method": "get_model"}, "which no RPC fits; did you mean GetModel?"),
        ({"on": "rpc", "code": 7, "method": "Nothing"}, "which no RPC fits; such as GetBatchPredictionJob"),
        ({"on": "rpc", "code": 7, "project": "Bad Project"}, "'Bad Project' is no project"),
    ],
)
def test_bad_plans_are_explained(project: Project, value: Any, message: str) -> None:
    error = project.error("POST", "/_emulator/faults", value)
    assert error["status"] == "INVALID_ARGUMENT"
    assert message in error["message"]


def test_one_instance_fails(project: Project) -> None:
    path = plan(project, on="job", kind="fail-instance", instance=2, code="NOT_FOUND", message="broken")
    job = project.finish(project.create("a.mp4", "b.mp4"))
    assert job["completionStats"] == {"successfulCount": "1", "failedCount": "1"}
    [line] = project.files(job)["errors_00001.jsonl"].splitlines()
    assert json.loads(line)["error"] == {"code": 5, "message": "broken"}
    assert account(project, path) == (1, 1)


def test_worker_dies_and_the_job_goes_on(project: Project) -> None:
    path = plan(project, on="job", kind="kill-worker", times=1)
    name = project.create()
    job = project.finish(name)
    assert (job["state"], job["completionStats"]) == ("JOB_STATE_SUCCEEDED", {"successfulCount": "1"})
    assert account(project, path) == (1, 1)
    steps = project.control("GET", f"jobs/{job_id(name)}/explain")["steps"]
    assert [step["step"] for step in steps if step["step"] in ("fault", "worker")] == ["fault", "worker"]
    assert "SIGSEGV" in next(step["text"] for step in steps if step["step"] == "worker")


def test_worker_that_dies_each_time_costs_the_instance(project: Project) -> None:
    path = plan(project, on="job", kind="kill-worker", instance=2, attempts=9)
    job = project.finish(project.create("a.mp4", "b.mp4"))
    assert job["completionStats"] == {"successfulCount": "1", "failedCount": "1"}
    assert account(project, path) == (1, 2)


def test_unreadable_video(project: Project) -> None:
    path = plan(project, on="job", kind="unreadable-video", video="gs://*/a.mp4")
    job = project.finish(project.create("a.mp4", "b.mp4"))
    [line] = project.files(job)["errors_00001.jsonl"].splitlines()
    assert json.loads(line)["content"] == "gs://bucket/a.mp4"
    assert json.loads(line)["error"]["code"] == 3
    assert account(project, path) == (1, 1)


def test_job_all_of_whose_videos_are_unreadable_fails(project: Project) -> None:
    plan(project, on="job", kind="unreadable-video")
    job = project.finish(project.create("a.mp4", "b.mp4"))
    assert (job["state"], job["error"]["code"]) == ("JOB_STATE_FAILED", 3)


def test_output_that_cannot_be_written(project: Project) -> None:
    path = plan(project, on="job", kind="fail-output")
    job = project.finish(project.create())
    assert (job["state"], job["error"]["code"]) == ("JOB_STATE_FAILED", 7)
    assert "storage.objects.create" in job["error"]["message"]
    assert job["outputInfo"]["gcsOutputDirectory"].startswith(f"gs://bucket/{project.id}/prediction-Tiny-")
    assert account(project, path) == (1, 1)


def test_job_fails_with_a_given_status(project: Project) -> None:
    path = plan(project, on="job", kind="fail-job", code=9, message="boom", displayName="nightly-*", times=1)
    assert project.finish(project.create(name="daily"))["state"] == "JOB_STATE_SUCCEEDED"
    job = project.finish(project.create(name="nightly-1"))
    assert (job["state"], job["error"]) == ("JOB_STATE_FAILED", {"code": 9, "message": "boom"})
    assert project.finish(project.create(name="nightly-2"))["state"] == "JOB_STATE_SUCCEEDED"
    assert account(project, path) == (2, 1)


@pytest.mark.parametrize("kind", ["slow-storage", "slow-model"])
def test_slow_parts_only_take_longer(project: Project, kind: str) -> None:
    path = plan(project, on="job", kind=kind, delay="50ms")
    assert project.finish(project.create())["state"] == "JOB_STATE_SUCCEEDED"
    assert account(project, path) == (1, 1)


def test_faults_of_one_request(project: Project) -> None:
    faults = json.dumps({"pace": "immediate", "faults": [{"kind": "fail-job", "code": 13, "message": "x"}]})
    name = project.create(headers={HEADER: faults})
    assert project.get(name)["error"] == {"code": 13, "message": "x"}
    assert project.finish(project.create())["state"] == "JOB_STATE_SUCCEEDED"


def test_parallel_calls_use_up_a_plan_exactly(project: Project) -> None:
    path = plan(project, on="rpc", code=503, skip=3, times=7)
    with ThreadPoolExecutor(10) as executor:
        statuses = list(executor.map(lambda _: listed(project).status_code, range(30)))
    assert sorted(statuses) == [200] * 23 + [503] * 7
    assert account(project, path) == (30, 7)


def test_journal_tells_which_fault_hit(project: Project) -> None:
    path = plan(project, on="rpc", code=503, times=1)
    listed(project)
    answer = project.control("GET", "requests", params={"project": project.id, "method": "ListBatch*"})
    [request] = answer["requests"]
    assert request["status"] == "UNAVAILABLE"
    assert request["faults"] == [path.removeprefix("faults/")]
