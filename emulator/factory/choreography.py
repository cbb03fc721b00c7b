"""The motions of figures: four actions with their exact moments, and quiet activities that are no action.

An action is a sequence of key poses, timed relative to its moment: the one instant that the truth names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Final, Literal, get_args

import numpy as np

from emulator.factory.skeleton import ANKLE_HEIGHT, HIP_HEIGHT, SHIN, THIGH, Pose, Vector

ActionKind = Literal["swing", "jump", "kick", "throw"]
Activity = Literal["stand", "walk", "gesture", "crouch", "turn", "waggle"]

ACTION_KINDS: Final[tuple[ActionKind, ...]] = get_args(ActionKind)
ACTIVITIES: Final[tuple[Activity, ...]] = get_args(Activity)

MOMENTS: Final[dict[ActionKind, str]] = {
    "swing": "impact: the club passes the lowest point of its arc",
    "jump": "apex: the hips are highest",
    "kick": "full extension: the kicking foot is farthest forward",
    "throw": "release: the ball leaves the hand",
}

GRAVITY: Final = 5.6  # body heights per second squared, for a body of 1.75 m
JUMP_HEIGHT: Final = 0.24
STRIDE: Final = 0.75  # body heights per two steps

_Keys = tuple[tuple[float, Pose], ...]

_STAND = Pose()
_READY = replace(_STAND, lean=14, lift=-0.035, right_foot=(0, 0, 0.1), left_foot=(0, 0, 0.1))


@dataclass(frozen=True)
class Choreography:
    """Key poses over the seconds before and after an action's moment, played at their natural speed."""

    times: Vector
    rows: Vector
    slopes: Vector

    @property
    def start(self) -> float:
        """Seconds before the moment (negative) at which the body starts to move."""
        return float(self.times[0])

    @property
    def end(self) -> float:
        """Seconds after the moment at which the body has come to rest."""
        return float(self.times[-1])

    def pose(self, time: float) -> Vector:
        """The pose vector `time` seconds after the moment. It stays between its two nearest keys."""
        t = float(np.clip(time, self.start, self.end))
        i = min(int(np.searchsorted(self.times, t, side="right")) - 1, len(self.times) - 2)
        step = self.times[i + 1] - self.times[i]
        u = (t - self.times[i]) / step
        start, end = self.rows[i], self.rows[i + 1]
        rise = u * u * (3 - 2 * u)
        bend = step * (u * (1 - u) ** 2 * self.slopes[i] - u * u * (1 - u) * self.slopes[i + 1])
        return np.asarray(start + (end - start) * rise + bend)


@cache
def choreography(kind: ActionKind, variant: float) -> Choreography:
    """The key poses of an action; `variant`, 0..1, is its style (height of a jump, plane of a swing...)."""
    keys = {"swing": _swing, "jump": _jump, "kick": _kick, "throw": _throw}[kind](variant)
    times = np.array([time for time, _ in keys])
    rows = np.stack([pose.vector() for _, pose in keys])
    return Choreography(times, rows, _monotone_slopes(times, rows))


def _monotone_slopes(times: Vector, rows: Vector) -> Vector:
    """Slopes at the keys that keep each number between its neighbours (harmonic mean of the secants)."""
    secants = np.diff(rows, axis=0) / np.diff(times)[:, None]
    slopes = np.zeros_like(rows)
    before, after = secants[:-1], secants[1:]
    same = before * after > 0
    total = np.where(same, before + after, 1.0)
    slopes[1:-1] = np.where(same, 2 * before * after / total, 0.0)
    return slopes


def _swing(variant: float) -> _Keys:
    address = replace(
        _READY,
        heading=85,
        lean=24,
        lift=-0.04,
        grip=1,
        plane=24 + 34 * variant,
        right_foot=(0, 0, 0.13),
        left_foot=(0, 0, 0.13),
    )
    ease = replace(address, grip=0.35, heading=60, lean=12, hands_angle=5, club_angle=5)
    back = replace(address, twist=40, hands_angle=75, club_angle=110, roll=3)
    top = replace(address, twist=75, hands_angle=140, club_angle=225, roll=5)
    down = replace(address, twist=25, hands_angle=60, club_angle=120, roll=-1)
    impact = replace(address, twist=-12, hands_angle=-4, club_angle=0, roll=-3, right_toe=8)
    through = replace(address, twist=-50, hands_angle=-75, club_angle=-105, roll=-4, right_toe=25)
    finish = replace(
        address, twist=-75, lean=4, lift=-0.01, hands_angle=-150, club_angle=-235, right_toe=55,
        right_foot=(0, 0.05, 0.11),
    )  # fmt: skip
    return (
        (-1.25, ease),
        (-0.9, address),
        (-0.6, back),
        (-0.36, top),
        (-0.26, top),
        (-0.1, down),
        (0.0, impact),
        (0.1, through),
        (0.3, finish),
        (0.6, finish),
        (1.0, ease),
    )


