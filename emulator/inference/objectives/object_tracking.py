"""Object tracking: detections on the video's 0.1 s grid, joined to tracks segment by segment.

Each wanted frame is decoded and detected once, however many segments want it. Every distinct segment has its
own tracker, so its predictions do not depend on other segments.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Protocol

from emulator.inference.association import Ints
from emulator.inference.bytetrack import ByteTrack
from emulator.inference.footage import Footage, Outcome, Wanted
from emulator.inference.heads import DETECTION_HEADS, Detections, suppress
from emulator.inference.iou_tracker import IouTracker
from emulator.inference.manifest import ModelManifest
from emulator.inference.passes import ModelPredictor, Pass
from emulator.inference.points import NO_END
from emulator.inference.predictor import Mark
from emulator.inference.preprocess import Picture
from emulator.inference.recall import DetectionsCodec
from emulator.inference.sections import TrackerSection
from emulator.inference.segments import Group, Groups, grid_points, past_end
from emulator.inference.tracks import TrackHistory, settings_for, to_predictions
from emulator.inference.video import GridPoints, Sample, spans_of
from emulator.vertex.objectives.object_tracking import ObjectTrack
from emulator.vertex.parameters import ModelParameters
from emulator.vertex.predictions import Prediction


class Tracker(Protocol):
    """Assigns an object's id to each detection of a segment's successive frames; 0 for none."""

    def update(self, found: Detections, time_us: int) -> Ints: ...


TRACKERS: Mapping[str, Callable[[TrackerSection], Tracker]] = {"bytetrack": ByteTrack, "iou": IouTracker}


class _Tracking(Pass["_SegmentTracks", Detections]):
    """One pass: detects each wanted frame once."""

    def __post_init__(self) -> None:
        interval_us = self.manifest.interval_us
        self.groups = Groups(
            self.segments,
            points=lambda segment: grid_points(segment, interval_us),
            state=lambda _: _SegmentTracks(self.manifest, self.parameters),
        )
        points = GridPoints(interval_us, [(one.start_us, one.end_us) for one in self.segments])
        self.wanted = Wanted(points, points)
        self.look = f"batches of {self.size}"
        self.codec = DetectionsCodec() if self.recalls else None

    def items(self, footage: Footage[Detections]) -> Generator[Sample[Any], None, None]:
        """See Pass."""
        interval_us, fit = self.manifest.interval_us, self.model.input.fit_frame
        spans = spans_of(footage.to_make, interval_us)
        samples: Generator[Sample[Any], None, None] = footage.items(
            _as_it_is,
            lambda source: source.sample_frames(interval_us, spans, fit),
            lambda sample: (sample.first, sample.last),
        )
        return samples if footage.missing is None else _joined(samples)

    def infer(self, items: Sequence[Sample[Any]]) -> list[Sample[Detections]]:
        """See Pass."""
        new = [sample for sample in items if not isinstance(sample.data, Detections)]
        batches, size = self.model.batches, self.size
        computed = iter(batches.run([[sample.data] for sample in new], size) if new else ())
        return [
            sample if isinstance(sample.data, Detections) else self._detected(sample, next(computed))
            for sample in items
        ]

    def _detected(self, sample: Sample[Picture], outputs: Sequence[Any]) -> Sample[Detections]:
        decoded = self.model.head.decode(outputs)
        found = suppress(decoded, self.manifest.output, sample.data.geometry)
        return Sample(sample.first, sample.last, sample.time_us, found)

    def take(self, item: Sample[Detections], footage: Footage[Detections]) -> tuple[int, int]:
        """See Pass."""
        footage.take(item)
        for group, tracks in self.groups.touched(item.first, item.last):
            tracks.add(item, max(item.first, group.first), min(item.last, group.last))
        return item.time_us, item.last + 1

    def finish(
        self,
        group: Group[_SegmentTracks],
        footage: Footage[Detections],
        *,
        at_end: bool,  # noqa: ARG002
    ) -> Outcome:
        """See Pass."""
        if group.state is None:
            late = group.segment.start_us >= (footage.end_us or footage.duration_us or NO_END)
            return past_end(group.segment, footage) if late else []
        predictions: list[Prediction] = []
        for prediction in group.state.predictions():
            self.progress.alive()
            predictions.append(prediction)
        return predictions


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


class ObjectTracking(ModelPredictor):
    """A detector and its tracker (a Predictor)."""

    heads = DETECTION_HEADS
    passes = _Tracking

    def marks(self, prediction: Prediction) -> list[Mark]:
        """See Predictor."""
        assert isinstance(prediction, ObjectTrack)
        return [
            Mark(frame.time_us, (frame.x_min, frame.y_min, frame.x_max, frame.y_max))
            for frame in prediction.frames
        ]
