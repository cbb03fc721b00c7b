"""`vertex-emulator jobs` on a real server: from creating a job to reading what it wrote."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from emulator.app import Emulator
from emulator.cli import build
from tests.control.project import Project, client_of, job_id, make_settings


def run(*arguments: str | Path, **environment: str | None) -> Result:
    return CliRunner().invoke(
        build(), [str(argument) for argument in arguments], catch_exceptions=False, env=environment
    )


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(make_settings(tmp_path_factory.mktemp("jobs"))) as emulator:
        yield emulator


@pytest.fixture
def project(emulator: Emulator) -> Iterator[Project]:
    with client_of(emulator) as http:
        yield Project(emulator, http, emulator.settings.buckets)


def create(project: Project, *videos: str, **options: str) -> list[str]:
    """The arguments of `jobs create` for a job over these videos."""
    body = project.body(*videos)
    [uri] = body["inputConfig"]["gcsSource"]["uris"]
    named = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", value)]
    place = ["--server", project.emulator.url, "--project", project.id]
    return ["jobs", "create", "tiny", uri, "--output", f"gs://bucket/{project.id}", *named, *place]


def test_job_is_created_awaited_and_read(project: Project, tmp_path: Path) -> None:
    created = run(*create(project, display_name="nightly", parameter="confidenceThreshold=0.25"), "--wait")
    assert created.exit_code == 0, created.output
    name, outcome = created.stdout.splitlines()
    assert outcome == f"{name} is JOB_STATE_SUCCEEDED."
    job = project.get(name)
    assert (job["displayName"], job["modelParameters"]) == ("nightly", {"confidenceThreshold": 0.25})
    printed = run("jobs", "output", job_id(name), "--server", project.emulator.url)
    assert printed.exit_code == 0, printed.output
    [text] = project.files(job).values()
    assert printed.stdout == text
    copied = run("jobs", "output", name, "--to", tmp_path / "out", "--server", project.emulator.url)
    assert copied.stdout == f"1 files in {tmp_path / 'out'}.\n"
    assert (tmp_path / "out" / "predictions_00001.jsonl").read_text() == text
    explained = run("jobs", "explain", name, "--server", project.emulator.url)
    assert f"{name} is JOB_STATE_SUCCEEDED.\n" in explained.stdout
    assert "1 predicted, 0 failed, in predictions_00001.jsonl" in explained.stdout
    as_json = run("jobs", "explain", job_id(name), "--json", "--server", project.emulator.url)
    assert json.loads(as_json.stdout)["job"]["name"] == name


def test_errors_of_instances_are_told_and_printed(project: Project) -> None:
    result = run(*create(project, "a.mp4", "missing.mp4"), "--wait")
    assert result.exit_code == 0, result.output
    assert "gs://bucket/missing.mp4" in result.stderr
    name = result.stdout.splitlines()[0]
    printed = run("jobs", "output", name, "--server", project.emulator.url)
    assert json.loads(printed.stdout)["instance"]["content"] == "gs://bucket/a.mp4"
    assert "1 instances failed; --errors prints why" in printed.stderr
    errors = run("jobs", "output", name, "--errors", "--server", project.emulator.url)
    assert json.loads(errors.stdout)["content"] == "gs://bucket/missing.mp4"


def test_exit_status_tells_how_a_job_ended(project: Project) -> None:
    place = ("--server", project.emulator.url)
    failed = project.create("missing.mp4")
    result = run("jobs", "wait", failed, *place)
    assert (result.exit_code, result.stdout) == (3, f"{failed} is JOB_STATE_FAILED.\n")
    assert "gs://bucket/missing.mp4" in result.stderr
    project.pace("running=0,expired")
    expired = project.create()
    result = run("jobs", "wait", expired, *place)
    assert (result.exit_code, result.stdout) == (5, f"{expired} is JOB_STATE_EXPIRED.\n")
    assert "The job has expired." in result.stderr
    project.pace("pending=hold")
    cancelled = project.create()
    project.call("POST", f"/v1/{cancelled}:cancel")
    result = run("jobs", "wait", cancelled, *place)
    assert (result.exit_code, result.stdout) == (4, f"{cancelled} is JOB_STATE_CANCELLED.\n")


def test_wait_ends_with_its_time(project: Project) -> None:
    project.pace("running=hold")
    name = project.create()
    project.wait(name, "RUNNING", held="true")
    result = run("jobs", "wait", name, "--timeout", "0", "--server", project.emulator.url)
    assert result.exit_code == 124
    assert f"{name} is still JOB_STATE_RUNNING after 0 s." in result.stderr
    reached = run("jobs", "wait", name, "--state", "running", "--server", project.emulator.url)
    assert (reached.exit_code, reached.stdout) == (0, f"{name} is JOB_STATE_RUNNING.\n")
    project.control("POST", f"jobs/{job_id(name)}/release")
    late = run("jobs", "wait", name, "--state", "cancelled", "--server", project.emulator.url)
    assert late.exit_code == 6
    assert "has ended in state JOB_STATE_SUCCEEDED" in late.stderr


def test_wait_says_how_far_the_job_is(project: Project) -> None:
    """In a pipe, for longer than one poll: a job that does not end meanwhile."""
    project.pace("running=hold")
    name = project.create()
    project.wait(name, "RUNNING", held="true")
    result = run("jobs", "wait", name, "--timeout", "1.5", "--server", project.emulator.url)
    assert result.exit_code == 124


def test_output_of_a_job_without_any_says_why(project: Project) -> None:
    project.pace("pending=hold")
    name = project.create()
    result = run("jobs", "output", name, "--server", project.emulator.url)
    assert result.exit_code == 1
    assert "has no output. It has written nothing yet: wait for it with `jobs wait`." in result.stderr


def test_jobs_read_what_env_printed(project: Project) -> None:
    """The address, the project and the token come from the variables of `vertex-emulator env`."""
    port = project.emulator.url.rpartition(":")[2]
    folder = str(project.emulator.settings.data_dir)
    printed = run("env", "--shell", "json", "--port", port, "--data-dir", folder, "--project", project.id)
    name = project.create()
    project.finish(name)
    done = subprocess.run(
        [sys.executable, "-m", "emulator", "jobs", "list"],
        env={**os.environ, **json.loads(printed.stdout)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert job_id(name) in done.stdout


def test_describe_and_cancel_need_no_project_for_an_id(project: Project) -> None:
    project.pace("pending=hold")
    name = project.create()
    place = ("--server", project.emulator.url)
    described = run("jobs", "describe", job_id(name), *place, GOOGLE_CLOUD_PROJECT=None)
    assert json.loads(described.stdout)["name"] == name
    cancelled = run("jobs", "cancel", job_id(name), *place, GOOGLE_CLOUD_PROJECT=None)
    assert cancelled.stdout == f"{name} is JOB_STATE_CANCELLED.\n"


@pytest.mark.parametrize("pair", ["confidenceThreshold", "=1"])
def test_parameter_that_is_none_is_refused(project: Project, pair: str) -> None:
    result = run(*create(project, parameter=pair))
    assert result.exit_code == 1
    assert f"--parameter {pair!r}: write it as NAME=VALUE" in result.stderr


def completed(words: str, **environment: str) -> list[str]:
    """What bash completes these words to."""
    done = subprocess.run(
        [Path(sys.executable).with_name("vertex-emulator")],
        env={
            **os.environ,
            **environment,
            "_VERTEX_EMULATOR_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_ids_of_jobs_and_models_are_completed(project: Project, tmp_path: Path) -> None:
    name = project.create()
    environment = {
        "VERTEX_EMULATOR_PORT": project.emulator.url.rpartition(":")[2],
        "GOOGLE_CLOUD_PROJECT": project.id,
        "VERTEX_EMULATOR_DATA_DIR": str(tmp_path),
    }
    assert completed("vertex-emulator jobs wait ", **environment) == [job_id(name)]
    assert completed(f"vertex-emulator jobs wait {job_id(name)[:4]}", **environment) == [job_id(name)]
    assert completed("vertex-emulator models check video-ob", **environment) == ["video-object-tracking"]
    gone = {**environment, "VERTEX_EMULATOR_PORT": "9"}
    assert completed("vertex-emulator jobs wait ", **gone) == []


def test_running_job_tells_its_frames(project: Project) -> None:
    project.control(
        "POST", "faults", {"on": "job", "kind": "slow-model", "delay": "300ms", "project": project.id}
    )
    name = project.create("b.mp4", "a.mp4")
    seen = []
    while project.control("GET", f"jobs/{job_id(name)}/explain")["job"]["state"] != "JOB_STATE_SUCCEEDED":
        progress = project.control("GET", f"jobs/{job_id(name)}/explain").get("progress", {})
        if progress.get("framesDone"):
            seen.append(progress)
        metrics = project.http.get("/_emulator/metrics").text
        if f'vertex_emulator_job_frames{{job="{name}",kind="done"}}' in metrics and seen:
            break
    assert seen, "the job never told a frame"
    assert {"framesDone", "framesLeft", "fraction", "framesPerSecond", "secondsLeft"} <= seen[-1].keys()
    assert 0 < seen[-1]["framesDone"] <= 8
    project.finish(name)
    assert "progress" not in project.control("GET", f"jobs/{job_id(name)}/explain")


def test_job_is_compared_and_exported(project: Project, tmp_path: Path) -> None:
    """By its id or name, with files or another job, as the folder that `jobs output --to` copies."""
    name = project.create("a.mp4")
    project.finish(name)
    server = ("--server", project.emulator.url)
    run("jobs", "output", name, "--to", tmp_path / "out", *server)
    for other in (tmp_path / "out", job_id(name)):
        done = run("compare", name, other, *server, "--at-least", "f1=1")
        assert done.exit_code == 0, done.output
        assert "1 segment compared." in done.stdout
    by_name = run("export", job_id(name), "--to", "csv", *server)
    assert by_name.stdout == run("export", tmp_path / "out", "--to", "csv").stdout
    assert "gs://bucket/a.mp4" in by_name.stdout
    missing = run("compare", "12345", name, *server)
    assert missing.exit_code == 1
    assert "No job 12345." in missing.stderr
