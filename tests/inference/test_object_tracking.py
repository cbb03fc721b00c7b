"""Tracking from an encoded video to predictions, with a real detector written by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from emulator.inference.manifest import ModelUnusable, load_manifest
from emulator.inference.objectives import open_predictor
from emulator.inference.predictor import Predictor, Segment
from emulator.inference.tracks import TrackHistory, to_predictions
from emulator.inference.video import VideoUnreadable
from emulator.vertex.instances import InstanceFailure
from emulator.vertex.objectives.object_tracking import ObjectTrack
from emulator.vertex.parameters import ModelParameters
from emulator.vertex.predictions import Prediction
from tests.conftest import decodes
from tests.inference.corpus import Clip, constant
from tests.inference.tiny_models import (
    BLACK,
    GREEN,
    RED,
    TRACKING_TOML,
    Picture,
    Watch,
    cell_box,
    squares,
    tracking_folder,
    write_clip,
    yolox_detector,
)

WHOLE = Segment(0, None)


def scene(seconds: float) -> Picture:
    """Red walks along row 2 from 0.5 s on; green stands at (0, 6) from 1 to 1.9 s; red at (6, 6) at 2.5 s."""
    placed = []
    step = round(seconds * 10)
    if step >= 5:
        placed.append((RED, min(6, (step - 5) // 4), 2))
    if 10 <= step < 20:
        placed.append((GREEN, 0, 6))
    if step == 25:
        placed.append((RED, 6, 6))
    return squares(*placed)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "scene.mp4", scene, seconds=4)


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return open_predictor(load_manifest(tracking_folder(tmp_path_factory.mktemp("model"))))


def predict(
    predictor: Predictor, video: Path, segments: Sequence[Segment] = (WHOLE,), **parameters: float
) -> dict[int, list[Prediction] | InstanceFailure]:
    found = predictor.predict(video, segments, ModelParameters(**parameters), Watch())  # type: ignore[arg-type]
    return dict(found)


def tracks(outcome: list[Prediction] | InstanceFailure) -> list[tuple[str, float, float, int]]:
    assert isinstance(outcome, list)
    rows = []
    for track in outcome:
        assert isinstance(track, ObjectTrack)
        times = [frame.time_us for frame in track.frames]
        assert times == list(range(times[0], times[-1] + 1, 100_000))
        rows.append((track.label.display_name, times[0] / 1e6, times[-1] / 1e6, len(times)))
    return sorted(rows)


def test_every_object_is_one_track_with_a_frame_every_tenth_second(tracker: Predictor, clip: Path) -> None:
    found = predict(tracker, clip)[0]
    assert tracks(found) == [("green", 1.0, 1.9, 10), ("red", 0.5, 3.9, 35), ("red", 2.5, 2.5, 1)]


def test_boxes_lie_where_the_object_is_drawn(tracker: Predictor, clip: Path) -> None:
    found = predict(tracker, clip)[0]
    assert isinstance(found, list)
    green = next(track for track in found if track.label.display_name == "green")
    assert isinstance(green, ObjectTrack)
    assert green.label.id == "2"
    for frame in green.frames:
        box = (frame.x_min, frame.y_min, frame.x_max, frame.y_max)
        assert box == pytest.approx(cell_box(0, 6), abs=1e-6)
    assert green.frames[0].x_min < 0.0  # not clamped to the frame


def test_the_most_confident_track_comes_first(tracker: Predictor, clip: Path) -> None:
    found = predict(tracker, clip)[0]
    assert isinstance(found, list)
    confidences = [track.confidence for track in found]
    assert confidences == sorted(confidences, reverse=True)
    assert all(0.8 < confidence <= 1 for confidence in confidences)


def test_equally_confident_tracks_come_by_time_and_then_by_class(tmp_path: Path) -> None:
    manifest = load_manifest(tracking_folder(tmp_path))
    box = np.array([0.1, 0.1, 0.2, 0.2], np.float32)
    histories = []
    # Class and the grid points of the two sightings; the last is more confident than the others.
    for class_index, first, score in ((1, 5, 0.5), (0, 5, 0.5), (1, 3, 0.5), (0, 7, 0.5), (0, 9, 0.75)):
        history = TrackHistory(class_index)
        for point in (first, first + 1):
            history.add(point, point, box, score)
        histories.append(history)
    expected = [("red", 900_000), ("green", 300_000), ("red", 500_000), ("green", 500_000), ("red", 700_000)]
    for given in (histories, histories[::-1]):
        found = to_predictions(given, manifest, ModelParameters())
        assert [(track.label.display_name, track.frames[0].time_us) for track in found] == expected
    # With room for one in each frame it is the first of them that has the frame.
    few = to_predictions(histories, manifest, ModelParameters(max_predictions=1))
    assert [(track.label.display_name, track.frames[0].time_us) for track in few] == [
        expected[0],
        expected[1],
        expected[2],
        expected[4],
    ]


def test_segment_bounds_are_half_open(tracker: Predictor, clip: Path) -> None:
    found = predict(tracker, clip, [Segment(1_200_000, 1_500_000)])[0]
    assert tracks(found) == [("green", 1.2, 1.4, 3), ("red", 1.2, 1.4, 3)]


def test_predictions_do_not_depend_on_the_other_segments(tracker: Predictor, clip: Path) -> None:
    segments = [
        Segment(800_000, 2_000_000),
        WHOLE,
        Segment(0, 600_000),
        Segment(1_550_000, None),
        Segment(800_000, 2_000_000),
        Segment(3_000_000, 3_000_001),
    ]
    together = predict(tracker, clip, segments)
    assert sorted(together) == list(range(len(segments)))
    for index, segment in enumerate(segments):
        assert together[index] == predict(tracker, clip, [segment])[0]


def test_segments_are_finished_as_the_video_passes_them(tracker: Predictor, clip: Path) -> None:
    watch = Watch()
    seen = []
    segments = [Segment(2_000_000, None), Segment(0, 500_000), Segment(300_000, 1_000_000)]
    for index, _ in tracker.predict(clip, segments, ModelParameters(), watch):
        seen.append((index, watch.times[-1]))
    assert seen == [(1, 400_000), (2, 900_000), (0, 3_900_000)]


def test_a_segment_past_the_end_fails_alone(tracker: Predictor, clip: Path) -> None:
    found = predict(tracker, clip, [Segment(60_000_000, None), Segment(4_050_000, 4_060_000), WHOLE])
    for index in (0, 1):
        failure = found[index]
        assert isinstance(failure, InstanceFailure)
        assert failure.code == 11
        assert "past the end" in failure.message
        assert "4.000s" in failure.message
    assert isinstance(found[2], list)


def test_a_segment_that_begins_after_the_last_grid_point_is_empty(tracker: Predictor, clip: Path) -> None:
    assert predict(tracker, clip, [Segment(3_960_000, None)])[0] == []
    failure = predict(tracker, clip, [Segment(4_000_001, None)])[0]
    assert isinstance(failure, InstanceFailure)
    assert "timeSegmentStart 4.000001s lies past the end" in failure.message


def test_a_segment_between_two_grid_points_has_no_predictions(tracker: Predictor, clip: Path) -> None:
    assert predict(tracker, clip, [Segment(1_210_000, 1_290_000)])[0] == []


@pytest.mark.parametrize("name", ["scene.mp4", "scene.ts"])
def test_a_segment_between_two_grid_points_is_empty_beside_another(
    tracker: Predictor, clip: Path, tmp_path: Path, name: str
) -> None:
    """The video is decoded as far as the other one needs it: where it ends is not known then."""
    video = clip if name == clip.name else _stream(tmp_path / name, seconds=2)
    for other in (Segment(0, 700_000), Segment(0, 1_200_000), Segment(1_300_000, None)):
        found = predict(tracker, video, [other, Segment(1_210_000, 1_290_000)])
        assert isinstance(found[0], list)
        assert found[1] == []


def test_a_slow_video_shows_each_frame_at_all_the_points_it_is_nearest_to(
    tracker: Predictor, tmp_path: Path
) -> None:
    video = write_clip(tmp_path / "slow.mp4", lambda _: squares((RED, 3, 3)), seconds=2, fps=4)
    assert tracks(predict(tracker, video)[0]) == [("red", 0.0, 1.9, 20)]


def test_a_slow_frame_serves_only_the_points_inside_each_segment(tracker: Predictor, tmp_path: Path) -> None:
    video = write_clip(tmp_path / "slow.mp4", lambda _: squares((RED, 3, 3)), seconds=2, fps=4)
    # The frame at 0.5 s is the nearest to 0.4, 0.5 and 0.6 s.
    found = predict(tracker, video, [WHOLE, Segment(0, 500_000), Segment(600_000, 1_000_000)])
    assert tracks(found[1]) == [("red", 0.0, 0.4, 5)]
    assert tracks(found[2]) == [("red", 0.6, 0.9, 4)]


def test_a_short_gap_is_bridged_and_a_long_one_ends_the_track(tracker: Predictor, tmp_path: Path) -> None:
    def blinking(seconds: float) -> Picture:
        step = round(seconds * 10)
        gone = 10 <= step < 15 or 20 <= step < 35
        return squares() if gone else squares((RED, 3, 3))

    video = write_clip(tmp_path / "gap.mp4", blinking, seconds=4.5)
    assert tracks(predict(tracker, video)[0]) == [("red", 0.0, 1.9, 20), ("red", 3.5, 4.4, 10)]


def test_max_predictions_limits_every_frame(tracker: Predictor, clip: Path) -> None:
    found = predict(tracker, clip, max_predictions=1)[0]
    assert isinstance(found, list)
    times = [frame.time_us for track in found if isinstance(track, ObjectTrack) for frame in track.frames]
    assert len(times) == len(set(times))
    assert len(times) == 35
    assert tracks(found)  # what remains on either side is uninterrupted again


def test_confidence_threshold_drops_whole_tracks(tracker: Predictor, clip: Path) -> None:
    found = predict(tracker, clip)[0]
    assert isinstance(found, list)
    highest = found[0].confidence
    assert predict(tracker, clip, confidence_threshold=highest)[0] == found[:1]
    assert predict(tracker, clip, confidence_threshold=1.0)[0] == []


def test_min_bounding_box_size_is_the_shortest_edge(tracker: Predictor, clip: Path) -> None:
    assert len(tracks(predict(tracker, clip, min_bounding_box_size=0.37)[0])) == 3
    assert predict(tracker, clip, min_bounding_box_size=0.38)[0] == []


def test_a_weak_single_sighting_is_not_a_track(tmp_path: Path) -> None:
    model = tracking_folder(tmp_path / "strict", TRACKING_TOML + "sure = 1.0\n")
    video = write_clip(
        tmp_path / "once.mp4",
        lambda seconds: squares((RED, 3, 3)) if round(seconds * 10) == 5 else squares(),
        seconds=1,
    )
    assert predict(open_predictor(load_manifest(model)), video)[0] == []


@pytest.mark.parametrize(
    ("score", "sightings", "counts"),
    [
        (0.75, 1, True),
        (0.6875, 1, False),
        (0.5, 2, False),
        (0.5, 3, True),
        (0.4375, 3, False),
    ],
)
def test_a_track_counts_from_its_bounds_on(
    tmp_path: Path, score: float, sightings: int, counts: bool
) -> None:
    """One that reaches `sure`, or as many frames as `min_frames`, and the job's threshold."""
    toml = TRACKING_TOML.replace("min_frames = 2", "min_frames = 3") + "sure = 0.75\n"
    manifest = load_manifest(tracking_folder(tmp_path, toml))
    history = TrackHistory(0)
    for point in range(sightings):
        history.add(point, point, np.array([0.1, 0.1, 0.2, 0.2], np.float32), score)
    found = list(to_predictions([history], manifest, ModelParameters(confidence_threshold=0.5)))
    assert [len(track.frames) for track in found] == ([sightings] if counts else [])


