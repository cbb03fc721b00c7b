"""What readiness, pace and steps say is true at the moment, whatever was true before."""

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from emulator.app import Emulator
from emulator.database import ShardRow
from emulator.service.control import Paces
from emulator.vertex.job_state import JobState
from tests.control.project import Project, client_of, job_id, make_settings
from tests.postgresql import sqlite_only


def until(http: httpx.Client, status: int, problem: str = "") -> httpx.Response:
    """The answer of readiness once it has a status and a problem."""
    while True:
        answer = http.get("/_emulator/ready")
        if answer.status_code == status and problem in answer.text:
            return answer


def test_a_model_that_is_repaired_makes_the_server_ready_and_one_that_breaks_does_not(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    graph = tmp_path / "models" / "tiny" / "model.onnx"
    good = graph.read_bytes()
    graph.write_bytes(b"garbage")
    with Emulator(settings) as emulator, client_of(emulator) as http:
        until(http, 503, "model.onnx")
        graph.write_bytes(good)
        [model] = until(http, 200).json()["models"]
        assert model["problem"] == ""
        graph.write_bytes(b"garbage again")
        until(http, 503, "model.onnx")


def test_a_job_that_runs_clears_the_problem_of_its_model(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    graph = tmp_path / "models" / "tiny" / "model.onnx"
    good = graph.read_bytes()
    graph.write_bytes(b"garbage")
    with Emulator(settings) as emulator, client_of(emulator) as http:
        until(http, 503, "model.onnx")
        graph.write_bytes(good)
        project = Project(emulator, http, settings.buckets)
        assert project.finish(project.create())["state"] == "JOB_STATE_SUCCEEDED"
        assert http.get("/_emulator/ready").status_code == 200


@sqlite_only
def test_a_data_folder_that_is_deleted_is_told_once_and_every_call_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_settings(tmp_path, database_url=None)
    with Emulator(settings) as emulator, client_of(emulator) as http:
        until(http, 200)
        project = Project(emulator, http, settings.buckets)
        body = project.body()
        path = f"/v1/{project.parent}/batchPredictionJobs"
        assert http.get(path).status_code == 200
        caplog.clear()
        shutil.rmtree(settings.data_dir)
        answer = until(http, 503, "removed or replaced while the server runs. Restart the server.")
        assert answer.json()["ready"] is False
        for _ in range(20):
            for call in (http.get(path), http.post(path, json=body), http.get("/_emulator/jobs/1/explain")):
                assert call.status_code == 503
                assert "Restart the server." in call.json()["error"]["message"]
        told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not any(record.exc_info for record in told), "tracebacks"
    first_words = [record.getMessage().partition(" /")[0] for record in told]
    assert first_words.count("The database file") == 1
    assert {*first_words} <= {"The database file", "Model left out: the models folder"}


def test_explain_tells_every_step(project: Project) -> None:
    database = project.emulator._started._database
    project.pace("pending=hold")
    name = project.create()
    number = int(job_id(name))
    project.control("PUT", f"jobs/{number}/pace", {"pace": "running=hold"})
    while (row := database.get_job(number)) is None or row.owner is None:
        pass
    for index in range(1200):
        assert database.record_shard(number, row.owner, ShardRow(index, None, 1, 0, "[]"), f"video {index}")
    assert database.finish_job(number, row.owner, JobState.SUCCEEDED, successful=1200)
    steps = project.control("GET", f"jobs/{number}/explain")["steps"]
    assert [step["text"] for step in steps if step["step"] == "video"] == [
        f"video {index}" for index in range(1200)
    ]
    assert steps[-1]["state"] == "JOB_STATE_SUCCEEDED"


@pytest.fixture
def own_emulator(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(make_settings(tmp_path)) as emulator:
        yield emulator


def while_reading(
    emulator: Emulator, name: str, change: Callable[[], object], read: Callable[[], object]
) -> None:
    """Make a change after another thread has read the rows and before it has kept them."""
    database = emulator._started._database
    real, has_read, go_on = getattr(database, name), threading.Event(), threading.Event()

    def slow(*arguments: object) -> object:
        found = real(*arguments)
        if threading.current_thread() is reader:
            has_read.set()
            go_on.wait()
        return found

    reader = threading.Thread(target=read)
    setattr(database, name, slow)
    reader.start()
    has_read.wait()
    change()
    go_on.set()
    reader.join()
    setattr(database, name, real)


def test_a_pace_that_is_set_while_another_call_reads_stays(own_emulator: Emulator) -> None:
    paces: Paces = own_emulator._started._service.paces
    paces.forget()
    paces._set.forget()
    while_reading(own_emulator, "get_notes", lambda: paces.set("pending=hold", "p"), lambda: paces.get("p"))
    assert paces.get("p") == {"pace": "pending=hold", "from": "project"}


def test_a_fault_that_is_added_while_another_call_reads_fires(own_emulator: Emulator) -> None:
    faults = own_emulator._started._service.faults
    faults.forget()
    fault = {"on": "rpc", "method": "GetModel", "code": "UNAVAILABLE"}
    while_reading(
        own_emulator, "list_faults", lambda: faults.add(fault), lambda: faults.of_call("JobService/X", "")
    )
    assert faults.of_call("ModelService/GetModel", "1")[0] is not None


def test_calls_share_threads_again_when_nothing_is_paced_any_more(own_emulator: Emulator) -> None:
    with client_of(own_emulator) as http:
        project = Project(own_emulator, http, own_emulator.settings.buckets)
        paces: Paces = own_emulator._started._service.paces

        def may_hold_after_a_call() -> bool:
            http.get(f"/v1/{project.parent}/batchPredictionJobs")
            return paces.may_hold

        assert not may_hold_after_a_call()
        project.pace("pending=hold")
        assert may_hold_after_a_call()
        name = project.create()
        project.control("DELETE", f"projects/{project.id}/pace")
        assert may_hold_after_a_call(), "the job is still held"
        project.control("PUT", f"jobs/{job_id(name)}/pace", {"pace": "real"})
        project.finish(name)
        while may_hold_after_a_call():
            pass
        project.pace("immediate")
        assert may_hold_after_a_call()
        project.control("POST", "reset", {"to": "empty", "buckets": False})
        assert not paces.may_hold


def test_a_model_of_another_server_s_reset_is_shown_again(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    with Emulator(settings) as emulator, client_of(emulator) as http:
        path = "/v1/projects/p/locations/us-central1/models"
        assert len(http.get(path).json()["models"]) == 1
        if not emulator._started._database.is_shared:
            pytest.skip("SQLite is of one server")
        with Emulator(make_settings(tmp_path, data_dir=tmp_path / "other")) as other, client_of(other) as its:
            assert its.post("/_emulator/reset", json={"to": "empty"}).status_code == 200
        while not http.get(path).json().get("models"):
            pass
