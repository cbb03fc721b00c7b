"""Decodes with OpenCV's FFmpeg."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import cv2
import numpy as np

from emulator.inference.container import Container, VideoUnreadable, refusal_without
from emulator.inference.container.video_tracks import Hide
from emulator.inference.decoder import CONVERT, REORDER_FRAMES, Decoder, VideoInfo, check_size
from emulator.inference.frames import PackedFrame

# OpenCV reads this when it opens a video. In a stream the first picture may come long after the first sound,
# and FFmpeg would search for its size for only five seconds. It still reads at most 5 MB for it.
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "analyzeduration;60000000")

NAME = f"OpenCV {cv2.__version__}"

_MAX_DAMAGED_FRAMES = 100_000
# A name with the suffix of a video is not taken for a pattern of picture files.
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


def quiet_opencv() -> None:
    """Keeps OpenCV and its FFmpeg from writing to stderr."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when the first video is opened
    # OpenCV 5 moved the function.
    set_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
    set_level(0)


class OpenCvDecoder(Decoder):
    """Reads the first video track that OpenCV finds; tracks before the wanted one are hidden from it."""

    _capture: cv2.VideoCapture | None = None
    _stream: _WithoutTracks | None = None

    def _open(self) -> None:
        if not self.container.opencv:
            raise VideoUnreadable(refusal_without(self.container))
        path = self._path
        options = [cv2.CAP_PROP_N_THREADS, self._threads]
        hidden = _hidden(self.container)
        is_pattern = _NAME_PATTERN.search(str(path)) and path.suffix.lower() not in _VIDEO_SUFFIXES
        if hidden or is_pattern:
            self._stream = _WithoutTracks(path, hidden)
        source = self._stream or str(path)
        self._capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, options)  # type: ignore[arg-type]
        if not self._capture.isOpened():
            raise VideoUnreadable(
                "The file has no video track that can be decoded: it holds only audio, is damaged, or uses "
                f"an unknown codec. {CONVERT}"
            )

    def _release(self) -> None:
        if self._capture is not None and self._stream is None:
            self._capture.release()
        # `release` would free a Python stream without holding the GIL, which crashes the process; the
        # destructor holds it.
        self._capture = None
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _is_seekable(self) -> bool:
        # OpenCV does not seek in a stream whose frames it cannot count.
        return self._get(cv2.CAP_PROP_FRAME_COUNT) > 1

    def _lack(self) -> str:
        codec = self.info.codec or "unnamed"
        if codec.lower() in ("av01", "av1") or self.container.track.codec == "av1":
            return (
                "it is AV1, which this OpenCV cannot decode; to have it decoded by PyAV, "
                '`pip install "vertex-batch-emulator[av]"`'
            )
        return f"it is damaged, or this OpenCV lacks its codec ({codec})"

    def _decode(self) -> bool:
        """See Decoder. OpenCV reports the end at each undecodable packet, but frames may follow."""
        if self._grab():
            self.sound_frames += 1
            return True
        average_us = 1e6 / self.info.fps
        left = int(((self.info.duration_us or 0) - self.time_us) / average_us)
        for _ in range(REORDER_FRAMES + min(max(left, 0), _MAX_DAMAGED_FRAMES)):
            if self._grab():
                self.sound_frames = 0
                self.damaged += 1
                return True
        return False

    def _grab(self) -> bool:
        self._check()
        assert self._capture is not None
        return bool(self._capture.grab())

    def _time_ms(self) -> float | None:
        # The last frame of an MPEG-4 avi has no time and reports 0.
        return self._get(cv2.CAP_PROP_POS_MSEC) or None

    def _jump(self, moment_us: int) -> bool:
        assert self._capture is not None
        self._capture.set(cv2.CAP_PROP_POS_MSEC, moment_us / 1000)
        return self._grab()

    def retrieve(self) -> PackedFrame:
        """See Decoder. OpenCV scales all pictures to the size of the first, and turns them upright."""
        assert self._capture is not None, "stands on no frame"
        found, picture = self._capture.retrieve()
        if not found or picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise VideoUnreadable(f"The video's frames cannot be converted to 8-bit colour. {CONVERT}")
        return PackedFrame(picture)

    def _read_info(self) -> VideoInfo:
        width, height = int(self._get(cv2.CAP_PROP_FRAME_WIDTH)), int(self._get(cv2.CAP_PROP_FRAME_HEIGHT))
        check_size(width, height)
        fps = self._get(cv2.CAP_PROP_FPS)
        fps = fps if 0 < fps < 1e5 else 25.0
        frames = self._get(cv2.CAP_PROP_FRAME_COUNT)
        code = int(self._get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True)
        return VideoInfo(
            width=width,
            height=height,
            fps=fps,
            duration_us=round(frames * 1e6 / fps) if frames > 0 else None,
            rotation=int(self._get(cv2.CAP_PROP_ORIENTATION_META)) % 360,
            codec=code.decode() if code.isalnum() and code.isascii() else "",
            decoder=NAME,
        )

    def _get(self, property_: int) -> float:
        assert self._capture is not None
        return float(self._capture.get(property_))


def _hidden(container: Container) -> list[Hide]:
    """The tracks before the wanted one. They must be hidden, because OpenCV reads the first track."""
    before = (container.tracks or ())[: container.chosen]
    return [track.hide for track in before if track.hide is not None]


class _WithoutTracks(io.BufferedIOBase):
    """A file object without a name, in which some tracks are hidden."""

    def __init__(self, path: Path, hidden: list[Hide]) -> None:
        self._file = path.open("rb")
        self._hidden = hidden

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int | None = -1) -> bytes:
        start = self._file.tell()
        content = self._file.read(size)
        for hide in self._hidden:
            place = hide.position - start
            if -len(hide.content) < place < len(content):
                changed = bytearray(content)
                for offset, value in enumerate(hide.content, place):
                    if 0 <= offset < len(changed):
                        changed[offset] = value
                content = bytes(changed)
        return content

    def close(self) -> None:
        self._file.close()
        super().close()
