"""The head of classifiers: one score per label, of a clip or of a frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emulator.inference.heads.detections import Tensors, probabilities, softmax
from emulator.inference.manifest import ModelManifest, ModelUnusable
from emulator.inference.onnx_model import OnnxModel


class ClipHead:
    """Scores of one clip: a tensor with one number per label, and any other axes of length 1."""

    one_item_a_row = True

    def __init__(self, manifest: ModelManifest, model: OnnxModel) -> None:
        self._spec, self._where = manifest.output, str(manifest.graph)
        self._labels = len(manifest.labels)
        self.names = model.output_names(self._spec.names)[:1]

    def decode(self, outputs: Tensors) -> NDArray[np.float32]:
        """Probabilities (classes,).

        Raises:
            ModelUnusable: the numbers of scores and labels differ, or a score is NaN or infinite.
        """
        if outputs[0].size != self._labels or outputs[0].size != max(outputs[0].shape, default=0):
            raise ModelUnusable(
                f"{self._where}: output {self.names[0]} is {list(outputs[0].shape)}, but the labels file has "
                f"{self._labels} lines; it needs one line per class"
            )
        scores = outputs[0].reshape(-1)
        if self._spec.activation == "softmax":
            return softmax(scores, self._where)
        return probabilities(scores, self._spec, self._where)
