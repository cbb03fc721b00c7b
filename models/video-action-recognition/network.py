"""The network: small 2-D convolutions on each frame, then convolutions over time without padding."""

from __future__ import annotations

import torch
from scenes import LABELS
from torch import Tensor, nn

PATCH_CHANNELS = 12


class TimeConv(nn.Module):
    """A convolution over `taps` frames, `spread` apart, of (N, T, C, H, W); T shrinks by (taps - 1) * spread.

    Written as one 1x1 convolution over joined channels: onnxruntime is slow at 3-D ones.
    """

    def __init__(self, inputs: int, outputs: int, taps: int, spread: int = 1) -> None:
        super().__init__()
        self.taps, self.spread = taps, spread
        self.mix = nn.Sequential(
            nn.Conv2d(inputs * taps, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1] - (self.taps - 1) * self.spread
        joined = torch.cat(
            [x[:, i * self.spread : i * self.spread + length] for i in range(self.taps)], dim=2
        )
        return per_frame(self.mix, joined)


def conv(inputs: int, outputs: int, stride: int, size: int = 3) -> nn.Sequential:
    """A convolution over the picture, normalised; of even size without padding."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size % 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def per_frame(module: nn.Module, x: Tensor) -> Tensor:
    """Applies a 2-D module to each frame of (N, T, C, H, W)."""
    y = module(x.flatten(0, 1))
    return y.unflatten(0, (x.shape[0], x.shape[1]))


class ActionNet(nn.Module):
    """Scores the centre of every window of WINDOW frames.

    Input (N, T, 3, H, W), normalised RGB; output logits (N, T - WINDOW + 1, labels, CELLS) of an action by
    somebody whose middle is in that cell of the picture. Each output depends on its window alone, so that
    scoring a sequence in training is the same as scoring windows one by one.
    """

    def __init__(self) -> None:
        super().__init__()
        # Of each patch of 4x4 pixels what it says as the past, the present and the future of a moment: its
        # movement is in the sum of the three.
        self.patch = nn.Conv2d(3, 3 * PATCH_CHANNELS, 4, 4, bias=False)
        self.frame = nn.Sequential(
            nn.BatchNorm2d(PATCH_CHANNELS), nn.ReLU(inplace=True), conv(PATCH_CHANNELS, 32, 2)
        )
        self.time1 = TimeConv(32, 40, 3)
        self.space1 = conv(40, 56, 2)
        self.time2 = TimeConv(56, 56, 3)
        self.space2 = conv(56, 56, 1)
        self.time3 = TimeConv(56, 72, 3, 2)
        self.time4 = TimeConv(72, 96, 5)
        self.cell = nn.Conv2d(96, len(LABELS), 1)
        nn.init.constant_(self.cell.bias, -4.0)  # actions are rare

    def forward(self, frames: Tensor) -> Tensor:
        past, present, future = per_frame(self.patch, frames).chunk(3, dim=2)
        x = per_frame(self.frame, past[:, :-2] + present[:, 1:-1] + future[:, 2:])
        x = per_frame(self.space1, self.time1(x))
        x = self.time3(per_frame(self.space2, self.time2(x)))
        return per_frame(self.cell, self.time4(x))


def anywhere(logits: Tensor) -> Tensor:
    """The logits (N, T, labels) of an action in any cell of the picture."""
    return logits.amax(dim=(3, 4))


class WindowScores(nn.Module):
    """What is exported: one window (N, 3, T, H, W) in, (N, labels) probabilities out."""

    def __init__(self, net: ActionNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, clip: Tensor) -> Tensor:
        return torch.sigmoid(anywhere(self.net(clip.transpose(1, 2)))[:, 0])
