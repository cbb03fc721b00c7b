"""The matching rule: which prediction meets which expectation, and how the two differ in words."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from emulator.vertex.objectives.classification import SEGMENT

Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in units of the frame (0 to 1)."""

WITHIN_S = 0.1
IOU = 0.8
"""The default tolerances of an expectation: seconds, and mean IoU."""

# Times have a resolution of 0.1 s and are sent in microseconds; this is smaller than both.
_EPSILON_S = 1e-6


@dataclass(frozen=True)
class Found:
    """A prediction: start, end and the times of its boxes in seconds; `type` for a classification."""

    label: str
    start: float
    end: float
    confidence: float
    type: str = ""
    boxes: Mapping[float, Box] = field(default_factory=dict, hash=False, repr=False)
    judged: bool = True
    """Whether the expectations can judge it: False outside the annotated times."""

    def __str__(self) -> str:
        kind = f" ({self.type})" if self.type else ""
        return f"{self.label}{kind} {when(self.start, self.end)}, confidence {self.confidence:.2f}"


@dataclass(frozen=True)
class Track:
    """An expected object. `start` and `end` are in seconds, each with the tolerance `within`.

    boxes: by time in seconds; if empty, only start and end are compared. Over all times of both tracks, the
        mean IoU with the prediction's boxes must be at least `iou`. A time that one track lacks counts as 0.
    """

    label: str
    start: float
    end: float
    within: float = WITHIN_S
    iou: float = IOU
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
    """An expected action at one time, in seconds."""

    label: str
    at: float
    within: float = WITHIN_S
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
    """An expected label of an interval of the video, in seconds.

    type: `segment-classification`, `shot-classification` or `one-sec-interval-classification`. Start and end
    of the last are both the middle of the second.
    """

    label: str
    start: float
    end: float
    type: str = SEGMENT
    within: float = WITHIN_S
    confidence: float = 0.0

    def __str__(self) -> str:
        sure = f", confidence {self.confidence:g} or more" if self.confidence else ""
        return f"{self.label} ({self.type}) {when(self.start, self.end)} (within {self.within:g} s{sure})"


Expected = Track | Action | Label


def differences(wanted: Expected, found: Found) -> list[str]:
    """Return in words how a prediction differs from an expectation; [] if it meets the expectation."""
    said = _plain_differences(wanted, found)
    if isinstance(wanted, Track) and wanted.boxes:
        overlap = mean_iou(wanted.boxes, found.boxes)
        if overlap < wanted.iou:
            said.append(f"has IoU {overlap:.2f}, not {wanted.iou:g}")
    if found.confidence < wanted.confidence:
        said.append(f"has confidence {found.confidence:.2f}, not {wanted.confidence:g}")
    return said


def _plain_differences(wanted: Expected, found: Found) -> list[str]:
    """Return the differences of label, type and times, which are cheap to compute."""
    said = []
    if found.label != wanted.label:
        said.append(f"is a {found.label}, not a {wanted.label}")
    if isinstance(wanted, Label) and found.type != wanted.type:
        said.append(f"is of type {found.type or '(none)'}, not {wanted.type}")
    if isinstance(wanted, Action):
        said += _off(found.start - wanted.at, wanted.within, "comes")
    else:
        said += _off(found.start - wanted.start, wanted.within, "begins")
        said += _off(found.end - wanted.end, wanted.within, "ends")
    return said


def pairs(wanted: Sequence[Expected], found: Sequence[Found]) -> dict[int, int]:
    """Match expectations with predictions one to one. Returns indices in `found` by indices in `wanted`.

    As many pairs as possible are formed: a prediction moves to another expectation if that allows one more.
    """
    return assign(list(candidates(wanted, found)))


def assign(fitting: Sequence[Sequence[int]]) -> dict[int, int]:
    """Return such a maximum matching. `fitting`: for each expectation the predictions that meet it."""
    given: dict[int, int] = {}
    holder: dict[int, int] = {}
    for place in range(len(fitting)):
        _find_one(place, fitting, given, holder)
    return given


def best_first(ranked: Iterable[tuple[float, int, int]]) -> Iterator[tuple[float, int, int]]:
    """Yield one-to-one pairs from (rank, one, other), greedily in the given order."""
    ones: set[int] = set()
    others: set[int] = set()
    for rank, one, other in ranked:
        if one not in ones and other not in others:
            ones.add(one)
            others.add(other)
            yield rank, one, other


def candidates(wanted: Sequence[Expected], found: Sequence[Found]) -> Iterator[list[int]]:
    """Yield for each expectation the sorted indices of the predictions that meet it."""
    by_start = _by_label(found)
    for each in wanted:
        near = by_start.get(each.label, [])
        low = bisect_left(near, each.start - each.within - 2 * _EPSILON_S, key=lambda one: one[0])
        high = bisect_right(near, each.start + each.within + 2 * _EPSILON_S, key=lambda one: one[0])
        places = [place for _, place in near[low:high] if not _plain_differences(each, found[place])]
        yield sorted(place for place in places if not differences(each, found[place]))


def _by_label(found: Sequence[Found]) -> dict[str, list[tuple[float, int]]]:
    grouped: dict[str, list[tuple[float, int]]] = {}
    for place, one in enumerate(found):
        grouped.setdefault(one.label, []).append((one.start, place))
    for group in grouped.values():
        group.sort()
    return grouped


def _find_one(
    wanted: int, fitting: Sequence[Sequence[int]], given: dict[int, int], holder: dict[int, int]
) -> None:
    """Match one more expectation, by the shortest augmenting path (breadth-first search)."""
    came: dict[int, int] = {}
    queue = [wanted]
    for each in queue:
        for place in fitting[each]:
            if place in came:
                continue
            came[place] = each
            if place in holder:
                queue.append(holder[place])
                continue
            while True:
                taker = came[place]
                left = given.get(taker)
                given[taker], holder[place] = place, taker
                if left is None:
                    return
                place = left


def nearest(wanted: Expected, found: Sequence[Found]) -> Found | None:
    """Return the prediction nearest to an expectation, preferably of its label; None if there is none."""
    return min(found, key=lambda one: _distance(wanted, one), default=None)


def mean_iou(wanted: Mapping[float, Box], found: Mapping[float, Box]) -> float:
    """Return the mean IoU of two tracks over the times of both; a time that one lacks counts as 0."""
    ours = {round(time * 1e6): box for time, box in wanted.items()}
    theirs = {round(time * 1e6): box for time, box in found.items()}
    shared = ours.keys() & theirs.keys()
    moments = ours.keys() | theirs.keys()
    return sum(overlap(ours[time], theirs[time]) for time in shared) / len(moments) if moments else 0.0


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the intersection over union (IoU) of two boxes (x_min, y_min, x_max, y_max)."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / (sum(areas) - width * height)


def when(start: float, end: float) -> str:
    """Return an interval in words."""
    return f"at {start:g} s" if start == end else f"from {start:g} s to {end:g} s"


def _off(late: float, within: float, verb: str) -> list[str]:
    if abs(late) <= within + _EPSILON_S:
        return []
    return [f"{verb} {abs(late):g} s too {'late' if late > 0 else 'early'}"]


def _distance(wanted: Expected, found: Found) -> tuple[bool, bool, float]:
    other_type = isinstance(wanted, Label) and found.type != wanted.type
    apart = abs(found.start - wanted.start) + abs(found.end - wanted.end)
    return found.label != wanted.label, other_type, apart
