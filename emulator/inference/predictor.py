"""What a model offers to whoever runs a job: predictions for the time segments of one video.

The server imports these names, so the modules that need numpy, OpenCV and onnxruntime are imported
only when `open_predictor` is called, in a worker.
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
    """A half-open piece of a video, in microseconds from its start; no end means its end."""

    start_us: int
    end_us: int | None


@dataclass(frozen=True)
class InstanceFailure:
    """Why one segment has no predictions: a google.rpc code and a message for the errors file."""

    code: int
    message: str


class Progress(Protocol):
    """How a prediction under way is watched and stopped. Called from the thread that iterates, unless it says
    otherwise."""

    def cancelled(self) -> bool:
        """Say whether the prediction should end now; asked at every frame and ten times a second."""

    def advance(self, time_us: int) -> None:
        """Hear that everything before this time of the video has been looked at."""

    def sampled(self, done: int, total: int | None) -> None:
        """Hear how many frames were sampled, of how many; None where the video does not say how long it is.
        `total` is an estimate until the video ends. Called from any thread."""

    def alive(self) -> None:
        """Hear that work goes on, although no more of the video has been looked at: before each frame that is
        decoded and each prediction that is put together. Called from any thread."""

    def decoded(self, decoding: Decoding) -> None:
        """Hear how the video was decoded, once no more of it will be."""


class Unwatched:
    """The Progress of a prediction that nobody follows or stops."""

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
        """Yield (index of the segment, its predictions) as segments are finished; one decode serves all.

        Ends early, without the rest, once `progress.cancelled()`. `batch_size` is what the job asks for, see
        `batches`.

        Raises:
            VideoUnreadable: the video cannot be decoded; it concerns every segment.
            ModelUnusable: the model failed on a frame, or gave numbers that are none.
        """

    def batches(self, asked: int, parameters: ModelParameters, /) -> BatchPlan:
        """Say how many frames or clips go to the model in a call if a job with these parameters asks for so
        many (0: for none)."""


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
        cache: where raw results are kept, so that the same are not computed again. Models with states are
            left out: what such a one finds depends on where a segment begins.

    Raises:
        ModelUnusable: the graph cannot be loaded, does not fit the manifest, or the provider or the
            decoder is not there.
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
    """Why packages are missing, and what to do. One that pip takes for installed has lost its module to a
    twin: opencv-python and opencv-python-headless write the same files, and uninstalling one removes them."""
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
    """What would have to be installed to run models; nothing of it is in the image called slim."""
    return [package for module, package in _PACKAGES.items() if importlib.util.find_spec(module) is None]
