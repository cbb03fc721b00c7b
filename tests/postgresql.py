"""A PostgreSQL database for a test, where `make test-postgresql` or the environment names a server."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url

POSTGRESQL_VARIABLE = "EMULATOR_TEST_POSTGRESQL_URL"


def on_postgresql() -> bool:
    """Whether suites run on PostgreSQL."""
    return POSTGRESQL_VARIABLE in os.environ


sqlite_only = pytest.mark.skipif(on_postgresql(), reason="is about SQLite's file")


def database_url(folder: Path) -> str:
    """The URL of a database that belongs to a folder: in PostgreSQL where a server is named, else SQLite."""
    if not on_postgresql():
        return f"sqlite:///{folder / 'emulator.db'}"
    named = folder / "postgresql-schema"
    if not named.exists():
        named.write_text(f"test_{uuid.uuid4().hex}")
        with _server() as engine, engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {named.read_text()}"))
    return _url_of(named.read_text())


@contextmanager
def postgresql_schema() -> Iterator[str]:
    """The URL of an empty schema of its own, so that tests can run at the same time on one server."""
    if not on_postgresql():
        pytest.skip(f"{POSTGRESQL_VARIABLE} names no server, as in postgresql+psycopg://user@host/name")
    schema = f"test_{uuid.uuid4().hex}"
    with _server() as engine:
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
        yield _url_of(schema)
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))


@contextmanager
def another_program_writes(url: str) -> Iterator[None]:
    """Hold the lock that everyone who writes jobs needs."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA busy_timeout = 20000")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql("BEGIN")
            connection.exec_driver_sql(
                "LOCK TABLE batch_prediction_jobs, job_steps, models IN EXCLUSIVE MODE"
            )
        try:
            yield
        finally:
            connection.exec_driver_sql("ROLLBACK")
    engine.dispose()


@contextmanager
def _server() -> Iterator[Engine]:
    engine = create_engine(os.environ[POSTGRESQL_VARIABLE])
    yield engine
    engine.dispose()


def _url_of(schema: str) -> str:
    url = make_url(os.environ[POSTGRESQL_VARIABLE])
    url = url.update_query_dict({"options": f"-csearch_path={schema}"})
    return url.render_as_string(hide_password=False)
