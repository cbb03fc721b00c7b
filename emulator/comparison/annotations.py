"""Human annotations of videos: Vertex's import files, in JSON Lines and in AutoML's CSV.

Vertex: `video_object_tracking_io_format_1.0.0.yaml`, `video_action_recognition_io_…` and
`video_classification_io_…` define the shapes. The documentation writes both `timeOffset` and `time_offset`.
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from emulator.comparison.matching import Box
from emulator.comparison.truth import seconds, snake_too
from emulator.members import objects
from emulator.vertex.objectives.classification import SEGMENT
from emulator.vertex.predictions import duration_text

REACH_S = 0.05
"""The longest time, in seconds, between a predicted box and its annotated time: half the 0.1 s grid."""

_EPSILON_S = 1e-6
_MOST = 2.0  # Boxes may exceed the frame, but not by its size: then they are in pixels.
_EDGES = ("xMin", "yMin", "xMax", "yMax")
_USES = {"train": "training", "validate": "validation"}
_BOXES, _SPANS, _STRETCHES = "temporalBoundingBoxAnnotations", "timeSegmentAnnotations", "timeSegments"
_USE_LABEL = "ml_use"
_ALONE = "#"
"""The prefix of the generated id of an object that was not tracked from frame to frame."""

Span = tuple[str, float, float]
"""A label with the start and end, in seconds, of its appearance or action."""


@dataclass(frozen=True)
class Annotated:
    """The annotations of a video.

    boxes: by label and object, the box at each annotated time in seconds.
    spans: labels with start and end.
    moments: the times, in seconds, at which every object is annotated; nothing is known about other times.
        None means the times of the boxes.
    judged: the intervals in which every action is annotated; empty means the whole video.
    use: "training", "validation", "test" or "".
    size: width and height in pixels, if the file gives them.
    confidences: by label and object, for annotations that a model made.
    """

    boxes: Mapping[tuple[str, str], Mapping[float, Box]] = field(default_factory=dict)
    spans: Sequence[Span] = ()
    moments: Sequence[float] | None = None
    judged: Sequence[tuple[float, float]] = ()
    use: str = ""
    size: tuple[int, int] | None = None
    confidences: Mapping[tuple[str, str], float] = field(default_factory=dict)

    @staticmethod
    def of(parts: Sequence[Annotated]) -> Annotated:
        """Merge several annotations of one video."""
        boxes: dict[tuple[str, str], dict[float, Box]] = {}
        for part in parts:
            for (label, thing), more in part.boxes.items():
                if thing.startswith(_ALONE) and (label, thing) in boxes:
                    thing = f"{thing} {len(boxes)}"
                boxes.setdefault((label, thing), {}).update(more)
        listed = [part.moments for part in parts if part.moments is not None]
        return Annotated(
            boxes,
            list(chain.from_iterable(part.spans for part in parts)),
            sorted(set(chain.from_iterable(listed))) if listed else None,
            list(dict.fromkeys(chain.from_iterable(part.judged for part in parts))),
            next((part.use for part in parts if part.use), ""),
            next((part.size for part in parts if part.size), None),
            dict(chain.from_iterable(part.confidences.items() for part in parts)),
        )

    def last(self) -> float:
        """Return the latest finite time of the annotations, in seconds."""
        ends = [end if math.isfinite(end) else start for _, start, end in self.spans]
        return max([0.0, *ends, *chain.from_iterable(self.boxes.values())])

    def about(self) -> str:
        """Return the objective that the annotations imply, "" if unclear."""
        if self.boxes or self.moments:
            return "object_tracking"
        if self.judged or (self.spans and all(start == end for _, start, end in self.spans)):
            return "action_recognition"
        return ""

    def predictions(
        self,
        objective: str,
        segment: tuple[float, float],
        types: Sequence[str],
        stretches: Sequence[tuple[str, float, float]] = (),
        /,
    ) -> list[dict[str, Any]]:
        """Return the predictions of a perfect job for a segment; see `lines.Whole`."""
        if objective == "object_tracking":
            return list(self._tracks(segment))
        if objective == "action_recognition":
            middles = [(label, (start + end) / 2, (end - start) / 2) for label, start, end in self.spans]
            return [_action(*one) for one in middles if _inside(one[1], segment)]
        asked = dict.fromkeys(stretches)
        if SEGMENT in types or not asked:
            asked[SEGMENT, segment[0], segment[1]] = None
        return [
            _labelled(label, *stretch)
            for stretch in _with_ends(list(asked), max(self.last(), segment[0]))
            for label in sorted({span[0] for span in self.spans if _meets(span, stretch)})
        ]

    def judge(self, predictions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return the other side's predictions, restricted to what the annotations can judge.

        Tracks keep only boxes at annotated times. A prediction outside those times gets `judged` false.
        """
        if self.about() == "object_tracking":
            moments = sorted(self._moments())
            return [_at(one, moments) for one in predictions]
        if not self.judged:
            return list(predictions)
        return [
            one if any(_inside(_start(one), part) for part in self.judged) else {**one, "judged": False}
            for one in predictions
        ]

    def _moments(self) -> set[float]:
        return set(chain.from_iterable(self.boxes.values()) if self.moments is None else self.moments)

    def _tracks(self, segment: tuple[float, float]) -> Iterator[dict[str, Any]]:
        for (label, thing), boxes in self.boxes.items():
            inside = {time: box for time, box in sorted(boxes.items()) if _inside(time, segment)}
            if inside:
                yield {
                    "id": thing,
                    "displayName": label,
                    "timeSegmentStart": _duration(min(inside)),
                    "timeSegmentEnd": _duration(max(inside)),
                    "confidence": self.confidences.get((label, thing), 1.0),
                    "frames": [_frame(time, box) for time, box in inside.items()],
                }


