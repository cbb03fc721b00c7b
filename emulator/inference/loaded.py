"""A model that is loaded: what every predictor starts from, whatever it predicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from emulator.inference.batching import Batches
from emulator.inference.manifest import ModelManifest
from emulator.inference.onnx_model import OnnxModel
from emulator.inference.pipeline import core_count
from emulator.inference.preprocess import ModelInput


class Head(Protocol):
    """Reads a graph's outputs, those of one call."""

    names: list[str]
    """The outputs that it wants."""
    one_item_a_row: bool
    """Whether the first axis of each of these is the picture's or clip's place in its batch."""

    def decode(self, outputs: Sequence[Any], /) -> Any:
        """Their meaning. Raises ModelUnusable."""


H = TypeVar("H", bound=Head)


@dataclass(frozen=True)
class LoadOptions:
    """How a model is run; see `open_predictor`."""

    provider: str = "cpu"
    threads: int = 0
    batches_help: bool | None = None


class LoadedModel(Generic[H]):
    """A graph that runs, with its input, its head, and its batches. One run has proved that they fit."""

    def __init__(
        self, manifest: ModelManifest, head: Callable[[ModelManifest, OnnxModel], H], options: LoadOptions
    ) -> None:
        """Load the graph and run it once. Raises ModelUnusable."""
        self.threads = options.threads or core_count()
        graph = OnnxModel(manifest.graph, provider=options.provider, calls=self.threads)
        self.provider = graph.provider
        self.input = ModelInput(manifest.input, graph)
        self.head = head(manifest, graph)
        self.head.decode(graph.run(self.head.names, self.input.blank()))
        self.batches = Batches(
            graph,
            self.head.names,
            self.input,
            one_item_a_row=self.head.one_item_a_row,
            helps=options.batches_help,
        )
