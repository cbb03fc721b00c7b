"""A human body of fifteen bones: turns a pose (places of hands, feet and trunk) into points in space.

Lengths are in body heights, angles in degrees. World axes: X to the right of the picture, Y up, Z towards
the camera; the origin lies on the ground between the feet of a figure that has not moved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Triple = tuple[float, float, float]

HIP_HEIGHT: Final = 0.527
ANKLE_HEIGHT: Final = 0.04
TORSO: Final = 0.30
NECK: Final = 0.045
HEAD_RADIUS: Final = 0.068
UPPER_ARM: Final = 0.165
FOREARM: Final = 0.165
THIGH: Final = 0.245
SHIN: Final = 0.245
FOOT: Final = 0.12
SHOULDER_HALF: Final = 0.105
HIP_HALF: Final = 0.05
GRIP_RADIUS: Final = 0.285  # from the chest to both hands on a club


@dataclass(frozen=True)
class Pose:
    """The places of the body's ends; inverse kinematics adds the joints between them.

    Hands are (forward, up, outward) from their shoulder in the chest's axes, feet (forward, up, outward) from
    the ground below the hips in the hips' axes.
    """

    lift: float = 0.0  # of the hips above standing height
    heading: float = 0.0  # 0 faces the right of the picture, 90 the camera
    twist: float = 0.0  # of the chest against the hips, to the body's right
    lean: float = 0.0  # of the trunk, forward
    roll: float = 0.0  # of the trunk, to the body's right
    right_hand: Triple = (0.03, -0.315, 0.03)
    left_hand: Triple = (0.03, -0.315, 0.03)
    right_foot: Triple = (0.0, 0.0, 0.055)
    left_foot: Triple = (0.0, 0.0, 0.055)
    right_toe: float = 0.0  # pitch of the foot, toe down
    left_toe: float = 0.0
    grip: float = 0.0  # 1: both hands on the club, placed by the two angles below
    hands_angle: float = (
        0.0  # of the hands about the chest; 0 points at the ball, positive to the body's right
    )
    club_angle: float = 0.0  # of the club about the hands, same zero
    plane: float = 30.0  # tilt of the swing's plane: 0 upright, 90 level

    def vector(self) -> Vector:
        """The pose as one flat row of numbers, for interpolation."""
        return np.concatenate([np.atleast_1d(np.asarray(getattr(self, f.name), float)) for f in fields(self)])

    @staticmethod
    def from_vector(row: Vector) -> Pose:
        """The inverse of `vector`."""
        values: dict[str, object] = {}
        at = 0
        for name, size in _layout():
            part = row[at : at + size]
            values[name] = tuple(float(v) for v in part) if size == 3 else float(part[0])
            at += size
        return Pose(**values)  # type: ignore[arg-type]  # built from the same fields


@cache
def _layout() -> tuple[tuple[str, int], ...]:
    return tuple((f.name, 3 if isinstance(f.default, tuple) else 1) for f in fields(Pose))


@dataclass(frozen=True)
class Skeleton:
    """The joints of one posed body: world coordinates of shape (3,), in body heights."""

    hips: tuple[Vector, Vector]  # right, left, as in every pair below
    knees: tuple[Vector, Vector]
    ankles: tuple[Vector, Vector]
    toes: tuple[Vector, Vector]
    shoulders: tuple[Vector, Vector]
    elbows: tuple[Vector, Vector]
    hands: tuple[Vector, Vector]
    head: Vector
    facing: Vector  # unit vector, where the face looks
    club: Vector  # unit vector, from the right hand along a held club

    def lowest(self) -> float:
        """Height of the lower foot's sole above the ground."""
        heels = min(float(ankle[1]) for ankle in self.ankles) - ANKLE_HEIGHT
        return min(heels, min(float(toe[1]) for toe in self.toes) - ANKLE_HEIGHT / 2)


@dataclass(frozen=True)
class _Axes:
    forward: Vector
    up: Vector
    right: Vector


def skeleton(pose: Pose) -> Skeleton:
    """Return the places of all joints of a body in this pose."""
    hips_axes = _level_axes(pose.heading)
    chest = _chest_axes(pose, hips_axes)
    pelvis = np.array([0.0, HIP_HEIGHT + pose.lift, 0.0])
    neck = pelvis + chest.up * TORSO
    shoulders = (neck + chest.right * SHOULDER_HALF, neck - chest.right * SHOULDER_HALF)
    hips = (pelvis + hips_axes.right * HIP_HALF, pelvis - hips_axes.right * HIP_HALF)
    club = _club_direction(pose, hips_axes, chest)
    targets = _hand_targets(pose, neck, shoulders, chest, hips_axes, club)
    arms = [_arm(shoulders[i], targets[i], chest, 1 if i == 0 else -1) for i in (0, 1)]
    feet = (pose.right_foot, pose.left_foot)
    toe_pitch = (pose.right_toe, pose.left_toe)
    legs = [_leg(hips[i], feet[i], toe_pitch[i], hips_axes, 1 if i == 0 else -1) for i in (0, 1)]
    facing = _unit(chest.forward + hips_axes.forward)
    head = neck + chest.up * (NECK + HEAD_RADIUS) + chest.forward * 0.015
    return Skeleton(
        hips=hips,
        knees=(legs[0][0], legs[1][0]),
        ankles=(legs[0][1], legs[1][1]),
        toes=(legs[0][2], legs[1][2]),
        shoulders=shoulders,
        elbows=(arms[0][0], arms[1][0]),
        hands=(arms[0][1], arms[1][1]),
        head=head,
        facing=facing,
        club=club,
    )


