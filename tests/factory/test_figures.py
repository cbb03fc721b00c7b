"""Figures: actions happen when the truth says, quiet activities hold none, bad arguments are refused."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from emulator.factory import (
    ACTION_KINDS,
    ACTIVITIES,
    MOMENTS,
    Action,
    Clip,
    FactoryError,
    Figure,
    Look,
    Stage,
    action_documentation_clip,
    random_look,
    truth_of,
)
from emulator.factory.choreography import ActionKind, Activity
from emulator.factory.skeleton import Pose, Skeleton, skeleton

AT = 2.0
NEAR = AT + np.linspace(-0.45, 0.45, 181)


def body(figure: Figure, time_s: float) -> Skeleton:
    return skeleton(figure.pose(time_s))


def acting(kind: ActionKind, variant: float = 0.5, speed: float = 1.0) -> Figure:
    return Figure(actions=[Action(kind, AT, speed=speed, variant=variant)])


def rows_drawn(clip: Clip, frame: int) -> tuple[int, int]:
    """First and last picture row that the figures cover in a frame."""
    changed = Stage(clip).frame(frame).picture != Stage(replace(clip, objects=())).frame(frame).picture
    rows = np.flatnonzero(changed.any(axis=(1, 2)))
    return int(rows[0]), int(rows[-1])


@pytest.mark.parametrize("speed", [0.8, 1.3])
@pytest.mark.parametrize("variant", [0.0, 0.5, 1.0])
def test_jump_is_highest_at_its_moment(variant: float, speed: float) -> None:
    figure = acting("jump", variant, speed)
    heads = [body(figure, time).head[1] for time in NEAR]
    assert NEAR[int(np.argmax(heads))] == pytest.approx(AT, abs=0.006)
    assert body(figure, AT).lowest() > 0.1


@pytest.mark.parametrize("variant", [0.0, 0.5, 1.0])
def test_kick_is_farthest_forward_at_its_moment(variant: float) -> None:
    figure = acting("kick", variant)
    feet = [body(figure, time).ankles[0][0] for time in NEAR]
    assert NEAR[int(np.argmax(feet))] == pytest.approx(AT, abs=0.006)


@pytest.mark.parametrize("variant", [0.0, 0.5, 1.0])
def test_swing_passes_its_lowest_point_at_its_moment(variant: float) -> None:
    figure = acting("swing", variant)
    angles = [figure.pose(time).club_angle for time in NEAR]
    assert figure.pose(AT).club_angle == pytest.approx(0, abs=0.01)
    downswing = [angle for time, angle in zip(NEAR, angles, strict=True) if abs(time - AT) < 0.2]
    assert all(a > b for a, b in itertools.pairwise(downswing))
    lowest = [body(figure, time).club[1] for time in NEAR if abs(time - AT) < 0.2]
    assert NEAR[np.abs(NEAR - AT) < 0.2][int(np.argmin(lowest))] == pytest.approx(AT, abs=0.03)


def test_thrown_ball_leaves_the_hand_at_its_moment() -> None:
    figure = acting("throw")
    clip = Clip(size=(400, 180), fps=50, duration=3, objects=(figure,))
    without = replace(clip, objects=(replace(figure, ball=False),))

    def ahead_of_hand(time_s: float) -> float:
        """Pixels between the ball and the hand."""
        frame = round(time_s * 50)
        changed = (Stage(clip).frame(frame).picture != Stage(without).frame(frame).picture).any(axis=(0, 2))
        hand = 200 + figure.height * 180 * float(body(figure, time_s).hands[0][0])
        return float(np.flatnonzero(changed).mean()) - hand

    assert all(abs(ahead_of_hand(time)) < 8 for time in (AT - 0.1, AT - 0.04, AT))
    assert ahead_of_hand(AT + 0.08) > 35


def test_drawn_jump_is_highest_in_the_frame_of_the_truth() -> None:
    clip = Clip(size=(160, 180), fps=30, duration=3, objects=(replace(acting("jump"), height=0.55),))
    tops = {frame: rows_drawn(clip, frame)[0] for frame in range(48, 73, 2)}
    assert min(tops, key=lambda frame: tops[frame]) == 60
    (prediction,) = truth_of(clip).action_recognition({"jump": "7"})
    assert prediction == {
        "id": "7",
        "displayName": "jump",
        "timeSegmentStart": "2s",
        "timeSegmentEnd": "2s",
        "confidence": 1.0,
    }


@pytest.mark.parametrize("activity", ACTIVITIES)
def test_quiet_activities_keep_a_foot_on_the_ground_and_move_slowly(activity: Activity) -> None:
    figure = Figure(activity=activity)
    times = np.arange(0, 6, 0.05)
    bodies = [body(figure, time) for time in times]
    assert max(one.lowest() for one in bodies) < 0.025
    hands = np.array([one.hands for one in bodies])
    assert np.abs(np.diff(hands, axis=0)).max() / 0.05 < 1.4  # body heights a second; a throw reaches 4


@pytest.mark.parametrize("kind", ACTION_KINDS)
def test_every_action_is_fast_near_its_moment_and_documented(kind: ActionKind) -> None:
    ends = np.array(
        [
            [*one.hands, *one.ankles, one.head, one.hands[0] + 0.4 * one.club]
            for one in (body(acting(kind), AT - 0.3 + 0.05 * step) for step in range(7))
        ]
    )
    fastest = np.linalg.norm(np.diff(ends, axis=0), axis=2).max() / 0.05
    assert fastest > 1.2  # body heights a second
    assert kind in MOMENTS


def test_figure_rests_before_and_after_its_action() -> None:
    figure = acting("kick")
    quiet = Figure()
    action = figure.actions[0]
    for time in (action.start - 0.01, action.end + 0.01):
        assert figure.pose(time) == quiet.pose(time)
    assert figure.pose(AT) != quiet.pose(AT)


def test_walker_stops_for_its_action_and_walks_on() -> None:
    figure = Figure(actions=[Action("jump", 3.0)], activity="walk", pace=0.5)
    action = figure.actions[0]
    assert figure.walked(action.start) == pytest.approx(0.5 * action.start)
    assert figure.walked(action.start + 0.35) == pytest.approx(figure.walked(action.end - 0.35))
    assert figure.walked(action.end + 1) - figure.walked(action.end) == pytest.approx(0.5)


def test_same_seed_gives_the_same_pictures_and_another_seed_other_clothes() -> None:
    clip = Clip(size=(96, 96), fps=10, duration=1, seed=3, background="plain", objects=(Figure(),))
    picture = Stage(clip).frame(4).picture
    assert np.array_equal(picture, Stage(clip).frame(4).picture)
    looks = {random_look(np.random.default_rng(seed)) for seed in range(5)}
    assert len(looks) == 5


def test_mirrored_figure_is_the_mirror_image() -> None:
    clip = Clip(size=(200, 160), fps=10, duration=3, background="plain", objects=(acting("kick"),))
    mirrored = replace(clip, objects=(replace(acting("kick"), faces_left=True),))
    picture, other = (Stage(one).frame(20).picture.astype(int) for one in (clip, mirrored))
    assert np.abs(picture - other[:, ::-1]).mean() < 1.5
    assert np.abs(picture - other).mean() > 3


def test_figure_outside_the_picture_draws_nothing() -> None:
    clip = Clip(size=(96, 96), fps=10, duration=1, objects=(Figure(position=(3.0, 0.9)),))
    assert np.array_equal(Stage(clip).frame(0).picture, Stage(replace(clip, objects=())).frame(0).picture)


def test_figures_and_objects_of_a_clip_share_one_truth() -> None:
    figures = (acting("throw"), Figure(actions=[Action("swing", 1.0)], position=(0.8, 0.9)))
    truth = truth_of(Clip(size=(96, 64), fps=5, duration=3, objects=figures))
    assert [(one["displayName"], one["timeSegmentStart"]) for one in truth.action_recognition()] == [
        ("swing", "1s"),
        ("throw", "2s"),
    ]
    assert truth.object_tracking() == []


def test_documentation_clip_shows_the_documented_actions() -> None:
    truth = truth_of(replace(action_documentation_clip(), size=(64, 36), fps=5))
    rows = [
        (one["displayName"], one["timeSegmentStart"], one["timeSegmentEnd"])
        for one in truth.action_recognition()
    ]
    assert rows == [("swing", "1.200s", "1.200s"), ("jump", "3.400s", "3.400s")]


def test_pose_survives_the_way_through_a_vector() -> None:
    pose = Pose(lift=0.1, right_hand=(1.0, 2.0, 3.0), plane=12.0)
    assert Pose.from_vector(pose.vector()) == pose


def test_bones_keep_their_length_in_every_pose() -> None:
    for kind in ACTION_KINDS:
        for time in np.arange(0.8, 3.2, 0.1):
            one = body(acting(kind, 1.0), float(time))
            for hip, knee, ankle in zip(one.hips, one.knees, one.ankles, strict=True):
                assert np.linalg.norm(knee - hip) == pytest.approx(0.245)
                assert np.linalg.norm(ankle - knee) == pytest.approx(0.245)


def refused(make: object, *words: str) -> None:
    with pytest.raises(FactoryError) as caught:
        make()  # type: ignore[operator]  # a thunk
    assert all(word in str(caught.value) for word in words)


def test_bad_arguments_are_refused_with_value_and_remedy() -> None:
    refused(lambda: Action("hop", 1.0), "'hop'", "swing, jump, kick, throw")  # type: ignore[arg-type]
    refused(lambda: Action("jump", -1.0), "-1.0 s", "0 or more")
    refused(lambda: Action("jump", float("nan")), "nan s")
    refused(lambda: Action("jump", 1.0, speed=9), "9", "0.5 to 2")
    refused(lambda: Action("jump", 1.0, variant=-1), "-1", "0 to 1")
    refused(lambda: Figure(activity="sleep"), "'sleep'", "stand")  # type: ignore[arg-type]
    refused(lambda: Figure(height=0), "0", "0.02 to 4")


def test_overlapping_actions_of_one_figure_are_refused_with_the_earliest_time_possible() -> None:
    refused(lambda: Figure(actions=[Action("swing", 1.2), Action("jump", 2.0)]), "overlap", "2.94 s or later")
    Figure(actions=[Action("swing", 1.2), Action("jump", 2.95)])


def test_action_after_the_end_of_the_clip_is_refused() -> None:
    refused(
        lambda: Clip(duration=2.0, objects=(Figure(actions=[Action("jump", 2.5)]),)), "jump", "2.5 s", "2.0 s"
    )


def test_look_can_be_chosen() -> None:
    look = random_look(np.random.default_rng(0))
    red = replace(look, shirt=(0, 0, 255))
    assert isinstance(red, Look)
    picture = Stage(Clip(size=(64, 96), duration=1, objects=(Figure(look=red, height=0.9),))).frame(0).picture
    assert ((picture == (0, 0, 255)).all(axis=2)).sum() > 100