def test_the_plain_tracker_by_setting(tmp_path: Path) -> None:
    """Red moves by more than its width: of its two halves each is a track, unless motion is followed."""

    def jumping(seconds: float) -> Picture:
        return squares((RED, 0 if seconds < 0.95 else 6, 3))

    video = write_clip(tmp_path / "jump.mp4", jumping, seconds=2)
    plain = tracking_folder(tmp_path / "plain", TRACKING_TOML + 'kind = "iou"\n')
    found = predict(open_predictor(load_manifest(plain)), video)[0]
    assert tracks(found) == [("red", 0.0, 0.9, 10), ("red", 1.0, 1.9, 10)]


def test_the_same_bytes_with_any_number_of_threads(tmp_path: Path, clip: Path) -> None:
    manifest = load_manifest(tracking_folder(tmp_path / "model"))
    outcomes = [predict(open_predictor(manifest, threads=threads), clip) for threads in (1, 2, 5)]
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_cancelling_ends_early_and_leaves_no_thread(tracker: Predictor, clip: Path) -> None:
    before = threading.active_count()
    watch = Watch(cancel_after=5)
    found = list(tracker.predict(clip, [Segment(0, 100_000), WHOLE], ModelParameters(), watch))
    assert [index for index, _ in found] == [0]
    assert len(watch.times) <= 6
    assert threading.active_count() == before


