"""What the server makes of a detector's tensors: a head and the suppression after it, boxes in pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.inference.heads import DETECTION_HEADS, Detections, suppress
from emulator.inference.manifest import ModelManifest, load_manifest
from emulator.inference.onnx_model import OnnxModel
from emulator.inference.preprocess import Geometry
from tests.inference.tiny_models import recorded

WIDTH, HEIGHT = 640, 480
LEAST = 0.2

Outputs = Mapping[str, NDArray[Any]]


def head_for(
    folder: Path, classes: int, keys: str, outputs: Outputs, least: float = LEAST
) -> Callable[[Outputs], Detections]:
    """The head that `[output]` of these keys makes for a graph with such outputs."""
    folder.mkdir(exist_ok=True)
    (folder / "labels.txt").write_text("".join(f"label {number}\n" for number in range(classes)))
    (folder / "model.toml").write_text(
        '[model]\nobjective = "object_tracking"\nid = "m"\n[input]\n'
        f"width = {WIDTH}\nheight = {HEIGHT}\n[output]\n{keys}\nmin_score = {least}\n"
    )
    recorded(folder / "model.onnx", outputs, shape=(1, 3, HEIGHT, WIDTH))
    manifest = load_manifest(folder)
    head = DETECTION_HEADS[manifest.output.head](manifest, OnnxModel(manifest.graph))
    return lambda found: in_pixels(head.decode([found[name] for name in head.names]), manifest)


def in_pixels(found: Detections, manifest: ModelManifest) -> Detections:
    """Suppressed as the manifest says."""
    width, height = manifest.input.width, manifest.input.height
    kept = suppress(found, manifest.output, Geometry(0, 0, width, height))
    return Detections(kept.boxes * np.array([width, height] * 2, np.float32), kept.scores, kept.classes)


def assert_same(found: Detections, boxes: Any, scores: Any, classes: Any) -> int:
    """The same detections within 0.001 pixels and 0.001 of score; returns how many."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    np.testing.assert_allclose(found.scores, np.asarray(scores)[order], atol=1e-3)
    np.testing.assert_array_equal(found.classes, np.asarray(classes)[order])
    np.testing.assert_allclose(found.boxes, np.asarray(boxes).reshape(-1, 4)[order], atol=1e-3)
    return len(found)
