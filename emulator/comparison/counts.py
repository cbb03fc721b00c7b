"""How many predictions are right: counts that add up, and the figures that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Counts:
    """Expectations that a prediction meets, those that none meets, and predictions that meet none."""

    matched: int = 0
    missed: int = 0
    extra: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.matched + other.matched, self.missed + other.missed, self.extra + other.extra)

    @property
    def precision(self) -> float:
        """1 where nothing is found."""
        return _share(self.matched, self.matched + self.extra)

    @property
    def recall(self) -> float:
        """1 where nothing is expected."""
        return _share(self.matched, self.matched + self.missed)

    @property
    def f1(self) -> float:
        """1 where nothing is expected and nothing is found."""
        return _share(2 * self.matched, 2 * self.matched + self.missed + self.extra)


def counts_json(counts: Counts) -> dict[str, Any]:
    """Counts and what follows from them, as JSON."""
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
