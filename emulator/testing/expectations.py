"""What a test expects of predictions, and in words what was found instead.

    cat = track("cat", 1.2, 3.4, within=0.1)
    assert cat in predictions
    assert predictions == video.expected()

With the plugin, a failed assertion names the nearest prediction and how it differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max as parts of the picture."""

# Times are given in tenths of a second and travel as microseconds; this is less than either.
_EPSILON_S = 1e-6
_SHOWN = 5

SEGMENT, SHOT, SECOND = "segment-classification", "shot-classification", "one-sec-interval-classification"
"""The types of a classification."""


@dataclass(frozen=True)
class Track:
    """An expected object: from `start` to `end` seconds, each within `within` seconds.

    boxes: where it is, by time in seconds; a prediction's boxes must overlap them by `iou` on average over
    the moments of either (a moment that one of them lacks counts as no overlap). Without, only times count.
    """

    label: str
    start: float
    end: float
    within: float = 0.1
    iou: float = 0.8
    boxes: Mapping[float, Box] = field(default_factory=dict, hash=False, repr=False)
    confidence: float = 0.0

    def __str__(self) -> str:
        overlap = f", IoU {self.iou:g}" if self.boxes else ""
        sure = f", confidence {self.confidence:g} or more" if self.confidence else ""
        return (
            f"{self.label} from {self.start:g} s to {self.end:g} s (within {self.within:g} s{overlap}{sure})"
        )


@dataclass(frozen=True)
class Action:
    """An expected action at one moment, in seconds."""

    label: str
    at: float
    within: float = 0.1
    confidence: float = 0.0

    @property
    def start(self) -> float:
        return self.at

    @property
    def end(self) -> float:
        return self.at

    def __str__(self) -> str:
        sure = f", confidence {self.confidence:g} or more" if self.confidence else ""
        return f"{self.label} at {self.at:g} s (within {self.within:g} s{sure})"


@dataclass(frozen=True)
class Label:
    """An expected label of a stretch of the video, in seconds.

    type: of what; `segment-classification`, `shot-classification` or `one-sec-interval-classification`,
    whose start and end are both the middle of the second.
    """

    label: str
    start: float
    end: float
    type: str = SEGMENT
    within: float = 0.1
    confidence: float = 0.0

    def __str__(self) -> str:
        sure = f", confidence {self.confidence:g} or more" if self.confidence else ""
        return f"{self.label} ({self.type}) {_when(self.start, self.end)} (within {self.within:g} s{sure})"


Expected = Track | Action | Label


def track(
    label: str,
    start: float,
    end: float,
    *,
    within: float = 0.1,
    iou: float = 0.8,
    boxes: Mapping[float, Box] | None = None,
    confidence: float = 0.0,
) -> Track:
    """An object that is expected; see Track. `confidence` is the least that will do."""
    return Track(label, start, end, within, iou, boxes or {}, confidence)


def action(label: str, at: float, *, within: float = 0.1, confidence: float = 0.0) -> Action:
    """An action that is expected at a moment."""
    return Action(label, at, within, confidence)


def label(
    name: str,
    start: float,
    end: float,
    *,
    type: str = SEGMENT,
    within: float = 0.1,
    confidence: float = 0.0,
) -> Label:
    """A label that is expected of a classification; see Label."""
    return Label(name, start, end, type, within, confidence)


class Predictions(Sequence[Any]):
    """All predictions of a job in the SDK's own types, in the order of its output.

    lines: per line of the output, the instance as the input has it and its predictions. errors: the lines of
    the errors files.
    """

    def __init__(
        self,
        lines: Sequence[tuple[Mapping[str, Any], Sequence[Any]]],
        errors: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.lines = tuple((instance, tuple(found)) for instance, found in lines)
        self.errors = tuple(errors)
        self._all = tuple(one for _, found in self.lines for one in found)

    def of(self, video: object) -> Predictions:
        """Those of one video, given as a Video or its URI."""
        uri = getattr(video, "uri", video)
        return Predictions(
            [(instance, found) for instance, found in self.lines if instance["content"] == uri]
        )

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._all[index]

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._all)

    def __contains__(self, wanted: object) -> bool:
        if isinstance(wanted, Expected):
            return any(not differences(wanted, one) for one in self._all)
        return wanted in self._all

    def __eq__(self, other: object) -> bool:
        """Whether each expectation of a list is met by a prediction of its own, and none is left over."""
        if isinstance(other, Predictions):
            return self.lines == other.lines
        if not isinstance(other, Sequence) or not all(isinstance(one, Expected) for one in other):
            return NotImplemented
        missing, extra = pair(other, self._all)
        return not missing and not extra

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} predictions: {'; '.join(map(describe, self._all[:_SHOWN]))}>"


def pair(wanted: Sequence[Expected], found: Sequence[Any]) -> tuple[list[Expected], list[Any]]:
    """Give each expectation a prediction of its own that meets it; returns what is left over of both.

    As many as possible are paired: a prediction moves on to another expectation where that makes room.
    """
    fitting = [[j for j, one in enumerate(found) if not differences(each, one)] for each in wanted]
    holder: dict[int, int] = {}

    def place(i: int, tried: set[int]) -> bool:
        for j in fitting[i]:
            if j not in tried:
                tried.add(j)
                if j not in holder or place(holder[j], tried):
                    holder[j] = i
                    return True
        return False

    missing = [each for i, each in enumerate(wanted) if not place(i, set())]
    return missing, [one for j, one in enumerate(found) if j not in holder]


