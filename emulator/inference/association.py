"""Functions that every tracker needs: overlaps of boxes, and the assignment of detections to tracks."""

from __future__ import annotations

from typing import Any

import lap
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
#: Exact enough for overlaps, and half as many bytes to read.
Corners = NDArray[np.float32]
#: In units of the picture. Edges are clamped to +-FARTHEST and sides to at least LEAST_SIDE, so that float32
#: can still tell the two edges of a box apart.
FARTHEST, LEAST_SIDE = 4.0, 1e-6


def to_center(boxes: NDArray[np.float32]) -> Floats:
    """xyxy (N, 4), relative to the picture -> rows centre x, centre y, width, height (4, N)."""
    edges = boxes.reshape(-1, 4).T.astype(np.float64, order="C")
    np.clip(edges, -FARTHEST, FARTHEST, out=edges)
    center = np.empty_like(edges)
    np.add(edges[:2], edges[2:], out=center[:2])
    center[:2] *= 0.5
    np.subtract(edges[2:], edges[:2], out=center[2:])
    np.maximum(center[2:], LEAST_SIDE, out=center[2:])
    return center


def corners(boxes: Floats) -> Corners:
    """Rows centre x, centre y, width, height -> least x, least y, greatest x, greatest y (4, N)."""
    half = boxes[2:] * 0.5
    edges = np.empty(boxes.shape, np.float32)
    np.subtract(boxes[:2], half, out=edges[:2], casting="same_kind")
    np.add(boxes[:2], half, out=edges[2:], casting="same_kind")
    return edges


def iou(left: Corners, right: Corners) -> NDArray[np.float32]:
    """Overlap of every left box (4, N) with every right one (4, M) -> (N, M)."""
    left_sides, right_sides = left[2:] - left[:2], right[2:] - right[:2]
    common = np.minimum(left[2:, :, None], right[2:, None])
    common -= np.maximum(left[:2, :, None], right[:2, None])
    np.maximum(common, 0.0, out=common)
    shared, total = common
    shared *= total
    np.add((left_sides[0] * left_sides[1])[:, None], right_sides[0] * right_sides[1], out=total)
    total -= shared
    shared /= total
    return np.asarray(shared)


def pairs(overlap: NDArray[np.floating[Any]], least: float) -> tuple[Ints, Ints]:
    """Row and column numbers of the pairs that overlap by `least` or more, and by more than 0."""
    # In two dimensions np.nonzero takes six times as long.
    rows, columns = np.divmod(np.flatnonzero(overlap >= max(1e-9, least)), max(1, overlap.shape[1]))
    return rows, columns


def assign(rows: Ints, columns: Ints, weights: NDArray[np.floating[Any]], least: float) -> Ints:
    """Choose the pairs (row, column) with the greatest total weight above `least`; each row and column once.

    Returns:
        The positions of the chosen pairs in `rows`.
    """
    if not len(rows):
        return np.zeros(0, np.int64)
    # A pair without a rival on either side is settled; the solver gets only the others.
    settled = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1)
    rivals = (~settled).nonzero()[0]
    if len(rivals):
        row, column = _renumbered(rows[rivals]), _renumbered(columns[rivals])
        cost = np.full((row.max() + 1, column.max() + 1), 2.0)
        cost[row, column] = 1.0 - weights[rivals]
        chosen, _ = lap.lapjv(cost, extend_cost=True, cost_limit=1.0 - least, return_cost=False)
        settled[rivals] = chosen[row] == column
    return np.asarray(settled.nonzero()[0])


def _renumbered(numbers: Ints) -> Ints:
    """Map the numbers to 0, 1, 2 ... without gaps, in the same order."""
    return (np.cumsum(np.bincount(numbers) > 0) - 1)[numbers]
