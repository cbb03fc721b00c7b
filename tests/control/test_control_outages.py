"""A database that cannot answer: words and the right code on every surface, whatever queue waits."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import pytest
from google.api_core.exceptions import ServiceUnavailable
from google.cloud import aiplatform_v1
from google.cloud.aiplatform_v1.services.job_service.transports import JobServiceGrpcTransport

from emulator.app import Emulator
from tests.control.project import Project, client_of, make_settings
from tests.postgresql import another_program_writes, database_url, on_postgresql, sqlite_only

# No answer may take longer: the client gives up.
BOUND_S = 10.0


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """An emulator whose database waits for locks of others for a second."""
    monkeypatch.setattr("emulator.database.connection._BUSY_TIMEOUT_MS", 1000)
    with Emulator(make_settings(tmp_path)) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, emulator.settings.buckets)
        project.create()
        yield project


def url_of(project: Project) -> str:
    folder = project.emulator.settings.data_dir
    return database_url(folder.parent) if on_postgresql() else f"sqlite:///{folder / 'emulator.db'}"


def test_a_locked_database_keeps_nobody_waiting(own: Project) -> None:
    path, body = f"/v1/{own.parent}/batchPredictionJobs", own.body()
    with httpx.Client(base_url=own.emulator.url, timeout=BOUND_S, trust_env=False) as http:
        with another_program_writes(url_of(own)), ThreadPoolExecutor(60) as threads:
            creates = [threads.submit(http.post, path, json=body) for _ in range(60)]
            for reads in (path, f"/v1/{own.parent}/models", "/_emulator/health"):
                assert http.get(reads).status_code == 200
            answers = [create.result() for create in creates]
        assert {answer.status_code for answer in answers} == {503}
        error = answers[0].json()["error"]
        assert error["status"] == "UNAVAILABLE"
        assert "locked by another program" in error["message"]
        while http.post(path, json=body).status_code != 200:
            pass


def test_a_locked_database_is_told_over_grpc_and_by_the_control_surface(own: Project) -> None:
    channel = grpc.insecure_channel(str(own.emulator.grpc_address))
    jobs = aiplatform_v1.JobServiceClient(transport=JobServiceGrpcTransport(channel=channel))
    body = aiplatform_v1.BatchPredictionJob.from_json(json.dumps(own.body()))
    with another_program_writes(url_of(own)):
        with pytest.raises(ServiceUnavailable, match="locked by another program"):
            jobs.create_batch_prediction_job(
                parent=own.parent, batch_prediction_job=body, timeout=BOUND_S, retry=None
            )
        error = own.error("PUT", f"/_emulator/projects/{own.id}/pace", {"pace": "steps"})
        assert (error["status"], "locked by another program" in error["message"]) == ("UNAVAILABLE", True)
        error = own.error("POST", "/_emulator/reset", {})
        assert error["status"] == "UNAVAILABLE"
        answer = own.http.get("/_emulator/ready")
        assert (answer.status_code, "locked" in answer.json()["problem"]) == (503, True)
    channel.close()
    while own.http.get("/_emulator/ready").status_code != 200:
        pass


@sqlite_only
def test_a_full_disk_is_resource_exhausted(own: Project) -> None:
    database = own.emulator._started._database
    with database._write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    body = own.body(labels={f"key-{number}": "x" * 60 for number in range(60)})
    while (answer := own.http.post(f"/v1/{own.parent}/batchPredictionJobs", json=body)).status_code == 200:
        pass
    error = answer.json()["error"]
    assert (answer.status_code, error["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert "disk is full" in error["message"]
    assert "Make room" in error["message"]
