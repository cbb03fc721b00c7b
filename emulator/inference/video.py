"""Frames at exact times: for each point of a regular grid the frame whose timestamp is nearest to it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

from emulator.inference.container import VideoUnreadable
from emulator.inference.decoder import VideoInfo
from emulator.inference.decoding import USUAL, Decoding, VideoOptions
from emulator.inference.frames import Frame, Picture
from emulator.inference.open_decoder import open_decoder, quiet_decoder
from emulator.inference.points import NO_END, Points

__all__ = ["FrameSource", "Picture", "Sample", "VideoInfo", "VideoUnreadable", "quiet_decoder"]

T = TypeVar("T")

Span = tuple[int, int | None]
"""Half-open, in microseconds; the end None is the end of the video."""


@dataclass(frozen=True)
class Sample(Generic[T]):
    """The frame shown at `time_us`, which is the nearest to the grid points `first` to `last` (inclusive).

    It answers several points if the video has fewer frames than the grid has points. `first` and `last` lie
    in a span; points between them may lie in the gap between two spans.
    """

    first: int
    last: int
    time_us: int
    data: T


@dataclass(frozen=True)
class VideoEnd:
    """A video's end, in microseconds.

    last_us: start of the last frame. end_us: end of its display. reach_us: the last moment to which it is the
    nearest frame.
    """

    end_us: int
    last_us: int
    reach_us: int


class SamplingInterrupted(Exception):
    """A sampling was interrupted on request."""


class FrameSource:
    """One video and one decoder. A context manager; not thread-safe, except for `interrupt`.

    Times are the decoder's timestamps in microseconds after the start of the video track as it is shown,
    never an index divided by a frame rate. A start offset (MPEG-TS), a late start of the track, frames hidden
    by an edit list and reordered B-frames shift nothing: the first frame is at 0 (later only if frames before
    it cannot be decoded). Each frame lasts until the next. The last one lasts as long as the container says,
    or else as long as the one before it.

    Pictures are upright: rotation in the metadata is applied. `threads` are codec threads (0: twice the
    cores). The threads of OpenCV's image functions belong to the process (`cv2.setNumThreads`) and are left
    alone. Gaps longer than `walk_us` are skipped by a seek, which costs about 150 ms (a frame: 2 to 7 ms).

    `alive` is called before each decoded frame, in the sampling thread: in a container without seeking, hours
    of video may lie between two samples. `sampled` is called after each sample with the number of finished
    grid points, and with their total as far as the container's duration tells it.

    A damaged or incomplete file gives the frames that it has; with `options.strict` it is an error.

    Raises `VideoUnreadable` if the file cannot be read as video.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 0,
        walk_us: int = 8_000_000,
        options: VideoOptions = USUAL,
        alive: Callable[[], None] = lambda: None,
        sampled: Callable[[int, int | None], None] = lambda _done, _total: None,
    ) -> None:
        self._alive, self._sampled = alive, sampled
        self._interrupted = False
        self._strict = options.strict
        self._decoder, self._warnings = open_decoder(path, options.decoder, threads, self._check)
        self.first_warnings = tuple(self._warnings)
        """Warnings for the user that were known before anything was sampled."""
        self._walk_us = walk_us
        self.info: VideoInfo = self._decoder.info
        self.end: VideoEnd | None = None
        """The video's end; known once a sampling has reached the last frame."""
        self.seen_us = 0
        """The latest grid point, in microseconds, for which a frame was found."""
        self.ends_early = ""
        """Why frames are missing at the end of the video, as a sentence; known together with `end_us`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def end_us(self) -> int | None:
        """The video's end, in microseconds; None if it is not known yet."""
        return self.end.end_us if self.end else None

    @property
    def is_sound(self) -> bool:
        """Whether nothing damaged or missing has been found so far."""
        return not self._decoder.damaged and not self.ends_early

    @property
    def decoding(self) -> Decoding:
        """How the video was decoded so far."""
        warnings = list(dict.fromkeys(self._warnings))
        if self.ends_early:
            warnings.append(self.ends_early)
        elif self._decoder.damaged:
            warnings.append("Parts of the video are damaged: frames around them are missing or spoilt.")
        return Decoding(self.info.decoder, tuple(warnings))

    def close(self) -> None:
        """Releases the decoder. Sampling opens it again."""
        self._decoder.close()

    def interrupt(self) -> None:
        """Makes the current sampling end with `SamplingInterrupted` at its next frame, and every later one.

        May be called from any thread.
        """
        self._interrupted = True

    def sample(
        self, interval_us: int, spans: Sequence[Span], transform: Callable[[Picture], T]
    ) -> Generator[Sample[T], None, None]:
        """The frames nearest to the grid points k * `interval_us` in any of the half-open spans, in order.

        The grid starts with the video. Of two equally near frames, the earlier is taken. Points at or after
        the end of the video yield nothing; a span whose end is None extends to it. No frame is yielded twice.

        `transform` gets the BGR picture (uint8, height x width x 3) of each frame that is yielded, and of no
        other. One picture is held at a time. Closing the generator releases the decoder.

        With `strict`, raises `VideoUnreadable` after all available samples if anything that the spans ask
        for is damaged or missing.
        """
        return self.sample_frames(interval_us, spans, lambda frame: transform(frame.bgr()))

    def sample_frames(
        self, interval_us: int, spans: Sequence[Span], transform: Callable[[Frame], T]
    ) -> Generator[Sample[T], None, None]:
        """Like `sample`, but `transform` gets the frame, from which a smaller picture costs less."""
        points = GridPoints(interval_us, spans)
        try:
            yield from self._sweep(points, transform)
        finally:
            self.close()

    def _check(self) -> None:
        if self._interrupted:
            raise SamplingInterrupted
        self._alive()

    def _sweep(self, points: GridPoints, transform: Callable[[Frame], T]) -> Generator[Sample[T], None, None]:
        decoder, step = self._decoder, points.interval_us
        total, done = points.count(self.info.duration_us), 0
        point = points.at_or_after(0)
        if point is not None:
            decoder.approach(point * step, self._walk_us)
        steady = more = True
        while point is not None and more:
            now = decoder.time_us
            picture = None  # freed before the next one comes: in a large video each takes 25 MB
            if not steady or decoder.may_be_nearest(point * step):
                picture = decoder.retrieve()
            more = decoder.grab()
            if not more:
                self._note_end()
            # The last moment to which the frame at `now` is the nearest.
            reach = (now + decoder.time_us) // 2 if more else decoder.end_us() - 1
            last = points.at_or_before(reach // step)
            if last is None or last < point:
                continue
            if picture is None:
                # The next frame came later than the steady rate promised, so this one was needed after all:
                # seek back to it, and from here on retrieve every frame that may be the nearest.
                steady, more = False, True
                decoder.seek(now)
                continue
            self.seen_us = max(self.seen_us, last * step)
            yield Sample(point, last, now, transform(picture))
            done += last - point + 1
            self._sampled(done, total if total is None or more else done)
            point = points.at_or_after(last + 1)
            if point is not None and more:
                decoder.approach(point * step, self._walk_us)
        if self._strict and (complaint := self._complaint(everything=point is None)):
            raise VideoUnreadable(f"{complaint} Upload the whole file again.")

    def _note_end(self) -> None:
        decoder = self._decoder
        self.end = VideoEnd(decoder.length_us(), decoder.time_us, decoder.end_us() - 1)
        if cause := decoder.why_it_ends_early():
            self.ends_early = f"The video ends early, at {decoder.time_us / 1e6:.3f} s: {cause}."
        elif shortage := decoder.container.cut_short:
            self._warnings.append(f"All frames were decoded, although {shortage}")

    def _complaint(self, *, everything: bool) -> str:
        """What was asked for but not decoded, as a sentence; "" if nothing."""
        damage = "Parts of the video are damaged." if self._decoder.damaged else ""
        return damage if everything else self.ends_early or damage


class GridPoints(Points):
    """The numbers of the grid points that lie in any of some half-open time spans."""

    def __init__(self, interval_us: int, spans: Sequence[Span]) -> None:
        if interval_us <= 0:
            raise ValueError(f"interval_us must be positive, not {interval_us}")
        self.interval_us = interval_us
        self._is_open = any(end is None for _, end in spans)
        whole = ((max(0, start), NO_END if end is None else end) for start, end in spans)
        super().__init__((-(-start // interval_us), -(-end // interval_us) - 1) for start, end in whole)

    def count(self, end_us: int | None) -> int | None:
        """The number of points before a time. None if the time is None and a span has no end."""
        if end_us is None:
            return None if self._is_open else self.rank(NO_END)
        return self.rank(-(-end_us // self.interval_us) - 1)


def spans_of(points: Points, interval_us: int) -> list[Span]:
    """The time spans that hold these grid points, and no others."""
    ends = NO_END // interval_us
    return [
        (first * interval_us, None if last >= ends - 1 else last * interval_us + 1)
        for first, last in points.ranges
    ]
