"""Turns a tracker's sightings into ObjectTrack predictions: which tracks count, frames, confidence."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from emulator.inference.manifest import ModelManifest
from emulator.inference.sections import TrackerSection
from emulator.vertex.objectives.object_tracking import ObjectTrack, TrackFrame
from emulator.vertex.parameters import ModelParameters


def settings_for(manifest: ModelManifest, parameters: ModelParameters) -> TrackerSection:
    """The tracker's settings for a job. If the job asks for low confidences, tracks may begin with them.

    Vertex: predictions of at least confidenceThreshold are returned. Emulator: if a job gives none, the
    model's own thresholds apply, because 0 would make a track of nearly every mistake.
    """
    settings = manifest.tracker
    if not parameters.asks_threshold or parameters.confidence_threshold >= settings.new:
        return settings
    new = max(parameters.confidence_threshold, manifest.output.min_score)
    low = min(settings.low, new)
    return replace(settings, new=new, high=max(low, min(settings.high, new)), low=low)


class TrackHistory:
    """The sightings of one object in one segment, kept compactly: three hours of video must fit."""

    def __init__(self, class_index: int) -> None:
        self.class_index = class_index
        self._points = array("q")  # first and last grid point of each sighting
        self._boxes = array("f")  # x min, y min, x max, y max of each sighting
        self._score_sum = 0.0

    def add(self, first: int, last: int, box: NDArray[np.float32], score: float) -> None:
        """Record a sighting whose frame stands for the grid points `first` to `last`."""
        self._points.extend((first, last))
        self._boxes.extend(box.tolist())
        self._score_sum += score

    def __len__(self) -> int:
        return len(self._points) // 2

    @property
    def first(self) -> int:
        """The grid point of the first sighting."""
        return self._points[0]

    @property
    def confidence(self) -> float:
        """Mean score of the sightings, so that it does not depend on the track's length."""
        return self._score_sum / len(self)

    def boxes(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Every grid point from first to last, and the boxes there (N, 4); gaps are interpolated linearly."""
        seen = np.array(self._points, np.int64)
        corners = np.array(self._boxes, np.float32).reshape(-1, 4).repeat(2, axis=0)
        points = np.arange(seen[0], seen[-1] + 1)
        # `seen` holds a sighting of one point twice, but np.interp needs increasing points.
        distinct = np.concatenate([[True], np.diff(seen) > 0])
        boxes = [np.interp(points, seen[distinct], corners[distinct, side]) for side in range(4)]
        return points, np.stack(boxes, axis=1).astype(np.float32)


def to_predictions(
    tracks: Iterable[TrackHistory], manifest: ModelManifest, parameters: ModelParameters
) -> Iterator[ObjectTrack]:
    """Predictions of one segment, the most confident first: one for each uninterrupted track that counts.

    A track counts if it was seen often enough or is sure. `max_predictions` limits the tracks of a frame: a
    weaker track is cut where that many exist already, and its remaining pieces become tracks of their own.
    """
    settings = manifest.tracker
    counting = [
        track
        for track in tracks
        if (len(track) >= settings.min_frames or track.confidence >= settings.sure)
        and track.confidence >= parameters.confidence_threshold
    ]
    counting.sort(key=lambda track: (-track.confidence, track.first, track.class_index))
    limit = parameters.max_predictions
    occupied: Counter[int] | None = Counter() if len(counting) > limit else None
    for track in counting:
        points, boxes = track.boxes()
        for start, stop in _allowed(points, occupied, limit):
            frames = tuple(
                TrackFrame(point * manifest.interval_us, x_min, x_max, y_min, y_max)
                for point, (x_min, y_min, x_max, y_max) in zip(
                    points[start:stop].tolist(), boxes[start:stop].tolist(), strict=True
                )
            )
            yield ObjectTrack(manifest.labels[track.class_index], track.confidence, frames)


def _allowed(
    points: NDArray[np.int64], occupied: Counter[int] | None, limit: int
) -> Iterator[tuple[int, int]]:
    """The runs (start, stop) of points that have fewer than `limit` tracks yet; this track now joins them."""
    if occupied is None:
        yield 0, len(points)
        return
    start = None
    for position, point in enumerate(points.tolist()):
        if occupied[point] < limit:
            occupied[point] += 1
            start = position if start is None else start
        elif start is not None:
            yield start, position
            start = None
    if start is not None:
        yield start, len(points)
