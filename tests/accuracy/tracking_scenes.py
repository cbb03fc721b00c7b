"""Clips of the video factory that try a tracker in one way each, and detectors of every quality for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from emulator.factory import KINDS, Actor, Box, Camera, Clip, Frame, Object, Shape, Stage
from emulator.inference.heads import Detections

SIZE = (320, 180)
LABELS = tuple(KINDS)

Point = tuple[float, float]
Path = Callable[[float], Point]


@dataclass(frozen=True)
class Look:
    """What is to be seen in a frame that stands for the grid points `first` to `last`.

    ids (N,), classes (N,), boxes xyxy (N, 4) and visible shares (N,).
    """

    first: int
    last: int
    time_us: int
    ids: NDArray[np.int64]
    classes: NDArray[np.int64]
    boxes: NDArray[np.float32]
    visible: NDArray[np.float64]


@dataclass(frozen=True)
class Detector:
    """How wrong a detector is. All chance comes from a seed.

    jitter: standard deviation of each edge, as a part of the box's size. missed: share of objects not found.
    false: false boxes a frame, on average. wavering: how far scores fall, more where the object is hidden.
    blur: stretches a box by so much of its way from frame to frame,
    and costs it as much of its score.
    """

    jitter: float = 0.0
    missed: float = 0.0
    false: float = 0.0
    wavering: float = 0.0
    blur: float = 0.0


PERFECT = Detector()


def walk(
    label: str, path: Path, size: Point, start: float = 0.0, end: float = 9.9, camera: Path | None = None
) -> Object:
    """An object whose box, given by its centre at each moment, moves in tenths of a second."""
    count = round((end - start) * 10) + 1
    boxes: list[Box] = []
    for step in range(count):
        time_s = start + step / 10
        x, y = path(time_s)
        dx, dy = camera(time_s) if camera else (0.0, 0.0)
        width, height = size
        boxes.append((x + dx - width / 2, y + dy - height / 2, x + dx + width / 2, y + dy + height / 2))
    return Object(label, start, end, boxes)


def line(start: Point, speed: Point, since: float = 0.0) -> Path:
    """At `start` at the moment `since`, in parts of the picture a second."""
    return lambda time_s: (start[0] + speed[0] * (time_s - since), start[1] + speed[1] * (time_s - since))


def easy(seed: int) -> Clip:
    """Four objects of different labels on ways of their own."""
    rng = np.random.default_rng((seed, 1))
    objects = [
        walk(
            label,
            line((0.2 if number % 2 else 0.8, 0.15 + 0.22 * number), (0.05 if number % 2 else -0.05, 0.0)),
            (0.12, 0.16),
            start=float(rng.integers(0, 20)) / 10,
            end=float(rng.integers(70, 99)) / 10,
        )
        for number, label in enumerate(LABELS)
    ]
    return _clip(seed, objects)


def crowded(seed: int) -> Clip:
    """Two dozen of two labels that mill about, come and go."""
    rng = np.random.default_rng((seed, 2))
    objects = []
    for number in range(24):
        centre, radius = rng.uniform(0.15, 0.85, 2), rng.uniform(0.05, 0.25)
        turn, phase = rng.uniform(0.3, 1.0) * rng.choice([-1, 1]), rng.uniform(0, 2 * math.pi)
        objects.append(
            walk(
                LABELS[number % 2],
                _circle((float(centre[0]), float(centre[1])), float(radius), float(turn), float(phase)),
                (float(rng.uniform(0.06, 0.1)), float(rng.uniform(0.12, 0.2))),
                start=float(rng.integers(0, 30)) / 10,
                end=float(rng.integers(60, 99)) / 10,
            )
        )
    return _clip(seed, objects)


def _circle(centre: Point, radius: float, turn: float, phase: float) -> Path:
    def path(time_s: float) -> Point:
        angle = phase + turn * time_s
        return centre[0] + radius * math.cos(angle), centre[1] + radius * math.sin(angle)

    return path


def crossing(seed: int) -> Clip:
    """Three pairs of one label each that walk through each other."""
    rng = np.random.default_rng((seed, 3))
    objects = []
    for number, label in enumerate(LABELS[:3]):
        y, speed = 0.2 + 0.3 * number, float(rng.uniform(0.07, 0.1))
        objects.append(walk(label, line((0.1, y), (speed, 0.0)), (0.1, 0.18)))
        objects.append(walk(label, line((0.9, y + 0.04), (-speed, 0.0)), (0.1, 0.2)))
    return _clip(seed, objects)


def occluded(seed: int) -> Clip:
    """Objects that go behind pillars, some of them wholly, for less than a second."""
    rng = np.random.default_rng((seed, 4))
    actors: list[Actor] = [
        walk(
            label,
            line((0.05, 0.15 + 0.22 * number), (float(rng.uniform(0.1, 0.2)), 0.0)),
            (0.09, 0.16),
            end=6.0,
        )
        for number, label in enumerate(LABELS)
    ]
    actors += [
        Shape("box", 0.0, 10.0, ((x, -0.1, x + width, 1.1),)) for x, width in ((0.3, 0.06), (0.6, 0.13))
    ]
    return _clip(seed, actors)


def moving_camera(seed: int) -> Clip:
    """A hand-held camera that pans: what stands moves, and all tremble together."""
    rng = np.random.default_rng((seed, 5))
    camera = Camera(pan=(0.05, 0.0), shake=0.02)

    def sway(time_s: float) -> Point:
        x, y = camera.offset(time_s, SIZE)
        return x / SIZE[0], y / SIZE[1]

    objects = []
    for number in range(8):
        x, y = 0.08 + 0.06 * number, 0.15 + 0.25 * (number % 4)
        speed = (float(rng.uniform(-0.05, 0.05)), 0.0)
        objects.append(walk(LABELS[number % 3], line((x, y), speed), (0.08, 0.16), camera=sway))
    return _clip(seed, objects, camera=camera)


def slow_frames(seed: int) -> Clip:
    """The way through each other and the crowd at 5 frames a second: longer steps."""
    rng = np.random.default_rng((seed, 6))
    objects = []
    for number in range(10):
        y, speed = 0.1 + 0.09 * number, float(rng.uniform(0.05, 0.15))
        way = line((0.1, y), (speed, 0.0)) if number % 2 else line((0.9, y), (-speed, 0.0))
        objects.append(walk(LABELS[number % 3], way, (0.1, 0.16), end=7.0))
    return _clip(seed, objects, fps=5)


def blurred(seed: int) -> Clip:
    """Fast objects that turn at the picture's edges; a detector sees them stretched and is less sure."""
    rng = np.random.default_rng((seed, 7))
    objects = []
    for number in range(6):
        speed, phase = float(rng.uniform(0.2, 0.45)), float(rng.uniform(0, 2))
        objects.append(walk(LABELS[number % 2], _to_and_fro(0.12 + 0.15 * number, speed, phase), (0.1, 0.14)))
    return _clip(seed, objects)


