"""The detector: a small convolutional network that answers on three grids, as YOLOX does."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INPUT = 256
STRIDES = (8, 16, 32)
LABELS = Path(__file__).with_name("labels.txt").read_text(encoding="utf-8").split()

WIDTHS = (24, 40, 72, 112)
"""Channels at strides 4, 8, 16 and 32."""

NECK = 40
RARE = -4.6
"""The log odds of 1 %: few cells hold an object, and the first steps should not have to learn that."""


class Block(nn.Sequential):
    """Convolution, normalisation, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, size: int = 3, stride: int = 1, padding: int | None = None
    ) -> None:
        around = size // 2 if padding is None else padding
        super().__init__(
            nn.Conv2d(inputs, outputs, size, stride, around, bias=False),
            nn.BatchNorm2d(outputs, momentum=0.03),
            nn.ReLU(inplace=True),
        )


class Residual(nn.Module):
    """Two 3x3 blocks around which the input is carried."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(Block(width, width), Block(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Detector(nn.Module):
    """Input [B, 3, H, W], BGR 0..255, H and W multiples of 32. Output [B, N, 5 + classes], N the cells of the
    grids with strides 8, 16, 32, row by row: the box's centre as an offset from the cell's corner and the
    logarithms of its width and height, both in strides; then objectness and class scores, as logits while
    training and as probabilities otherwise."""

    def __init__(self, classes: int = len(LABELS)) -> None:
        super().__init__()
        second, third, fourth, fifth = WIDTHS
        # One wide step to stride 4: full-size feature maps would cost a third of the whole.
        self.stem = Block(3, second, size=6, stride=4, padding=1)
        self.stage8 = nn.Sequential(Block(second, third, stride=2), Residual(third))
        self.stage16 = nn.Sequential(Block(third, fourth, stride=2), Residual(fourth))
        self.stage32 = nn.Sequential(Block(fourth, fifth, stride=2), Residual(fifth))
        self.lateral = nn.ModuleList(Block(width, NECK, 1) for width in (third, fourth, fifth))
        self.blend = nn.ModuleList(Block(NECK, NECK) for _ in range(2))
        self.head = Block(NECK, NECK)
        self.predict = nn.ModuleList(nn.Conv2d(NECK, 5 + classes, 1) for _ in STRIDES)
        for layer in self.predict:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
            nn.init.constant_(layer.bias[4:5], RARE)

    def forward(self, pictures: Tensor) -> Tensor:
        at8 = self.stage8(self.stem((pictures - 114.0) / 64.0))
        at16 = self.stage16(at8)
        at32 = self.stage32(at16)
        deep = self.lateral[2](at32)
        middle = self.blend[1](self.lateral[1](at16) + F.interpolate(deep, scale_factor=2.0))
        fine = self.blend[0](self.lateral[0](at8) + F.interpolate(middle, scale_factor=2.0))
        grids = [
            layer(self.head(level)) for layer, level in zip(self.predict, (fine, middle, deep), strict=True)
        ]
        rows = torch.cat([grid.flatten(2) for grid in grids], dim=2).transpose(1, 2)
        if self.training:
            return rows
        return torch.cat([rows[..., :4], rows[..., 4:].sigmoid()], dim=2)


def grid_cells(height: int, width: int) -> Tensor:
    """The cells in the order of the output's rows: [N, 3] with column, row, stride."""
    cells = []
    for stride in STRIDES:
        rows, columns = torch.meshgrid(
            torch.arange(height // stride), torch.arange(width // stride), indexing="ij"
        )
        cells.append(
            torch.stack([columns.flatten(), rows.flatten(), torch.full((rows.numel(),), stride)], dim=1)
        )
    return torch.cat(cells).float()


def decode_boxes(rows: Tensor, cells: Tensor) -> Tensor:
    """Boxes x_min, y_min, x_max, y_max in input pixels from output rows [..., N, >=4]."""
    centre = (rows[..., :2] + cells[:, :2]) * cells[:, 2:]
    half = rows[..., 2:4].clamp(max=4.0).exp() * cells[:, 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)
