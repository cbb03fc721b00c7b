"""The plain tracker on made-up detections."""

from __future__ import annotations

import pytest

from emulator.inference.iou_tracker import IouTracker
from emulator.inference.sections import TrackerSection
from tests.inference.boxes import STEP_US, Seen, detections


def follow(frames: list[list[Seen]], **settings: float) -> list[list[int]]:
    tracker = IouTracker(TrackerSection(kind="iou", **settings))  # type: ignore[arg-type]
    return [tracker.update(detections(frame), k * STEP_US).tolist() for k, frame in enumerate(frames)]


def test_ids_begin_at_one_and_stay_with_what_overlaps() -> None:
    frames: list[list[Seen]] = [[(0.2 + 0.03 * k, 0.5, 0.9, 0), (0.8, 0.5, 0.9, 0)] for k in range(8)]
    assert follow(frames) == [[1, 2]] * 8
    assert follow([frame[:: 1 - 2 * (k % 2)] for k, frame in enumerate(frames)])[1] == [2, 1]


def test_what_does_not_overlap_its_last_box_is_another_object() -> None:
    frames: list[list[Seen]] = [[(0.2, 0.5, 0.9, 0)], [(0.31, 0.5, 0.9, 0)]]
    assert follow(frames) == [[1], [2]]
    nearer: list[list[Seen]] = [[(0.2, 0.5, 0.9, 0)], [(0.25, 0.5, 0.9, 0)]]
    assert follow(nearer) == [[1], [1]]
    assert follow(nearer, match_iou=0.4) == [[1], [2]]


def test_rivals_are_paired_for_the_greatest_total_overlap() -> None:
    start: list[Seen] = [(0.50, 0.5, 0.9, 0), (0.56, 0.5, 0.9, 0)]
    moved: list[Seen] = [(0.47, 0.5, 0.9, 0), (0.52, 0.5, 0.9, 0)]
    assert follow([start, moved])[1] == [1, 2]


def test_labels_never_share_a_track() -> None:
    assert follow([[(0.5, 0.5, 0.9, 0)], [(0.5, 0.5, 0.9, 1)]]) == [[1], [2]]


def test_a_weak_detection_continues_a_track_but_begins_none() -> None:
    frames: list[list[Seen]] = [[(0.5, 0.5, score, 0)] for score in (0.5, 0.7, 0.2, 0.05, 0.7)]
    assert follow(frames) == [[0], [1], [1], [0], [1]]


def test_an_object_gone_for_longer_than_the_buffer_is_another_one() -> None:
    frames: list[list[Seen]] = [[(0.5, 0.5, 0.9, 0)], *[[]] * 9, [(0.5, 0.5, 0.9, 0)]]
    assert follow(frames, buffer=1.0)[-1] == [2]
    assert follow(frames, buffer=1.1)[-1] == [1]


def test_an_object_of_two_frames_in_turn_was_never_gone_however_far_apart_they_are() -> None:
    tracker = IouTracker(TrackerSection(kind="iou", buffer=0.5))
    ids = [
        tracker.update(detections([(0.5, 0.5, 0.9, 0)]), second * 1_000_000).tolist() for second in range(4)
    ]
    assert ids == [[1]] * 4


def test_time_must_not_go_back() -> None:
    tracker = IouTracker(TrackerSection(kind="iou"))
    tracker.update(detections([]), 100_000)
    with pytest.raises(ValueError, match="not after"):
        tracker.update(detections([]), 100_000)


def test_reset_forgets_everything() -> None:
    tracker = IouTracker(TrackerSection(kind="iou"))
    tracker.update(detections([(0.5, 0.5, 0.9, 0), (0.2, 0.5, 0.9, 0)]), 100_000)
    tracker.reset()
    assert tracker.update(detections([(0.2, 0.5, 0.9, 0)]), 0).tolist() == [1]
