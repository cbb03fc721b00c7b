"""One pass over a video for all its segments: the part that all predictors have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from emulator.inference.batching import BatchPlan, callers
from emulator.inference.clips import (
    Clip,
    ClipCutter,
    ClipFootage,
    ClipGrid,
    Scored,
    clips_of,
    spans,
    take_scores,
)
from emulator.inference.footage import Answers, Footage, Outcome, Wanted, with_recall
from emulator.inference.loaded import LoadedModel, LoadOptions
from emulator.inference.manifest import ModelManifest
from emulator.inference.pipeline import Pipeline
from emulator.inference.predictor import Mark, Progress, Segment
from emulator.inference.recall import Codec, ScoresCodec
from emulator.inference.segments import Group, Groups
from emulator.inference.streams import States, Streams, scored
from emulator.vertex.parameters import ModelParameters
from emulator.vertex.predictions import Prediction

S = TypeVar("S")
R = TypeVar("R")


@dataclass(eq=False)
class Pass(ABC, Generic[S, R]):
    """One pass: S is the state of a segment, R a raw result of the model.

    size: how many items each call of the model has. recalls: whether known results may be used. wanted: what
    is needed of the video. look: see `LoadedModel.footage`. codec: of known results, None to use none. depth:
    see Pipeline.
    """

    manifest: ModelManifest
    model: LoadedModel[Any]
    segments: Sequence[Segment]
    parameters: ModelParameters
    progress: Progress
    size: int
    recalls: bool
    groups: Groups[S] = field(init=False)
    wanted: Wanted = field(init=False)
    look: str = field(init=False)
    codec: Codec[R] | None = field(init=False, default=None)
    depth: int | None = field(init=False, default=None)

    @abstractmethod
    def __post_init__(self) -> None:
        """Set `groups`, `wanted` and `look`, and the others if they matter."""

    @abstractmethod
    def items(self, footage: Footage[R]) -> Generator[Any, None, None]:
        """The inputs of the model, and results that are known already, in order. Runs in a thread."""

    @abstractmethod
    def infer(self, items: Sequence[Any]) -> Sequence[Any]:
        """Replace the inputs among the items by results. Runs in several threads."""

    @abstractmethod
    def take(self, item: Any, footage: Footage[R]) -> tuple[int, int]:
        """Add a result to the segments that need it.

        Returns:
            The time before which everything is done, in microseconds, and the point before which segments are
            finished.
        """

    @abstractmethod
    def finish(self, group: Group[S], footage: Footage[R], *, at_end: bool) -> Outcome:
        """The outcome of a segment. `at_end`: whether the video ended before its last point."""

    def close(self) -> None:
        """Release what the pass holds."""

    def run(self, video: Path) -> Answers:
        """Predict. See Predictor.predict."""
        progress = self.progress
        with (
            closing(self),
            self.model.footage(video, self.wanted, progress, self.codec, look=self.look) as footage,
            Pipeline(
                self.items(footage),
                self.infer,
                threads=callers(self.size, self.model.threads),
                batch=self.size,
                depth=self.depth,
                cancelled=progress.cancelled,
                interrupt=footage.interrupt,
            ) as results,
        ):
            for result in results:
                time_us, next_point = self.take(result, footage)
                progress.advance(time_us)
                for group in self.groups.finished(next_point):
                    yield from self._answers(group, footage, at_end=False)
            if not progress.cancelled():
                footage.check()
                for group in self.groups.rest():
                    yield from self._answers(group, footage, at_end=True)

    def _answers(self, group: Group[S], footage: Footage[R], *, at_end: bool) -> Answers:
        outcome = self.finish(group, footage, at_end=at_end)
        yield from ((index, outcome) for index in group.indices)


class Streamed(Protocol):
    """The state of a segment whose model may be a stream."""

    @property
    def states(self) -> States: ...


C = TypeVar("C", bound=Streamed)


class ClipPass(Pass[C, Any]):
    """A pass of a classifier over clips or pictures."""

    def classify(self, grid: ClipGrid) -> None:
        """Prepare for the clips of a grid."""
        self.grid, self.look = grid, grid.look(self.size)
        self.codec = ScoresCodec() if self.recalls else None
        self._streams = Streams(self.model)

    def items(self, footage: ClipFootage) -> Generator[Any, None, None]:
        """The wanted clips; see Pass."""
        grid, fit = self.grid, self.model.input.fit_frame
        self.cutter = cutter = ClipCutter(grid, footage.to_make.ranges)
        looked_at = spans(grid, footage.to_make.ranges)
        return clips_of(
            footage, lambda source: cutter.cut(source.sample_frames(grid.interval_us, looked_at, fit))
        )

    def infer(self, items: Sequence[Any]) -> Sequence[Any]:
        """See Pass."""
        return scored(items, self.model, self.size)

    def scores(
        self, one: Clip | Scored, point: int, footage: ClipFootage
    ) -> Iterator[tuple[Group[C], C, NDArray[np.float32]]]:
        """The segments that need a clip, each with its state and the clip's scores (labels,) for it."""
        take_scores(footage, one)
        touched = list(self.groups.touched(point, point))
        scores = self._streams.scores(one, [state.states for _, state in touched])
        return ((group, state, found) for (group, state), found in zip(touched, scores, strict=True))

    def close(self) -> None:
        """See Pass."""
        self._streams.close()


class ModelPredictor(ABC):
    """A loaded model that uses known results again (a Predictor). Each objective has a subclass.

    heads: the class of each `[output] head`. passes: the class of its passes over videos.
    """

    heads: ClassVar[Mapping[str, Any]]
    passes: ClassVar[type[Pass[Any, Any]]]

    def __init__(self, manifest: ModelManifest, options: LoadOptions) -> None:
        """Load the model. See `open_predictor`."""
        self.manifest = manifest
        self._model: LoadedModel[Any] = LoadedModel(manifest, self.heads[manifest.output.head], options)
        self.provider = self._model.provider

    def batches(self, asked: int, parameters: ModelParameters, /) -> BatchPlan:  # noqa: ARG002
        """See Predictor."""
        return self._model.batches.plan(asked)

    def predict(
        self,
        video: Path,
        segments: Sequence[Segment],
        parameters: ModelParameters,
        progress: Progress,
        batch_size: int = 0,
    ) -> Answers:
        """See Predictor."""
        size = self.batches(batch_size, parameters).size
        made = partial(self.passes, self.manifest, self._model, segments, parameters, progress, size)
        return with_recall(lambda recalls: made(recalls).run(video))

    @abstractmethod
    def marks(self, prediction: Prediction, /) -> list[Mark]:
        """See Predictor."""
