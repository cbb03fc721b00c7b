"""The interface between models and jobs: predictions for the time segments of one video.

The server imports these names; `emulator.inference.objectives` opens predictors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from emulator.inference.batching import BatchPlan
from emulator.inference.decoding import Decoding
from emulator.vertex.instances import InstanceFailure
from emulator.vertex.parameters import ModelParameters
from emulator.vertex.predictions import Prediction


@dataclass(frozen=True)
class Segment:
    """A half-open piece of a video, in microseconds from its start; `end_us` None is the video's end."""

    start_us: int
    end_us: int | None


@dataclass(frozen=True)
class Mark:
    """A moment of a prediction; its box, if any, is x_min, y_min, x_max, y_max relative to the frame."""

    time_us: int
    box: tuple[float, float, float, float] | None = None


class Progress(Protocol):
    """Follows a running prediction, and can stop it.

    The methods are called from the thread that iterates, unless they say otherwise.
    """

    def cancelled(self) -> bool:
        """Whether the prediction should end now. Called at every frame, and ten times a second."""

    def advance(self, time_us: int) -> None:
        """Called when everything before this time of the video has been processed."""

    def sampled(self, done: int, total: int | None) -> None:
        """Called with the number of sampled frames and their total. Called from any thread.

        `total` is an estimate until the video ends; None if the video does not state its length.
        """

    def alive(self) -> None:
        """Called as a sign of life between calls of `advance`: before each decoded frame and each prediction
        that is assembled. Called from any thread."""

    def decoded(self, decoding: Decoding) -> None:
        """Called with how the video was decoded, once decoding has ended."""


class Unwatched:
    """A Progress that ignores all calls and never cancels."""

    def cancelled(self) -> bool:
        """See Progress."""
        return False

    def advance(self, time_us: int) -> None:
        """See Progress."""

    def sampled(self, done: int, total: int | None) -> None:
        """See Progress."""

    def alive(self) -> None:
        """See Progress."""

    def decoded(self, decoding: Decoding) -> None:
        """See Progress."""


class Predictor(Protocol):
    """A loaded model. Thread-safe: several videos may be predicted at once."""

    provider: str
    """The execution provider really used: `cpu`, `cuda`, `tensorrt` or `openvino`."""

    def predict(
        self,
        video: Path,
        segments: Sequence[Segment],
        parameters: ModelParameters,
        progress: Progress,
        batch_size: int = 0,
    ) -> Iterator[tuple[int, list[Prediction] | InstanceFailure]]:
        """Yield (index of the segment, its predictions) as segments are finished. One decode serves all.

        Once `progress.cancelled()` is true, it ends early and yields no more segments. `batch_size` is the
        size that the job asks for, see `batches`.

        Raises:
            VideoUnreadable: the video cannot be decoded; it concerns every segment.
            ModelUnusable: the model failed on a frame, or gave NaN or infinite numbers.
        """

    def batches(self, asked: int, parameters: ModelParameters, /) -> BatchPlan:
        """The number of frames or clips per call for a job with these parameters.

        `asked` is the batch size that the job asks for, 0 for none.
        """

    def marks(self, prediction: Prediction, /) -> list[Mark]:
        """The moments at which `models check` draws one of its predictions."""
