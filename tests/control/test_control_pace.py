"""The pace of jobs, seen by clients over REST and gRPC."""

import threading
from typing import Any

import grpc
import pytest
from google.cloud import aiplatform_v1
from google.cloud.aiplatform_v1.services.job_service.transports import JobServiceGrpcTransport

from tests.control.project import Project, job_id

HEADER = "x-goog-emulator-instructions"


def states(project: Project, name: str, count: int) -> list[str]:
    return [project.state(name) for _ in range(count)]


def test_immediate_job_has_ended_at_the_first_get(project: Project) -> None:
    project.pace("immediate")
    name = project.create()
    assert project.get(name)["state"] == "JOB_STATE_SUCCEEDED"


def test_immediate_job_over_grpc(project: Project) -> None:
    project.pace("immediate")
    name = project.create()
    with grpc.insecure_channel(project.emulator.grpc_address) as channel:
        jobs = aiplatform_v1.JobServiceClient(transport=JobServiceGrpcTransport(channel=channel))
        assert jobs.get_batch_prediction_job(name=name, timeout=30).state.name == "JOB_STATE_SUCCEEDED"


def test_a_read_moves_a_job_on_once_its_reads_are_used_up(project: Project) -> None:
    project.pace("pending=2,running=3")
    name = project.create()
    expected = ["PENDING", "PENDING", "RUNNING", "RUNNING", "RUNNING", "SUCCEEDED"]
    assert states(project, name, 6) == expected


def test_every_state_that_the_service_never_enters(project: Project) -> None:
    project.pace("queued=1,pending=1,running=1,paused=1,updating=1,partially_succeeded")
    name = project.create()
    assert states(project, name, 6) == [
        "QUEUED", "PENDING", "RUNNING", "PAUSED", "UPDATING", "PARTIALLY_SUCCEEDED",
    ]  # fmt: skip
    job = project.get(name)
    assert job["completionStats"] == {"successfulCount": "1"}
    assert "predictions_00001.jsonl" in project.files(job)


def test_expired_job_has_predicted_nothing(project: Project) -> None:
    project.pace("running=1,expired")
    name = project.create()
    assert states(project, name, 2) == ["RUNNING", "EXPIRED"]
    job = project.get(name)
    assert job["error"] == {"code": 4, "message": "The job has expired."}
    assert job["completionStats"] == {"incompleteCount": "1"}


def test_step_by_step(project: Project) -> None:
    project.pace("steps")
    name = project.create()
    assert states(project, name, 3) == ["PENDING"] * 3
    release = f"jobs/{job_id(name)}/release"
    answer = project.control("POST", release)
    assert answer == {"job": name, "state": "JOB_STATE_RUNNING", "held": True, "pace": "steps"}
    job = project.get(name)
    assert job["completionStats"] == {"incompleteCount": "1"}
    assert project.control("POST", release)["state"] == "JOB_STATE_SUCCEEDED"
    assert project.error("POST", f"/_emulator/{release}")["status"] == "FAILED_PRECONDITION"


def test_pace_by_time_needs_no_reads(project: Project) -> None:
    project.pace("pending=300ms,running=300ms,paused=200ms")
    name = project.create()
    project.control("GET", f"jobs/{job_id(name)}/wait?timeout=60")
    job = project.get(name)
    steps = project.control("GET", f"jobs/{job_id(name)}/explain")["steps"]
    assert [step["state"][10:] for step in steps if step["step"] == "state"] == [
        "PENDING", "RUNNING", "PAUSED", "RUNNING", "SUCCEEDED",
    ]  # fmt: skip
    assert job["startTime"] > job["createTime"]


@pytest.mark.parametrize(
    ("pace", "state", "seen"),
    [
        ("queued=hold", "QUEUED", ["CANCELLED"]),
        ("pending=hold", "PENDING", ["CANCELLED"]),
        ("running=hold", "RUNNING", ["CANCELLING", "CANCELLED"]),
        ("paused=hold", "PAUSED", ["CANCELLING", "CANCELLED"]),
        ("updating=hold", "UPDATING", ["CANCELLING", "CANCELLED"]),
    ],
)
def test_held_job_can_be_cancelled(project: Project, pace: str, state: str, seen: list[str]) -> None:
    project.pace(pace)
    name = project.create()
    project.wait(name, state, held=True)
    project.call("POST", f"/v1/{name}:cancel")
    job = project.finish(name)
    assert job["error"] == {"code": 1, "message": "CANCELED"}
    steps = project.control("GET", f"jobs/{job_id(name)}/explain")["steps"]
    found = [step["state"][10:] for step in steps if step["step"] == "state"]
    assert found[found.index(state) + 1 :] == seen