def _jump(variant: float) -> _Keys:
    height = JUMP_HEIGHT * (0.7 + 0.6 * variant)
    half = float(np.sqrt(2 * height / GRAVITY))
    swing_back, arms_up = (-0.2, -0.25, 0.05), (0.12, 0.28 - 0.2 * (variant > 0.6), 0.06)
    feet = 0.075
    loaded = replace(
        _STAND, lift=-0.15, lean=38, right_hand=swing_back, left_hand=swing_back,
        right_foot=(0, 0, feet), left_foot=(0, 0, feet),
    )  # fmt: skip

    def airborne(fraction: float) -> Pose:
        lift = height * (1 - fraction**2)
        tuck = 0.03 + 0.04 * (1 - abs(fraction))
        foot = (-tuck, lift + (tuck - 0.03), feet)
        return replace(
            _STAND, lift=lift, lean=4, right_hand=arms_up, left_hand=arms_up,
            right_foot=foot, left_foot=foot, right_toe=45, left_toe=45,
        )  # fmt: skip

    landing = replace(loaded, lift=-0.1, lean=22, right_hand=(0.2, -0.2, 0.12), left_hand=(0.2, -0.2, 0.12))
    flight = tuple((half * f, airborne(f)) for f in (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0))
    return (
        (-half - 0.75, _STAND),
        (-half - 0.25, loaded),
        *flight,
        (half + 0.16, landing),
        (half + 0.6, _STAND),
    )


def _kick(variant: float) -> _Keys:
    rise = 0.14 + 0.32 * variant
    fall = HIP_HEIGHT - ANKLE_HEIGHT - rise
    reach = float(np.sqrt((0.99 * (THIGH + SHIN)) ** 2 - fall**2))  # all but straight
    guard_right, guard_left = (0.05, -0.24, 0.14), (0.16, -0.16, 0.16)
    planted = (0.02, 0.0, 0.04)
    base = replace(_STAND, left_foot=planted, right_hand=guard_right, left_hand=guard_left)
    back = replace(
        base, lift=-0.03, lean=12, twist=14, right_foot=(-0.3, 0.16, 0.05), right_toe=60,
        left_hand=(0.22, -0.05, 0.2), right_hand=(-0.16, -0.22, 0.14),
    )  # fmt: skip
    mid = replace(base, lift=-0.02, lean=2, right_foot=(0.08, 0.1, 0.05), right_toe=25)
    extended = replace(
        base, lift=0.0, lean=-16, twist=-18, right_foot=(reach, rise, 0.05), right_toe=-5,
        right_hand=(-0.2, -0.18, 0.18), left_hand=(0.05, -0.2, 0.24),
    )  # fmt: skip
    recoil = replace(base, lift=-0.02, lean=-4, right_foot=(0.24, 0.16, 0.05), right_toe=15)
    step = replace(base, lift=-0.015, right_foot=(-0.12, 0.0, 0.05), left_foot=(0.06, 0.0, 0.05))
    return (
        (-0.75, _STAND),
        (-0.5, step),
        (-0.26, back),
        (-0.1, mid),
        (0.0, extended),
        (0.05, replace(extended, right_foot=(reach - 0.01, rise, 0.05))),
        (0.22, recoil),
        (0.5, replace(base, right_foot=(0.05, 0.0, 0.05))),
        (0.75, _STAND),
    )


def _throw(variant: float) -> _Keys:
    over = 0.1 + 0.18 * variant  # from three-quarter to straight over the shoulder
    set_up = replace(
        _STAND, heading=25, right_hand=(0.16, -0.05, -0.04), left_hand=(0.16, -0.05, -0.04), lift=-0.01
    )
    cocked = replace(
        _STAND, heading=35, twist=62, lean=-12, lift=-0.03, right_hand=(-0.12, over, 0.2),
        left_hand=(0.1, 0.06, 0.24), right_foot=(-0.13, 0.0, 0.05), left_foot=(0.14, 0.06, 0.05),
    )  # fmt: skip
    stride = replace(
        cocked,
        lean=-6,
        twist=55,
        lift=-0.05,
        left_foot=(0.24, 0.0, 0.06),
        right_hand=(-0.2, over * 0.9, 0.16),
    )
    whip = replace(
        stride, heading=15, twist=10, lean=8, right_hand=(0.0, over + 0.08, 0.14), left_hand=(0.1, -0.1, 0.12)
    )
    release = replace(
        stride, heading=8, twist=-18, lean=20, lift=-0.06, right_hand=(0.22, over + 0.02, 0.05),
        left_hand=(0.02, -0.2, 0.1), right_toe=40,
    )  # fmt: skip
    follow = replace(
        release, twist=-48, lean=42, right_hand=(0.16, -0.27, -0.12), left_hand=(-0.12, -0.16, 0.14),
        right_foot=(-0.18, 0.06, 0.05), right_toe=60,
    )  # fmt: skip
    return (
        (-1.0, _STAND),
        (-0.7, set_up),
        (-0.34, cocked),
        (-0.16, stride),
        (-0.06, whip),
        (0.0, release),
        (0.16, follow),
        (0.36, replace(follow, lean=34, right_foot=(-0.08, 0.0, 0.05), right_toe=0)),
        (0.85, _STAND),
    )


