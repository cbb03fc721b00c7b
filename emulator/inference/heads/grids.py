"""Heads that give a box as its distances from a grid point: NanoDet and PicoDet, centre heatmaps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.inference.heads.detections import (
    Detections,
    Tensors,
    probabilities,
    refuse_not_finite,
    softmax,
)
from emulator.inference.manifest import ModelManifest, ModelUnusable
from emulator.inference.onnx_model import OnnxModel


class NanodetHead:
    """Class scores and, for each of left, top, right and bottom, a distribution over 0 to reg_max strides.

    Either one tensor [1, N, classes + 4 * (reg_max + 1)], or for every stride a tensor of scores and then for
    every stride one of distributions, each [1, n, channels] or [1, channels, h, w]. A distance is the mean of
    its distribution (Generalized Focal Loss). The first axis may be missing.
    """

    def __init__(self, manifest: ModelManifest, model: OnnxModel) -> None:
        self._spec, self._where = manifest.output, str(manifest.graph)
        self._classes = len(manifest.labels)
        self.names = self._outputs(model)
        self.one_item_a_row = model.has_batch_axis(self.names)
        points = []
        for stride in self._spec.strides:
            columns, rows = (
                math.ceil(manifest.input.width / stride),
                math.ceil(manifest.input.height / stride),
            )
            x, y = np.meshgrid(np.arange(columns), np.arange(rows))
            offset = self._spec.cell_offset
            centers = [(x.ravel() + offset) * stride, (y.ravel() + offset) * stride]
            points.append(np.stack([*centers, np.full(x.size, stride)], axis=1))
        self._points = np.concatenate(points).astype(np.float32)  # (N, 3): x, y, stride

    def _outputs(self, model: OnnxModel) -> list[str]:
        names = model.output_names(self._spec.names)
        wanted = 2 * len(self._spec.strides)
        if len(names) not in (1, wanted):
            raise ModelUnusable(
                f"{self._where} has the outputs {', '.join(names)}; a nanodet head with strides "
                f"{list(self._spec.strides)} needs one, or {wanted}: the scores of every stride and then the "
                "distributions of every stride; name them in [output] names, or correct strides"
            )
        return names

    def decode(self, outputs: Tensors) -> Detections:
        """See DetectionHead."""
        class_scores, distributions = self._checked(outputs)
        best = probabilities(class_scores.max(axis=1), self._spec, self._where)
        kept = np.flatnonzero(best >= self._spec.min_score)
        x, y, stride = self._points[kept].T
        bins = distributions.shape[1] // 4
        chosen = distributions[kept].reshape(len(kept), 4, bins)
        steps = np.arange(bins, dtype=np.float32)
        left, top, right, bottom = (softmax(chosen, self._where) @ steps).T * stride
        boxes = np.stack([x - left, y - top, x + right, y + bottom], axis=1)
        return Detections(boxes, best[kept], class_scores[kept].argmax(axis=1))

    def _checked(self, outputs: Tensors) -> tuple[NDArray[Any], NDArray[Any]]:
        """Scores (N, classes) and distributions (N, 4 * (reg_max + 1))."""
        if len(outputs) == 1:
            joined = outputs[0].reshape(outputs[0].shape[-2:]) if outputs[0].ndim == 3 else outputs[0]
            parts = joined[..., : self._classes], joined[..., self._classes :]
        else:
            half = len(outputs) // 2
            parts = _joined(outputs[:half]), _joined(outputs[half:])
        scores, distributions = parts
        bins, rest = divmod(distributions.shape[-1], 4)
        fits = scores.shape == (len(self._points), self._classes) and distributions.ndim == 2
        if not fits or rest or bins < 2 or len(distributions) != len(scores):
            shapes = ", ".join(
                f"{name} {list(output.shape)}" for name, output in zip(self.names, outputs, strict=True)
            )
            raise ModelUnusable(
                f"{self._where}: {shapes} are not {len(self._points)} points with {self._classes} class "
                "scores and 4 distributions each; correct the labels file, [input] width and height, "
                "or [output] strides and names"
            )
        return parts


def _joined(outputs: Tensors) -> NDArray[Any]:
    """[1, n, channels] or [1, channels, h, w] of each stride -> (N, channels)."""
    rows = [
        output[0].reshape(output.shape[1], -1).T if output.ndim == 4 else output.reshape(-1, output.shape[-1])
        for output in outputs
    ]
    return np.concatenate(rows) if len({row.shape[1] for row in rows}) == 1 else rows[0]


class CenterHead:
    """A heatmap [1, classes, h, w] of box centres and boxes [1, 4, h, w] around each cell's centre.

    The four box channels are the distances left, top, right, bottom from the centre of the cell to the
    box's edges, in pixels of the input.
    """

    one_item_a_row = True

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
        scores = probabilities(heatmap, self._spec, self._where)
        classes, rows, columns = _peaks(scores, self._spec.min_score)
        stride_x, stride_y = self._size[0] / heatmap.shape[2], self._size[1] / heatmap.shape[1]
        x = ((columns + 0.5) * stride_x).astype(np.float32)
        y = ((rows + 0.5) * stride_y).astype(np.float32)
        left, top, right, bottom = distances[:, rows, columns]
        boxes = np.stack([x - left, y - top, x + right, y + bottom], axis=1)
        refuse_not_finite(boxes, self._where)
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


def _peaks(scores: NDArray[np.float32], least: float) -> tuple[NDArray[np.int64], ...]:
    """Indices (class, row, column) of the cells that are at least as high as their eight neighbours."""
    classes, rows, columns = np.nonzero(scores >= least)
    padded = np.pad(scores, ((0, 0), (1, 1), (1, 1)), constant_values=-1.0)
    highest = np.full(len(classes), -1.0, np.float32)
    for down in range(3):
        for right in range(3):
            np.maximum(highest, padded[classes, rows + down, columns + right], out=highest)
    top = scores[classes, rows, columns] >= highest
    return classes[top], rows[top], columns[top]
