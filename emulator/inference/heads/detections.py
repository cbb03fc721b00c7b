"""Detections of one frame: the result of all heads, their common checks, and non-maximum suppression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from emulator.inference.manifest import ModelManifest, ModelUnusable
from emulator.inference.onnx_model import OnnxModel
from emulator.inference.preprocess import Geometry
from emulator.inference.sections import OutputSection

Tensors = Sequence[NDArray[Any]]

#: The number of candidates for suppression, as a multiple of the wanted detections.
CANDIDATES = 4
#: Tolerance for rounding errors: of a probability outside 0 to 1, of a corner past its opposite (pixels).
SCORE_SLACK = 0.001
CORNER_SLACK = 1.0
#: The greatest coordinate of a box's centre, in pictures; boxes farther out are not relative ones.
FAR_OUT = 4.0


@dataclass(frozen=True)
class Detections:
    """The detections of one frame: boxes (N, 4) xyxy, scores (N,), classes (N,), numbered as the labels.

    A head gives boxes in the model's pixels, in no order. `suppress` sorts them, best first, and makes them
    relative to the frame.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)

    def where(self, keep: NDArray[Any]) -> Detections:
        """The detections picked by a mask or by indices."""
        return Detections(self.boxes[keep], self.scores[keep], self.classes[keep])


class DetectionHead(Protocol):
    """Decodes a detector's outputs. Built from the manifest; stateless afterwards, so thread-safe."""

    names: list[str]
    """The names of the outputs that it needs, in the order in which `decode` takes them."""
    one_item_a_row: bool
    """Whether the first axis of each of these outputs counts the pictures of a batch."""

    def __init__(self, manifest: ModelManifest, model: OnnxModel) -> None: ...

    def decode(self, outputs: Tensors) -> Detections:
        """Candidates with at least `min_score`, before suppression; boxes in the model's pixels.

        Raises:
            ModelUnusable: shapes that do not fit the manifest, or numbers that are NaN or infinite.
        """


class BoxForm:
    """Converts a graph's boxes, as `[output] box` and `box_unit` describe them, to xyxy in model pixels."""

    def __init__(self, manifest: ModelManifest) -> None:
        self._form, self._where = manifest.output.box, str(manifest.graph)
        self._relative = manifest.output.box_unit == "relative"
        self._factor = (manifest.input.width, manifest.input.height) if self._relative else (1, 1)

    def to_pixels(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """(N, 4) as the graph has them -> (N, 4) xyxy.

        Raises:
            ModelUnusable: NaN, infinite numbers, boxes that end before they begin, or relative ones far out.
        """
        values = raw.astype(np.float32, copy=False)
        refuse_not_finite(values, self._where)
        if self._form == "cxcywh":
            half = values[:, 2:] / 2
            values = np.concatenate([values[:, :2] - half, values[:, :2] + half], axis=1)
        elif self._form == "yxyx":
            values = values[:, [1, 0, 3, 2]]
        if self._relative and (np.abs(values[:, :2] + values[:, 2:]) > 2 * FAR_OUT).any():
            worst = [round(value, 1) for value in values[np.abs(values).max(axis=1).argmax()].tolist()]
            raise ModelUnusable(
                f"{self._where}: a box is {worst}, far outside the picture if these are relative to it; set "
                "[output] box_unit to pixels"
            )
        boxes = values * np.array(self._factor * 2, np.float32)
        inverted = (boxes[:, 2:] - boxes[:, :2] < -CORNER_SLACK).any(axis=1)
        if inverted.any():
            worst = [round(value, 1) for value in boxes[inverted][0].tolist()]
            raise ModelUnusable(
                f"{self._where}: a box ends before it begins, {worst} as x_min, y_min, x_max, y_max; correct "
                f"[output] box, which is {self._form} (known are xyxy, yxyx and cxcywh), or [output] names"
            )
        return boxes


def as_table(output: NDArray[Any]) -> NDArray[Any] | None:
    """An output as (rows, columns), without the axes of length 1 that batches and some converters add.

    None if more than two other axes remain.
    """
    while output.ndim > 2 and output.shape[0] == 1:
        output = output[0]
    while output.ndim > 2 and output.shape[-1] == 1:
        output = output[..., 0]
    if output.ndim == 3 and output.shape[1] == 1:
        output = output[:, 0]
    return output if output.ndim == 2 else None


def suppress(found: Detections, spec: OutputSection, geometry: Geometry) -> Detections:
    """Drop the weaker of overlapping boxes, keep the best, and make boxes relative to the frame."""
    if not len(found):
        return Detections(np.zeros((0, 4), np.float32), found.scores, found.classes)
    order = _kept(found, spec)
    if spec.nms_iou_across < 1:
        boxes, scores = _xywh(found.boxes[order]), found.scores[order]
        across = cv2.dnn.NMSBoxes(boxes, scores, 0.0, spec.nms_iou_across)  # type: ignore[arg-type]
        order = order[np.asarray(across, np.int64).reshape(-1)]
    best = found.where(order[: spec.max_detections])
    return Detections(geometry.to_relative(best.boxes), best.scores, best.classes)


def _kept(found: Detections, spec: OutputSection) -> NDArray[np.int64]:
    # The cost grows with the square of the candidates, so only this many of the best take part.
    most = CANDIDATES * spec.max_detections
    if spec.nms_iou >= 1:
        return np.argsort(-found.scores, kind="stable")[:most]
    kept = cv2.dnn.NMSBoxesBatched(
        _xywh(found.boxes),  # type: ignore[arg-type]
        found.scores,  # type: ignore[arg-type]
        found.classes.astype(np.int32),  # type: ignore[arg-type]
        0.0,
        spec.nms_iou,
        1.0,
        most,
    )
    return np.asarray(kept, np.int64).reshape(-1)


def _xywh(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def probabilities(raw: NDArray[Any], spec: OutputSection, where: str) -> NDArray[np.float32]:
    """Probabilities, after the sigmoid if the graph lacks it. Raises ModelUnusable unless all are 0 to 1."""
    values = raw.astype(np.float32, copy=False)
    if spec.activation == "sigmoid":
        refuse_not_finite(values, where)
        with np.errstate(over="ignore"):
            return np.asarray(1 / (1 + np.exp(-values)), np.float32)
    if not values.size:
        return values
    least, most = values.min(), values.max()
    # NaN and infinite numbers do not pass this check either.
    if not (least >= -SCORE_SLACK and most <= 1 + SCORE_SLACK):
        refuse_not_finite(values, where)
        worst = least if least < -SCORE_SLACK else most
        raise ModelUnusable(
            f"{where}: a score is {worst:.4g}, not between 0 and 1; these are logits: "
            "set [output] activation to sigmoid (or softmax for a classifier of exclusive classes)"
        )
    return np.clip(values, 0.0, 1.0)


def softmax(logits: NDArray[Any], where: str) -> NDArray[np.float32]:
    """Probabilities along the last axis."""
    refuse_not_finite(logits, where)
    values = logits.astype(np.float32, copy=False)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


def refuse_not_finite(values: NDArray[Any], where: str) -> None:
    """Raises ModelUnusable if there are NaN or infinite numbers."""
    if not np.isfinite(values).all():
        raise ModelUnusable(
            f"{where}: the outputs hold NaN or infinite numbers; check [input] scale, mean and std "
            "against how the model was trained, and the export itself (fp16 graphs overflow easily)"
        )
