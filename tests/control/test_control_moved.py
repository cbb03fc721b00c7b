"""A data folder that was moved or copied: its models run, and its jobs go on, at the new path."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from emulator.config import Settings
from tests.control.project import Project, job_id, make_settings
from tests.control.test_control_restart import running_with
from tests.execution.workplace import write_tiny_model
from tests.postgresql import on_postgresql

MODELS = ("uploaded", "pets", "own")

pytestmark = pytest.mark.skipif(on_postgresql(), reason="servers that share a database do not share a folder")


def make_models(project: Project) -> None:
    """An uploaded model and a canned one; `own` lies in the data folder."""
    write_tiny_model(project.buckets / "bucket" / "model", label="dog", display_name="Uploaded")
    artifact = {"displayName": "Uploaded", "artifactUri": "gs://bucket/model"}
    body = {"modelId": "uploaded", "model": artifact}
    operation = project.call("POST", f"/v1/{project.parent}/models:upload", body)
    project.call("POST", f"/v1/{operation['name']}:wait", {"timeout": "60s"})
    lines = [{"video": "*", "prediction": []}]
    canned = {"parent": project.parent, "modelId": "pets", "objective": "object_tracking", "lines": lines}
    project.control("POST", "canned", canned)


def place(folder: Path) -> Settings:
    settings = make_settings(folder)
    if not settings.own_models.exists():
        write_tiny_model(settings.own_models / "own", label="bird", display_name="Own")
    return settings


def forget_home(folder: Path) -> None:
    """The database as versions left it that did not write down where their data folder is."""
    engine = create_engine(f"sqlite:///{folder / 'data' / 'emulator.db'}")
    with engine.begin() as connection:
        connection.execute(text("delete from control_notes where name = 'data_folder'"))
    engine.dispose()


@pytest.mark.parametrize(("move", "is_older"), [(shutil.move, False), (shutil.copytree, True)])
def test_jobs_and_models_follow_the_folder(
    tmp_path: Path, move: Callable[[Path, Path], object], *, is_older: bool
) -> None:
    first, second = tmp_path / "first", tmp_path / "elsewhere" / "second"
    with running_with(place(first)) as project:
        make_models(project)
        project.pace("pending=hold")
        held = [project.create(model=model) for model in MODELS]
        for job in held:
            project.wait(job, "PENDING", held=True)
    if is_older:
        forget_home(first)
    second.parent.mkdir()
    move(first, second)
    with running_with(place(second)) as project:
        # Nothing may be read at the former path.
        shutil.rmtree(first, ignore_errors=True)
        project.pace("real")
        for job in held:
            project.control("PUT", f"jobs/{job_id(job)}/pace", {"pace": "real"})
        for job in [*held, *(project.create(model=model) for model in MODELS)]:
            ended = project.finish(job)
            assert ended["state"] == "JOB_STATE_SUCCEEDED", ended
            assert ended["completionStats"] == {"successfulCount": "1"}
