"""Calls that are answered in the event loop never keep others waiting there."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from emulator.api.rest import HttpRequest
from emulator.app import Emulator
from emulator.config import Settings
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
    assert surface.rest.is_brief(HttpRequest("POST", path, "", {}, short))
    assert not surface.rest.is_brief(HttpRequest("POST", path, "", {}, long))
    assert not surface.rest.is_brief(HttpRequest("POST", path, "", {}, None))
    assert not surface.rest.is_brief(HttpRequest("GET", f"{path}/1", "", {}, b""))


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
