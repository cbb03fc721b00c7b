"""Actors that move along a path: labelled objects, and plain shapes that occlude or distract."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from emulator.factory.backgrounds import Colour, Floats, smooth_noise
from emulator.factory.encode import FactoryError
from emulator.factory.scene import Layer, Moment, Painter
from emulator.factory.silhouettes import KINDS, Part, Points, Pose, ellipse, smooth

Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max relative to the picture; may lie partly outside it."""

SUBPIXEL_BITS = 4
TILE = 96


def box_at(path: Sequence[Box], start: float, end: float, time_s: float) -> Box:
    """The box at a time. The path's boxes are spread evenly over start..end, with straight lines between."""
    if len(path) == 1 or end <= start:
        return path[0]
    place = min(max((time_s - start) / (end - start), 0.0), 1.0) * (len(path) - 1)
    leg = min(int(place), len(path) - 2)
    share = place - leg
    first, second = path[leg], path[leg + 1]
    x_min, y_min, x_max, y_max = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return x_min, y_min, x_max, y_max


def _check_path(name: str, path: Sequence[Box]) -> None:
    if not path:
        raise FactoryError(f"The {name}'s path is empty; give at least one box.")
    for box in path:
        if len(box) != 4 or not all(math.isfinite(edge) for edge in box):
            raise FactoryError(
                f"The {name}'s box {box} is not x_min, y_min, x_max, y_max; give four numbers."
            )
        if not (box[0] < box[2] and box[1] < box[3]):
            raise FactoryError(f"The {name}'s box {box} is empty; give x_min < x_max and y_min < y_max.")


