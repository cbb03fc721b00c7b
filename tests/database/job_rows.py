"""A clock for tests of the database, the type of the fixture that adds jobs, and all rows there are."""

from collections.abc import Callable
from typing import Any

from emulator.database import Database

MakeJob = Callable[..., int]


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now_us = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.now_us

    def advance(self, microseconds: int) -> None:
        self.now_us += microseconds


def all_rows(database: Database) -> dict[str, list[dict[str, Any]]]:
    """Every row but the schema's version, by table."""
    with database.all_rows() as tables:
        return {name: [dict(row) for row in rows] for name, rows in tables.items()}
