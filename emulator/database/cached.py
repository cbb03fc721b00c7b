"""A cache for values that are read from the database."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Cached(Generic[T]):
    """The result of `read`, cached until `forget` or for `max_age_s` seconds (None: without limit).

    If `forget` is called while another thread reads, that thread gets the value it has read, but the value is
    not cached. So no value from before a change outlives the change. No lock is held while `read` runs.
    """

    def __init__(self, read: Callable[[], T], max_age_s: float | None = None) -> None:
        self._read = read
        self._max_age_s = max_age_s
        self._lock = threading.Lock()
        self._kept: tuple[T, float] | None = None
        self._changes = 0

    def get(self) -> T:
        """Return the cached value; read it again if there is none or it is too old."""
        with self._lock:
            kept, changes = self._kept, self._changes
        now = time.monotonic()
        if kept is not None and (self._max_age_s is None or now - kept[1] < self._max_age_s):
            return kept[0]
        value = self._read()
        with self._lock:
            if changes == self._changes:
                self._kept = value, now
        return value

    @property
    def kept(self) -> T | None:
        """The cached value, whatever its age; None if there is none. Never reads."""
        kept = self._kept
        return None if kept is None else kept[0]

    def forget(self) -> None:
        """Drop the cached value. Call this after the change."""
        with self._lock:
            self._changes += 1
            self._kept = None
