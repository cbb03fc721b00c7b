"""Action recognition: a clip classifier slides along the video; its score peaks are the actions' moments.

Clips lie on the grid of the video, whatever the segments. A segment's clips reach beyond it as far as needed
to judge the moments near its edges, but only moments inside it are predicted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from emulator.inference.clips import Clip, ClipFootage, ClipGrid, Scored, wanted_clips
from emulator.inference.footage import Outcome
from emulator.inference.heads import ClipHead
from emulator.inference.passes import ClipPass, ModelPredictor
from emulator.inference.peaks import PeakFinder, strongest
from emulator.inference.predictor import Mark
from emulator.inference.segments import Group, Groups, past_end
from emulator.inference.streams import States
from emulator.vertex.objectives.action_recognition import ActionPrediction
from emulator.vertex.parameters import ModelParameters
from emulator.vertex.predictions import Prediction

#: Predicted moments are rounded to this: finer than a video's frames, and short as text.
ROUND_US = 1_000
#: Peaks below this score are never predicted, however low the job's threshold.
FAINTEST = 0.05


@dataclass(frozen=True)
class _Seen:
    """The state of one segment: its peaks so far, and a stream's states."""

    finder: PeakFinder
    states: States


class _Recognition(ClipPass[_Seen]):
    """One pass: scores each wanted clip once."""

    def __post_init__(self) -> None:
        self.classify(grid := ClipGrid.of(self.manifest))
        self.groups = Groups(
            self.segments, points=grid.clips, state=lambda _: _Seen(self._new_finder(self.parameters), {})
        )
        self.wanted = wanted_clips(grid, map(grid.clips, self.segments))

    def take(self, item: Clip | Scored, footage: ClipFootage) -> tuple[int, int]:
        """See Pass."""
        for _, seen, scores in self.scores(item, item.number, footage):
            seen.finder.add(scores)
        return max(0, round(self.grid.moment_us(item.number))), item.number + 1

    def finish(self, group: Group[_Seen], footage: ClipFootage, *, at_end: bool) -> Outcome:
        """See Pass."""
        if at_end:
            end_us = (footage.last_point(self.cutter.end_point) + 1) * self.grid.interval_us
            if group.segment.start_us >= end_us:
                return past_end(group.segment, footage)
        return self._predictions(group, self.parameters)

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
        apart = manifest.actions.window * 1e6 / self.grid.spacing_us
        found: list[ActionPrediction] = []
        for peak in strongest(group.state.finder.finish(), apart):
            moment_us = self.grid.moment_us(group.first + peak.position)
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


class ActionRecognition(ModelPredictor):
    """A clip classifier (a Predictor)."""

    heads: ClassVar[Mapping[str, Any]] = {"clip": ClipHead}
    passes = _Recognition

    def marks(self, prediction: Prediction) -> list[Mark]:
        """See Predictor."""
        assert isinstance(prediction, ActionPrediction)
        return [Mark(prediction.time_us)]
