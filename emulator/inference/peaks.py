"""Peaks of class scores over time, found as the scores come in."""

from __future__ import annotations

from bisect import bisect
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.float32]


@dataclass(frozen=True)
class Peak:
    """A local maximum: `position` counts the rows from 0 and may lie between two of them."""

    class_index: int
    position: float
    height: float


class PeakFinder:
    """Finds, per class, where the score has risen and falls again. Memory does not grow with the rows.

    The ends count as falls, so a score that is highest in the first or last row peaks there. A flat summit
    peaks in its middle; a pointed one, at the vertex of the parabola through it and its neighbours.
    """

    def __init__(self, classes: int, least: float, smooth: int = 1) -> None:
        """`least` is the lowest height of a peak; `smooth` (odd), the number of rows to average first."""
        self._least, self._smooth = least, smooth
        self._raw: deque[Row] = deque(maxlen=smooth)
        self._rows = 0
        self._count = 0  # smoothed rows so far
        self._before = np.full(classes, -np.inf, np.float32)  # the value before the present level
        self._level = np.full(classes, -np.inf, np.float32)
        self._since = np.zeros(classes, np.int64)  # the smoothed row where the present level began
        self._rising = np.zeros(classes, bool)
        self.peaks: list[Peak] = []

    def add(self, scores: Row) -> None:
        """Take the next row of scores (classes,)."""
        self._raw.append(scores)
        self._rows += 1
        # A smoothed row is known once half a window of rows after it is.
        if self._rows > self._smooth // 2:
            self._step(self._average(list(self._raw)))

    def finish(self) -> list[Peak]:
        """End the rows; return all peaks, by position."""
        rows = list(self._raw)
        while self._count < self._rows:
            missing = self._rows - self._count
            self._step(self._average(rows[-(missing + self._smooth // 2) :]))
        self._step(np.full_like(self._level, -np.inf))
        return sorted(self.peaks, key=lambda peak: (peak.position, peak.class_index))

    @staticmethod
    def _average(rows: list[Row]) -> Row:
        return rows[0] if len(rows) == 1 else np.mean(rows, axis=0, dtype=np.float32)

    def _step(self, row: Row) -> None:
        fallen = self._rising & (row < self._level)
        for index in np.flatnonzero(fallen & (self._level >= self._least)).tolist():
            self.peaks.append(self._peak(index, float(row[index])))
        changed = row != self._level
        self._rising = np.where(changed, row > self._level, self._rising)
        self._before = np.where(changed, self._level, self._before)
        self._since = np.where(changed, self._count, self._since)
        self._level = np.where(changed, row, self._level)
        self._count += 1

    def _peak(self, index: int, after: float) -> Peak:
        first, last = int(self._since[index]), self._count - 1
        height, before = float(self._level[index]), float(self._before[index])
        position = (first + last) / 2
        if first == last and np.isfinite(before) and np.isfinite(after):
            position += 0.5 * (before - after) / (before - 2 * height + after)
        return Peak(index, position, height)


def strongest(peaks: Iterable[Peak], apart: float) -> list[Peak]:
    """The peaks without a higher one of their class nearer than `apart` rows, by position."""
    kept: list[Peak] = []
    taken: dict[int, list[float]] = {}  # positions in order, per class: only neighbours can be too near
    for peak in sorted(peaks, key=lambda peak: (-peak.height, peak.position, peak.class_index)):
        positions = taken.setdefault(peak.class_index, [])
        place = bisect(positions, peak.position)
        if all(abs(other - peak.position) >= apart for other in positions[max(0, place - 1) : place + 1]):
            positions.insert(place, peak.position)
            kept.append(peak)
    return sorted(kept, key=lambda peak: (peak.position, peak.class_index))
