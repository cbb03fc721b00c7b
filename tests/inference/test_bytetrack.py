"""ByteTrack on made-up detections: who is who."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest

from emulator.inference.association import assign, to_center
from emulator.inference.bytetrack import ByteTrack
from emulator.inference.heads import Detections
from emulator.inference.objectives.object_tracking import TRACKERS
from emulator.inference.sections import TrackerSection
from tests.inference.boxes import STEP_US, Seen, detections


def follow(frames: Sequence[Sequence[Seen]], **settings: float) -> list[list[int]]:
    """The ids of each frame's detections; frames are a tenth of a second apart."""
    tracker = ByteTrack(TrackerSection(**settings))  # type: ignore[arg-type]
    return [tracker.update(detections(frame), k * STEP_US).tolist() for k, frame in enumerate(frames)]


def test_ids_begin_at_one_and_stay() -> None:
    frames = [[(0.2 + 0.01 * k, 0.5, 0.9, 0), (0.8 - 0.01 * k, 0.5, 0.9, 0)] for k in range(10)]
    assert follow(frames) == [[1, 2]] * 10


def test_ids_do_not_depend_on_the_order_of_the_detections() -> None:
    frames = []
    for k in range(10):
        pair = [(0.2 + 0.01 * k, 0.5, 0.9, 0), (0.8 - 0.01 * k, 0.5, 0.9, 0)]
        frames.append(pair if k % 2 == 0 else pair[::-1])
    assert follow(frames) == [[1, 2] if k % 2 == 0 else [2, 1] for k in range(10)]


def test_a_fast_object_is_followed_from_its_second_sighting() -> None:
    """It moves by more than its width from sample to sample, so that its boxes never overlap."""
    frames: list[list[Seen]] = [[(0.05 + 0.12 * k, 0.5, 0.95, 0)] for k in range(8)]
    assert follow(frames) == [[1]] * 8


def test_objects_that_cross_keep_their_ids() -> None:
    frames = [[(0.2 + 0.03 * k, 0.48, 0.9, 0), (0.8 - 0.03 * k, 0.55, 0.9, 0)] for k in range(20)]
    assert follow(frames) == [[1, 2]] * 20


@pytest.mark.parametrize("gap", [1, 5, 9])
def test_a_moving_object_is_found_again_after_an_occlusion(gap: int) -> None:
    frames: list[list[Seen]] = [[(0.1 + 0.02 * k, 0.5, 0.9, 0)] for k in range(30)]
    for k in range(12, 12 + gap):
        frames[k] = []
    ids = follow(frames)
    assert [row for row in ids if row] == [[1]] * (30 - gap)


def test_an_object_gone_for_longer_than_the_buffer_is_another_one() -> None:
    there: list[Seen] = [(0.5, 0.5, 0.9, 0)]
    frames = [there] * 5 + [[]] * 10 + [there] * 3
    assert follow(frames, buffer=1.0)[15:] == [[2]] * 3
    assert follow(frames, buffer=1.2)[15:] == [[1]] * 3


def test_classes_never_share_a_track_however_they_overlap() -> None:
    frames: list[list[Seen]] = [[(0.5, 0.5, 0.9, k % 2)] for k in range(6)]
    ids = follow(frames)
    by_class = [{ids[k][0] for k in range(6) if k % 2 == parity} - {0} for parity in (0, 1)]
    assert not by_class[0] & by_class[1]
    both: list[list[Seen]] = [[(0.5, 0.5, 0.9, 0), (0.51, 0.5, 0.8, 1)]] * 5
    assert follow(both) == [[1, 2]] * 5


def test_a_detector_that_wavers_between_classes_begins_no_second_track() -> None:
    frames: list[list[Seen]] = [[(0.5, 0.5, 0.9, 0)] for _ in range(8)]
    frames[3] = [(0.5, 0.5, 0.7, 0), (0.5, 0.5, 0.9, 1)]
    frames[5] = [(0.5, 0.5, 0.9, 1)]
    assert follow(frames) == [[1], [1], [1], [1, 0], [1], [0], [1], [1]]
    assert follow(frames, rival_iou=1.0)[3] == [1, 2]
    apart: list[Seen] = [(0.5, 0.5, 0.9, 0), (0.53, 0.5, 0.9, 1)]
    assert follow([frames[0], frames[1], apart])[2] == [1, 2]


def test_a_weak_detection_continues_a_track_but_begins_none() -> None:
    frames: list[list[Seen]] = [[(0.5, 0.5, score, 0)] for score in (0.9, 0.9, 0.3, 0.2, 0.05, 0.3, 0.9)]
    # 0.05 is below `low`; after it the track is lost, but not for long.
    assert follow(frames) == [[1], [1], [1], [1], [0], [1], [1]]
    assert follow([[(0.5, 0.5, 0.55, 0)]] * 4) == [[0]] * 4


