"""Random scenes for training and evaluation: figures that act at known times, or do nothing worth a label."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from emulator.factory import ACTION_KINDS, ACTIVITIES, BACKGROUNDS, Action, Actor, Camera, Clip, Figure, Light
from emulator.factory import random_clip as random_object_clip
from emulator.factory.random_clips import RATES

LABELS = ACTION_KINDS
TRAINING_RATES = (
    5,
    6,
    8,
    10,
    12,
    15,
    20,
    23.976,
    24,
    25,
    29.97,
    30,
    48,
    50,
    60,
)  # slow ones more often: they are hard
SIZES = ((640, 360), (480, 270), (320, 240), (426, 240), (480, 360), (360, 480), (854, 480))
TRAINING_SIZES = ((320, 180), (240, 136), (192, 144), (256, 144), (144, 192))  # smaller, to be quick
CLOSEST_S = 0.8  # between two actions of one kind, whoever performs them
EDGE_S = 0.5  # no moment nearer than this to the start or end


def random_clip(seed: int, *, acting: bool = True, training: bool = False) -> Clip:
    """A clip that depends on its seed alone. acting: whether the figures perform actions."""
    rng = np.random.default_rng((seed, int(acting), int(training)))
    duration = round(float(rng.uniform(4.5, 5.5) if training else rng.uniform(5, 9)), 2)
    sizes, rates = (TRAINING_SIZES, TRAINING_RATES) if training else (SIZES, RATES)
    taken: list[Action] = []
    size = sizes[rng.integers(len(sizes))]
    people = int(rng.choice([1, 2, 3], p=[0.68, 0.24, 0.08]))
    if not acting and rng.random() < 0.12:
        people = 0
    tallest = 0.9 if people < 2 else 0.65
    figures = [_figure(rng, place, duration, taken, acting, tallest) for place in _places(people, rng)]
    figures.sort(key=lambda figure: figure.position[1])
    others = _others(rng, size, duration) if people == 0 or rng.random() < 0.3 else []
    return Clip(
        size=size,
        fps=float(rates[rng.integers(len(rates))]),
        duration=duration,
        seed=int(rng.integers(1 << 31)),
        background=str(rng.choice(sorted(BACKGROUNDS))),
        camera=_camera(rng),
        light=Light(
            gain=float(rng.uniform(0.7, 1.15)), swing=float(rng.choice([0, 0, 0.08, 0.15])), period_s=2.5
        ),
        noise=float(rng.choice([0, 0, 3, 8])),
        objects=[*others, *figures],
    )


def _others(rng: np.random.Generator, size: tuple[int, int], duration: float) -> list[Actor]:
    """Animals, cars and shapes that move about behind the figures."""
    clip = random_object_clip(int(rng.integers(1 << 31)), size=size, duration=duration)
    return list(clip.objects[:3])


def _camera(rng: np.random.Generator) -> Camera:
    if rng.random() < 0.4:
        return Camera()
    pan = rng.uniform(-0.12, 0.12), rng.uniform(-0.04, 0.04)
    return Camera(pan=(float(pan[0]), float(pan[1])), shake=float(rng.choice([0, 0.004, 0.012])))


def _places(people: int, rng: np.random.Generator) -> list[float]:
    """Columns for that many people, some way apart."""
    if people == 0:
        return []
    share = 0.84 / people
    return [0.08 + share * (i + float(rng.uniform(0.2, 0.8))) for i in range(people)]


def _figure(
    rng: np.random.Generator,
    column: float,
    duration: float,
    taken: list[Action],
    acting: bool,
    tallest: float,
) -> Figure:
    height = float(rng.uniform(0.35, tallest))
    actions = _actions(rng, duration, taken) if acting and rng.random() < 0.9 else []
    activity = str(rng.choice(ACTIVITIES, p=[0.3, 0.2, 0.2, 0.12, 0.08, 0.1]))
    faces_left = bool(rng.random() < 0.5)
    pace = float(rng.uniform(0.35, 1.0))
    if activity == "walk":
        # A walker with something to do must still be in the picture when it does it.
        room = duration * pace * height * 0.75
        if actions:
            pace = float(pace * min(1.0, 0.55 / room))
        column = column * 0.4 if not faces_left else 1 - (1 - column) * 0.4
        column = min(max(column, 0.15), 0.85) if actions else column
    return Figure(
        actions=tuple(actions),
        activity=activity,
        position=(column, float(rng.uniform(max(0.72, height + 0.06), 1.0))),
        height=height,
        faces_left=faces_left,
        turn=float(rng.normal(0, 25)),
        pace=pace,
        holds_club=True if rng.random() < 0.2 else None,
        ball=bool(rng.random() < 0.6),
    )


def _actions(rng: np.random.Generator, duration: float, taken: list[Action]) -> list[Action]:
    """Actions one after another; those of other figures are in `taken`, which grows."""
    mine: list[Action] = []
    free = -math.inf  # from when the figure is at rest again
    time = float(rng.uniform(EDGE_S, 2.0))
    while time < duration - EDGE_S:
        kind = LABELS[rng.integers(len(LABELS))]
        action = Action(kind, at=round(time, 3), speed=_speed(rng), variant=float(rng.random()))
        clash = any(other.kind == kind and abs(other.at - action.at) < CLOSEST_S for other in taken)
        if action.start >= free and not clash:
            mine.append(action)
            taken.append(action)
            free = action.end
        time += float(rng.uniform(0.15, 0.9))
    return mine


def _speed(rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(math.log(0.8), math.log(1.3))))
