"""Statements that calls and runners run all the time: compiled once, and run on SQLite's own connection.

SQLAlchemy works out anew for each execution how parameters and columns are to be converted, which takes
several times as long as SQLite takes for a row by its key. Here that is done once a statement. On other
databases, where a round trip takes longer than either, the statement goes SQLAlchemy's way.
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
    """A statement as SQLite takes it: its text, what stands for each `?`, and how columns are read."""

    text: str
    parameters: Sequence[tuple[str, Processor]]
    constants: Mapping[str, Any]
    columns: Sequence[tuple[int, Callable[[Any], Any]]]


class Prepared:
    """A statement whose parameters are `bindparam`s or constants; for an INSERT, the columns it sets.

    `in_` takes no list of values there, but one of `spelled_out`.
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
        """Insert, change or delete; how many rows that concerned."""
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
    """Numbers as `in_` takes them in a prepared statement."""
    return [literal_column(str(int(value))) for value in values]


def _of(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type as SQLite has it."""
    return kind.dialect_impl(_DIALECT)
