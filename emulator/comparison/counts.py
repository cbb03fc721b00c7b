"""Counts of matched, missed and extra predictions, with precision, recall and F1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Counts:
    """Numbers of matched and missed expectations and of extra predictions. Counts can be added."""

    matched: int = 0
    missed: int = 0
    extra: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.matched + other.matched, self.missed + other.missed, self.extra + other.extra)

    @property
    def precision(self) -> float:
        """The share of predictions that match; 1 if there are none."""
        return _share(self.matched, self.matched + self.extra)

    @property
    def recall(self) -> float:
        """The share of expectations that are matched; 1 if there are none."""
        return _share(self.matched, self.matched + self.missed)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 1 if nothing is expected and nothing found."""
        return _share(2 * self.matched, 2 * self.matched + self.missed + self.extra)


def counts_json(counts: Counts) -> dict[str, Any]:
    """Return counts, precision, recall and F1 as JSON."""
    return {
        "matched": counts.matched,
        "missed": counts.missed,
        "extra": counts.extra,
        "precision": counts.precision,
        "recall": counts.recall,
        "f1": counts.f1,
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
