"""The plain tracker (Bochinski et al., AVSS 2017): a detection continues the track that it overlaps most.

It does not predict motion. It is right if objects overlap themselves from sample to sample, and its results
are easy to work out by hand.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emulator.inference.association import Floats, Ints, assign, corners, iou, pairs, to_center
from emulator.inference.heads import Detections
from emulator.inference.sections import TrackerSection


class IouTracker:
    """Tracks the objects of one segment, as ByteTrack does. It uses the settings `low`, `new`, `match_iou`
    and `buffer`."""

    def __init__(self, settings: TrackerSection) -> None:
        self._settings = settings
        self.reset()

    def reset(self) -> None:
        """Forget everything; ids begin at 1 again."""
        self._next_id = 1
        self._time_us: int | None = None
        self._ids: Ints = np.zeros(0, np.int64)
        self._classes: Ints = np.zeros(0, np.int64)
        self._seen_us: Ints = np.zeros(0, np.int64)
        self._boxes: Floats = np.zeros((4, 0))  # rows centre x, centre y, width, height

    def update(self, found: Detections, time_us: int) -> Ints:
        """Take the detections of the next frame. Return the track id of each, or 0 if it has none.

        Times must increase. A track ends if the frame before did not show it and it has not been seen for the
        settings' `buffer`.
        """
        if self._time_us is not None and time_us <= self._time_us:
            raise ValueError(f"time {time_us} us is not after {self._time_us} us")
        lately = time_us - self._seen_us < round(self._settings.buffer * 1e6)
        self._keep(lately | (self._seen_us == self._time_us))
        self._time_us = time_us
        boxes = to_center(found.boxes)
        ids = np.zeros(len(found), np.int64)
        tracks, seen = self._matches(found, boxes)
        ids[seen] = self._ids[tracks]
        self._boxes[:, tracks] = boxes[:, seen]
        self._seen_us[tracks] = time_us
        born = np.flatnonzero((ids == 0) & (found.scores >= self._settings.new))
        ids[born] = self._start(boxes[:, born], found.classes[born], time_us)
        return ids

    def _matches(self, found: Detections, boxes: Floats) -> tuple[Ints, Ints]:
        """Indices of the continued tracks and of their detections, for the greatest total overlap."""
        overlap, least = iou(corners(self._boxes), corners(boxes)), self._settings.match_iou
        tracks, seen = pairs(overlap, least)
        fit = (self._classes[tracks] == found.classes[seen]) & (found.scores[seen] >= self._settings.low)
        tracks, seen = tracks[fit], seen[fit]
        taken = assign(tracks, seen, overlap[tracks, seen], least)
        return tracks[taken], seen[taken]

    def _keep(self, tracks: NDArray[np.bool_]) -> None:
        self._ids, self._classes = self._ids[tracks], self._classes[tracks]
        self._seen_us, self._boxes = self._seen_us[tracks], self._boxes[:, tracks]

    def _start(self, boxes: Floats, classes: Ints, time_us: int) -> Ints:
        ids = np.arange(self._next_id, self._next_id + len(classes))
        self._next_id += len(classes)
        self._ids = np.concatenate([self._ids, ids])
        self._classes = np.concatenate([self._classes, classes])
        self._seen_us = np.concatenate([self._seen_us, np.full(len(classes), time_us)])
        self._boxes = np.concatenate([self._boxes, boxes], axis=1)
        return ids
