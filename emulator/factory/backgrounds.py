"""Backgrounds, cameras and light: everything in a picture that is not an actor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from emulator.factory.encode import FactoryError, Picture

Colour = tuple[int, int, int]
"""BGR, 0..255."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Camera:
    """Moves the background. Actors are placed in the picture, so their boxes do not change.

    pan: drift in picture widths and heights per second. shake: amplitude of a hand-held tremble, relative
    to the picture's shorter side.
    """

    pan: tuple[float, float] = (0.0, 0.0)
    shake: float = 0.0

    def offset(self, time_s: float, size: tuple[int, int]) -> tuple[float, float]:
        """The background's displacement in pixels at a moment."""
        width, height = size
        tremble = self.shake * min(size)
        x = self.pan[0] * width * time_s + tremble * math.sin(7.1 * time_s) * math.cos(2.3 * time_s)
        y = self.pan[1] * height * time_s + tremble * math.sin(5.3 * time_s + 1.0)
        return x, y


@dataclass(frozen=True)
class Light:
    """Illumination of the whole picture, actors included: `gain` times a slow wave of `swing` around 1.

    flashes: moments, in seconds, from which the light is `flash_gain` times as bright for `flash_s` seconds.
    """

    gain: float = 1.0
    swing: float = 0.0
    period_s: float = 3.0
    flashes: tuple[float, ...] = ()
    flash_gain: float = 2.5
    flash_s: float = 0.1

    def at(self, time_s: float) -> float:
        lit = any(0 <= time_s - flash < self.flash_s for flash in self.flashes)
        wave = 1.0 + self.swing * math.sin(2 * math.pi * time_s / self.period_s)
        return self.gain * wave * (self.flash_gain if lit else 1.0)


def smooth_noise(size: tuple[int, int], cell: float, rng: np.random.Generator) -> Floats:
    """Noise in 0..1 whose blobs are about `cell` pixels across; shape (height, width)."""
    width, height = size
    coarse = rng.random((max(2, math.ceil(height / cell)), max(2, math.ceil(width / cell))), dtype=np.float32)
    resized: Floats = np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), dtype=np.float32)
    return np.clip(resized, 0.0, 1.0)


def _muted(rng: np.random.Generator) -> Floats:
    """A random BGR colour of low saturation."""
    grey = rng.uniform(40, 215)
    return np.clip(grey + rng.uniform(-45, 45, 3), 10, 245).astype(np.float32)


def _mix(weight: Floats, first: Floats, second: Floats) -> Floats:
    planes = [weight * float(b - a) + float(a) for a, b in zip(first, second, strict=True)]
    return np.asarray(cv2.merge(planes), dtype=np.float32)


def _plain(size: tuple[int, int], rng: np.random.Generator) -> Floats:
    return np.broadcast_to(_muted(rng), (size[1], size[0], 3)).copy()


def _gradient(size: tuple[int, int], rng: np.random.Generator) -> Floats:
    width, height = size
    angle = rng.uniform(0, 2 * math.pi)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * math.cos(angle)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * math.sin(angle)
    ramp = x + y
    return _mix((ramp - ramp.min()) / max(float(np.ptp(ramp)), 1e-6), _muted(rng), _muted(rng))


def _texture(size: tuple[int, int], rng: np.random.Generator) -> Floats:
    cell = min(size) * rng.uniform(0.1, 0.4)
    octaves = sum(smooth_noise(size, cell / 2**level, rng) / 2**level for level in range(4))
    return _mix(np.asarray(octaves, dtype=np.float32) / 1.9, _muted(rng), _muted(rng))


def _noise(size: tuple[int, int], rng: np.random.Generator) -> Floats:
    grain = smooth_noise(size, rng.uniform(1.0, 4.0), rng) - 0.5
    return _plain(size, rng) + grain[..., None] * rng.uniform(20, 70)


def _stripes(size: tuple[int, int], rng: np.random.Generator) -> Floats:
    width, height = size
    angle = rng.uniform(0, math.pi)
    x = np.arange(width, dtype=np.float32)[None, :] * math.cos(angle)
    y = np.arange(height, dtype=np.float32)[:, None] * math.sin(angle)
    wave = np.sin((x + y) * 2 * math.pi / (min(size) * rng.uniform(0.08, 0.4)))
    first = _muted(rng)
    second = np.clip(first + rng.uniform(-40, 40, 3), 0, 255).astype(np.float32)
    return _mix(np.clip(wave * rng.uniform(1, 6) + 0.5, 0, 1).astype(np.float32), first, second)


