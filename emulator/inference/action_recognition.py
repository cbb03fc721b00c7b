"""Action recognition: a clip classifier slid along the video, whose score peaks are the moments of actions.

Clips lie on the grid of the video, whatever the segments. A segment's own clips reach as far beyond it as
it takes to judge the moments near its edges, but only moments inside it are predicted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emulator.inference.batching import BatchPlan, callers
from emulator.inference.clips import Clip, ClipCutter, ClipGrid, spans
from emulator.inference.heads import ClipHead
from emulator.inference.loaded import LoadedModel, LoadOptions
from emulator.inference.manifest import ModelManifest
from emulator.inference.peaks import PeakFinder, strongest
from emulator.inference.pipeline import Pipeline
from emulator.inference.predictor import InstanceFailure, Prediction, Progress, Segment
from emulator.inference.segments import Group, Groups, past_end
from emulator.inference.video import FrameSource
from emulator.vertex.parameters import ModelParameters
from emulator.vertex.predictions import ActionPrediction

#: Predicted moments are rounded to this: finer than a video's frames, and short to read.
ROUND_US = 1_000


class ActionRecognition:
    """A clip classifier (a Predictor)."""

    def __init__(self, manifest: ModelManifest, options: LoadOptions) -> None:
        """Load the classifier. See `open_predictor`."""
        self.manifest = manifest
        self._model = LoadedModel(manifest, ClipHead, options)
        self.provider = self._model.provider
        self._grid = ClipGrid.of(manifest)

    def batches(self, asked: int, _parameters: ModelParameters) -> BatchPlan:
        """See Predictor."""
        return self._model.batches.plan(asked)

    def predict(
        self,
        video: Path,
        segments: Sequence[Segment],
        parameters: ModelParameters,
        progress: Progress,
        batch_size: int = 0,
    ) -> Iterator[tuple[int, list[Prediction] | InstanceFailure]]:
        """See Predictor."""
        size = self._model.batches.plan(batch_size).size
        grid = self._grid
        wanted = [grid.clips(segment) for segment in segments]
        groups = Groups(segments, points=grid.clips, state=lambda _: self._new_finder())
        cutter = ClipCutter(grid, wanted)
        with (
            FrameSource(video, alive=progress.alive) as source,
            Pipeline(
                cutter.cut(source.sample(grid.interval_us, spans(grid, wanted), self._model.input.fit)),
                partial(self._classify, size=size),
                threads=callers(size, self._model.threads),
                batch=size,
                cancelled=progress.cancelled,
                interrupt=source.interrupt,
            ) as classified,
        ):
            for number, scores in classified:
                for _, finder in groups.touched(number, number):
                    finder.add(scores)
                progress.advance(max(0, round(grid.moment_us(number))))
                for group in groups.finished(number + 1):
                    predictions = self._predictions(group, parameters)
                    yield from ((index, predictions) for index in group.indices)
            if progress.cancelled():
                return
            end_us = (cutter.end_point + 1) * grid.interval_us
            for group in groups.rest():
                late = group.segment.start_us >= end_us
                outcome = (
                    past_end(group.segment, source.info) if late else self._predictions(group, parameters)
                )
                yield from ((index, outcome) for index in group.indices)

    def _classify(self, clips: Sequence[Clip], size: int) -> list[tuple[int, NDArray[np.float32]]]:
        computed = self._model.batches.run([clip.pictures for clip in clips], size)
        scores = map(self._model.head.decode, computed)
        return [(clip.number, one) for clip, one in zip(clips, scores, strict=True)]

    def _new_finder(self) -> PeakFinder:
        actions = self.manifest.actions
        return PeakFinder(len(self.manifest.labels), actions.min_confidence, actions.smooth)

    def _predictions(self, group: Group[PeakFinder], parameters: ModelParameters) -> list[Prediction]:
        if group.state is None:
            return []
        manifest, segment = self.manifest, group.segment
        apart = manifest.actions.window * 1e6 / self._grid.spacing_us
        found: list[ActionPrediction] = []
        for peak in strongest(group.state.finish(), apart):
            moment_us = self._grid.moment_us(group.first + peak.position)
            time_us = max(0, round(moment_us / ROUND_US) * ROUND_US)
            inside = segment.start_us <= time_us and (segment.end_us is None or time_us < segment.end_us)
            enough = peak.height >= parameters.confidence_threshold
            if inside and enough and peak.class_index != manifest.background:
                found.append(ActionPrediction(manifest.labels[peak.class_index], peak.height, time_us))
        return self._limited(found, parameters.max_predictions)

    def _limited(self, found: list[ActionPrediction], limit: int) -> list[Prediction]:
        """The most confident first, at most `limit` at one frame."""
        found.sort(key=lambda action: (-action.confidence, action.time_us, int(action.label.id)))
        at_frame: Counter[int] = Counter()
        kept: list[Prediction] = []
        for action in found:
            frame = round(action.time_us / self.manifest.interval_us)
            at_frame[frame] += 1
            if at_frame[frame] <= limit:
                kept.append(action)
        return kept
