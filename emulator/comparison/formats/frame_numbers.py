"""Converts between times, which predictions use, and frame numbers, which some formats use."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from emulator.comparison.matching import Box
from emulator.vertex.predictions import duration_text

GRID_US = 100_000
"""The sampling grid of predictions in the video's time. Each point is answered by the nearest frame."""


@dataclass(frozen=True)
class Footage:
    """The frames of a video: the start of each and the end of the last in microseconds, and their size."""

    times_us: Sequence[int]
    end_us: int
    width: int
    height: int

    def frame_at(self, time_us: int) -> int:
        """Return the number (from 0) of the frame nearest to a time; if two are equally near, the earlier."""
        after = min(bisect_left(self.times_us, time_us), len(self.times_us) - 1)
        before = max(after - 1, 0)
        earlier, later = self.times_us[before], self.times_us[after]
        return before if time_us - earlier <= later - time_us else after

    def points(self, frame: int) -> list[int]:
        """Return the grid points that a frame answers, in microseconds; many frames answer none."""
        first = -1 if frame == 0 else (self.times_us[frame - 1] + self.times_us[frame]) // 2
        last = frame == len(self.times_us) - 1
        reach = self.end_us - 1 if last else (self.times_us[frame] + self.times_us[frame + 1]) // 2
        return list(range((first // GRID_US + 1) * GRID_US, reach + 1, GRID_US))


Lookup = Callable[[str], Footage | None]
"""Returns the frames of a video by its name or its file name without suffix; None if it is missing."""


@dataclass(frozen=True)
class Thing:
    """An object in a video: its box at each time in microseconds, in units of the frame."""

    label: str
    boxes: Mapping[int, Box]
    confidence: float = 1.0


@dataclass
class Scene:
    """The objects of a video, and the intervals in which they were searched for, in microseconds."""

    things: list[Thing] = field(default_factory=list)
    looked: list[tuple[int, int]] = field(default_factory=list)


def required(video: str, footage: Lookup) -> Footage:
    """Return the frames of a video. Raises ValueError if it is missing."""
    found = footage(video)
    if found is None:
        raise ValueError(
            f"the video {video} is not there, whose frames are needed; give its folder with --videos:"
            " the one that holds the file itself"
        )
    return found


def frame_points(video: str, frame: int, footage: Lookup) -> list[int]:
    """Return the grid points that a frame of a video answers, in microseconds. Raises ValueError."""
    known = required(video, footage)
    if not 0 <= frame < len(known.times_us):
        raise ValueError(f"it has frame {frame} of {video}, which has frames 0 to {len(known.times_us) - 1}")
    return known.points(frame)


def frames_of(things: Sequence[Thing], known: Footage) -> list[dict[int, tuple[Box, list[int]]]]:
    """Return for each object, by frame number, its box and the times that the frame answers."""
    found = []
    for thing in things:
        frames: dict[int, tuple[Box, list[int]]] = {}
        for time_us, box in sorted(thing.boxes.items()):
            frames.setdefault(known.frame_at(time_us), (box, []))[1].append(time_us)
        found.append(frames)
    return found


def looked_at(scene: Scene, known: Footage) -> list[int]:
    """Return the frames that answer a grid point in a searched interval, and all frames with an object."""
    frames = {frame for frames in frames_of(scene.things, known) for frame in frames}
    for frame in range(len(known.times_us)):
        if any(start <= point < end for point in known.points(frame) for start, end in scene.looked):
            frames.add(frame)
    return sorted(frames)


def moments_text(moments: Sequence[int]) -> str:
    """Return times as one text, for formats without a field for time."""
    return " ".join(duration_text(moment) for moment in moments)


def stem(video: str) -> str:
    """Return the last part of a video's name without its suffix."""
    name = video.rpartition("/")[2]
    return name.rpartition(".")[0] or name


def stems(videos: Sequence[str]) -> dict[str, str]:
    """Return a file name for each video. Raises ValueError if two videos would share one."""
    named: dict[str, str] = {}
    for video in videos:
        if (other := named.setdefault(stem(video), video)) != video:
            raise ValueError(f"{other} and {video} would both be written as {stem(video)}")
    return {video: name for name, video in named.items()}


def json_text(value: object) -> str:
    """Return a value as JSON in the form of exported files."""
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"
