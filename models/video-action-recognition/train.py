"""Trains the network on rendered clips: `python models/video-action-recognition/train.py`.

Clips are rendered once into runs/clips, by processes that go on while the training has begun; checkpoints go
to runs/. It takes the `--minutes` it is given, and some for the first clips. `--start` goes on from weights.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from network import ActionNet, anywhere
from numpy.typing import NDArray
from samples import CELLS, HEIGHT, WIDTH, Rendering, Sampled, Stock, nearness, windows
from scenes import LABELS
from torch import Tensor
from torch.nn import functional as F

RUNS = Path(__file__).parent / "runs"
CLIPS = RUNS / "clips"
TRAINING_SEEDS = range(2400)
VALIDATION_SEEDS = range(500_000, 500_060)
SPAN = 22  # windows scored in one training sequence
SIGMA = 0.11  # seconds; how the wanted score falls off beside a moment
MEAN, STD = 0.45, 0.25
ACTING_SHARE = 0.7  # of the sequences are from clips with actions, the rest from any clip


@dataclass(frozen=True)
class Example:
    """A training sequence: frames uint8 (T, H, W, 3) and what is wanted of each cell.

    wanted: (SPAN, labels, *CELLS), 1 at a moment in the actor's cell. judged: the same shape, 0 where a cell
    beside the actor's may say what it likes.
    """

    frames: NDArray[np.uint8]
    wanted: NDArray[np.float32]
    judged: NDArray[np.float32]


def example(sample: Sampled, first: int, rng: np.random.Generator) -> Example:
    """SPAN windows of a clip, moved, scaled, mirrored and recoloured: alike for all frames."""
    frames = windows(sample.frames, first, SPAN)
    affine = _affine(rng)
    border = cv2.BORDER_REFLECT_101
    frames = np.stack([cv2.warpAffine(one, affine, (WIDTH, HEIGHT), borderMode=border) for one in frames])
    if rng.random() < 0.7:
        frames = frames[..., rng.permutation(3)]
    if rng.random() < 0.15:
        frames = 255 - frames
    wanted = np.zeros((SPAN, len(LABELS), *CELLS), np.float32)
    judged = np.ones_like(wanted)
    for number, (label, _, x, y) in enumerate(sample.moments):
        near = nearness(sample, number, SIGMA)[first : first + SPAN]
        place = affine @ (x * WIDTH, y * HEIGHT, 1.0) / (WIDTH, HEIGHT) * CELLS[::-1]
        column, row = (int(np.clip(place[axis], 0, CELLS[1 - axis] - 1)) for axis in (0, 1))
        around = np.s_[near > 0.02, label, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        judged[around] = 0.0
        wanted[:, label, row, column] = np.maximum(wanted[:, label, row, column], near)
    judged[wanted > 0.02] = 1.0
    return Example(frames, wanted, judged)


def _affine(rng: np.random.Generator) -> NDArray[np.float64]:
    """From a picture's pixels to those of its moved and perhaps mirrored twin, (2, 3)."""
    zoom, stretch = math.exp(rng.uniform(-0.22, 0.18)), math.exp(rng.uniform(-0.12, 0.12))
    if rng.random() < 0.2:
        zoom = stretch = 1.0
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    middle = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    shift = rng.uniform(-0.06, 0.06, 2) * (WIDTH, HEIGHT)
    matrix = np.diag([zoom * stretch * mirror, zoom / stretch])
    return np.column_stack([matrix, middle + shift - matrix @ middle])


class Batches:
    """Random training sequences."""

    def __init__(self, stock: Stock, size: int, seed: int) -> None:
        self._stock = stock
        self._size = size
        self._rng = np.random.default_rng(seed)

    def next(self) -> tuple[Tensor, Tensor, Tensor]:
        """The network's input, what is wanted of it and where that counts."""
        examples = [self._example() for _ in range(self._size)]
        shape = (self._size, 1, 3, 1, 1)
        gain = torch.from_numpy(self._rng.uniform(0.75, 1.25, shape)).float()
        bias = torch.from_numpy(self._rng.uniform(-0.35, 0.35, shape)).float()
        pictures = normalised(np.stack([one.frames for one in examples]), gain, bias)
        wanted = torch.from_numpy(np.stack([one.wanted for one in examples]))
        return pictures, wanted, torch.from_numpy(np.stack([one.judged for one in examples]))

    def _example(self) -> Example:
        clips = self._stock.acting if self._rng.random() < ACTING_SHARE else self._stock.clips
        clip = clips[self._rng.integers(len(clips))]
        return example(clip, int(self._rng.integers(len(clip.frames) - SPAN + 1)), self._rng)


def normalised(frames: NDArray[np.uint8], gain: Tensor | float = 1.0, bias: Tensor | float = 0.0) -> Tensor:
    """uint8 (N, T, H, W, 3) to the network's (N, T, 3, H, W)."""
    pixels = torch.from_numpy(frames).permute(0, 1, 4, 2, 3).contiguous().float()
    return pixels.mul_(gain / (255 * STD)).add_(bias - MEAN / STD * gain)


