"""Video classification: scores of moments, pooled for a segment, for its shots and for its seconds.

A classifier sees pictures (or clips) on the grid of the video, whatever the segments. If shots are asked for,
every frame is also searched for cuts, so that a shot begins at the exact frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.inference.batching import BatchPlan
from emulator.inference.clips import (
    Clip,
    ClipCutter,
    ClipFootage,
    ClipGrid,
    Scored,
    clips_of,
    spans,
    wanted_clips,
)
from emulator.inference.footage import Outcome, Wanted
from emulator.inference.frames import Frame
from emulator.inference.heads import ClipHead
from emulator.inference.manifest import ModelManifest
from emulator.inference.passes import ClipPass, ModelPredictor
from emulator.inference.points import NO_END
from emulator.inference.pooling import Best, Pool
from emulator.inference.predictor import Mark, Segment
from emulator.inference.preprocess import Picture
from emulator.inference.segments import Group, Groups, past_end
from emulator.inference.shots import Change, CutFinder, Thumbnail, thumbnail
from emulator.inference.streams import States
from emulator.inference.video import FrameSource, Sample, spans_of
from emulator.vertex.objectives.classification import SECOND, SEGMENT, SHOT, ClassificationPrediction
from emulator.vertex.parameters import ModelParameters
from emulator.vertex.predictions import Prediction

SECOND_US = 1_000_000
#: A sampling interval so short that every frame is the nearest one to some grid points.
EVERY_FRAME_US = 1
#: Thumbnails that may wait for each classifying thread, so that the thread need not wait for clips.
FRAMES_PER_THREAD = 16


@dataclass(frozen=True)
class Seen:
    """A frame for cut detection. It is shown at `time_us` and is the nearest to moments `first` to `last`."""

    first: int
    last: int
    time_us: int
    small: Thumbnail


class _Labelling(ClipPass["_SegmentLabels"]):
    """One pass: scores each wanted picture or clip once; for shots it also looks at every frame."""

    def __post_init__(self) -> None:
        self.classify(grid := ClipGrid.for_classification(self.manifest))
        self._shots = self.parameters.shot_classification
        self.groups = Groups(
            self.segments,
            points=self._needed,
            state=lambda segment: _SegmentLabels(segment, self.manifest, self.parameters),
        )
        self.wanted = wanted_clips(grid, map(grid.inside, self.segments), self._behind())
        self._scored_until, self._seen_until = 0, NO_END
        if self._shots:
            # Shots need every frame, so cached scores would save next to nothing.
            self.codec, self._seen_until = None, 0
            self.depth = FRAMES_PER_THREAD * self.model.threads
        self._change = Change()

    def items(self, footage: ClipFootage) -> Generator[Any, None, None]:
        """See Pass."""
        return self._frames_and_clips(footage) if self._shots else self._clips(footage)

    def take(self, item: Clip | Scored | Seen, footage: ClipFootage) -> tuple[int, int]:
        """See Pass."""
        if isinstance(item, Seen):
            difference = self._change.of(item.small)
            for _, labels in self.groups.touched(item.first, item.last):
                labels.see(item, difference)
            self._seen_until = item.last + 1
        else:
            self._scored_until = self._moment_us(item.number)
            for _, labels, scores in self.scores(item, self._scored_until, footage):
                labels.add(self._scored_until, scores)
        # A segment is finished once something behind it was seen: only then is the video known to be that
        # long.
        until = min(self._scored_until, self._seen_until)
        return until, until

    def finish(
        self,
        group: Group[_SegmentLabels],
        footage: ClipFootage,
        *,
        at_end: bool,  # noqa: ARG002
    ) -> Outcome:
        """See Pass."""
        end_us = footage.end_us
        if group.state is None or group.segment.start_us >= (NO_END if end_us is None else end_us):
            return past_end(group.segment, footage)
        return group.state.finish(end_us)

    def _needed(self, segment: Segment) -> tuple[int, int]:
        """The first and last moment of a video that matter to a segment."""
        earliest_us = self._moment_us(self.grid.inside(segment)[0])
        end_us = NO_END if segment.end_us is None else segment.end_us
        return min(segment.start_us, earliest_us), max(end_us - 1, earliest_us)

    def _moment_us(self, number: int) -> int:
        return round(self.grid.moment_us(number))

    def _behind(self) -> list[int]:
        """One grid point behind each segment. A frame there proves that the video is that long."""
        step = self.grid.interval_us
        return sorted({-(-segment.end_us // step) for segment in self.segments if segment.end_us is not None})

    def _clips(self, footage: ClipFootage) -> Generator[Clip | Scored, None, None]:
        return clips_of(
            footage, partial(self._cut, wanted_clips(self.grid, footage.to_make.ranges, footage.behind))
        )

    def _cut(self, wanted: Wanted, source: FrameSource) -> Generator[Clip, None, None]:
        step = self.grid.interval_us
        cutter = ClipCutter(self.grid, wanted.results.ranges)
        with closing(
            source.sample_frames(step, spans_of(wanted.frames, step), self.model.input.fit_frame)
        ) as samples:
            for sample in samples:
                yield from cutter.add(sample)
        yield from cutter.finish()

    def _frames_and_clips(self, footage: ClipFootage) -> Generator[Clip | Seen, None, None]:
        """Every frame of the segments, and the same clips as without shots. A frame goes into clips if it is
        the nearest to a point of the grid."""
        assert footage.source is not None
        step = self.grid.interval_us
        wanted = [self.grid.inside(segment) for segment in self.segments]
        cutter = ClipCutter(self.grid, wanted)
        both = [*spans(self.grid, wanted), *((segment.start_us, segment.end_us) for segment in self.segments)]
        with closing(footage.source.sample_frames(EVERY_FRAME_US, both, self._fit_both)) as samples:
            for sample in samples:
                picture, small = sample.data
                yield Seen(sample.first, sample.last, sample.time_us, small)
                first, last = -(-sample.first // step), sample.last // step
                if first <= last:
                    yield from cutter.add(Sample(first, last, sample.time_us, picture))
        yield from cutter.finish()

    def _fit_both(self, frame: Frame) -> tuple[Picture, Thumbnail]:
        return self.model.input.fit_frame(frame), thumbnail(frame.bgr())


class _SegmentLabels:
    """Collects the labels of one segment from scores and frames. Memory grows with the predictions alone."""

    def __init__(self, segment: Segment, manifest: ModelManifest, parameters: ModelParameters) -> None:
        self._segment, self._manifest, self._parameters = segment, manifest, parameters
        self.states: States = {}
        self._whole = self._pool()
        self._before: NDArray[np.float32] | None = None
        self._second, self._second_pool = 0, self._pool()
        self._cuts = CutFinder()
        self._shot_start_us, self._shot_pool = segment.start_us, self._pool()
        self._waiting: deque[tuple[int, NDArray[np.float32]]] = deque()
        self._best = {kind: Best(parameters.max_predictions) for kind in (SEGMENT, SHOT, SECOND)}

    def add(self, time_us: int, scores: NDArray[np.float32]) -> None:
        """Take the scores of a moment. Moments come in order."""
        if not self._within(time_us):
            # These scores serve a segment that has no moment of its own.
            self._before = scores
            return
        self._whole.add(scores)
        second = (time_us - self._segment.start_us) // SECOND_US
        if second != self._second:
            self._close_second(self._segment.start_us + (self._second + 1) * SECOND_US)
            self._second = second
        self._second_pool.add(scores)
        if self._parameters.shot_classification:
            self._waiting.append((time_us, scores))
            self._settle()

    def see(self, frame: Seen, change: float) -> None:
        """Take a frame of the segment and its difference from the one before. Frames come in order."""
        if frame.last >= self._segment.start_us:
            self._cuts.add(frame.time_us, frame.first, frame.small, change)
            self._settle()

    def finish(self, video_end_us: int | None) -> list[Prediction]:
        """End the segment; return all predictions. `video_end_us`: the video's end, if it was reached."""
        start_us, end_us = self._segment.start_us, self._segment.end_us
        if self._whole.count == 0 and self._before is not None:
            self.add(start_us, self._before)
        real_end_us = min(NO_END if one is None else one for one in (end_us, video_end_us))
        self._close_second(min(real_end_us, start_us + (self._second + 1) * SECOND_US))
        self._cuts.finish()
        self._settle()
        self._close_shot(real_end_us)
        # Vertex: a requested end is given back as it is, even past the video's end (recorded output).
        self._close(SEGMENT, start_us, real_end_us if end_us is None else end_us, self._whole)
        return [prediction for best in self._best.values() for prediction in best]

    def _settle(self) -> None:
        """Assign scores to shots, as far as the starts of the shots are known."""
        while self._waiting and self._waiting[0][0] < self._cuts.settled_us:
            time_us, scores = self._waiting.popleft()
            while self._cuts.found and self._cuts.found[0].since_us <= time_us:
                self._cut(self._cuts.found.popleft().time_us)
            self._shot_pool.add(scores)
        if self._cuts.settled_us >= NO_END:
            while self._cuts.found:
                self._cut(self._cuts.found.popleft().time_us)

    def _cut(self, time_us: int) -> None:
        if self._within(time_us) and time_us > self._segment.start_us:
            self._close_shot(time_us)
            self._shot_start_us, self._shot_pool = time_us, self._pool()

    def _close_shot(self, end_us: int) -> None:
        if self._parameters.shot_classification:
            self._close(SHOT, self._shot_start_us, end_us, self._shot_pool)

    def _close_second(self, end_us: int) -> None:
        if self._parameters.one_sec_interval_classification:
            # Vertex: start and end are one moment inside the second (recorded output).
            # Emulator: which moment is not known; it is the middle.
            middle_us = (self._segment.start_us + self._second * SECOND_US + end_us) // 2
            self._close(SECOND, middle_us, middle_us, self._second_pool)
        self._second_pool = self._pool()

    def _close(self, kind: str, start_us: int, end_us: int, pool: Pool) -> None:
        wanted = kind != SEGMENT or self._parameters.segment_classification
        if not wanted or not pool.count:
            return
        for index, confidence in enumerate(pool.confidences().tolist()):
            if index != self._manifest.background and confidence >= self._parameters.confidence_threshold:
                label = self._manifest.labels[index]
                self._best[kind].add(ClassificationPrediction(kind, label, start_us, end_us, confidence))

    def _within(self, time_us: int) -> bool:
        end_us = self._segment.end_us
        return self._segment.start_us <= time_us and (end_us is None or time_us < end_us)

    def _pool(self) -> Pool:
        return Pool(len(self._manifest.labels), self._manifest.classification.emphasis)


class Classification(ModelPredictor):
    """A classifier of pictures or clips (a Predictor)."""

    heads: ClassVar[Mapping[str, Any]] = {"scores": ClipHead}
    passes = _Labelling

    def batches(self, asked: int, parameters: ModelParameters) -> BatchPlan:
        """See Predictor."""
        plan = super().batches(asked, parameters)
        if parameters.shot_classification and plan.size > 1:
            # Many frames then come between two clips, so a batch would hardly ever hold more than one.
            return BatchPlan(1, "one by one: shotClassification looks at every frame between them")
        return plan

    def marks(self, prediction: Prediction) -> list[Mark]:
        """See Predictor."""
        assert isinstance(prediction, ClassificationPrediction)
        return [Mark((prediction.start_us + prediction.end_us) // 2)]
