"""Finds local copies of videos for commands that need their frames."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emulator.cli.options import PATH
from emulator.cli.terminal import fail, warn

if TYPE_CHECKING:
    from emulator.comparison.formats.frame_numbers import Footage
    from emulator.inference.video import Picture

_GRID_US = 100_000
_WIDTH, _QUALITY = 640, 80
_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".ts", ".mpeg", ".mpg")

VideosOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--videos", metavar=PATH, help="Where the videos lie: a folder of files or of buckets. Repeatable."
    ),
]


class Videos:
    """The videos in folders, found by gs:// name, by file name, or by file name without suffix."""

    def __init__(self, folders: list[Path]) -> None:
        for folder in folders:
            if not folder.is_dir():
                fail(f"--videos is {folder}, which is no folder.")
        self._folders = folders
        self.footage = cache(self._footage)

    def path(self, video: str) -> Path | None:
        """Return the path of a video; None if no folder has it."""
        plain = video.removeprefix("gs://")
        if any(part == ".." for part in Path(plain).parts):
            return None
        names = (plain, plain.rpartition("/")[2])
        exact = [folder / name for folder in self._folders for name in names]
        found = next((path for path in exact if path.is_file()), None)
        if found is not None or not names[1]:
            return found
        near = [folder / f"{names[1]}{suffix}" for folder in self._folders for suffix in _SUFFIXES]
        return next((path for path in near if path.is_file()), None)

    def still(self, video: str, moment_s: float) -> bytes | None:
        """Return the frame nearest to a time as JPEG; None if the video is missing or has no such frame."""
        path = self.path(video)
        return None if path is None else _still(path, round(moment_s * 1e6))

    def _footage(self, video: str) -> "Footage | None":
        path = self.path(video)
        return None if path is None else read_footage(path)


def read_footage(path: Path) -> "Footage":
    """Return the frames' times, from the decoder. Exit with an error if the video cannot be read."""
    from emulator.comparison.formats.frame_numbers import Footage
    from emulator.inference.container import VideoUnreadable
    from emulator.inference.open_decoder import open_decoder, quiet_decoder

    quiet_decoder()
    try:
        decoder, _ = open_decoder(path, "auto", 0, lambda: None)
        try:
            times = [decoder.time_us]
            while decoder.grab():
                times.append(decoder.time_us)
            cause, info = decoder.why_it_ends_early(), decoder.info
            found = Footage(times, decoder.end_us(), info.width, info.height)
        finally:
            decoder.close()
    except (VideoUnreadable, OSError) as error:
        fail(f"{path}: {error}")
    if cause:
        warn(f"{path} ends early, at {times[-1] / 1e6:.3f} s: {cause}.")
    return found


def _still(path: Path, moment_us: int) -> bytes | None:
    from emulator.inference.container import VideoUnreadable
    from emulator.inference.open_decoder import quiet_decoder
    from emulator.inference.video import FrameSource

    quiet_decoder()
    # The nearest point of the sampling grid, because its frame is the one that the model saw.
    point_us = round(moment_us / _GRID_US) * _GRID_US
    try:
        with FrameSource(path) as source:
            samples = source.sample(_GRID_US, [(point_us, point_us + 1)], _jpeg)
            return next((sample.data for sample in samples), None)
    except (VideoUnreadable, OSError) as error:
        fail(f"{path}: {error}")


def _jpeg(picture: "Picture") -> bytes:
    import cv2

    height, width = picture.shape[:2]
    if width > _WIDTH:
        size = _WIDTH, max(1, height * _WIDTH // width)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    found: bytes = data.tobytes()
    return found
