"""Outlines of the objects of a clip: polygons in free units, x to the right (where they face), y down."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""Polygon corners, shape (n, 2)."""


@dataclass(frozen=True)
class Part:
    """A filled polygon. shade: factor on the object's colour. ink: a fixed grey level instead of it."""

    points: Points
    shade: float = 1.0
    ink: int | None = None


@dataclass(frozen=True)
class Pose:
    """An object's posture. phase: of the walk, in turns. stride: 0 stands, 1 strides out, 1.6 runs.

    head: -1 lowered to 1 raised. tail: -1 hanging to 1 upright.
    """

    phase: float = 0.0
    stride: float = 1.0
    head: float = 0.0
    tail: float = 0.0


def ellipse(x: float, y: float, rx: float, ry: float, degrees: float = 0.0) -> Points:
    turn = np.linspace(0, 2 * math.pi, 24, endpoint=False)
    angle = math.radians(degrees)
    along, across = np.cos(turn) * rx, np.sin(turn) * ry
    return np.stack(
        [
            x + along * math.cos(angle) - across * math.sin(angle),
            y + along * math.sin(angle) + across * math.cos(angle),
        ],
        axis=1,
    )


def smooth(corners: Sequence[tuple[float, float]], *, closed: bool = True, steps: int = 6) -> Points:
    """A Catmull-Rom curve through the corners."""
    nodes = np.asarray(corners, dtype=np.float64)
    if closed:
        nodes = np.concatenate([nodes[-1:], nodes, nodes[:2]])
    else:
        nodes = np.concatenate([2 * nodes[:1] - nodes[1:2], nodes, 2 * nodes[-1:] - nodes[-2:-1]])
    before, first, second, after = (nodes[i : len(nodes) - 3 + i, None] for i in range(4))
    t = np.arange(steps)[None, :, None] / steps
    curve = 0.5 * (
        2 * first
        + (second - before) * t
        + (2 * before - 5 * first + 4 * second - after) * t**2
        + (3 * first - before - 3 * second + after) * t**3
    )
    points = curve.reshape(-1, 2)
    return points if closed else np.concatenate([points, nodes[-2:-1]])


def limb(joints: Sequence[tuple[float, float]], thick: float, thin: float) -> Points:
    """A bent, tapering, round-ended stroke through the joints: a leg, a tail."""
    line = smooth(joints, closed=False, steps=5)
    heading = np.gradient(line, axis=0)
    heading /= np.maximum(np.linalg.norm(heading, axis=1, keepdims=True), 1e-9)
    normal = np.stack([-heading[:, 1], heading[:, 0]], axis=1)
    half = np.linspace(thick, thin, len(line))[:, None] / 2
    turn = np.linspace(-math.pi / 2, math.pi / 2, 7)[:, None]
    cap = line[-1] + half[-1] * (np.cos(turn) * heading[-1] - np.sin(turn) * normal[-1])
    return np.concatenate([line + normal * half, cap, (line - normal * half)[::-1]])


@dataclass(frozen=True)
class Leg:
    """A leg of a four-legged animal: bend of the knee, thickness at hip and foot, reach of a step."""

    knee: float
    hip_width: float
    foot_width: float
    reach: float


def _leg(
    leg: Leg, hip: tuple[float, float], ground: float, pose: Pose, turn: float, shade: float
) -> list[Part]:
    """Hip, knee and foot. The foot follows the walk's phase and is on the ground for half of it."""
    reach, knee = leg.reach, leg.knee
    angle = 2 * math.pi * (pose.phase + turn)
    swing = reach * pose.stride * math.cos(angle)
    lift = reach * 0.7 * min(pose.stride, 1.0) * max(0.0, math.sin(angle))
    foot = (hip[0] + swing, ground - lift)
    middle = ((hip[0] + foot[0]) / 2 + knee, (hip[1] + foot[1]) / 2 - lift * 0.3)
    return [
        Part(limb([hip, middle, foot], leg.hip_width, leg.foot_width), shade),
        Part(ellipse(foot[0] + 0.015, foot[1], leg.foot_width * 0.75, leg.foot_width * 0.5), shade),
    ]


