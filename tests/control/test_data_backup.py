"""`vertex-emulator data backup`: a server starts on the copy, and everything in it is whole."""

import json
import shutil
import stat
import subprocess
import tarfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.app import Emulator
from emulator.config import Settings
from tests.control.ageing import damage, data, data_json
from tests.control.project import Project, client_of, make_settings
from tests.postgresql import on_postgresql, sqlite_only


def restored(settings: Settings, folder: Path) -> Settings:
    return replace(settings, data_dir=folder)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["copy", "copy.tar", "copy.tar.gz"])
@sqlite_only
def test_server_starts_on_the_copy_and_has_all_jobs(tmp_path: Path, name: str) -> None:
    settings = make_settings(tmp_path)
    target, place = tmp_path / name, tmp_path / "copy"
    with Emulator(settings) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, settings.buckets)
        done = project.finish(project.create("a.mp4", "b.mp4"))
        project.pace("running=hold")
        held = project.create()
        project.wait(held, "RUNNING", held=True)
        made = data(settings, "backup", str(target))
        assert made.exit_code == 0, made.output
        # What happens after it is not in it.
        later = project.create(name="later")
    if name != "copy":
        place.mkdir()
        subprocess.run(["tar", "-xf", str(target), "-C", str(place)], check=True)
    assert data_json(restored(settings, place), "check")["problems"] == []
    with Emulator(restored(settings, place)) as emulator, client_of(emulator) as http:
        copy = Project(emulator, http, place / "buckets", id=project.id)
        assert copy.get(done["name"]) == done
        assert copy.files(done) == {
            path.name: path.read_text()
            for path in sorted((settings.buckets / done["outputInfo"]["gcsOutputDirectory"][5:]).iterdir())
        }
        assert http.get(f"/v1/{later}").status_code == 404
        copy.control("POST", f"jobs/{held.rpartition('/')[2]}/release")
        assert copy.finish(held)["state"] == "JOB_STATE_SUCCEEDED"


@sqlite_only
def test_uploaded_model_runs_on_the_copy(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    shutil.copytree(tmp_path / "models" / "tiny", settings.buckets / "bucket" / "model")
    with Emulator(settings) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, settings.buckets)
        body = {"model": {"displayName": "mine", "artifactUri": "gs://bucket/model"}, "modelId": "mine"}
        project.call("POST", f"/v1/{project.parent}/models:upload", body)
        assert data(settings, "backup", str(tmp_path / "copy")).exit_code == 0
    shutil.rmtree(settings.data_dir)
    with Emulator(restored(settings, tmp_path / "copy")) as emulator, client_of(emulator) as http:
        copy = Project(emulator, http, tmp_path / "copy" / "buckets", id=project.id)
        assert copy.finish(copy.create(model="mine"))["state"] == "JOB_STATE_SUCCEEDED"


def test_every_object_in_the_copy_is_complete(tmp_path: Path) -> None:
    """Objects are replaced all the time; each has the letter of its version throughout."""
    settings = make_settings(tmp_path)
    size, stop = 300_000, threading.Event()
    with Emulator(settings) as emulator:

        def write(name: str) -> None:
            with client_of(emulator) as http:
                letter = 0
                while not stop.is_set():
                    letter = (letter + 1) % 26
                    content = bytes([97 + letter]) * size
                    path = f"/upload/storage/v1/b/bucket/o?uploadType=media&name={name}"
                    assert http.post(path, content=content).status_code == 200

        writers = [threading.Thread(target=write, args=(f"object-{number}",)) for number in range(2)]
        for writer in writers:
            writer.start()
        try:
            for number in range(5):
                assert data(settings, "backup", str(tmp_path / f"copy-{number}")).exit_code == 0
        finally:
            stop.set()
            for writer in writers:
                writer.join()
    for number in range(5):
        bucket = tmp_path / f"copy-{number}" / "buckets" / "bucket"
        for path in bucket.glob("object-*"):
            content = path.read_bytes()
            assert len(content) == size
            assert len(set(content)) == 1
        assert list(bucket.glob(".vbe-tmp/*")) == []
    assert sorted(path.name for path in bucket.glob("object-*")) == ["object-0", "object-1"]


