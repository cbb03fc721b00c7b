"""Finds the time segments that a moment belongs to, and notes when each of them is finished."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from emulator.inference.points import NO_END
from emulator.inference.predictor import Segment
from emulator.vertex.instances import InstanceFailure
from emulator.vertex.predictions import duration_text

S = TypeVar("S")

INVALID_ARGUMENT, OUT_OF_RANGE = 3, 11


@dataclass
class Group(Generic[S]):
    """Instances that ask for the same segment. It needs the points `first` to `last`, both included."""

    segment: Segment
    first: int
    last: int
    indices: list[int]
    state: S | None = None


class Groups(Generic[S]):
    """Segments on their way through a video, with identical ones grouped.

    A state is created at the first point of a segment and dropped after its last, so that many short segments
    need no more memory than a few.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        points: Callable[[Segment], tuple[int, int]],
        state: Callable[[Segment], S],
    ) -> None:
        grouped: dict[Segment, list[int]] = {}
        for index, segment in enumerate(segments):
            grouped.setdefault(segment, []).append(index)
        groups = [Group[S](segment, *points(segment), indices) for segment, indices in grouped.items()]
        self._new_state = state
        self._waiting = sorted(groups, key=lambda group: group.first, reverse=True)
        self._open: list[tuple[int, int, Group[S]]] = []
        self._opened = 0

    def touched(self, first: int, last: int) -> Iterator[tuple[Group[S], S]]:
        """The groups that need a point from `first` to `last`. Points must not go back."""
        while self._waiting and self._waiting[-1].first <= last:
            group = self._waiting.pop()
            heapq.heappush(self._open, (group.last, self._opened, group))
            self._opened += 1
        for _, _, group in self._open:
            if group.first <= group.last and group.last >= first:
                if group.state is None:
                    group.state = self._new_state(group.segment)
                yield group, group.state

    def finished(self, next_point: int) -> Iterator[Group[S]]:
        """Remove and yield the groups whose last point lies before `next_point`."""
        while self._open and self._open[0][0] < next_point:
            yield heapq.heappop(self._open)[2]

    def rest(self) -> Iterator[Group[S]]:
        """Remove and yield the other groups: the video has ended."""
        yield from self.finished(NO_END + 1)
        while self._waiting:
            yield self._waiting.pop()


def grid_points(segment: Segment, interval_us: int) -> tuple[int, int]:
    """First and last k with k * interval_us in the segment; last < first if there is none."""
    end_us = NO_END if segment.end_us is None else segment.end_us
    last = NO_END if segment.end_us is None else -(-end_us // interval_us) - 1
    return -(-max(0, segment.start_us) // interval_us), last


class SomeVideo(Protocol):
    """The facts about a video's end."""

    @property
    def ends_early(self) -> str: ...

    @property
    def duration_us(self) -> int | None: ...


def past_end(segment: Segment, source: SomeVideo) -> InstanceFailure:
    """The failure of a segment that begins where the video has no more frames."""
    if source.ends_early:
        return InstanceFailure(
            INVALID_ARGUMENT,
            f"timeSegmentStart {duration_text(segment.start_us)} has no frame: {source.ends_early} Upload the"
            " whole file again.",
        )
    duration_us = source.duration_us
    length = "" if duration_us is None else f", which is about {duration_us / 1e6:.3f}s long"
    return InstanceFailure(
        OUT_OF_RANGE,
        f"timeSegmentStart {duration_text(segment.start_us)} lies past the end of the video{length}; "
        "give a segment that begins inside it",
    )
