"""Peaks of scores over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from emulator.inference.peaks import Peak, PeakFinder, strongest


def peaks_of(scores: Sequence[float], least: float = 0.5, smooth: int = 1) -> list[tuple[float, float]]:
    finder = PeakFinder(1, least, smooth)
    for score in scores:
        finder.add(np.array([score], np.float32))
    return [(round(peak.position, 3), round(peak.height, 3)) for peak in finder.finish()]


@pytest.mark.parametrize(
    ("scores", "peaks"),
    [
        ([], []),
        ([0.1, 0.2, 0.4, 0.2], []),
        ([0, 0.6, 0.9, 0.6, 0], [(2, 0.9)]),
        ([0, 0.7, 0.9, 0.5, 0], [(1.833, 0.9)]),  # the parabola leans to the higher neighbour
        ([0, 0.9, 0.9, 0.9, 0.1], [(2, 0.9)]),  # a level summit: its middle
        ([0, 0.9, 0.9, 0.1], [(1.5, 0.9)]),
        ([0.9, 0.8, 0.1], [(0, 0.9)]),
        ([0.1, 0.8, 0.9], [(2, 0.9)]),
        ([0.7], [(0, 0.7)]),
        ([0.7, 0.7, 0.7], [(1, 0.7)]),
        ([0.1, 0.8, 0.1, 0.1, 0.9, 0.1], [(1, 0.8), (4, 0.9)]),
        ([0.1, 0.6, 0.6, 0.8, 0.1], [(2.722, 0.8)]),  # a step on the way up is no summit
        ([0.9, 0.7, 0.7, 0.1], [(0, 0.9)]),  # nor one on the way down
    ],
)
def test_peaks_are_where_the_score_turns(scores: list[float], peaks: list[tuple[float, float]]) -> None:
    assert peaks_of(scores) == peaks


@pytest.mark.parametrize("count", range(1, 9))
@pytest.mark.parametrize("smooth", [1, 3, 5])
def test_smoothing_averages_over_what_there_is(count: int, smooth: int) -> None:
    scores = np.random.default_rng(count).random(count)
    half = smooth // 2
    smoothed = [scores[max(0, k - half) : k + half + 1].mean() for k in range(count)]
    found = np.array(peaks_of(scores.tolist(), 0.0, smooth))
    np.testing.assert_allclose(found, np.array(peaks_of(smoothed, 0.0)), atol=2e-3)


def test_classes_are_independent() -> None:
    finder = PeakFinder(2, 0.5)
    for row in ([0.1, 0.9], [0.8, 0.2], [0.1, 0.1], [0.1, 0.7]):
        finder.add(np.array(row, np.float32))
    found = [(peak.class_index, peak.position) for peak in finder.finish()]
    assert found == [(1, 0.0), (0, pytest.approx(1.0)), (1, 3.0)]


def test_of_near_peaks_of_one_class_the_highest_stays() -> None:
    peaks = [Peak(0, 1, 0.7), Peak(0, 3, 0.9), Peak(0, 5, 0.8), Peak(0, 6.5, 0.6), Peak(1, 3, 0.5)]
    kept = [(peak.class_index, peak.position) for peak in strongest(peaks, apart=3)]
    assert kept == [(0, 3), (1, 3), (0, 6.5)]


def test_of_very_many_peaks_those_stay_that_no_higher_one_is_near() -> None:
    rng = np.random.default_rng(3)
    peaks = [
        Peak(int(label), float(position), float(height))
        for label, position, height in zip(
            rng.integers(0, 3, 400), rng.uniform(0, 300, 400).round(1), rng.uniform(0, 1, 400), strict=True
        )
    ]
    kept: list[Peak] = []
    for peak in sorted(peaks, key=lambda one: -one.height):
        if all(
            one.class_index != peak.class_index or abs(one.position - peak.position) >= 2.5 for one in kept
        ):
            kept.append(peak)
    assert strongest(peaks, 2.5) == sorted(kept, key=lambda one: (one.position, one.class_index))
    # Three hours of them: comparing each with each would not come to an end here.
    many = [Peak(0, 1.5 * number, 0.5 + 0.1 * (number % 2)) for number in range(60_000)]
    assert len(strongest(many, 2.0)) == 30_000
