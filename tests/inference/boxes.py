"""Detections made up for trackers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emulator.inference.heads import Detections

Seen = tuple[float, float, float, float]  # centre x, centre y, score, class
STEP_US = 100_000


def detections(objects: Sequence[Seen], width: float = 0.1, height: float = 0.2) -> Detections:
    boxes = [(x - width / 2, y - height / 2, x + width / 2, y + height / 2) for x, y, _, _ in objects]
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([score for _, _, score, _ in objects], np.float32),
        np.array([label for _, _, _, label in objects], np.int64),
    )