def draw_parts(
    parts: Sequence[Part], box: Box, size: tuple[int, int], colour: Colour, pattern: Floats, mirrored: bool
) -> Layer:
    """Paint the parts, antialiased, so that their common bounds fill the box exactly.

    pattern: factors on the colour over the box, shape (h, w) of any resolution.
    """
    everything = np.concatenate([part.points for part in parts])
    low, high = everything.min(axis=0), everything.max(axis=0)
    left, top, right, bottom = box[0] * size[0], box[1] * size[1], box[2] * size[0], box[3] * size[1]
    corner = (math.floor(left) - 1, math.floor(top) - 1)
    shape = (math.ceil(bottom) + 1 - corner[1], math.ceil(right) + 1 - corner[0])
    image = np.empty((*shape, 3), dtype=np.uint8)
    image[:] = colour
    alpha = np.zeros(shape, dtype=np.uint8)
    # OpenCV's coordinates name pixel centres, the box's pixel edges: they differ by half a pixel.
    origin = np.array([left - corner[0] - 0.5, top - corner[1] - 0.5])
    extent = np.array([right - left, bottom - top])
    for part in parts:
        unit = (part.points - low) / (high - low)
        if mirrored:
            unit[:, 0] = 1.0 - unit[:, 0]
        # An antialiased polygon spills half a pixel over its outline.
        points = origin + 0.5 + unit * np.maximum(extent - 1.0, 1.0)
        corners = [np.round(points * 2**SUBPIXEL_BITS).astype(np.int32)]
        cv2.fillPoly(alpha, corners, 255, cv2.LINE_AA, SUBPIXEL_BITS)
        paint = [part.ink] * 3 if part.ink is not None else [min(255, c * part.shade) for c in colour]
        cv2.fillPoly(image, corners, paint, cv2.LINE_AA, SUBPIXEL_BITS)
    factors = cv2.resize(pattern, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    if mirrored:
        factors = cv2.flip(factors, 1)
    painted = image * factors[..., None]
    return Layer(np.clip(painted, 0, 255).astype(np.uint8), alpha, *corner)


def _coat(name: str, rng: np.random.Generator) -> Floats:
    """A texture: factors around 1, shape (TILE, TILE)."""
    if name == "plain":
        return np.ones((TILE, TILE), dtype=np.float32)
    fur = 0.88 + 0.24 * smooth_noise((TILE, TILE), 3.0, rng)
    if name == "stripes":
        columns = np.arange(TILE, dtype=np.float32)[None, :]
        bend = smooth_noise((TILE, TILE), 20.0, rng) * 6
        wave = np.sin(columns * 2 * math.pi / rng.uniform(7, 14) + bend)
        return np.asarray(fur * (1.0 - 0.28 * np.clip(wave * 2, 0, 1)), dtype=np.float32)
    if name == "spots":
        blobs = smooth_noise((TILE, TILE), rng.uniform(9, 16), rng)
        return np.asarray(fur * (1.0 - 0.45 * np.clip((blobs - 0.6) * 8, 0, 1)), dtype=np.float32)
    if name == "shaded":
        light = np.linspace(1.18, 0.72, TILE, dtype=np.float32)[:, None]
        return (fur * light).astype(np.float32)
    return fur.astype(np.float32)


PATTERNS: tuple[str, ...] = ("fur", "plain", "stripes", "spots", "shaded")
"""The textures an object can have."""

_COLOURS: Mapping[str, Sequence[Colour]] = {
    "cat": ((40, 120, 215), (110, 110, 115), (35, 35, 40), (215, 225, 230), (60, 85, 120)),
    "dog": ((50, 90, 150), (25, 45, 75), (190, 205, 215), (40, 40, 45), (80, 140, 190)),
    "car": ((40, 40, 200), (180, 90, 30), (60, 150, 60), (220, 220, 220), (40, 180, 220)),
    "bird": ((190, 110, 40), (50, 60, 190), (50, 90, 110), (60, 60, 65), (90, 170, 90)),
}


@dataclass(frozen=True)
class Object:
    """A labelled thing that moves through the picture and fills its box exactly.

    label: one of KINDS. start, end: first and last moment at which it is shown (see `scene`). path: boxes
    spread evenly over start..end; it moves in straight lines between them. colour: BGR, or None to let the
    clip's seed choose. pattern: one of PATTERNS. facing: "left", "right", or None for the direction of its
    movement. pace: steps a second. stride: 0 stands, 1 walks, 1.6 runs. head, tail: -1 low to 1 high.
    """

    label: str
    start: float
    end: float
    path: Sequence[Box]
    colour: Colour | None = None
    pattern: str = "fur"
    facing: str | None = None
    pace: float = 1.4
    stride: float = 1.0
    head: float = 0.0
    tail: float = 0.6

    def __post_init__(self) -> None:
        if self.label not in KINDS:
            raise FactoryError(f"There is no object {self.label!r}; use one of {', '.join(KINDS)}.")
        if self.pattern not in PATTERNS:
            raise FactoryError(f"There is no pattern {self.pattern!r}; use one of {', '.join(PATTERNS)}.")
        if self.facing not in ("left", "right", None):
            raise FactoryError(f"An object cannot face {self.facing!r}; use 'left', 'right' or None.")
        _check_path(self.label, self.path)

    @property
    def moments(self) -> Sequence[Moment]:
        return ()

    def prepare(self, size: tuple[int, int], rng: np.random.Generator) -> Painter:
        coat = _coat(self.pattern, rng)
        offset = float(rng.random())
        choices = _COLOURS[self.label]
        colour = self.colour or choices[int(rng.integers(len(choices)))]
        draw = KINDS[self.label].draw

        def paint(time_s: float) -> Layer:
            pose = Pose(offset + self.pace * time_s, self.stride, self.head, self.tail)
            box = box_at(self.path, self.start, self.end, time_s)
            return draw_parts(draw(pose), box, size, colour, coat, self._mirrored(time_s))

        return paint

    def _mirrored(self, time_s: float) -> bool:
        if self.facing is not None:
            return self.facing == "left"
        if len(self.path) == 1 or self.end <= self.start:
            return False
        share = min(max((time_s - self.start) / (self.end - self.start), 0.0), 1.0)
        leg = min(int(share * (len(self.path) - 1)), len(self.path) - 2)
        return self.path[leg + 1][0] + self.path[leg + 1][2] < self.path[leg][0] + self.path[leg][2]


def _star(rng: np.random.Generator) -> Points:
    spikes = int(rng.integers(4, 8))
    turn = np.arange(2 * spikes) * math.pi / spikes
    radius = np.where(np.arange(2 * spikes) % 2 == 0, 1.0, rng.uniform(0.35, 0.7))
    return np.stack([np.cos(turn) * radius, np.sin(turn) * radius], axis=1)


def _blob(rng: np.random.Generator) -> Points:
    turn = np.arange(8) * math.pi / 4
    radius = rng.uniform(0.4, 1.0, 8)
    return smooth([(math.cos(t) * r, math.sin(t) * r) for t, r in zip(turn, radius, strict=True)])


def _polygon(rng: np.random.Generator) -> Points:
    corners = int(rng.integers(3, 8))
    turn = (np.arange(corners) + rng.uniform(0, 0.6, corners)) * 2 * math.pi / corners
    return np.stack([np.cos(turn), np.sin(turn)], axis=1)


_OUTLINES: Mapping[str, Callable[[np.random.Generator], Points]] = {
    "box": lambda _: np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]),
    "disc": lambda _: ellipse(0, 0, 1, 1),
    "polygon": _polygon,
    "blob": _blob,
    "star": _star,
}

SHAPES: tuple[str, ...] = tuple(_OUTLINES)
"""The shapes of occluders and distractors."""


@dataclass(frozen=True)
class Shape:
    """An actor without a label: an occluder if it follows an object in the list, else a distractor.

    kind: one of SHAPES; "box" makes poles and walls. The other members are as for Object.
    """

    kind: str
    start: float
    end: float
    path: Sequence[Box]
    colour: Colour = (90, 90, 90)
    pattern: str = "fur"

    def __post_init__(self) -> None:
        if self.kind not in SHAPES:
            raise FactoryError(f"There is no shape {self.kind!r}; use one of {', '.join(SHAPES)}.")
        if self.pattern not in PATTERNS:
            raise FactoryError(f"There is no pattern {self.pattern!r}; use one of {', '.join(PATTERNS)}.")
        _check_path(self.kind, self.path)

    @property
    def label(self) -> None:
        return None

    @property
    def moments(self) -> Sequence[Moment]:
        return ()

    def prepare(self, size: tuple[int, int], rng: np.random.Generator) -> Painter:
        coat = _coat(self.pattern, rng)
        parts = [Part(_OUTLINES[self.kind](rng))]

        def paint(time_s: float) -> Layer:
            box = box_at(self.path, self.start, self.end, time_s)
            return draw_parts(parts, box, size, self.colour, coat, False)

        return paint
