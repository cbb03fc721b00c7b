"""Average precision and confusion of classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NOTHING = "(none)"
"""In a confusion, the class of what is not expected or not found at all."""


def average_precision(true: NDArray[np.bool_], scores: NDArray[np.float64]) -> float | None:
    """The mean precision over the steps of recall, as scikit-learn has it; None if nothing is true."""
    if not true.any():
        return None
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(true[order])
    # Equal scores are one step.
    steps = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    precision = hits[steps] / (steps + 1)
    recall = hits[steps] / hits[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def confusion(pairs: Sequence[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """How often a class (outer) was taken for another (inner), given expected and found ones."""
    counted: dict[str, dict[str, int]] = {}
    for expected, found in sorted(pairs):
        row = counted.setdefault(expected, {})
        row[found] = row.get(found, 0) + 1
    return counted
