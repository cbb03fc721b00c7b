"""Predictions at each value of a setting: how many there are, and how good they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from emulator.comparison.axis import Value
from emulator.comparison.counts import Counts, counts_json
from emulator.comparison.lines import Line, Segment, Stretch, stretches_of
from emulator.comparison.report import Options, Report, compare, label_of, objective_of
from emulator.comparison.sides import Side, SideUnusable

USUAL = Options()


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
