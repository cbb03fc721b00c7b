"""What the outputs of a graph mean: one class per `[output] head`, from tensors to detections or scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from emulator.inference.manifest import ModelManifest, ModelUnusable, OutputSection
from emulator.inference.onnx_model import OnnxModel
from emulator.inference.preprocess import Geometry

Tensors = Sequence[NDArray[Any]]

#: Candidates that take part in suppression, as a multiple of the detections wanted.
CANDIDATES = 4


@dataclass(frozen=True)
class Detections:
    """What was seen in one frame, best first: boxes (N, 4) relative xyxy, scores (N,), classes (N,)."""

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
    """The graph's outputs it wants, in the order `decode` takes them."""

    def __init__(self, manifest: ModelManifest, model: OnnxModel) -> None: ...

    def decode(self, outputs: Tensors) -> Detections:
        """Candidates before suppression, boxes in the model's pixels.

        Raises:
            ModelUnusable: shapes that do not fit the manifest, or numbers that are NaN or infinite.
        """


class YoloxHead:
    """One tensor [1, N, 5 + classes]: x, y offsets to the cell, log sizes, objectness, class scores."""

    def __init__(self, manifest: ModelManifest, model: OnnxModel) -> None:
        self._spec, self._where = manifest.output, str(manifest.graph)
        self.names = model.output_names(self._spec.names)[:1]
        self._classes = len(manifest.labels)
        grids = []
        for stride in self._spec.strides:
            columns, rows = manifest.input.width // stride, manifest.input.height // stride
            x, y = np.meshgrid(np.arange(columns), np.arange(rows))
            grids.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, stride)], axis=1))
        self._grid = np.concatenate(grids).astype(np.float32)  # (N, 3): column, row, stride

    def decode(self, outputs: Tensors) -> Detections:
        """See DetectionHead."""
        rows = self._checked(outputs[0])
        objectness = _scores(rows[:, 4], self._spec, self._where)
        # Few cells hold an object: everything else is computed for those alone.
        kept = np.flatnonzero(objectness >= self._spec.min_score)
        rows, grid, objectness = rows[kept], self._grid[kept], objectness[kept]
        class_scores = _scores(rows[:, 5:], self._spec, self._where)
        classes = class_scores.argmax(axis=1)
        scores = objectness * class_scores[np.arange(len(kept)), classes]
        with np.errstate(over="ignore"):
            half = np.exp(rows[:, 2:4]) * grid[:, 2:] / 2
        center = (rows[:, :2] + grid[:, :2]) * grid[:, 2:]
        boxes = np.concatenate([center - half, center + half], axis=1)
        _refuse_not_finite(boxes, self._where)
        found = Detections(boxes, scores, classes.astype(np.int64))
        return found.where(scores >= self._spec.min_score)

    def _checked(self, output: NDArray[Any]) -> NDArray[np.float32]:
        wanted = (1, len(self._grid), 5 + self._classes)
        if output.shape != wanted:
            raise ModelUnusable(
                f"{self._where}: output {self.names[0]} is {list(output.shape)}, but a yolox head "
                f"with strides {list(self._spec.strides)} and {self._classes} labels needs "
                f"{list(wanted)}; correct [input] width and height, [output] strides or the labels file"
            )
        return np.asarray(output[0], np.float32)


class CenterHead:
    """A heatmap [1, classes, h, w] of box centres and boxes [1, 4, h, w] around each cell's centre.

    The four box channels are the distances left, top, right, bottom from the centre of the cell to the
    box's edges, in pixels of the input.
    """

    def __init__(self, manifest: ModelManifest, model: OnnxModel) -> None:
        self._spec, self._where = manifest.output, str(manifest.graph)
        self._classes = len(manifest.labels)
        self._size = (manifest.input.width, manifest.input.height)
        self.names = self._outputs(model)

    def _outputs(self, model: OnnxModel) -> list[str]:
        names = model.output_names(self._spec.names)
        if self._spec.names or len(names) != 2 or self._classes == 4:
            ordered = sorted(names, key=lambda name: "box" in name) if not self._spec.names else names
        else:
            channels = {tensor.name: tensor.shape[1:2] for tensor in model.outputs}
            ordered = sorted(names, key=lambda name: channels[name] == (4,))
        if len(ordered) != 2:
            raise ModelUnusable(
                f"{self._where} has the outputs {', '.join(ordered)}; a center head needs two, "
                "name them: [output] names = [heatmap, boxes]"
            )
        return ordered

    def decode(self, outputs: Tensors) -> Detections:
        """See DetectionHead."""
        heatmap, distances = self._checked(outputs)
        scores = _scores(heatmap, self._spec, self._where)
        classes, rows, columns = _peaks(scores, self._spec.min_score)
        stride_x, stride_y = self._size[0] / heatmap.shape[2], self._size[1] / heatmap.shape[1]
        x = ((columns + 0.5) * stride_x).astype(np.float32)
        y = ((rows + 0.5) * stride_y).astype(np.float32)
        left, top, right, bottom = distances[:, rows, columns]
        boxes = np.stack([x - left, y - top, x + right, y + bottom], axis=1)
        _refuse_not_finite(boxes, self._where)
        return Detections(boxes, scores[classes, rows, columns], classes)

    def _checked(self, outputs: Tensors) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        heatmap, boxes = outputs
        fits = heatmap.ndim == 4 and heatmap.shape[:2] == (1, self._classes)
        if not fits or boxes.shape != (1, 4, *heatmap.shape[2:]):
            raise ModelUnusable(
                f"{self._where}: outputs {self.names[0]} {list(heatmap.shape)} and {self.names[1]} "
                f"{list(boxes.shape)} are not a heatmap [1, {self._classes}, h, w] (a channel per label) and "
                "boxes [1, 4, h, w]; correct the labels file or [output] names"
            )
        return heatmap[0].astype(np.float32, copy=False), boxes[0].astype(np.float32, copy=False)


