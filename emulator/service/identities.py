"""Ids and times of new resources: random ids and real times, or reproducible ones from a seed."""

import hashlib
import secrets
import threading
from collections import Counter
from collections.abc import Callable

from emulator.database import Database

_FIRST_ID = 10**18
_IDS = 2**63 - _FIRST_ID
# 2026-01-01T00:00:00Z: the start of a seeded clock.
_EPOCH_US = 1_767_225_600_000_000
TICK_US = 1_000_000


def random_id(_project: str = "") -> int:
    """A random resource id like Vertex's: an int64 of 19 digits."""
    return _FIRST_ID + secrets.randbelow(_IDS)


class SeededIds:
    """Ids that depend only on the seed, the project, and how many ids the project got before."""

    def __init__(self, seed: int, taken: Callable[[int], bool]) -> None:
        self._seed = seed
        self._taken = taken
        self._given = Counter[str]()
        self._lock = threading.Lock()

    def __call__(self, project: str = "") -> int:
        """The next unused id for a project."""
        while True:
            with self._lock:
                self._given[project] += 1
                number = self._given[project]
            digest = hashlib.sha256(f"{self._seed}/{project}/{number}".encode()).digest()
            found = _FIRST_ID + int.from_bytes(digest[:8], "big") % _IDS
            if not self._taken(found):
                return found

    def begin_anew(self, project: str | None = None) -> None:
        """Restart the sequence of ids, for one project or for all."""
        with self._lock:
            if project is None:
                self._given.clear()
            else:
                del self._given[project]


class SeededClock:
    """A clock that advances by one second with each call."""

    def __init__(self, after_us: int = 0) -> None:
        self._lock = threading.Lock()
        self._time_us = max(_EPOCH_US, after_us)

    def __call__(self) -> int:
        """The next time, in microseconds since 1970."""
        with self._lock:
            self._time_us += TICK_US
            return self._time_us

    @property
    def time_us(self) -> int:
        """The time given last; reading it does not advance the clock."""
        with self._lock:
            return self._time_us

    def begin_anew(self, after_us: int = 0) -> None:
        """Restart at the beginning, or just after a time."""
        with self._lock:
            self._time_us = max(_EPOCH_US, after_us)


def seed_database(database: Database) -> SeededClock:
    """Give a database a seeded clock that continues after its newest job."""
    database.clock = clock = SeededClock(database.latest_job_us())
    database.tick_us = TICK_US
    return clock
