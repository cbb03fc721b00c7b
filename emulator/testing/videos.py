"""Videos for tests: rendered once, with their truth, and put into a bucket."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator import __version__
from emulator.comparison.matching import Action, Expected, Track
from emulator.testing.labels import classifications, labels_of
from emulator.vertex.objectives.classification import SEGMENT

if TYPE_CHECKING:
    from emulator.factory import Clip, Film, Truth, TruthTrack

OBJECTIVES = ("object_tracking", "action_recognition", "classification")

_MIME_TYPES = {
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".avi": "video/avi",
    ".mkv": "video/x-matroska",
}


@dataclass(frozen=True, repr=False)
class Video:
    """A video in a bucket, with its truth."""

    uri: str
    path: Path
    truth: Truth

    def __repr__(self) -> str:
        seen = "; ".join(map(str, [*_seen(self.truth), *self.expected("action_recognition")]))
        return f"<Video {self.uri}: {seen or 'nothing is known of it'}>"

    def instance(self, start: str = "0s", end: str = "Infinity") -> dict[str, str]:
        """The video's line in an input file, for a segment of it."""
        return instance_of(self.uri, start, end)

    @property
    def objective(self) -> str:
        """The objective of its truth: action recognition if it has only actions, else object tracking."""
        actions_alone = self.truth.actions and not self.truth.tracks
        return "action_recognition" if actions_alone else "object_tracking"

    def expected(
        self,
        objective: str | None = None,
        *,
        types: Sequence[str] = (SEGMENT,),
        within: float = 0.1,
        iou: float = 0.8,
    ) -> list[Expected]:
        """The predictions of a good model for the whole video.

        Args:
            objective: `object_tracking`, `action_recognition` or `classification`; by default that of the
                video, as for `canned`.
            types: for classification, which types; a job gives segments alone unless it asks for more.
            within: tolerance for start and end, in seconds.
            iou: least overlap of boxes.

        Raises ValueError for any other objective or type.
        """
        match self._known(objective):
            case "object_tracking":
                return [_track(one, within, iou) for one in self.truth.tracks]
            case "action_recognition":
                return [Action(moment.label, moment.time, within) for moment in self.truth.actions]
            case _:
                return [*labels_of(self.truth, types, within)]

    def answer(
        self, objective: str | None = None, *, types: Sequence[str] = (SEGMENT,)
    ) -> list[dict[str, Any]]:
        """The truth as the `prediction` list of an output line; arguments as for `expected`."""
        match self._known(objective):
            case "object_tracking":
                return self.truth.object_tracking()
            case "action_recognition":
                return self.truth.action_recognition()
            case _:
                return classifications(self.truth, types)

    def _known(self, objective: str | None) -> str:
        if objective is not None and objective not in OBJECTIVES:
            raise ValueError(f"objective is {objective!r}; use one of {', '.join(OBJECTIVES)}.")
        return objective or self.objective


def _seen(truth: Truth) -> list[str]:
    return [
        f"{one.label} {one.frames[0].time_us / 1e6:g}-{one.frames[-1].time_us / 1e6:g} s"
        for one in truth.tracks
    ]


def _track(one: TruthTrack, within: float, iou: float) -> Track:
    boxes = {box.time_us / 1e6: (box.x_min, box.y_min, box.x_max, box.y_max) for box in one.frames}
    return Track(one.label, min(boxes), max(boxes), within, iou, boxes)


def instance_of(uri: str, start: str = "0s", end: str = "Infinity") -> dict[str, str]:
    """The line of an input file that asks for a segment of a video."""
    mime_type = _MIME_TYPES.get(Path(uri).suffix.lower(), "video/mp4")
    return {"content": uri, "mimeType": mime_type, "timeSegmentStart": start, "timeSegmentEnd": end}


class Videos:
    """Rendered clips in a folder that several processes may share; the same clip is rendered once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def render(self, clip: Clip | Film, suffix: str) -> tuple[Path, Truth]:
        """The file of a clip, which must not be changed, and its truth."""
        # A clip is data: equal texts give equal pictures.
        key = hashlib.sha256(f"{__version__}\0{clip!r}\0{suffix}".encode()).hexdigest()[:20]
        video, notes = self._folder / f"{key}{suffix}", self._folder / f"{key}.truth"
        if not notes.exists():
            self._make(clip, video, notes)
        truth: Truth = pickle.loads(notes.read_bytes())
        return video, truth

    def _make(self, clip: Clip | Film, video: Path, notes: Path) -> None:
        from emulator.factory import render

        self._folder.mkdir(parents=True, exist_ok=True)
        ours = f"{os.getpid()}-"
        made = video.with_name(ours + video.name)
        truth = replace(render(clip, made), path=video)
        written = notes.with_name(ours + notes.name)
        written.write_bytes(pickle.dumps(truth))
        # The notes are renamed last: if they exist, the video is complete.
        made.replace(video)
        written.replace(notes)


def as_instance(entry: Video | str | Mapping[str, Any]) -> Mapping[str, Any]:
    """Turn a test's short form of an instance into an instance."""
    if isinstance(entry, Video):
        return entry.instance()
    return instance_of(entry) if isinstance(entry, str) else entry
