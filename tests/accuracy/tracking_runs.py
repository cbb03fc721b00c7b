"""Trackers run over a scene, and how well they did."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emulator.comparison.metrics.detection import overlaps
from emulator.comparison.metrics.tracking import Figures, Moment, figures
from emulator.inference.heads import Detections
from emulator.inference.manifest import load_manifest
from emulator.inference.sections import TrackerSection
from emulator.inference.tracks import TrackHistory, to_predictions
from emulator.vertex.objectives.object_tracking import ObjectTrack
from emulator.vertex.parameters import ModelParameters
from tests.accuracy.tracking_scenes import LABELS, Detector, Look, detect, looks

Update = Callable[[Detections, int], NDArray[np.int64]]
"""Takes a frame's detections and its time in microseconds, returns the id of each, 0 where it has none."""

Tracked = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
"""What a tracker says is in a frame: ids (N,), classes (N,) and boxes xyxy (N, 4)."""

SEEDS = (1, 2, 3)
MANIFEST = replace(
    load_manifest(Path(__file__).parents[2] / "models" / "video-object-tracking"), tracker=TrackerSection()
)
"""The bundled model's labels, which are the factory's, and what `[tracker]` says where nothing is said."""
NOTHING: Tracked = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4), np.float32))


def identified(update: Update, seen: Sequence[Look], found: Sequence[Detections]) -> Iterator[Tracked]:
    """The detections of each grid point that the tracker gives an id, as they are."""
    for look, detections in zip(seen, found, strict=True):
        ids = update(detections, look.time_us)
        kept = np.flatnonzero(ids)
        for _ in range(look.first, look.last + 1):
            yield ids[kept], detections.classes[kept], detections.boxes[kept]


def predictions(update: Update, seen: Sequence[Look], found: Sequence[Detections]) -> list[ObjectTrack]:
    """What the server answers for a clip."""
    histories: dict[int, TrackHistory] = {}
    for look, detections in zip(seen, found, strict=True):
        for row, number in enumerate(update(detections, look.time_us).tolist()):
            if number:
                history = histories.setdefault(number, TrackHistory(int(detections.classes[row])))
                history.add(look.first, look.last, detections.boxes[row], float(detections.scores[row]))
    return list(to_predictions(histories.values(), MANIFEST, ModelParameters()))


def predicted(update: Update, seen: Sequence[Look], found: Sequence[Detections]) -> Iterator[Tracked]:
    """What is in the predictions at each grid point: short tracks are left out, gaps are filled."""
    frames: dict[int, list[tuple[int, int, tuple[float, ...]]]] = {}
    for number, track in enumerate(predictions(update, seen, found), start=1):
        label = LABELS.index(track.label.display_name)
        for frame in track.frames:
            box = (frame.x_min, frame.y_min, frame.x_max, frame.y_max)
            frames.setdefault(frame.time_us // MANIFEST.interval_us, []).append((number, label, box))
    for point in range(seen[-1].last + 1):
        if rows := frames.get(point):
            ids, classes, boxes = zip(*rows, strict=True)
            yield np.array(ids), np.array(classes), np.array(boxes, np.float32)
        else:
            yield NOTHING


def score(
    new: Callable[[], Update],
    scene: str,
    detector: Detector,
    answer: Callable[[Update, Sequence[Look], Sequence[Detections]], Iterator[Tracked]] = predicted,
    seeds: Sequence[int] = SEEDS,
) -> Figures:
    """The figures over several clips of a scene, each with a tracker of its own, counted as one sequence."""
    moments: list[Moment] = []
    for seed in seeds:
        seen = looks(scene, seed)
        truth = [look for look in seen for _ in range(look.first, look.last + 1)]
        for look, tracked in zip(truth, answer(new(), seen, detect(seen, detector, seed)), strict=True):
            moments.append(_moment(look, tracked, 10_000 * seed))
    return figures(moments)


def _moment(look: Look, tracked: Tracked, offset: int) -> Moment:
    ids, classes, boxes = tracked
    same = look.classes[:, None] == classes
    return Moment(look.ids + offset, ids + offset, overlaps(look.boxes, boxes) * same)