def differences(wanted: Expected, found: Any) -> list[str]:
    """In words, how a prediction differs from what was expected; empty when it meets it."""
    said = []
    if found.display_name != wanted.label:
        said.append(f"is a {found.display_name}, not a {wanted.label}")
    if isinstance(wanted, Label) and type_of(found) != wanted.type:
        said.append(f"is of type {type_of(found) or '(none)'}, not {wanted.type}")
    start, end = times(found)
    if isinstance(wanted, Action):
        said += _off(start - wanted.at, wanted.within, "comes")
    else:
        said += _off(start - wanted.start, wanted.within, "begins") + _off(
            end - wanted.end, wanted.within, "ends"
        )
        if (
            isinstance(wanted, Track)
            and wanted.boxes
            and (overlap := mean_iou(wanted.boxes, boxes_of(found))) < wanted.iou
        ):
            said.append(f"has IoU {overlap:.2f}, not {wanted.iou:g}")
    if (sure := confidence(found)) < wanted.confidence:
        said.append(f"has confidence {sure:.2f}, not {wanted.confidence:g}")
    return said


def explain(op: str, left: object, right: object) -> list[str] | None:
    """Lines for pytest about a comparison that failed; None when it is about something else."""
    if op == "in" and isinstance(right, Predictions) and isinstance(left, Expected):
        return ["it is among the predictions", *explain_missing(left, list(right))]
    if op == "==" and isinstance(left, Predictions) and isinstance(right, list):
        return ["the predictions are as expected", *explain_difference(right, list(left))]
    return None


def explain_missing(wanted: Expected, found: Sequence[Any]) -> list[str]:
    """Lines that say what was expected, and what comes nearest to it."""
    if not found:
        return [f"expected {wanted}, but nothing was predicted"]
    nearest = min(found, key=lambda one: _distance(wanted, one))
    difference = differences(wanted, nearest)
    lines = [f"expected {wanted}"]
    if difference:
        lines += [f"nearest: {describe(nearest)}: it {' and '.join(difference)}"]
    else:
        lines += [f"nearest: {describe(nearest)}, which another expectation has taken"]
    others = [one for one in found if one is not nearest]
    return lines + [f"also predicted: {describe(one)}" for one in others[:_SHOWN]] + _rest(others)


def explain_difference(wanted: Sequence[Expected], found: Sequence[Any]) -> list[str]:
    """Lines that say which expectations are not met, and which predictions nobody expected."""
    missing, extra = pair(wanted, found)
    lines = [line for one in missing for line in explain_missing(one, found)[:2]]
    return lines + [f"not expected: {describe(one)}" for one in extra[:_SHOWN]] + _rest(extra)


def describe(found: Any) -> str:
    """A prediction in a few words."""
    kind = f" ({type_of(found)})" if type_of(found) else ""
    return f"{found.display_name}{kind} {_when(*times(found))}, confidence {confidence(found):.2f}"


def times(found: Any) -> tuple[float, float]:
    """First and last moment of a prediction of the SDK's types, in seconds."""
    return found.time_segment_start.total_seconds(), found.time_segment_end.total_seconds()


def confidence(found: Any) -> float:
    """How sure the model is, 0 to 1."""
    return float(found.confidence)


def type_of(found: Any) -> str:
    """The type of a classification; of anything else, an empty text."""
    return str(getattr(found, "type_", ""))


def boxes_of(found: Any) -> dict[float, Box]:
    """The boxes of a predicted track by time in seconds; of anything else, none."""
    return {
        frame.time_offset.total_seconds(): (frame.x_min, frame.y_min, frame.x_max, frame.y_max)
        for frame in getattr(found, "frames", ())
    }


def mean_iou(wanted: Mapping[float, Box], found: Mapping[float, Box]) -> float:
    """The mean overlap of two tracks over the moments of either; a moment that one lacks counts as none."""
    from emulator.factory.scoring import overlap

    ours = {round(time * 1e6): box for time, box in wanted.items()}
    theirs = {round(time * 1e6): box for time, box in found.items()}
    shared = ours.keys() & theirs.keys()
    return sum(overlap(ours[time], theirs[time]) for time in shared) / len(ours.keys() | theirs.keys())


def _off(late: float, within: float, verb: str) -> list[str]:
    if abs(late) <= within + _EPSILON_S:
        return []
    return [f"{verb} {abs(late):g} s too {'late' if late > 0 else 'early'}"]


def _when(start: float, end: float) -> str:
    return f"at {start:g} s" if start == end else f"from {start:g} s to {end:g} s"


def _distance(wanted: Expected, found: Any) -> tuple[bool, bool, float]:
    start, end = times(found)
    other_type = isinstance(wanted, Label) and type_of(found) != wanted.type
    return found.display_name != wanted.label, other_type, abs(start - wanted.start) + abs(end - wanted.end)


def _rest(others: Sequence[Any]) -> list[str]:
    return [f"and {len(others) - _SHOWN} more"] if len(others) > _SHOWN else []
