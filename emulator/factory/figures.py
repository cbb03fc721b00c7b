"""Articulated figures that swing, jump, kick and throw at known moments, or perform quiet activities.

A `Figure` is an actor of a `Clip`, like an object. The clip's truth lists its actions; it has a track of the
figure only if the figure has a label. `MOMENTS` defines which instant of each action the truth names.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from emulator.factory.choreography import (
    ACTION_KINDS,
    ACTIVITIES,
    GRAVITY,
    ActionKind,
    Activity,
    Choreography,
    activity_pose,
    choreography,
)
from emulator.factory.encode import FactoryError
from emulator.factory.figure_drawing import Ball, FigurePainter, Look, Projection, random_look
from emulator.factory.scene import Clip, Moment, Painter
from emulator.factory.skeleton import Pose, Skeleton, Vector, skeleton

BLEND_S: Final = 0.3  # from the quiet activity into an action, and back
BALL_FLIGHT_S: Final = 0.8
LONGEST_S: Final = 4 * 3600.0


@dataclass(frozen=True)
class Action:
    """One action of a figure. Its moment (see MOMENTS) is at `at` seconds of the clip.

    speed: 1 is natural, 0.5 to 2. variant: 0..1 chooses the style (height of a jump or kick, tilt of a
    swing from golf to baseball, arm of a throw).
    """

    kind: ActionKind
    at: float
    speed: float = 1.0
    variant: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in ACTION_KINDS:
            raise FactoryError(f"No action is called {self.kind!r}; use one of {', '.join(ACTION_KINDS)}.")
        if not 0 <= self.at < LONGEST_S:
            raise FactoryError(f"The {self.kind} is at {self.at} s; give 0 or more, within the clip.")
        if not 0.5 <= self.speed <= 2:
            raise FactoryError(f"The {self.kind}'s speed is {self.speed}; give 0.5 to 2.")
        if not 0 <= self.variant <= 1:
            raise FactoryError(f"The {self.kind}'s variant is {self.variant}; give 0 to 1.")

    @property
    def start(self) -> float:
        """When the body begins to move, in seconds of the clip; may lie before the clip's start."""
        return self.at + self._moves.start / self.speed

    @property
    def end(self) -> float:
        """When the body has come to rest, in seconds of the clip."""
        return self.at + self._moves.end / self.speed

    @property
    def _moves(self) -> Choreography:
        return choreography(self.kind, self.variant)

    def pose(self, time_s: float) -> Vector:
        """The pose vector at a time of the clip."""
        return self._moves.pose((time_s - self.at) * self.speed)

    def weight(self, time_s: float) -> float:
        """Share of the action in the pose, 0..1; the quiet activity has the rest."""
        return _smooth((time_s - self.start) / BLEND_S) * _smooth((self.end - time_s) / BLEND_S)

    def held_up(self, time_s: float) -> float:
        """Seconds of walking that the action has cost until `time_s`: the integral of `weight`."""
        rise = _smooth_integral((time_s - self.start) / BLEND_S) * BLEND_S
        fall = _smooth_integral((time_s - self.end + BLEND_S) / BLEND_S) * BLEND_S
        return rise - fall