@sqlite_only
def test_finished_jobs_of_the_copy_have_their_output(tmp_path: Path) -> None:
    """Jobs end while copies are made: what is SUCCEEDED in a copy has its files there."""
    settings = make_settings(tmp_path)
    with Emulator(settings) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, settings.buckets)
        names = [project.create() for _ in range(10)]
        for number in range(6):
            assert data(settings, "backup", str(tmp_path / f"copy-{number}")).exit_code == 0
        for name in names:
            project.wait(name)
    for number in range(6):
        found = data_json(restored(settings, tmp_path / f"copy-{number}"), "check")
        assert [one for one in found["problems"] if one["part"] != "buckets"] == []
        assert sum(found["jobs"].values()) == 10


def test_copy_keeps_times_and_permissions(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, tls=True)
    with Emulator(settings):
        assert data(settings, "backup", str(tmp_path / "copy")).exit_code == 0
        assert data(settings, "backup", str(tmp_path / "copy.tar")).exit_code == 0
    video = Path("buckets") / "bucket" / "a.mp4"
    kept = settings.data_dir / video
    assert (tmp_path / "copy" / video).stat().st_mtime_ns == kept.stat().st_mtime_ns
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "copy.tar").stat().st_mode) == 0o600
    for key in (settings.data_dir / "tls").glob("*key*"):
        copied = tmp_path / "copy" / "tls" / key.name
        assert stat.S_IMODE(copied.stat().st_mode) == stat.S_IMODE(key.stat().st_mode)
    with tarfile.open(tmp_path / "copy.tar") as archive:
        names = set(archive.getnames())
    assert {str(video), "backup.json"} < names
    assert not any(name.startswith(("owners", "cache", "results")) for name in names)


def test_backup_is_refused_where_something_is_already(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    with Emulator(settings):
        (tmp_path / "there").mkdir()
        for target, message in (
            (tmp_path / "there", "exists already"),
            (tmp_path / "none" / "copy", "is no folder"),
            (settings.data_dir / "copy", "lies inside"),
        ):
            made = data(settings, "backup", str(target))
            assert made.exit_code == 1
            assert message in made.output
    assert list((tmp_path / "there").iterdir()) == []


@sqlite_only
def test_nothing_is_left_of_a_backup_of_damaged_rows(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    with Emulator(settings) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, settings.buckets)
        project.finish(project.create())
    damage(settings)
    for name in ("copy", "copy.tar"):
        made = data(settings, "backup", str(tmp_path / name))
        assert made.exit_code == 1
        assert "its copy is damaged" in made.output
    assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == []


def test_note_says_what_is_left_out(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    with Emulator(settings):
        made = data(settings, "backup", str(tmp_path / "copy"), "--models-dirs", "/srv/models")
    assert made.exit_code == 0
    note: Any = json.loads((tmp_path / "copy" / "backup.json").read_text())
    assert note["leftOut"][-1] == "The models in /srv/models are left out."
    assert "/srv/models" in made.output
    assert on_postgresql() is not (tmp_path / "copy" / "emulator.db").exists()
    assert on_postgresql() is any("pg_dump BEFORE" in text for text in note["leftOut"])


def test_rows_of_pg_dump_fit_the_copy_of_the_files(tmp_path: Path) -> None:
    if not on_postgresql() or shutil.which("pg_dump") is None:
        pytest.skip("needs PostgreSQL and its client programs")
    settings = make_settings(tmp_path)
    assert settings.database_url is not None
    with Emulator(settings) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, settings.buckets)
        job = project.finish(project.create())
        url, schema = settings.database_url.split("?options=-csearch_path%3D")
        plain = url.replace("+psycopg", "")
        dump = tmp_path / "rows.dump"
        subprocess.run(
            ["pg_dump", f"--schema={schema}", "--format=custom", f"--file={dump}", plain], check=True
        )
        assert data(settings, "backup", str(tmp_path / "copy")).exit_code == 0
        project.call("DELETE", f"/v1/{job['name']}")
    subprocess.run(["pg_restore", "--clean", f"--dbname={plain}", str(dump)], check=True)
    shutil.rmtree(settings.data_dir)
    (tmp_path / "copy").rename(settings.data_dir)
    with Emulator(settings) as emulator:
        assert httpx.get(f"{emulator.url}/v1/{job['name']}", trust_env=False).json() == job
    assert data_json(settings, "check")["problems"] == []
