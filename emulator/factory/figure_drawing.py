"""Draws a posed body as a layer: limbs are shaded capsules, and nearer ones cover farther ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from emulator.factory.backgrounds import Colour
from emulator.factory.scene import Layer
from emulator.factory.skeleton import HEAD_RADIUS, Skeleton, Vector

CAMERA_TILT: Final = np.radians(9.0)  # the camera looks down a little, so that nearer feet are lower
SUBPIXEL_BITS: Final = 4

Points = NDArray[np.int32]

ARC: Final = np.linspace(-np.pi / 2, np.pi / 2, 9)
ROUND: Final = np.linspace(0, 2 * np.pi, 20, endpoint=False)
SHADOW: Final = 70  # opacity of 255
SKINS: Final[tuple[Colour, ...]] = (
    (190, 212, 240),
    (150, 185, 224),
    (105, 150, 198),
    (70, 105, 150),
    (45, 65, 95),
)
HAIRS: Final[tuple[Colour, ...]] = (
    (28, 28, 32),
    (35, 55, 85),
    (60, 110, 170),
    (150, 150, 155),
    (40, 60, 130),
)


@dataclass(frozen=True)
class Look:
    """A figure's build, colours (BGR) and clothes. girth 1 is a slim adult; lengths in body heights."""

    skin: Colour
    hair: Colour
    shirt: Colour
    trousers: Colour
    shoes: Colour
    club: Colour
    girth: float
    long_sleeves: bool
    long_trousers: bool
    long_hair: bool
    club_length: float


def random_look(rng: np.random.Generator) -> Look:
    """A look drawn at random."""

    def cloth() -> Colour:
        blue, green, red = rng.integers(15, 245, 3)
        return int(blue), int(green), int(red)

    return Look(
        skin=SKINS[rng.integers(len(SKINS))],
        hair=HAIRS[rng.integers(len(HAIRS))],
        shirt=cloth(),
        trousers=cloth(),
        shoes=cloth(),
        club=(60, 60, 60) if rng.random() < 0.5 else (70, 120, 175),
        girth=float(rng.uniform(0.85, 1.5)),
        long_sleeves=bool(rng.random() < 0.5),
        long_trousers=bool(rng.random() < 0.6),
        long_hair=bool(rng.random() < 0.3),
        club_length=float(rng.uniform(0.36, 0.52)),
    )


@dataclass(frozen=True)
class Ball:
    """A ball's centre and radius in body heights."""

    centre: Vector
    radius: float


@dataclass(frozen=True)
class Projection:
    """Maps body heights to pixels. x, y: the pixel of the ground point; scale: pixels per body height."""

    x: float
    y: float
    scale: float
    turn: float
    mirrored: bool

    def __call__(self, points: Vector, shift: float) -> Vector:
        """Column, row and nearness to the camera, (n, 3), of points (n, 3) that have walked on by `shift`."""
        turn = np.radians(self.turn)
        along, up, towards = points[:, 0] + shift, points[:, 1], points[:, 2]
        across = along * np.cos(turn) - towards * np.sin(turn)
        near = along * np.sin(turn) + towards * np.cos(turn)
        down = near * np.sin(CAMERA_TILT) - up * np.cos(CAMERA_TILT)
        columns = self.x + self.scale * (-across if self.mirrored else across)
        return np.stack([columns, self.y + self.scale * down, near], axis=1)


@dataclass(frozen=True)
class _Bone:
    """A capsule between two discs. nearer: added to its nearness; limb: the farther away, the darker."""

    start: Vector
    end: Vector
    first: float
    last: float
    colour: Colour
    nearer: float = 0.0
    limb: bool = False
    joined: bool = False  # with the bone before it, into one convex patch


@dataclass(frozen=True)
class _Patch:
    """A convex outline (n, 2) in OpenCV's fixed point, a slightly wider one, its colour and nearness."""

    outline: Points
    grown: Points
    colour: Colour
    near: float


