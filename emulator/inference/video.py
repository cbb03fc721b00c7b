"""Decoded frames at exact times: for each point of a regular grid the frame whose timestamp is nearest to it."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from emulator.inference.container import Container, VideoUnreadable, identify

__all__ = ["FrameSource", "Sample", "VideoInfo", "VideoUnreadable", "quiet_decoder"]

T = TypeVar("T")
Picture = NDArray[np.uint8]

_SEEK_MARGIN_US = 250_000
# Containers that count milliseconds (WebM) jitter by one.
_JITTER_US = 2_000
_MAX_PIXELS = 16_384 * 8_704
_MAX_THREADS = 16
_NO_END = 1 << 62


@dataclass(frozen=True)
class VideoInfo:
    """`width` and `height` as displayed, that is after `rotation` (0, 90, 180 or 270 degrees clockwise).

    `fps` is the container's average and `duration_us` follows from it (None where the container does not say): both
    are for progress and estimates only. `codec` is the four-character code, or "".
    """

    width: int
    height: int
    fps: float
    duration_us: int | None
    rotation: int
    codec: str


@dataclass(frozen=True)
class Sample(Generic[T]):
    """The frame shown at `time_us`, which is the nearest one to the grid points `first` to `last` (inclusive).

    There are several where the video has fewer frames than the grid has points. `first` and `last` lie in a span;
    points between them may lie in the gap between two spans.
    """

    first: int
    last: int
    time_us: int
    data: T


def quiet_decoder() -> None:
    """Keeps FFmpeg and OpenCV from writing to stderr, for the whole process; to be called before the first video.

    Left to the process that owns stderr. What goes wrong is told by `VideoUnreadable` all the same.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read once, when the first video is opened
    # OpenCV 5 moved the function.
    set_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
    set_level(0)


