"""What every tracker needs: how much boxes overlap, and which pairs of tracks and detections to take."""

from __future__ import annotations

import lap
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def to_center(boxes: NDArray[np.float32]) -> Floats:
    """xyxy (N, 4) -> rows centre x, centre y, width, height (4, N)."""
    corners = boxes.astype(np.float64).reshape(-1, 4).T
    center = np.empty_like(corners)
    np.add(corners[:2], corners[2:], out=center[:2])
    center[:2] *= 0.5
    np.subtract(corners[2:], corners[:2], out=center[2:])
    np.maximum(center[2:], 1e-6, out=center[2:])
    return center


def iou(left: Floats, right: Floats) -> Floats:
    """Overlap of every left box (4, N) with every right one (4, M), by centre and size -> (N, M)."""
    half, right_half = left[2:] / 2, right[2:] / 2
    least, most = left[:2] - half, left[:2] + half
    right_least, right_most = right[:2] - right_half, right[:2] + right_half
    shared = _common(least[0], most[0], right_least[0], right_most[0])
    shared *= _common(least[1], most[1], right_least[1], right_most[1])
    total = (left[2] * left[3])[:, None] + right[2] * right[3]
    total -= shared
    shared /= total
    return shared


def _common(least: Floats, most: Floats, right_least: Floats, right_most: Floats) -> Floats:
    """Length that every left stretch (N,) has in common with every right one (M,) -> (N, M)."""
    common = np.minimum(most[:, None], right_most)
    common -= np.maximum(least[:, None], right_least)
    np.maximum(common, 0.0, out=common)
    return common


def assign(rows: Ints, columns: Ints, weights: Floats, least: float) -> list[int]:
    """Which of the pairs (row, column) to take for the greatest total weight above `least`, each row once."""
    if not len(rows):
        return []
    # A pair that has no rival on either side is settled; the solver gets what is left.
    alone = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1)
    taken: list[int] = np.flatnonzero(alone).tolist()
    rivals = np.flatnonzero(~alone)
    if len(rivals):
        row, column = _renumbered(rows[rivals]), _renumbered(columns[rivals])
        cost = np.full((row.max() + 1, column.max() + 1), 2.0)
        cost[row, column] = 1.0 - weights[rivals]
        chosen, _ = lap.lapjv(cost, extend_cost=True, cost_limit=1.0 - least, return_cost=False)
        taken += rivals[chosen[row] == column].tolist()
    return taken


def _renumbered(numbers: Ints) -> Ints:
    """The same in fewer numbers: 0, 1, 2 ... without holes, in the same order."""
    return (np.cumsum(np.bincount(numbers) > 0) - 1)[numbers]
