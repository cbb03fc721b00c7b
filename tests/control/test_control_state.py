"""Reset, seed, snapshot and deterministic mode."""

import errno
import json
import os
import random
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from emulator.app import CannotStart, Emulator
from tests.control.project import Project, client_of, job_id, make_settings


@contextmanager
def running(folder: Path, **changes: Any) -> Iterator[Project]:
    settings = make_settings(folder, **changes)
    with Emulator(settings) as emulator, client_of(emulator) as http:
        yield Project(emulator, http, settings.buckets, id="my-project")


def listed(project: Project) -> list[str]:
    answer = project.call("GET", f"/v1/{project.parent}/batchPredictionJobs")
    return [job["name"] for job in answer.get("batchPredictionJobs", [])]


def write_seed(folder: Path) -> Path:
    seed = folder / "seed"
    (seed / "models" / "pets").mkdir(parents=True)
    (seed / "models" / "pets" / "model.toml").write_text(
        '[model]\nobjective = "object_tracking"\ncanned = "canned.jsonl"\n'
    )
    (seed / "models" / "pets" / "canned.jsonl").write_text('{"video": "*", "prediction": []}\n')
    (seed / "buckets" / "seeded").mkdir(parents=True)
    instance = {"content": "gs://seeded/none.mp4", "mimeType": "video/mp4"}
    (seed / "buckets" / "seeded" / "in.jsonl").write_text(json.dumps(instance))
    parent = "projects/my-project/locations/us-central1"
    job = {
        "displayName": "seeded",
        "model": f"{parent}/models/pets",
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://seeded/in.jsonl"]}},
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": "gs://seeded/out"},
        },
    }
    old = {
        **job,
        "name": f"{parent}/batchPredictionJobs/77",
        "displayName": "old",
        "state": "JOB_STATE_FAILED",
        "createTime": "2024-01-02T03:04:05Z",
        "endTime": "2024-01-02T03:05:05Z",
        "error": {"code": 13, "message": "System error."},
    }
    lines = [{"parent": parent, "batchPredictionJob": value} for value in (old, job)]
    (seed / "jobs.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    fault = {"on": "rpc", "method": "DeleteModel", "code": 7}
    control = {"projects": {"my-project": {"pace": "immediate"}}, "faults": [fault]}
    (seed / "control.json").write_text(json.dumps(control))
    return seed


def test_reset_of_one_project_leaves_the_others(tmp_path: Path) -> None:
    with running(tmp_path) as one:
        other = Project(one.emulator, one.http, one.buckets, id="other")
        for project in (one, other):
            project.pace("running=hold")
            held = project.create()
            project.wait(held, "RUNNING", held=True)
            project.call("GET", f"/v1/{project.parent}/models")
        answer = one.control("POST", "reset", {"project": "my-project"})
        assert answer == {"cancelledJobs": 1, "bucketsEmptied": False, "seeded": False}
        assert listed(one) == []
        assert len(listed(other)) == 1
        assert one.control("GET", "projects/my-project/pace")["from"] == "setting"
        assert other.control("GET", "projects/other/pace")["pace"] == "running=hold"
        one.pace("immediate")
        assert one.state(one.create()) == "SUCCEEDED"


def test_reset_of_all_empties_the_buckets_of_the_data_folder(tmp_path: Path) -> None:
    with running(tmp_path) as project:
        project.finish(project.create())
        project.control("POST", "faults", {"on": "rpc", "method": "GetModel", "code": 7})
        assert project.control("POST", "reset", {"to": "empty"})["bucketsEmptied"] is True
        assert list(project.buckets.iterdir()) == []
        assert listed(project) == []
        assert project.control("GET", "faults") == {"faults": []}
        assert project.control("GET", "requests")["count"] == 1  # the list above


def test_a_folder_of_ones_own_is_never_emptied(tmp_path: Path) -> None:
    with running(tmp_path, storage_dir=tmp_path / "mine") as project:
        assert project.control("POST", "reset")["bucketsEmptied"] is False
        assert (tmp_path / "mine" / "bucket" / "a.mp4").exists()
        error = project.error("POST", "/_emulator/reset", {"buckets": True})
        assert error["status"] == "FAILED_PRECONDITION"


@pytest.mark.parametrize(
    "body", [{"to": "x"}, {"buckets": 1}, {"projects": "x"}, {"project": 3}, {"project": ""}]
)
def test_bad_reset_changes_nothing(project: Project, body: Any) -> None:
    name = project.create()
    assert project.error("POST", "/_emulator/reset", body)["status"] == "INVALID_ARGUMENT"
    project.get(name)


def test_seed_folder_is_loaded_once_and_again_by_reset(tmp_path: Path) -> None:
    seed = write_seed(tmp_path)
    with running(tmp_path, seed_dir=seed) as project:
        created, old = listed(project)
        assert project.finish(created)["state"] == "JOB_STATE_SUCCEEDED"
        job = project.get(old)
        assert old.endswith("/77")
        assert job["error"] == {"code": 13, "message": "System error."}
        assert (job["createTime"], job["endTime"]) == ("2024-01-02T03:04:05Z", "2024-01-02T03:05:05Z")
        assert project.control("GET", "projects/my-project/pace")["pace"] == "immediate"
        assert len(project.control("GET", "faults")["faults"]) == 1
    with running(tmp_path, seed_dir=seed) as project:
        assert listed(project) == [created, old]
        project.call("DELETE", f"/v1/{old}")
        assert project.control("POST", "reset")["seeded"] is True
        again, old = listed(project)
        assert old.endswith("/77")
        assert again != created
        assert project.finish(again)["state"] == "JOB_STATE_SUCCEEDED"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("jobs.jsonl", "\n{", "jobs.jsonl line 2: "),
        ("jobs.jsonl", '{"parent": "x"}', "jobs.jsonl line 1: "),
        ("control.json", '{"speed": 1}', "'speed' is not known"),
        ("control.json", '{"projects": {"p": "immediate"}}', '"projects" must be an object such as'),
        ("control.json", '{"faults": ["x"]}', '"faults" must be a list of objects'),
    ],
)
def test_bad_seed_keeps_the_server_from_starting(tmp_path: Path, file: str, text: str, message: str) -> None:
    seed = write_seed(tmp_path)
    (seed / file).write_text(text)
    with pytest.raises(CannotStart, match=message), running(tmp_path, seed_dir=seed):
        pass


