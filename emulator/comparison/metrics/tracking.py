"""HOTA, IDF1 and MOTA from their published definitions.

HOTA: Luiten et al., IJCV 2021. IDF1: Ristani et al., ECCV workshops 2016. MOTA: Bernardin and Stiefelhagen,
EURASIP JIVP 2008.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import lap
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SAME = 0.5
"""The least IoU at which IDF1 and MOTA match two boxes."""
THRESHOLDS = np.arange(1, 20) / 20
"""The IoU thresholds over which HOTA is averaged."""


@dataclass(frozen=True)
class Moment:
    """One frame: ids of true objects (T,), ids of tracked boxes (S,), and their IoU (T, S), 0 to 1."""

    true: Ints
    seen: Ints
    overlap: Floats


@dataclass(frozen=True)
class Figures:
    """The three metrics; 1 is perfect."""

    hota: float
    idf1: float
    mota: float


def figures(moments: Sequence[Moment]) -> Figures:
    """Return the three metrics of a sequence with at least one true object."""
    moments = _renumbered(moments)
    return Figures(hota(moments), idf1(moments), mota(moments))


def hota(moments: Sequence[Moment]) -> float:
    """Return HOTA: the mean over the thresholds of sqrt(DetA * AssA)."""
    true, seen = _presence(moments)
    # The similarity of a true and a tracked object over all frames decides the pairs of each frame.
    shared = np.zeros((len(true), len(seen)))
    for moment in moments:
        both = moment.overlap.sum(axis=1, keepdims=True) + moment.overlap.sum(axis=0) - moment.overlap
        shared[np.ix_(moment.true, moment.seen)] += moment.overlap / np.maximum(both, 1e-12)
    fit = shared / np.maximum(true[:, None] + seen - shared, 1e-12)
    together = np.zeros((len(THRESHOLDS), len(true), len(seen)))
    for moment in moments:
        weights = fit[np.ix_(moment.true, moment.seen)] * moment.overlap
        for row, column in pairs(weights):
            reached = moment.overlap[row, column] >= THRESHOLDS - 1e-9
            together[reached, moment.true[row], moment.seen[column]] += 1
    found = together.sum(axis=(1, 2))
    detection = found / (true.sum() + seen.sum() - found)
    alike = together / np.maximum(true[:, None] + seen - together, 1)
    association = (together * alike).sum(axis=(1, 2)) / np.maximum(found, 1)
    return float(np.sqrt(detection * association).mean())


def idf1(moments: Sequence[Moment]) -> float:
    """Return IDF1: the share of right boxes if each true object may match only one tracked object."""
    true, seen = _presence(moments)
    together = np.zeros((len(true), len(seen)))
    for moment in moments:
        together[np.ix_(moment.true, moment.seen)] += moment.overlap >= SAME
    right = sum(together[pair] for pair in pairs(together))
    return float(2 * right / (true.sum() + seen.sum()))


def mota(moments: Sequence[Moment]) -> float:
    """Return MOTA: 1 minus (misses + false boxes + identity switches) per true box."""
    last: dict[int, int] = {}
    before: set[tuple[int, int]] = set()
    wrong = 0
    for moment in moments:
        # Pairs of the previous frame stay while they overlap enough; the rest are matched by overlap.
        kept = [[(one, other) in before for other in moment.seen] for one in moment.true]
        weights = moment.overlap + 1000.0 * np.array(kept, bool).reshape(moment.overlap.shape)
        matched = [
            (int(moment.true[row]), int(moment.seen[column]))
            for row, column in pairs(weights * (moment.overlap >= SAME))
        ]
        wrong += len(moment.true) + len(moment.seen) - 2 * len(matched)
        wrong += sum(last.get(one, other) != other for one, other in matched)
        last.update(matched)
        # As in TrackEval: a frame in which one side is empty does not separate the previous pairs.
        before = set(matched) if len(moment.true) and len(moment.seen) else before
    return 1.0 - wrong / sum(len(moment.true) for moment in moments)


def pairs(weights: Floats) -> list[tuple[int, int]]:
    """Return the one-to-one pairs (row, column) of greatest total weight, without pairs of weight 0."""
    if not weights.size:
        return []
    chosen, _ = lap.lapjv(weights.max() - weights, extend_cost=True, return_cost=False)
    return [(row, column) for row, column in enumerate(chosen) if column >= 0 and weights[row, column] > 0]


def _renumbered(moments: Sequence[Moment]) -> list[Moment]:
    """Return the frames with ids renumbered from 0 without gaps."""
    true = np.unique(np.concatenate([moment.true for moment in moments]))
    seen = np.unique(np.concatenate([moment.seen for moment in moments]))
    return [
        Moment(np.searchsorted(true, moment.true), np.searchsorted(seen, moment.seen), moment.overlap)
        for moment in moments
    ]


def _presence(moments: Sequence[Moment]) -> tuple[Floats, Floats]:
    """Return the number of frames that contain each true id and each tracked id."""
    true = np.bincount(np.concatenate([moment.true for moment in moments]))
    seen = np.bincount(np.concatenate([moment.seen for moment in moments]))
    return true.astype(np.float64), seen.astype(np.float64)
