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
"""Least overlap at which IDF1 and MOTA call two boxes the same."""
THRESHOLDS = np.arange(1, 20) / 20
"""The overlaps over which HOTA is averaged."""


@dataclass(frozen=True)
class Moment:
    """One frame: ids of true objects (T,), of the tracked boxes (S,), and overlaps (T, S), 0 to 1."""

    true: Ints
    seen: Ints
    overlap: Floats


@dataclass(frozen=True)
class Figures:
    """1 is perfect."""

    hota: float
    idf1: float
    mota: float


def figures(moments: Sequence[Moment]) -> Figures:
    """All three of a sequence in which at least one object is to be seen."""
    moments = _renumbered(moments)
    return Figures(hota(moments), idf1(moments), mota(moments))


def hota(moments: Sequence[Moment]) -> float:
    """Mean over the thresholds of sqrt(DetA * AssA)."""
    true, seen = _presence(moments)
    # How well a true and a tracked object fit each other over all frames decides whom a frame pairs.
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
    """Share of the boxes that are right when each true object may have only one tracked one."""
    true, seen = _presence(moments)
    together = np.zeros((len(true), len(seen)))
    for moment in moments:
        together[np.ix_(moment.true, moment.seen)] += moment.overlap >= SAME
    right = sum(together[pair] for pair in pairs(together))
    return float(2 * right / (true.sum() + seen.sum()))


def mota(moments: Sequence[Moment]) -> float:
    """1 less the misses, false boxes and changes of identity for each true box."""
    last: dict[int, int] = {}
    before: set[tuple[int, int]] = set()
    wrong = 0
    for moment in moments:
        # Pairs of the frame before stay together while they overlap enough; then the closest are taken.
        kept = [[(one, other) in before for other in moment.seen] for one in moment.true]
        weights = moment.overlap + 1000.0 * np.array(kept, bool).reshape(moment.overlap.shape)
        matched = [
            (int(moment.true[row]), int(moment.seen[column]))
            for row, column in pairs(weights * (moment.overlap >= SAME))
        ]
        wrong += len(moment.true) + len(moment.seen) - 2 * len(matched)
        wrong += sum(last.get(one, other) != other for one, other in matched)
        last.update(matched)
        # As in TrackEval: a frame in which one side has nothing does not part what was together before.
        before = set(matched) if len(moment.true) and len(moment.seen) else before
    return 1.0 - wrong / sum(len(moment.true) for moment in moments)


def pairs(weights: Floats) -> list[tuple[int, int]]:
    """One-to-one pairs (row, column) of the greatest total weight; none of weight 0."""
    if not weights.size:
        return []
    chosen, _ = lap.lapjv(weights.max() - weights, extend_cost=True, return_cost=False)
    return [(row, column) for row, column in enumerate(chosen) if column >= 0 and weights[row, column] > 0]


def _renumbered(moments: Sequence[Moment]) -> list[Moment]:
    """The same with ids from 0 without holes."""
    true = np.unique(np.concatenate([moment.true for moment in moments]))
    seen = np.unique(np.concatenate([moment.seen for moment in moments]))
    return [
        Moment(np.searchsorted(true, moment.true), np.searchsorted(seen, moment.seen), moment.overlap)
        for moment in moments
    ]


def _presence(moments: Sequence[Moment]) -> tuple[Floats, Floats]:
    """In how many frames each true and each tracked id is."""
    true = np.bincount(np.concatenate([moment.true for moment in moments]))
    seen = np.bincount(np.concatenate([moment.seen for moment in moments]))
    return true.astype(np.float64), seen.astype(np.float64)
