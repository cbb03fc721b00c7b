"""The YOLO family before suppression: one tensor with a row (or a column) per cell of the grids."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.inference.heads.detections import (
    BoxForm,
    Detections,
    Tensors,
    as_table,
    probabilities,
    refuse_not_finite,
)
from emulator.inference.manifest import ModelManifest, ModelUnusable
from emulator.inference.onnx_model import OnnxModel


class YoloV8Head:
    """[1, 4 + classes, N] or [1, N, 4 + classes]: a box and class scores per cell, without objectness."""

    def __init__(self, manifest: ModelManifest, model: OnnxModel) -> None:
        self._spec, self._where = manifest.output, str(manifest.graph)
        self.names = model.output_names(self._spec.names)[:1]
        self.one_item_a_row = model.has_batch_axis(self.names)
        self._scores_end = 4 + len(manifest.labels)
        self._width = self._scores_end + self._spec.extra
        self._form = BoxForm(manifest)

    def decode(self, outputs: Tensors) -> Detections:
        """See DetectionHead."""
        columns = self._checked(outputs[0])
        class_scores = columns[4 : self._scores_end]
        best = probabilities(class_scores.max(axis=0), self._spec, self._where)
        # Few cells hold an object, so class and box are looked up for those alone.
        kept = np.flatnonzero(best >= self._spec.min_score)
        return Detections(
            boxes=self._form.to_pixels(columns[:4, kept].T),
            scores=best[kept],
            classes=class_scores[:, kept].argmax(axis=0),
        )

    def _checked(self, output: NDArray[Any]) -> NDArray[Any]:
        """(4 + classes, N)"""
        table = as_table(output)
        if table is not None and self._width in table.shape:
            return np.asarray(table if table.shape[0] == self._width else table.T)
        raise ModelUnusable(
            f"{self._where}: output {self.names[0]} is {list(output.shape)}, but a yolov8 head of "
            f"{self._scores_end - 4} labels{_and_extra(self._spec.extra)} needs [1, {self._width}, N] or "
            f"[1, N, {self._width}]; correct the labels file, [output] extra or [output] head"
        )


class YoloV5Head:
    """[1, N, 5 + classes]: decoded boxes, objectness and class scores (YOLOv5, v6, v7, decoded YOLOX)."""

    def __init__(self, manifest: ModelManifest, model: OnnxModel) -> None:
        self._manifest, self._where = manifest, str(manifest.graph)
        self.names = model.output_names(manifest.output.names)[:1]
        self.one_item_a_row = model.has_batch_axis(self.names)
        self._form = BoxForm(manifest)

    def decode(self, outputs: Tensors) -> Detections:
        """See DetectionHead."""
        labels, extra = len(self._manifest.labels), self._manifest.output.extra
        table, width = as_table(outputs[0]), 5 + labels + extra
        if table is None or table.shape[1] != width:
            raise ModelUnusable(
                f"{self._where}: output {self.names[0]} is {list(outputs[0].shape)}, but a yolov5 head of "
                f"{labels} labels{_and_extra(extra)} needs [1, N, {width}]; correct the labels file, "
                "[output] "
                "extra or [output] head"
            )
        rows = table[:, : 5 + labels]
        kept, scores, classes = _by_objectness(rows, self._manifest, self._where)
        return Detections(self._form.to_pixels(rows[kept, :4]), scores, classes)


class YoloxHead:
    """[1, N, 5 + classes]: x, y offsets to the cell, log sizes, objectness, class scores."""

    def __init__(self, manifest: ModelManifest, model: OnnxModel) -> None:
        self._manifest, self._where = manifest, str(manifest.graph)
        self.names = model.output_names(manifest.output.names)[:1]
        self.one_item_a_row = model.has_batch_axis(self.names)
        grids = []
        for stride in manifest.output.strides:
            columns, rows = manifest.input.width // stride, manifest.input.height // stride
            x, y = np.meshgrid(np.arange(columns), np.arange(rows))
            grids.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, stride)], axis=1))
        self._grid = np.concatenate(grids).astype(np.float32)  # (N, 3): column, row, stride

    def decode(self, outputs: Tensors) -> Detections:
        """See DetectionHead."""
        rows = self._checked(outputs[0])
        kept, scores, classes = _by_objectness(rows, self._manifest, self._where)
        boxes, grid = rows[kept, :4].astype(np.float32, copy=False), self._grid[kept]
        with np.errstate(over="ignore"):
            half = np.exp(boxes[:, 2:]) * grid[:, 2:] / 2
        center = (boxes[:, :2] + grid[:, :2]) * grid[:, 2:]
        corners = np.concatenate([center - half, center + half], axis=1)
        refuse_not_finite(corners, self._where)
        return Detections(corners, scores, classes)

    def _checked(self, output: NDArray[Any]) -> NDArray[Any]:
        labels = len(self._manifest.labels)
        wanted = (1, len(self._grid), 5 + labels)
        table = as_table(output)
        if table is None or table.shape != wanted[1:]:
            raise ModelUnusable(
                f"{self._where}: output {self.names[0]} is {list(output.shape)}, but a yolox head "
                f"with strides {list(self._manifest.output.strides)} and {labels} labels needs "
                f"{list(wanted)}; correct [input] width and height, [output] strides or the labels file"
            )
        return table


def _and_extra(extra: int) -> str:
    return f" and {extra} extra columns" if extra else ""


def _by_objectness(
    rows: NDArray[Any], manifest: ModelManifest, where: str
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Select the rows (N, 5 + classes) with a sufficient score: their indices, scores and classes."""
    spec = manifest.output
    objectness = probabilities(rows[:, 4], spec, where)
    # Few cells hold an object, so everything else is computed for those alone.
    likely = np.flatnonzero(objectness >= spec.min_score)
    class_scores = probabilities(rows[likely, 5:], spec, where)
    classes = class_scores.argmax(axis=1)
    scores = objectness[likely] * class_scores[np.arange(len(likely)), classes]
    sure = scores >= spec.min_score
    return likely[sure], scores[sure], classes[sure]
