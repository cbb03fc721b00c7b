"""OpenCV's FFmpeg decoder made dependable: honest times, checked seeks, damage that does not end a video."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from emulator.inference.container import VideoUnreadable, identify

# Read when a video is opened: in a stream the pictures may begin long after the sound, and FFmpeg would look
# for their size for five seconds only. It still reads no more than 5 MB to find it.
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "analyzeduration;60000000")

Picture = NDArray[np.uint8]

_SEEK_MARGIN_US = 250_000
# Containers that count milliseconds (WebM) jitter by one.
_JITTER_US = 2_000
_MILLISECOND_US = 1_000
# Frames that codecs hold back at most to bring them into order.
_REORDER_FRAMES = 16
_MAX_DAMAGED_FRAMES = 100_000
# Level 6.2 of AV1, the largest of any codec: 430 MB as a picture.
_MAX_PIXELS = 16_384 * 8_704
_MAX_THREADS = 16
_CONVERT = "Convert it, for example with: ffmpeg -i INPUT -c:v libx264 -pix_fmt yuv420p OUTPUT.mp4"

_NAME_PATTERN = re.compile(r"[%*?\[{]")
_VIDEO_SUFFIXES = frozenset(
    {
        "",
        ".mp4",
        ".m4v",
        ".mov",
        ".3gp",
        ".avi",
        ".mkv",
        ".webm",
        ".ts",
        ".m2ts",
        ".mts",
        ".mpg",
        ".mpeg",
        ".flv",
        ".wmv",
    }
)


@dataclass(frozen=True)
class VideoInfo:
    """`width` and `height` as displayed, that is after `rotation` (0, 90, 180 or 270 degrees clockwise).

    `fps` is the container's average and `duration_us` follows from it (None where the container does not
    say): both are for progress and estimates only. `codec` is the four-character code, or "".
    """

    width: int
    height: int
    fps: float
    duration_us: int | None
    rotation: int
    codec: str


def quiet_decoder() -> None:
    """Keeps FFmpeg and OpenCV from writing to stderr; to be called before the first video is opened.

    It holds for the whole process, so it is left to the one that owns stderr. What goes wrong is told by
    `VideoUnreadable` all the same.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when the first video is opened
    # OpenCV 5 moved the function.
    set_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
    set_level(0)


