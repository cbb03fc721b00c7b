"""Calls that are answered in the event loop never keep others waiting there."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from emulator.app import Emulator
from emulator.config import Settings
from emulator.http import HttpRequest
from emulator.registry import Registry
from tests.api.conftest import Surface
from tests.service.service_client import PARENT, write_model

JOB = {
    "displayName": "job",
    "model": f"{PARENT}/models/tracker",
    "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://bucket/in.jsonl"]}},
    "outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": "gs://bucket"}},
}


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    write_model(tmp_path / "models" / "tracker")
    settings = Settings(
        port=0,
        data_dir=tmp_path / "data",
        models_dirs=[tmp_path / "models"],
        bundled_models=False,
        workers=1,
    )
    with Emulator(settings) as emulator:
        yield emulator


def test_a_read_that_is_to_wait_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Another server on the folder has made a job with a pace, of which the server knows nothing yet."""
    write_model(tmp_path / "models" / "tracker")
    settings = Settings(port=0, data_dir=tmp_path / "data", models_dirs=[tmp_path / "models"], workers=1)
    with Emulator(settings) as one, Emulator(settings) as another:
        pace = {"x-goog-emulator-instructions": "pace=immediate,pending=hold"}
        jobs = f"/v1/{PARENT}/batchPredictionJobs"
        assert httpx.get(f"{one.url}{jobs}", timeout=30).status_code == 200  # no job here has a pace
        name = httpx.post(f"{another.url}{jobs}", json=JOB, headers=pace, timeout=30).json()["name"]
        states = []
        waiting = threading.Thread(
            target=lambda: states.append(httpx.get(f"{one.url}/v1/{name}", timeout=60).json()["state"])
        )
        waiting.start()
        with httpx.Client(base_url=one.url, timeout=30) as http:
            while "vertex_emulator_calls_held 1.0" not in http.get("/_emulator/metrics").text:
                assert waiting.is_alive()
            assert http.get(f"{jobs}?pageSize=10").status_code == 200
            assert not states
            assert http.post(f"/_emulator/jobs/{name.rpartition('/')[2]}/release").status_code == 200
            waiting.join(60)
            assert states == ["JOB_STATE_FAILED"]  # there is no such input
            journal = http.get("/_emulator/requests?method=GetBatchPredictionJob").json()["requests"]
            assert len(journal) == 1


@pytest.fixture
def http(emulator: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emulator.url, timeout=30) as http:
        yield http


def test_others_are_answered_while_a_call_waits_for_the_database(
    emulator: Emulator, http: httpx.Client
) -> None:
    name = http.post(f"/v1/{PARENT}/batchPredictionJobs", json=JOB).json()["name"]
    written: list[float] = []

    def create() -> None:
        answer = httpx.post(f"{emulator.url}/v1/{PARENT}/batchPredictionJobs", json=JOB, timeout=30)
        assert answer.status_code == 200, answer.text
        written.append(time.monotonic())

    creating = threading.Thread(target=create)
    with emulator._started._database._write():
        creating.start()
        time.sleep(0.3)
        assert not written
        for path in ("/_emulator/health", f"/v1/{name}", f"/v1/{PARENT}/batchPredictionJobs"):
            assert http.get(path).status_code == 200
        released = time.monotonic()
    creating.join()
    assert written[0] > released
    assert len(http.get(f"/v1/{PARENT}/batchPredictionJobs").json()["batchPredictionJobs"]) == 2


def test_only_a_short_request_is_answered_in_the_event_loop(surface: Surface) -> None:
    path = f"/v1/{PARENT}/batchPredictionJobs"
    short, long = (json.dumps(JOB | {"labels": {"a": "b" * length}}).encode() for length in (10, 10_000))
    assert surface.rest.is_brief(surface.rest.route(HttpRequest("POST", path, "", {}, short)))
    assert not surface.rest.is_brief(surface.rest.route(HttpRequest("POST", path, "", {}, long)))
    assert not surface.rest.is_brief(surface.rest.route(HttpRequest("POST", path, "", {}, None)))
    assert not surface.rest.is_brief(surface.rest.route(HttpRequest("GET", f"{path}/1", "", {}, b"")))


def test_folders_are_not_looked_at_in_the_event_loop(
    emulator: Emulator, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, real = set[str](), Registry._look

    def look(registry: Registry) -> None:
        threads.add(threading.current_thread().name)
        real(registry)

    monkeypatch.setattr(Registry, "_look", look)
    for module in ("service.model_registry", "database.models"):
        monkeypatch.setattr(f"emulator.{module}._MAX_AGE_S", 3600.0)
    for model, status in (("tracker", 200), ("tracker", 200), ("nothing", 404)):
        body = JOB | {"model": f"{PARENT}/models/{model}"}
        assert http.post(f"/v1/{PARENT}/batchPredictionJobs", json=body).status_code == status
    assert threads
    assert "http" not in threads
