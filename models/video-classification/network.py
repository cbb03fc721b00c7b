"""The network: the detector of the object tracking model, frozen, with a small head of its own on top.

Both models look for the same drawn things, so this one begins with all that the other has learnt: it looks at
the detector's features and at what it says of each cell, and corrects that: a label of the whole picture is
wrong as soon as a single cell is.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

FOLDER = Path(__file__).parent
INPUT = 256
LABELS = FOLDER.joinpath("labels.txt").read_text(encoding="utf-8").split()
DETECTOR = FOLDER.parent / "video-object-tracking"
DETECTOR_LABELS = DETECTOR.joinpath("labels.txt").read_text(encoding="utf-8").split()
WIDTHS = (24, 40, 72, 112)
"""Channels at strides 4, 8, 16 and 32."""
NECK = 40
FEATURES = 2 * NECK
HIDDEN = 64


class Block(nn.Sequential):
    """Convolution and ReLU; the detector's normalisation is part of its exported weights."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1, padding: int = 1) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, size, stride, padding), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Two 3x3 blocks around which the input is carried."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(Block(width, width), Block(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Detector(nn.Module):
    """The trained detector, fixed.

    Input [B, 3, INPUT, INPUT], BGR 0..255. Output [B, FEATURES + labels, N], N the cells of the grids with
    strides 8, 16 and 32: features, and the log odds of each label there.
    """

    def __init__(self) -> None:
        super().__init__()
        second, third, fourth, fifth = WIDTHS
        self.stem = Block(3, second, size=6, stride=4)
        self.stage8 = nn.Sequential(Block(second, third, stride=2), Residual(third))
        self.stage16 = nn.Sequential(Block(third, fourth, stride=2), Residual(fourth))
        self.stage32 = nn.Sequential(Block(fourth, fifth, stride=2), Residual(fifth))
        self.lateral = nn.ModuleList(Block(width, NECK, 1, padding=0) for width in (third, fourth, fifth))
        self.blend = nn.ModuleList(Block(NECK, NECK) for _ in range(2))
        self.head = Block(NECK, NECK)
        self.predict = nn.ModuleList(nn.Conv2d(NECK, 5 + len(DETECTOR_LABELS), 1) for _ in range(3))
        self._load()

    def forward(self, pictures: Tensor) -> Tensor:
        at8 = self.stage8(self.stem((pictures - 114.0) / 64.0))
        at16 = self.stage16(at8)
        at32 = self.stage32(at16)
        deep = self.lateral[2](at32)
        middle = self.blend[1](self.lateral[1](at16) + F.interpolate(deep, scale_factor=2.0))
        fine = self.blend[0](self.lateral[0](at8) + F.interpolate(middle, scale_factor=2.0))
        levels = zip((fine, middle, deep), self.predict, strict=True)
        return torch.cat([self._cells(level, layer).flatten(2) for level, layer in levels], dim=2)

    def _cells(self, level: Tensor, predict: nn.Module) -> Tensor:
        looked = self.head(level)
        said = predict(looked)
        # A label is there if something is and it is of that label: the less likely of the two decides.
        places = [5 + DETECTOR_LABELS.index(label) for label in LABELS]
        known = torch.minimum(said[:, 4:5], said[:, places])
        return torch.cat([level, looked, known], dim=1)

    def _load(self) -> None:
        layers = [
            layer
            for part in (
                self.stem, self.stage8, self.stage16, self.stage32, self.lateral[2], self.lateral[1],
                self.blend[1], self.lateral[0], self.blend[0], self.head, self.predict,
            )
            for layer in part.modules()
            if isinstance(layer, nn.Conv2d)
        ]  # fmt: skip
        for layer, (weight, bias) in zip(layers, _convolutions(DETECTOR / "model.onnx"), strict=True):
            layer.weight.data.copy_(weight)
            assert layer.bias is not None
            layer.bias.data.copy_(bias)


class Head(nn.Module):
    """What is trained. Input: what Detector gives. Output [B, labels]: the log odds of each label being
    somewhere in the picture, its highest ones in any cell. Untrained it says what the detector does."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Conv1d(FEATURES + len(LABELS), HIDDEN, 1)
        self.more = nn.Conv1d(HIDDEN, HIDDEN, 1)
        self.correction = nn.Conv1d(HIDDEN, len(LABELS), 1)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)

    def forward(self, cells: Tensor) -> Tensor:
        hidden = F.relu(self.more(F.relu(self.hidden(cells))))
        return (cells[:, FEATURES:] + self.correction(hidden)).amax(dim=2)


class Probabilities(nn.Module):
    """What is exported: a picture in, independent probabilities out."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.detector, self.head = Detector(), head

    def forward(self, pictures: Tensor) -> Tensor:
        return torch.sigmoid(self.head(self.detector(pictures)))


def _convolutions(path: Path) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of a graph's convolutions in the order they are first used."""
    graph = onnx.load(path).graph
    values = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}
    pairs = dict.fromkeys((node.input[1], node.input[2]) for node in graph.node if node.op_type == "Conv")
    # A convolution that is used at several scales goes by other names there, which hold no weights.
    return [(values[weight], values[bias]) for weight, bias in pairs if weight in values]