class FrameSource:
    """One video and one decoder. A context manager; not thread-safe.

    Times are microseconds after the first frame that a player shows, so a start offset (MPEG-TS), a late start of the
    video track, frames hidden by an edit list and reordered B-frames shift nothing. They are the decoder's
    timestamps, never an index divided by a frame rate. Each frame lasts until the next; the last one as long as the
    one before it, but at most the average of the video.

    Pictures are upright: rotation in the metadata is applied. `threads` are those of the codec (0: twice the
    cores). The threads of OpenCV's image functions belong to the process (`cv2.setNumThreads`) and are left alone.
    Gaps longer than `walk_us` are skipped by a seek, which costs about 150 ms (grabbing costs 2 to 7 ms a frame).

    Raises `VideoUnreadable` where the file cannot be read as video.
    """

    def __init__(self, path: Path, *, threads: int = 0, walk_us: int = 8_000_000) -> None:
        # An absolute path cannot be taken for a URL or for one of FFmpeg's protocols.
        path = path.absolute()
        self._container = identify(path)
        self._decoder = _Decoder(path, self._container, threads or min(_MAX_THREADS, 2 * _cores()))
        self._walk_us = walk_us
        self.info = self._decoder.info

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Releases the decoder. Sampling opens it again."""
        self._decoder.close()

    def sample(
        self, interval_us: int, spans: Sequence[tuple[int, int | None]], transform: Callable[[Picture], T]
    ) -> Generator[Sample[T], None, None]:
        """The frames nearest to the grid points k * `interval_us` within any of the half-open spans, in time order.

        The grid starts with the video. Of two equally near frames the earlier is taken. Points at or after the end
        of the video yield nothing (a span's end may be None: to the end). No frame is yielded twice.

        `transform` gets the upright BGR picture (uint8, height x width x 3) of frames that are yielded, and of no
        others; its size may change within a video. Only one picture is held at a time. Gaps between spans are
        skipped where that is cheaper and exact. Closing the generator releases the decoder.

        Raises `VideoUnreadable` on reaching the point where an incomplete file ends, after the samples before it.
        """
        points = _GridPoints(interval_us, spans)
        try:
            yield from self._sweep(points, transform)
        finally:
            self.close()

    def _sweep(
        self, points: _GridPoints, transform: Callable[[Picture], T]
    ) -> Generator[Sample[T], None, None]:
        decoder, step = self._decoder, points.interval_us
        point = points.at_or_after(0)
        steady = True
        more = True
        if point is not None:
            decoder.approach(point * step, self._walk_us)
        while point is not None and more:
            now = decoder.time_us
            wanted = not steady or decoder.may_be_nearest(point * step)
            picture = decoder.retrieve() if wanted else None
            more = decoder.grab()
            # The last moment that belongs to this frame.
            reach = (now + decoder.time_us) // 2 if more else decoder.end_us() - 1
            last = points.at_or_before(reach // step)
            if last is None or last < point:
                continue
            if picture is None:
                # The next frame came later than the steady rate promised, so this one was wanted after all: go back
                # for it, and from here on retrieve every frame that might turn out to be the nearest.
                steady = False
                more = True
                decoder.seek(now)
                continue
            yield Sample(point, last, now, transform(picture))
            point = points.at_or_after(last + 1)
            if point is not None and more:
                decoder.approach(point * step, self._walk_us)
        if point is not None and self._container.cut_short:
            raise VideoUnreadable(
                f"The video ends early, at {decoder.time_us / 1e6:.3f} s: {self._container.cut_short}. "
                "Upload the whole file again."
            )


class _GridPoints:
    """The points of a grid, by number, that lie in any of some half-open spans of time."""

    def __init__(self, interval_us: int, spans: Sequence[tuple[int, int | None]]) -> None:
        if interval_us <= 0:
            raise ValueError(f"interval_us must be positive, not {interval_us}")
        self.interval_us = interval_us
        self._ranges: list[tuple[int, int]] = []  # first, last; disjoint, ascending
        ends = [(max(0, start), _NO_END if end is None else end) for start, end in spans]
        for start, end in sorted(ends):
            first, last = -(-start // interval_us), -(-end // interval_us) - 1
            if self._ranges and first <= self._ranges[-1][1] + 1:
                first, before = self._ranges.pop()
                last = max(last, before)
            if first <= last:
                self._ranges.append((first, last))

    def at_or_after(self, point: int) -> int | None:
        index = bisect_right(self._ranges, point, key=lambda range_: range_[0])
        if index and point <= self._ranges[index - 1][1]:
            return point
        return self._ranges[index][0] if index < len(self._ranges) else None

    def at_or_before(self, point: int) -> int | None:
        index = bisect_right(self._ranges, point, key=lambda range_: range_[0])
        return min(point, self._ranges[index - 1][1]) if index else None


class _Decoder:
    """OpenCV's FFmpeg capture, standing on the frame that was grabbed last, with times and seeks made dependable."""

    def __init__(self, path: Path, container: Container, threads: int) -> None:
        self._path = path
        self._threads = threads
        self._capture: cv2.VideoCapture | None = None
        self._origin_ms = 0.0
        self._at_start = False
        self.time_us = 0
        self._interval_us: int | None = None  # from the frame before
        capture = self._open()
        try:
            self.info = _read_info(capture)
            self._average_us = round(1e6 / self.info.fps)
            # OpenCV does not move at all in a stream whose frames it cannot count.
            self._can_seek = container.can_seek and capture.get(cv2.CAP_PROP_FRAME_COUNT) > 1
            self._start(capture)
        except BaseException:
            capture.release()
            raise

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _open(self) -> cv2.VideoCapture:
        options = [cv2.CAP_PROP_N_THREADS, self._threads]
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG, options)
        if not capture.isOpened():
            raise VideoUnreadable(
                "The file has no video track that can be decoded: it holds only audio, is damaged, or uses an unknown "
                "codec. Play it, or convert it with: ffmpeg -i INPUT -c:v libx264 OUTPUT.mp4"
            )
        return capture

    def _start(self, capture: cv2.VideoCapture) -> None:
        if not capture.grab():
            raise VideoUnreadable(
                "No frame of the video can be decoded: the file is damaged. Upload it again."
            )
        self._capture = capture
        self._origin_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
        self._stand(0)
        self._at_start = True

    def _stand(self, time_us: int) -> None:
        self.time_us = time_us
        self._interval_us = None
        self._at_start = False

    def _rewind(self) -> cv2.VideoCapture:
        self.close()
        capture = self._open()
        self._start(capture)
        return capture

    def _reported_us(self, capture: cv2.VideoCapture) -> int:
        return round((capture.get(cv2.CAP_PROP_POS_MSEC) - self._origin_ms) * 1000)

    def grab(self) -> bool:
        """Steps to the next frame; False, and no step, at the end."""
        capture = self._capture or self._rewind()
        if not capture.grab():
            return False
        time_us = self._reported_us(capture)
        if time_us <= self.time_us:
            # The last frame of an MPEG-4 avi reports 0, and damaged streams run backwards.
            time_us = self.time_us + self._average_us
        self._interval_us = time_us - self.time_us
        self.time_us = time_us
        self._at_start = False
        return True

    def retrieve(self) -> Picture:
        assert self._capture is not None
        found, picture = self._capture.retrieve()
        if not found or picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise VideoUnreadable(
                "The frames cannot be converted to 8-bit colour. Convert the video with: "
                "ffmpeg -i INPUT -c:v libx264 -pix_fmt yuv420p OUTPUT.mp4"
            )
        return picture

    def may_be_nearest(self, moment_us: int) -> bool:
        """Whether this frame is the nearest one if the next comes after the same interval as this one did."""
        return self._interval_us is None or 2 * (moment_us - self.time_us) <= self._interval_us + _JITTER_US

    def end_us(self) -> int:
        """When the last frame, on which this stands, ceases to be shown."""
        if self._interval_us is None and not self._at_start:
            last = self.time_us
            self.seek(last - 1)
            while self.time_us < last and self.grab():
                pass
        return self.time_us + min(self._interval_us or self._average_us, self._average_us)

    def approach(self, moment_us: int, walk_us: int) -> None:
        """Moves close to a moment that lies further ahead than `walk_us`."""
        if self._capture is None:
            self._rewind()
        if self._can_seek and moment_us - self.time_us > walk_us:
            self.seek(moment_us)

    def seek(self, moment_us: int) -> None:
        """Stands on a frame at or before a moment, not far from it if the container allows.

        OpenCV turns times into frame numbers by the average rate and may land anywhere, but the time it reports
        after a grab is right, so a landing after the moment is seen and tried again from further ahead.
        """
        margin_us = _SEEK_MARGIN_US
        while self._can_seek and margin_us < moment_us and self._capture is not None:
            self._capture.set(cv2.CAP_PROP_POS_MSEC, (moment_us - margin_us) / 1000)
            # 0 is what a frame without a timestamp reports.
            if self._capture.grab() and 0 < self._reported_us(self._capture) <= moment_us:
                self._stand(self._reported_us(self._capture))
                return
            margin_us *= 2
        self._rewind()


def _read_info(capture: cv2.VideoCapture) -> VideoInfo:
    width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    if width * height > _MAX_PIXELS:
        raise VideoUnreadable(
            f"The picture is said to be {width}x{height}, more than can be decoded. Scale the video down."
        )
    fps = capture.get(cv2.CAP_PROP_FPS)
    fps = fps if 0 < fps < 1e6 else 25.0
    frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    code = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=False)
    return VideoInfo(
        width=width,
        height=height,
        fps=fps,
        duration_us=round(frames * 1e6 / fps) if frames > 0 else None,
        rotation=int(capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 360,
        codec=code.decode("ascii", "ignore").strip("\0 ") if code.isascii() else "",
    )


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
