"""The tracking score counts what it says it counts."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from emulator.factory import Clip, Object, Shape, Truth, score_tracking, truth_of

CAT = Object("cat", 0.2, 1.1, [(0.1, 0.2, 0.4, 0.6)])
DOG = Object("dog", 0.5, 0.9, [(0.5, 0.2, 0.9, 0.6)])


@pytest.fixture(scope="module")
def truth() -> Truth:
    return truth_of(Clip(size=(160, 120), fps=10, duration=1.5, background="plain", objects=[CAT, DOG]))


@pytest.fixture
def perfect(truth: Truth) -> list[dict[str, Any]]:
    return copy.deepcopy(truth.object_tracking())


def test_truth_scores_perfectly_against_itself(truth: Truth, perfect: list[dict[str, Any]]) -> None:
    score = score_tracking(truth, perfect)
    assert (score.precision, score.recall, score.track_f1, score.mean_iou) == (1, 1, 1, 1)
    assert (score.expected, score.tracks_expected, score.id_switches) == (15, 2, 0)


def test_scores_add_up(truth: Truth, perfect: list[dict[str, Any]]) -> None:
    both = score_tracking(truth, perfect) + score_tracking(truth, [])
    assert (both.precision, both.recall) == (1.0, 0.5)
    assert both.track_f1 == pytest.approx(2 / 3)


def test_wrong_label_is_neither_found_nor_precise(truth: Truth, perfect: list[dict[str, Any]]) -> None:
    perfect[1]["displayName"] = "cat"
    score = score_tracking(truth, perfect)
    assert (score.right, score.predicted, score.expected, score.tracks_right) == (10, 15, 15, 1)


def test_box_that_overlaps_by_less_than_half_is_wrong(truth: Truth, perfect: list[dict[str, Any]]) -> None:
    for frame in perfect[0]["frames"]:
        frame["xMin"] += 0.2
        frame["xMax"] += 0.2
    assert score_tracking(truth, perfect).right == 5


def test_second_box_on_one_object_is_wrong(truth: Truth, perfect: list[dict[str, Any]]) -> None:
    score = score_tracking(truth, [*perfect, perfect[1]])
    assert (score.right, score.predicted, score.tracks_predicted) == (15, 20, 3)


def test_track_broken_in_two_is_one_switch_and_keeps_the_longer_half(
    truth: Truth, perfect: list[dict[str, Any]]
) -> None:
    rest = {**perfect[0], "frames": perfect[0]["frames"][7:]}
    perfect[0]["frames"] = perfect[0]["frames"][:7]
    score = score_tracking(truth, [*perfect, rest])
    assert (score.id_switches, score.tracks_right, score.tracks_predicted, score.recall) == (1, 2, 3, 1)


def test_hardly_visible_object_is_neither_demanded_nor_punished() -> None:
    wall = Shape("box", 0.0, 1.5, [(0.0, 0.0, 0.32, 1.0)])
    truth = truth_of(Clip(size=(160, 120), fps=10, duration=1.5, background="plain", objects=[CAT, wall]))
    visible = [frame.visible for track in truth.tracks for frame in track.frames]
    assert visible
    assert all(0.15 <= share < 0.3 for share in visible)
    score = score_tracking(truth, truth.object_tracking())
    assert (score.expected, score.predicted, score.tracks_expected) == (0, 0, 0)