def _level_axes(heading: float) -> _Axes:
    angle = np.radians(heading)
    return _Axes(
        forward=np.array([np.cos(angle), 0.0, np.sin(angle)]),
        up=np.array([0.0, 1.0, 0.0]),
        right=np.array([-np.sin(angle), 0.0, np.cos(angle)]),
    )


def _chest_axes(pose: Pose, hips: _Axes) -> _Axes:
    lean, roll = np.radians(pose.lean), np.radians(pose.roll)
    up = _unit(
        hips.up * np.cos(lean) * np.cos(roll) + hips.forward * np.sin(lean) + hips.right * np.sin(roll)
    )
    turned = _level_axes(pose.heading + pose.twist).right
    right = _unit(turned - up * (turned @ up))
    return _Axes(forward=np.cross(up, right), up=up, right=right)


def _swing_direction(angle: float, pose: Pose, hips: _Axes) -> Vector:
    """The direction at an angle in the tilted plane in which hands and club rotate."""
    a, tilt = np.radians(angle), np.radians(pose.plane)
    towards_ball = hips.forward * np.sin(tilt) - hips.up * np.cos(tilt)
    return np.asarray(hips.right * np.sin(a) + towards_ball * np.cos(a))


def _club_direction(pose: Pose, hips: _Axes, chest: _Axes) -> Vector:
    carried = chest.forward * 0.55 - hips.up * 0.85
    swung = _swing_direction(pose.club_angle, pose, hips)
    return _unit(carried * (1 - pose.grip) + swung * pose.grip)


def _hand_targets(
    pose: Pose, neck: Vector, shoulders: tuple[Vector, Vector], chest: _Axes, hips: _Axes, club: Vector
) -> tuple[Vector, Vector]:
    grip = neck - chest.up * 0.03 + _swing_direction(pose.hands_angle, pose, hips) * GRIP_RADIUS
    targets = []
    for shoulder, hand, side in ((shoulders[0], pose.right_hand, 1), (shoulders[1], pose.left_hand, -1)):
        free = shoulder + chest.forward * hand[0] + chest.up * hand[1] + chest.right * (hand[2] * side)
        # The right hand holds the club a hand's breadth below the left one.
        held = grip + club * (0.02 * side)
        targets.append(free * (1 - pose.grip) + held * pose.grip)
    return targets[0], targets[1]


def _arm(shoulder: Vector, target: Vector, chest: _Axes, side: int) -> tuple[Vector, Vector]:
    pole = -chest.up - chest.forward * 0.5 + chest.right * (0.6 * side)
    return _two_bones(shoulder, target, UPPER_ARM, FOREARM, pole)


def _leg(
    hip: Vector, foot: Triple, toe_pitch: float, hips: _Axes, side: int
) -> tuple[Vector, Vector, Vector]:
    ankle = hips.forward * foot[0] + hips.up * (ANKLE_HEIGHT + foot[1]) + hips.right * (foot[2] * side)
    knee, ankle = _two_bones(hip, ankle, THIGH, SHIN, hips.forward + hips.right * (0.15 * side))
    pitch = np.radians(toe_pitch)
    toe = ankle + (hips.forward * np.cos(pitch) - hips.up * np.sin(pitch)) * FOOT
    return knee, ankle, toe - hips.up * (ANKLE_HEIGHT / 2)


def _two_bones(
    root: Vector, target: Vector, upper: float, lower: float, pole: Vector
) -> tuple[Vector, Vector]:
    """Middle joint and end of two bones that reach from `root` towards `target`, bent towards `pole`."""
    offset = target - root
    distance = min(max(math.hypot(*offset), abs(upper - lower) + 1e-3), (upper + lower) * 0.999)
    along = _unit(offset)
    reach = (upper**2 - lower**2 + distance**2) / (2 * distance)
    height = math.sqrt(max(upper**2 - reach**2, 0.0))
    across = _unit(pole - along * (pole @ along))
    return root + along * reach + across * height, root + along * distance


def _unit(vector: Vector) -> Vector:
    return vector / max(math.hypot(vector[0], vector[1], vector[2]), 1e-9)