@dataclass(frozen=True)
class Figure:
    """A person in the picture, for `Clip(objects=[...])`.

    actions: the actions it performs; two actions of one figure must not overlap. activity: its activity
    otherwise. position: the place of its feet at the start, relative to the picture. height: relative to the
    picture's. faces_left: mirrors everything. turn: degrees by which the figure turns towards the camera.
    pace: walking speed in body heights a second. holds_club: None for "if it swings". ball: whether a thrown
    or struck ball is shown. look: clothes and build; the clip's seed chooses them by default. label: the name
    of its track in the truth; without one it has no track.
    """

    actions: Sequence[Action] = ()
    activity: Activity = "stand"
    position: tuple[float, float] = (0.5, 0.92)
    height: float = 0.7
    faces_left: bool = False
    turn: float = 0.0
    pace: float = 0.6
    holds_club: bool | None = None
    ball: bool = True
    look: Look | None = None
    start: float = 0.0
    end: float = LONGEST_S
    label: str | None = None

    def __post_init__(self) -> None:
        if self.activity not in ACTIVITIES:
            raise FactoryError(
                f"No activity is called {self.activity!r}; use one of {', '.join(ACTIVITIES)}."
            )
        if not 0.02 <= self.height <= 4:
            raise FactoryError(f"The figure's height is {self.height}; give 0.02 to 4 picture heights.")
        in_order = sorted(self.actions, key=lambda action: action.at)
        for first, second in itertools.pairwise(in_order):
            if second.start < first.end - BLEND_S:
                earliest = second.at + first.end - BLEND_S - second.start
                raise FactoryError(
                    f"The {first.kind} at {first.at} s and the {second.kind} at {second.at} s overlap; put "
                    f"the second at {earliest:.2f} s or later, or use two figures."
                )

    @property
    def moments(self) -> Sequence[Moment]:
        """The actions for the clip's truth."""
        return [Moment(action.kind, action.at) for action in self.actions]

    @property
    def club_in_hand(self) -> bool:
        """Whether a club is drawn."""
        swings = any(action.kind == "swing" for action in self.actions)
        return (swings or self.activity == "waggle") if self.holds_club is None else self.holds_club

    def pose(self, time_s: float, phase: float = 0.0) -> Pose:
        """The body's pose at a moment; `phase` (0..1) shifts the rhythm of the quiet activity."""
        row = activity_pose(self.activity, time_s, self.walked(time_s), phase)
        for action in self.actions:
            weight = action.weight(time_s)
            if weight > 0:
                row = row * (1 - weight) + action.pose(time_s) * weight
        return Pose.from_vector(row)

    def walked(self, time_s: float) -> float:
        """Body heights walked since the start of the clip."""
        if self.activity != "walk":
            return 0.0
        waited = sum(action.held_up(time_s) - action.held_up(0.0) for action in self.actions)
        return self.pace * (time_s - waited)

    def prepare(self, size: tuple[int, int], rng: np.random.Generator) -> Painter:
        """See Actor.prepare."""
        look = self.look or random_look(rng)
        phase = float(rng.random())
        projection = Projection(
            x=self.position[0] * size[0],
            y=self.position[1] * size[1],
            scale=self.height * size[1],
            turn=self.turn,
            mirrored=self.faces_left,
        )

        def state(time_s: float) -> tuple[Skeleton, float, Ball | None]:
            shift = self.walked(time_s)
            return skeleton(self.pose(time_s, phase)), shift, self._ball_at(time_s, phase, look)

        return FigurePainter(size, projection, look, self.club_in_hand, state)

    def _ball_at(self, time_s: float, phase: float, look: Look) -> Ball | None:
        if not self.ball:
            return None
        for action in self.actions:
            if action.start + BLEND_S < time_s < action.at + BALL_FLIGHT_S:
                if action.kind == "throw":
                    return self._thrown(action, time_s, phase)
                if action.kind == "swing" and action.variant < 0.6:
                    return self._struck(action, time_s, phase, look)
        return None

    def _thrown(self, action: Action, time_s: float, phase: float) -> Ball:
        body = skeleton(self.pose(min(time_s, action.at), phase))
        since = max(0.0, time_s - action.at)
        flight = np.array([6.0 * since, 0.7 * since - GRAVITY / 2 * since**2, 0.0])
        return Ball(body.hands[0] + np.array([0.03, 0.03, 0.0]) + flight, 0.028)

    def _struck(self, action: Action, time_s: float, phase: float, look: Look) -> Ball:
        impact = skeleton(self.pose(action.at, phase))
        since = max(0.0, time_s - action.at)
        flight = np.array([7.0 * since, 3.0 * since - GRAVITY / 2 * since**2, 0.0])
        head = impact.hands[0] + impact.club * look.club_length
        return Ball(head + np.array([0.03, 0.0, 0.0]) + flight, 0.022)


def action_documentation_clip() -> Clip:
    """The documentation's example of action recognition: a swing at 1.2 s and a jump at 3.4 s."""
    figure = Figure(
        actions=(Action("swing", at=1.2), Action("jump", at=3.4)),
        position=(0.5, 0.93),
        height=0.62,
        look=random_look(np.random.default_rng(7)),
    )
    return Clip(size=(640, 360), fps=30, duration=5.0, seed=12, background="landscape", objects=(figure,))


def _smooth(u: float) -> float:
    u = min(max(u, 0.0), 1.0)
    return u * u * (3 - 2 * u)


def _smooth_integral(u: float) -> float:
    v = min(max(u, 0.0), 1.0)
    return v**3 - v**4 / 2 + max(u - 1.0, 0.0)
