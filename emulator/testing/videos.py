"""Videos for tests: rendered once, with their truth, and put into a bucket."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator import __version__
from emulator.testing.expectations import Action, Track

if TYPE_CHECKING:
    from emulator.factory import Clip, Truth

_MIME_TYPES = {
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".avi": "video/avi",
    ".mkv": "video/x-matroska",
}


@dataclass(frozen=True)
class Video:
    """A video in a bucket, and what is to be seen in it."""

    uri: str
    path: Path
    truth: Truth

    def instance(self, start: str = "0s", end: str = "Infinity") -> dict[str, str]:
        """Its line of an input file, for a segment of it."""
        return instance_of(self.uri, start, end)

    def expected(self, *, within: float = 0.1, iou: float = 0.8) -> list[Track | Action]:
        """What a good model predicts for the whole video: its objects, then its actions."""
        tracks: list[Track | Action] = [
            Track(
                one.label,
                one.frames[0].time_us / 1e6,
                one.frames[-1].time_us / 1e6,
                within,
                iou,
                {box.time_us / 1e6: (box.x_min, box.y_min, box.x_max, box.y_max) for box in one.frames},
            )
            for one in self.truth.tracks
        ]
        return tracks + [Action(moment.label, moment.time, within) for moment in self.truth.actions]


def instance_of(uri: str, start: str = "0s", end: str = "Infinity") -> dict[str, str]:
    """The line of an input file that asks for a segment of a video."""
    mime_type = _MIME_TYPES.get(Path(uri).suffix.lower(), "video/mp4")
    return {"content": uri, "mimeType": mime_type, "timeSegmentStart": start, "timeSegmentEnd": end}


class Videos:
    """Rendered clips in a folder that several processes may share; the same clip is rendered once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def render(self, clip: Clip, suffix: str) -> tuple[Path, Truth]:
        """The file of a clip, not to be changed, and its truth."""
        # A clip is data: the same words give the same pictures.
        key = hashlib.sha256(f"{__version__}\0{clip!r}\0{suffix}".encode()).hexdigest()[:20]
        video, notes = self._folder / f"{key}{suffix}", self._folder / f"{key}.truth"
        if not notes.exists():
            self._make(clip, video, notes)
        truth: Truth = pickle.loads(notes.read_bytes())
        return video, truth

    def _make(self, clip: Clip, video: Path, notes: Path) -> None:
        from emulator.factory import render

        self._folder.mkdir(parents=True, exist_ok=True)
        ours = f"{os.getpid()}-"
        made = video.with_name(ours + video.name)
        truth = replace(render(clip, made), path=video)
        written = notes.with_name(ours + notes.name)
        written.write_bytes(pickle.dumps(truth))
        # The notes come last: where they are, the video is whole.
        made.replace(video)
        written.replace(notes)


def as_instance(entry: Video | str | Mapping[str, Any]) -> Mapping[str, Any]:
    """What a test calls an instance, as one."""
    if isinstance(entry, Video):
        return entry.instance()
    return instance_of(entry) if isinstance(entry, str) else entry
