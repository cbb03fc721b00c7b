"""Average precision and confusion matrix of classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NOTHING = "(none)"
"""The class in a confusion matrix for a label without a counterpart on the other side."""


def average_precision(true: NDArray[np.bool_], scores: NDArray[np.float64]) -> float | None:
    """Return the average precision as scikit-learn defines it; None if nothing is true.

    `true` says for each item whether it has the class; `scores` are its confidences. Both are (N,).
    """
    if not true.any():
        return None
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(true[order])
    # Equal scores form one step.
    steps = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    precision = hits[steps] / (steps + 1)
    recall = hits[steps] / hits[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def confusion(pairs: Sequence[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Return the confusion matrix: counts by expected class (outer key) and found class (inner key)."""
    counted: dict[str, dict[str, int]] = {}
    for expected, found in sorted(pairs):
        row = counted.setdefault(expected, {})
        row[found] = row.get(found, 0) + 1
    return counted
