"""`vertex-emulator data prune` and `retention_days`: what finished long ago goes, nothing else."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.app import CannotStart, Emulator
from emulator.database import Database
from tests.control.ageing import age, count, data, data_json
from tests.control.project import Project, client_of, job_id, make_settings


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_there(http: httpx.Client, name: str) -> bool:
    status = http.get(f"/v1/{name}").status_code
    assert status in (200, 404)
    return status == 200


def output_of(project: Project, job: Any) -> Path:
    directory: str = job["outputInfo"]["gcsOutputDirectory"]
    return project.buckets / directory.removeprefix("gs://")


def test_old_jobs_go_while_the_server_runs(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    with Emulator(settings) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, settings.buckets)
        old = [project.finish(project.create()) for _ in range(2)]
        deleted = project.create()
        project.wait(deleted)
        project.call("DELETE", f"/v1/{deleted}")
        project.pace("running=hold")
        held = project.create()
        project.wait(held, "RUNNING", held=True)
        age(settings, 31)
        project.pace("real")
        new = project.finish(project.create())
        planned = data_json(settings, "prune", "--older-than", "30d", "--dry-run")
        assert planned == {"jobs": 2, "operations": 1, "files": 0, "keptFiles": 0, "dryRun": True}
        assert all(is_there(http, job["name"]) for job in old)
        pruned = data(settings, "prune", "--older-than", "30d")
        assert pruned.exit_code == 0
        assert pruned.stdout == "2 jobs, 1 operations removed.\n"
        # A client sees what it sees of a deleted job.
        for job in old:
            gone = project.error("GET", f"/v1/{job['name']}")
            assert (gone["code"], gone["status"]) == (404, "NOT_FOUND")
            assert http.get(f"/_emulator/jobs/{job_id(job['name'])}/explain").status_code == 404
        listed = project.call("GET", f"/v1/{project.parent}/batchPredictionJobs")["batchPredictionJobs"]
        assert {job["name"] for job in listed} == {held, new["name"]}
        assert project.call("GET", f"/v1/{project.parent}/operations") == {}
        assert all(output_of(project, job).is_dir() for job in old)
        project.control("POST", f"jobs/{job_id(held)}/release")
        assert project.finish(held)["state"] == "JOB_STATE_SUCCEEDED"
        steps = project.control("GET", f"jobs/{job_id(new['name'])}/explain")["steps"]
        assert count(settings, "job_steps") > len(steps) > 0
    assert count(settings, "batch_prediction_jobs") == 2
    assert data_json(settings, "check")["problems"] == []


def test_outputs_go_but_not_what_is_an_input(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    with Emulator(settings) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, settings.buckets)
        plain = project.finish(project.create("a.mp4", "none.mp4"))
        source = project.finish(project.create("a.mp4", "b.mp4"))
        own = output_of(project, plain) / "notes.txt"
        own.write_text("mine")
        # A job that reads what another has written, and has not begun.
        project.pace("pending=hold")
        uri = f"{source['outputInfo']['gcsOutputDirectory']}/predictions_0000[1]*.jsonl"
        body = {**project.body(), "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": [uri]}}}
        project.call("POST", f"/v1/{project.parent}/batchPredictionJobs", body)
        age(settings, 8)
        arguments = ("prune", "--older-than", "1w", "--outputs")
        told = {"jobs": 2, "operations": 0, "files": 3, "keptFiles": 1}
        assert data_json(settings, *arguments, "--dry-run") == {**told, "dryRun": True}
        assert len(list(output_of(project, source).iterdir())) == 2
        assert data_json(settings, *arguments) == {**told, "dryRun": False}
        assert list(output_of(project, plain).iterdir()) == [own]
        assert [path.name for path in output_of(project, source).iterdir()] == ["predictions_00001.jsonl"]
        assert (settings.buckets / "bucket" / "a.mp4").exists()
        assert len(list((settings.buckets / "bucket").glob("in-*.jsonl"))) >= 2


def test_recording_of_an_old_job_is_as_old_as_its_import(tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    seed.mkdir()
    job = {
        "name": "projects/p/locations/us-central1/batchPredictionJobs/5",
        "displayName": "recorded",
        "model": "projects/p/locations/us-central1/models/tiny",
        "state": "JOB_STATE_SUCCEEDED",
        "createTime": "2021-02-28T22:47:21Z",
        "endTime": "2021-02-28T23:47:21Z",
    }
    line = {"parent": "projects/p/locations/us-central1", "batchPredictionJob": job}
    (seed / "jobs.jsonl").write_text(json.dumps(line))
    settings = make_settings(tmp_path, seed_dir=seed)
    with Emulator(settings) as emulator, client_of(emulator) as http:
        path = "/v1/projects/p/locations/us-central1/batchPredictionJobs/5"
        assert data_json(settings, "prune", "--older-than", "1d")["jobs"] == 0
        assert http.get(path).status_code == 200
        age(settings, 2)
        assert data_json(settings, "prune", "--older-than", "1d")["jobs"] == 1
        assert http.get(path).status_code == 404


def test_age_has_to_have_a_unit(tmp_path: Path) -> None:
    for text in ("30", "30 d", "-1d", "d", "1y"):
        refused = data(make_settings(tmp_path), "prune", f"--older-than={text}")
        assert refused.exit_code == 2
        assert "write it as 30d" in refused.output


def test_server_removes_what_is_older_than_retention_days(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    with Emulator(settings) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, settings.buckets)
        old = project.finish(project.create())
        new = project.finish(project.create())
        project.pace("pending=hold")
        waiting = project.create()
    age(settings, 3, but=new["name"])
    with Emulator(make_settings(tmp_path, retention_days=4)) as emulator, client_of(emulator) as http:
        wait_for(lambda: count(settings, "control_notes WHERE name = 'retention' AND value <> '0'") == 1)
        assert is_there(http, old["name"])
    # The next turn is an hour later, for any server; a reset of its note makes it now.
    database = Database(settings.database)
    database.set_note("retention", None)
    database.close()
    with Emulator(make_settings(tmp_path, retention_days=2)) as emulator, client_of(emulator) as http:
        wait_for(lambda: not is_there(http, old["name"]))
        assert is_there(http, new["name"])
        assert is_there(http, waiting)
        assert output_of(project, old).is_dir()
    assert count(settings, f"job_steps WHERE job_id = {job_id(old['name'])}") == 0
    assert count(settings, f"job_steps WHERE job_id = {job_id(new['name'])}") > 0


def test_retention_and_made_up_times_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="Leave out retention_days or seed"):
        Emulator(make_settings(tmp_path, retention_days=2, seed=1)).start()
