"""Decides how many frames or clips the model gets in one call, and makes those calls.

On the CPU a batch costs more than it gains, so the size is always one. On a GPU a call with one small picture
leaves most of the GPU idle. This module imports no numpy: the server needs only the decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emulator.inference.manifest import ModelUnusable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from emulator.inference.onnx_model import OnnxModel
    from emulator.inference.preprocess import ModelInput, Picture

#: Providers on which a batch helps.
BATCHING_PROVIDERS = frozenset({"cuda", "tensorrt"})
#: The size if a job asks for none, and the largest: 64 pictures of 640 x 640 are 315 MB as float32.
DEFAULT_SIZE = 8
MOST = 64
#: Threads that call the model with batches: one prepares pictures while the model computes the other's.
CALLERS = 2


@dataclass(frozen=True)
class BatchPlan:
    """The number of frames or clips per call.

    note: why the number differs from the one that the job asked for; "" if it does not.
    """

    size: int
    note: str = ""


def plan_batches(*, helps: bool, provider: str, obstacle: str, asked: int) -> BatchPlan:
    """Decide the batch size of a job.

    Args:
        helps: whether batches help on the provider.
        provider: the provider's name, for the note.
        obstacle: why the graph takes no batches, "" if it does.
        asked: the batch size that the job asks for, 0 for none.
    """
    wanted = asked if asked > 0 else DEFAULT_SIZE
    if wanted == 1:
        return BatchPlan(1)
    if not helps:
        why = f"one by one: the provider is {provider}, on which a batch costs more than it helps"
        return BatchPlan(1, why if asked > 0 else "")
    if obstacle:
        return BatchPlan(1, f"one by one: {obstacle}" if asked > 0 else "")
    if wanted > MOST:
        return BatchPlan(MOST, f"batches of {MOST}, the largest there are")
    return BatchPlan(wanted)


class Batches:
    """Calls a graph with batches, where these help. Thread-safe."""

    def __init__(
        self,
        model: OnnxModel,
        names: Sequence[str],
        inputs: ModelInput,
        *,
        one_item_a_row: bool = True,
        is_stream: bool = False,
        helps: bool | None = None,
    ) -> None:
        """Find out whether the graph takes batches.

        Args:
            model: the graph.
            names: the wanted outputs.
            inputs: prepares the tensors.
            one_item_a_row: whether the first axis of each output counts the items of a batch.
            is_stream: whether the graph carries states.
            helps: whether batches help; None to decide by the provider.
        """
        self._model, self._names, self._inputs = model, list(names), inputs
        self._helps = model.provider in BATCHING_PROVIDERS if helps is None else helps
        outputs = [output for output in model.outputs if output.name in self._names]
        if is_stream:
            self._obstacle = "a stream is shown its clips one after another"
        elif not (inputs.batch_is_free and all(output.shape[:1] == (None,) for output in outputs)):
            self._obstacle = "the graph's batch axis is fixed; export it with a free one"
        elif not one_item_a_row:
            self._obstacle = "the graph puts the detections of all pictures of a batch into one list"
        else:
            self._obstacle = ""

    def plan(self, asked: int) -> BatchPlan:
        """The plan for a job that asks for batches of this size."""
        return plan_batches(
            helps=self._helps, provider=self._model.provider, obstacle=self._obstacle, asked=asked
        )

    def run(self, items: Sequence[Sequence[Picture]], size: int) -> list[list[NDArray[Any]]]:
        """The outputs for each item, as if the graph had been called with it alone.

        A short batch is padded to `size` by repeating its last item: TensorRT builds a new engine for every
        batch size. A single item, left over or from a batch that failed, goes alone.

        Raises:
            ModelUnusable: the graph failed, or lacks an output for each item.
        """
        if size == 1 or len(items) == 1:
            return [list(self._model.run(self._names, self._inputs.feed(item))) for item in items]
        outputs = self._model.run(self._names, self._inputs.feed_batch(items, size))
        for name, output in zip(self._names, outputs, strict=True):
            if output.shape[:1] != (size,):
                raise ModelUnusable(
                    f"{self._model.path}: output {name} is {list(output.shape)} for a batch of {size}; "
                    "export the graph again, with a batch axis that is free throughout, or fixed to 1"
                )
        return [[output[number : number + 1] for output in outputs] for number in range(len(items))]


def callers(size: int, threads: int) -> int:
    """The number of threads that call the model; `threads` is their number without batches."""
    return threads if size == 1 else min(threads, CALLERS)
