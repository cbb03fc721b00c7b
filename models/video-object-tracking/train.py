"""Trains the detector on rendered clips: `python models/video-object-tracking/train.py`.

Renders what the cache lacks, trains, and keeps `runs/last.pt` (resumable) and the averaged weights in
`runs/weights.pt`. `export.py` turns those into model.onnx.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from data import HARD, Cache, augment, render_cache
from network import Detector, decode_boxes, grid_cells
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, Sampler

RUNS = Path(__file__).with_name("runs")
CANVASES = ((160, 256), (256, 160), (256, 256))
SIDES = ((0.0, 72.0), (44.0, 144.0), (96.0, 1e9))
"""Which longer sides of a box, in pixels, the grids of strides 8, 16 and 32 answer for; they overlap."""

CENTRE = 1.2
"""A cell answers for a box when its centre lies within so many strides of the box's centre."""


class Pictures(Dataset):
    """Augmented examples; asked for as (example, canvas, seed)."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def __getitem__(self, item: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        cv2.setNumThreads(1)
        index, canvas, seed = item
        example = augment(self._cache[index], CANVASES[canvas], np.random.default_rng(seed))
        return example.picture, example.boxes


class Batches(Sampler):
    """Batches of one canvas each, so that a wide picture is not computed with its letterbox."""

    def __init__(self, cache: Cache, batch: int, steps: int, start: int, rank: int) -> None:
        shapes = [cache[index].picture.shape for index in range(len(cache))]
        self._groups = [
            [i for i, shape in enumerate(shapes) if shape[0] < shape[1] * 0.8],
            [i for i, shape in enumerate(shapes) if shape[1] < shape[0] * 0.8],
            list(range(len(cache))),
        ]
        self._batch, self._steps, self._start, self._rank = batch, steps, start, rank

    def __len__(self) -> int:
        return self._steps - self._start

    def __iter__(self):
        for step in range(self._start, self._steps):
            canvas = int(np.random.default_rng((step, 11)).choice(3, p=[0.62, 0.2, 0.18]))
            rng = np.random.default_rng((step, 12, self._rank))
            chosen = rng.choice(self._groups[canvas], self._batch)
            yield [(int(index), canvas, int(rng.integers(2**40))) for index in chosen]


def collate(items: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, list[Tensor]]:
    pictures = torch.from_numpy(np.stack([picture for picture, _ in items]))
    return pictures, [torch.from_numpy(boxes) for _, boxes in items]


def assign(boxes: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """For each cell the index of the box it answers for, or -1; and which cells are not to be judged."""
    centres = (cells[:, :2] + 0.5) * cells[:, 2:]
    target = torch.full((len(cells),), -1, dtype=torch.long)
    ignored = torch.zeros(len(cells), dtype=torch.bool)
    longest = (boxes[:, 2:4] - boxes[:, :2]).amax(dim=1)
    # The smaller box wins a cell that lies in the middle of two.
    for index in torch.argsort(longest, descending=True).tolist():
        box, side = boxes[index], float(longest[index])
        inside = (
            (centres[:, 0] > box[0])
            & (centres[:, 0] < box[2])
            & (centres[:, 1] > box[1])
            & (centres[:, 1] < box[3])
        )
        if float(box[5]) < HARD:
            ignored |= inside
            continue
        apart = (centres - (box[:2] + box[2:4]) / 2).abs().amax(dim=1)
        for stride, (low, high) in zip((8, 16, 32), SIDES, strict=True):
            if low <= side < high:
                near = (cells[:, 2] == stride) & (apart < CENTRE * stride)
                target[near & (inside | (apart < 0.6 * stride))] = index
    return target, ignored & (target < 0)


def generalised_iou(first: Tensor, second: Tensor) -> Tensor:
    overlap = (torch.minimum(first[:, 2:], second[:, 2:]) - torch.maximum(first[:, :2], second[:, :2])).clamp(
        min=0
    )
    shared = overlap.prod(dim=1)
    area = (first[:, 2:] - first[:, :2]).prod(dim=1) + (second[:, 2:] - second[:, :2]).prod(dim=1) - shared
    hull = (torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])).prod(
        dim=1
    )
    return shared / area - (hull - area) / hull


def losses(rows: Tensor, batch: list[Tensor], cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Box, objectness and class loss of a batch, each per answering cell."""
    assigned = [assign(boxes, cells) for boxes in batch]
    target = torch.stack([one for one, _ in assigned])
    judged = ~torch.stack([ignored for _, ignored in assigned])
    positive = target >= 0
    count = max(1, int(positive.sum()))
    objectness = F.binary_cross_entropy_with_logits(
        rows[..., 4][judged], positive[judged].float(), reduction="sum"
    )
    truth = torch.cat([boxes[index[index >= 0]] for boxes, index in zip(batch, target, strict=True)])
    found = rows[positive]
    if len(found) == 0:
        return rows.sum() * 0, objectness / count, rows.sum() * 0
    cell = cells.expand(len(batch), -1, -1)[positive]
    overlap = generalised_iou(decode_boxes(found, cell), truth[:, :4])
    box = (1 - overlap).sum() + 0.2 * _distance(found, cell, truth)
    wanted = F.one_hot(truth[:, 4].long(), rows.shape[2] - 5).float()
    kind = F.binary_cross_entropy_with_logits(found[:, 5:], wanted, reduction="sum")
    return box / count, objectness / count, kind / count