def test_seed_that_fails_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    seed = write_seed(tmp_path)
    right = (seed / "jobs.jsonl").read_text()
    (seed / "jobs.jsonl").write_text(f'{right}{{"parent": "x"}}')
    with pytest.raises(CannotStart, match=r"jobs.jsonl line 3: "), running(tmp_path, seed_dir=seed):
        pass
    with running(tmp_path) as project:
        assert listed(project) == []
        assert project.control("GET", "faults") == {"faults": []}
        assert project.control("GET", "projects/my-project/pace")["from"] == "setting"
    (seed / "jobs.jsonl").write_text(right)
    with running(tmp_path, seed_dir=seed) as project:
        assert len(listed(project)) == 2
        assert len(project.control("GET", "faults")["faults"]) == 1


def test_snapshot_brings_everything_back_elsewhere(tmp_path: Path) -> None:
    with running(tmp_path) as project:
        line = {"video": "*", "prediction": []}
        body = {"parent": project.parent, "modelId": "pets", "objective": "object_tracking", "lines": [line]}
        project.control("POST", "canned", body)
        done = project.finish(project.create(model="pets"))
        files = project.files(done)
        held = project.create(model="pets", headers={"x-goog-emulator-instructions": "pace=running=hold"})
        project.wait(held, "RUNNING", held=True)
        snapshot = project.http.get("/_emulator/snapshot")
        assert snapshot.headers["content-type"] == "application/zip"
    with running(tmp_path / "elsewhere") as other:
        other.create()
        response = other.http.put("/_emulator/snapshot", content=snapshot.content)
        assert response.status_code == 200, response.text
        assert response.json()["jobs"] == 2
        assert listed(other) == [held, done["name"]]
        assert other.get(done["name"]) == done
        assert other.files(done) == files
        other.wait(held, "RUNNING", held=True)
        assert other.control("POST", f"jobs/{job_id(held)}/release")["state"] == "JOB_STATE_SUCCEEDED"
        assert other.finish(other.create(model="pets"))["state"] == "JOB_STATE_SUCCEEDED"


