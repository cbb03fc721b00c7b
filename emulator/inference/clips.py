"""The clips of a video: the frames of each clip, and how clips are cut from the stream of samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emulator.inference.footage import Footage, Wanted
from emulator.inference.manifest import ModelManifest
from emulator.inference.points import NO_END, Points, Range
from emulator.inference.predictor import Segment
from emulator.inference.preprocess import Picture
from emulator.inference.video import FrameSource, GridPoints, Sample, Span, spans_of


@dataclass(frozen=True)
class Clip:
    """The pictures of clip number `number`, in time order."""

    number: int
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Scored:
    """The scores (labels,) of clip number `number`, the same for every segment."""

    number: int
    scores: NDArray[np.float32]


ClipFootage = Footage[NDArray[np.float32]]


@dataclass(frozen=True)
class ClipGrid:
    """Clip n begins at grid point n * `step`; its scores describe the moment `offset` points later.

    margin: the number of clips before and after a segment that affect the peaks inside it.
    """

    interval_us: int
    step: int
    frames: int
    offset: float
    margin: int
    is_stream: bool = False
    """Whether a segment's clips must not begin before it, because states would leak in from there."""

    @classmethod
    def of(cls, manifest: ModelManifest) -> ClipGrid:
        """The grid of a model."""
        actions, frames = manifest.actions, manifest.input.frames
        around = math.ceil(actions.window * 1e6 / (manifest.interval_us * actions.step))
        return cls(
            interval_us=manifest.interval_us,
            step=actions.step,
            frames=frames,
            offset=actions.moment * (frames - 1),
            margin=0 if manifest.input.states else around + actions.smooth // 2 + 1,
            is_stream=bool(manifest.input.states),
        )

    @property
    def spacing_us(self) -> int:
        """Time between the starts of two neighbouring clips."""
        return self.step * self.interval_us

    @classmethod
    def for_classification(cls, manifest: ModelManifest) -> ClipGrid:
        """The grid of a classifier: a clip's scores describe its middle, and nothing around it."""
        frames = manifest.input.frames
        return cls(
            interval_us=manifest.interval_us,
            step=manifest.classification.step,
            frames=frames,
            offset=(frames - 1) / 2,
            margin=0,
        )

    def moment_us(self, number: float) -> float:
        """The moment that a clip's scores describe; a fractional number lies between two clips."""
        return (number * self.step + self.offset) * self.interval_us

    def clips(self, segment: Segment) -> tuple[int, int]:
        """First and last clip that a segment needs. Clips whose moment is before the video are left out."""
        first = math.floor(self._number(max(0, segment.start_us))) - self.margin
        last = NO_END if segment.end_us is None else math.ceil(self._number(segment.end_us)) + self.margin
        if self.is_stream:
            return max(0, math.ceil(segment.start_us / self.spacing_us)), last
        return max(first, math.ceil(self._number(0))), last

    def inside(self, segment: Segment) -> tuple[int, int]:
        """First and last clip whose moment lies in a segment, with the one before it (see `clips`)."""
        first = max(math.floor(self._number(segment.start_us)), math.ceil(self._number(0)))
        last = NO_END if segment.end_us is None else math.ceil(self._number(segment.end_us)) - 1
        return first, max(first, last)

    def last_clip(self, last_point: int) -> int:
        """The last clip whose moment lies inside a video that has this last grid point."""
        last = math.floor((last_point - self.offset) / self.step) + 1
        while last * self.step + self.offset > last_point:
            last -= 1
        return last

    def last_point_of(self, number: int) -> int:
        """The last grid point from which a clip has a frame."""
        return number * self.step + self.frames - 1

    def look(self, batch: int) -> str:
        """The choice of frames that scores depend on besides the graph, as text for the cache's key."""
        return f"clips of {self.frames} every {self.step} in batches of {batch}"

    def span(self, clips: tuple[int, int]) -> tuple[int, int | None]:
        """The time span that holds the frames of these clips."""
        first, last = clips
        start_us = max(0, first * self.step) * self.interval_us
        if last >= NO_END:
            return start_us, None
        # Frames before the video are copies of its first one, so at least that one is needed.
        return start_us, max(0, last * self.step + self.frames - 1) * self.interval_us + 1

    def _number(self, time_us: int) -> float:
        return (time_us / self.interval_us - self.offset) / self.step


