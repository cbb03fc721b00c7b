"""Predictions at each value of a setting: which values, how many there are, and how good they are."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from emulator.comparison.counts import Counts
from emulator.comparison.lines import Line, Segment, Stretch, stretches_of
from emulator.comparison.report import Options, Report, compare, counts_json, label_of, objective_of
from emulator.comparison.sides import Side, SideUnusable

MOST_ROWS = 200
USUAL = Options()
_LARGEST = 1_000_000_000

Value = bool | int | float | str


class AxisUnusable(ValueError):
    """A text does not say which values to try; the message names it and the remedy."""


@dataclass(frozen=True)
class Axis:
    """A setting and the values to try, in the order that they were given in."""

    name: str
    values: tuple[Value, ...]

    @staticmethod
    def parse(text: str) -> Axis:
        """Read `NAME=FROM:TO:STEP` or `NAME=VALUE,VALUE`. Raises AxisUnusable."""
        name, equals, values = text.partition("=")
        name, values = name.strip(), values.strip()
        if not equals or not name or not values:
            raise AxisUnusable(
                f"{text!r} names no values; write NAME=FROM:TO:STEP, as in confidenceThreshold=0.1:0.9:0.1,"
                " or NAME=VALUE,VALUE"
            )
        if ":" in values:
            return Axis(name, tuple(_steps(text, values)))
        items = [item.strip() for item in values.split(",")]
        if not all(items):
            raise AxisUnusable(f"{text!r} has an empty value; write NAME=VALUE,VALUE")
        return Axis(name, tuple(dict.fromkeys(map(_value, items))))


def _steps(text: str, values: str) -> Iterable[Value]:
    """The values of a range, its end included, exact as they are written."""
    try:
        start, end, step = (Decimal(part.strip()) for part in values.split(":"))
    except (InvalidOperation, ValueError):
        raise AxisUnusable(
            f"{text!r} is no range of three numbers; write NAME=FROM:TO:STEP, as in"
            " confidenceThreshold=0.1:0.9:0.1"
        ) from None
    if not all(number.is_finite() and abs(number) <= _LARGEST for number in (start, end, step)):
        raise AxisUnusable(f"{text!r} has a number that no setting takes; write a range as in 0.1:0.9:0.1")
    if step <= 0:
        raise AxisUnusable(f"{text!r} has the step {step}; a step is more than 0")
    if end < start:
        raise AxisUnusable(f"{text!r} ends at {end}, before it starts at {start}; write the lower one first")
    if end - start >= MOST_ROWS * step:
        raise AxisUnusable(f"{text!r} has more than {MOST_ROWS} values; take a larger step")
    count = int((end - start) / step) + 1
    numbers = [start + place * step for place in range(count)]
    if all("." not in f"{number:f}" for number in (start, step)):
        return map(int, numbers)
    return map(float, numbers)


def _value(item: str) -> Value:
    """A value as TOML has it; what is none is a text."""
    try:
        found = tomllib.loads(f"value = {item}")["value"]
    except tomllib.TOMLDecodeError:
        return item
    return found if isinstance(found, bool | int | float | str) else item


@dataclass(frozen=True)
class Row:
    """What comes out at some values: how many predictions of each label, and how they compare.

    counts: those of each label, None where nothing is expected. figures: metrics by name.
    """

    values: Mapping[str, Value]
    labels: Mapping[str, int]
    counts: Mapping[str, Counts] | None = None
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def predictions(self) -> int:
        return sum(self.labels.values())

    @property
    def in_all(self) -> Counts | None:
        """The counts of all labels together."""
        return None if self.counts is None else sum(self.counts.values(), Counts())

    def as_json(self) -> dict[str, Any]:
        found = {"values": dict(self.values), "predictions": self.predictions, "byLabel": dict(self.labels)}
        if self.counts is None or self.in_all is None:
            return found
        labels = {label: counts_json(counts) for label, counts in self.counts.items()}
        return {**found, **counts_json(self.in_all), "labels": labels, "metrics": dict(self.figures)}


class Sweep:
    """Makes the rows.

    Give it values that leave most predictions first: what is expected of a classification depends on the
    stretches that are classified, and no row may be judged by fewer of them than those before it.
    """

    def __init__(
        self,
        objective: str,
        expected: Side | None = None,
        options: Options = USUAL,
        measure: Callable[[Report], Mapping[str, float]] = lambda _: {},
    ) -> None:
        """Begin. `expected` is what the predictions are compared with, if anything; `measure` gives figures.

        Raises:
            SideUnusable: the expected side is about another objective.
        """
        self._expected, self._options = expected, replace(options, objective=objective)
        self._measure = measure
        self._stretches: dict[tuple[str, Segment | None], dict[Stretch, None]] = {}
        self._begun = False
        self.notes: Sequence[str] = ()
        """What looks wrong in the comparison of the first row."""
        about = objective_of(expected) if expected else ""
        if expected and about not in ("", objective):
            raise SideUnusable(
                f"{expected.name} is about {about}, and the model about {objective}. Give what is expected of"
                " this model"
            )

    def row(self, values: Mapping[str, Value], found: Side) -> Row:
        """What was found at some values. Raises SideUnusable."""
        labels: Counter[str] = Counter()
        for line in found.lines:
            assert isinstance(line.content, Sequence)
            labels.update(label_of(one) for one in line.content)
        counted = dict(sorted(labels.items()))
        if self._expected is None:
            return Row(values, counted)
        side = Side(found.name)
        side.failed = found.failed
        side.lines = [self._with_stretches(line) for line in found.lines]
        report = compare(self._expected, side, self._options)
        if not self._begun:
            self._begun, self.notes = True, report.notes
        return Row(values, counted, report.by_label(), self._measure(report))

    def _with_stretches(self, line: Line) -> Line:
        assert isinstance(line.content, Sequence)
        known = self._stretches.setdefault((line.video, line.segment), {})
        known.update(dict.fromkeys(stretches_of(line.content)))
        return replace(line, stretches=list(known))


def best(rows: Sequence[Row]) -> Row:
    """The row with the best F1; of several, the last."""
    return max(reversed(rows), key=lambda row: row.in_all.f1 if row.in_all else 0.0)