def _to_and_fro(y: float, speed: float, phase: float) -> Path:
    def path(time_s: float) -> Point:
        place = (phase + speed * time_s / 0.7) % 2
        return 0.15 + 0.7 * min(place, 2 - place), y

    return path


SCENES: Mapping[str, Callable[[int], Clip]] = {
    "easy": easy,
    "crowded": crowded,
    "crossing": crossing,
    "occluded": occluded,
    "camera moving": moving_camera,
    "5 fps": slow_frames,
    "blur": blurred,
}


def degraded(scene: str) -> Detector:
    """A poor detector; where objects are fast it sees them blurred by their motion."""
    return Detector(jitter=0.04, missed=0.08, false=1.0, wavering=0.2, blur=0.8 if scene == "blur" else 0.0)


def _clip(seed: int, actors: Sequence[Actor], fps: float = 10, camera: Camera | None = None) -> Clip:
    return Clip(SIZE, fps, 10.0, seed, "plain", camera or Camera(), objects=tuple(actors))


@cache
def looks(scene: str, seed: int) -> tuple[Look, ...]:
    """What is to be seen in the clip's frames that a server samples, in order."""
    stage = Stage(SCENES[scene](seed))
    points: dict[int, list[int]] = {}
    for point in range(stage.schedule.grid_points):
        points.setdefault(stage.schedule.answering(point), []).append(point)
    return tuple(_look(stage.frame(number), answered) for number, answered in points.items())


def _look(frame: Frame, answered: Sequence[int]) -> Look:
    there = frame.sightings
    return Look(
        answered[0],
        answered[-1],
        round(frame.time_s * 1e6),
        np.array([one.actor for one in there], np.int64),
        np.array([LABELS.index(one.label) for one in there], np.int64),
        np.array([(one.x_min, one.y_min, one.x_max, one.y_max) for one in there], np.float32).reshape(-1, 4),
        np.array([one.visible for one in there], np.float64),
    )


def detect(looks: Sequence[Look], detector: Detector, seed: int) -> list[Detections]:
    """What a detector makes of each frame; what is hidden is found less surely."""
    rng = np.random.default_rng((seed, 99))
    before: dict[int, NDArray[np.float32]] = {}
    return [_detect(look, detector, rng, before) for look in looks]


def _detect(
    look: Look, detector: Detector, rng: np.random.Generator, before: dict[int, NDArray[np.float32]]
) -> Detections:
    size = np.tile(look.boxes[:, 2:] - look.boxes[:, :2], 2)
    boxes = look.boxes + rng.normal(0, 1, size.shape) * detector.jitter * size
    scores = np.full(len(look.ids), 0.9)
    if detector.wavering:
        scores = scores * np.clip(look.visible, 0.2, 1.0) - np.abs(
            rng.normal(0, detector.wavering, len(scores))
        )
    for row, number in enumerate(look.ids.tolist()):
        way = np.zeros(2)
        if detector.blur and number in before:
            last, now = before[number], look.boxes[row]
            way = (now[:2] + now[2:] - last[:2] - last[2:]) / 2 * detector.blur
        boxes[row, :2] -= np.abs(way) / 2
        boxes[row, 2:] += np.abs(way) / 2
        scores[row] -= float(np.abs(way).max() * 4)
        before[number] = look.boxes[row]
    found = rng.random(len(look.ids)) >= detector.missed
    false = int(rng.poisson(detector.false))
    corners = rng.uniform(0, 0.85, (false, 2))
    ghosts = np.concatenate([corners, corners + rng.uniform(0.05, 0.2, (false, 2))], axis=1)
    return Detections(
        np.concatenate([boxes[found], ghosts]).astype(np.float32),
        np.clip(np.concatenate([scores[found], rng.uniform(0.1, 0.75, false)]), 0.05, 1.0).astype(np.float32),
        np.concatenate([look.classes[found], rng.integers(0, len(LABELS), false)]),
    )
