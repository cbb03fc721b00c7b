"""How many frames or clips go to the model in one call, and how they get there and back.

On the CPU a batch costs more than it helps, so it is always one; on a GPU a call with one small picture
leaves most of it idle. Imports no numpy: the server needs the decision alone.
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
#: The size where a job asks for none, and the largest: 64 pictures of 640 x 640 are 315 MB as float32.
DEFAULT_SIZE = 8
MOST = 64
#: Threads that call the model with batches: one prepares its pictures while the other's are computed.
CALLERS = 2


@dataclass(frozen=True)
class BatchPlan:
    """How many frames or clips each call has, and why not so many as the job asked for: "" if as many."""

    size: int
    note: str = ""


def plan_batches(*, helps: bool, provider: str, obstacle: str, asked: int) -> BatchPlan:
    """Decide for a job that asks for batches of `asked` (0: it does not), on a provider where a batch
    `helps` or does not. `obstacle` is why the graph cannot take any, "" if it can."""
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
        """`names` are the wanted outputs; `one_item_a_row` says whether the first axis of each counts the
        items of a batch, `is_stream` whether the graph carries states. Whether batches help depends on the
        provider, unless it is said."""
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
        """What a job that asks for batches of this size gets."""
        return plan_batches(
            helps=self._helps, provider=self._model.provider, obstacle=self._obstacle, asked=asked
        )

    def run(self, items: Sequence[Sequence[Picture]], size: int) -> list[list[NDArray[Any]]]:
        """The outputs for each item, as if the graph had been called with it alone.

        A call always has `size` items, where some are missing the last one again and again: TensorRT would
        build another engine for fewer. One item, left over or of a batch that failed, goes alone.

        Raises:
            ModelUnusable: the graph failed, or has not an output for each item.
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
    """How many threads call the model, of as many as one would have without batches."""
    return threads if size == 1 else min(threads, CALLERS)
