"""The predictor of each objective, loaded only when one is opened: it needs numpy, OpenCV and onnxruntime.

The pure half of each objective has the same name in `emulator/vertex/objectives/`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from emulator.inference.decoding import EXTRA, USUAL, VideoOptions, av_is_installed
from emulator.inference.manifest import ModelManifest, ModelUnusable
from emulator.inference.prediction_cache import PredictionCache
from emulator.inference.predictor import Predictor

#: The class of each objective's predictor, as module:class.
PREDICTORS: Mapping[str, str] = {
    "object_tracking": "emulator.inference.objectives.object_tracking:ObjectTracking",
    "action_recognition": "emulator.inference.objectives.action_recognition:ActionRecognition",
    "classification": "emulator.inference.objectives.classification:Classification",
}

_PACKAGES = {"cv2": "opencv-python-headless", "numpy": "numpy", "onnxruntime": "onnxruntime", "lap": "lap"}
# Packages that write the same files.
_TWINS = {
    "opencv-python-headless": "opencv-python opencv-python-headless opencv-contrib-python"
    " opencv-contrib-python-headless",
    "onnxruntime": "onnxruntime onnxruntime-gpu onnxruntime-openvino",
}


def load(objective: str) -> Callable[..., Predictor]:
    """Import the module of an objective's predictor, and return the class. Raises ImportError."""
    module, _, name = PREDICTORS[objective].partition(":")
    return cast(Callable[..., Predictor], getattr(importlib.import_module(module), name))


def load_all() -> None:
    """Import the modules of all predictors. Raises ImportError."""
    for objective in PREDICTORS:
        load(objective)


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
    return load(manifest.objective.value)(manifest, options)


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
