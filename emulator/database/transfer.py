"""Converts rows to JSON and back, checked against the tables: the database part of a snapshot.

All of it is derived from the tables, so a new table or column is in the next snapshot.
"""

import base64
from collections.abc import Mapping
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Dialect, Integer, LargeBinary, String, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import TypeDecorator

from emulator.database.schema import Frames, metadata, schema_versions
from emulator.members import integer

#: The tables of a snapshot, by name; each table before those that refer to it.
TABLES: Mapping[str, Table] = {
    table.name: table for table in metadata.sorted_tables if table is not schema_versions
}
_DIALECT: Dialect = sqlite.dialect()


class RowRefused(ValueError):
    """A value does not fit the table; the message names the column and what it must be."""


def row_to_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a row's values to JSON values."""
    return {name: _to_json(value) for name, value in row.items()}


def row_from_json(table: Table, value: object) -> dict[str, Any]:
    """Read a row that `row_to_json` wrote.

    Raises:
        RowRefused: columns are missing or unknown, or a value does not fit its column's type.
    """
    if not isinstance(value, dict):
        raise RowRefused("it is no object")
    if unknown := sorted(set(value) - set(table.c.keys())):
        raise RowRefused(f"it has an unknown column {unknown[0][:100]!r}")
    if missing := [name for name in table.c.keys() if name not in value]:  # noqa: SIM118 - a collection
        raise RowRefused(f"its column {missing[0]} is missing")
    return {column.name: _from_json(column, value[column.name]) for column in table.c}


def _to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, tuple):
        return {"frames": [base64.b64encode(frame).decode() for frame in value]}
    return value


def _from_json(column: Column[Any], value: Any) -> Any:
    if value is None:
        if not column.nullable:
            raise RowRefused(f"its column {column.name} is null")
        return None
    try:
        return _read(column.type, value)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise RowRefused(f"its column {column.name} does not fit: {error}") from None


def _read(kind: Any, value: Any) -> Any:
    if isinstance(kind, Frames):
        return tuple(map(_bytes, _member(value, "frames")))
    if isinstance(kind, TypeDecorator):
        # Convert there and back: a value that could not be read later is refused now.
        stored, reader = _read(kind.impl_instance, value), kind.result_processor(_DIALECT, None)
        return stored if reader is None else reader(stored)
    if isinstance(kind, LargeBinary):
        return _bytes(_member(value, "bytes"))
    if isinstance(kind, JSON):
        return value
    if isinstance(kind, Integer):
        bits = 63 if isinstance(kind, BigInteger) else 31
        return integer(-(2**bits), 2**bits - 1, f"it must be a whole number of {bits + 1} bits")(value)
    if isinstance(kind, String):
        return _text(value, kind.length)
    wanted = bool if isinstance(kind, Boolean) else kind.python_type
    if not isinstance(value, wanted):
        raise ValueError(f"it must be of the type {wanted.__name__}")
    return value


def _member(value: Any, name: str) -> Any:
    if not isinstance(value, dict) or list(value) != [name]:
        raise ValueError(f'it must be an object with a member "{name}"')
    return value[name]


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError("it must be a text in base64")
    return base64.b64decode(value, validate=True)


def _text(value: Any, length: int | None) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("it must be a text without NUL")
    value.encode()  # half a character cannot be stored
    if length is not None and len(value) > length:
        raise ValueError(f"it must be a text of at most {length} characters")
    return value
