"""Databases of released schema versions open with this version, and keep their rows."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, MetaData, create_engine, inspect, text
from sqlalchemy.engine import make_url

from emulator.app import Emulator
from emulator.config import Settings
from emulator.database import SCHEMA_VERSION, Database, DatabaseUnusable, JobRow
from emulator.vertex.job_state import JobState
from tests.database.job_rows import Clock
from tests.postgresql import postgresql_schema

PROJECT, LOCATION = "319519117448", "us-central1"
_FILES = Path(__file__).with_name("released")
RELEASED = sorted(
    int(path.name.split(".")[0].removeprefix("schema_")) for path in _FILES.glob("*.sqlite.sql")
)
_MINUTE_US = 60_000_000


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'emulator.db'}"
    else:
        with postgresql_schema() as url:
            yield url


@pytest.fixture(params=RELEASED)
def released_url(empty_url: str, request: pytest.FixtureRequest) -> str:
    """A database that a released version left when it was killed."""
    load_released(empty_url, request.param)
    return empty_url


def load_released(url: str, version: int) -> None:
    kind = make_url(url).get_backend_name()
    statements = (_FILES / f"schema_{version}.{kind}.sql").read_text()
    if kind == "postgresql":
        execute(url, statements)
        return
    with closing(sqlite3.connect(make_url(url).database or "")) as connection:
        connection.executescript(statements)


def execute(url: str, statements: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(statements)
    engine.dispose()


def rows_of(url: str) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table as it is stored, by table, in the order of its key."""
    engine, found = create_engine(url), MetaData()
    found.reflect(engine)
    with engine.connect() as connection:
        rows = {
            table.name: [
                dict(row)
                for row in connection.execute(
                    text(f'SELECT * FROM "{table.name}" ORDER BY {_key_of(table)}')
                ).mappings()
            ]
            for table in found.sorted_tables
        }
    engine.dispose()
    return rows


def _key_of(table: Any) -> str:
    return ", ".join(f'"{column.name}"' for column in table.primary_key)


def shape_of(url: str) -> dict[str, Any]:
    """Every table with its columns, keys and indexes."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            shape: dict[str, Any] = {
                name: " ".join(str(sql).split())
                for name, sql in connection.execute(text("SELECT name, sql FROM sqlite_master"))
            }
    else:
        shape = {name: _table_shape(engine, name) for name in inspect(engine).get_table_names()}
    engine.dispose()
    return shape


def _table_shape(engine: Engine, name: str) -> Any:
    table = inspect(engine)
    columns = {
        column["name"]: (str(column["type"]), column["nullable"], str(column["default"]).split(".")[-1])
        for column in table.get_columns(name)
    }
    foreign = [(key["constrained_columns"], key["options"]) for key in table.get_foreign_keys(name)]
    indexes = {index["name"]: index["column_names"] for index in table.get_indexes(name)}
    return columns, table.get_pk_constraint(name)["constrained_columns"], foreign, indexes


def jobs_by_name(database: Database) -> dict[str, JobRow]:
    return {job.display_name: job for job in database.list_jobs(PROJECT, LOCATION, limit=100)}


def test_every_released_version_is_stored() -> None:
    assert RELEASED[:2] == [1, 2]
    assert RELEASED[-1] <= SCHEMA_VERSION


def test_rows_stay_as_they_were(released_url: str) -> None:
    before = rows_of(released_url)
    Database(released_url).close()
    after = rows_of(released_url)
    assert after["schema_version"] == [{"version": SCHEMA_VERSION}]
    for table, rows in before.items():
        if table != "schema_version":
            assert len(rows) == len(after[table])
            assert [{name: row[name] for name in rows[0]} for row in after[table]] == rows, table


def test_tables_are_those_of_an_empty_database(released_url: str, tmp_path: Path) -> None:
    Database(released_url).close()
    if released_url.startswith("sqlite"):
        Database(f"sqlite:///{tmp_path}/fresh.db").close()
        assert shape_of(released_url) == shape_of(f"sqlite:///{tmp_path}/fresh.db")
        return
    with postgresql_schema() as fresh_url:
        Database(fresh_url).close()
        assert shape_of(released_url) == shape_of(fresh_url)


def test_jobs_go_on_where_they_were(released_url: str) -> None:
    clock = Clock()
    database = Database(released_url, clock)
    job = jobs_by_name(database)
    clock.now_us = max(row.create_time_us for row in job.values()) + _MINUTE_US
    assert job["finished"].state is JobState.SUCCEEDED
    assert (job["finished"].successful, job["finished"].failed) == (1, 1)
    assert len(job["finished"].partial_failures) == 1
    assert job["failed"].state is JobState.FAILED
    resumed = database.claim_job("server.1", _MINUTE_US)
    assert resumed is not None
    assert (resumed.display_name, resumed.state) == ("running", JobState.RUNNING)
    assert database.pass_stages(resumed.id, "server.1") == resumed
    assert [(shard.index, shard.successful) for shard in database.shards(resumed.id)] == [(0, 1)]
    begun = database.claim_job("server.2", _MINUTE_US)
    assert begun is not None
    assert (begun.display_name, begun.state) == ("waiting", JobState.RUNNING)
    assert database.claim_job("server.3", _MINUTE_US) is None
    assert "held" not in job or database.release_hold(job["held"].id)
    assert database.finish_job(resumed.id, "server.1", JobState.SUCCEEDED, successful=3, failed=0)
    assert database.delete_job(resumed.id)
    database.close()


def test_models_and_operations_are_found(released_url: str) -> None:
    database = Database(released_url)
    model = database.get_model(PROJECT, LOCATION, "mine")
    assert model is not None
    assert (model.display_name, model.labels) == ("Mine", {"team": "video"})
    assert [version.aliases for version in model.versions] == [("first", "default")]
    models = database.list_models(PROJECT, LOCATION)
    assert {model.model_id: model.versions[0].objective for model in models} == {
        "mine": "OBJECT_TRACKING",
        "video-action-recognition": "ACTION_RECOGNITION",
        "video-object-tracking": "OBJECT_TRACKING",
    }
    operations = database.list_operations(PROJECT, LOCATION)
    assert {operation.model for operation in operations} == {None, "mine"}
    database.close()


def test_what_was_set_stays_and_numbers_are_not_given_twice(empty_url: str) -> None:
    load_released(empty_url, 2)
    execute(empty_url, "DELETE FROM job_steps WHERE number > 20")
    database = Database(empty_url)
    job = jobs_by_name(database)["held"]
    assert database.set_pace(job.id, "")
    assert database.last_step() == 28, "step 27 was given out before"
    assert [fault.plan[:11] for fault in database.list_faults()] == ['{"on": "rpc']
    assert database.get_notes("pace/") == {
        "pace/415445544940": "pending=2",
        f"pace/{PROJECT}": "pending=hold",
    }
    database.close()


def test_many_servers_that_start_at_once_migrate_once(released_url: str) -> None:
    count = 6
    before, together = rows_of(released_url), Barrier(count)

    def start(_: int) -> Database:
        together.wait()
        return Database(released_url)

    with ThreadPoolExecutor(count) as threads:
        servers = list(threads.map(start, range(count)))
    assert {len(jobs_by_name(server)) for server in servers} == {len(before["batch_prediction_jobs"])}
    for server in servers:
        server.close()


_DYING = """
import os, signal, sys
from sqlalchemy import Engine, event
from emulator.database import Database

