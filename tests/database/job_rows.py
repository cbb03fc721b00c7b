"""A clock for tests of the database, and the type of the fixture that adds jobs."""

from collections.abc import Callable

MakeJob = Callable[..., int]


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now_us = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.now_us

    def advance(self, microseconds: int) -> None:
        self.now_us += microseconds