#: `[output] head` -> class, for detectors.
DETECTION_HEADS: dict[str, type[DetectionHead]] = {"yolox": YoloxHead, "center": CenterHead}


class ClipHead:
    """Scores of one clip: a tensor of one number per label, whatever its other axes of length 1."""

    def __init__(self, manifest: ModelManifest, model: OnnxModel) -> None:
        self._spec, self._where = manifest.output, str(manifest.graph)
        self._labels = len(manifest.labels)
        self.names = model.output_names(self._spec.names)[:1]

    def decode(self, outputs: Tensors) -> NDArray[np.float32]:
        """Probabilities (classes,).

        Raises:
            ModelUnusable: another number of scores than labels, or NaN or infinite ones.
        """
        if outputs[0].size != self._labels:
            raise ModelUnusable(
                f"{self._where}: output {self.names[0]} is {list(outputs[0].shape)}, but the labels file has "
                f"{self._labels} lines; it needs one line per class"
            )
        scores = outputs[0].reshape(-1).astype(np.float32, copy=False)
        if self._spec.activation != "softmax":
            return _scores(scores, self._spec, self._where)
        _refuse_not_finite(scores, self._where)
        powers = np.exp(scores - scores.max())
        return np.asarray(powers / powers.sum(), np.float32)


def suppress(found: Detections, spec: OutputSection, geometry: Geometry) -> Detections:
    """Drop the weaker of overlapping boxes, keep the best, make boxes relative to the frame."""
    if not len(found):
        return Detections(np.zeros((0, 4), np.float32), found.scores, found.classes)
    boxes = found.boxes
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    classes = found.classes.astype(np.int32)
    # The cost grows with the square of the candidates: only so many of the best take part.
    most = CANDIDATES * spec.max_detections
    kept = cv2.dnn.NMSBoxesBatched(xywh, found.scores, classes, 0.0, spec.nms_iou, 1.0, most)  # type: ignore[arg-type]
    order = np.asarray(kept, np.int64).reshape(-1)
    if spec.nms_iou_across < 1:
        across = cv2.dnn.NMSBoxes(xywh[order], found.scores[order], 0.0, spec.nms_iou_across)  # type: ignore[arg-type]
        order = order[np.asarray(across, np.int64).reshape(-1)]
    order = order[: spec.max_detections]
    best = found.where(order)
    return Detections(geometry.to_relative(best.boxes), best.scores, best.classes)


def _peaks(scores: NDArray[np.float32], least: float) -> tuple[NDArray[np.int64], ...]:
    """Indices (class, row, column) of the cells that none of their eight neighbours exceeds."""
    classes, rows, columns = np.nonzero(scores >= least)
    padded = np.pad(scores, ((0, 0), (1, 1), (1, 1)), constant_values=-1.0)
    highest = np.full(len(classes), -1.0, np.float32)
    for down in range(3):
        for right in range(3):
            np.maximum(highest, padded[classes, rows + down, columns + right], out=highest)
    top = scores[classes, rows, columns] >= highest
    return classes[top], rows[top], columns[top]


def _scores(raw: NDArray[np.float32], spec: OutputSection, where: str) -> NDArray[np.float32]:
    """Probabilities, after the activation that the graph lacks; anything else than 0 to 1 is refused."""
    _refuse_not_finite(raw, where)
    if spec.activation == "sigmoid":
        with np.errstate(over="ignore"):
            return np.asarray(1 / (1 + np.exp(-raw)), np.float32)
    if raw.size and (raw.min() < -0.001 or raw.max() > 1.001):
        worst = raw.min() if raw.min() < -0.001 else raw.max()
        raise ModelUnusable(
            f"{where}: a score is {worst:.4g}, not between 0 and 1; these are logits: "
            "set [output] activation to sigmoid (or softmax for a clip classifier of exclusive classes)"
        )
    return np.clip(raw, 0.0, 1.0)


def _refuse_not_finite(values: NDArray[Any], where: str) -> None:
    if not np.isfinite(values).all():
        raise ModelUnusable(
            f"{where}: the outputs hold NaN or infinite numbers; check [input] scale, mean and std "
            "against how the model was trained, and the export itself (fp16 graphs overflow easily)"
        )
