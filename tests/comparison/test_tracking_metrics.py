"""HOTA, IDF1 and MOTA of answers short enough to be counted by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from emulator.comparison.metrics.tracking import Figures, Moment, figures


def moments(rows: Sequence[tuple[Sequence[int], Sequence[int], Sequence[Sequence[float]]]]) -> list[Moment]:
    return [
        Moment(
            np.array(true, np.int64),
            np.array(seen, np.int64),
            np.array(overlap, np.float64).reshape(len(true), len(seen)),
        )
        for true, seen, overlap in rows
    ]


def assert_figures(found: Figures, hota: float, idf1: float, mota: float) -> None:
    assert (found.hota, found.idf1, found.mota) == pytest.approx((hota, idf1, mota))


def test_a_perfect_answer_is_one_whatever_the_ids_are_called() -> None:
    rows = [([0, 1], [7, 3], [[1, 0.2], [0.2, 1]])] * 3
    assert_figures(figures(moments(rows)), 1, 1, 1)


def test_an_object_under_two_ids() -> None:
    """Each of its 4 boxes shares an id with 2: association 2/4. One change of identity in 4 boxes."""
    rows = [([0], [1], [[1]])] * 2 + [([0], [2], [[1]])] * 2
    assert_figures(figures(moments(rows)), math.sqrt(0.5), 0.5, 0.75)


def test_two_objects_that_swap_ids() -> None:
    """Each box: 2 right together, 2 missing, 2 of the other object: 2/6. Two changes in 8 boxes."""
    rows = [([0, 1], [1, 2], [[1, 0], [0, 1]])] * 2 + [([0, 1], [1, 2], [[0, 1], [1, 0]])] * 2
    assert_figures(figures(moments(rows)), math.sqrt(1 / 3), 0.5, 0.75)


def test_a_miss_and_a_false_box() -> None:
    """3 of 4 found, 1 false: detection 3/5, association 3/4, identity 2*3/8."""
    rows = [([0], [1], [[1]])] * 3 + [([0], [9], [[0]])]
    assert_figures(figures(moments(rows)), math.sqrt(3 / 5 * 3 / 4), 0.75, 0.5)


def test_hota_asks_for_every_overlap_the_others_for_half() -> None:
    """0.6 reaches 12 of the 19 thresholds from 0.05 to 0.95."""
    assert_figures(figures(moments([([0], [1], [[0.6]])] * 5)), 12 / 19, 1, 1)
    assert_figures(figures(moments([([0], [1], [[0.4]])] * 5)), 8 / 19, 0, -1)


def test_a_pair_stays_together_while_it_overlaps_enough() -> None:
    """In the second frame another box fits better; MOTA counts it as false, not as a change of identity."""
    rows = [([0], [1], [[0.9]]), ([0], [1, 2], [[0.6, 0.8]])]
    assert figures(moments(rows)).mota == pytest.approx(1 - 1 / 2)


def test_frames_without_objects_or_without_an_answer_count() -> None:
    rows = [([0], [1], [[1]]), ([], [1], []), ([0], [], []), ([], [], [])]
    assert_figures(figures(moments(rows)), math.sqrt(1 / 3 * 1 / 3), 0.5, 0)
