"""Prepared statements for frequent queries: compiled once, and run directly on SQLite's connection.

For each execution SQLAlchemy works out again how to convert parameters and columns. That takes several times
as long as SQLite needs for a row by its key. Here it is done once per statement. On other databases a round
trip takes longer than either, so there SQLAlchemy runs the statement.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Delete, Insert, Select, Update, literal_column
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import TypeEngine

Processor = Callable[[Any], Any] | None

_DIALECT = sqlite.dialect()


@dataclass(frozen=True)
class _Form:
    """A compiled statement for SQLite: its text, the parameter of each `?`, and the converters of columns."""

    text: str
    parameters: Sequence[tuple[str, Processor]]
    constants: Mapping[str, Any]
    columns: Sequence[tuple[int, Callable[[Any], Any]]]


class Prepared:
    """A statement whose parameters are `bindparam`s or constants.

    `columns` are the columns that an INSERT sets. `in_` takes no list of values here; pass it
    `spelled_out(...)`.
    """

    def __init__(
        self, statement: Select[Any] | Insert | Update | Delete, columns: Sequence[str] | None = None
    ) -> None:
        self.statement = statement
        self._columns = columns

    def all(self, connection: Connection, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """Every row, each as a sequence of its columns."""
        if connection.dialect.name != "sqlite":
            return connection.execute(self.statement, parameters).all()
        found = self._execute(connection, parameters).fetchall()
        return [self._read(row) for row in found] if self._form.columns else found

    def first(self, connection: Connection, parameters: Mapping[str, Any]) -> Sequence[Any] | None:
        """The first row, or None."""
        if connection.dialect.name != "sqlite":
            return connection.execute(self.statement, parameters).first()
        row = self._execute(connection, parameters).fetchone()
        return None if row is None else self._read(row)

    def run(self, connection: Connection, parameters: Mapping[str, Any]) -> int:
        """Run an INSERT, UPDATE or DELETE; returns the number of rows."""
        if connection.dialect.name != "sqlite":
            return connection.execute(self.statement, parameters).rowcount
        return int(self._execute(connection, parameters).rowcount)

    def _execute(self, connection: Connection, parameters: Mapping[str, Any]) -> Any:
        driver: Any = connection.connection.driver_connection
        form = self._form
        given = {**form.constants, **parameters}
        values = [
            given[name] if process is None else process(given[name]) for name, process in form.parameters
        ]
        return driver.execute(form.text, values)

    def _read(self, row: Sequence[Any]) -> Sequence[Any]:
        values = list(row)
        for column, process in self._form.columns:
            values[column] = process(values[column])
        return values

    @cached_property
    def _form(self) -> _Form:
        compiled: Any = self.statement.compile(dialect=_DIALECT, column_keys=self._columns)
        names = compiled.positiontup
        parameters = [(name, _of(compiled.binds[name].type).bind_processor(_DIALECT)) for name in names]
        constants = {name: compiled.params[name] for name in names if not compiled.binds[name].required}
        columns = []
        if isinstance(self.statement, Select):
            for number, column in enumerate(self.statement.selected_columns):
                process = _of(column.type).result_processor(_DIALECT, None)
                if process is not None:
                    columns.append((number, process))
        return _Form(compiled.string, parameters, constants, columns)


def spelled_out(values: Collection[int]) -> list[Any]:
    """Numbers as literals, for `in_` in a prepared statement."""
    return [literal_column(str(int(value))) for value in values]


def _of(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type in SQLite's dialect."""
    return kind.dialect_impl(_DIALECT)