def test_a_score_that_is_a_threshold_has_reached_it() -> None:
    assert follow([[(0.5, 0.5, 0.75, 0)]] * 2, new=0.75) == [[1]] * 2
    weak: list[list[Seen]] = [[(0.5, 0.5, score, 0)] for score in (0.9, 0.9, 0.25, 0.24)]
    assert follow(weak, low=0.25) == [[1], [1], [1], [0]]
    # A second detection has to be a strong one.
    assert follow([[(0.5, 0.5, 0.9, 0)], [(0.5, 0.5, 0.5, 0)]], high=0.5) == [[1], [1]]


def test_a_weak_detection_confirms_no_new_track() -> None:
    frames: list[list[Seen]] = [[(0.5, 0.5, score, 0)] for score in (0.9, 0.3, 0.9)]
    assert follow(frames) == [[1], [0], [2]]


def test_a_strong_detection_is_held_to_the_overlap_of_the_first_stage() -> None:
    there: Seen = (0.5, 0.5, 1.0, 0)
    beside: Seen = (0.53, 0.5, 1.0, 0)  # they overlap by 0.54
    frames: list[list[Seen]] = [[there]] * 3 + [[beside]]
    assert follow(frames, match_iou=0.9, second_iou=0.2)[3] == [2]
    assert follow(frames, match_iou=0.5, second_iou=0.2)[3] == [1]


@pytest.mark.parametrize(("distance", "found_again"), [(0.03, 2), (0.02, 2), (0.005, 3)])
def test_a_lost_track_is_dropped_only_where_it_is_the_same_as_a_live_one(
    distance: float, found_again: int
) -> None:
    """Two objects overlap by 0.54, 0.67 and 0.90; then one of them is not seen for a while."""
    one: Seen = (0.5, 0.5, 0.9, 0)
    other: Seen = (0.5 + distance, 0.5, 0.9, 0)
    frames: list[list[Seen]] = [[one, other]] * 3 + [[one]] * 2 + [[one, other]]
    assert follow(frames)[5] == [1, found_again]


def test_a_lost_object_is_not_taken_to_grow() -> None:
    """It has grown by a fiftieth of the picture from sample to sample, and comes back as it went."""
    sizes = [0.1 + 0.02 * min(k, 8) for k in range(16)]
    tracker = ByteTrack(TrackerSection(match_iou=0.7, lost_iou=1.0))
    ids = [
        tracker.update(detections([(0.5, 0.5, 1.0, 0)] if not 9 <= k < 15 else [], width=size), k * STEP_US)
        for k, size in enumerate(sizes)
    ]
    assert [row.tolist() for row in ids] == [[1]] * 9 + [[]] * 6 + [[1]]


def test_boxes_keep_their_measures_within_bounds() -> None:
    boxes = [
        ([-0.5, -0.25, 1.5, 2.0], [0.5, 0.875, 2.0, 2.25]),  # beyond the picture on every side
        ([0.5, 0.5, 0.515625, 0.53125], [0.5078125, 0.515625, 0.015625, 0.03125]),
        ([-9, -4, 9, 4.5], [0, 0, 8, 8]),
        ([0.5, 0.25, 0.5, 0.25], [0.5, 0.25, 1e-6, 1e-6]),
    ]
    centers = to_center(np.array([box for box, _ in boxes], np.float32))
    np.testing.assert_array_equal(centers.T, np.array([center for _, center in boxes]))


def test_no_detection_is_given_to_two_tracks() -> None:
    def taken(rows: list[int], columns: list[int], weights: list[float]) -> list[int]:
        return list(assign(np.array(rows), np.array(columns), np.array(weights), 0.1))

    assert taken([0, 1], [0, 0], [0.8, 0.9]) == [1]
    assert taken([0, 0], [0, 1], [0.8, 0.7]) == [0]
    assert taken([0, 0, 1, 2], [0, 1, 0, 2], [0.9, 0.8, 0.85, 0.2]) == [1, 2, 3]


def test_strong_detections_are_matched_before_weak_ones() -> None:
    there: list[Seen] = [(0.5, 0.5, 0.9, 0)]
    weak_and_strong: list[Seen] = [(0.5, 0.5, 0.3, 0), (0.52, 0.5, 0.9, 0)]
    assert follow([there, there, there, weak_and_strong])[3] == [0, 1]


def test_an_object_of_a_single_frame_has_an_id_of_its_own() -> None:
    frames: list[list[Seen]] = [[(0.2, 0.5, 0.9, 0)] for _ in range(6)]
    frames[3] = [(0.2, 0.5, 0.9, 0), (0.8, 0.5, 0.95, 0)]
    assert follow(frames) == [[1], [1], [1], [1, 2], [1], [1]]


def test_a_new_track_that_is_not_confirmed_at_once_is_given_up() -> None:
    frames: list[list[Seen]] = [[], [(0.5, 0.5, 0.9, 0)], [], [(0.5, 0.5, 0.9, 0)]]
    assert follow(frames) == [[], [1], [], [2]]


