"""Sets of whole numbers, such as the points of a grid, as ranges."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate

NO_END = 1 << 62

Range = tuple[int, int]
"""First and last number, both included."""


class Points:
    """A set of whole numbers, as sorted ranges that do not touch; empty ranges are left out."""

    def __init__(self, ranges: Iterable[Range]) -> None:
        self.ranges: list[Range] = []
        for first, last in sorted(ranges):
            if self.ranges and first <= self.ranges[-1][1] + 1:
                self.ranges[-1] = self.ranges[-1][0], max(last, self.ranges[-1][1])
            elif first <= last:
                self.ranges.append((first, last))
        sizes = (last - first + 1 for first, last in self.ranges)
        self._counts = list(accumulate(sizes, initial=0))

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def at_or_after(self, point: int) -> int | None:
        """The smallest number of the set that is at least `point`; None if there is none."""
        index = self._following(point)
        if index and point <= self.ranges[index - 1][1]:
            return point
        return self.ranges[index][0] if index < len(self.ranges) else None

    def at_or_before(self, point: int) -> int | None:
        """The largest number of the set that is at most `point`; None if there is none."""
        index = self._following(point)
        return min(point, self.ranges[index - 1][1]) if index else None

    def rank(self, point: int) -> int:
        """How many numbers of the set are at most `point`."""
        index = self._following(point)
        if not index:
            return 0
        first, last = self.ranges[index - 1]
        return self._counts[index - 1] + min(point, last) - first + 1

    def until(self, last: int) -> Points:
        """The numbers up to `last`."""
        return Points((first, min(end, last)) for first, end in self.ranges)

    def minus(self, others: Points) -> Points:
        """The numbers that are not among the others."""
        left: list[Range] = []
        for first, last in self.ranges:
            for taken, until in others.ranges[max(0, others._following(first) - 1) :]:
                if taken > last:
                    break
                left.append((first, taken - 1))
                first = max(first, until + 1)
            left.append((first, last))
        return Points(left)

    def contains(self, first: int, last: int) -> bool:
        """Whether all numbers from first to last are in the set."""
        index = self._following(first)
        return bool(index) and last <= self.ranges[index - 1][1]

    def _following(self, point: int) -> int:
        return bisect_right(self.ranges, point, key=lambda range_: range_[0])
