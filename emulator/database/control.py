"""Queries behind the control surface: faults and their accounts, notes, removal, dump and restore of rows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from emulator.database.connection import Connected
from emulator.database.rows import FaultRow
from emulator.database.schema import (
    faults,
    jobs,
    metadata,
    models,
    notes,
    operations,
    schema_versions,
    seeded,
    shards,
    steps,
    versions,
)

_FAULT_COLUMNS = [faults.c[name] for name in FaultRow.__dataclass_fields__]
# Versions before the models that they belong to.
_OF_PROJECTS = (jobs, versions, models, seeded, operations, steps, faults)


class Control(Connected):
    """Faults and notes; jobs, models and operations only to remove them."""

    def insert_fault(self, project: str, plan: str) -> FaultRow:
        """Add a plan; `plan` is JSON."""
        with self._write() as connection:
            values = {"project": project, "plan": plan, "matched": 0, "used": 0, "fired": 0}
            key = connection.execute(insert(faults).values(values)).inserted_primary_key
            assert key is not None
            return FaultRow(key[0], project, plan, 0, 0, 0)

    def list_faults(self) -> list[FaultRow]:
        """All plans, oldest first."""
        with self._read() as connection:
            rows = connection.execute(select(*_FAULT_COLUMNS).order_by(faults.c.number))
            return [FaultRow(*row) for row in rows]

    def use_fault(self, number: int, decide: Callable[[int], bool], *, fires: bool) -> bool:
        """Count a match of a plan and say whether it acts: `decide` is told which match it is, from 1 on.

        With `fires` acting counts as taking effect; otherwise `count_fired` does later.
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
        """Count that a plan took effect; one that is gone is passed over."""
        with self._write() as connection:
            one = update(faults).where(faults.c.number == number)
            connection.execute(one.values(fired=faults.c.fired + 1))

    def delete_faults(self, number: int | None = None) -> int:
        """Remove one plan or all; how many there were."""
        statement = delete(faults)
        if number is not None:
            statement = statement.where(faults.c.number == number)
        with self._write() as connection:
            return connection.execute(statement).rowcount

    def get_note(self, name: str) -> str | None:
        """What was noted under a name."""
        with self._read() as connection:
            return connection.scalar(select(notes.c.value).where(notes.c.name == name))

    def get_notes(self, prefix: str) -> dict[str, str]:
        """What was noted under the names that begin so."""
        statement = select(notes.c.name, notes.c.value).where(
            notes.c.name.startswith(prefix, autoescape=True)
        )
        with self._read() as connection:
            return {row[0]: row[1] for row in connection.execute(statement)}

    def set_note(self, name: str, value: str | None) -> None:
        """Note a text under a name; None removes it."""
        with self._write() as connection:
            connection.execute(delete(notes).where(notes.c.name == name))
            if value is not None:
                connection.execute(insert(notes).values(name=name, value=value))

    def delete_project(self, project: str | None) -> None:
        """Remove every row of a project's jobs, models, operations and faults; of all projects, notes too."""
        with self._write_models() as connection:
            of_project = select(jobs.c.id)
            if project is not None:
                of_project = of_project.where(jobs.c.project == project)
            connection.execute(delete(shards).where(shards.c.job_id.in_(of_project)))
            for table in _OF_PROJECTS:
                statement = delete(table)
                if project is not None:
                    statement = statement.where(table.c.project == project)
                connection.execute(statement)
            if project is None:
                connection.execute(delete(notes))

    def has_id(self, number: int) -> bool:
        """Whether a job or an operation has this id."""
        with self._read() as connection:
            return any(
                connection.scalar(select(table.c.id).where(table.c.id == number)) is not None
                for table in (jobs, operations)
            )

    def dump(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Every row of every table, by table, as one moment has them."""
        with self._read_one_moment() as connection:
            return {
                table.name: [dict(row) for row in connection.execute(select(table)).mappings()]
                for table in metadata.sorted_tables
            }

    def restore(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Put these rows in place of all there are."""
        with self._write_models() as connection:
            tables = [table for table in metadata.sorted_tables if table is not schema_versions]
            for table in reversed(tables):
                connection.execute(delete(table))
            for table in tables:
                if rows.get(table.name):
                    connection.execute(insert(table), list(rows[table.name]))
            if connection.dialect.name == "postgresql":
                for table in (steps, faults):
                    # Numbers that were given by hand are not known to the sequence.
                    newest = select(func.coalesce(func.max(table.c.number), 0)).scalar_subquery()
                    sequence = func.pg_get_serial_sequence(table.name, "number")
                    connection.execute(select(func.setval(sequence, newest + 1, False)))
