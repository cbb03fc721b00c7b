"""The interface between models and jobs: predictions for the time segments of one video.

The server imports these names, so the modules that need numpy, OpenCV and onnxruntime are imported
only when a worker calls `open_predictor`.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from emulator.inference.batching import BatchPlan
from emulator.inference.decoding import EXTRA, USUAL, Decoding, VideoOptions, av_is_installed
from emulator.inference.manifest import ManifestError, ModelManifest, ModelUnusable
from emulator.inference.prediction_cache import PredictionCache
from emulator.vertex.instances import InstanceFailure
from emulator.vertex.parameters import ModelParameters, Objective
from emulator.vertex.predictions import ActionPrediction, ClassificationPrediction, ObjectTrack

__all__ = [
    "InstanceFailure",
    "ManifestError",
    "ModelUnusable",
    "Prediction",
    "Predictor",
    "Progress",
    "Segment",
    "missing_packages",
    "open_predictor",
]

Prediction = ObjectTrack | ActionPrediction | ClassificationPrediction

_PACKAGES = {"cv2": "opencv-python-headless", "numpy": "numpy", "onnxruntime": "onnxruntime", "lap": "lap"}
# Packages that write the same files.
_TWINS = {
    "opencv-python-headless": "opencv-python opencv-python-headless opencv-contrib-python"
    " opencv-contrib-python-headless",
    "onnxruntime": "onnxruntime onnxruntime-gpu onnxruntime-openvino",
}


@dataclass(frozen=True)
class Segment:
    """A half-open piece of a video, in microseconds from its start; `end_us` None is the video's end."""

    start_us: int
    end_us: int | None


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


def open_predictor(
    manifest: ModelManifest,
    *,
    provider: str = "cpu",
    threads: int = 0,
    batches_help: bool | None = None,
    video: VideoOptions = USUAL,
    cache: PredictionCache | None = None,
) -> Predictor:
    """Load a model and prove with one run that its shapes are those of the manifest.

    Args:
        provider: `cpu`, `cuda`, `tensorrt` or `openvino`, or `auto` for the fastest that works here.
        threads: how many frames or clips are inferred at a time; 0 for as many as there are cores.
        batches_help: whether batches are built; None leaves it to the provider.
        video: how videos are decoded.
        cache: the cache of raw results, which saves computing them again. Models with states do not use it:
            their results depend on where a segment begins.

    Raises:
        ModelUnusable: the graph cannot be loaded or does not fit the manifest, or the provider or the
            decoder is not available.
    """
    if missing := missing_packages():
        raise ModelUnusable(f"{manifest.id} cannot be run: {_remedy(missing)}")
    if video.decoder == "av" and not av_is_installed():
        raise ModelUnusable(f"the decoder av was asked for, but PyAV is not installed: `{EXTRA}`")
    from emulator.inference.loaded import LoadOptions

    options = LoadOptions(provider, threads, batches_help, video, cache)
    if manifest.objective is Objective.OBJECT_TRACKING:
        from emulator.inference.object_tracking import ObjectTracking

        return ObjectTracking(manifest, options)
    if manifest.objective is Objective.CLASSIFICATION:
        from emulator.inference.classification import Classification

        return Classification(manifest, options)
    from emulator.inference.action_recognition import ActionRecognition

    return ActionRecognition(manifest, options)


def _remedy(missing: Sequence[str]) -> str:
    """Why packages are missing, and the remedy.

    If pip lists a package whose module is gone, a twin was removed: opencv-python and opencv-python-headless
    write the same files, and uninstalling one removes them for both.
    """
    from importlib.metadata import PackageNotFoundError, version

    for package in missing:
        with contextlib.suppress(PackageNotFoundError):
            known = version(package)
            twins = _TWINS.get(package, package)
            return (
                f"pip takes {package} {known} for installed, but its files are gone: another package wrote"
                f" the same ones and was removed. Run `pip uninstall --yes {twins}`, then"
                f" `pip install {package}`"
            )
    return (
        f"this installation lacks {', '.join(missing)} and serves canned models only. Use the image that is"
        " not called slim, or `pip install vertex-batch-emulator`"
    )


def missing_packages() -> list[str]:
    """The packages for running models that this installation lacks. The slim image has none of them."""
    return [package for module, package in _PACKAGES.items() if importlib.util.find_spec(module) is None]
