"""Reads an existing database for a check or a backup. Creates, migrates and changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    Connection,
    Engine,
    Table,
    create_engine,
    exists,
    func,
    inspect,
    literal,
    select,
    text,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from emulator.database.connection import DatabaseUnusable, parse_url
from emulator.database.migrations import SCHEMA_VERSION
from emulator.database.schema import (
    jobs,
    metadata,
    notes,
    operations,
    schema_versions,
    shards,
    steps,
    versions,
)
from emulator.vertex.job_state import TERMINAL, JobState

_PAGE = 500
# At most this many problems of SQLite's own check are told.
_MOST_PROBLEMS = 20


@dataclass(frozen=True)
class JobFiles:
    """What a job's row says of its files. `output_directory` is a `gs://` name without the final slash."""

    id: int
    project: str
    location: str
    state: JobState
    owner: str | None
    lease_expires_us: int | None
    output_directory: str | None
    successful: int
    failed: int

    @property
    def name(self) -> str:
        """The resource name, with the project's number."""
        return f"projects/{self.project}/locations/{self.location}/batchPredictionJobs/{self.id}"


_JOB_COLUMNS = [jobs.c[name] for name in JobFiles.__dataclass_fields__]


class Inspection:
    """An existing database, opened to read it. Close it after use.

    Raises:
        DatabaseUnusable: there is none, it cannot be read, or its schema is not this version's.
    """

    def __init__(self, url: str) -> None:
        self._url = parse_url(url)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        if self.is_sqlite and not self.file.is_file():
            raise self._unusable("there is no such file")
        try:
            self._engine = _engine(self._url, self.file if self.is_sqlite else None)
            self._connection = self._engine.connect()
            found = _version_of(self._connection)
        except (SQLAlchemyError, sqlite3.Error, ImportError) as error:
            raise self._unusable(str(getattr(error, "orig", None) or error).strip()) from error
        if found != SCHEMA_VERSION:
            self.close()
            raise self._unusable(
                f"it has schema version {found}, and this emulator reads {SCHEMA_VERSION};"
                " start a server of this version on it first, or use the emulator that made it"
            )

    @property
    def file(self) -> Path:
        """SQLite's file."""
        return Path(self._url.database or "")

    @property
    def shown_url(self) -> str:
        """The URL, without its password."""
        return self._url.render_as_string()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
        self._engine.dispose()

    def problems(self) -> list[str]:
        """What the database itself says of its integrity, and rows whose job is gone."""
        return [*(self._sqlite_problems() if self.is_sqlite else self._page_failures()), *self._loose_rows()]

    def size_bytes(self) -> int:
        """The bytes that the tables take on the disk, with their indexes and SQLite's log."""
        return size_of_tables(self._connection)

    def counts(self) -> Mapping[JobState, int]:
        """The number of jobs in each state."""
        found = self._connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state))
        return {row[0]: row[1] for row in found}

    def job(self, job_id: int) -> JobFiles | None:
        """The job with that id, or None."""
        row = self._connection.execute(select(*_JOB_COLUMNS).where(jobs.c.id == job_id)).one_or_none()
        return None if row is None else JobFiles(*row)

    def jobs(self, *states: JobState) -> Iterator[JobFiles]:
        """The jobs in these states, by id."""
        statement = select(*_JOB_COLUMNS).where(jobs.c.state.in_(states)).order_by(jobs.c.id).limit(_PAGE)
        last = -1
        while True:
            page = [
                JobFiles(*row) for row in self._connection.execute(statement.where(jobs.c.id > last)).all()
            ]
            yield from page
            if len(page) < _PAGE:
                return
            last = page[-1].id

    def unfinished_jobs(self) -> Iterator[JobFiles]:
        """The jobs that have not finished."""
        return self.jobs(*(state for state in JobState if state not in TERMINAL))

    def texts_of_steps(self, job_id: int, step: str) -> list[str]:
        """The texts of a job's steps of one kind, in order."""
        statement = select(steps.c.text).where(steps.c.job_id == job_id, steps.c.step == step)
        return list(self._connection.scalars(statement.order_by(steps.c.number)))

    def uploaded_models(self) -> dict[str, str]:
        """The folder of each uploaded model version, by its resource name with the version."""
        columns = versions.c.project, versions.c.location, versions.c.model_id, versions.c.version
        found = self._connection.execute(
            select(*columns, versions.c.folder).where(versions.c.source.is_(None))
        )
        return {
            f"projects/{project}/locations/{location}/models/{model}@{version}": folder
            for project, location, model, version, folder in found
        }

    def folders_in_use(self) -> set[str]:
        """The names of the upload folders that a version, an unfinished job or operation needs."""
        used = select(jobs.c.model_folder).where(jobs.c.state.not_in(TERMINAL)).distinct()
        paths = {*self._connection.scalars(select(versions.c.folder)), *self._connection.scalars(used)}
        running = self._connection.scalars(select(operations.c.id).where(operations.c.done.is_(False)))
        return {*(Path(path).name for path in paths), *map(str, running)}

    def note(self, name: str) -> str | None:
        """The value of a note of the control surface, or None."""
        return self._connection.scalar(select(notes.c.value).where(notes.c.name == name))

    def copy_to(self, target: Path) -> None:
        """Write a consistent copy of SQLite's file, as of one moment, while others go on writing.

        The copy is one file without a log, and no server owns a job in it.

        Raises:
            DatabaseUnusable: the copy is damaged, because the database is.
        """
        with closing(_sqlite(self.file)) as origin, closing(sqlite3.connect(target)) as copy:
            # All pages in one step: copied bit by bit, it would begin anew with each write of a server.
            origin.backup(copy)
            copy.execute(
                f"UPDATE {jobs.name} SET owner = NULL, lease_expires_us = NULL WHERE owner IS NOT NULL"
            )
            copy.commit()
            copy.execute("PRAGMA journal_mode = DELETE")
            (found,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise self._unusable(f"its copy is damaged: {found}")

    def _sqlite_problems(self) -> list[str]:
        run = self._connection.exec_driver_sql
        try:
            told = [str(row[0]) for row in run(f"PRAGMA integrity_check({_MOST_PROBLEMS})")]
        except SQLAlchemyError as error:
            return [f"SQLite cannot check it: {getattr(error, 'orig', error)}"]
        found = [] if told == ["ok"] else [f"SQLite's check: {line}" for line in told]
        keys = run("PRAGMA foreign_key_check").all()
        return found + [f"a row of {row[0]} refers to a row of {row[2]} that is gone" for row in keys]

    def _page_failures(self) -> list[str]:
        """What PostgreSQL has counted of damaged pages; it checks each page that it reads, if told so."""
        failures = "SELECT checksum_failures FROM pg_stat_database WHERE datname = current_database()"
        count = self._connection.scalar(text(failures))
        return [f"PostgreSQL has counted {count} damaged pages since its statistics began"] if count else []

    def _loose_rows(self) -> list[str]:
        found = [
            (f"rows of {table.name} whose job is gone", self._count_loose(table)) for table in (steps, shards)
        ]
        finished = exists().where(jobs.c.id == shards.c.job_id, jobs.c.state.in_(TERMINAL))
        left = self._connection.scalar(select(func.count()).select_from(shards).where(finished)) or 0
        found.append((f"rows of {shards.name} whose job has finished", left))
        return [f"{count} {what}" for what, count in found if count]

    def _count_loose(self, table: Table) -> int:
        has_job = exists().where(jobs.c.id == table.c.job_id)
        return self._connection.scalar(select(func.count(literal(1))).select_from(table).where(~has_job)) or 0

    def _unusable(self, reason: str) -> DatabaseUnusable:
        return DatabaseUnusable(f"The database {self.shown_url} cannot be used: {reason}.")


def size_of_tables(connection: Connection) -> int:
    """The bytes that the tables take on the disk, with their indexes and SQLite's log."""
    if connection.dialect.name == "sqlite":
        path = connection.exec_driver_sql("PRAGMA database_list").all()[0][2]
        files = (Path(f"{path}{suffix}") for suffix in ("", "-wal", "-shm"))
        return sum(file.stat().st_size for file in files if path and file.exists())
    size = text("SELECT coalesce(pg_total_relation_size(to_regclass(:name)), 0)")
    return sum(connection.scalar(size, {"name": name}) or 0 for name in metadata.tables)


def _version_of(connection: Connection) -> int | None:
    has_tables = inspect(connection).has_table(schema_versions.name)
    return connection.scalar(schema_versions.select()) if has_tables else None


def _engine(url: URL, file: Path | None) -> Engine:
    options: dict[str, Any] = {"poolclass": NullPool, "isolation_level": "AUTOCOMMIT"}
    if file is not None:
        return create_engine("sqlite://", creator=lambda: _sqlite(file), **options)
    return create_engine(url, **options)


def _sqlite(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True, timeout=20)
