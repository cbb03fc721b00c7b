"""Counts of durations by their length, as Prometheus reads them. To count one costs microseconds."""

import threading
from bisect import bisect_left
from collections.abc import Sequence

#: Upper bounds in seconds: of calls, of videos, of jobs.
OF_CALLS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OF_VIDEOS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
OF_JOBS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)


class Histogram:
    """How many durations were at most as long as each bound, and their sum. Thread-safe."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._lock = threading.Lock()
        #: The sum of all durations, in seconds.
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        at = bisect_left(self._bounds, seconds)
        with self._lock:
            self._counts[at] += 1
            self.seconds += seconds

    def buckets(self) -> list[tuple[str, int]]:
        """The bounds as texts, each with the number of durations up to it; the last is `+Inf`."""
        with self._lock:
            counts = list(self._counts)
        found, total = [], 0
        for bound, count in zip((*self._bounds, float("inf")), counts, strict=True):
            total += count
            found.append(("+Inf" if bound == float("inf") else f"{bound:g}", total))
        return found
