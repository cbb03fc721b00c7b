"""Streams: models that carry states from clip to clip, so that each segment must see its clips in order.

A segment begins with states of zero. The clips of one segment cannot run in parallel; segments can.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from emulator.inference.clips import Clip, Scored
from emulator.inference.heads import ClipHead
from emulator.inference.loaded import LoadedModel

Other = TypeVar("Other")

#: A segment's states by the name of the graph's input; empty before its first clip.
States = dict[str, NDArray[Any]]


class Streams:
    """Runs a clip for several segments in parallel."""

    def __init__(self, model: LoadedModel[ClipHead]) -> None:
        self._model = model
        self._threads = ThreadPoolExecutor(model.threads, "stream")

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(cancel_futures=True)

    def scores(self, clip: Clip | Scored, segments: Sequence[States]) -> list[NDArray[np.float32]]:
        """The clip's scores for each segment. The segments' states are updated.

        A clip that is scored already does not belong to a stream: its scores hold for every segment.

        Raises:
            ModelUnusable: the graph failed, or gave NaN or infinite numbers.
        """
        if isinstance(clip, Scored):
            return [clip.scores] * len(segments)
        return list(self._threads.map(lambda states: self._advance(clip, states), segments))

    def _advance(self, clip: Clip, states: States) -> NDArray[np.float32]:
        outputs, after = self._model.advance(clip.pictures, states)
        states.update(after)
        return self._model.head.decode(outputs)


def scored(ones: Sequence[Clip | Other], model: LoadedModel[ClipHead], size: int) -> list[Any]:
    """Replace each clip by its scores. A stream's clips, and all other items, stay as they are."""
    clips = [one for one in ones if isinstance(one, Clip)]
    if model.is_stream or not clips:
        return list(ones)
    computed = iter(model.batches.run([clip.pictures for clip in clips], size))
    return [
        Scored(one.number, model.head.decode(next(computed))) if isinstance(one, Clip) else one
        for one in ones
    ]
