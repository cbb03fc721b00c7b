"""Random clips from a seed, for training, evaluation and experiments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from emulator.factory.actors import PATTERNS, SHAPES, Box, Object, Shape, box_at
from emulator.factory.backgrounds import BACKGROUNDS, Camera, Colour, Light
from emulator.factory.scene import Actor, Clip, Stage
from emulator.factory.silhouettes import KINDS

Vector = NDArray[np.float64]

SIZES: Sequence[tuple[int, int]] = (
    (640, 360),
    (640, 480),
    (360, 640),
    (480, 480),
    (426, 240),
    (854, 480),
    (1280, 720),
)
RATES: Sequence[float] = (5, 10, 12, 15, 23.976, 24, 25, 29.97, 30, 50, 60)

HEIGHTS = (0.18, 0.55)
"""Least and greatest height of an object, as shares of the picture's shorter side."""

CONTRAST = 75.0
"""Least distance in BGR between an object's colour and the background along its path."""


def random_clip(
    seed: int,
    *,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    duration: float | None = None,
    labels: Sequence[str] = tuple(KINDS),
    count: int | None = None,
    heights: tuple[float, float] = HEIGHTS,
) -> Clip:
    """A random clip from a seed: up to four objects, distractors, occluders, camera, light, noise.

    The arguments fix size, fps, duration, the labels to choose from, the count of objects, and their least
    and greatest height as shares of the picture's shorter side. Objects stay recognisable: mostly inside the
    picture, hardly hidden by each other, and not too small unless `heights` asks for that. At least 1.5 s lie
    between the end of an object and the start of another of its label in the same place: otherwise no tracker
    could tell it from a hidden one.
    """
    rng = np.random.default_rng((seed, 77))
    bare = Clip(
        size=size or SIZES[int(rng.integers(len(SIZES)))],
        fps=fps or float(RATES[int(rng.integers(len(RATES)))]),
        duration=duration or float(rng.choice([3.0, 4.0, 5.0, 6.0])),
        seed=seed,
        background=BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))],
        camera=_camera(rng),
        light=_light(rng),
        noise=float(rng.choice([0.0, 2.0, 5.0, 8.0])),
    )
    wanted = int(rng.choice(5, p=[0.1, 0.25, 0.3, 0.2, 0.15])) if count is None else count
    objects: list[Object] = []
    for _ in range(wanted * 12):
        if len(objects) == wanted:
            break
        candidate = _object(bare, labels, heights, rng)
        if all(_get_along(candidate, other) for other in objects):
            objects.append(candidate)
    stage = Stage(replace(bare, light=Light(), noise=0.0))
    objects = [replace(one, colour=_colour(stage, one, rng)) for one in objects]
    actors: list[Actor] = [_distractor(bare, rng) for _ in range(int(rng.integers(0, 4)))]
    actors += objects
    actors += [_pole(bare, one, rng) for one in objects if rng.random() < 0.2]
    return replace(bare, objects=tuple(actors))


def _camera(rng: np.random.Generator) -> Camera:
    if rng.random() < 0.5:
        return Camera()
    x, y = rng.uniform(-0.15, 0.15, 2)
    return Camera(pan=(float(x), float(y) * 0.4), shake=float(rng.choice([0.0, 0.01, 0.02])))


def _light(rng: np.random.Generator) -> Light:
    swing = float(rng.choice([0.0, 0.0, 0.1, 0.2]))
    return Light(float(rng.uniform(0.65, 1.25)), swing, float(rng.uniform(1.5, 5.0)))


def _object(
    clip: Clip, labels: Sequence[str], heights: tuple[float, float], rng: np.random.Generator
) -> Object:
    label = labels[int(rng.integers(len(labels)))]
    aspect = KINDS[label].aspect * rng.uniform(0.85, 1.18)
    width_px, height_px = clip.size
    height = min(clip.size) * float(np.exp(rng.uniform(np.log(heights[0]), np.log(heights[1]))))
    height = min(height, 0.85 * width_px / aspect)
    box_size = np.array([height * aspect / width_px, height / height_px])
    start, end = _times(clip.duration, rng)
    heading = rng.uniform(0, 2 * np.pi)
    speed = float(rng.choice([0.0, rng.uniform(0.02, 0.3)], p=[0.15, 0.85]))
    step = speed * (end - start) * np.array([np.cos(heading), 0.45 * np.sin(heading)])
    # Up to a third of the object may stick out of the picture.
    low, high = 0.5 * box_size - 0.33 * box_size, 1 - 0.5 * box_size + 0.33 * box_size
    first = rng.uniform(low, high)
    last = np.clip(first + step, low, high)
    bend = np.clip((first + last) / 2 + rng.uniform(-0.06, 0.06, 2), low, high)
    growth = rng.uniform(0.8, 1.25)
    boxes = [_box(first, box_size), _box(bend, box_size * (1 + growth) / 2), _box(last, box_size * growth)]
    return Object(
        label,
        start,
        end,
        tuple(boxes) if end > start else (boxes[0],),
        pattern=PATTERNS[int(rng.integers(len(PATTERNS)))],
        facing=None if rng.random() < 0.7 and speed > 0 else str(rng.choice(["left", "right"])),
        pace=float(rng.uniform(0.8, 2.5)),
        stride=float(rng.choice([0.3, 0.8, 1.0, 1.3, 1.6])) if speed > 0 else 0.0,
        head=float(rng.uniform(-1, 1)),
        tail=float(rng.uniform(-0.6, 1)),
    )