def test_walking_away_from_the_iterator_leaves_no_thread(tracker: Predictor, clip: Path) -> None:
    before = threading.active_count()
    results = tracker.predict(clip, [Segment(0, 100_000), WHOLE], ModelParameters(), Watch())
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_not_a_video_is_unreadable(tracker: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("not a video")
    with pytest.raises(VideoUnreadable):
        predict(tracker, path)


def test_yolox_finds_the_same_as_center(tmp_path: Path, clip: Path, tracker: Predictor) -> None:
    toml = TRACKING_TOML.replace('"center"', '"yolox"').replace(
        "scale = 0.00392156862745098", 'color = "BGR"\nscale = 1.0'
    )
    folder = tracking_folder(tmp_path / "yolox", toml)
    yolox_detector(folder / "model.onnx")
    found = predict(open_predictor(load_manifest(folder)), clip)[0]
    assert tracks(found) == tracks(predict(tracker, clip)[0])


def test_nan_scores_are_an_error_not_an_empty_prediction(tmp_path: Path, clip: Path) -> None:
    with pytest.raises(ModelUnusable, match="NaN or infinite"):
        predict(open_predictor(load_manifest(tracking_folder(tmp_path / "nan", spoil="nan"))), clip)


def test_the_blackness_of_an_empty_video_has_no_tracks(tracker: Predictor, tmp_path: Path) -> None:
    video = write_clip(tmp_path / "black.mp4", lambda _: squares((BLACK, 0, 0)), seconds=1)
    assert predict(tracker, video)[0] == []


@decodes
def test_walking_to_a_late_segment_gives_signs_of_life_and_stops_when_told_to(
    tracker: Predictor, tmp_path: Path
) -> None:
    """An MPEG-TS is never sought: with a segment at its end, all before it is decoded without any sample."""
    path = _stream(tmp_path / "long.ts", seconds=60)
    late = [Segment(59_000_000, None)]
    watch = Watch()
    ((_, found),) = tracker.predict(path, late, ModelParameters(), watch)
    assert isinstance(found, list)
    assert len(watch.times) <= 10
    assert watch.signs > 59 * 30

    stopping = _StopsOnTheWay(at=100)
    assert list(tracker.predict(path, late, ModelParameters(), stopping)) == []
    assert stopping.times == []
    assert 100 <= stopping.signs < 59 * 30


class _StopsOnTheWay(Watch):
    """Cancelled after so many signs of life; from there on frames take long: all would take a minute."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at = at

    def cancelled(self) -> bool:
        return self.signs >= self._at

    def alive(self) -> None:
        super().alive()
        if self.cancelled():
            time.sleep(0.05)


def _stream(path: Path, *, seconds: int) -> Path:
    ticks = constant(seconds * 30, 3000)
    return Clip(path.name, ticks, Fraction(1, 90000), gop=30, b_frames=2).write(path.parent)
