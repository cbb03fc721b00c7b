"""Heads that need no suppression: set prediction (DETR and its kin), and detections after NMS in a graph."""

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
    softmax,
)
from emulator.inference.manifest import ModelManifest, ModelUnusable
from emulator.inference.onnx_model import OnnxModel

#: The score that some graphs write in rows without a detection; the others write 0.
FILLER = -1


class DetrHead:
    """Class logits [1, queries, classes] and boxes [1, queries, 4] of DETR, RT-DETR, D-FINE, RF-DETR.

    With `softmax` a query is one detection, of the best class that is not background. Otherwise every class
    of a query is a detection of its own. The first axis may be missing.
    """

    def __init__(self, manifest: ModelManifest, model: OnnxModel) -> None:
        self._spec, self._where = manifest.output, str(manifest.graph)
        self._labels = len(manifest.labels)
        self._first = self._spec.first_class + (self._spec.background == "first")
        self._form = BoxForm(manifest)
        self.names = model.output_names(self._spec.names)
        self.one_item_a_row = model.has_batch_axis(self.names)
        if len(self.names) != 2:
            raise ModelUnusable(
                f"{self._where} has the outputs {', '.join(self.names)}; a detr head needs two, name them: "
                "[output] names = [logits, boxes]"
            )

    def decode(self, outputs: Tensors) -> Detections:
        """See DetectionHead."""
        logits, boxes = self._checked(outputs)
        least, wanted = self._spec.min_score, slice(self._first, self._first + self._labels)
        if self._spec.activation == "softmax":
            scores = softmax(logits, self._where)[:, wanted]
            queries = np.flatnonzero(scores.max(axis=1) >= least)
            classes = scores[queries].argmax(axis=1)
        else:
            scores = probabilities(logits, self._spec, self._where)[:, wanted]
            queries, classes = np.nonzero(scores >= least)
        return Detections(self._form.to_pixels(boxes[queries]), scores[queries, classes], classes)

    def _checked(self, outputs: Tensors) -> tuple[NDArray[Any], NDArray[Any]]:
        logits, boxes = (as_table(output) for output in outputs)
        width = self._spec.first_class + self._labels + (self._spec.background != "none")
        if logits is None or boxes is None or logits.shape[1] != width or boxes.shape != (len(logits), 4):
            raise ModelUnusable(
                f"{self._where}: outputs {self.names[0]} {list(outputs[0].shape)} and {self.names[1]} "
                f"{list(outputs[1].shape)} are not logits [1, queries, {width}] and boxes [1, queries, 4]; "
                f"the last axis is {self._labels} labels, one more with activation softmax or background (no "
                "object) and one more with first_class 1; correct these, the labels file or [output] names"
            )
        return logits, boxes


class DetectionsHead:
    """Boxes, scores and classes after suppression in the graph, or of a graph that needs none.

    They are separate outputs (boxes [.., N, 4], scores [.., N], classes [.., N], optionally their count), or
    one output [.., N, columns].
    """

    def __init__(self, manifest: ModelManifest, model: OnnxModel) -> None:
        self._spec, self._where = manifest.output, str(manifest.graph)
        self._labels = len(manifest.labels)
        self._form = BoxForm(manifest)
        self.names = model.output_names(self._spec.names)
        if len(self.names) not in (1, 3, 4):
            raise ModelUnusable(
                f"{self._where} has the outputs {', '.join(self.names)}; a detections head needs one, "
                "or three or four, name them: [output] names = [boxes, scores, classes, count]"
            )
        # Without a batch axis, as in [N, 7] of YOLOv7, one list holds the rows of all pictures of a batch.
        first = next(tensor for tensor in model.outputs if tensor.name == self.names[0])
        self.one_item_a_row = len(first.shape) > 2

    def decode(self, outputs: Tensors) -> Detections:
        """See DetectionHead."""
        boxes, raw_scores, raw_classes = self._rows(outputs)
        refuse_not_finite(raw_scores, self._where)
        filler = raw_scores == FILLER
        scores = probabilities(np.where(filler, 0, raw_scores), self._spec, self._where)
        kept = np.flatnonzero((scores >= self._spec.min_score) & (scores > 0) & ~filler)
        return Detections(self._form.to_pixels(boxes[kept]), scores[kept], self._numbered(raw_classes[kept]))

    def _rows(self, outputs: Tensors) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        if len(outputs) == 1:
            return self._columns(outputs[0])
        boxes, scores, classes = outputs[0], outputs[1].reshape(-1), outputs[2].reshape(-1)
        if boxes.size != 4 * scores.size or scores.size != classes.size or boxes.shape[-1:] != (4,):
            shapes = ", ".join(
                f"{name} {list(output.shape)}" for name, output in zip(self.names, outputs, strict=True)
            )
            raise ModelUnusable(
                f"{self._where}: {shapes} are not the boxes [1, N, 4], scores [1, N] and classes [1, N] "
                "of one picture; correct [output] names"
            )
        count = self._count(outputs[3], scores.size) if len(outputs) == 4 else scores.size
        return boxes.reshape(-1, 4)[:count], scores[:count], classes[:count]

    def _count(self, output: NDArray[Any], most: int) -> int:
        value = float(output.reshape(-1)[0]) if output.size == 1 else -1.0
        if not 0 <= value <= most or value != int(value):
            raise ModelUnusable(
                f"{self._where}: output {self.names[3]} is no count of up to {most} detections; "
                "correct [output] names, which are boxes, scores, classes, count"
            )
        return int(value)

    def _columns(self, output: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        starts, width = {}, 0
        for column in self._spec.columns:
            starts[column] = width
            width += 4 if column == "box" else 1
        if output.ndim not in (2, 3) or output.shape[-1] != width or output.shape[:-2] not in ((), (1,)):
            raise ModelUnusable(
                f"{self._where}: output {self.names[0]} is {list(output.shape)}, but [output] columns are "
                f"{', '.join(self._spec.columns)}, which is [1, N, {width}]; correct columns or head"
            )
        rows = output.reshape(-1, width)
        box = starts["box"]
        return rows[:, box : box + 4], rows[:, starts["score"]], rows[:, starts["class"]]

    def _numbered(self, raw: NDArray[Any]) -> NDArray[np.int64]:
        """Class numbers, counted from the first label."""
        refuse_not_finite(raw, self._where)
        classes = raw.astype(np.int64)
        if (classes != raw).any():
            raise ModelUnusable(
                f"{self._where}: a class is {raw[classes != raw][0]:.4g}, not a whole number; correct "
                "[output] names (boxes, scores, classes, count) or columns"
            )
        first = self._spec.first_class
        strange = classes[(classes < first) | (classes >= first + self._labels)]
        if len(strange):
            raise ModelUnusable(
                f"{self._where} finds class {strange[0]}, but {self._labels} labels from first_class "
                f"{first} are {first} to {first + self._labels - 1}; correct the labels file or "
                "[output] first_class"
            )
        return np.asarray(classes - first, np.int64)
