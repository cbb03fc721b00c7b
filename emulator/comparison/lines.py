"""JSON lines with predictions, either found or expected.

Three kinds of lines state expectations: lines of a predictions file, lines of a canned model, and the truth
of a rendered video. docs/console.md describes them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Protocol

from emulator.comparison.annotations import Annotated, is_annotated, read_csv, read_import_line
from emulator.comparison.matching import IOU, WITHIN_S, Action, Box, Expected, Found, Label, Track
from emulator.comparison.truth import Truth, seconds, snake_too
from emulator.members import objects
from emulator.vertex.predictions import duration_text

TRUTH = "truth"
"""The name with which users select the truth of the videos for a comparison."""
TRUTH_SUFFIX = ".truth.jsonl"
"""The suffix of a truth's file, after the name of the video."""
_END_OF_VIDEO = ("", "inf", "infinity")

Prediction = Mapping[str, Any]
"""One prediction as JSON."""
Segment = tuple[float, float]
"""Start and end in seconds; infinity means the end of the video."""
Stretch = tuple[str, float, float]
"""An interval that a classification labels: its type, and start and end in seconds."""


@dataclass(frozen=True)
class Tolerance:
    """The tolerance of a match: seconds for times, and the least mean IoU of boxes."""

    within: float = WITHIN_S
    iou: float = IOU


class Whole(Protocol):
    """What is known about a whole video: annotations or a truth."""

    def predictions(
        self, objective: str, segment: Segment, types: Sequence[str], stretches: Sequence[Stretch] = (), /
    ) -> Sequence[Prediction]:
        """Return the predictions of a perfect job for a segment.

        Args:
            objective: the name of the objective.
            segment: start and end in seconds.
            types: the types of a classification.
            stretches: the intervals that the other side's classification labels.
        """
        ...


@dataclass(frozen=True)
class Line:
    """The predictions for a segment of a video; for any segment if `segment` is None.

    where: the file and line, for messages.
    stretches: the intervals that a classification labels; None to take them from its predictions.
    """

    video: str
    is_pattern: bool
    segment: Segment | None
    content: Sequence[Prediction] | Whole
    where: str = ""
    stretches: Sequence[Stretch] | None = None

    def fits(self, video: str, segment: Segment) -> bool:
        if self.segment not in (None, segment):
            return False
        return fnmatchcase(video, self.video) if self.is_pattern else video == self.video

    def predictions(
        self, objective: str, segment: Segment, types: Sequence[str], stretches: Sequence[Stretch] = ()
    ) -> Sequence[Prediction]:
        if isinstance(self.content, Sequence):
            return self.content
        return self.content.predictions(objective, segment, types, stretches)

    def judge(self, predictions: Sequence[Prediction]) -> Sequence[Prediction]:
        """Return the other side's predictions, in order, with those marked that this line cannot judge."""
        return self.content.judge(predictions) if isinstance(self.content, Annotated) else predictions


@dataclass
class Expectations:
    """The lines of a file of expectations. `problems` has a message for each unusable line."""

    name: str
    problems: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    _annotated: dict[str, int] = field(default_factory=dict)

    def add(self, raw: str, number: int) -> None:
        """Parse and add a line. An unusable one becomes a problem that names `number`."""
        if not raw.strip():
            return
        where = f"{self.name} line {number}"
        try:
            self.take(replace(_read(raw), where=where))
        except (ValueError, RecursionError) as error:
            self.problems.append(f"{where}: {error}")

    def add_csv(self, text: str) -> None:
        """Parse and add the rows of an AutoML import file."""
        parts: dict[str, list[Annotated]] = {}
        first: dict[str, int] = {}
        for number, video, annotated in read_csv(text):
            if isinstance(annotated, ValueError):
                self.problems.append(f"{self.name} line {number}: {annotated}")
            else:
                parts.setdefault(video, []).append(annotated)
                first.setdefault(video, number)
        for video, some in parts.items():
            self.take(Line(video, False, None, Annotated.of(some), f"{self.name} line {first[video]}"))

    def take(self, line: Line) -> None:
        """Add a line. All annotations of one video are merged into one line."""
        if isinstance(line.content, Annotated):
            place = self._annotated.setdefault(line.video, len(self.lines))
            if place < len(self.lines):
                before = self.lines[place]
                assert isinstance(before.content, Annotated)
                self.lines[place] = replace(before, content=Annotated.of([before.content, line.content]))
                return
        self.lines.append(line)

    def __len__(self) -> int:
        return len(self.lines)

    def find(self, video: str, segment: Segment) -> Line | None:
        """Return the first line that applies to a segment of a video; None if there is none."""
        return next((line for line in self.lines if line.fits(video, segment)), None)

    def of(
        self, video: str, segment: Segment, objective: str, types: Sequence[str]
    ) -> Sequence[Prediction] | None:
        """Return the expected predictions for a segment of a video; None if no line applies.

        `types`: the classification types that the job requested.
        """
        line = self.find(video, segment)
        return None if line is None else line.predictions(objective, segment, types)


def segment_of(start: object, end: object) -> Segment:
    """Return the segment of an instance from its members `timeSegmentStart` and `timeSegmentEnd`."""
    text = str(end or "")
    return seconds(start or "0s"), math.inf if text.lower() in _END_OF_VIDEO else seconds(text)


def predictions_of(raw: bytes | str) -> list[Prediction]:
    """Return the predictions in a line of output. Raises ValueError."""
    line = _object(raw)
    return _predictions(line)


