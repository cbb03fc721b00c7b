"""The rule: as many pairs as possible, each of which fits; and expected files that say the same again."""

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from emulator.comparison.lines import Expectations, Tolerance, as_line, expected_of, found_of
from emulator.comparison.matching import Action, Expected, Found, Label, Track, differences, mean_iou, pairs
from emulator.comparison.truth import Truth
from emulator.vertex.objectives.classification import SHOT

TENTHS = st.integers(0, 6).map(lambda tenth: tenth / 10)
ACTIONS = st.builds(Action, st.sampled_from("ab"), TENTHS, st.sampled_from([0.0, 0.1, 0.25]))
FOUND = st.builds(lambda label, time: Found(label, time, time, 0.9), st.sampled_from("ab"), TENTHS)


@given(st.lists(ACTIONS, max_size=5), st.lists(FOUND, max_size=5))
def test_as_many_are_paired_as_possible(wanted: list[Action], found: list[Found]) -> None:
    given_to = pairs(wanted, found)
    assert len(set(given_to.values())) == len(given_to)
    assert all(not differences(wanted[one], found[place]) for one, place in given_to.items())
    places = [*range(len(found)), *[None] * len(wanted)]
    best = max(
        sum(
            place is not None and not differences(wanted[one], found[place])
            for one, place in enumerate(order)
        )
        for order in itertools.permutations(places, len(wanted))
    )
    assert len(given_to) == best


def test_long_chains_of_equal_predictions_are_paired() -> None:
    many = 3000
    wanted = [Action("a", number / 10, within=0.1) for number in range(many)]
    found = [Found("a", (number + 1) / 10, (number + 1) / 10, 1.0) for number in range(many)]
    assert len(pairs(wanted, found)) == many
    assert len(pairs(wanted[::-1], found)) == many


def test_expectations_are_the_same_when_read_again() -> None:
    wanted: list[Expected] = [
        Track("cat", 1.2, 3.4, 0.05, 0.7, {1.2: (0.1, 0.2, 0.3, 0.4), 3.4: (0.2, 0.2, 0.4, 0.4)}, 0.5),
        Track("dog", 0.0, 1234.567891, 0.1, 0.8),
        Action("swing", 2.766667, 0.2, 0.9),
        Label("bird", 0.0, 5.0, SHOT),
    ]
    expected = Expectations("file")
    for number, segment in enumerate([(0.0, math.inf), (1.0, 5.5)], start=1):
        expected.add(as_line("gs://b/[1].mp4", segment, wanted), number)
    for segment in [(0.0, math.inf), (1.0, 5.5)]:
        read = expected.of("gs://b/[1].mp4", segment, "object_tracking", ())
        assert read is not None
        assert [expected_of(one, Tolerance(9, 9)) for one in read] == wanted
    assert expected.of("gs://b/[1].mp4", (0.0, 5.5), "object_tracking", ()) is None
    assert expected.of("gs://b/1.mp4", (0.0, math.inf), "object_tracking", ()) is None


def test_truth_is_cut_to_the_segment() -> None:
    frames = [{"timeOffset": f"{tenth / 10}s"} for tenth in range(20)]
    track = {"displayName": "cat", "timeSegmentStart": "0s", "timeSegmentEnd": "1.9s", "frames": frames}
    moments = [
        {"displayName": "jump", "timeSegmentStart": time, "timeSegmentEnd": time} for time in ("1s", "3s")
    ]
    truth = Truth.read(
        {"duration": "4s", "cuts": ["1.500s"], "objectTracking": [track], "actionRecognition": moments}
    )
    (cut,) = truth.predictions("object_tracking", (0.5, 1.0), ())
    assert (cut["timeSegmentStart"], cut["timeSegmentEnd"], len(cut["frames"])) == ("0.5s", "0.9s", 5)
    assert truth.predictions("object_tracking", (2.0, math.inf), ()) == []
    assert truth.predictions("action_recognition", (2.0, math.inf), ()) == [moments[1]]
    shots = truth.predictions("classification", (1.0, math.inf), (SHOT,))
    assert [(one["timeSegmentStart"], one["timeSegmentEnd"]) for one in shots] == [
        ("1s", "1.500s"),
        ("1.500s", "4s"),
    ]


def test_members_that_are_left_out_are_zero() -> None:
    found = found_of({"displayName": "cat", "frames": [{"xMax": 0.5, "y_max": 0.5}, {"time_offset": "0.1s"}]})
    # The times of a track are those of its boxes.
    assert (found.start, found.end, found.confidence) == (0.0, 0.1, 0.0)
    assert found.boxes == {0.0: (0.0, 0.0, 0.5, 0.5), 0.1: (0.0, 0.0, 0.0, 0.0)}
    assert mean_iou({}, {}) == 0.0