class Decoder:
    """Stands on one frame of a video, at `time_us` after the video's start, and steps forward or seeks.

    `threads` are the codec's own; 0 means twice the cores. `check` is called before each frame that is
    decoded, however many of them a step or a seek takes: what it raises ends that.
    """

    def __init__(self, path: Path, threads: int, check: Callable[[], None] = lambda: None) -> None:
        # An absolute path cannot be taken for a URL or for one of FFmpeg's protocols, a name that ends like a
        # video's not for a pattern of picture files.
        self._path = path.absolute()
        self._container = identify(self._path)
        if _NAME_PATTERN.search(str(self._path)) and self._path.suffix.lower() not in _VIDEO_SUFFIXES:
            raise VideoUnreadable("The video's name would be read as a pattern: rename it to end in .mp4.")
        self._check = check
        self._threads = threads or min(_MAX_THREADS, 2 * _cores())
        self._capture: cv2.VideoCapture | None = None
        self._origin_ms = self._reported_ms = 0.0
        self._interval_us: int | None = None  # between this frame and the one before, where both were seen
        self._sound_frames = _REORDER_FRAMES  # since the last damage
        self._at_start = False
        self.time_us = 0
        capture = self._open()
        try:
            self.info = _read_info(capture)
            self._average_us = 1e6 / self.info.fps
            # OpenCV does not move at all in a stream whose frames it cannot count.
            self._can_seek = self._container.can_seek and capture.get(cv2.CAP_PROP_FRAME_COUNT) > 1
            self._begin(capture)
        except BaseException:
            capture.release()
            raise

    def close(self) -> None:
        """Releases the file and the codec's memory; the next step or seek opens the video again."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def grab(self) -> bool:
        """Steps to the next frame; False, and no step, at the end."""
        capture = self._capture or self._rewind()
        stale_frames = 0
        while self._decode(capture):
            # The last frame of an MPEG-4 avi has no time and reports 0.
            reported_ms = capture.get(cv2.CAP_PROP_POS_MSEC) or self._reported_ms + self._average_us / 1000
            time_us = round((reported_ms - self._origin_ms) * 1000)
            if time_us <= self.time_us:
                # Behind damage a frame may come out that was due long before. But joined MPEG-TS files start
                # their times again.
                stale_frames += 1
                if stale_frames <= _REORDER_FRAMES:
                    continue
                time_us = self.time_us + round(stale_frames * self._average_us)
                self._origin_ms = reported_ms - time_us / 1000
            self._stand(reported_ms, time_us, interval_us=time_us - self.time_us)
            return True
        return False

    def retrieve(self) -> Picture:
        """The picture of this frame: BGR, upright. OpenCV scales all to the size of the first."""
        assert self._capture is not None, "stands on no frame"
        picture: Picture
        found, picture = self._capture.retrieve()
        if not found or picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise VideoUnreadable(f"The video's frames cannot be converted to 8-bit colour. {_CONVERT}")
        return picture

    def may_be_nearest(self, moment_us: int) -> bool:
        """Whether this frame is the nearest if the next one comes after the same interval as this did."""
        return self._interval_us is None or 2 * (moment_us - self.time_us) <= self._interval_us + _JITTER_US

    def end_us(self) -> int:
        """Until when the last frame, on which this stands, answers for moments that nothing follows.

        One millisecond less than until it ceases to be shown: where a container rounds to milliseconds, a
        video of two seconds must not reach its third.
        """
        return max(self.time_us + 1, self._shown_until_us() - _MILLISECOND_US)

    def length_us(self) -> int:
        """When the last frame, on which this stands, ceases to be shown: the container's word for it, where
        that agrees to a millisecond."""
        until_us, stated_us = self._shown_until_us(), self.info.duration_us
        agree = stated_us is not None and abs(stated_us - until_us) <= _MILLISECOND_US
        return stated_us if stated_us is not None and agree else until_us

    def _shown_until_us(self) -> int:
        """The last frame lasts as long as the one before it, at most the average."""
        if self._interval_us is None and not self._at_start:
            last_us = self.time_us
            self.seek(last_us - 1)
            while self.time_us < last_us and self.grab():
                pass
        return self.time_us + round(min(self._interval_us or self._average_us, self._average_us))

    def why_it_ends_early(self) -> str | None:
        """What is known, at the last frame, about frames that should follow."""
        damaged = "the rest of the file is damaged" if self._sound_frames < _REORDER_FRAMES else None
        return self._container.cut_short or damaged

    def approach(self, moment_us: int, walk_us: int) -> None:
        """Moves close to a moment that is further ahead than `walk_us`, where the container allows."""
        if self._capture is None:
            self._rewind()
        if self._can_seek and moment_us - self.time_us > walk_us:
            self.seek(moment_us)

    def seek(self, moment_us: int) -> None:
        """Stands on a frame at or before a moment (or on the first), near it where the container allows.

        OpenCV turns times into frame numbers by the average rate and may land anywhere, but the time that it
        reports after a grab is right: a landing after the moment is seen, and tried again from further ahead.
        """
        margin_us = _SEEK_MARGIN_US
        while self._can_seek and margin_us < moment_us and self._capture is not None:
            self._capture.set(cv2.CAP_PROP_POS_MSEC, (moment_us - margin_us) / 1000)
            if self._grab(self._capture):
                reported_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)
                time_us = round((reported_ms - self._origin_ms) * 1000)
                if reported_ms != 0 and time_us <= moment_us:
                    self._stand(reported_ms, time_us, interval_us=None)
                    return
            margin_us *= 2
        self._rewind()

    def _open(self) -> cv2.VideoCapture:
        options = [cv2.CAP_PROP_N_THREADS, self._threads]
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG, options)
        if not capture.isOpened():
            raise VideoUnreadable(
                "The file has no video track that can be decoded: it holds only audio, is damaged, or uses "
                f"an unknown codec. {_CONVERT}"
            )
        return capture

    def _rewind(self) -> cv2.VideoCapture:
        self.close()
        capture = self._open()
        self._begin(capture)
        return capture

    def _begin(self, capture: cv2.VideoCapture) -> None:
        if not self._decode(capture):
            lack = f"it is damaged, or this OpenCV lacks its codec ({self.info.codec or 'unnamed'})"
            cause = self._container.cut_short or lack
            raise VideoUnreadable(f"No frame of the video can be decoded: {cause}. {_CONVERT}")
        self._capture = capture
        reported_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
        # An mp4 or mkv states where its track starts. An avi has no times of presentation, and with B-frames
        # all come out late; a stream may be cut into a group of pictures: these start with what is decoded.
        self._origin_ms = 0.0 if self._container.name in ("mp4", "matroska") else reported_ms
        self._stand(reported_ms, round((reported_ms - self._origin_ms) * 1000), interval_us=None)
        self._at_start = True

    def _decode(self, capture: cv2.VideoCapture) -> bool:
        """One more frame. OpenCV reports the end at each packet that it cannot decode; others may follow."""
        if self._grab(capture):
            self._sound_frames += 1
            return True
        left = int(((self.info.duration_us or 0) - self.time_us) / self._average_us)
        for _ in range(_REORDER_FRAMES + min(max(left, 0), _MAX_DAMAGED_FRAMES)):
            if self._grab(capture):
                self._sound_frames = 0
                return True
        return False

    def _grab(self, capture: cv2.VideoCapture) -> bool:
        self._check()
        return bool(capture.grab())

    def _stand(self, reported_ms: float, time_us: int, *, interval_us: int | None) -> None:
        self._reported_ms = reported_ms
        self.time_us = time_us
        self._interval_us = interval_us
        self._at_start = False


def _read_info(capture: cv2.VideoCapture) -> VideoInfo:
    width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    if width * height == 0:
        raise VideoUnreadable(f"No size of the pictures is found at the start of the video. {_CONVERT}")
    if width * height > _MAX_PIXELS:
        raise VideoUnreadable(
            f"The pictures are said to be {width}x{height}: too large. Scale the video down."
        )
    fps = capture.get(cv2.CAP_PROP_FPS)
    fps = fps if 0 < fps < 1e5 else 25.0
    frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    code = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True)
    return VideoInfo(
        width=width,
        height=height,
        fps=fps,
        duration_us=round(frames * 1e6 / fps) if frames > 0 else None,
        rotation=int(capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 360,
        codec=code.decode() if code.isalnum() and code.isascii() else "",
    )


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
