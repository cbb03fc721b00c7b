"""A loaded model: a graph that runs, with its input, its head and its batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from emulator.inference.batching import Batches
from emulator.inference.decoding import USUAL, VideoOptions, av_is_installed
from emulator.inference.footage import Footage, Wanted
from emulator.inference.manifest import ModelManifest
from emulator.inference.model_files import GraphDigest
from emulator.inference.onnx_model import OnnxModel
from emulator.inference.pipeline import core_count
from emulator.inference.prediction_cache import PredictionCache
from emulator.inference.predictor import Progress
from emulator.inference.preprocess import ModelInput, Picture
from emulator.inference.providers import VERSION
from emulator.inference.recall import Codec, Recall, Unrecallable
from emulator.inference.video import FrameSource


class Head(Protocol):
    """Interprets a graph's outputs of one call."""

    names: list[str]
    """The names of the outputs that it needs."""
    one_item_a_row: bool
    """Whether the first axis of each of these outputs counts the items of a batch."""

    def decode(self, outputs: Sequence[Any], /) -> Any:
        """The meaning of the outputs. Raises ModelUnusable."""


H = TypeVar("H", bound=Head)
T = TypeVar("T")


@dataclass(frozen=True)
class LoadOptions:
    """How a model is run; see `open_predictor`."""

    provider: str = "cpu"
    threads: int = 0
    batches_help: bool | None = None
    video: VideoOptions = USUAL
    cache: PredictionCache | None = None


class LoadedModel(Generic[H]):
    """A graph that runs, with its input, its head and its batches. A trial run has shown that they fit."""

    def __init__(
        self, manifest: ModelManifest, head: Callable[[ModelManifest, OnnxModel], H], options: LoadOptions
    ) -> None:
        """Load the graph and run it once. Raises ModelUnusable."""
        self.threads = options.threads or core_count()
        self._video = options.video
        self._cache = None if manifest.input.states else options.cache
        state = _graph_state(manifest.graph) if self._cache else None
        graph = OnnxModel(manifest.graph, provider=options.provider, calls=self.threads)
        self.provider = graph.provider
        self._graph, self._states = graph, dict(manifest.input.states)
        graph.output_names(list(self._states.values()))
        self.input = ModelInput(manifest.input, graph)
        self.head = head(manifest, graph)
        self.head.decode(graph.run(self.head.names, self.input.blank()))
        self.batches = Batches(
            graph,
            self.head.names,
            self.input,
            one_item_a_row=self.head.one_item_a_row,
            is_stream=self.is_stream,
            helps=options.batches_help,
        )
        self._digest = state.get() if state else ""
        self._about = (
            f"{manifest.objective.value} {self._digest} {manifest.input} {manifest.output}"
            f" {len(manifest.labels)} {self.provider} {VERSION}"
        )

    @property
    def is_stream(self) -> bool:
        """Whether clips must come in order, each with the states that the one before left."""
        return bool(self._states)

    def advance(
        self, pictures: Sequence[Picture], states: Mapping[str, NDArray[Any]]
    ) -> tuple[list[NDArray[Any]], dict[str, NDArray[Any]]]:
        """The wanted outputs for a clip of a stream, and the states after it.

        An empty `states` stands for zeros.

        Raises:
            ModelUnusable: the graph failed.
        """
        names = [*self.head.names, *self._states.values()]
        computed = self._graph.run(names, {**self.input.feed(pictures), **states})
        wanted = len(self.head.names)
        return computed[:wanted], dict(zip(self._states, computed[wanted:], strict=True))

    def footage(
        self, video: Path, wanted: Wanted, progress: Progress, codec: Codec[T] | None, *, look: str
    ) -> Footage[T]:
        """A video's footage: cached results if there is a codec, the rest decoded as the options say.

        look: all that results depend on besides the model, as text. Raises VideoUnreadable.
        """
        recall = None
        if self._cache and self._digest and codec:
            recall = self._recall(self._cache, video, progress, codec, f"{wanted.frames.interval_us} {look}")
        return Footage(wanted, partial(self._open, video, progress), progress, recall)

    def _open(
        self, video: Path, progress: Progress, sampled: Callable[[int, int | None], None]
    ) -> FrameSource:
        return FrameSource(video, options=self._video, alive=progress.alive, sampled=sampled)

    def _recall(
        self, cache: PredictionCache, video: Path, progress: Progress, codec: Codec[T], look: str
    ) -> Recall[T] | None:
        """The recall for a video; None if known results cannot or must not be used."""

        def check() -> None:
            progress.alive()
            if progress.cancelled():
                raise Unrecallable

        try:
            identity = cache.videos.get(video, check)
        except (OSError, Unrecallable):
            return None
        recall = Recall(
            cache,
            video,
            identity,
            codec,
            decoding=f"{self._video.decoder} {decoding_libraries()}",
            look=f"{self._about} {cache.processor} {look}",
        )
        return recall if recall.facts is None or recall.facts.is_sound else None


def _graph_state(graph: Path) -> GraphDigest | None:
    try:
        return GraphDigest(graph)
    except (OSError, ValueError):
        return None  # loading it says what is wrong


@cache
def decoding_libraries() -> str:
    """The versions of all libraries that affect a picture."""
    av = metadata.version("av") if av_is_installed() else "none"
    build = hashlib.sha256(cv2.getBuildInformation().encode()).hexdigest()
    return f"OpenCV {cv2.__version__} {build} PyAV {av} numpy {np.__version__}"
