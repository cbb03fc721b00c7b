"""Pools the scores of single moments into confidences for stretches of video, and keeps the best of these."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from emulator.vertex.objectives.classification import ClassificationPrediction


class Pool:
    """The power mean of the scores of one stretch, per label."""

    def __init__(self, labels: int, emphasis: float) -> None:
        self._emphasis = emphasis
        self._sum = np.zeros(labels, np.float64)
        self.count = 0

    def add(self, scores: NDArray[np.float32]) -> None:
        """Take the scores (labels,) of one more moment."""
        self._sum += scores.astype(np.float64) ** self._emphasis
        self.count += 1

    def confidences(self) -> NDArray[np.float64]:
        """The power mean of the added scores, (labels,), 0 to 1."""
        return np.asarray((self._sum / max(1, self.count)) ** (1 / self._emphasis), np.float64)


class Best:
    """The most confident predictions, at most `limit`; of equal ones, the earlier."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._heap: list[tuple[float, int, ClassificationPrediction]] = []
        self._seen = 0

    def add(self, prediction: ClassificationPrediction) -> None:
        """Take one more prediction, if it is confident enough."""
        self._seen += 1
        entry = (prediction.confidence, -self._seen, prediction)
        if len(self._heap) < self._limit:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def __iter__(self) -> Iterator[ClassificationPrediction]:
        """The best first."""
        return (entry[2] for entry in sorted(self._heap, reverse=True))
