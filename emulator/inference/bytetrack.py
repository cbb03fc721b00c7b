"""ByteTrack in numpy: links the detections of one object across frames (Zhang et al., ECCV 2022).

Four independent constant-velocity Kalman filters follow every box (centre x, centre y, width, height), so a
handful of array operations predicts and corrects all tracks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emulator.inference.association import Corners, Floats, Ints, assign, corners, iou, pairs, to_center
from emulator.inference.heads import Detections
from emulator.inference.sections import TrackerSection

NEW, TRACKED, LOST = 0, 1, 2
#: Noise as shares of the box's width and height. It is given as rates, as samples may be unevenly spaced. The
#: paper's figures are for 30 frames a second; at 10 a second objects turn more between two samples.
MEASUREMENT_STD = 1 / 20
POSITION_STD_PER_SQRT_S = 1.5 * 30**0.5 / 20
VELOCITY_STD_PER_SQRT_S = 2 * 30**1.5 / 160
BIRTH_VELOCITY_STD_PER_S = 30 / 16
#: Factor that enlarges boxes in the search for a track's second detection: its speed is not known yet.
NEW_GROWN = 2.0
#: The same factor, in the search for a lost track that no detection overlaps.
LOST_GROWN = 2.0
#: An occluded object looks smaller. Its last full size is kept, and decays towards the visible size by this
#: share of the difference per second.
SIZE_FORGOTTEN_PER_S = 0.2
#: A lost and a live track of one class that overlap more than this are the same object.
SAME_IOU = 0.85
#: The row whose size scales each row's noise: width for x and width, height for y and height.
_SIZES = [2, 3, 2, 3]
_GROWN = np.array([[1.0], [1.0], [NEW_GROWN], [NEW_GROWN]])


class ByteTrack:
    """Tracks the objects of one segment. It numbers its ids from 1, in order of first sight."""

    def __init__(self, settings: TrackerSection) -> None:
        self._settings = settings
        self.reset()

    def reset(self) -> None:
        """Forget everything; ids begin at 1 again."""
        self._next_id = 1
        self._time_us: int | None = None
        self._ids: Ints = np.zeros(0, np.int64)
        self._classes: Ints = np.zeros(0, np.int64)
        self._states: Ints = np.zeros(0, np.int64)
        self._seen_us: Ints = np.zeros(0, np.int64)
        # (5, 4, N): position, velocity (per second), variance of the position, covariance of both, variance
        # of the velocity; the rows of each are centre x, centre y, width, height.
        self._motion: Floats = np.zeros((5, 4, 0))
        # (2, N): full width and height of the object, as lately seen.
        self._whole: Floats = np.zeros((2, 0))

    def update(self, found: Detections, time_us: int) -> Ints:
        """Take the detections of the next frame. Return the track id of each, or 0 if it has none.

        Times must increase. A track not seen for longer than the settings' `buffer` is never continued.
        """
        self._predict(time_us)
        boxes = to_center(found.boxes)
        assigned = np.full(len(found), -1, np.int64)  # index of the track of each detection
        self._associate(found, boxes, assigned)
        self._correct(boxes, assigned, time_us)
        matched = assigned >= 0
        ids = np.zeros(len(found), np.int64)
        ids[matched] = self._ids[assigned[matched]]
        self._drop(time_us)
        born = np.flatnonzero((ids == 0) & (found.scores >= self._settings.new))
        if len(born):
            born = born[~self._is_taken(corners(boxes.take(born, 1)), found.classes[born])]
            ids[born] = self._start(boxes.take(born, 1), found.classes[born], time_us)
        return ids

    @property
    def _position(self) -> Floats:
        return np.asarray(self._motion[0])

    def _is_taken(self, boxes: Corners, classes: Ints) -> NDArray[np.bool_]:
        """Which boxes lie on an object that is tracked under another class: the detector wavers."""
        followed = np.flatnonzero(self._states != NEW)
        overlap = iou(corners(self._position.take(followed, 1)), boxes)
        rival = (overlap > self._settings.rival_iou) & (self._classes[followed, None] != classes)
        return np.asarray(rival.any(axis=0))

    def _associate(self, found: Detections, boxes: Floats, assigned: Ints) -> None:
        settings, states = self._settings, self._states
        overlap = iou(corners(self._position), corners(boxes))
        fresh = states == NEW
        if len(young := fresh.nonzero()[0]):
            grown = self._position.take(young, 1) * _GROWN
            overlap[young] = iou(corners(grown), corners(boxes * _GROWN))
        # From here on only the few pairs that overlap at all.
        tracks, seen = pairs(overlap, min(settings.match_iou, settings.second_iou, settings.new_iou))
        alike = self._classes[tracks] == found.classes[seen]
        tracks, seen = tracks[alike], seen[alike]
        overlaps = overlap[tracks, seen]
        fused = overlaps * found.scores[seen]
        high, low = found.scores >= settings.high, found.scores >= settings.low
        free = np.ones(len(states), bool)

        def match(candidates: NDArray[np.bool_], weights: Floats, least: float) -> None:
            picked = (candidates & (weights >= least)).nonzero()[0]
            if not len(picked):
                return
            taken = picked[assign(tracks[picked], seen[picked], weights[picked], least)]
            assigned[seen[taken]] = tracks[taken]
            free[tracks[taken]] = False

        match(high[seen] & ~fresh[tracks], fused, settings.match_iou)
        # Occluded objects score low. Unlike in the paper, a weak detection may also continue a lost track:
        # at 10 samples a second misses are common, and would lose many objects.
        weak = (low & ~high)[seen] & (free & ~fresh)[tracks]
        match(weak, overlaps, settings.second_iou)
        self._find_again(found, boxes, assigned, (free & (states == LOST)).nonzero()[0])
        free[assigned[assigned >= 0]] = False
        match((high & (assigned < 0))[seen] & fresh[tracks], fused, settings.new_iou)
        states[free & (states == TRACKED)] = LOST

    def _find_again(self, found: Detections, boxes: Floats, assigned: Ints, lost: Ints) -> None:
        """Match the remaining high-score detections with lost tracks that they do not overlap.

        An object that passes behind another seems to slow down, and appears as a sliver on the other side. So
        both boxes get the object's last full size, and are enlarged.
        """
        if not len(lost):
            return
        sought = np.flatnonzero((found.scores >= self._settings.high) & (assigned < 0))
        if not len(sought):
            return
        distance = np.abs(self._position[:2, lost, None] - boxes[:2, None, sought])
        sides = np.maximum(1.0 - distance / (LOST_GROWN * self._whole[:, lost, None]), 0.0)
        shared = sides[0] * sides[1]
        overlap = shared / (2.0 - shared) * (self._classes[lost, None] == found.classes[sought])
        least = self._settings.lost_iou
        tracks, seen = pairs(overlap, least)
        taken = assign(tracks, seen, overlap[tracks, seen], least)
        assigned[sought[seen[taken]]] = lost[tracks[taken]]

    def _predict(self, time_us: int) -> None:
        if self._time_us is not None and time_us <= self._time_us:
            raise ValueError(f"time {time_us} us is not after {self._time_us} us")
        seconds = 0.0 if self._time_us is None else (time_us - self._time_us) / 1e6
        self._time_us = time_us
        if not len(self._ids):
            return
        position, velocity, position_variance, covariance, velocity_variance = self._motion
        # The apparent growth of a lost object is not extrapolated: its last size is the best estimate.
        velocity[2:, self._states == LOST] = 0.0
        position += velocity * seconds
        size = position[_SIZES]
        np.maximum(size, 1e-6, out=size)
        position[2:] = size[2:]
        variance = size * size
        covariance_gain = seconds * velocity_variance
        position_variance += seconds * (2 * covariance + covariance_gain)
        position_variance += variance * (seconds * POSITION_STD_PER_SQRT_S**2)
        covariance += covariance_gain
        velocity_variance += variance * (seconds * VELOCITY_STD_PER_SQRT_S**2)

    def _correct(self, boxes: Floats, assigned: Ints, time_us: int) -> None:
        detections = (assigned >= 0).nonzero()[0]
        tracks = assigned[detections]
        if not len(tracks):
            return
        motion = self._motion.take(tracks, 2)
        position, velocity, position_variance, covariance, velocity_variance = motion
        total = position_variance + (position[_SIZES] * MEASUREMENT_STD) ** 2
        position_gain, velocity_gain = position_variance / total, covariance / total
        measured = boxes.take(detections, 1)
        error = measured - position
        position += position_gain * error
        velocity += velocity_gain * error
        velocity_variance -= velocity_gain * covariance
        rest = 1.0 - position_gain
        position_variance *= rest
        covariance *= rest
        self._motion[:, :, tracks] = motion
        size, whole = measured[2:], self._whole.take(tracks, 1)
        forgotten = np.minimum((time_us - self._seen_us[tracks]) * (SIZE_FORGOTTEN_PER_S / 1e6), 1.0)
        self._whole[:, tracks] = np.maximum(size, whole + (size - whole) * forgotten)
        self._states[tracks] = TRACKED
        self._seen_us[tracks] = time_us

    def _drop(self, time_us: int) -> None:
        settings = self._settings
        if (self._states == TRACKED).all():
            return
        # The very next frame must confirm a new track; a lost one may return within the buffer.
        unconfirmed = (self._states == NEW) & (self._seen_us < time_us)
        expired = (self._states == LOST) & (time_us - self._seen_us >= round(settings.buffer * 1e6))
        gone = unconfirmed | expired
        lost, live = np.flatnonzero((self._states == LOST) & ~gone), np.flatnonzero(self._states == TRACKED)
        if len(lost) and len(live):
            followed = corners(self._position)
            same = iou(followed.take(lost, 1), followed.take(live, 1)) > SAME_IOU
            same &= self._classes[lost, None] == self._classes[None, live]
            gone[lost[same.any(axis=1)]] = True
        if gone.any():
            self._keep(np.flatnonzero(~gone))

    def _keep(self, tracks: Ints) -> None:
        self._ids, self._classes = self._ids[tracks], self._classes[tracks]
        self._states, self._seen_us = self._states[tracks], self._seen_us[tracks]
        self._motion = self._motion.take(tracks, 2)
        self._whole = self._whole.take(tracks, 1)

    def _start(self, boxes: Floats, classes: Ints, time_us: int) -> Ints:
        count = boxes.shape[1]
        ids = np.arange(self._next_id, self._next_id + count)
        self._next_id += count
        variance = boxes[_SIZES] ** 2
        still = np.zeros_like(boxes)
        motion = np.stack(
            [
                boxes,
                still,
                variance * (2 * MEASUREMENT_STD) ** 2,
                still,
                variance * BIRTH_VELOCITY_STD_PER_S**2,
            ]
        )
        self._ids = np.concatenate([self._ids, ids])
        self._classes = np.concatenate([self._classes, classes])
        self._states = np.concatenate([self._states, np.full(count, NEW)])
        self._seen_us = np.concatenate([self._seen_us, np.full(count, time_us)])
        self._motion = np.concatenate([self._motion, motion], axis=2)
        self._whole = np.concatenate([self._whole, boxes[2:]], axis=1)
        return ids
