"""COCO's average precision of boxes: 101 points of recall, separately for each IoU threshold.

Sources: Lin et al., ECCV 2014; pycocotools' `COCOeval`, for areas of any size and any number of boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""The IoU thresholds over which AP is averaged; the first gives AP50."""
_RECALLS = np.linspace(0.0, 1.0, 101)
_SURE = 1 - 1e-10  # An IoU of 1 may be slightly less in floating point.


@dataclass(frozen=True)
class Picture:
    """The boxes of a label in a frame: confidences of found boxes (D,), their IoU with true boxes (D, T)."""

    scores: Floats
    overlap: Floats


def average_precisions(pictures: Sequence[Picture]) -> Floats | None:
    """Return the AP of a label at each threshold; None if no frame has a true box of it."""
    true = sum(picture.overlap.shape[1] for picture in pictures)
    if not true:
        return None
    scores = np.concatenate([picture.scores for picture in pictures])
    right = np.concatenate([_right(picture) for picture in pictures], axis=1)
    order = np.argsort(-scores, kind="stable")
    return np.array([_area(row[order], true) for row in right])


def _right(picture: Picture) -> NDArray[np.bool_]:
    """Return which found boxes are right at each threshold (T, D). The most confident match first."""
    least = np.minimum(THRESHOLDS, _SURE)[:, None]
    right = np.zeros((len(THRESHOLDS), len(picture.scores)), bool)
    free = np.ones((len(THRESHOLDS), picture.overlap.shape[1]), bool)
    if not picture.overlap.shape[1]:
        return right
    rows = np.arange(len(THRESHOLDS))
    for place in np.argsort(-picture.scores, kind="stable"):
        shares = np.where(free, picture.overlap[place], -1.0)
        # Of equal overlaps the last one is taken, as in COCOeval.
        best = shares.shape[1] - 1 - shares[:, ::-1].argmax(axis=1)
        met = shares[rows, best] >= least[:, 0]
        right[:, place] = met
        free[rows[met], best[met]] = False
    return right


def _area(right: NDArray[np.bool_], true: int) -> float:
    """Return the mean, over the points of recall, of the best precision at that recall or a higher one."""
    hits = np.cumsum(right)
    recall = hits / true
    precision = hits / np.maximum(np.arange(1, len(right) + 1), 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, _RECALLS, side="left")
    reached = places < len(right)
    return float(precision[places[reached]].sum() / len(_RECALLS))


def overlaps(left: ArrayLike, right: ArrayLike) -> Floats:
    """Return the IoU of boxes given as corners: (N, 4) and (M, 4) -> (N, M)."""
    one = np.asarray(left, np.float64).reshape(-1, 1, 4)
    other = np.asarray(right, np.float64).reshape(1, -1, 4)
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    shared = np.maximum(sides, 0).prod(axis=-1)
    total = (one[..., 2:] - one[..., :2]).prod(axis=-1) + (other[..., 2:] - other[..., :2]).prod(axis=-1)
    return np.asarray(shared / np.maximum(total - shared, 1e-12))
