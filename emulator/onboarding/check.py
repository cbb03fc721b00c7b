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

from emulator.config import DecoderChoice
from emulator.inference.decoding import VideoOptions
from emulator.inference.heads import DETECTION_HEADS, suppress
from emulator.inference.loaded import LoadedModel, LoadOptions
from emulator.inference.manifest import ModelManifest
from emulator.inference.objectives import open_predictor
from emulator.inference.points import NO_END
from emulator.inference.predictor import Mark, Predictor, Progress, Segment
from emulator.inference.video import FrameSource, VideoInfo
from emulator.vertex.instances import InstanceFailure
from emulator.vertex.parameters import ModelParameters
from emulator.vertex.predictions import Prediction

GREEN = (80, 220, 60)
#: Seconds from the segment's start that are searched for the best score and for the histogram.
LOOKED_AT_S = 3
#: Scores below this are not counted: heads with grid cells give thousands of them.
FAINTEST = 0.02
TENTHS = tuple(tenth / 10 for tenth in range(1, 10))


@dataclass(frozen=True)
class Drawing:
    """A frame with the predictions of its moment drawn on it, as a PNG file."""

    time_us: int
    png: bytes


@dataclass(frozen=True)
class ScoreBin:
    """The number of detections with scores from `least` to `most`, and what the tracker does with them."""

    least: float
    most: float
    count: int
    fate: str


@dataclass(frozen=True)
class Report:
    """The predictions of a model for a clip, and their cost."""

    provider: str
    video: VideoInfo
    load_s: float
    predict_s: float
    predictions: tuple[Prediction, ...]
    drawings: tuple[Drawing, ...]
    failure: str = ""
    """Why the segment could not be predicted; "" if it was."""
    best: Prediction | None = None
    """If nothing was found: the most confident prediction without any threshold."""
    scores: tuple[ScoreBin, ...] = ()
    """A detector's score histogram, and what its tracker does with each bin."""

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
    decoder: DecoderChoice = "auto",
    drawings: int = 6,
) -> Report:
    """Predict on a clip with the model's own thresholds, and draw up to `drawings` frames.

    Raises:
        ModelUnusable: the model does not load, does not fit its manifest, or fails on a frame.
        VideoUnreadable: the clip cannot be decoded.
    """
    options = VideoOptions(decoder)
    began = time.perf_counter()
    predictor = open_predictor(manifest, provider=provider, video=options)
    loaded = time.perf_counter()
    segment = segment or Segment(0, None)
    found, failure = _predict(predictor, video, segment, progress)
    finished = time.perf_counter()
    best = None if found or failure else _best(manifest, video, segment, progress, provider, options)
    shown = [
        (f"{one.label.display_name} {one.confidence:.2f}", predictor.marks(one)) for one in found if drawings
    ]
    with FrameSource(video, options=options) as source:
        info = source.info
    return Report(
        provider=predictor.provider,
        video=info,
        load_s=loaded - began,
        predict_s=finished - loaded,
        predictions=tuple(found),
        drawings=tuple(_draw(shown, video, manifest.interval_us, drawings, options)) if drawings else (),
        failure=failure,
        best=best,
        scores=_scores(manifest, video, segment, provider, options) if not failure else (),
    )


def _scores(
    manifest: ModelManifest, video: Path, segment: Segment, provider: str, options: VideoOptions
) -> tuple[ScoreBin, ...]:
    """A histogram of a detector's scores near the segment's start, after suppression."""
    if manifest.output.head not in DETECTION_HEADS or manifest.is_canned:
        return ()
    settings, spec = manifest.tracker, replace(manifest.output, min_score=FAINTEST)
    model = LoadedModel(replace(manifest, output=spec), DETECTION_HEADS[spec.head], LoadOptions(provider))
    limits = {FAINTEST, manifest.output.min_score, settings.low, settings.high, settings.new, *TENTHS}
    edges = np.array([*sorted(limit for limit in limits if FAINTEST <= limit < 1), 1.0])
    counts = np.zeros(len(edges) - 1, np.int64)
    piece = _beginning(segment)
    with FrameSource(video, options=options) as source:
        spans = [(piece.start_us, piece.end_us)]
        for sample in source.sample_frames(manifest.interval_us, spans, model.input.fit_frame):
            (outputs,) = model.batches.run([[sample.data]], 1)
            found = suppress(model.head.decode(outputs), spec, sample.data.geometry)
            counts += np.histogram(found.scores, edges)[0]
    bounds = edges.tolist()
    return tuple(
        ScoreBin(least, most, count, _fate(least, manifest))
        for least, most, count in zip(bounds, bounds[1:], counts.tolist(), strict=False)
    )


