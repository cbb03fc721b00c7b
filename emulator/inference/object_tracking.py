"""Object tracking: detections on the video's 0.1 s grid, joined to tracks segment by segment.

Each wanted frame is decoded and detected once, however many segments want it. Every distinct segment has its
own tracker, so its predictions do not depend on other segments.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from emulator.inference.association import Ints
from emulator.inference.batching import callers
from emulator.inference.bytetrack import ByteTrack
from emulator.inference.footage import Answers, Footage, Wanted
from emulator.inference.heads import DETECTION_HEADS, DetectionHead, Detections, suppress
from emulator.inference.iou_tracker import IouTracker
from emulator.inference.loaded import LoadOptions, ModelPredictor
from emulator.inference.manifest import ModelManifest
from emulator.inference.pipeline import Pipeline
from emulator.inference.points import NO_END
from emulator.inference.predictor import InstanceFailure, Prediction, Progress, Segment
from emulator.inference.preprocess import Picture
from emulator.inference.recall import DetectionsCodec
from emulator.inference.sections import TrackerSection
from emulator.inference.segments import Group, Groups, grid_points, past_end
from emulator.inference.tracks import TrackHistory, settings_for, to_predictions
from emulator.inference.video import GridPoints, Sample, spans_of
from emulator.vertex.parameters import ModelParameters


class Tracker(Protocol):
    """Assigns an object's id to each detection of a segment's successive frames; 0 for none."""

    def update(self, found: Detections, time_us: int) -> Ints: ...


TRACKERS: Mapping[str, Callable[[TrackerSection], Tracker]] = {"bytetrack": ByteTrack, "iou": IouTracker}


class ObjectTracking(ModelPredictor[DetectionHead]):
    """A detector and its tracker (a Predictor)."""

    def __init__(self, manifest: ModelManifest, options: LoadOptions) -> None:
        """Load the detector. See `open_predictor`."""
        super().__init__(manifest, DETECTION_HEADS[manifest.output.head], options)

    def _predict(
        self,
        video: Path,
        segments: Sequence[Segment],
        parameters: ModelParameters,
        progress: Progress,
        size: int,
        recalls: bool,
    ) -> Answers:
        interval_us = self.manifest.interval_us
        groups = Groups(
            segments,
            points=lambda segment: grid_points(segment, interval_us),
            state=lambda _: _SegmentTracks(self.manifest, parameters),
        )
        points = GridPoints(interval_us, [(segment.start_us, segment.end_us) for segment in segments])
        codec = DetectionsCodec() if recalls else None
        with (
            self._model.footage(
                video, Wanted(points, points), progress, codec, look=f"batches of {size}"
            ) as footage,
            Pipeline(
                self._samples(footage, points),
                partial(self._detect, size=size),
                threads=callers(size, self._model.threads),
                batch=size,
                cancelled=progress.cancelled,
                interrupt=footage.interrupt,
            ) as samples,
        ):
            for sample in samples:
                footage.take(sample)
                for group, tracks in groups.touched(sample.first, sample.last):
                    tracks.add(sample, max(sample.first, group.first), min(sample.last, group.last))
                progress.advance(sample.time_us)
                for group in groups.finished(sample.last + 1):
                    yield from _finish(group, footage, progress)
            if not progress.cancelled():
                footage.check()
                for group in groups.rest():
                    yield from _finish(group, footage, progress)

    def _samples(
        self, footage: Footage[Detections], points: GridPoints
    ) -> Generator[Sample[Any], None, None]:
        """Pictures that the detector must still see, and detections that are known already."""
        spans = spans_of(footage.to_make, points.interval_us)
        samples: Generator[Sample[Any], None, None] = footage.items(
            _as_it_is,
            lambda source: source.sample_frames(points.interval_us, spans, self._model.input.fit_frame),
            lambda sample: (sample.first, sample.last),
        )
        return samples if footage.missing is None else _joined(samples)

    def _detect(self, samples: Sequence[Sample[Any]], size: int) -> list[Sample[Detections]]:
        new = [sample for sample in samples if not isinstance(sample.data, Detections)]
        computed = iter(self._model.batches.run([[sample.data] for sample in new], size) if new else ())
        return [
            sample if isinstance(sample.data, Detections) else self._detected(sample, next(computed))
            for sample in samples
        ]

    def _detected(self, sample: Sample[Picture], outputs: Sequence[Any]) -> Sample[Detections]:
        found = suppress(self._model.head.decode(outputs), self.manifest.output, sample.data.geometry)
        return Sample(sample.first, sample.last, sample.time_us, found)


def _as_it_is(sample: Sample[Any]) -> Sample[Any]:
    return sample


def _joined(samples: Generator[Sample[Any], None, None]) -> Generator[Sample[Any], None, None]:
    """Join samples of one frame into one: a frame may stand for known points and for others."""
    before: Sample[Any] | None = None
    with closing(samples):
        for sample in samples:
            if before is not None and before.time_us == sample.time_us:
                known = before if isinstance(before.data, Detections) else sample
                before = replace(before, last=max(before.last, sample.last), data=known.data)
                continue
            if before is not None:
                yield before
            before = sample
    if before is not None:
        yield before


class _SegmentTracks:
    """The tracker of one segment and what it has seen so far."""

    def __init__(self, manifest: ModelManifest, parameters: ModelParameters) -> None:
        self._manifest, self._parameters = manifest, parameters
        settings = settings_for(manifest, parameters)
        self._tracker = TRACKERS[settings.kind](settings)
        self._tracks: dict[int, TrackHistory] = {}

    def add(self, sample: Sample[Detections], first: int, last: int) -> None:
        """Take a frame that stands for the grid points `first` to `last` of the segment."""
        found, least = sample.data, self._parameters.min_bounding_box_size
        if least > 0:
            sizes = (found.boxes[:, 2:] - found.boxes[:, :2]).min(axis=1)
            found = found.where(sizes >= least)
        ids = self._tracker.update(found, sample.time_us)
        for row, track_id in enumerate(ids.tolist()):
            if track_id:
                track = self._tracks.setdefault(track_id, TrackHistory(int(found.classes[row])))
                track.add(first, last, found.boxes[row], float(found.scores[row]))

    def predictions(self) -> Iterator[Prediction]:
        return to_predictions(self._tracks.values(), self._manifest, self._parameters)


def _finish(
    group: Group[_SegmentTracks], source: Footage[Detections], progress: Progress
) -> Iterator[tuple[int, list[Prediction] | InstanceFailure]]:
    outcome: list[Prediction] | InstanceFailure = []
    if group.state is not None:
        outcome = []
        for prediction in group.state.predictions():
            progress.alive()
            outcome.append(prediction)
    elif group.segment.start_us >= (source.end_us or source.duration_us or NO_END):
        outcome = past_end(group.segment, source)
    for index in group.indices:
        yield index, outcome