def test_cancelling_can_be_held(project: Project) -> None:
    project.pace("running=hold,cancelling=hold")
    name = project.create()
    project.wait(name, "RUNNING", held=True)
    project.call("POST", f"/v1/{name}:cancel")
    assert states(project, name, 2) == ["CANCELLING"] * 2
    assert project.control("POST", f"jobs/{job_id(name)}/release")["state"] == "JOB_STATE_CANCELLED"


def test_pace_of_one_request_and_of_one_job(project: Project) -> None:
    project.pace("pending=hold")
    name = project.create(headers={HEADER: "pace=queued=hold"})
    assert project.state(name) == "QUEUED"
    path = f"jobs/{job_id(name)}/pace"
    assert project.control("PUT", path, {"pace": "pending=hold"})["pace"] == "pending=hold"
    project.wait(name, "PENDING", held=True)
    project.control("PUT", path, {"pace": "real"})
    assert project.finish(name)["state"] == "JOB_STATE_SUCCEEDED"
    error = project.error("PUT", f"/_emulator/{path}", {"pace": "steps"})
    assert error["status"] == "FAILED_PRECONDITION"


def test_pace_of_a_project_hides_that_of_the_server(project: Project) -> None:
    path = f"projects/{project.id}/pace"
    assert project.control("GET", path) == {"pace": "real", "from": "setting"}
    project.pace("steps")
    assert project.control("GET", path) == {"pace": "steps", "from": "project"}
    assert project.control("DELETE", path) == {"pace": "real", "from": "setting"}


def test_held_jobs_do_not_keep_others_from_running(project: Project) -> None:
    """There are more of them than jobs that may run at a time."""
    project.pace("running=hold")
    held = [project.create() for _ in range(project.emulator.settings.max_running_jobs + 1)]
    for name in held:
        project.wait(name, "RUNNING", held=True)
    project.pace("immediate")
    assert project.state(project.create()) == "SUCCEEDED"
    for name in held:
        project.call("POST", f"/v1/{name}:cancel")
        project.finish(name)


def test_waiting_calls_keep_no_other_from_being_answered(project: Project) -> None:
    """More calls wait than the surface has threads for ordinary ones."""
    project.pace("pending=hold")
    name = project.create()
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(project.wait(name, "ended"))) for _ in range(40)
    ]
    for thread in threads:
        thread.start()
    assert project.state(name) == "PENDING"
    assert not answers
    project.control("PUT", f"jobs/{job_id(name)}/pace", {"pace": "real"})
    for thread in threads:
        thread.join(30)
    assert [answer["state"] for answer in answers] == ["JOB_STATE_SUCCEEDED"] * 40


def test_wait_ends_when_its_time_is_over(project: Project) -> None:
    project.pace("pending=hold")
    name = project.create()
    error = project.error("GET", f"/_emulator/jobs/{job_id(name)}/wait?timeout=0.1")
    assert error["status"] == "DEADLINE_EXCEEDED"
    assert "JOB_STATE_PENDING after 0.1 s" in error["message"]


def test_a_job_that_is_held_in_a_state_of_its_pace_goes_on_at_the_real_one(project: Project) -> None:
    project.pace("running=0.1s,paused=hold")
    name = project.create()
    project.wait(name, "PAUSED", held=True)
    project.control("PUT", f"jobs/{job_id(name)}/pace", {"pace": "real"})
    assert project.finish(name)["state"] == "JOB_STATE_SUCCEEDED"


def test_wait_for_what_cannot_come_any_more_ends_at_once(project: Project) -> None:
    project.pace("immediate")
    name = project.create()
    project.wait(name)
    for query in ("state=RUNNING", "state=PENDING,PAUSED", "state=SUCCEEDED&held=true"):
        error = project.error("GET", f"/_emulator/jobs/{job_id(name)}/wait?{query}&timeout=60")
        assert error["status"] == "FAILED_PRECONDITION"
        assert "has ended in state JOB_STATE_SUCCEEDED; waited for" in error["message"]


def test_a_pace_is_for_what_can_be_a_project(project: Project) -> None:
    error = project.error("PUT", "/_emulator/projects/Bad%20Project/pace", {"pace": "immediate"})
    assert "'Bad Project' is no project" in error["message"]


@pytest.mark.parametrize("pace", ["fast", "pending=x", "running=1,queued=1", "succeeded"])
def test_bad_pace_is_explained(project: Project, pace: str) -> None:
    error = project.error("PUT", "/_emulator/pace", {"pace": pace})
    assert error["status"] == "INVALID_ARGUMENT"
    assert pace in error["message"]