def _patches(size: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Overlapping polygons, like a wall of posters: edges everywhere, no animals."""
    canvas = _texture(size, rng)
    reach = min(size)
    for _ in range(int(rng.integers(6, 18))):
        centre = rng.uniform((0, 0), size)
        corners = int(rng.integers(3, 7))
        turns = np.sort(rng.uniform(0, 2 * math.pi, corners))
        radii = reach * rng.uniform(0.05, 0.3, corners)
        points = centre + np.stack([np.cos(turns) * radii, np.sin(turns) * radii], axis=1)
        colour = [float(channel) for channel in _muted(rng)]
        cv2.fillPoly(canvas, [np.round(points * 8).astype(np.int32)], colour, cv2.LINE_AA, 3)
    return canvas


def _landscape(size: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Sky over hills over ground."""
    width, height = size
    canvas = _gradient(size, rng) * 0.4 + np.array([190, 160, 120], dtype=np.float32) * rng.uniform(0.5, 0.75)
    column = np.arange(width, dtype=np.float32)
    for level in range(3):
        base = height * (0.35 + 0.17 * level + rng.uniform(-0.05, 0.05))
        ridge = base + height * 0.05 * np.sin(
            column * rng.uniform(2, 7) / width * 2 * math.pi + rng.uniform(0, 6)
        )
        grain = smooth_noise(size, max(2.0, height * 0.03), rng)[..., None]
        ground = np.array([60, 105, 95], dtype=np.float32) + rng.uniform(-28, 28, 3).astype(np.float32)
        below = np.clip(np.arange(height, dtype=np.float32)[:, None] - ridge[None, :] + 0.5, 0, 1)
        canvas += below[..., None] * (ground * (0.7 + 0.6 * grain) - canvas)
    return canvas.astype(np.float32)


_PAINTERS: Mapping[str, Callable[[tuple[int, int], np.random.Generator], Floats]] = {
    "plain": _plain,
    "gradient": _gradient,
    "texture": _texture,
    "noise": _noise,
    "stripes": _stripes,
    "patches": _patches,
    "landscape": _landscape,
}

BACKGROUNDS: tuple[str, ...] = tuple(_PAINTERS)
"""The kinds of background a clip can have."""


class Background:
    """A painted background seen through a moving camera; a mirror image continues it beyond its edges."""

    def __init__(self, kind: str, size: tuple[int, int], camera: Camera, rng: np.random.Generator) -> None:
        painter = _PAINTERS.get(kind)
        if painter is None:
            raise FactoryError(f"There is no background {kind!r}; use one of {', '.join(BACKGROUNDS)}.")
        self._size = size
        self._camera = camera
        self._painting: Picture = np.asarray(cv2.add(painter(size, rng), 0, dtype=cv2.CV_8U), dtype=np.uint8)

    def at(self, time_s: float) -> Picture:
        """The background at a moment: a fresh picture that the caller may draw on."""
        x, y = self._camera.offset(time_s, self._size)
        if x == 0 and y == 0:
            return self._painting.copy()
        shift = np.array([[1, 0, -x], [0, 1, -y]], dtype=np.float32)
        moved = cv2.warpAffine(
            self._painting, shift, self._size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        return np.asarray(moved, dtype=np.uint8)


class SensorNoise:
    """Adds camera noise; `strength` is its standard deviation in grey levels.

    Equal frame numbers get equal noise.
    """

    def __init__(self, strength: float, size: tuple[int, int], rng: np.random.Generator) -> None:
        self._strength = strength
        self._seed = int(rng.integers(2**31))
        self._margin = 64
        shape = (size[1] + self._margin, size[0] + self._margin, 3)
        # Every frame takes a random window of one sheet of noise: drawing fresh noise costs 20 times more.
        self._sheet = (rng.standard_normal(shape, dtype=np.float32) * strength).astype(np.int16)

    def apply(self, picture: Picture, number: int) -> Picture:
        if self._strength == 0:
            return picture
        x, y = np.random.default_rng((self._seed, number)).integers(0, self._margin, 2)
        height, width = picture.shape[:2]
        window = self._sheet[y : y + height, x : x + width]
        return np.asarray(cv2.add(picture, window, dtype=cv2.CV_8U), dtype=np.uint8)