class FigurePainter:
    """Draws one figure. `state` gives the joints, the walked distance and the ball at a moment."""

    def __init__(
        self,
        size: tuple[int, int],
        projection: Projection,
        look: Look,
        club: bool,
        state: Callable[[float], tuple[Skeleton, float, Ball | None]],
    ) -> None:
        self._size = size
        self._project = projection
        self._look = look
        self._club = club
        self._state = state

    def __call__(self, time_s: float) -> Layer | None:
        body, shift, ball = self._state(time_s)
        patches = sorted(self._patches(self._bones(body, ball), shift), key=lambda patch: patch.near)
        ground = self._project(np.zeros((1, 3)), shift)[0]
        width = self._project.scale * 0.2 / (1 + 3 * max(0.0, body.lowest()))
        shadow = ground[:2] + np.stack([np.cos(ROUND) * width, np.sin(ROUND) * width * 0.22], axis=1)
        return _layer(patches, _fixed_point(shadow), self._size)

    def _bones(self, body: Skeleton, ball: Ball | None) -> list[_Bone]:
        bones = [*self._trunk(body), *self._head(body), *self._limbs(body)]
        if self._club:
            grip, tip = body.hands[0] - body.club * 0.06, body.hands[0] + body.club * self._look.club_length
            bones.append(_Bone(grip, tip, 0.011, 0.018, self._look.club, nearer=0.03))
        if ball is not None:
            bones.append(_Bone(ball.centre, ball.centre, ball.radius, ball.radius, (235, 240, 240)))
        return bones

    def _trunk(self, body: Skeleton) -> list[_Bone]:
        look = self._look
        right, left = (hip + np.array([0.0, 0.03, 0.0]) for hip in body.hips)
        seat, chest, belly = 0.055 * look.girth, 0.05 * look.girth**0.5, 0.058 * look.girth
        neck = (body.shoulders[0] + body.shoulders[1]) / 2
        return [
            _Bone(body.hips[0], body.hips[1], seat, seat, look.trousers),
            _Bone(body.shoulders[0], body.shoulders[1], chest, chest, look.shirt),
            _Bone(right, left, belly, belly, look.shirt, joined=True),
            _Bone(neck, body.head, 0.03, 0.03, _shaded(look.skin, 0.9)),
        ]

    def _head(self, body: Skeleton) -> list[_Bone]:
        look, radius = self._look, HEAD_RADIUS
        face = body.head + body.facing * 0.012 - np.array([0.0, 0.008, 0.0])
        back = body.head - body.facing * 0.014 + np.array([0.0, 0.014, 0.0])
        tail = back - np.array([0.0, 0.09 if look.long_hair else 0.0, 0.0]) - body.facing * 0.02
        nose = face + body.facing * radius
        return [
            _Bone(back, tail, radius, radius * 0.8, look.hair),
            _Bone(face, face, radius * 0.93, radius * 0.93, look.skin, nearer=0.012),
            _Bone(nose, nose, 0.012, 0.012, _shaded(look.skin, 0.92), nearer=0.012),
        ]

    def _limbs(self, body: Skeleton) -> list[_Bone]:
        look = self._look
        girth = 0.75 + 0.25 * look.girth
        lower_arm = look.shirt if look.long_sleeves else look.skin
        shin = look.trousers if look.long_trousers else look.skin
        limbs = []
        for i in (0, 1):
            for start, end, first, last, colour in (
                (body.hips[i], body.knees[i], 0.052, 0.038, look.trousers),
                (body.knees[i], body.ankles[i], 0.038, 0.026, shin),
                (body.ankles[i], body.toes[i], 0.026, 0.018, look.shoes),
                (body.shoulders[i], body.elbows[i], 0.036, 0.029, look.shirt),
                (body.elbows[i], body.hands[i], 0.028, 0.02, lower_arm),
                (body.hands[i], body.hands[i], 0.026, 0.026, look.skin),
            ):
                limbs.append(_Bone(start, end, first * girth, last * girth, colour, limb=True))
        return limbs

    def _patches(self, bones: Sequence[_Bone], shift: float) -> Iterator[_Patch]:
        starts = self._project(np.stack([bone.start for bone in bones]), shift)
        ends = self._project(np.stack([bone.end for bone in bones]), shift)
        radii = np.array([(bone.first, bone.last) for bone in bones]) * self._project.scale
        outlines = _fixed_point(_capsules(starts, ends, radii))
        grown = _fixed_point(_capsules(starts, ends, radii + 1.5))
        near = (starts[:, 2] + ends[:, 2]) / 2
        for i, bone in enumerate(bones):
            outline, wider = outlines[i], grown[i]
            if bone.joined:
                outline = _hull(np.concatenate([outlines[i - 1], outline]))
                wider = _hull(np.concatenate([grown[i - 1], wider]))
            shade = 1.0 + 0.9 * min(max(float(near[i]), -0.25), 0.12) if bone.limb else 1.0
            yield _Patch(outline, wider, _shaded(bone.colour, shade), float(near[i]) + bone.nearer)


