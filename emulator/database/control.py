"""Queries for the control surface: faults and their counts, notes; removal, dump and restore of rows."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    delete,
    exists,
    func,
    insert,
    select,
    union,
    update,
)
from sqlalchemy.exc import IntegrityError

from emulator.database.connection import Connected
from emulator.database.rows import FaultRow
from emulator.database.schema import (
    faults,
    jobs,
    models,
    notes,
    notifications,
    operations,
    seeded,
    shards,
    steps,
    versions,
)
from emulator.database.transfer import TABLES, RowRefused

_FAULT_COLUMNS = [faults.c[name] for name in FaultRow.__dataclass_fields__]
_BATCH = 500
# Versions before the models that they refer to.
_OF_PROJECTS = (jobs, versions, models, seeded, operations, steps, notifications, faults)
_CREATED = (jobs, models, operations)


class Control(Connected):
    """Faults and notes, and the removal of jobs, models and operations."""

    def insert_fault(self, project: str, plan: str) -> FaultRow:
        """Add a fault; `plan` is JSON."""
        with self._write() as connection:
            values = {"project": project, "plan": plan, "matched": 0, "used": 0, "fired": 0}
            key = connection.execute(insert(faults).values(values)).inserted_primary_key
            assert key is not None
            return FaultRow(key[0], project, plan, 0, 0, 0)

    def list_faults(self) -> list[FaultRow]:
        """All faults, oldest first."""
        with self._read() as connection:
            rows = connection.execute(select(*_FAULT_COLUMNS).order_by(faults.c.number))
            return [FaultRow(*row) for row in rows]

    def use_fault(self, number: int, decide: Callable[[int], bool], *, fires: bool) -> bool:
        """Count a match of a fault and return whether it applies to this match.

        Args:
            number: of the fault.
            decide: gets the match's number (1-based) and returns whether the fault applies.
            fires: count the fault as fired at once; otherwise `count_fired` does later.
        """
        with self._write() as connection:
            one = select(faults.c.matched).where(faults.c.number == number).with_for_update()
            matched = connection.scalar(one)
            if matched is None:
                return False
            acts = decide(matched + 1)
            changes: dict[str, Any] = {"matched": matched + 1}
            if acts:
                changes |= {"used": faults.c.used + 1, "fired": faults.c.fired + int(fires)}
            connection.execute(update(faults).where(faults.c.number == number).values(changes))
            return acts

    def count_fired(self, number: int) -> None:
        """Count that a fault fired; does nothing if the fault is gone."""
        with self._write() as connection:
            one = update(faults).where(faults.c.number == number)
            connection.execute(one.values(fired=faults.c.fired + 1))

    def delete_faults(self, number: int | None = None) -> int:
        """Remove one fault, or all; returns how many were removed."""
        statement = delete(faults)
        if number is not None:
            statement = statement.where(faults.c.number == number)
        with self._write() as connection:
            return connection.execute(statement).rowcount

    def get_note(self, name: str) -> str | None:
        """The value of a note, or None."""
        with self._read() as connection:
            return connection.scalar(select(notes.c.value).where(notes.c.name == name))

    def get_notes(self, prefix: str) -> dict[str, str]:
        """The notes whose names begin with `prefix`, by name."""
        statement = select(notes.c.name, notes.c.value).where(
            notes.c.name.startswith(prefix, autoescape=True)
        )
        with self._read() as connection:
            return {row[0]: row[1] for row in connection.execute(statement)}

    def set_note(self, name: str, value: str | None) -> None:
        """Set a note; None removes it."""
        with self._write() as connection:
            connection.execute(delete(notes).where(notes.c.name == name))
            if value is not None:
                connection.execute(insert(notes).values(name=name, value=value))

    def delete_project(self, project: str | None) -> None:
        """Remove the jobs, models, operations and faults of a project; with None, of all, and the notes."""
        with self._write_all() as connection:
            of_project = select(jobs.c.id)
            if project is not None:
                of_project = of_project.where(jobs.c.project == project)
            _lock(connection, of_project)
            connection.execute(delete(shards).where(shards.c.job_id.in_(of_project)))
            for table in _OF_PROJECTS:
                statement = delete(table)
                if project is not None:
                    statement = statement.where(table.c.project == project)
                connection.execute(statement)
            if project is None:
                connection.execute(delete(notes))

    def delete_after(self, moment_us: int, project: str | None) -> list[str]:
        """Remove the jobs, models and operations created after a time, of one project or of all (None).

        A version that was added to an older model stays. A removed folder model is seeded again when its
        location is next read.

        Returns:
            The projects that have no rows left.
        """

        def new(table: Table) -> list[ColumnElement[bool]]:
            of_project = [] if project is None else [table.c.project == project]
            return [table.c.create_time_us > moment_us, *of_project]

        def projects(*narrow: Callable[[Table], list[ColumnElement[bool]]]) -> set[str]:
            found = (
                select(t.c.project).where(*(each for one in narrow for each in one(t))) for t in _CREATED
            )
            return set(connection.scalars(union(*found)))

        with self._write_all() as connection:
            touched = projects(new)
            gone = select(jobs.c.id).where(*new(jobs))
            _lock(connection, gone)
            for of_jobs in (shards, steps, notifications):
                connection.execute(delete(of_jobs).where(of_jobs.c.job_id.in_(gone)))
            of_model = and_(
                *(versions.c[name] == models.c[name] for name in ("project", "location", "model_id"))
            )
            _forget_seeds(connection, of_model, new(models))
            connection.execute(delete(versions).where(exists().where(of_model, *new(models))))
            for table in _CREATED:
                connection.execute(delete(table).where(*new(table)))
            return sorted(touched - projects())

    def has_id(self, number: int) -> bool:
        """Whether a job or an operation has this id."""
        with self._read() as connection:
            return any(
                connection.scalar(select(table.c.id).where(table.c.id == number)) is not None
                for table in (jobs, operations)
            )

    @contextmanager
    def all_rows(self) -> Iterator[Mapping[str, Iterable[Mapping[Any, Any]]]]:
        """The rows of every table except the schema version, by table and ordered by key.

        Rows are read during iteration, all from one consistent snapshot.
        """
        with self._read_one_moment() as connection:
            ordered = {name: select(table).order_by(*table.primary_key) for name, table in TABLES.items()}
            yield {
                name: connection.execute(rows.execution_options(yield_per=_BATCH)).mappings()
                for name, rows in ordered.items()
            }

    def add_rows(self, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Add rows of any tables in any order, each with its table's name: all of them or none.

        Raises:
            RowRefused: a row exists already, or refers to a row that does not exist.
        """
        try:
            with self._write_models() as connection:
                _add(connection, iter(rows))
        except (IntegrityError, sqlite3.IntegrityError) as error:
            raise RowRefused(f"the rows do not fit together: {getattr(error, 'orig', error)}") from None

    def restore(self, rows: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
        """Replace all rows by these."""
        with self._write_all() as connection:
            for table in (*reversed(list(TABLES.values())), notifications):
                connection.execute(delete(table))
            for name, table in TABLES.items():
                remaining = iter(rows.get(name, ()))
                while batch := [dict(row) for row in islice(remaining, _BATCH)]:
                    connection.execute(insert(table), batch)
            if connection.dialect.name == "postgresql":
                for table in (steps, faults):
                    # PostgreSQL's sequence does not know numbers that were inserted explicitly.
                    newest = select(func.coalesce(func.max(table.c.number), 0)).scalar_subquery()
                    sequence = func.pg_get_serial_sequence(table.name, "number")
                    connection.execute(select(func.setval(sequence, newest + 1, False)))


def _forget_seeds(
    connection: Connection, of_model: ColumnElement[bool], new: list[ColumnElement[bool]]
) -> None:
    """Delete the seed marks of the new folder models, so that their location seeds them again."""
    gone = and_(
        versions.c.project == seeded.c.project,
        versions.c.location == seeded.c.location,
        versions.c.source == seeded.c.source,
    )
    connection.execute(delete(seeded).where(exists().where(gone, of_model, *new)))


def _add(connection: Connection, rows: Iterator[tuple[str, Mapping[str, Any]]]) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
    while batch := list(islice(rows, _BATCH)):
        for name, table in TABLES.items():
            if of_table := [dict(row) for table_name, row in batch if table_name == name]:
                connection.execute(insert(table), of_table)


def _lock(connection: Connection, chosen: Select[Any]) -> None:
    """Lock jobs until they are removed, in the order in which every transaction locks them.

    Without the lock, a job that changes state meanwhile would leave its steps behind, or deadlock with this
    transaction.
    """
    connection.execute(chosen.order_by(jobs.c.id).with_for_update())
