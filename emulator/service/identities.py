"""Ids and times of new resources: random and of this moment, or the same ones for the same seed."""

import hashlib
import secrets
import threading
from collections import Counter
from collections.abc import Callable

from emulator.database import Database

_FIRST_ID = 10**18
_IDS = 2**63 - _FIRST_ID
# 2026-01-01T00:00:00Z: what a seeded clock begins with.
_EPOCH_US = 1_767_225_600_000_000
TICK_US = 1_000_000


def random_id(_project: str = "") -> int:
    """A resource id as Vertex makes them: a random int64 of 19 digits."""
    return _FIRST_ID + secrets.randbelow(_IDS)


class SeededIds:
    """Ids that follow from the seed, the project, and how many it has been given before."""

    def __init__(self, seed: int, taken: Callable[[int], bool]) -> None:
        self._seed = seed
        self._taken = taken
        self._given = Counter[str]()
        self._lock = threading.Lock()

    def __call__(self, project: str = "") -> int:
        """The next id of a project that no resource has."""
        while True:
            with self._lock:
                self._given[project] += 1
                number = self._given[project]
            digest = hashlib.sha256(f"{self._seed}/{project}/{number}".encode()).digest()
            found = _FIRST_ID + int.from_bytes(digest[:8], "big") % _IDS
            if not self._taken(found):
                return found

    def begin_anew(self, project: str | None = None) -> None:
        """Give out the same ids again, of one project or of all."""
        with self._lock:
            if project is None:
                self._given.clear()
            else:
                del self._given[project]


class SeededClock:
    """A clock that goes on by a second each time it is asked."""

    def __init__(self, after_us: int = 0) -> None:
        self._lock = threading.Lock()
        self._time_us = max(_EPOCH_US, after_us)

    def __call__(self) -> int:
        """Microseconds since 1970."""
        with self._lock:
            self._time_us += TICK_US
            return self._time_us

    @property
    def time_us(self) -> int:
        """The time that it gave last; asking does not move it."""
        with self._lock:
            return self._time_us

    def begin_anew(self, after_us: int = 0) -> None:
        """Go back to the beginning, or to behind a time."""
        with self._lock:
            self._time_us = max(_EPOCH_US, after_us)


def seed_database(database: Database) -> SeededClock:
    """Let the times of a database's resources come from a seeded clock, behind those that it has."""
    database.clock = clock = SeededClock(database.latest_job_us())
    database.tick_us = TICK_US
    return clock
