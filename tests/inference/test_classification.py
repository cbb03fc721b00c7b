"""Video classification from an encoded video to predictions, with a real classifier written by hand."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator.inference.manifest import load_manifest
from emulator.inference.objectives import open_predictor
from emulator.inference.pooling import Best
from emulator.inference.predictor import Predictor, Segment
from emulator.vertex.instances import InstanceFailure
from emulator.vertex.objectives.classification import ClassificationPrediction
from emulator.vertex.parameters import ModelParameters
from emulator.vertex.predictions import Label, Prediction, prediction_line
from tests.inference.tiny_models import (
    CLASSIFICATION_TOML,
    GREEN,
    RED,
    Picture,
    Watch,
    classification_folder,
    write_clip,
)

WHOLE = Segment(0, None)
SEGMENT, SHOT, SECOND = "segment-classification", "shot-classification", "one-sec-interval-classification"
ALL_KINDS = {"shot_classification": True, "one_sec_interval_classification": True}
Outcome = list[Prediction] | InstanceFailure
Row = tuple[str, str, float, float]


def red_then_green(seconds: float) -> Picture:
    """Red, from 1.3 s on green: the third frame of the grid behind the whole second at 10 frames a second."""
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[:] = RED if seconds < 1.29 else GREEN
    return picture


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "colours.mp4", red_then_green, seconds=2.7)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return open_predictor(load_manifest(classification_folder(tmp_path_factory.mktemp("model"))))


def predict(
    predictor: Predictor, video: Path, segments: Sequence[Segment] = (WHOLE,), /, **parameters: Any
) -> dict[int, Outcome]:
    given = {"max_predictions": 10_000} | parameters
    return dict(predictor.predict(video, segments, ModelParameters(**given), Watch()))


def rows(outcome: Outcome, least: float = 0.0) -> list[Row]:
    """(type, label, start, end) of what is at least so confident, by type and time."""
    assert isinstance(outcome, list)
    found = [one for one in outcome if isinstance(one, ClassificationPrediction) and one.confidence >= least]
    assert len(found) == len(outcome) or least > 0
    return sorted((one.type, one.label.display_name, one.start_us / 1e6, one.end_us / 1e6) for one in found)


def confidences(outcome: Outcome) -> dict[str, float]:
    assert isinstance(outcome, list)
    return {one.label.display_name: one.confidence for one in outcome}


def test_without_parameters_the_segment_has_a_row_for_each_label(model: Predictor, clip: Path) -> None:
    assert rows(predict(model, clip)[0]) == [(SEGMENT, "green", 0.0, 2.7), (SEGMENT, "red", 0.0, 2.7)]


@pytest.mark.parametrize(
    ("fps", "frames", "end"), [(30, 83, "2.766667s"), (25, 40, "1.600s"), (24, 48, "2s")]
)
def test_the_end_of_a_video_is_its_length_to_the_microsecond(
    model: Predictor, tmp_path: Path, fps: float, frames: int, end: str
) -> None:
    video = write_clip(tmp_path / "clip.mp4", red_then_green, seconds=frames / fps, fps=fps)
    found = predict(model, video)[0]
    assert isinstance(found, list)
    assert {one["timeSegmentEnd"] for one in json.loads(prediction_line("{}", found))["prediction"]} == {end}


def test_confidence_is_the_mean_over_the_segment(model: Predictor, clip: Path) -> None:
    # Samples at 0.0, 0.2 … 2.6 s: the first seven are red.
    found = confidences(predict(model, clip)[0])
    assert found["red"] == pytest.approx(0.5, abs=0.02)
    assert found["green"] == pytest.approx(0.5, abs=0.02)
    part = confidences(predict(model, clip, [Segment(900_000, 1_700_000)])[0])
    assert part["red"] == pytest.approx(0.5, abs=0.02)
    part = confidences(predict(model, clip, [Segment(1_000_000, 2_000_000)])[0])
    assert part["red"] == pytest.approx(0.4, abs=0.02)


def test_emphasis_lets_a_part_of_the_segment_weigh_more(tmp_path: Path, clip: Path) -> None:
    toml = CLASSIFICATION_TOML + "[classification]\nemphasis = 4\n"
    sharp = open_predictor(load_manifest(classification_folder(tmp_path, toml)))
    found = confidences(predict(sharp, clip, [Segment(1_000_000, 2_000_000)])[0])
    assert found["red"] == pytest.approx(0.4**0.25, abs=0.02)
    assert found["green"] == pytest.approx(0.6**0.25, abs=0.02)


def test_shots_begin_at_the_frame_of_the_cut(model: Predictor, clip: Path) -> None:
    found = predict(model, clip, shot_classification=True, segment_classification=False)[0]
    assert rows(found, least=0.9) == [(SHOT, "green", 1.3, 2.7), (SHOT, "red", 0.0, 1.3)]
    assert rows(found) == [
        (SHOT, "green", 0.0, 1.3),
        (SHOT, "green", 1.3, 2.7),
        (SHOT, "red", 0.0, 1.3),
        (SHOT, "red", 1.3, 2.7),
    ]


def test_a_frame_is_judged_with_its_own_shot_though_its_point_lies_before(
    model: Predictor, tmp_path: Path
) -> None:
    # The frame at 1.208 s, the first green one, is the nearest to the point 1.2 s.
    video = write_clip(
        tmp_path / "24.mp4",
        lambda seconds: np.full((16, 16, 3), RED if seconds < 1.2 else GREEN, np.uint8),
        seconds=2.5,
        fps=24,
    )
    found = predict(model, video, shot_classification=True, segment_classification=False)[0]
    assert isinstance(found, list)
    first = [one for one in found if isinstance(one, ClassificationPrediction) and one.start_us == 0]
    assert {one.end_us for one in first} == {1_208_333}
    assert {one.label.display_name: round(one.confidence, 1) for one in first} == {"red": 1.0, "green": 0.0}


def test_seconds_count_from_the_start_of_the_segment(model: Predictor, clip: Path) -> None:
    parameters = {"one_sec_interval_classification": True, "segment_classification": False}
    found = predict(model, clip, [WHOLE, Segment(300_000, 2_300_000)], **parameters)
    # The middle of each second; the last one is 0.7 s long.
    assert rows(found[0], least=0.5) == [
        (SECOND, "green", 1.5, 1.5),
        (SECOND, "green", 2.35, 2.35),
        (SECOND, "red", 0.5, 0.5),
    ]
    assert rows(found[1], least=0.9) == [(SECOND, "green", 1.8, 1.8), (SECOND, "red", 0.8, 0.8)]


def test_a_requested_end_is_given_back_and_nothing_else_reaches_past_the_video(
    model: Predictor, clip: Path
) -> None:
    found = predict(model, clip, [Segment(1_500_000, 5_000_000)], **ALL_KINDS)[0]
    assert rows(found, least=0.9) == [
        (SECOND, "green", 2.0, 2.0),
        (SECOND, "green", 2.6, 2.6),
        (SEGMENT, "green", 1.5, 5.0),
        (SHOT, "green", 1.5, 2.7),
    ]


def test_the_end_of_the_video_is_known_however_near_the_requested_one_is(
    model: Predictor, clip: Path
) -> None:
    for end_us in (2_650_000, 2_700_000, 2_710_000, 2_799_999, 2_900_000):
        found = predict(model, clip, [Segment(2_000_000, end_us)], **ALL_KINDS)[0]
        real_s = min(end_us / 1e6, 2.7)
        middle_s = (2.0 + real_s) / 2
        assert rows(found, least=0.9) == [
            (SECOND, "green", pytest.approx(middle_s, abs=1e-6), pytest.approx(middle_s, abs=1e-6)),
            (SEGMENT, "green", 2.0, end_us / 1e6),
            (SHOT, "green", 2.0, real_s),
        ]


@pytest.mark.parametrize("end_us", [2_690_000, 2_700_000, 2_710_000, 2_799_999, 2_800_000, 9_000_000])
def test_the_last_second_ends_with_the_video_though_no_shots_are_looked_for(
    model: Predictor, tmp_path: Path, end_us: int
) -> None:
    # The last frame is not the one that is looked at for the last point of the grid.
    clip = write_clip(tmp_path / "30.mp4", red_then_green, seconds=2.7, fps=30)
    found = predict(model, clip, [Segment(1_500_000, end_us)], one_sec_interval_classification=True)[0]
    middle_s = pytest.approx((2.5 + min(end_us / 1e6, 2.7)) / 2, abs=1e-6)
    assert rows(found, least=0.9) == [
        (SECOND, "green", 2.0, 2.0),
        (SECOND, "green", middle_s, middle_s),
        (SEGMENT, "green", 1.5, end_us / 1e6),
    ]


def test_the_background_is_never_predicted(model: Predictor, clip: Path) -> None:
    assert all(row[1] != "grey" for row in rows(predict(model, clip, **ALL_KINDS)[0]))


def test_threshold_and_limit_act_on_each_type(model: Predictor, clip: Path) -> None:
    everything = predict(model, clip, **ALL_KINDS)[0]
    assert isinstance(everything, list)
    best = predict(model, clip, max_predictions=1, **ALL_KINDS)[0]
    assert [row[0] for row in rows(best)] == [SECOND, SEGMENT, SHOT]
    for kind in (SEGMENT, SHOT, SECOND):
        of_kind = [
            one.confidence
            for one in everything
            if isinstance(one, ClassificationPrediction) and one.type == kind
        ]
        assert of_kind == sorted(of_kind, reverse=True)
        assert max(of_kind) in [one.confidence for one in best]  # type: ignore[union-attr]
    sure = predict(model, clip, confidence_threshold=0.9, **ALL_KINDS)[0]
    assert rows(sure) == rows(everything, least=0.9)
    assert predict(model, clip, confidence_threshold=1.0)[0] == []


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_of_equally_confident_predictions_the_first_are_kept_in_order(limit: int) -> None:
    best = Best(limit)
    for second, confidence in enumerate([0.5, 0.25, 0.5, 0.75, 0.5]):
        best.add(ClassificationPrediction(SECOND, Label("1", "red"), second, second, confidence))
    assert [one.start_us for one in best] == [3, 0, 2, 4, 1][:limit]


def test_asking_for_shots_changes_nothing_else(model: Predictor, tmp_path: Path) -> None:
    # 24 frames a second: the frames do not lie on the grid.
    clip = write_clip(tmp_path / "24.mp4", red_then_green, seconds=2.5, fps=24)
    segments = [WHOLE, Segment(310_000, 1_870_000)]
    without = predict(model, clip, segments, one_sec_interval_classification=True)
    along = predict(model, clip, segments, **ALL_KINDS)
    for index in (0, 1):
        outcome = along[index]
        assert isinstance(outcome, list)
        others = [one for one in outcome if isinstance(one, ClassificationPrediction) and one.type != SHOT]
        assert others == without[index]


def test_predictions_do_not_depend_on_the_other_segments(model: Predictor, clip: Path) -> None:
    segments = [
        Segment(700_000, 1_500_000),
        WHOLE,
        Segment(700_000, 1_500_000),
        Segment(1_250_000, None),
        Segment(0, 1),
        Segment(2_300_000, 9_000_000),
    ]
    for parameters in ({}, ALL_KINDS):
        together = predict(model, clip, segments, **parameters)
        assert sorted(together) == list(range(len(segments)))
        for index, segment in enumerate(segments):
            assert together[index] == predict(model, clip, [segment], **parameters)[0]


def test_a_segment_between_two_samples_is_judged_by_the_one_before(model: Predictor, clip: Path) -> None:
    found = predict(model, clip, [Segment(1_250_000, 1_260_000), Segment(2_650_000, None)], **ALL_KINDS)
    assert rows(found[0], least=0.9) == [
        (SECOND, "red", 1.255, 1.255),
        (SEGMENT, "red", 1.25, 1.26),
        (SHOT, "red", 1.25, 1.26),
    ]
    assert rows(found[1], least=0.9) == [
        (SECOND, "green", 2.675, 2.675),
        (SEGMENT, "green", 2.65, 2.7),
        (SHOT, "green", 2.65, 2.7),
    ]


def test_segments_are_finished_as_the_video_passes_them(model: Predictor, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "long.mp4", red_then_green, seconds=8)
    for parameters in ({}, ALL_KINDS):
        watch = Watch()
        given = ModelParameters(**parameters)
        seen = {
            index: watch.times[-1]
            for index, _ in model.predict(clip, [WHOLE, Segment(0, 1_000_000)], given, watch)
        }
        assert list(seen) == [1, 0]
        assert seen[1] < 2_000_000


def test_a_segment_past_the_end_fails_alone(model: Predictor, clip: Path) -> None:
    late = [Segment(2_700_000, None), Segment(2_750_000, 2_760_000), Segment(60_000_000, 61_000_000)]
    for parameters in ({}, ALL_KINDS):
        found = predict(model, clip, [*late, WHOLE], **parameters)
        for index in range(3):
            failure = found[index]
            assert isinstance(failure, InstanceFailure), failure
            assert failure.code == 11
        assert rows(found[3])


def test_clips_of_several_frames_speak_of_their_middle(tmp_path: Path, clip: Path) -> None:
    toml = CLASSIFICATION_TOML.replace("width = 16", 'width = 16\nframes = 3\nlayout = "NCTHW"')
    toml = toml.replace("rate = 5", "rate = 10") + "[classification]\nstep = 2\n"
    predictor = open_predictor(load_manifest(classification_folder(tmp_path, toml, frames=3)))
    found = predict(predictor, clip, shot_classification=True)[0]
    assert rows(found, least=0.9) == [(SHOT, "green", 1.3, 2.7), (SHOT, "red", 0.0, 1.3)]
    assert confidences(predict(predictor, clip, [Segment(0, 1_100_000)])[0])["red"] == pytest.approx(
        1, abs=0.05
    )


def test_a_video_shorter_than_a_clip_is_padded(tmp_path: Path) -> None:
    toml = CLASSIFICATION_TOML.replace("width = 16", 'width = 16\nframes = 9\nlayout = "NCTHW"')
    predictor = open_predictor(load_manifest(classification_folder(tmp_path, toml, frames=9)))
    video = write_clip(tmp_path / "short.mp4", red_then_green, seconds=0.3)
    assert rows(predict(predictor, video)[0], least=0.9) == [(SEGMENT, "red", 0.0, 0.3)]


def test_the_line_is_the_recorded_one(model: Predictor, clip: Path) -> None:
    found = predict(model, clip, confidence_threshold=0.9, **ALL_KINDS)[0]
    assert isinstance(found, list)
    line = prediction_line("{}", found)
    assert " " not in line
    listed = json.loads(line)["prediction"]
    for one in listed:
        assert list(one) == ["id", "displayName", "type", "timeSegmentStart", "timeSegmentEnd", "confidence"]
    by_confidence = [one["confidence"] for one in listed]
    assert by_confidence == sorted(by_confidence, reverse=True)
    assert {(one["id"], one["displayName"]) for one in listed} == {("2", "red"), ("3", "green")}
    assert {"timeSegmentStart": "1.300s", "timeSegmentEnd": "2.700s"}.items() <= next(
        one for one in listed if one["type"] == SHOT and one["displayName"] == "green"
    ).items()


def test_the_same_bytes_with_any_number_of_threads(tmp_path: Path, clip: Path) -> None:
    manifest = load_manifest(classification_folder(tmp_path))
    outcomes = [predict(open_predictor(manifest, threads=threads), clip, **ALL_KINDS) for threads in (1, 3)]
    assert outcomes[0] == outcomes[1]


def test_cancelling_ends_early_and_leaves_no_thread(model: Predictor, clip: Path) -> None:
    before = threading.active_count()
    watch = Watch(cancel_after=4)
    assert list(model.predict(clip, [WHOLE], ModelParameters(shot_classification=True), watch)) == []
    assert len(watch.times) <= 5
    assert threading.active_count() == before