def cat(pose: Pose) -> list[Part]:
    """Pointed ears, round head, slim body, a long curved tail."""
    head_y = 0.30 - 0.09 * pose.head
    sway = math.sin(2 * math.pi * pose.phase) * 0.03
    lift = 0.5 + 0.5 * pose.tail
    tail = [
        (0.24, 0.46),
        (0.12, 0.50 - 0.12 * lift),
        (0.05 + sway, 0.42 - 0.26 * lift),
        (0.09 + 0.07 * lift + sway, 0.30 - 0.30 * lift),
        (0.02 + 0.02 * lift + sway, 0.24 - 0.30 * lift),
    ]
    back, front = (0.28, 0.58), (0.68, 0.58)
    body = smooth(
        [(0.20, 0.50), (0.28, 0.39), (0.45, 0.385), (0.62, 0.37), (0.74, 0.36), (0.79, 0.46), (0.74, 0.60),
         (0.58, 0.63), (0.42, 0.62), (0.30, 0.66), (0.21, 0.60)]
    )  # fmt: skip
    neck = smooth([(0.62, 0.39), (0.76, head_y), (0.90, head_y + 0.06), (0.80, 0.50), (0.68, 0.56)])
    x, y = 0.86, head_y
    return [
        Part(limb(tail, 0.060, 0.042), 0.92),
        *_leg(Leg(-0.03, 0.11, 0.045, 0.10), back, 0.96, pose, 0.5, 0.72),
        *_leg(Leg(0.02, 0.09, 0.045, 0.10), front, 0.96, pose, 0.0, 0.72),
        Part(body),
        Part(neck),
        *_leg(Leg(-0.04, 0.14, 0.048, 0.10), (back[0] - 0.01, 0.56), 0.98, pose, 0.0, 0.97),
        *_leg(Leg(0.02, 0.10, 0.048, 0.10), front, 0.98, pose, 0.5, 0.97),
        Part(np.array([(x - 0.10, y + 0.01), (x - 0.085, y - 0.20), (x - 0.005, y - 0.085)]), 0.8),
        Part(np.array([(x + 0.015, y - 0.085), (x + 0.085, y - 0.20), (x + 0.11, y + 0.01)]), 0.97),
        Part(np.array([(x + 0.04, y - 0.07), (x + 0.078, y - 0.15), (x + 0.09, y - 0.03)]), 0.7),
        Part(ellipse(x, y, 0.135, 0.115)),
        Part(ellipse(x + 0.07, y + 0.045, 0.055, 0.042), 1.25),
        Part(ellipse(x + 0.055, y - 0.025, 0.019, 0.023), ink=20),
        Part(np.array([(x + 0.10, y + 0.02), (x + 0.128, y + 0.02), (x + 0.114, y + 0.04)]), ink=30),
    ]


def dog(pose: Pose) -> list[Part]:
    """A long muzzle, hanging ears, deep chest, sturdy legs, a short raised tail."""
    head_y = 0.24 - 0.08 * pose.head
    wag = math.sin(4 * math.pi * pose.phase) * 0.03
    lift = 0.5 + 0.5 * pose.tail
    tail = [(0.19, 0.40), (0.11, 0.34 - 0.06 * lift), (0.05 + wag, 0.27 - 0.14 * lift)]
    back, front = (0.25, 0.52), (0.64, 0.56)
    body = smooth(
        [(0.16, 0.42), (0.24, 0.345), (0.42, 0.35), (0.60, 0.325), (0.72, 0.31), (0.77, 0.44), (0.72, 0.64),
         (0.60, 0.68), (0.46, 0.585), (0.32, 0.56), (0.20, 0.60), (0.15, 0.52)]
    )  # fmt: skip
    neck = smooth([(0.58, 0.35), (0.68, head_y - 0.04), (0.84, head_y), (0.82, 0.42), (0.72, 0.56)])
    x, y = 0.80, head_y
    ear = [(x - 0.08, y - 0.09), (x - 0.005, y - 0.07), (x + 0.0, y + 0.09), (x - 0.05, y + 0.155),
           (x - 0.105, y + 0.07)]  # fmt: skip
    return [
        Part(limb(tail, 0.065, 0.03), 0.94),
        *_leg(Leg(-0.045, 0.15, 0.06, 0.09), back, 0.96, pose, 0.5, 0.72),
        *_leg(Leg(0.015, 0.11, 0.06, 0.09), front, 0.96, pose, 0.0, 0.72),
        Part(body),
        Part(neck),
        *_leg(Leg(-0.05, 0.18, 0.064, 0.09), (back[0] - 0.01, 0.50), 0.98, pose, 0.0, 0.97),
        *_leg(Leg(0.015, 0.13, 0.064, 0.09), front, 0.98, pose, 0.5, 0.97),
        Part(ellipse(x, y, 0.11, 0.095)),
        Part(
            smooth([(x + 0.02, y - 0.065), (x + 0.13, y - 0.035), (x + 0.24, y - 0.025),
                    (x + 0.25, y + 0.035), (x + 0.19, y + 0.075), (x + 0.04, y + 0.095)])
        ),
        Part(ellipse(x + 0.235, y - 0.01, 0.028, 0.024), ink=15),
        Part(limb([(x + 0.10, y + 0.055), (x + 0.16, y + 0.05), (x + 0.21, y + 0.04)], 0.012, 0.012), 0.45),
        Part(smooth(ear), 0.62),
        Part(ellipse(x + 0.055, y - 0.035, 0.018, 0.02), ink=20),
    ]  # fmt: skip


