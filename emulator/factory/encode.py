"""Writes pictures into a video file with OpenCV's encoder; the suffix chooses the container."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""BGR pixels, shape (height, width, 3)."""

CODECS: Mapping[str, tuple[str, ...]] = {
    ".mp4": ("mp4v", "vp09"),
    ".mov": ("mp4v",),
    ".avi": ("MJPG", "XVID"),
    ".webm": ("VP90", "VP80"),
}
"""The codecs (FourCC) each container can carry; the first is the default. VP90 is ten times slower."""

MIN_FPS, MAX_FPS = 1.0, 120.0
MIN_SIDE, MAX_SIDE = 16, 4096


class FactoryError(ValueError):
    """The clip cannot be made as specified. The message names the value and the remedy."""


def check_size(size: tuple[int, int]) -> None:
    """Raises FactoryError unless (width, height) is even and within the range of the encoders."""
    for name, side in zip(("width", "height"), size, strict=True):
        if side % 2 or not MIN_SIDE <= side <= MAX_SIDE:
            raise FactoryError(
                f"The clip's {name} is {side}; give an even number of pixels from {MIN_SIDE} to {MAX_SIDE}."
            )


def check_fps(fps: float) -> None:
    """Raises FactoryError unless the encoders support the frame rate."""
    if not MIN_FPS <= fps <= MAX_FPS:
        raise FactoryError(f"The clip's fps is {fps}; give a frame rate from {MIN_FPS:g} to {MAX_FPS:g}.")


def choose_codec(path: Path, codec: str | None) -> str:
    """The FourCC for a file name; raises FactoryError for a container or codec that cannot be written."""
    offered = CODECS.get(path.suffix.lower())
    if offered is None:
        raise FactoryError(f"Cannot write {path.name!r}; end the name in one of {', '.join(CODECS)}.")
    if codec is None:
        return offered[0]
    if codec not in offered:
        raise FactoryError(f"A {path.suffix} file cannot hold codec {codec!r}; use {' or '.join(offered)}.")
    return codec


class Encoder:
    """One video file being written; a context manager. Frame n gets the timestamp n / fps.

    >>> with Encoder(Path("clip.mp4"), size=(640, 360), fps=30) as encoder:
    ...     encoder.write(picture)
    """

    def __init__(self, path: Path, *, size: tuple[int, int], fps: float, codec: str | None = None) -> None:
        check_size(size)
        check_fps(fps)
        self._path = path
        self._shape = (size[1], size[0], 3)
        fourcc = cv2.VideoWriter.fourcc(*choose_codec(path, codec))
        if not path.parent.is_dir():
            raise FactoryError(f"The folder {path.parent} does not exist; create it first.")
        self._writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, float(fps), size)
        if not self._writer.isOpened():
            raise FactoryError(f"OpenCV could not open {path} for writing; is the folder writable?")

    def write(self, picture: Picture) -> None:
        """Appends one picture of the encoder's size."""
        if picture.shape != self._shape:
            raise FactoryError(f"A picture has shape {picture.shape}; this encoder takes {self._shape}.")
        self._writer.write(picture)

    def close(self) -> None:
        self._writer.release()

    def __enter__(self) -> Encoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