class ClipCutter:
    """Cuts the wanted clips from a stream of samples; holds no more frames than the next clip needs.

    Where a clip reaches beyond the video, the first or last frame is repeated. `end_point` is the last grid
    point of the video that was seen, -1 if none was.
    """

    def __init__(self, grid: ClipGrid, wanted: Iterable[tuple[int, int]]) -> None:
        """`wanted`: first and last number of clips, in any order; they may overlap."""
        self._grid = grid
        self._ranges = list(Points(wanted).ranges)
        self._pictures: dict[int, Picture] = {}
        self._next = self._after(-NO_END)
        self.end_point = -1

    def cut(self, samples: Generator[Sample[Picture], None, None]) -> Generator[Clip, None, None]:
        """Yield each wanted clip once, in order. Owns the samples, and closes them."""
        with closing(samples):
            for sample in samples:
                yield from self.add(sample)
                if self._next is None:
                    return
        yield from self.finish()

    def add(self, sample: Sample[Picture]) -> Iterator[Clip]:
        """Take the next sample; yield the clips that it completes."""
        for point in range(sample.first, sample.last + 1):
            self.end_point = point
            self._pictures[point] = sample.data
            while self._next is not None and self._next * self._grid.step + self._grid.frames - 1 <= point:
                yield self._clip(self._next)
                self._next = self._after(self._next)
            self._forget(point)

    def finish(self) -> Iterator[Clip]:
        """End the video: its last frame replaces those that the remaining clips lack."""
        grid = self._grid
        while self._next is not None and grid.step * self._next + grid.offset <= self.end_point:
            yield self._clip(self._next)
            self._next = self._after(self._next)

    def _forget(self, point: int) -> None:
        needed = point + 1 if self._next is None else max(0, min(self._next * self._grid.step, point))
        for old in [key for key in self._pictures if key < needed]:
            del self._pictures[old]

    def _clip(self, number: int) -> Clip:
        first = number * self._grid.step
        points = range(first, first + self._grid.frames)
        return Clip(number, tuple(self._pictures[min(max(0, point), self.end_point)] for point in points))

    def _after(self, number: int) -> int | None:
        """The next wanted clip."""
        while self._ranges and self._ranges[0][1] <= number:
            self._ranges.pop(0)
        return max(number + 1, self._ranges[0][0]) if self._ranges else None


def spans(grid: ClipGrid, wanted: Iterable[Range]) -> list[Span]:
    """The time spans to sample for these clips."""
    return [grid.span(clips) for clips in Points(wanted).ranges]


def wanted_clips(grid: ClipGrid, clips: Iterable[Range], behind: Sequence[int] = ()) -> Wanted:
    """The scores of these clips, and frames at the grid points of `behind`, which prove its length."""
    results = Points(clips)
    looked_at = [
        *spans(grid, results.ranges),
        *spans_of(Points((point, point) for point in behind), grid.interval_us),
    ]
    frames = GridPoints(grid.interval_us, looked_at)
    return Wanted(results, frames, grid.last_clip, grid.last_point_of, behind)


def clips_of(
    footage: ClipFootage, decode: Callable[[FrameSource], Generator[Clip, None, None]]
) -> Generator[Clip | Scored, None, None]:
    """The clips of a video in order: those that `decode` cuts, and those whose scores are known."""
    return footage.items(
        lambda sample: Scored(sample.first, sample.data), decode, lambda one: (one.number, one.number)
    )


def take_scores(footage: ClipFootage, one: Clip | Scored) -> None:
    """Pass a clip's scores to `Footage.take`; a stream's clip has none yet."""
    if isinstance(one, Scored):
        footage.take(Sample(one.number, one.number, one.number, one.scores))