def bird(pose: Pose) -> list[Part]:
    """A plump body on two thin legs, a beak, a straight tail, a folded wing."""
    nod = math.sin(2 * math.pi * pose.phase) * 0.02 * pose.stride
    tip = 0.05 * pose.tail
    x, y = 0.70 + nod, 0.20 - 0.04 * pose.head
    hips = ((0.47, 0.66), (0.53, 0.66))
    legs = []
    for hip, turn in zip(hips, (0.0, 0.5), strict=True):
        angle = 2 * math.pi * (pose.phase + turn)
        foot = (hip[0] + 0.09 * pose.stride * math.cos(angle), 0.97 - 0.05 * max(0.0, math.sin(angle)))
        legs.append(Part(limb([hip, ((hip[0] + foot[0]) / 2 - 0.03, 0.82), foot], 0.045, 0.028), ink=70))
        legs.append(
            Part(limb([(foot[0] - 0.05, foot[1]), foot, (foot[0] + 0.09, foot[1])], 0.026, 0.02), ink=70)
        )
    body = smooth(
        [(0.22, 0.50), (0.38, 0.33), (0.56, 0.24), (x, y - 0.11), (x + 0.11, y), (0.76, 0.40), (0.70, 0.58),
         (0.56, 0.71), (0.38, 0.70), (0.27, 0.62)]
    )  # fmt: skip
    wing = smooth([(0.60, 0.38), (0.64, 0.50), (0.48, 0.61), (0.20, 0.63 - tip), (0.34, 0.48), (0.46, 0.38)])
    fan = np.array([(0.34, 0.46), (0.02, 0.60 - tip), (-0.02, 0.68 - tip), (0.04, 0.73 - tip), (0.36, 0.66)])
    breast = smooth([(0.74, 0.36), (0.72, 0.56), (0.58, 0.69), (0.50, 0.66), (0.62, 0.52)])
    beak = np.array([(x + 0.08, y - 0.045), (x + 0.26, y + 0.02), (x + 0.08, y + 0.05)])
    return [
        Part(fan, 0.7),
        *legs,
        Part(beak, ink=60),
        Part(body),
        Part(ellipse(x, y, 0.115, 0.11)),
        Part(breast, 1.35),
        Part(wing, 0.62),
        Part(ellipse(x + 0.04, y - 0.025, 0.02, 0.022), ink=15),
    ]


def car(pose: Pose) -> list[Part]:
    """A saloon from the side; the wheels turn with the walk's phase."""
    shell = smooth(
        [(0.00, 0.62), (0.03, 0.45), (0.20, 0.40), (0.30, 0.16), (0.42, 0.08), (0.60, 0.09), (0.74, 0.36),
         (0.94, 0.43), (1.00, 0.56), (0.99, 0.78), (0.80, 0.82), (0.50, 0.82), (0.20, 0.82), (0.01, 0.78)],
        steps=5,
    )  # fmt: skip
    parts = [
        Part(shell),
        Part(
            np.array([(0.00, 0.66), (1.00, 0.66), (0.99, 0.78), (0.90, 0.82), (0.10, 0.82), (0.01, 0.78)]),
            0.75,
        ),
        Part(np.array([(0.26, 0.39), (0.335, 0.18), (0.42, 0.15), (0.47, 0.15), (0.47, 0.39)]), ink=65),
        Part(np.array([(0.50, 0.39), (0.50, 0.15), (0.58, 0.16), (0.685, 0.39)]), ink=65),
        Part(ellipse(0.965, 0.53, 0.025, 0.05), ink=235),
        Part(ellipse(0.02, 0.55, 0.016, 0.05), ink=120),
    ]
    for centre in (0.22, 0.78):
        parts += [
            Part(ellipse(centre, 0.80, 0.115, 0.20), ink=25),
            Part(ellipse(centre, 0.80, 0.06, 0.105), ink=170),
        ]
        for spoke in range(3):
            turn = 2 * math.pi * (pose.phase + spoke / 3)
            end = (centre + 0.055 * math.cos(turn), 0.80 + 0.095 * math.sin(turn))
            parts.append(Part(limb([(centre, 0.80), end], 0.02, 0.02), ink=80))
    return parts


@dataclass(frozen=True)
class Kind:
    """A kind of object: how it is drawn and the width / height at which it looks right."""

    draw: Callable[[Pose], list[Part]]
    aspect: float


KINDS: Mapping[str, Kind] = {
    "cat": Kind(cat, 1.3),
    "dog": Kind(dog, 1.25),
    "car": Kind(car, 2.2),
    "bird": Kind(bird, 1.1),
}
"""The kinds of object the factory can draw, by label."""