def test_snapshot_has_files_of_any_age_and_empty_buckets(tmp_path: Path) -> None:
    with running(tmp_path) as project:
        (project.buckets / "empty").mkdir()
        old = project.buckets / "bucket" / "old"
        old.write_bytes(b"old")
        os.utime(old, (0, 0))
        snapshot = project.http.get("/_emulator/snapshot").content
    with running(tmp_path / "elsewhere") as other:
        assert other.http.put("/_emulator/snapshot", content=snapshot).status_code == 200
        assert {path.name for path in other.buckets.iterdir()} == {"bucket", "empty"}
        assert (other.buckets / "bucket" / "old").stat().st_mtime == 0


def test_damaged_snapshot_changes_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as project:
        (project.buckets / "bucket" / "noise").write_bytes(random.Random(0).randbytes(100_000))
        snapshot = bytearray(project.http.get("/_emulator/snapshot").content)
        place = snapshot.index(b"buckets/bucket/noise") + 50_000
        snapshot[place] ^= 1
        name = project.create()
        project.wait(name)
        before = set(project.buckets.rglob("*"))
        response = project.http.put("/_emulator/snapshot", content=bytes(snapshot))
        assert response.json()["error"]["status"] == "INVALID_ARGUMENT"
        assert "damaged" in response.json()["error"]["message"]
        assert set(project.buckets.rglob("*")) == before
        assert not list(project.emulator.settings.data_dir.glob(".snapshot-*"))
        assert project.state(name) == "SUCCEEDED"


def test_snapshot_of_what_cannot_be_read_says_so(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in it, its caller gets an answer, and no file stays behind."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(zipfile.ZipFile, "write", refuse)
    before = set(Path(tempfile.gettempdir()).glob("vertex-emulator-*.zip"))
    error = project.error("GET", "/_emulator/snapshot")
    assert error["status"] == "FAILED_PRECONDITION"
    assert "cannot be saved (Permission denied)" in error["message"]
    monkeypatch.setattr(zipfile.ZipFile, "write", lambda *_, **__: 1 / 0)
    assert project.error("GET", "/_emulator/snapshot")["status"] == "INTERNAL"
    assert set(Path(tempfile.gettempdir()).glob("vertex-emulator-*.zip")) <= before


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_snapshot_changes_nothing(project: Project, content: bytes) -> None:
    name = project.create()
    response = project.http.put("/_emulator/snapshot", content=content)
    assert response.json()["error"]["status"] == "INVALID_ARGUMENT"
    project.get(name)


def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    played = []
    for name in ("one", "two"):
        with running(tmp_path / name, seed=7) as project:
            project.pace("pending=hold")
            held = project.create()
            project.call("POST", f"/v1/{held}:cancel")
            project.pace("immediate")
            body = project.body()
            body["inputConfig"]["gcsSource"]["uris"] = ["gs://bucket/in.jsonl"]
            instance = {"content": "gs://bucket/a.mp4", "mimeType": "video/mp4"}
            (project.buckets / "bucket" / "in.jsonl").write_text(json.dumps(instance))
            created = project.call("POST", f"/v1/{project.parent}/batchPredictionJobs", body)["name"]
            job = project.finish(created)
            operation = project.call("DELETE", f"/v1/{held}")
            played.append((held, job, project.files(job), operation))
            project.control("POST", "reset", {"to": "empty", "buckets": False})
            assert project.create() == held
    assert played[0] == played[1]
    assert played[0][1]["createTime"].startswith("2026-01-01T00:00:")


def test_snapshot_names_the_file_whose_name_is_not_utf8(tmp_path: Path) -> None:
    with running(tmp_path) as project:
        (project.buckets / os.fsdecode(b"bucket/caf\xe9")).write_bytes(b"x")
        error = project.error("GET", "/_emulator/snapshot")
        assert "caf\\xe9' cannot be saved (its name is not UTF-8)" in error["message"]