def is_annotated(line: Mapping[str, Any]) -> bool:
    """Return whether a JSON line belongs to an import file."""
    return snake_too(line, "videoGcsUri") is not None


def read_import_line(line: Mapping[str, Any]) -> tuple[str, Annotated]:
    """Return the video and the annotations of a line of an import file. Raises ValueError."""
    video = snake_too(line, "videoGcsUri")
    if not isinstance(video, str) or not video:
        raise ValueError('its "videoGcsUri" is no name of a video')
    boxes: dict[tuple[str, str], dict[float, Box]] = {}
    for number, one in enumerate(_list(line, _BOXES), start=1):
        try:
            _add_box(boxes, number, *_box_of(one))
        except ValueError as error:
            raise ValueError(f"box {number}: {error}") from None
    spans = [_span_of(number, one) for number, one in enumerate(_list(line, _SPANS), start=1)]
    judged = [_span_of(number, one)[1:] for number, one in enumerate(_list(line, _STRETCHES), start=1)]
    return video, Annotated(boxes, spans, None, judged, _use_of(line))


def read_csv(text: str) -> Iterator[tuple[int, str, Annotated | ValueError]]:
    """Yield for each row its number, its video and its annotation, or ("", ValueError) if it is invalid."""
    for number, row in enumerate(_rows(text), start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and not any(cell.startswith("gs://") for cell in cells)):
            continue  # a header
        try:
            yield number, *_row_of(number, cells)
        except ValueError as error:
            yield number, "", error


def _rows(text: str) -> Iterator[list[str]]:
    try:
        yield from csv.reader(text.splitlines())
    except csv.Error as error:
        raise ValueError(f"it is no CSV: {error}") from None


def _row_of(number: int, cells: list[str]) -> tuple[str, Annotated]:
    use = "" if cells[0].startswith("gs://") else cells.pop(0)
    if not cells or not cells[0].startswith("gs://"):
        raise ValueError("it names no video; write gs://… first, or after the set that it is for")
    video, *rest = cells
    if video.endswith(".csv"):
        raise ValueError(f"it names another file, {video}. Give that file")
    while rest and not rest[-1]:
        rest.pop()
    annotated = Annotated() if not rest else _row_annotated(number, rest)
    return video, replace(annotated, use=_use(use))