def _box(centre: Vector, size: Vector) -> Box:
    x, y = (float(value) for value in centre)
    w, h = (float(value) / 2 for value in size)
    return (x - w, y - h, x + w, y + h)


def _times(duration: float, rng: np.random.Generator) -> tuple[float, float]:
    """Start and end on the 0.1 s grid: mostly a second or more, sometimes the whole clip."""
    last = round(duration * 10) - 1
    if rng.random() < 0.15:
        return 0.0, last / 10
    length = min(last, int(rng.integers(8, 45)))
    start = int(rng.integers(0, last - length + 1))
    return start / 10, (start + length) / 10


def _get_along(one: Object, other: Object) -> bool:
    """Whether neither object hides much of the other, and a tracker can tell them apart."""
    first, last = max(one.start, other.start), min(one.end, other.end)
    if first <= last:
        moments = np.linspace(first, last, 12)
        return all(_overlap(_place(one, time), _place(other, time)) <= 0.3 for time in moments)
    if one.label != other.label:
        return True
    before, after = (one, other) if one.end < other.start else (other, one)
    if after.start - before.end > 1.5:
        return True
    return _overlap(_widened(_place(before, before.end)), _widened(_place(after, after.start))) == 0


def _place(one: Object, time_s: float) -> Box:
    return box_at(one.path, one.start, one.end, time_s)


def _widened(box: Box) -> Box:
    w, h = box[2] - box[0], box[3] - box[1]
    return (box[0] - w / 2, box[1] - h / 2, box[2] + w / 2, box[3] + h / 2)


def _overlap(first: Box, second: Box) -> float:
    """The shared area as a share of the smaller box."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / min(areas)


def _colour(stage: Stage, one: Object, rng: np.random.Generator) -> Colour:
    """A colour that contrasts with the background along the object's path."""
    surroundings = []
    for time_s in (one.start, (one.start + one.end) / 2, one.end):
        picture = stage.background(time_s)
        x_min, y_min, x_max, y_max = np.clip(_place(one, time_s), 0, 0.98)
        height, width = picture.shape[:2]
        patch = picture[
            int(y_min * height) : int(y_max * height) + 1, int(x_min * width) : int(x_max * width) + 1
        ]
        surroundings.append(patch.reshape(-1, 3).mean(axis=0))
    best, distance = np.zeros(3), -1.0
    for _ in range(16):
        grey = rng.uniform(15, 235)
        candidate = np.clip(grey + rng.uniform(-90, 90, 3) * rng.choice([0.15, 1.0]), 10, 245)
        apart = min(float(np.linalg.norm(candidate - around)) for around in surroundings)
        if apart > distance:
            best, distance = candidate, apart
        if apart >= CONTRAST:
            break
    return (int(best[0]), int(best[1]), int(best[2]))


def _any_colour(rng: np.random.Generator) -> Colour:
    blue, green, red = (int(value) for value in rng.integers(15, 240, 3))
    return (blue, green, red)


def _distractor(clip: Clip, rng: np.random.Generator) -> Shape:
    size = rng.uniform(0.06, 0.4, 2) * min(clip.size) / np.array(clip.size)
    first = rng.uniform(0, 1, 2)
    last = first + rng.uniform(-0.3, 0.3, 2) * (rng.random() < 0.5)
    return Shape(
        SHAPES[int(rng.integers(len(SHAPES)))],
        0.0,
        clip.duration,
        (_box(first, size), _box(last, size)),
        colour=_any_colour(rng),
        pattern=PATTERNS[int(rng.integers(len(PATTERNS)))],
    )


def _pole(clip: Clip, one: Object, rng: np.random.Generator) -> Shape:
    """A pole in the object's path, at most a quarter as wide as the object."""
    x_min, _, x_max, _ = _place(one, (one.start + one.end) / 2)
    width = (x_max - x_min) * rng.uniform(0.08, 0.25)
    centre = rng.uniform(x_min, x_max)
    pole = (centre - width / 2, -0.1, centre + width / 2, 1.1)
    return Shape("box", 0.0, clip.duration, (pole,), colour=_any_colour(rng))
