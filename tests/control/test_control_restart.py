"""What outlives the server: holds, paces, faults and their accounts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emulator.app import Emulator
from emulator.config import Settings
from tests.control.project import Project, client_of, job_id, make_settings


@contextmanager
def running_with(settings: Settings) -> Iterator[Project]:
    with Emulator(settings) as emulator, client_of(emulator) as http:
        yield Project(emulator, http, settings.buckets, id="my-project")


@contextmanager
def running(folder: Path) -> Iterator[Project]:
    with running_with(make_settings(folder)) as project:
        yield project


def test_held_jobs_stand_where_they_stood(tmp_path: Path) -> None:
    fault = {"on": "job", "kind": "fail-job", "code": 13, "message": "boom", "displayName": "doomed"}
    with running(tmp_path) as project:
        project.control("POST", "faults", fault)
        project.pace("pending=hold,running=hold,paused=3")
        first, second = project.create(), project.create(name="doomed")
        for name in (first, second):
            project.wait(name, "PENDING", held=True)
        project.control("POST", f"jobs/{job_id(first)}/release")
        project.wait(first, "RUNNING", held=True)
    with running(tmp_path) as project:
        assert (
            project.control("GET", "projects/my-project/pace")["pace"] == "pending=hold,running=hold,paused=3"
        )
        assert project.state(second) == "PENDING"
        project.wait(first, "RUNNING", held=True)
        assert project.control("POST", f"jobs/{job_id(first)}/release")["state"] == "JOB_STATE_PAUSED"
        assert [project.state(first) for _ in range(4)] == ["PAUSED", "PAUSED", "PAUSED", "SUCCEEDED"]
        assert project.get(first)["completionStats"] == {"successfulCount": "1"}
        project.control("PUT", f"jobs/{job_id(second)}/pace", {"pace": "real"})
        assert project.finish(second)["error"] == {"code": 13, "message": "boom"}
        [account] = project.control("GET", "faults")["faults"]
        assert (account["matched"], account["fired"]) == (1, 1)
        steps = project.control("GET", f"jobs/{job_id(first)}/explain")["steps"]
        assert "resumed" in [step["step"] for step in steps]
