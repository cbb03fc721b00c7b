"""The database under test: SQLite in a file and in memory, and PostgreSQL where a server is named."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from emulator.database import Database, NewJob
from tests.database.job_rows import Clock, MakeJob
from tests.postgresql import postgresql_schema


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite-file", "sqlite-memory", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite-file":
        yield f"sqlite:///{tmp_path / 'emulator.db'}"
    elif request.param == "sqlite-memory":
        yield "sqlite://"
    else:
        with postgresql_schema() as url:
            yield url


@pytest.fixture
def database(database_url: str, clock: Clock) -> Iterator[Database]:
    database = Database(database_url, clock)
    yield database
    database.close()


@pytest.fixture
def make_job(database: Database, clock: Clock) -> MakeJob:
    """Adds a job and moves the clock on by one microsecond; its id counts up from 1."""
    ids = count(1)

    def make(**changes: Any) -> int:
        values: dict[str, Any] = {
            "id": next(ids),
            "project": "1",
            "location": "us-central1",
            "display_name": "job",
            "model_id": "m",
            "model_version": 1,
            "model_display_name": "Model",
            "model_objective": "OBJECT_TRACKING",
            "model_folder": "/models/m",
            "labels": {},
            "document": b"document",
            "create_time_us": clock(),
        }
        job = NewJob(**{**values, **changes})
        database.insert_job(job)
        clock.advance(1)
        return job.id

    return make