def activity_pose(activity: Activity, time: float, distance: float, phase: float) -> Vector:
    """The quiet pose at a time in seconds, after walking a distance in body heights.

    phase: 0..1, shifts the rhythm.
    """
    pose = {
        "stand": _standing,
        "walk": _standing,
        "gesture": _gesturing,
        "crouch": _crouching,
        "turn": _turning,
        "waggle": _waggling,
    }[activity](time, phase)
    if activity == "walk":
        pose = _walking(distance, phase)
    return pose.vector()


def _wave(time: float, period: float, phase: float) -> float:
    return float(np.sin(2 * np.pi * (time / period + phase)))


def _hold(time: float, period: float, phase: float) -> float:
    """A slow cycle from 0 (at rest) to 1 (held) and back, for example of a lifted arm or bent knees."""
    return float(np.clip(0.5 + 0.9 * _wave(time, period, phase), 0.0, 1.0) ** 1.5)


def _standing(time: float, phase: float) -> Pose:
    sway, breath = _wave(time, 3.7, phase), _wave(time, 2.6, phase * 3)
    arm = (0.03 + 0.012 * sway, -0.315, 0.03 + 0.006 * breath)
    return replace(
        _STAND, lift=-0.004 + 0.003 * breath, lean=1.5 * breath, roll=1.5 * sway, twist=4 * sway,
        right_hand=arm, left_hand=(0.03 - 0.012 * sway, -0.315, 0.035),
    )  # fmt: skip


def _gesturing(time: float, phase: float) -> Pose:
    up, side = _hold(time, 4.2, phase), _wave(time, 1.5, phase)
    shape = 0.5 + 0.5 * np.cos(40 * phase)  # from an arm held out to one held up
    hand = (
        0.03 + 0.2 * up,
        -0.315 + (0.25 + 0.28 * shape) * up,
        0.03 + (0.06 + 0.05 * side) * up,
    )
    other = (0.03 + 0.1 * up * (1 - shape), -0.315 + 0.12 * up * (1 - shape), 0.03)
    return replace(_standing(time, phase), right_hand=hand, left_hand=other)


def _crouching(time: float, phase: float) -> Pose:
    down = _hold(time, 4.6, phase)
    bend = 0.5 + 0.5 * np.cos(40 * phase)  # from a squat to a stoop for something on the ground
    hand = (0.03 + 0.2 * down, -0.315 + 0.06 * down, 0.04)
    return replace(
        _standing(time, phase), lift=-(0.06 + 0.16 * (1 - bend)) * down, lean=(25 + 50 * bend) * down,
        right_hand=hand, left_hand=hand, right_foot=(0, 0, 0.07), left_foot=(0, 0, 0.07),
    )  # fmt: skip


def _turning(time: float, phase: float) -> Pose:
    return replace(
        _standing(time, phase), heading=95 * _hold(time, 5.0, phase), twist=12 * _wave(time, 2.5, phase)
    )


def _waggling(time: float, phase: float) -> Pose:
    """At address, the club moved gently to and fro without a swing."""
    angle = 14 * _wave(time, 1.7, phase)
    return replace(
        _READY, heading=80, lean=22, grip=1, hands_angle=angle * 0.4, club_angle=angle,
        right_foot=(0, 0, 0.12), left_foot=(0, 0, 0.12), twist=angle * 0.4,
    )  # fmt: skip


def _walking(distance: float, phase: float) -> Pose:
    cycle = distance / STRIDE + phase
    right, left = _step(cycle), _step(cycle + 0.5)
    arms = float(np.sin(2 * np.pi * cycle))
    bob = -0.035 + 0.012 * float(np.cos(4 * np.pi * cycle))
    return replace(
        _STAND, lift=bob, lean=4, twist=7 * arms, right_foot=(right[0], right[1], 0.045),
        left_foot=(left[0], left[1], 0.045), right_toe=right[2], left_toe=left[2],
        right_hand=(0.03 - 0.11 * arms, -0.30, 0.03), left_hand=(0.03 + 0.11 * arms, -0.30, 0.03),
    )  # fmt: skip


def _step(cycle: float) -> tuple[float, float, float]:
    """Forward place, height and toe pitch of a walking foot: on the ground for the first half, then swung."""
    u = cycle % 1.0
    reach = STRIDE / 4
    if u < 0.5:
        return reach * (1 - 4 * u), 0.0, 0.0
    v = (u - 0.5) * 2
    return (
        reach * (2 * v * v * (3 - 2 * v) - 1),
        0.075 * float(np.sin(np.pi * v)),
        50 * float(np.sin(np.pi * v)) * (1 - v),
    )
