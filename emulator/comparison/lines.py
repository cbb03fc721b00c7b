"""Lines of JSON that hold predictions, as what was found or as what is expected.

Three kinds say what is expected: lines of a predictions file, lines of a canned model, and the truth of a
rendered video. docs/console.md describes them.
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
from emulator.vertex.predictions import duration_text

TRUTH = "truth"
"""What one names to compare with the truth of videos."""
TRUTH_SUFFIX = ".truth.jsonl"
"""What the name of a video's truth has behind that of the video."""
_END_OF_VIDEO = ("", "inf", "infinity")

Prediction = Mapping[str, Any]
"""One prediction as JSON."""
Segment = tuple[float, float]
"""Start and end in seconds; the end of the video is infinite."""
Stretch = tuple[str, float, float]
"""What a label of a classification is of: its type, start and end in seconds."""


@dataclass(frozen=True)
class Tolerance:
    """How far a prediction may be off: seconds, and the least overlap of its boxes."""

    within: float = WITHIN_S
    iou: float = IOU


class Whole(Protocol):
    """What is known of a whole video."""

    def predictions(
        self, objective: str, segment: Segment, types: Sequence[str], stretches: Sequence[Stretch] = (), /
    ) -> Sequence[Prediction]:
        """What a perfect job predicts for a segment. `types`: of a classification, which, and the
        `stretches` that the other side names."""
        ...


@dataclass(frozen=True)
class Line:
    """What is expected of a video. `segment` is None where it is so of any segment.

    where: the file and line, for messages. stretches: what a classification is of; None to tell that from
    its predictions.
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
        """Predictions of another side as far as this one tells whether they are right, in their places."""
        return self.content.judge(predictions) if isinstance(self.content, Annotated) else predictions


@dataclass
class Expectations:
    """The lines of a file that says what is expected; `problems` name those that cannot be used."""

    name: str
    problems: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    _annotated: dict[str, int] = field(default_factory=dict)

    def add(self, raw: str, number: int) -> None:
        """Take the line of that number."""
        if not raw.strip():
            return
        where = f"{self.name} line {number}"
        try:
            self.take(replace(_read(raw), where=where))
        except (ValueError, RecursionError) as error:
            self.problems.append(f"{where}: {error}")

    def add_csv(self, text: str) -> None:
        """Take the rows of an AutoML import file."""
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
        """Take a line; the annotations of a video become one line."""
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
        """The line that says what is expected of a segment of a video."""
        return next((line for line in self.lines if line.fits(video, segment)), None)

    def of(
        self, video: str, segment: Segment, objective: str, types: Sequence[str]
    ) -> Sequence[Prediction] | None:
        """What is expected of a segment of a video; None if no line says it. `types`: those of a
        classification that the job was asked for."""
        line = self.find(video, segment)
        return None if line is None else line.predictions(objective, segment, types)


def segment_of(start: object, end: object) -> Segment:
    """The segment of an instance, given its members."""
    text = str(end or "")
    return seconds(start or "0s"), math.inf if text.lower() in _END_OF_VIDEO else seconds(text)


def predictions_of(raw: bytes | str) -> list[Prediction]:
    """The predictions of a line of output. Raises ValueError."""
    line = _object(raw)
    return _predictions(line)


def found_of(prediction: Prediction) -> Found:
    """A prediction as it was found. Raises ValueError."""
    boxes = boxes_of(prediction)
    start, end = (snake_too(prediction, name) for name in ("timeSegmentStart", "timeSegmentEnd"))
    return Found(
        str(snake_too(prediction, "displayName") or ""),
        # A canned track may leave its times to its boxes.
        min(boxes) if start is None and boxes else seconds(start),
        max(boxes) if end is None and boxes else seconds(end),
        _number(prediction, "confidence"),
        str(prediction.get("type") or ""),
        boxes,
        prediction.get("judged") is not False,
    )


def expected_of(prediction: Prediction, tolerance: Tolerance) -> Expected:
    """A prediction as one that is expected. Raises ValueError.

    Its own `within`, `iou` and `minConfidence` go before the tolerance; how sure it is does not count.
    """
    found = found_of(prediction)
    within = _number(prediction, "within", tolerance.within)
    sure = _number(prediction, "minConfidence")
    if found.type:
        return Label(found.label, found.start, found.end, found.type, within, sure)
    if found.start == found.end and not found.boxes:
        spread = _number(prediction, "spread")  # of an annotation that says from when to when
        return Action(found.label, found.start, within + spread, sure)
    iou = _number(prediction, "iou", tolerance.iou)
    return Track(found.label, found.start, found.end, within, iou, found.boxes, sure)


def as_line(video: str, segment: Segment, wanted: Sequence[Expected]) -> str:
    """What is expected of a segment of a video, as a line of a file."""
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
    """What the labels of a classification are of. Raises ValueError."""
    found = [found_of(one) for one in predictions if one.get("type")]
    return list(dict.fromkeys((one.type, one.start, one.end) for one in found))


def checked(line: Mapping[str, Any]) -> list[Prediction]:
    """The predictions of a line, each of which can be compared. Raises ValueError."""
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
    found = line.get("prediction")
    if isinstance(found, list) and all(isinstance(one, dict) for one in found):
        return found
    raise ValueError('its "prediction" is no list of objects')


def boxes_of(prediction: Prediction) -> dict[float, Box]:
    """Where a track is, by time in seconds; of anything else, nothing. Raises ValueError."""
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