def _row_annotated(number: int, cells: list[str]) -> Annotated:
    """Parse the cells after the video. Their number determines their meaning."""
    if len(cells) >= 7:  # label, object, time, and the corners of a box
        boxes: dict[tuple[str, str], dict[float, Box]] = {}
        _add_box(boxes, number, cells[0], cells[1], _time(cells[2]), _corners(cells[3:]))
        return Annotated(boxes)
    if len(cells) >= 4:  # a segment, a label, and a time or start and end
        moment = _ordered(_time(cells[3]), _time(cells[4] if len(cells) > 4 and cells[4] else cells[3]))
        judged = [_stretch(*cells[:2])] if cells[0] or cells[1] else []
        return Annotated(spans=[(_label(cells[2]), *moment)], judged=judged)
    label, start, end = (*cells, "", "")[:3]
    return Annotated(spans=[(_label(label), *_stretch(start, end))])


def _stretch(start: str, end: str) -> tuple[float, float]:
    return _ordered(_time(start or "0"), math.inf if end.lower() in ("", "inf", "infinity") else _time(end))


def _corners(cells: Sequence[str]) -> Box:
    """Return the box around two opposite corners or all four, in any order."""
    numbers = [None if cell == "" else _edge(cell) for cell in cells]
    across = [one for one in numbers[0::2] if one is not None]
    down = [one for one in numbers[1::2] if one is not None]
    if len(across) < 2 or len(down) < 2:
        raise ValueError("its box has fewer than two corners; write x_min,y_min,,,x_max,y_max,,")
    return min(across), min(down), max(across), max(down)


def _add_box(
    boxes: dict[tuple[str, str], dict[float, Box]], number: int, label: str, thing: str, time: float, box: Box
) -> None:
    # Vertex: an instance id of -1 or none means that the object was not tracked from frame to frame.
    if thing in ("", "-1"):
        thing = f"{_ALONE}{number}"
    boxes.setdefault((_label(label), thing), {})[time] = box


def _box_of(one: Mapping[str, Any]) -> tuple[str, str, float, Box]:
    box = _edges(one)
    if box[0] > box[2] or box[1] > box[3]:
        raise ValueError("its xMin or yMin is larger than its xMax or yMax")
    thing = snake_too(one, "instanceId")
    label = str(snake_too(one, "displayName") or "")
    return label, "" if thing is None else str(thing), _time(snake_too(one, "timeOffset")), box


def _edges(one: Mapping[str, Any]) -> Box:
    x_min, y_min, x_max, y_max = (_edge(snake_too(one, name), name) for name in _EDGES)
    return x_min, y_min, x_max, y_max


def _edge(value: object, name: str = "corner") -> float:
    try:
        number = float(str(0 if value is None else value))
    except ValueError:
        raise ValueError(f"its {name} is {str(value)[:40]!r}, no number") from None
    if not -_MOST <= number <= _MOST:
        raise ValueError(f"its {name} is {number:g}; boxes are parts of the picture, from 0 to 1, not pixels")
    return number


def _span_of(number: int, one: Mapping[str, Any]) -> Span:
    try:
        start, end = snake_too(one, "startTime"), snake_too(one, "endTime")
        return str(snake_too(one, "displayName") or ""), *_stretch(str(start or "0s"), str(end or ""))
    except ValueError as error:
        raise ValueError(f"segment {number}: {error}") from None


def _time(value: object) -> float:
    time = seconds(value)
    if time < 0:
        raise ValueError(f"its time {str(value)[:40]!r} is before the video begins")
    return time


def _ordered(start: float, end: float) -> tuple[float, float]:
    if start > end:
        raise ValueError(f"it starts at {start:g} s and ends before that, at {end:g} s")
    return start, end