def _fate(score: float, manifest: ModelManifest) -> str:
    """What happens to a detection of this score in a job without a confidenceThreshold."""
    settings = manifest.tracker
    if score < manifest.output.min_score:
        return "dropped: below min_score"
    if score < settings.low:
        return "dropped: below low"
    if score < settings.high:
        return "below high: can only continue a track, after the others"
    return "begins a track" if score >= settings.new else "below new: can only continue a track"


def _beginning(segment: Segment) -> Segment:
    return Segment(
        segment.start_us, min(segment.end_us or NO_END, segment.start_us + LOOKED_AT_S * 1_000_000)
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
    manifest: ModelManifest,
    video: Path,
    segment: Segment,
    progress: Progress,
    provider: str,
    options: VideoOptions,
) -> Prediction | None:
    """The most confident prediction near the segment's start, without any threshold."""
    open_wide = replace(
        manifest,
        output=replace(manifest.output, min_score=0.0),
        tracker=replace(manifest.tracker, high=0.0, low=0.0, new=0.0, min_frames=1),
        actions=replace(manifest.actions, min_confidence=0.0),
    )
    predictor = open_predictor(open_wide, provider=provider, video=options)
    found, _ = _predict(predictor, video, _beginning(segment), progress)
    return max(found, key=lambda one: one.confidence, default=None)


def _draw(
    found: Sequence[tuple[str, Sequence[Mark]]],
    video: Path,
    interval_us: int,
    limit: int,
    options: VideoOptions,
) -> list[Drawing]:
    points = sorted({round(mark.time_us / interval_us) for _, marks in found for mark in marks})
    if len(points) > limit:
        points = [points[round(k * (len(points) - 1) / max(1, limit - 1))] for k in range(limit)]
    spans = [(point * interval_us, point * interval_us + 1) for point in points]
    drawn = []
    with FrameSource(video, options=options) as source:
        for sample in source.sample(interval_us, spans, np.copy):
            moment = sample.last * interval_us
            _annotate(sample.data, found, moment, interval_us)
            drawn.append(Drawing(moment, cv2.imencode(".png", sample.data)[1].tobytes()))
    return drawn


def _annotate(
    picture: NDArray[np.uint8], found: Sequence[tuple[str, Sequence[Mark]]], moment_us: int, interval_us: int
) -> None:
    height, width = picture.shape[:2]
    line = 24
    for text, marks in found:
        for box in (mark.box for mark in marks if mark.box and mark.time_us == moment_us):
            corner, opposite = (
                (round(x * width), round(y * height)) for x, y in ((box[0], box[1]), (box[2], box[3]))
            )
            cv2.rectangle(picture, corner, opposite, GREEN, 2)
            _write(picture, text, (corner[0], max(16, corner[1] - 4)))
        if any(not mark.box and abs(mark.time_us - moment_us) <= interval_us for mark in marks):
            _write(picture, text, (8, line))
            line += 22
    _write(picture, f"{moment_us / 1e6:.1f} s", (8, height - 8))


def _write(picture: NDArray[np.uint8], text: str, at: tuple[int, int]) -> None:
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
    top_left, bottom_right = (at[0], at[1] - height - 1), (at[0] + width, at[1] + below)
    cv2.rectangle(picture, top_left, bottom_right, (0, 0, 0), cv2.FILLED)
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, GREEN, 1, cv2.LINE_AA)
