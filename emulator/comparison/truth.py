"""The truth of a rendered video, as JSON, and the predictions of a perfect job for a part of it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from emulator.comparison.matching import WITHIN_S, Label
from emulator.vertex.objectives.classification import SECOND, SEGMENT
from emulator.vertex.predictions import duration_text

_DURATION = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?s?")
_GRID_S = 0.1

Stretch = tuple[float, float]
"""Start and end in seconds."""


@dataclass(frozen=True)
class Truth:
    """The truth of a whole video, times in seconds. tracks, actions: in the form of `prediction` lists."""

    duration: float
    cuts: Sequence[float]
    tracks: Sequence[Mapping[str, Any]]
    actions: Sequence[Mapping[str, Any]]

    @staticmethod
    def read(members: Any) -> Truth:
        """Parse the JSON of a truth. Raises ValueError."""
        try:
            return Truth(
                seconds(members["duration"]),
                [seconds(cut) for cut in members.get("cuts", ())],
                _timed(members["objectTracking"]),
                _timed(members["actionRecognition"]),
            )
        except (KeyError, TypeError, AttributeError):
            raise ValueError(
                'its "truth" is not as the factory writes it: {"duration", "cuts", "objectTracking",'
                ' "actionRecognition"}'
            ) from None

    def predictions(
        self, objective: str, segment: Stretch, types: Sequence[str], _stretches: object = (), /
    ) -> list[Mapping[str, Any]]:
        """Return the `prediction` list of a perfect job for a segment. `types`: of a classification."""
        if objective == "object_tracking":
            return [one for one in (_cut(track, segment) for track in self.tracks) if one is not None]
        if objective == "action_recognition":
            return [one for one in self.actions if _within(seconds(one["timeSegmentStart"]), segment)]
        seen: dict[str, list[float]] = {}
        for track in self.tracks:
            times = (seconds(frame["timeOffset"]) for frame in track.get("frames", ()))
            seen.setdefault(str(track["displayName"]), []).extend(times)
        return [
            {
                "displayName": one.label,
                "type": one.type,
                "timeSegmentStart": duration_text(round(one.start * 1e6)),
                "timeSegmentEnd": duration_text(round(one.end * 1e6)),
                "confidence": 1.0,
            }
            for one in labels_of(seen, self.duration, self.cuts, types, segment=segment)
        ]


def labels_of(
    seen: Mapping[str, Sequence[float]],
    duration: float,
    cuts: Sequence[float],
    types: Sequence[str],
    *,
    segment: Stretch = (0.0, math.inf),
    within: float = WITHIN_S,
) -> list[Label]:
    """Return the labels that are visible at some time in each interval of the given types.

    Args:
        seen: the times, in seconds, at which each label is visible.
        duration: of the video, in seconds.
        cuts: the times of shot changes, in seconds.
        types: the classification types.
        segment: start and end in seconds.
        within: the tolerance of the labels, in seconds.
    """
    return [
        Label(name, shown[0], shown[1], kind, within)
        for kind in types
        for stretch, shown in _stretches(kind, duration, cuts, segment)
        for name in sorted(seen)
        if any(_within(time, stretch) for time in seen[name])
    ]


def _stretches(
    kind: str, duration: float, cuts: Sequence[float], segment: Stretch
) -> Iterator[tuple[Stretch, Stretch]]:
    """Yield each interval of a type, and the start and end that its predictions have."""
    start, end = segment[0], min(segment[1], duration)
    if kind == SEGMENT:
        # Vertex: a requested end is returned unchanged, even after the video's end (recorded output).
        yield (start, end), (start, duration if math.isinf(segment[1]) else segment[1])
    elif kind == SECOND:
        for number in range(math.ceil(round(end - start, 6))):
            second = start + number, min(start + number + 1, end)
            # Vertex: start and end are the same time inside the second (recorded output).
            # Emulator: the middle, as its own classifiers have it.
            middle = round(sum(second) / 2, 6)
            yield second, (middle, middle)
    else:
        for shot in pairwise((start, *(cut for cut in cuts if start < cut < end), end)):
            yield shot, shot


def _cut(track: Mapping[str, Any], segment: Stretch) -> Mapping[str, Any] | None:
    """Return the part of a track in a segment; None if there is none."""
    frames = [frame for frame in track.get("frames", ()) if _within(seconds(frame["timeOffset"]), segment)]
    if not frames:
        return None
    ends = {"timeSegmentStart": frames[0]["timeOffset"], "timeSegmentEnd": frames[-1]["timeOffset"]}
    return {**track, **ends, "frames": frames}


def _within(time: float, stretch: Stretch) -> bool:
    return stretch[0] - 1e-9 <= time < stretch[1] - 1e-9


def _timed(predictions: Any) -> Sequence[Mapping[str, Any]]:
    for one in predictions:
        seconds(one["timeSegmentStart"])
        for frame in one.get("frames", ()):
            seconds(frame["timeOffset"])
    return list(predictions)


def seconds(duration: object) -> float:
    """Parse a Duration such as "1.200s" into seconds; None gives 0. Raises ValueError."""
    text = "0s" if duration is None else str(duration)
    if not _DURATION.fullmatch(text):
        raise ValueError(f'{text[:40]!r} is no duration; write one as in "1.200s"')
    return float(text.removesuffix("s"))


def snake_too(members: Mapping[str, Any], name: str) -> Any:
    """Return a member by its camelCase or snake_case name, `xMin` or `x_min`; None if it is missing."""
    if name in members:
        return members[name]
    return members.get(re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name))
