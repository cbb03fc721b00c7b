"""The common part of all decoders: correct times, checked seeks, and damage that does not end a video."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from emulator.inference.container import Container, VideoUnreadable
from emulator.inference.frames import Frame

_SEEK_MARGIN_US = 250_000
# Containers that count milliseconds (WebM) jitter by one.
_JITTER_US = 2_000
_MILLISECOND_US = 1_000
# Codecs hold back at most this many frames to reorder them.
REORDER_FRAMES = 16
# Level 6.2 of AV1, the largest of any codec: 430 MB as a picture.
_MAX_PIXELS = 16_384 * 8_704
_MAX_THREADS = 16
CONVERT = "Convert it, for example with: ffmpeg -i INPUT -c:v libx264 -pix_fmt yuv420p OUTPUT.mp4"


@dataclass(frozen=True)
class VideoInfo:
    """`width` and `height` as displayed, that is after `rotation` (0, 90, 180 or 270 degrees clockwise).

    `fps` is the container's average and `duration_us` follows from it (None where the container does not
    say): both are for progress and estimates only. `codec` is the four-character code, or "". `decoder` is
    the library that decodes, with its version.
    """

    width: int
    height: int
    fps: float
    duration_us: int | None
    rotation: int
    codec: str
    decoder: str = ""


class Decoder(ABC):
    """Stays at one frame of a video, `time_us` after the video's start; steps forward or seeks.

    threads: codec threads; 0 means twice the cores. check: called before each frame that is decoded, also
    within a step or a seek; an exception from it ends that step or seek.
    """

    def __init__(self, path: Path, container: Container, threads: int, check: Callable[[], None]) -> None:
        self._path, self.container, self._check = path, container, check
        self._threads = threads or min(_MAX_THREADS, 2 * _cores())
        self._is_open = False
        self._origin_ms = self._reported_ms = 0.0
        self._interval_us: int | None = None  # between this frame and the one before, where both were seen
        self.sound_frames = REORDER_FRAMES  # since the last damage
        self.damaged = 0
        """How many times something could not be decoded."""
        self._at_start = False
        self.time_us = 0
        try:
            self._open()
            self.info = self._read_info()
            self._average_us = 1e6 / self.info.fps
            self._can_seek = container.can_seek and self._is_seekable()
            self._begin()
        except BaseException:
            self._release()
            raise

    @abstractmethod
    def _open(self) -> None:
        """Opens the file before its first frame. Raises `VideoUnreadable`."""

    @abstractmethod
    def _release(self) -> None:
        """Releases the file, if it is open."""

    @abstractmethod
    def _read_info(self) -> VideoInfo: ...

    @abstractmethod
    def _is_seekable(self) -> bool: ...

    @abstractmethod
    def _decode(self) -> bool:
        """Decodes the next frame; False at the end. Counts damage; calls `check`."""

    @abstractmethod
    def _time_ms(self) -> float | None:
        """The decoder's time of this frame, in ms after the start of its stream; None if it has none."""

    @abstractmethod
    def _jump(self, moment_us: int) -> bool:
        """Seeks near a moment (decoder's time, microseconds) and decodes a frame there; False if it fails."""

    @abstractmethod
    def retrieve(self) -> Frame:
        """This frame's picture. All pictures have the size of the first."""

    @abstractmethod
    def _lack(self) -> str:
        """Why no frame can be decoded although the file is complete."""

    def close(self) -> None:
        """Releases the file and the codec's memory; the next step or seek opens the video again."""
        self._release()
        self._is_open = False

    def grab(self) -> bool:
        """Steps to the next frame. Returns False at the end, without a step."""
        if not self._is_open:
            self._rewind()
        stale_frames = 0
        while self._decode():
            reported_ms = self._time_ms()
            if reported_ms is None:
                reported_ms = self._reported_ms + self._average_us / 1000
            time_us = round((reported_ms - self._origin_ms) * 1000)
            if time_us <= self.time_us:
                # After damage an overdue frame may come out, and is skipped. But joined MPEG-TS files start
                # their times again.
                stale_frames += 1
                if stale_frames <= REORDER_FRAMES:
                    continue
                time_us = self.time_us + round(stale_frames * self._average_us)
                self._origin_ms = reported_ms - time_us / 1000
            self._stand(reported_ms, time_us, interval_us=time_us - self.time_us)
            return True
        return False

    def may_be_nearest(self, moment_us: int) -> bool:
        """Whether this frame is the nearest to a moment, if the next one follows at the same interval."""
        return self._interval_us is None or 2 * (moment_us - self.time_us) <= self._interval_us + _JITTER_US

    def end_us(self) -> int:
        """The time up to which the last frame, the current one, answers for moments without a later frame.

        It is one millisecond less than the end of its display: some containers round to milliseconds, and a
        video of two seconds must not reach its third.
        """
        return max(self.time_us + 1, self._shown_until_us() - _MILLISECOND_US)

    def length_us(self) -> int:
        """When the display of the last frame, the current one, ends.

        It is the container's duration, if that agrees with the frame's end within a millisecond.
        """
        until_us, stated_us = self._shown_until_us(), self.info.duration_us
        agree = stated_us is not None and abs(stated_us - until_us) <= _MILLISECOND_US
        return stated_us if stated_us is not None and agree else until_us

    def _shown_until_us(self) -> int:
        """When the display of the last frame ends: as stated by the container, or estimated.

        The estimate is used if the container says nothing, or if more frames should follow. The last frame
        then lasts as long as the one before it, at most the average.
        """
        stated_us = self._stated_end_us()
        if stated_us is not None and stated_us > self.time_us and self.why_it_ends_early() is None:
            return stated_us
        if self._interval_us is None and not self._at_start:
            last_us = self.time_us
            self.seek(last_us - 1)
            while self.time_us < last_us and self.grab():
                pass
        return self.time_us + round(min(self._interval_us or self._average_us, self._average_us))

    def _stated_end_us(self) -> int | None:
        """When the display of the last frame ends by the container's data; None if it does not say."""
        return self.container.track.end_us

    def why_it_ends_early(self) -> str | None:
        """At the last frame: why frames that should follow are missing; None if none are."""
        last_us = self.container.track.last_us
        if last_us is not None and self.time_us + _JITTER_US >= last_us:
            return None
        damaged = "the rest of the file is damaged" if self.sound_frames < REORDER_FRAMES else None
        return self.container.cut_short or damaged

    def approach(self, moment_us: int, walk_us: int) -> None:
        """Moves close to a moment that is more than `walk_us` ahead, if the container allows it."""
        if not self._is_open:
            self._rewind()
        if self._can_seek and moment_us - self.time_us > walk_us:
            self.seek(moment_us)

    def seek(self, moment_us: int) -> None:
        """Moves to a frame at or before a moment (or to the first), near it if the container allows.

        Decoders may land anywhere: OpenCV converts times to frame numbers by the average rate, and FFmpeg
        drops leading pictures. But the time that they report for a frame is right. So a landing after the
        moment is noticed, and tried again from an earlier time.
        """
        margin_us = _SEEK_MARGIN_US
        while self._can_seek and margin_us < moment_us and self._is_open:
            if self._jump(moment_us - margin_us):
                reported_ms = self._time_ms()
                time_us = round(((reported_ms or 0.0) - self._origin_ms) * 1000)
                if reported_ms is not None and time_us <= moment_us:
                    self._stand(reported_ms, time_us, interval_us=None)
                    return
            margin_us *= 2
        self._rewind()

    def _rewind(self) -> None:
        self.close()
        self._open()
        self._begin()

    def _begin(self) -> None:
        if not self._decode():
            cause = self.container.cut_short or self._lack()
            raise VideoUnreadable(f"No frame of the video can be decoded: {cause}. {CONVERT}")
        self._is_open = True
        reported_ms = self._time_ms() or 0.0
        # MP4 and MKV state where their track starts. AVI has no presentation times, and with B-frames all
        # come out late; a stream may be cut inside a group of pictures. These start with the first decoded
        # frame.
        self._origin_ms = 0.0 if self.container.name in ("mp4", "matroska") else reported_ms
        self._stand(reported_ms, round((reported_ms - self._origin_ms) * 1000), interval_us=None)
        self._at_start = True

    def _stand(self, reported_ms: float, time_us: int, *, interval_us: int | None) -> None:
        self._reported_ms = reported_ms
        self.time_us = time_us
        self._interval_us = interval_us
        self._at_start = False


def check_size(width: int, height: int) -> None:
    """Raises `VideoUnreadable` for pictures without a size, or larger than any codec allows."""
    if width * height == 0:
        raise VideoUnreadable(f"No size of the pictures is found at the start of the video. {CONVERT}")
    if width * height > _MAX_PIXELS:
        raise VideoUnreadable(
            f"The pictures are said to be {width}x{height}: too large. Scale the video down."
        )


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
