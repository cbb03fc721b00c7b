"""Reset, seed, snapshot and deterministic mode."""

import errno
import io
import json
import os
import random
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from emulator.app import CannotStart, Emulator
from emulator.storage.confined import ConfinedPath
from tests.control.project import Project, client_of, job_id, make_settings
from tests.execution.workplace import write_tiny_model


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
        ("RECORDING.md", "# Recording\n\nFormat 7. Made at noon.\n", "newer version .*format 7"),
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

    monkeypatch.setattr(ConfinedPath, "open", refuse)
    before = set(Path(tempfile.gettempdir()).glob("vertex-emulator-*.zip"))
    error = project.error("GET", "/_emulator/snapshot")
    assert error["status"] == "FAILED_PRECONDITION"
    assert "cannot be saved (Permission denied)" in error["message"]
    monkeypatch.setattr(ConfinedPath, "open", lambda *_: 1 / 0)
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


def test_snapshot_holds_no_byte_from_outside_whoever_swaps_links(tmp_path: Path) -> None:
    """A file of a bucket, and a folder of it, become links that lead out just before they are opened."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("stolen")
    with running(tmp_path) as project:
        bucket = project.buckets / "bucket"
        for folder in ("file", "folder"):
            (bucket / folder).mkdir()
            (bucket / folder / "secret").write_text("mine")
        swapped: set[Path] = set()

        def swap(event: str, arguments: tuple[Any, ...]) -> None:
            if event != "open" or arguments[0] not in ("secret", str(bucket / "file" / "secret")):
                return
            for path, target in (
                (bucket / "file" / "secret", outside / "secret"),
                (bucket / "folder", outside),
            ):
                if path not in swapped:
                    swapped.add(path)
                    path.rename(tmp_path / f"old-{path.name}")
                    path.symlink_to(target)

        sys.addaudithook(swap)
        answer = project.http.get("/_emulator/snapshot")
        assert swapped
        if answer.status_code == 200:
            with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
                assert b"stolen" not in b"".join(map(archive.read, archive.namelist()))
        else:
            assert "leads out of the folder" in answer.json()["error"]["message"]


def test_snapshot_names_folders_of_the_data_folder_alone(tmp_path: Path) -> None:
    """A path that merely has the data folder's path in it stays as it is."""
    lookalike = Path(f"{tmp_path / 'data'}-models")
    write_tiny_model(lookalike / "beside", label="cat", display_name="Beside")
    with running(tmp_path, models_dirs=[tmp_path / "models", lookalike]) as project:
        job = project.finish(project.create(model="beside"))
        snapshot = project.http.get("/_emulator/snapshot").content
    with zipfile.ZipFile(io.BytesIO(snapshot)) as archive:
        rows = json.loads(archive.read("rows.json"))
    assert [row["model_folder"] for row in rows["batch_prediction_jobs"]] == [str(lookalike / "beside")]
    with running(tmp_path / "elsewhere", models_dirs=[lookalike]) as other:
        assert other.http.put("/_emulator/snapshot", content=snapshot).status_code == 200
        assert other.get(job["name"])["state"] == "JOB_STATE_SUCCEEDED"
        assert other.finish(other.create(model="beside"))["state"] == "JOB_STATE_SUCCEEDED"


def test_snapshot_keeps_objects_that_no_folder_can_hold(tmp_path: Path) -> None:
    """Names kept aside, noncurrent versions and metadata come back with the bucket."""
    names = ["a", "a/b", "a//b", "marker/", "../up", "x" * 1024, "ü" * 300]
    with running(tmp_path) as project:
        project.call("POST", "/storage/v1/b?project=p", {"name": "odd", "versioning": {"enabled": True}})
        for text in ("first", "second"):
            for name in names:
                path = f"/upload/storage/v1/b/odd/o?uploadType=media&name={quote(name, safe='')}"
                assert project.http.post(path, content=f"{text} {name}").status_code == 200
        versions = _versions(project)
        snapshot = project.http.get("/_emulator/snapshot").content
    with running(tmp_path / "elsewhere") as other:
        response = other.http.put("/_emulator/snapshot", content=snapshot)
        assert response.status_code == 200, response.text
        assert _versions(other) == versions
        for name in names:
            got = other.http.get(f"/storage/v1/b/odd/o/{quote(name, safe='')}?alt=media")
            assert got.text == f"second {name}"


def _versions(project: Project) -> list[tuple[str, ...]]:
    items = project.call("GET", "/storage/v1/b/odd/o?versions=true")["items"]
    assert len(items) == 14
    return [tuple(item[key] for key in ("name", "generation", "crc32c", "updated")) for item in items]


@pytest.mark.parametrize("by", ["reset", "snapshot"])
def test_folder_models_outlive_what_another_server_on_the_folder_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Two servers on one SQLite file: one has shown the folder's models, the other removes all rows."""
    monkeypatch.setattr("emulator.service.model_registry._SEED_AGE_S", 0)
    with running(tmp_path) as one, running(tmp_path) as other:
        snapshot = other.http.get("/_emulator/snapshot").content
        one.finish(one.create())
        if by == "reset":
            other.control("POST", "reset", {"to": "empty", "buckets": False})
        else:
            assert other.http.put("/_emulator/snapshot", content=snapshot).status_code == 200
        assert [model["displayName"] for model in one.call("GET", f"/v1/{one.parent}/models")["models"]] == [
            "Tiny"
        ]
        assert one.finish(one.create())["state"] == "JOB_STATE_SUCCEEDED"
