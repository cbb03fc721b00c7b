"""Runs a model on a clip and shows what it finds, for `vertex-emulator models check`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from emulator.inference.manifest import ModelManifest
from emulator.inference.predictor import (
    InstanceFailure,
    Prediction,
    Predictor,
    Progress,
    Segment,
    open_predictor,
)
from emulator.inference.video import FrameSource, VideoInfo
from emulator.vertex.parameters import ModelParameters
from emulator.vertex.predictions import ClassificationPrediction, ObjectTrack

GREEN = (80, 220, 60)
#: How much of a clip is looked at again, for the best score, where nothing was found.
LOOKED_AT_US = 3_000_000


@dataclass(frozen=True)
class Drawing:
    """A frame with what was predicted at that moment drawn on it, as a PNG file."""

    time_us: int
    png: bytes


@dataclass(frozen=True)
class Report:
    """What a model found in a clip, and what it cost."""

    provider: str
    video: VideoInfo
    load_s: float
    predict_s: float
    predictions: tuple[Prediction, ...]
    drawings: tuple[Drawing, ...]
    failure: str = ""
    """Why there are no predictions, where the segment could not be predicted."""
    best: Prediction | None = None
    """Where nothing was found: what would be the most confident prediction without any threshold."""

    @property
    def found(self) -> dict[str, int]:
        """Predictions per label, the most frequent first."""
        return dict(Counter(prediction.label.display_name for prediction in self.predictions).most_common())


def check(
    manifest: ModelManifest,
    video: Path,
    *,
    progress: Progress,
    segment: Segment | None = None,
    provider: str = "auto",
    drawings: int = 6,
) -> Report:
    """Predict on a clip with the model's own thresholds; up to `drawings` frames come back drawn.

    Raises:
        ModelUnusable: the model does not load, does not fit its manifest, or fails on a frame.
        VideoUnreadable: the clip cannot be decoded.
    """
    began = time.perf_counter()
    predictor = open_predictor(manifest, provider=provider)
    loaded = time.perf_counter()
    segment = segment or Segment(0, None)
    found, failure = _predict(predictor, video, segment, progress)
    finished = time.perf_counter()
    best = None if found or failure else _best(manifest, video, segment, progress, provider)
    with FrameSource(video) as source:
        info = source.info
    return Report(
        provider=predictor.provider,
        video=info,
        load_s=loaded - began,
        predict_s=finished - loaded,
        predictions=tuple(found),
        drawings=tuple(_draw(manifest, video, found, drawings)) if drawings else (),
        failure=failure,
        best=best,
    )


def _predict(
    predictor: Predictor, video: Path, segment: Segment, progress: Progress
) -> tuple[list[Prediction], str]:
    found: list[Prediction] = []
    failure = ""
    for _, outcome in predictor.predict(video, [segment], ModelParameters(), progress):
        if isinstance(outcome, InstanceFailure):
            failure = outcome.message
        else:
            found = outcome
    return found, failure


def _best(
    manifest: ModelManifest, video: Path, segment: Segment, progress: Progress, provider: str
) -> Prediction | None:
    """The most confident prediction near the segment's start when no threshold holds any back."""
    open_wide = replace(
        manifest,
        output=replace(manifest.output, min_score=0.0),
        tracker=replace(manifest.tracker, high=0.0, low=0.0, new=0.0, min_frames=1),
        actions=replace(manifest.actions, min_confidence=0.0),
    )
    piece = Segment(segment.start_us, min(segment.end_us or LOOKED_AT_US, segment.start_us + LOOKED_AT_US))
    found, _ = _predict(open_predictor(open_wide, provider=provider), video, piece, progress)
    return max(found, key=lambda one: one.confidence, default=None)


def _draw(manifest: ModelManifest, video: Path, found: Sequence[Prediction], limit: int) -> list[Drawing]:
    interval_us = manifest.interval_us
    points = sorted({round(moment / interval_us) for one in found for moment in _moments(one)})
    if len(points) > limit:
        points = [points[round(k * (len(points) - 1) / max(1, limit - 1))] for k in range(limit)]
    spans = [(point * interval_us, point * interval_us + 1) for point in points]
    drawn = []
    with FrameSource(video) as source:
        for sample in source.sample(interval_us, spans, np.copy):
            moment = sample.last * interval_us
            _annotate(sample.data, found, moment, interval_us)
            drawn.append(Drawing(moment, cv2.imencode(".png", sample.data)[1].tobytes()))
    return drawn


def _moments(prediction: Prediction) -> list[int]:
    if isinstance(prediction, ObjectTrack):
        return [frame.time_us for frame in prediction.frames]
    if isinstance(prediction, ClassificationPrediction):
        return [(prediction.start_us + prediction.end_us) // 2]
    return [prediction.time_us]


def _annotate(
    picture: NDArray[np.uint8], found: Sequence[Prediction], moment_us: int, interval_us: int
) -> None:
    height, width = picture.shape[:2]
    line = 24
    for one in found:
        text = f"{one.label.display_name} {one.confidence:.2f}"
        if isinstance(one, ObjectTrack):
            for frame in one.frames:
                if frame.time_us == moment_us:
                    corner = (round(frame.x_min * width), round(frame.y_min * height))
                    opposite = (round(frame.x_max * width), round(frame.y_max * height))
                    cv2.rectangle(picture, corner, opposite, GREEN, 2)
                    _write(picture, text, (corner[0], max(16, corner[1] - 4)))
        elif any(abs(moment - moment_us) <= interval_us for moment in _moments(one)):
            _write(picture, text, (8, line))
            line += 22
    _write(picture, f"{moment_us / 1e6:.1f} s", (8, height - 8))


def _write(picture: NDArray[np.uint8], text: str, at: tuple[int, int]) -> None:
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
    top_left, bottom_right = (at[0], at[1] - height - 1), (at[0] + width, at[1] + below)
    cv2.rectangle(picture, top_left, bottom_right, (0, 0, 0), cv2.FILLED)
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, GREEN, 1, cv2.LINE_AA)