def _distance(found: Tensor, cell: Tensor, truth: Tensor) -> Tensor:
    """How far offsets and log sizes are from the true ones: it sharpens edges where the IoU is flat."""
    centre = (truth[:, :2] + truth[:, 2:4]) / 2 / cell[:, 2:] - cell[:, :2]
    size = ((truth[:, 2:4] - truth[:, :2]) / cell[:, 2:]).log()
    return F.smooth_l1_loss(found[:, :4], torch.cat([centre, size], dim=1), reduction="sum", beta=0.1)


class Average:
    """An exponential average of the weights: what is exported."""

    def __init__(self, model: Detector) -> None:
        self.model = copy.deepcopy(model).eval()
        self.steps = 0

    @torch.no_grad()
    def update(self, model: Detector) -> None:
        self.steps += 1
        keep = min(0.998, (1 + self.steps) / (10 + self.steps))
        for mine, theirs in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mine.dtype.is_floating_point:
                mine.lerp_(theirs, 1 - keep)
            else:
                mine.copy_(theirs)


class Schedule:
    """How far the training has come, by steps or by the clock, whichever is further; the same everywhere."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments, self._began = arguments, time.monotonic()

    def progress(self, step: int) -> float:
        passed = (time.monotonic() - self._began) / (60 * self._arguments.minutes)
        share = torch.tensor(max(step / self._arguments.steps, passed))
        distributed.broadcast(share, 0)
        return min(1.0, float(share))

    def rate(self, step: int, progress: float) -> float:
        warm = min(1.0, (step + 1) / 60)
        return self._arguments.rate * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


def train(rank: int, arguments: argparse.Namespace) -> None:
    """What each of the processes runs. They share gradients: threads of one process would wait for each
    other at every operation, which is slow where others use the cores too."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    rendezvous = f"tcp://127.0.0.1:{arguments.port}"
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=arguments.processes)
    cache = Cache(RUNS / "cache")
    model = Detector().to(memory_format=torch.channels_last).train()
    average = Average(model)
    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    plain = [weight for weight in model.parameters() if weight.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    )
    last, first = RUNS / arguments.name / "last.pt", 0
    if last.exists() and arguments.resume:
        state = torch.load(last, weights_only=True)
        model.load_state_dict(state["model"])
        average.model.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        first = average.steps = state["step"]
    shared = DistributedDataParallel(model)
    loader = DataLoader(
        Pictures(cache),
        batch_sampler=Batches(cache, arguments.batch, arguments.steps, first, rank),
        collate_fn=collate,
        num_workers=1,
    )
    log = Log(first) if rank == 0 else None
    schedule = Schedule(arguments)
    for step, (pictures, boxes) in enumerate(loader, start=first):
        progress = schedule.progress(step)
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate(step, progress)
        parts = train_step(shared, optimiser, pictures, boxes)
        average.update(model)
        if log is not None:
            log.add(step, parts)
            if (step + 1) % 100 == 0:
                save(last, model, average, optimiser, step + 1)
        if progress == 1.0:
            break
    if rank == 0:
        torch.save(average.model.state_dict(), last.with_name("weights.pt"))
    distributed.destroy_process_group()


def train_step(
    model: nn.Module, optimiser: torch.optim.Optimizer, pictures: Tensor, boxes: list[Tensor]
) -> Tensor:
    tensor = pictures.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
    parts = torch.stack(losses(model(tensor), boxes, grid_cells(*tensor.shape[2:])))
    optimiser.zero_grad()
    (parts * torch.tensor([3.0, 1.0, 1.0])).sum().backward()
    nn.utils.clip_grad_norm_(model.parameters(), 10.0)
    optimiser.step()
    return parts.detach()


class Log:
    """Prints the mean losses now and then."""

    def __init__(self, first: int, every: int = 25) -> None:
        self._first, self._every, self._sums, self._began = first, every, torch.zeros(3), time.monotonic()

    def add(self, step: int, parts: Tensor) -> None:
        self._sums += parts
        if (step + 1) % self._every == 0:
            box, objectness, kind = (self._sums / self._every).tolist()
            pace = (step + 1 - self._first) / (time.monotonic() - self._began)
            print(
                f"{step + 1} box {box:.3f} object {objectness:.3f} class {kind:.3f} {pace:.2f} steps/s",
                flush=True,
            )
            self._sums.zero_()


def save(path: Path, model: Detector, average: Average, optimiser: torch.optim.Optimizer, step: int) -> None:
    state = {
        "model": model.state_dict(),
        "average": average.model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": step,
    }
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the object tracking model's detector.")
    parser.add_argument("--clips", type=int, default=7200, help="random clips to render for training")
    parser.add_argument("--steps", type=int, default=12500)
    parser.add_argument(
        "--minutes", type=float, default=120.0, help="stop after so long, however few the steps"
    )
    parser.add_argument("--batch", type=int, default=12, help="pictures a step in each process")
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--processes", type=int, default=2, help="one for each core")
    parser.add_argument("--port", type=int, default=29431, help="loopback port on which they meet")
    parser.add_argument("--name", default="final", help="folder under runs/")
    parser.add_argument("--resume", action="store_true", help="go on from runs/NAME/last.pt")
    arguments = parser.parse_args()
    render_cache(RUNS / "cache", arguments.clips, arguments.processes)
    (RUNS / arguments.name).mkdir(parents=True, exist_ok=True)
    multiprocessing.spawn(train, (arguments,), arguments.processes)


if __name__ == "__main__":
    main()
