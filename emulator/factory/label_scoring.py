"""Scores a video classifier's output against the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emulator.comparison.counts import Counts
from emulator.factory.scene import Truth

THRESHOLD = 0.5
"""A label with at least this confidence counts as predicted."""
ENOUGH = 0.2
"""A label is expected if it is clearly visible for this share of the stretch."""
CLEARLY = 0.5
"""An object is clearly visible if this share of its pixels is."""
SECOND_US = 1_000_000


@dataclass(frozen=True)
class LabelScore:
    """Counts of labels of stretches. They add up over clips; the figures are derived.

    A label is expected if it is clearly visible for a share ENOUGH of the stretch, and not expected if it is
    never visible. All other labels are ignored.
    """

    right: int = 0
    false: int = 0
    missed: int = 0

    def __add__(self, other: LabelScore) -> LabelScore:
        return LabelScore(self.right + other.right, self.false + other.false, self.missed + other.missed)

    @property
    def counts(self) -> Counts:
        return Counts(self.right, self.missed, self.false)

    @property
    def precision(self) -> float:
        return self.counts.precision

    @property
    def recall(self) -> float:
        return self.counts.recall

    @property
    def f1(self) -> float:
        return self.counts.f1


def score_labels(truth: Truth, predictions: Sequence[Mapping[str, Any]], kind: str) -> LabelScore:
    """Compare the items of one `type` in the `prediction` list of an output line with the truth.

    The job must have asked for all rows (no threshold, no limit), and its segment must begin with the video.
    A label without a row is not judged.
    """
    score = LabelScore()
    for one in predictions:
        if one["type"] == kind:
            start_us, end_us = _stretch(one)
            said = one["confidence"] >= THRESHOLD
            if truth.seen(one["displayName"], start_us, end_us, visible=CLEARLY) >= ENOUGH:
                score += LabelScore(right=int(said), missed=int(not said))
            elif truth.seen(one["displayName"], start_us, end_us) == 0:
                score += LabelScore(false=int(said))
    return score


def _stretch(one: Mapping[str, Any]) -> tuple[int, int]:
    start_us, end_us = (
        round(float(one[name].removesuffix("s")) * 1e6) for name in ("timeSegmentStart", "timeSegmentEnd")
    )
    if start_us == end_us:
        start_us -= start_us % SECOND_US
        end_us = start_us + SECOND_US
    return start_us, end_us