@event.listens_for(Engine, "before_cursor_execute")
def die(connection, cursor, statement, *_):
    if statement.strip().startswith(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

Database(sys.argv[1])
"""


@pytest.mark.parametrize("statement", ["CREATE INDEX steps_by_job", "UPDATE schema_version"])
def test_kill_in_the_middle_changes_nothing(empty_url: str, statement: str) -> None:
    load_released(empty_url, 1)
    shape, rows = shape_of(empty_url), rows_of(empty_url)
    died = subprocess.run([sys.executable, "-c", _DYING, empty_url, statement], check=False)
    assert died.returncode == -signal.SIGKILL
    assert shape_of(empty_url) == shape
    assert rows_of(empty_url) == rows
    database = Database(empty_url)
    assert len(jobs_by_name(database)) == len(rows["batch_prediction_jobs"])
    database.close()


def test_newer_database_is_refused(empty_url: str) -> None:
    Database(empty_url).close()
    execute(empty_url, "UPDATE schema_version SET version = 999")
    with pytest.raises(
        DatabaseUnusable, match=r"schema version 999.* knows 1 to .*start the emulator that made it"
    ):
        Database(empty_url)
    assert rows_of(empty_url)["schema_version"] == [{"version": 999}]


@pytest.mark.parametrize("version", RELEASED)
def test_server_starts_on_a_released_data_folder(tmp_path: Path, version: int) -> None:
    load_released(f"sqlite:///{tmp_path / 'emulator.db'}", version)
    with Emulator(Settings(port=0, grpc=False, data_dir=tmp_path, workers=1)) as emulator:
        url = f"{emulator.url}/v1/projects/my-project/locations/{LOCATION}/batchPredictionJobs"
        found = httpx.get(url).json()
        states = {job["displayName"]: job["state"] for job in found["batchPredictionJobs"]}
    assert states["finished"] == "JOB_STATE_SUCCEEDED"
    assert states["failed"] == "JOB_STATE_FAILED"
    assert {"running", "waiting"} <= states.keys()
