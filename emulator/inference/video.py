"""Frames at exact times: for each point of a regular grid the frame whose timestamp is nearest to it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

from emulator.inference.container import VideoUnreadable
from emulator.inference.decoder import Decoder, Picture, VideoInfo, quiet_decoder

__all__ = ["FrameSource", "Picture", "Sample", "VideoInfo", "VideoUnreadable", "quiet_decoder"]

T = TypeVar("T")

_NO_END = 1 << 62


@dataclass(frozen=True)
class Sample(Generic[T]):
    """The frame shown at `time_us`: the nearest one to the grid points `first` to `last` (inclusive).

    There are several where the video has fewer frames than the grid has points. `first` and `last` lie in a
    span; points between them may lie in the gap between two spans.
    """

    first: int
    last: int
    time_us: int
    data: T


class SamplingInterrupted(Exception):
    """A sampling ended because it was told to."""


class FrameSource:
    """One video and one decoder. A context manager; not thread-safe, but for `interrupt`.

    Times are the decoder's timestamps in microseconds after the start of the video track as it is shown,
    never an index divided by a frame rate. A start offset (MPEG-TS), a late start of the track, frames hidden
    by an edit list and reordered B-frames shift nothing: the first frame is at 0 (later only if what precedes
    it cannot be decoded). Each frame lasts until the next, the last one as long as the one before it.

    Pictures are upright: rotation in the metadata is applied. `threads` are those of the codec (0: twice the
    cores); the threads of OpenCV's image functions belong to the process (`cv2.setNumThreads`) and are left
    alone. Gaps longer than `walk_us` are skipped by a seek, which costs about 150 ms (a frame: 2 to 7 ms).

    `alive` is called before each frame that is decoded, in the thread that samples: where a container cannot
    be sought, hours of video may lie between two samples.

    Raises `VideoUnreadable` where the file cannot be read as video.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 0,
        walk_us: int = 8_000_000,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._alive = alive
        self._interrupted = False
        self._decoder = Decoder(path, threads, self._check)
        self._walk_us = walk_us
        self.info: VideoInfo = self._decoder.info
        self.end_us: int | None = None
        """Where the video ends: known once a sampling has come to its last frame."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Releases the decoder. Sampling opens it again."""
        self._decoder.close()

    def interrupt(self) -> None:
        """Lets a sampling under way end with `SamplingInterrupted` at its next frame, and every later one.

        May be called from any thread.
        """
        self._interrupted = True

    def sample(
        self, interval_us: int, spans: Sequence[tuple[int, int | None]], transform: Callable[[Picture], T]
    ) -> Generator[Sample[T], None, None]:
        """The frames nearest to the grid points k * `interval_us` in any of the half-open spans, in order.

        The grid starts with the video. Of two equally near frames the earlier is taken. Points at or after
        the end of the video yield nothing; a span whose end is None reaches to it. No frame is yielded twice.

        `transform` gets the BGR picture (uint8, height x width x 3) of each frame that is yielded, and of no
        other. One picture is held at a time. Closing the generator releases the decoder.

        Raises `VideoUnreadable` where an incomplete file ends before a span does, after all samples it has.
        """
        points = _GridPoints(interval_us, spans)
        try:
            yield from self._sweep(points, transform)
        finally:
            self.close()

    def _check(self) -> None:
        if self._interrupted:
            raise SamplingInterrupted
        self._alive()

    def _sweep(
        self, points: _GridPoints, transform: Callable[[Picture], T]
    ) -> Generator[Sample[T], None, None]:
        decoder, step = self._decoder, points.interval_us
        point = points.at_or_after(0)
        if point is not None:
            decoder.approach(point * step, self._walk_us)
        steady = more = True
        while point is not None and more:
            now = decoder.time_us
            picture = None  # before the next one comes: of a large video each takes 25 MB
            if not steady or decoder.may_be_nearest(point * step):
                picture = decoder.retrieve()
            more = decoder.grab()
            if not more:
                self.end_us = decoder.length_us()
            # The last moment that belongs to the frame at `now`.
            reach = (now + decoder.time_us) // 2 if more else decoder.end_us() - 1
            last = points.at_or_before(reach // step)
            if last is None or last < point:
                continue
            if picture is None:
                # The next frame came later than the steady rate promised, so this one was wanted after all:
                # go back for it, and from here on retrieve every frame that might turn out to be the nearest.
                steady, more = False, True
                decoder.seek(now)
                continue
            yield Sample(point, last, now, transform(picture))
            point = points.at_or_after(last + 1)
            if point is not None and more:
                decoder.approach(point * step, self._walk_us)
        if point is not None and (cause := decoder.why_it_ends_early()):
            raise VideoUnreadable(
                f"The video ends early, at {decoder.time_us / 1e6:.3f} s: {cause}. "
                "Upload the whole file again."
            )


class _GridPoints:
    """The points of a grid, by number, that lie in any of some half-open spans of time."""

    def __init__(self, interval_us: int, spans: Sequence[tuple[int, int | None]]) -> None:
        if interval_us <= 0:
            raise ValueError(f"interval_us must be positive, not {interval_us}")
        self.interval_us = interval_us
        self._ranges: list[tuple[int, int]] = []  # first and last; disjoint, ascending
        for start, end in sorted((max(0, start), _NO_END if end is None else end) for start, end in spans):
            first, last = -(-start // interval_us), -(-end // interval_us) - 1
            if self._ranges and first <= self._ranges[-1][1] + 1:
                first, before = self._ranges.pop()
                last = max(last, before)
            if first <= last:
                self._ranges.append((first, last))

    def at_or_after(self, point: int) -> int | None:
        index = self._following(point)
        if index and point <= self._ranges[index - 1][1]:
            return point
        return self._ranges[index][0] if index < len(self._ranges) else None

    def at_or_before(self, point: int) -> int | None:
        index = self._following(point)
        return min(point, self._ranges[index - 1][1]) if index else None

    def _following(self, point: int) -> int:
        return bisect_right(self._ranges, point, key=lambda range_: range_[0])
