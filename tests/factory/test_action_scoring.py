"""Scores of action recognition: who is matched with whom, and what counts as false or missed."""

from __future__ import annotations

import pytest

from emulator.factory import Moment, Truth
from emulator.factory.action_scoring import ActionScore, score_actions

TRUTH = Truth(None, 6_000_000, (), (Moment("swing", 1.2), Moment("jump", 3.4)))


def predicted(*moments: tuple[str, str]) -> list[dict[str, str]]:
    return [{"displayName": label, "timeSegmentStart": time} for label, time in moments]


def test_the_truth_itself_scores_one() -> None:
    score = score_actions(TRUTH, TRUTH.action_recognition())
    assert (score.right, score.false, score.missed, score.f1, score.mean_error) == (2, 0, 0, 1.0, 0.0)


def test_moments_within_the_tolerance_are_right() -> None:
    score = score_actions(TRUTH, predicted(("swing", "1.4s"), ("jump", "3.180s")))
    assert (score.right, score.false, score.missed) == (1, 1, 1)
    assert score.errors == pytest.approx((0.2,))
    assert score_actions(TRUTH, predicted(("jump", "3.180s")), tolerance=0.3).right == 1


def test_f1_falls_with_the_tolerance_as_if_it_had_been_scored_so() -> None:
    found = predicted(("swing", "1.250s"), ("swing", "1.1s"), ("jump", "3.530s"))
    score = score_actions(TRUTH, found)
    assert [score.f1_within(tolerance) for tolerance in (0.01, 0.05, 0.2)] == pytest.approx([0, 0.4, 0.8])
    for tolerance in (0.01, 0.05, 0.1, 0.13, 0.2):
        assert score.f1_within(tolerance) == score_actions(TRUTH, found, tolerance=tolerance).f1


def test_another_label_is_false_and_the_action_missed() -> None:
    score = score_actions(TRUTH, predicted(("kick", "1.2s"), ("jump", "3.4s")))
    assert (score.right, score.false, score.missed, score.f1) == (1, 1, 1, 0.5)


def test_an_action_is_found_once_and_the_nearest_prediction_takes_it() -> None:
    score = score_actions(TRUTH, predicted(("swing", "1.1s"), ("swing", "1.250s"), ("jump", "3.4s")))
    assert (score.right, score.false) == (2, 1)
    assert sorted(score.errors) == pytest.approx([0.0, 0.05])


def test_scores_add_up_over_clips() -> None:
    total = score_actions(TRUTH, []) + score_actions(TRUTH, TRUTH.action_recognition())
    assert (total.right, total.predicted, total.expected) == (2, 2, 4)
    assert total.f1 == pytest.approx(2 / 3)
    assert ActionScore().f1 == 1.0
