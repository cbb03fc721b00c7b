"""Scores an action recogniser's output against a clip's truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emulator.comparison.counts import Counts
from emulator.comparison.matching import best_first
from emulator.factory.scene import Truth

TOLERANCE_S = 0.2
"""Greatest distance, in seconds, between a predicted moment and the true one."""


@dataclass(frozen=True)
class ActionScore:
    """Counts that add up over clips; the figures are derived.

    A prediction is right if an action with its label lies within the tolerance and no other prediction has
    taken that action. errors: seconds between predicted and true moment, of right predictions.
    """

    right: int = 0
    predicted: int = 0
    expected: int = 0
    errors: tuple[float, ...] = ()

    def __add__(self, other: ActionScore) -> ActionScore:
        return ActionScore(
            self.right + other.right,
            self.predicted + other.predicted,
            self.expected + other.expected,
            self.errors + other.errors,
        )

    @property
    def f1(self) -> float:
        return self.f1_within(float("inf"))

    def f1_within(self, tolerance: float) -> float:
        """F1 with a smaller tolerance, in seconds, than that of the counts."""
        near = sum(error <= tolerance + 1e-9 for error in self.errors)
        return Counts(near, self.expected - near, self.predicted - near).f1

    @property
    def false(self) -> int:
        return self.predicted - self.right

    @property
    def missed(self) -> int:
        return self.expected - self.right

    @property
    def mean_error(self) -> float:
        return sum(self.errors) / len(self.errors) if self.errors else 0.0


def score_actions(
    truth: Truth, predictions: Sequence[Mapping[str, Any]], *, tolerance: float = TOLERANCE_S
) -> ActionScore:
    """Compare the `prediction` list of an output line with the truth. The nearest pairs are matched first."""
    moments = [(moment.label, moment.time) for moment in truth.actions]
    found = [(one["displayName"], float(one["timeSegmentStart"].removesuffix("s"))) for one in predictions]
    near = sorted(
        (abs(at - time), i, j)
        for i, (label, time) in enumerate(moments)
        for j, (name, at) in enumerate(found)
        if label == name and abs(at - time) <= tolerance + 1e-9
    )
    errors = tuple(error for error, _, _ in best_first(near))
    return ActionScore(len(errors), len(found), len(moments), errors)
