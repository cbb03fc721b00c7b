"""Action recognition: a clip classifier slides along the video; its score peaks are the actions' moments.

Clips lie on the grid of the video, whatever the segments. A segment's clips reach beyond it as far as needed
to judge the moments near its edges, but only moments inside it are predicted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from emulator.inference.batching import callers
from emulator.inference.clips import (
    Clip,
    ClipCutter,
    ClipFootage,
    ClipGrid,
    Scored,
    clips_of,
    spans,
    take_scores,
    wanted_clips,
)
from emulator.inference.footage import Answers
from emulator.inference.heads import ClipHead
from emulator.inference.loaded import LoadOptions, ModelPredictor
from emulator.inference.manifest import ModelManifest
from emulator.inference.peaks import PeakFinder, strongest
from emulator.inference.pipeline import Pipeline
from emulator.inference.predictor import Prediction, Progress, Segment
from emulator.inference.recall import ScoresCodec
from emulator.inference.segments import Group, Groups, past_end
from emulator.inference.streams import States, Streams, scored
from emulator.vertex.parameters import ModelParameters
from emulator.vertex.predictions import ActionPrediction

#: Predicted moments are rounded to this: finer than a video's frames, and short as text.
ROUND_US = 1_000
#: Peaks below this score are never predicted, however low the job's threshold.
FAINTEST = 0.05


@dataclass(frozen=True)
class _Seen:
    """The state of one segment: its peaks so far, and a stream's states."""

    finder: PeakFinder
    states: States


class ActionRecognition(ModelPredictor[ClipHead]):
    """A clip classifier (a Predictor)."""

    def __init__(self, manifest: ModelManifest, options: LoadOptions) -> None:
        """Load the classifier. See `open_predictor`."""
        super().__init__(manifest, ClipHead, options)
        self._grid = ClipGrid.of(manifest)

    def _predict(
        self,
        video: Path,
        segments: Sequence[Segment],
        parameters: ModelParameters,
        progress: Progress,
        size: int,
        recalls: bool,
    ) -> Answers:
        grid = self._grid
        groups = Groups(segments, points=grid.clips, state=lambda _: _Seen(self._new_finder(parameters), {}))
        wanted = wanted_clips(grid, map(grid.clips, segments))
        codec = ScoresCodec() if recalls else None
        with (
            Streams(self._model) as streams,
            self._model.footage(video, wanted, progress, codec, look=grid.look(size)) as footage,
        ):
            cutter = ClipCutter(grid, footage.to_make.ranges)
            with Pipeline(
                self._clips(footage, cutter),
                partial(scored, model=self._model, size=size),
                threads=callers(size, self._model.threads),
                batch=size,
                cancelled=progress.cancelled,
                interrupt=footage.interrupt,
            ) as classified:
                for one in classified:
                    take_scores(footage, one)
                    touched = [seen for _, seen in groups.touched(one.number, one.number)]
                    found = streams.scores(one, [seen.states for seen in touched])
                    for seen, scores in zip(touched, found, strict=True):
                        seen.finder.add(scores)
                    progress.advance(max(0, round(grid.moment_us(one.number))))
                    for group in groups.finished(one.number + 1):
                        predictions = self._predictions(group, parameters)
                        yield from ((index, predictions) for index in group.indices)
                if progress.cancelled():
                    return
                footage.check()
                end_us = (footage.last_point(cutter.end_point) + 1) * grid.interval_us
                for group in groups.rest():
                    late = group.segment.start_us >= end_us
                    outcome = (
                        past_end(group.segment, footage) if late else self._predictions(group, parameters)
                    )
                    yield from ((index, outcome) for index in group.indices)

    def _clips(self, footage: ClipFootage, cutter: ClipCutter) -> Generator[Clip | Scored, None, None]:
        step, looked_at = self._grid.interval_us, spans(self._grid, footage.to_make.ranges)
        return clips_of(
            footage,
            lambda source: cutter.cut(source.sample_frames(step, looked_at, self._model.input.fit_frame)),
        )

    def _new_finder(self, parameters: ModelParameters) -> PeakFinder:
        actions = self.manifest.actions
        least = actions.min_confidence
        if parameters.asks_threshold:
            # Lower peaks are noise: every class has some at every moment, too many to keep.
            least = min(least, max(parameters.confidence_threshold, FAINTEST))
        return PeakFinder(len(self.manifest.labels), least, actions.smooth)

    def _predictions(self, group: Group[_Seen], parameters: ModelParameters) -> list[Prediction]:
        if group.state is None:
            return []
        manifest, segment = self.manifest, group.segment
        apart = manifest.actions.window * 1e6 / self._grid.spacing_us
        found: list[ActionPrediction] = []
        for peak in strongest(group.state.finder.finish(), apart):
            moment_us = self._grid.moment_us(group.first + peak.position)
            time_us = max(0, round(moment_us / ROUND_US) * ROUND_US)
            inside = segment.start_us <= time_us and (segment.end_us is None or time_us < segment.end_us)
            enough = peak.height >= parameters.confidence_threshold
            if inside and enough and peak.class_index != manifest.background:
                found.append(ActionPrediction(manifest.labels[peak.class_index], peak.height, time_us))
        return self._limited(found, parameters.max_predictions)

    def _limited(self, found: list[ActionPrediction], limit: int) -> list[Prediction]:
        """Sort by confidence, the highest first, and keep at most `limit` at one frame."""
        found.sort(key=lambda action: (-action.confidence, action.time_us, int(action.label.id)))
        at_frame: Counter[int] = Counter()
        kept: list[Prediction] = []
        for action in found:
            frame = round(action.time_us / self.manifest.interval_us)
            at_frame[frame] += 1
            if at_frame[frame] <= limit:
                kept.append(action)
        return kept
