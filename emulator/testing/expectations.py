"""A test's expectations of predictions, and explanations of what was found instead.

    cat = track("cat", 1.2, 3.4, within=0.1)
    assert cat in predictions
    assert predictions == video.expected()

With the plugin, a failed assertion names the nearest prediction and how it differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from emulator.comparison.matching import (
    Action,
    Box,
    Expected,
    Found,
    Label,
    Track,
    differences,
    nearest,
    pairs,
)
from emulator.vertex.objectives.classification import SEGMENT

if TYPE_CHECKING:
    from emulator.testing.vertex import VertexEmulator

_SHOWN = 5


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
    """Expect an object; see Track. `confidence` is the lowest that is accepted."""
    return Track(label, start, end, within, iou, boxes or {}, confidence)


def action(label: str, at: float, *, within: float = 0.1, confidence: float = 0.0) -> Action:
    """Expect an action at a moment, in seconds."""
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
    """Expect a label of a classification; see Label."""
    return Label(name, start, end, type, within, confidence)


class Predictions(Sequence[Any]):
    """All predictions of a job in the SDK's own types, in the order of its output.

    lines: for each line of the output, its instance as in the input, and its predictions. errors: the lines
    of the errors files. source: the emulator and the job that the predictions come from, if any.
    """

    def __init__(
        self,
        lines: Sequence[tuple[Mapping[str, Any], Sequence[Any]]],
        errors: Sequence[Mapping[str, Any]] = (),
        source: tuple[VertexEmulator, str] | None = None,
    ) -> None:
        self.source = source
        self.lines = tuple((instance, tuple(found)) for instance, found in lines)
        self.errors = tuple(errors)
        self._all = tuple(one for _, found in self.lines for one in found)

    def of(self, video: object) -> Predictions:
        """The predictions of one video, given as a Video or its URI."""
        uri = getattr(video, "uri", video)
        return Predictions(
            [(instance, found) for instance, found in self.lines if instance["content"] == uri],
            source=self.source,
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
            return any(not differences(wanted, found_of(one)) for one in self._all)
        return wanted in self._all

    def __eq__(self, other: object) -> bool:
        """Whether each expectation of a list matches a prediction of its own, and none is left over."""
        if isinstance(other, Predictions):
            return self.lines == other.lines
        if not isinstance(other, Sequence) or not all(isinstance(one, Expected) for one in other):
            return NotImplemented
        return len(pairs(other, list(map(found_of, self._all)))) == len(other) == len(self)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} predictions: {'; '.join(str(found_of(one)) for one in self._all[:_SHOWN])}>"


def explain(op: str, left: object, right: object) -> list[str] | None:
    """Lines for pytest about a failed comparison; None if it is not about predictions."""
    if op == "in" and isinstance(right, Predictions) and isinstance(left, Expected):
        return ["it is among the predictions", *explain_missing(left, list(map(found_of, right)))]
    if op == "==" and isinstance(left, Predictions) and isinstance(right, list):
        return ["the predictions are as expected", *explain_difference(right, list(map(found_of, left)))]
    return None


def link_to_difference(left: object, right: object) -> str | None:
    """The console's page of the first difference in a failed comparison, if there is one."""
    from emulator.testing import pictures

    predictions, wanted = (left, right) if isinstance(left, Predictions) else (right, left)
    if not isinstance(predictions, Predictions) or predictions.source is None:
        return None
    found = [(instance, list(map(found_of, messages))) for instance, messages in predictions.lines]
    if isinstance(wanted, Expected):
        return pictures.link(*predictions.source, pictures.of_one(wanted, found))
    if isinstance(wanted, list) and found:
        return pictures.link(*predictions.source, pictures.of_list(wanted, found))
    return None


def explain_missing(wanted: Expected, found: Sequence[Found]) -> list[str]:
    """Lines that say what was expected, and what the nearest prediction is."""
    near = nearest(wanted, found)
    if near is None:
        return [f"expected {wanted}, but nothing was predicted"]
    difference = differences(wanted, near)
    lines = [f"expected {wanted}"]
    if difference:
        lines += [f"nearest: {near}: it {' and '.join(difference)}"]
    else:
        lines += [f"nearest: {near}, which another expectation has taken"]
    others = [one for one in found if one is not near]
    return lines + [f"also predicted: {one}" for one in others[:_SHOWN]] + _rest(others)


def explain_difference(wanted: Sequence[Expected], found: Sequence[Found]) -> list[str]:
    """Lines that list the expectations that are not met, and the predictions that were not expected."""
    given = pairs(wanted, found)
    missing = [one for place, one in enumerate(wanted) if place not in given]
    taken = set(given.values())
    extra = [one for place, one in enumerate(found) if place not in taken]
    lines = [line for one in missing for line in explain_missing(one, found)[:2]]
    return lines + [f"not expected: {one}" for one in extra[:_SHOWN]] + _rest(extra)


def found_of(message: Any) -> Found:
    """A prediction of the SDK's types, in the form that the matching takes."""
    return Found(
        message.display_name,
        message.time_segment_start.total_seconds(),
        message.time_segment_end.total_seconds(),
        float(message.confidence),
        str(getattr(message, "type_", "")),
        {
            frame.time_offset.total_seconds(): (frame.x_min, frame.y_min, frame.x_max, frame.y_max)
            for frame in getattr(message, "frames", ())
        },
    )


def _rest(others: Sequence[Found]) -> list[str]:
    return [f"and {len(others) - _SHOWN} more"] if len(others) > _SHOWN else []
