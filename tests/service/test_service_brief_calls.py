"""Calls that a surface may answer without a thread: a row or two of the database, and nobody to wait for."""

import sqlite3
from contextlib import closing

import pytest

from tests.service.service_client import PARENT, Client

CREATE = "JobService/CreateBatchPredictionJob"


@pytest.fixture(autouse=True)
def models_stay_current(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known models count as current for an hour: a busy machine may pause for more than their second."""
    monkeypatch.setattr("emulator.service.model_registry._MAX_AGE_S", 3600.0)


def create(client: Client) -> str:
    uri = {"uris": ["gs://bucket/in.jsonl"]}
    job = {
        "displayName": "job",
        "model": f"{PARENT}/models/tracker",
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": uri},
        "outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": "gs://bucket"}},
    }
    return str(client.call(CREATE, {"parent": PARENT, "batchPredictionJob": job})["name"])


def test_only_creating_a_job_is_brief(client: Client) -> None:
    create(client)
    assert {key for key in client.service.methods() if client.service.is_brief(key)} == {CREATE}


def test_creating_is_not_brief_where_the_model_folders_are_looked_at(client: Client) -> None:
    assert not client.service.is_brief(CREATE)
    create(client)
    assert client.service.is_brief(CREATE)


def test_nothing_is_brief_while_a_transaction_is_open(client: Client) -> None:
    create(client)
    with client.database._write():
        assert not client.service.is_brief(CREATE)
    assert client.service.is_brief(CREATE)


def test_nothing_is_brief_while_another_program_writes(client: Client) -> None:
    create(client)
    with closing(sqlite3.connect(client.root / "emulator.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert not client.service.is_brief(CREATE)
        other.execute("ROLLBACK")
        assert client.service.is_brief(CREATE)
