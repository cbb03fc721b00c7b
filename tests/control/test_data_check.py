"""`vertex-emulator data check`: each kind of damage is found, named, and left as it is."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from emulator.app import Emulator
from emulator.config import Settings
from tests.control.ageing import change, damage, data, data_json
from tests.control.project import Project, client_of, job_id, make_settings
from tests.postgresql import on_postgresql, sqlite_only


def ran(settings: Settings) -> Any:
    """Run a job on a server, which has stopped then; the job."""
    with Emulator(settings) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, settings.buckets)
        return project.finish(project.create("a.mp4", "b.mp4"))


def output_of(settings: Settings, job: Any) -> Path:
    directory: str = job["outputInfo"]["gcsOutputDirectory"]
    return settings.buckets / directory.removeprefix("gs://")


def problems(settings: Settings) -> list[tuple[str, str, str]]:
    found = data_json(settings, "check")
    assert found["ok"] is (found["problems"] == [])
    return [(one["part"], one["subject"], one["problem"]) for one in found["problems"]]


def test_nothing_is_wrong_with_the_data_of_a_server_that_runs(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    with Emulator(settings) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, settings.buckets)
        project.finish(project.create())
        project.pace("running=hold")
        held = project.create()
        project.wait(held, "RUNNING", held=True)
        found = data(settings, "check")
        assert found.exit_code == 0, found.output
        assert "1 RUNNING" in found.output
        assert "1 SUCCEEDED" in found.output
        assert f"process {os.getpid()}" in found.output
        assert "Nothing is wrong." in found.output


def test_check_tells_the_size_of_each_part(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    ran(settings)
    before = data_json(settings, "check")["diskBytes"]
    (settings.buckets / "bucket" / "large.bin").write_bytes(os.urandom(1 << 20))
    after = data_json(settings, "check")["diskBytes"]
    assert after["buckets"] - before["buckets"] >= 1 << 20
    assert after["database"] > 0
    assert after["total"] == sum(size for part, size in after.items() if part != "total")


def test_missing_output_of_a_job_is_found(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    job = ran(settings)
    output = output_of(settings, job)
    (output / "predictions_00002.jsonl").unlink()
    [(part, subject, problem)] = problems(settings)
    assert (part, subject) == ("jobs", job["name"])
    assert problem.endswith("predictions_00002.jsonl is missing")
    shutil.rmtree(output)
    [(_, _, problem)] = problems(settings)
    assert problem.endswith("predictions_00001.jsonl, predictions_00002.jsonl of 2 files missing")
    found = data(settings, "check")
    assert found.exit_code == 1
    assert job["name"] in found.output
    assert "create it again" in found.output


def test_missing_errors_file_is_found(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    with Emulator(settings) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, settings.buckets)
        job = project.finish(project.create("a.mp4", "none.mp4"))
    assert job["completionStats"]["failedCount"] == "1"
    assert problems(settings) == []
    (output_of(settings, job) / "errors_00001.jsonl").unlink()
    [(_, _, problem)] = problems(settings)
    assert problem.endswith("errors_00001.jsonl is missing")


def test_staged_file_that_nobody_owns_is_found(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    job = ran(settings)
    staging = settings.buckets / "bucket" / ".vbe-tmp"
    staging.mkdir(exist_ok=True)
    finished = staging / f"staged.{job_id(job['name'])}.{'0' * 32}"
    unknown = staging / f"staged.7.{'0' * 32}"
    upload, old_upload = staging / ("1" * 32), staging / ("2" * 32)
    for file in (finished, unknown, upload, old_upload):
        file.write_text("x")
    os.utime(old_upload, (0, 0))
    assert {(part, subject) for part, subject, _ in problems(settings)} == {
        ("buckets", str(file)) for file in (finished, unknown, old_upload)
    }
    assert all(file.exists() for file in (finished, unknown, old_upload))


def test_staged_file_of_an_unfinished_job_is_owned(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    with Emulator(settings) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, settings.buckets)
        project.pace("pending=hold")
        waiting = project.create()
        staging = settings.buckets / "bucket" / ".vbe-tmp"
        staging.mkdir(exist_ok=True)
        (staging / f"staged.{job_id(waiting)}.{'0' * 32}").write_text("x")
        assert problems(settings) == []


def test_uploaded_model_without_its_folder_is_found(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    shutil.copytree(tmp_path / "models" / "tiny", settings.buckets / "bucket" / "model")
    with Emulator(settings) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, settings.buckets)
        body = {"model": {"displayName": "mine", "artifactUri": "gs://bucket/model"}, "modelId": "mine"}
        project.call("POST", f"/v1/{project.parent}/models:upload", body)
        name = project.call("GET", f"/v1/{project.parent}/models/mine")["name"]
    assert problems(settings) == []
    [folder] = (settings.data_dir / "uploads").iterdir()
    left = folder.with_name("1")
    folder.rename(left)
    assert problems(settings) == [
        ("models", f"{name}@1", f"its folder {folder} is missing"),
        ("models", str(left), "no model version needs this upload"),
    ]


def test_rows_without_their_job_are_found(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    ran(settings)
    steps = "INSERT INTO job_steps (job_id, project, time_us, step, text) VALUES (7, '1', 0, 'state', 'x')"
    change(settings, steps)
    [(part, _, problem)] = problems(settings)
    assert (part, problem) == ("database", "1 rows of job_steps whose job is gone")


@sqlite_only
def test_damaged_database_file_is_found(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    ran(settings)
    content = damage(settings)
    found = data(settings, "check")
    assert found.exit_code == 1
    assert "SQLite" in found.output
    assert "restore a backup" in found.output
    assert (settings.data_dir / "emulator.db").read_bytes() == content


@sqlite_only
def test_missing_database_is_not_created(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    for arguments in (("check",), ("prune", "--older-than", "1d"), ("backup", str(tmp_path / "copy"))):
        found = data(settings, *arguments)
        assert found.exit_code == 1
        assert "there is no such file" in found.output
    assert not (settings.data_dir / "emulator.db").exists()
    assert not (tmp_path / "copy").exists()


def test_other_schema_version_is_refused(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    ran(settings)
    change(settings, "UPDATE schema_version SET version = version - 1")
    for arguments in (("check",), ("prune", "--older-than", "1d"), ("backup", str(tmp_path / "copy"))):
        found = data(settings, *arguments)
        assert found.exit_code == 1
        assert "start a server of this version on it first" in found.output


def test_leftover_of_a_killed_server_is_found(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    ran(settings)
    (settings.data_dir / "owners" / "elsewhere-12-abc").touch()
    assert problems(settings) == [
        ("servers", "process 12 of elsewhere", "it was killed, and no server has taken over")
    ]


def test_job_whose_lease_has_run_out_is_found(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    with Emulator(settings) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, settings.buckets)
        project.pace("running=hold")
        name = project.create()
        project.wait(name, "RUNNING", held=True)
    change(settings, "UPDATE batch_prediction_jobs SET owner = 'gone', lease_expires_us = 1")
    assert problems(settings) == [("servers", name, "RUNNING, and its server is gone")]


@pytest.mark.skipif(not on_postgresql(), reason="is about PostgreSQL")
def test_note_says_what_postgresql_checks_by_itself(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    ran(settings)
    assert "pg_amcheck" in data(settings, "check").output
