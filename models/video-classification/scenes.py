"""Random takes and films for training and evaluation: animals and cars, people in their way, or neither."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from emulator.factory import ACTIVITIES, Actor, Clip, Figure, Film, random_clip
from emulator.factory.random_clips import RATES, SIZES

LABELS = ("cat", "dog", "car", "bird")
TRAINING_SIZES = ((320, 180), (256, 144), (240, 180), (180, 320), (240, 240))  # smaller, to be quick
HEIGHTS = (0.3, 0.75)
PEOPLE_HEIGHTS = (0.45, 0.9)
SLOW_RATES = [rate for rate in RATES if rate <= 30]


def random_take(seed: int, size: tuple[int, int], *, fps: float = 10.0, duration: float = 3.0) -> Clip:
    """A clip that depends on its arguments alone: up to two objects and two people, behind or in front."""
    rng = np.random.default_rng((seed, 41))
    objects = int(rng.choice(3, p=[0.3, 0.5, 0.2]))
    clip = random_clip(
        seed, size=size, fps=fps, duration=duration, labels=LABELS, count=objects, heights=HEIGHTS
    )
    people = int(rng.choice(3, p=[0.6, 0.32, 0.08]))
    figures: list[Actor] = [_figure(rng, (place + 0.5) / people, size) for place in range(people)]
    behind = rng.random() < 0.5
    return replace(clip, objects=(*figures, *clip.objects) if behind else (*clip.objects, *figures))


def _figure(rng: np.random.Generator, column: float, size: tuple[int, int]) -> Figure:
    height = float(rng.uniform(*PEOPLE_HEIGHTS)) * min(size) / size[1]
    return Figure(
        activity=str(rng.choice(ACTIVITIES)),  # type: ignore[arg-type]
        position=(column + float(rng.uniform(-0.2, 0.2)), float(rng.uniform(max(0.7, height), 1.05))),
        height=height,
        faces_left=bool(rng.random() < 0.5),
        turn=float(rng.normal(0, 25)),
        pace=float(rng.uniform(0.1, 0.35)),
    )


def random_film(seed: int) -> Film:
    """One to three takes that depend on the seed alone."""
    rng = np.random.default_rng((seed, 43))
    size = random_size(rng)
    fps = float(SLOW_RATES[int(rng.integers(len(SLOW_RATES)))])
    durations = rng.choice([1.5, 2.0, 3.0, 4.0], int(rng.integers(1, 4)))
    return Film(
        [
            random_take(10 * seed + number, size, fps=fps, duration=float(duration))
            for number, duration in enumerate(durations)
        ]
    )


def random_size(rng: np.random.Generator, *, training: bool = False) -> tuple[int, int]:
    """Of a picture; up to 854 pixels wide."""
    sizes = TRAINING_SIZES if training else [size for size in SIZES if max(size) <= 854]
    return sizes[int(rng.integers(len(sizes)))]
