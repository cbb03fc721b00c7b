"""Trains the network's head on rendered pictures: `python models/video-classification/train.py`.

Pictures are rendered once into runs/pictures; each goes through the frozen detector once, and its features,
in memory, are what the head is trained on. The weights go to runs/.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from network import FEATURES, INPUT, LABELS, Detector, Head
from samples import FRAMES, rendered
from torch import Tensor
from torch.nn import functional as F

RUNS = Path(__file__).parent / "runs"
VALIDATION_SEEDS = range(2_000_000, 2_000_150)
TRAINING_SEEDS = range(1_000_000, 2_000_000)
EVERY = 100  # steps from one look at the validation pictures to the next
CELLS = sum((INPUT // stride) ** 2 for stride in (8, 16, 32))


class Examples:
    """What the detector makes of pictures, and what is wanted of the head: 1, 0, or nan where a label is
    hardly to be seen and anything may be said. varied: each picture is there as its mirror image in other
    colours, too."""

    def __init__(self, seeds: range, workers: int, *, varied: bool) -> None:
        pictures, wanted = rendered(RUNS / "pictures", seeds, workers)
        times = 2 if varied else 1
        self.wanted = torch.from_numpy(np.concatenate([wanted] * times))
        self.cells = torch.empty(len(self.wanted), FEATURES + len(LABELS), CELLS, dtype=torch.float16)
        detector = Detector().eval()
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for number in range(len(self.wanted)):
                picture = torch.from_numpy(pictures[number % len(pictures)]).permute(2, 0, 1)[None].float()
                if number >= len(pictures):
                    picture = varied_twin(picture, generator)
                self.cells[number] = detector(picture)[0].half()

    def __len__(self) -> int:
        return len(self.wanted)

    def batch(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The head's input and what is wanted of it."""
        return self.cells[chosen].float(), self.wanted[chosen]


def varied_twin(picture: Tensor, generator: torch.Generator) -> Tensor:
    """Its mirror image, with channels exchanged, another brightness and contrast."""
    gain, bias = (torch.rand(2, generator=generator) - 0.5).tolist()
    swapped = picture.flip(3)[:, torch.randperm(3, generator=generator)]
    return (swapped * (1 + 0.5 * gain) + 40 * bias).clamp(0, 255)


def loss_of(logits: Tensor, wanted: Tensor) -> Tensor:
    """Cross entropy of each label, where it is judged."""
    judged = ~wanted.isnan()
    loss = F.binary_cross_entropy_with_logits(logits, wanted.nan_to_num(), reduction="none")
    return (loss * judged).sum() / judged.sum()


def validate(head: Head, examples: Examples) -> tuple[float, list[float]]:
    """F1 over all labels, and of each, for single pictures."""
    head.eval()
    with torch.no_grad():
        batches = [head(examples.batch(chosen)[0]) for chosen in torch.arange(len(examples)).split(50)]
    said, there, absent = torch.cat(batches) > 0, examples.wanted == 1, examples.wanted == 0
    right, false, missed = ((mask).sum(dim=0) for mask in (said & there, said & absent, ~said & there))
    each = 2 * right / (2 * right + false + missed).clamp(min=1)
    total = 2 * right.sum() / (2 * right.sum() + false.sum() + missed.sum())
    return float(total), [round(float(one), 3) for one in each]


def fit(head: Head, examples: Examples, held_out: Examples, options: argparse.Namespace) -> None:
    """AdamW, its learning rate rising and falling; keeps the best weights."""
    generator = torch.Generator().manual_seed(1)
    optimiser = torch.optim.AdamW(head.parameters(), lr=options.rate, weight_decay=0.02)
    best, running = keep(head, held_out, 0.0), 0.0
    for step in range(1, options.steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = options.rate * min(1.0, step / 30, 1.4 * (1.01 - step / options.steps))
        head.train()
        cells, wanted = examples.batch(torch.randint(len(examples), (options.batch,), generator=generator))
        loss = loss_of(head(cells), wanted)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 5.0)
        optimiser.step()
        running += (loss.item() - running) / min(step, 50)
        if step % EVERY == 0:
            print(f"step {step} of {options.steps}, loss {running:.4f}", flush=True)
            best = keep(head, held_out, best)


def keep(head: Head, held_out: Examples, best: float) -> float:
    """Validates and writes the weights if they are better; returns the best F1 so far."""
    f1, each = validate(head, held_out)
    print(f"  F1 {f1:.4f}, {dict(zip(LABELS, each, strict=True))}", flush=True)
    if f1 >= best:
        torch.save(head.state_dict(), RUNS / "best.pt")
    return max(best, f1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--takes", type=int, default=1500, help=f"{FRAMES} training pictures each")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--threads", type=int, default=1, help="threads that train")
    parser.add_argument("--renderers", type=int, default=2, help="processes that render")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    held_out = Examples(VALIDATION_SEEDS, options.renderers, varied=False)
    examples = Examples(TRAINING_SEEDS[: options.takes], options.renderers, varied=True)
    head = Head()
    print(f"{len(examples)} pictures, {sum(p.numel() for p in head.parameters())} weights", flush=True)
    fit(head, examples, held_out, options)


if __name__ == "__main__":
    main()
