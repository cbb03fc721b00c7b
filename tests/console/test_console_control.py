"""What the control surface answers for the console: input checks, the example, reads that leave no trace."""

import logging
from pathlib import Path
from typing import Any

import pytest

from emulator.app import Emulator
from tests.control.project import Project, client_of, job_id, make_settings


def check(project: Project, *lines: str) -> Any:
    (project.buckets / "bucket" / "checked.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return project.control("POST", "check-input", {"uris": ["gs://bucket/checked.jsonl"]})


def test_check_input_reads_as_a_job_would(project: Project) -> None:
    assert check(
        project,
        '{"content": "gs://bucket/a.mp4", "mimeType": "video/mp4"}',
        '{"content": "gs://bucket/a.mp4", "mimeType": "video/mp4", "timeSegmentStart": "0.1s"}',
        '{"content": "gs://bucket/none.mp4", "mimeType": "video/mp4"}',
        '{"mimeType": "video/mp4"}',
    ) == {
        "summary": "4 instances of 2 videos; 1 lines are no instances",
        "instances": 4,
        "videos": 2,
        "problemCount": 1,
        "problems": [
            {
                "line": "gs://bucket/checked.jsonl line 4",
                "message": '"content" is missing. Give the Cloud Storage URI of a video, gs://bucket/object.',
            }
        ],
        "missingVideos": ["gs://bucket/none.mp4"],
        "firstVideos": ["gs://bucket/a.mp4", "gs://bucket/none.mp4"],
    }


def test_check_input_shows_the_first_twenty_problems(project: Project) -> None:
    found = check(project, *["{}"] * 30)
    assert (found["problemCount"], len(found["problems"])) == (30, 20)


def test_check_input_creates_nothing(project: Project) -> None:
    check(project, '{"content": "gs://bucket/a.mp4", "mimeType": "video/mp4"}')
    assert project.call("GET", f"/v1/{project.parent}/batchPredictionJobs") == {}


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({}, 400, '{"uris": ["gs://…"]}'),
        ({"uris": []}, 400, '{"uris": ["gs://…"]}'),
        ({"uris": ["gs://bucket/a.mp4", 7]}, 400, '{"uris": ["gs://…"]}'),
        ({"uris": ["/tmp/in.jsonl"]}, 400, "it must start with gs://"),
        ({"uris": ["gs://bucket/no-such.jsonl"]}, 404, "gs://bucket/no-such.jsonl does not exist"),
        (
            {"uris": ["gs://bucket/no-such-*.jsonl"]},
            404,
            "No input object matches gs://bucket/no-such-*.jsonl",
        ),
        ({"uris": ["gs://no-such-bucket/in.jsonl"]}, 404, "gs://no-such-bucket/in.jsonl"),
    ],
)
def test_check_input_says_what_a_job_would_fail_on(
    project: Project, body: Any, code: int, message: str
) -> None:
    error = project.error("POST", "/_emulator/check-input", body)
    assert error["code"] == code
    assert message in error["message"]


def test_observed_reads_leave_no_trace(project: Project) -> None:
    name = project.create()
    project.control("POST", "faults", {"on": "rpc", "method": "*", "project": project.id, "code": "ABORTED"})
    headers = {"x-goog-emulator-observer": "console"}
    parent = f"/v1/{project.parent}/batchPredictionJobs"
    assert project.call("GET", f"/v1/{name}", headers=headers)["name"] == name
    assert len(project.call("GET", parent, headers=headers)["batchPredictionJobs"]) == 1
    # What changes something is a call like any other.
    assert project.error("POST", f"/v1/{name}:cancel", headers=headers)["status"] == "ABORTED"
    assert project.error("GET", f"/v1/{name}")["status"] == "ABORTED"
    called = project.control("GET", "requests", params={"project": project.id})["requests"]
    assert [one["method"].partition("/")[2] for one in called] == [
        "CreateBatchPredictionJob",
        "CancelBatchPredictionJob",
        "GetBatchPredictionJob",
    ]


def test_explain_has_pace_and_the_model_as_rest_shows_it(project: Project) -> None:
    project.pace("pending=hold")
    explained = project.control("GET", f"jobs/{job_id(project.create())}/explain")
    assert (explained["pace"]["held"], explained["pace"]["pace"]) == (True, "pending=hold")
    assert explained["job"]["modelDisplayName"] == "Tiny"
    assert explained["job"]["modelObjective"] == "OBJECT_TRACKING"


def test_ids_of_projects_outlive_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    settings = make_settings(tmp_path, grpc=False)
    with Emulator(settings) as emulator, client_of(emulator) as http:
        name = Project(emulator, http, settings.buckets, "my-own-project").create()
        page = f"/console/{name.replace('batchPredictionJobs', 'batch-predictions')}"
        assert f"Console: {emulator.url}{page}" in caplog.text
    with Emulator(settings) as emulator, client_of(emulator) as http:
        scopes = http.get("/_emulator/scopes").json()["scopes"]
        assert [scope["project"] for scope in scopes] == ["my-own-project"]
        assert http.post("/_emulator/reset", json={"project": "my-own-project"}).status_code == 200
        assert http.get("/_emulator/scopes").json() == {"scopes": []}


def test_example_needs_its_models(project: Project) -> None:
    error = project.error("POST", "/_emulator/example", {"parent": project.parent})
    assert error["status"] == "NOT_FOUND"
    assert "video-object-tracking" in error["message"]


@pytest.mark.slow
def test_example_runs_both_documented_jobs(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, bundled_models=True, grpc=False)
    with Emulator(settings) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, settings.buckets, "examples")
        jobs = project.control("POST", "example", {"parent": project.parent}, timeout=1200)["jobs"]
        ended = [project.finish(name) for name in jobs]
        assert [job["state"] for job in ended] == ["JOB_STATE_SUCCEEDED"] * 2
        assert [job["displayName"] for job in ended] == [
            "Documentation: object tracking",
            "Documentation: action recognition",
        ]
        video = settings.buckets / "documentation-example" / "object-tracking.webm"
        assert b"V_VP8" in video.read_bytes()
        (line,) = project.control("GET", f"jobs/{job_id(jobs[0])}/compare", params={"with": "truth"})["lines"]
        assert (line["matched"], line["missed"], line["extra"]) == (3, 0, 0)
        # The second time nothing is rendered.
        written = video.stat().st_mtime_ns
        assert len(project.control("POST", "example", {"parent": project.parent})["jobs"]) == 2
        assert video.stat().st_mtime_ns == written