def _capsules(starts: Vector, ends: Vector, radii: Vector) -> Vector:
    """Outlines (n, 18, 2) of capsules between discs at starts and ends (n, >=2), radii (n, 2)."""
    along = np.arctan2(ends[:, 1] - starts[:, 1], ends[:, 0] - starts[:, 0])[:, None]
    far, near = along + ARC, along + np.pi + ARC
    tips = ends[:, None, :2] + radii[:, 1, None, None] * np.stack([np.cos(far), np.sin(far)], axis=2)
    tails = starts[:, None, :2] + radii[:, 0, None, None] * np.stack([np.cos(near), np.sin(near)], axis=2)
    return np.concatenate([tips, tails], axis=1)


def _fixed_point(pixels: Vector) -> Points:
    """OpenCV's fixed-point drawing coordinates: they name pixel centres, with SUBPIXEL_BITS fraction bits."""
    return np.asarray(((pixels - 0.5) * (1 << SUBPIXEL_BITS)).round().astype(np.int32))


def _hull(points: Points) -> Points:
    return np.asarray(cv2.convexHull(points)[:, 0, :])


def _shaded(colour: Colour, factor: float) -> Colour:
    blue, green, red = (min(255, int(channel * factor)) for channel in colour)
    return blue, green, red


def _layer(patches: Sequence[_Patch], shadow: Points, size: tuple[int, int]) -> Layer | None:
    points = np.concatenate([shadow, *(patch.grown for patch in patches)])
    left, top = np.maximum((points.min(axis=0) >> SUBPIXEL_BITS) - 1, 0)
    right, bottom = np.minimum((points.max(axis=0) >> SUBPIXEL_BITS) + 3, size)
    if left >= right or top >= bottom:
        return None
    origin = np.array([left, top], np.int32) << SUBPIXEL_BITS
    canvas = np.zeros((bottom - top, right - left, 4), np.uint8)
    # First lay the colours a little wider, without opacity: an edge pixel then blends the patch's colour into
    # the picture, not the canvas's black.
    for patch in patches:
        cv2.fillConvexPoly(canvas, patch.grown - origin, (*patch.colour, 0), cv2.LINE_8, SUBPIXEL_BITS)
    for patch in patches:
        cv2.fillConvexPoly(canvas, patch.outline - origin, (*patch.colour, 255), cv2.LINE_AA, SUBPIXEL_BITS)
    shade = np.zeros(canvas.shape[:2], np.uint8)
    cv2.fillConvexPoly(shade, shadow - origin, (SHADOW,), cv2.LINE_AA, SUBPIXEL_BITS)
    figure = canvas[:, :, 3]
    canvas[(shade > 0) & (figure == 0)] = 0
    return Layer(canvas[:, :, :3], np.maximum(shade, figure), int(left), int(top))
