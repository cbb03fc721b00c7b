"""The rows of a sweep: number and quality of predictions at each value of a setting."""

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
    """The result for one combination of values.

    labels: the number of predictions by label. counts: by label; None without expectations.
    figures: metrics by name.
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
        """The counts of all labels together; None without expectations."""
        return None if self.counts is None else sum(self.counts.values(), Counts())

    def as_json(self) -> dict[str, Any]:
        found = {"values": dict(self.values), "predictions": self.predictions, "byLabel": dict(self.labels)}
        if self.counts is None or self.in_all is None:
            return found
        labels = {label: counts_json(counts) for label, counts in self.counts.items()}
        return {**found, **counts_json(self.in_all), "labels": labels, "metrics": dict(self.figures)}


class Sweep:
    """Computes the rows of a sweep.

    Pass the values that keep most predictions first. The expectations of a classification depend on the
    intervals that are labelled, and each row is also judged by all intervals of the rows before it.
    """

    def __init__(
        self,
        objective: str,
        expected: Side | None = None,
        options: Options = USUAL,
        measure: Callable[[Report], Mapping[str, float]] = lambda _: {},
    ) -> None:
        """Prepare. `expected`: what predictions are compared with, if anything. `measure`: returns figures.

        Raises:
            SideUnusable: the expected side has another objective.
        """
        self._expected, self._options = expected, replace(options, objective=objective)
        self._measure = measure
        self._stretches: dict[tuple[str, Segment | None], dict[Stretch, None]] = {}
        self._begun = False
        self.notes: Sequence[str] = ()
        """The notes of the first row's comparison."""
        about = objective_of(expected) if expected else ""
        if expected and about not in ("", objective):
            raise SideUnusable(
                f"{expected.name} is about {about}, and the model about {objective}. Give what is expected of"
                " this model"
            )

    def row(self, values: Mapping[str, Value], found: Side) -> Row:
        """Return the row for these values and the predictions found with them. Raises SideUnusable."""
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
    """Return the row with the best F1; of equal rows, the last."""
    return max(reversed(rows), key=lambda row: row.in_all.f1 if row.in_all else 0.0)