def _label(text: str) -> str:
    if not text:
        raise ValueError("it has no label")
    return text


def _list(line: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    found = snake_too(line, name)
    if found is None:  # the capitalised form in the documentation of exports
        found = line.get(name[0].upper() + name[1:], [])
    return objects(f'its "{name}" is no list of objects')(found)


def _use_of(line: Mapping[str, Any]) -> str:
    labels = snake_too(line, "dataItemResourceLabels")
    if not isinstance(labels, dict):
        return ""
    return next((_use(str(value)) for name, value in labels.items() if name.endswith(_USE_LABEL)), "")


def _use(text: str) -> str:
    lower = text.lower()
    return _USES.get(lower, lower)


def _at(prediction: Mapping[str, Any], moments: Sequence[float]) -> Mapping[str, Any]:
    """Return a track with the nearest box at each time; `judged` is false if no box is near any time."""
    by_time = sorted(
        ((seconds(snake_too(frame, "timeOffset")), frame) for frame in prediction.get("frames") or ()),
        key=lambda one: one[0],
    )
    times = [time for time, _ in by_time]
    frames = []
    for moment in moments:
        near = _nearest(times, moment)
        if near is not None:
            frames.append({**by_time[near][1], "timeOffset": _duration(moment)})
    if not frames:
        return {**prediction, "judged": False}
    ends = {"timeSegmentStart": frames[0]["timeOffset"], "timeSegmentEnd": frames[-1]["timeOffset"]}
    return {**prediction, **ends, "frames": frames}


def _nearest(times: Sequence[float], moment: float) -> int | None:
    place = bisect_left(times, moment)
    around = [near for near in (place - 1, place) if 0 <= near < len(times)]
    best = min(around, key=lambda near: abs(times[near] - moment), default=None)
    return best if best is not None and abs(times[best] - moment) <= REACH_S + _EPSILON_S else None


def _action(label: str, middle: float, half: float) -> dict[str, Any]:
    """Return an action that may happen at any time up to `half` seconds from `middle`."""
    time = _duration(middle)
    return {
        "displayName": label,
        "timeSegmentStart": time,
        "timeSegmentEnd": time,
        "confidence": 1.0,
        "spread": half,
    }


def _labelled(label: str, kind: str, start: float, end: float) -> dict[str, Any]:
    return {
        "displayName": label,
        "type": kind,
        "timeSegmentStart": _duration(start),
        "timeSegmentEnd": _duration(end),
        "confidence": 1.0,
    }


def _with_ends(
    stretches: Sequence[tuple[str, float, float]], last: float
) -> Iterator[tuple[str, float, float]]:
    """Yield the intervals with finite ends.

    An interval to the end of the video is left out if a segment of the other side has a finite end. Else it
    ends at the last annotation or interval.
    """
    known = [end for kind, _, end in stretches if kind == SEGMENT and math.isfinite(end)]
    ends = [end for _, _, end in stretches if math.isfinite(end)]
    for kind, start, end in stretches:
        if math.isfinite(end):
            yield kind, start, end
        elif not known:
            yield kind, start, max([last, *ends])


def _meets(span: Span, stretch: tuple[str, float, float]) -> bool:
    _, start, end = stretch
    if start == end:
        return span[1] <= start <= span[2]
    return span[1] < end and span[2] > start


def _frame(time: float, box: Box) -> dict[str, Any]:
    return {"timeOffset": _duration(time), **dict(zip(_EDGES, box, strict=True))}


def _start(prediction: Mapping[str, Any]) -> float:
    return seconds(snake_too(prediction, "timeSegmentStart"))


def _inside(time: float, stretch: tuple[float, float]) -> bool:
    # An annotation exactly at the end of an interval belongs to it.
    return stretch[0] - _EPSILON_S <= time <= stretch[1] + _EPSILON_S


def _duration(time: float) -> str:
    return duration_text(round(time * 1e6))
