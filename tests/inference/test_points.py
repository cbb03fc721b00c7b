"""Sets of points against Python's own sets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emulator.inference.points import Points
from emulator.inference.video import GridPoints, spans_of

RANGES = st.lists(st.tuples(st.integers(-30, 30), st.integers(-30, 30)), max_size=6)


def members(ranges: list[tuple[int, int]]) -> set[int]:
    return {point for first, last in ranges for point in range(first, last + 1)}


@given(RANGES, RANGES, st.integers(-40, 40))
def test_they_are_sets_of_whole_numbers(
    ranges: list[tuple[int, int]], others: list[tuple[int, int]], at: int
) -> None:
    points, there = Points(ranges), members(ranges)
    assert members(points.ranges) == there
    assert bool(points) == bool(there)
    gaps = [after[0] - before[1] for before, after in zip(points.ranges, points.ranges[1:], strict=False)]
    assert all(gap > 1 for gap in gaps)
    assert points.at_or_after(at) == min((point for point in there if point >= at), default=None)
    assert points.at_or_before(at) == max((point for point in there if point <= at), default=None)
    assert points.rank(at) == sum(point <= at for point in there)
    assert members(points.until(at).ranges) == {point for point in there if point <= at}
    assert members(points.minus(Points(others)).ranges) == there - members(others)
    assert points.contains(at, at + 3) == ({at, at + 1, at + 2, at + 3} <= there)


@given(st.lists(st.tuples(st.integers(0, 60), st.none() | st.integers(0, 60)), max_size=4), st.integers(1, 9))
def test_spans_of_points_hold_these_points(spans: list[tuple[int, int | None]], interval_us: int) -> None:
    points = GridPoints(interval_us, spans)
    assert GridPoints(interval_us, spans_of(points, interval_us)).ranges == points.ranges
