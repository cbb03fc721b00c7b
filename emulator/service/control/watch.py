"""Waits for changes of jobs without polling the database."""

import threading
import time
from collections.abc import Callable, Collection
from typing import TypeVar

from emulator.database import Database

T = TypeVar("T")

# Another server on a shared database cannot notify this one, so poll at this interval.
_LOOK_S = 0.5


class Watch:
    """Gets every step of a job that this process makes, and wakes the calls that wait for one."""

    def __init__(self, database: Database) -> None:
        self._look_s = _LOOK_S if database.is_shared else None
        self._changed = threading.Condition()
        self._count = 0
        self._closing = threading.Event()
        database.listeners.append(self._hear)

    def wait(self, look: Callable[[], T | None], timeout_s: float) -> T | None:
        """Call `look` now and after each change, until it returns a value or the timeout has passed."""
        deadline = time.monotonic() + timeout_s
        while True:
            with self._changed:
                seen = self._count
            found = look()
            left = deadline - time.monotonic()
            if found is not None or left <= 0 or self.closed:
                return found
            with self._changed:
                if self._count == seen:
                    self._changed.wait(left if self._look_s is None else min(left, self._look_s))

    def pause(self, seconds: float) -> None:
        """Sleep, but end early when the server stops."""
        self._closing.wait(seconds)

    def close(self) -> None:
        """End all waits."""
        self._closing.set()
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether the server is stopping."""
        return self._closing.is_set()

    def _hear(self, _jobs: Collection[int]) -> None:
        with self._changed:
            self._count += 1
            self._changed.notify_all()
