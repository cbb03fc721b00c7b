"""Calls that a surface may answer without a thread: a row or two of the database, and nobody to wait for."""

import json
import sqlite3
from contextlib import closing

import pytest

from tests.postgresql import sqlite_only
from tests.service.service_client import PARENT, Client, job_body

CREATE = "JobService/CreateBatchPredictionJob"
GET = "JobService/GetBatchPredictionJob"
LIST = "JobService/ListBatchPredictionJobs"


@pytest.fixture(autouse=True)
def models_stay_current(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known models count as current for an hour: a busy machine may pause for more than their second."""
    monkeypatch.setattr("emulator.service.model_registry._MAX_AGE_S", 3600.0)
    monkeypatch.setattr("emulator.database.models._MAX_AGE_S", 3600.0)


BODY = json.dumps(job_body()).encode()


@sqlite_only
def test_only_creating_and_reading_a_job_is_brief(client: Client) -> None:
    client.create()
    assert {key for key in client.service.methods() if client.service.is_brief(key, "", BODY)} == {
        CREATE,
        GET,
    }


@sqlite_only
@pytest.mark.parametrize(
    ("query", "brief"),
    [
        ("pageSize=1", True),
        ("pageSize=20", True),
        ("pageSize=5&pageToken=abc%3D", True),
        ("", False),  # a hundred jobs
        ("pageSize=21", False),
        ("pageSize=100", False),
        ("pageSize=5&filter=state%3D1", False),  # looks at any number of rows
        ("pageSize=5&pageSize=1000", False),
        ("pageSize=5&pageToken=a&pageSize=1000", False),
    ],
)
def test_a_short_page_is_brief(client: Client, query: str, brief: bool) -> None:
    assert client.service.is_brief(LIST, query, b"") is brief


@sqlite_only
def test_creating_is_not_brief_where_the_model_folders_are_looked_at(client: Client) -> None:
    assert not client.service.is_brief(CREATE, "", BODY)
    client.create()
    assert client.service.is_brief(CREATE, "", BODY)


@pytest.mark.parametrize(
    "model",
    [f"{PARENT}/models/unknown", f"{PARENT}/models/tracker@", "tracker", "", None, "\u0000", "tr\u00e4cker"],
)
def test_creating_is_not_brief_with_a_model_that_would_be_looked_for(
    client: Client, model: str | None
) -> None:
    client.create()
    assert not client.service.is_brief(CREATE, "", json.dumps(job_body(model=model)).encode())
    two = json.dumps(job_body(labels={"model": model or "x"})).encode()
    assert not client.service.is_brief(CREATE, "", two)


@sqlite_only
def test_no_write_is_brief_while_a_transaction_is_open(client: Client) -> None:
    client.create()
    with client.database._write():
        assert not client.service.is_brief(CREATE, "", BODY)
        assert client.service.is_brief(GET, "", b"")
    assert client.service.is_brief(CREATE, "", BODY)


@sqlite_only
def test_no_write_is_brief_while_another_program_writes(client: Client) -> None:
    client.create()
    with closing(sqlite3.connect(client.root / "emulator.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert not client.service.is_brief(CREATE, "", BODY)
        other.execute("ROLLBACK")
        assert client.service.is_brief(CREATE, "", BODY)