def found_of(prediction: Prediction) -> Found:
    """Parse a prediction that was found. Raises ValueError."""
    boxes = boxes_of(prediction)
    start, end = (snake_too(prediction, name) for name in ("timeSegmentStart", "timeSegmentEnd"))
    return Found(
        str(snake_too(prediction, "displayName") or ""),
        # A canned track may omit its times: its boxes have them.
        min(boxes) if start is None and boxes else seconds(start),
        max(boxes) if end is None and boxes else seconds(end),
        _number(prediction, "confidence"),
        str(prediction.get("type") or ""),
        boxes,
        prediction.get("judged") is not False,
    )


def expected_of(prediction: Prediction, tolerance: Tolerance) -> Expected:
    """Parse a prediction as an expectation. Raises ValueError.

    Its own `within`, `iou` and `minConfidence` override the tolerance. Its `confidence` is ignored.
    """
    found = found_of(prediction)
    within = _number(prediction, "within", tolerance.within)
    sure = _number(prediction, "minConfidence")
    if found.type:
        return Label(found.label, found.start, found.end, found.type, within, sure)
    if found.start == found.end and not found.boxes:
        spread = _number(prediction, "spread")  # from an annotation with start and end
        return Action(found.label, found.start, within + spread, sure)
    iou = _number(prediction, "iou", tolerance.iou)
    return Track(found.label, found.start, found.end, within, iou, found.boxes, sure)


def as_line(video: str, segment: Segment, wanted: Sequence[Expected]) -> str:
    """Return the expectations for a segment of a video as a line of a file."""
    start, end = segment
    instance = {
        "content": video,
        "timeSegmentStart": _duration(start),
        "timeSegmentEnd": "Infinity" if math.isinf(end) else _duration(end),
    }
    return json.dumps({"instance": instance, "prediction": [_as_prediction(one) for one in wanted]}) + "\n"


def _as_prediction(wanted: Expected) -> dict[str, Any]:
    members: dict[str, Any] = {"displayName": wanted.label}
    if isinstance(wanted, Label):
        members["type"] = wanted.type
    members |= {"timeSegmentStart": _duration(wanted.start), "timeSegmentEnd": _duration(wanted.end)}
    members |= {"within": wanted.within, "minConfidence": wanted.confidence}
    if isinstance(wanted, Track):
        names = ("xMin", "yMin", "xMax", "yMax")
        frames = [
            {"timeOffset": _duration(time), **dict(zip(names, box, strict=True))}
            for time, box in sorted(wanted.boxes.items())
        ]
        members |= {"iou": wanted.iou, "frames": frames}
    return members


def _read(raw: str) -> Line:
    line = _object(raw)
    if is_annotated(line):
        return Line(*_annotated(line))
    if "truth" in line:
        return Line(str(line.get("video") or "*"), True, None, Truth.read(line["truth"]))
    instance = line.get("instance")
    if isinstance(instance, dict):
        segment = segment_of(*(snake_too(instance, name) for name in ("timeSegmentStart", "timeSegmentEnd")))
        return Line(str(instance.get("content") or ""), False, segment, checked(line))
    if isinstance(line.get("video"), str):
        own = "timeSegmentStart" in line or "timeSegmentEnd" in line
        wanted = segment_of(line.get("timeSegmentStart"), line.get("timeSegmentEnd")) if own else None
        return Line(line["video"], True, wanted, checked(line))
    raise ValueError(
        'it has neither "instance" nor "video"; write lines as a job does, such as'
        ' {"instance": {"content": "gs://…"}, "prediction": […]}'
    )


def _annotated(line: Mapping[str, Any]) -> tuple[str, bool, None, Annotated]:
    video, annotated = read_import_line(line)
    return video, False, None, annotated


def stretches_of(predictions: Sequence[Prediction]) -> list[Stretch]:
    """Return the distinct intervals that a classification labels. Raises ValueError."""
    found = [found_of(one) for one in predictions if one.get("type")]
    return list(dict.fromkeys((one.type, one.start, one.end) for one in found))


def checked(line: Mapping[str, Any]) -> list[Prediction]:
    """Return the predictions of a line. Raises ValueError if one cannot be compared."""
    found = _predictions(line)
    for number, one in enumerate(found, start=1):
        try:
            expected_of(one, Tolerance())
        except ValueError as error:
            raise ValueError(f"prediction {number}: {error}") from None
    return found


def _object(raw: bytes | str) -> dict[str, Any]:
    try:
        line = json.loads(raw)
    except UnicodeDecodeError:
        raise ValueError("it is no UTF-8") from None
    except ValueError as error:
        raise ValueError(f"it is no JSON object: {error}") from None
    if not isinstance(line, dict):
        raise ValueError("it is no JSON object")
    return line


def _predictions(line: Mapping[str, Any]) -> list[Prediction]:
    return list(objects('its "prediction" is no list of objects')(line.get("prediction")))


def boxes_of(prediction: Prediction) -> dict[float, Box]:
    """Return a track's boxes by time in seconds; {} for other predictions. Raises ValueError."""
    frames = prediction.get("frames") or ()
    if not isinstance(frames, list | tuple) or not all(isinstance(frame, dict) for frame in frames):
        raise ValueError('its "frames" are no list of objects')
    return {seconds(snake_too(frame, "timeOffset")): _box(frame) for frame in frames}


def _box(frame: Mapping[str, Any]) -> Box:
    return _number(frame, "xMin"), _number(frame, "yMin"), _number(frame, "xMax"), _number(frame, "yMax")


def _number(members: Mapping[str, Any], name: str, usual: float = 0.0) -> float:
    value = snake_too(members, name)
    if value is None:
        return usual
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f'"{name}" is {str(value)[:40]!r}, no number')
    return number


def _duration(time: float) -> str:
    return duration_text(round(time * 1e6))