def loss_of(logits: Tensor, wanted: Tensor, judged: Tensor) -> Tensor:
    """Cross entropy of the cells, and of the best cell of the whole picture.

    The first teaches where an action is seen, the second is what counts in the end. Scarce moments weigh more
    than the long time between them.
    """
    cells = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * (1 + 7 * wanted) * judged
    whole = wanted.amax(dim=(3, 4))
    best = F.binary_cross_entropy_with_logits(anywhere(logits), whole, reduction="none") * (1 + 3 * whole)
    return (cells.sum(dim=(3, 4)).mean() + best.mean()) * 10


def scores_of(net: ActionNet, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities (n, labels) for a clip's frames."""
    net.eval()
    with torch.no_grad():
        logits = net(normalised(windows(frames, 0, len(frames))[None]))
    return torch.sigmoid(anywhere(logits))[0].numpy()


def peaks(scores: NDArray[np.float32], floor: float, window: int = 5) -> list[tuple[int, int, float]]:
    """(label, frame, score) of every score that is the highest within `window` frames and reaches `floor`."""
    found = []
    for label in range(scores.shape[1]):
        row = scores[:, label]
        for k in np.flatnonzero(row >= floor):
            near = row[max(0, k - window) : k + window + 1]
            if row[k] == near.max() and k - max(0, k - window) == int(near.argmax()):
                found.append((label, int(k), float(row[k])))
    return found


def validate(net: ActionNet, clips: list[Sampled], floor: float) -> tuple[float, int, int, int, float]:
    """F1, hits, false ones, missed ones and the mean error in seconds."""
    hits = false = missed = 0
    errors: list[float] = []
    for clip in clips:
        left = list(clip.moments)
        for label, frame, _ in sorted(peaks(scores_of(net, clip.frames), floor), key=lambda peak: -peak[2]):
            match = [m for m in left if m[0] == label and abs(m[1] - frame * 0.1) <= 0.2]
            if match:
                best = min(match, key=lambda m: abs(m[1] - frame * 0.1))
                left.remove(best)
                hits += 1
                errors.append(abs(best[1] - frame * 0.1))
            else:
                false += 1
        missed += len(left)
    f1 = 2 * hits / max(1, 2 * hits + false + missed)
    return f1, hits, false, missed, float(np.mean(errors)) if errors else math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=len(TRAINING_SEEDS), help="training clips")
    parser.add_argument("--minutes", type=float, default=40.0, help="time to train")
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--rate", type=float, default=4e-3, help="highest learning rate")
    parser.add_argument("--threads", type=int, default=1, help="threads that train")
    parser.add_argument("--renderers", type=int, default=1, help="processes that render")
    parser.add_argument("--start", type=Path, help="a checkpoint to go on from")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    Rendering(CLIPS, VALIDATION_SEEDS, options.renderers).wait(len(VALIDATION_SEEDS))
    rendering = Rendering(CLIPS, TRAINING_SEEDS[: options.clips], options.renderers)
    rendering.wait(min(200, options.clips))
    net = ActionNet()
    if options.start:
        net.load_state_dict(torch.load(options.start, weights_only=True))
    print(f"{sum(p.numel() for p in net.parameters())} weights, labels {', '.join(LABELS)}", flush=True)
    fit(net, options)
    rendering.close()


def fit(net: ActionNet, options: argparse.Namespace) -> None:
    """AdamW, its learning rate rising and falling over the time given."""
    stock = Stock(CLIPS, TRAINING_SEEDS[: options.clips])
    held_out = Stock(CLIPS, VALIDATION_SEEDS).clips
    batches = Batches(stock, options.batch, seed=1)
    optimiser = torch.optim.AdamW(net.parameters(), lr=options.rate, weight_decay=0.02)
    began, step, best, running, checked = time.monotonic(), 0, 0.0, 0.0, 0.0
    while (spent := (time.monotonic() - began) / (60 * options.minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = options.rate * min(1.0, spent / 0.05, (1.02 - spent) / 0.6)
        loss = train_step(net, optimiser, batches.next())
        step += 1
        running += (loss - running) / min(step, 50)
        if step % 25 == 0:
            stock.refresh()
            print(f"{spent:.1%} step {step} loss {running:.4f}, {len(stock.clips)} clips", flush=True)
        if spent - checked > 0.07:
            checked = spent
            best = keep(net, held_out, best)
    keep(net, held_out, best)


def train_step(
    net: ActionNet, optimiser: torch.optim.Optimizer, batch: tuple[Tensor, Tensor, Tensor]
) -> float:
    """One batch; returns its loss."""
    net.train()
    pictures, wanted, judged = batch
    loss = loss_of(net(pictures), wanted, judged)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
    optimiser.step()
    return loss.item()


def keep(net: ActionNet, held_out: list[Sampled], best: float) -> float:
    """Validates and writes the checkpoints; returns the best F1 so far."""
    torch.save(net.state_dict(), RUNS / "last.pt")
    f1, hits, false, missed, error = validate(net, held_out, 0.5)
    print(f"  F1 {f1:.3f}: {hits} hits, {false} false, {missed} missed, {error:.3f} s off", flush=True)
    if f1 >= best:
        torch.save(net.state_dict(), RUNS / "best.pt")
    return max(best, f1)


if __name__ == "__main__":
    main()