def test_crowded_rivals_are_paired_for_the_greatest_total_overlap() -> None:
    # Each detection overlaps both tracks; taking the single best pair first would lose the other object.
    start: list[Seen] = [(0.50, 0.5, 0.9, 0), (0.56, 0.5, 0.9, 0)]
    moved: list[Seen] = [(0.47, 0.5, 0.9, 0), (0.52, 0.5, 0.9, 0)]
    assert follow([start, start, start, moved])[3] == [1, 2]


def test_times_may_be_uneven() -> None:
    tracker = ByteTrack(TrackerSection())
    times = [0.0, 0.1, 0.2, 0.25, 0.5, 0.55, 0.9, 1.0]
    ids = [
        tracker.update(detections([(0.1 + 0.4 * seconds, 0.5, 0.9, 0)], width=0.06), round(seconds * 1e6))[0]
        for seconds in times
    ]
    assert ids == [1] * len(times)


def test_time_must_not_go_back() -> None:
    tracker = ByteTrack(TrackerSection())
    tracker.update(detections([]), 100_000)
    with pytest.raises(ValueError, match="not after"):
        tracker.update(detections([]), 100_000)


def test_reset_forgets_everything() -> None:
    tracker = ByteTrack(TrackerSection())
    tracker.update(detections([(0.5, 0.5, 0.9, 0), (0.2, 0.5, 0.9, 0)]), 100_000)
    tracker.reset()
    assert tracker.update(detections([(0.2, 0.5, 0.9, 0)]), 0).tolist() == [1]


def test_trackers_count_for_themselves() -> None:
    first, second = ByteTrack(TrackerSection()), ByteTrack(TrackerSection())
    assert first.update(detections([(0.5, 0.5, 0.9, 0)]), 0).tolist() == [1]
    assert second.update(detections([(0.5, 0.5, 0.9, 0)]), 0).tolist() == [1]


def test_a_thousand_objects_do_not_stall_it() -> None:
    rng = np.random.default_rng(1)
    crowd = [(*rng.random(2).tolist(), 0.9, 0.0) for _ in range(1000)]
    tracker = ByteTrack(TrackerSection())
    began = time.process_time()
    for k in range(3):
        ids = tracker.update(detections(crowd, 0.01, 0.01), k * STEP_US)
    assert len(set(ids.tolist())) == 1000
    assert time.process_time() - began < 5


@pytest.mark.parametrize("kind", TRACKERS)
def test_boxes_beyond_all_measure_and_points_are_followed(kind: str) -> None:
    boxes = np.array(
        [
            [-1e30, -1e30, 1e30, 1e30],  # what an exponential in a graph may come to
            [0.3, 0.3, 0.3, 0.3],
            [0.6, 0.6, 0.7, 0.7],
        ],
        np.float32,
    )
    found = Detections(boxes, np.full(3, 0.9, np.float32), np.zeros(3, np.int64))
    tracker = TRACKERS[kind](TrackerSection(kind=kind))
    assert [tracker.update(found, k * STEP_US).tolist() for k in range(5)] == [[1, 2, 3]] * 5


def test_tracking_is_repeatable() -> None:
    rng = np.random.default_rng(7)
    frames = [
        [(*rng.random(2).tolist(), float(rng.uniform(0.1, 1)), 0.0) for _ in range(30)] for _ in range(20)
    ]
    assert follow(frames) == follow(frames)


def behind_a_pillar(left: float, right: float) -> list[Detections]:
    """Something walks past a pillar that cuts off its box, and hides all of it for six samples."""
    frames = []
    for k in range(30):
        found = detections([(0.1 + 0.02 * k, 0.5, 0.9, 0)] if not 9 <= k < 15 else [])
        if k < 9:
            found.boxes[:, 2] = np.minimum(found.boxes[:, 2], left)
        else:
            found.boxes[:, 0] = np.maximum(found.boxes[:, 0], right)
        frames.append(found)
    return frames


@pytest.mark.parametrize(("lost_iou", "ids"), [(0.15, {1}), (1.0, {1, 2})])
def test_what_goes_behind_a_pillar_comes_out_as_itself(lost_iou: float, ids: set[int]) -> None:
    """Its last box before and its first one after are slivers, a pillar's width apart."""
    frames = behind_a_pillar(left=0.235, right=0.37)
    assert frames[8].boxes[0, 2] - frames[8].boxes[0, 0] < 0.03
    tracker = ByteTrack(TrackerSection(lost_iou=lost_iou))
    found = [tracker.update(frame, k * STEP_US).tolist() for k, frame in enumerate(frames)]
    assert {number for row in found for number in row} == ids


@pytest.mark.parametrize("reappears", [(0.55, 0.5, 0.9, 0), (0.35, 0.5, 0.9, 1)])
def test_what_appears_elsewhere_or_of_another_class_is_not_the_lost_object(reappears: Seen) -> None:
    before: list[Seen] = [(0.3, 0.5, 0.9, 0)]
    frames = [*[before] * 6, *[[]] * 3, *[[reappears]] * 4]
    assert follow(frames)[-1] == [2]
