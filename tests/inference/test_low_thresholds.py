"""A job that asks for low confidences gets what is there; trackers know how high their models score."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import json_format, struct_pb2

from emulator.inference.manifest import load_manifest
from emulator.inference.objectives import open_predictor
from emulator.inference.predictor import Predictor, Segment, Unwatched
from emulator.inference.tracks import settings_for
from emulator.onboarding import recognise
from emulator.onboarding.check import check
from emulator.vertex.errors import Violations
from emulator.vertex.objectives import Objective, parse_parameters
from emulator.vertex.objectives.action_recognition import ActionPrediction
from emulator.vertex.objectives.object_tracking import ObjectTrack
from emulator.vertex.parameters import ModelParameters
from tests.inference.tiny_models import (
    ACTIONS_TOML,
    TRACKING_TOML,
    Picture,
    actions_folder,
    recorded,
    squares,
    tracking_folder,
    write_clip,
)
from tests.onboarding.test_recognise_layouts import LAYOUTS, SQUARE, TWO, rtdetr

#: Column of a square -> how red it is; the model's score is nearly that share of 255.
SHADES = {1: 250, 3: 140, 5: 80}


def faint_and_bright(_: float) -> Picture:
    return squares(*(((0, 0, shade), column, 2) for column, shade in SHADES.items()))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", faint_and_bright, seconds=1)


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    toml = TRACKING_TOML.replace("min_score = 0.3", "min_score = 0.1")
    return open_predictor(load_manifest(tracking_folder(tmp_path_factory.mktemp("model"), toml)))


def parameters(objective: Objective = Objective.OBJECT_TRACKING, **given: float) -> ModelParameters:
    value = json_format.ParseDict(given, struct_pb2.Value())
    violations = Violations()
    parsed = parse_parameters(objective, value, violations)
    assert not violations.found
    return parsed


def confidences(predictor: Predictor, clip: Path, given: ModelParameters) -> list[float]:
    ((_, found),) = predictor.predict(clip, [Segment(0, None)], given, Unwatched())
    assert isinstance(found, list)
    return [round(one.confidence, 1) for one in found if isinstance(one, ObjectTrack)]


def test_a_low_threshold_brings_out_what_the_model_is_unsure_of(tracker: Predictor, clip: Path) -> None:
    assert confidences(tracker, clip, parameters()) == [1.0]
    assert confidences(tracker, clip, parameters(confidenceThreshold=0.0)) == [1.0, 0.5, 0.3]
    assert confidences(tracker, clip, parameters(confidenceThreshold=0.4)) == [1.0, 0.5]
    assert confidences(tracker, clip, parameters(confidenceThreshold=0.9)) == [1.0]


@pytest.mark.parametrize(
    ("threshold", "low", "high", "new"),
    [
        (None, 0.1, 0.5, 0.6),
        (0.0, 0.1, 0.1, 0.1),
        (0.3, 0.1, 0.3, 0.3),
        (0.55, 0.1, 0.5, 0.55),
        (0.8, 0.1, 0.5, 0.6),
    ],
)
def test_a_job_lowers_the_trackers_limits_as_far_as_min_score(
    tmp_path: Path, threshold: float | None, low: float, high: float, new: float
) -> None:
    toml = TRACKING_TOML.replace("min_score = 0.3", "min_score = 0.1")
    manifest = load_manifest(tracking_folder(tmp_path, toml))
    given = parameters() if threshold is None else parameters(confidenceThreshold=threshold)
    settings = settings_for(manifest, given)
    assert (settings.low, settings.high, settings.new) == (low, high, new)


def test_a_low_threshold_brings_out_faint_actions(tmp_path: Path) -> None:
    """White frames for which the flash classifier is not sure."""

    def pale(seconds: float) -> Picture:
        return np.full((16, 16, 3), 100 if abs(seconds - 1) < 0.01 else 0, np.uint8)

    clip = write_clip(tmp_path / "clip.mp4", pale, seconds=2)
    predictor = open_predictor(load_manifest(actions_folder(tmp_path / "model", ACTIONS_TOML)))

    def moments(given: ModelParameters) -> list[tuple[str, int]]:
        ((_, found),) = predictor.predict(clip, [Segment(0, None)], given, Unwatched())
        assert isinstance(found, list)
        faint = [one for one in found if isinstance(one, ActionPrediction)]
        assert all(0.05 <= one.confidence < 0.5 for one in faint)
        return [(one.label.display_name, one.time_us) for one in faint]

    assert moments(parameters(Objective.ACTION_RECOGNITION)) == []
    assert moments(parameters(Objective.ACTION_RECOGNITION, confidenceThreshold=0.0)) == [
        ("white", 1_000_000)
    ]


@pytest.mark.parametrize(
    ("layout", "high", "new"),
    [
        ("yolox", 0.5, 0.6),
        ("yolov8", 0.25, 0.25),
        ("end to end", 0.25, 0.25),
        ("NanoDet-Plus", 0.3, 0.35),
        ("torchvision", 0.4, 0.5),
        ("DETR", 0.5, 0.6),
        ("boxes in corners, not yet suppressed", 0.3, 0.35),
    ],
)
def test_the_thresholds_of_an_added_model_are_those_of_its_family(
    tmp_path: Path, layout: str, high: float, new: float
) -> None:
    outputs, declared, _ = LAYOUTS[layout]
    path = recorded(tmp_path / "net.onnx", outputs, **{"shape": SQUARE, **declared})
    found = recognise(path, labels=TWO)
    written = tomllib.loads(found.manifest)["tracker"]
    assert (written["low"], written["high"], written["new"]) == (0.1, high, new)
    assert any(line.startswith(f"tracker high {high}, new {new}: the scale of") for line in found.assumptions)


def test_thresholds_that_were_said_win(tmp_path: Path) -> None:
    path = recorded(tmp_path / "net.onnx", rtdetr(2), shape=SQUARE)
    found = recognise(path, labels=TWO, answers={"tracker.new": 0.9})
    written = tomllib.loads(found.manifest)["tracker"]
    assert (written["high"], written["new"]) == (0.35, 0.9)


def test_check_counts_scores_and_tells_what_becomes_of_them(tmp_path: Path, clip: Path) -> None:
    toml = TRACKING_TOML.replace("min_score = 0.3", "min_score = 0.15")
    report = check(load_manifest(tracking_folder(tmp_path, toml)), clip, progress=Unwatched(), provider="cpu")
    counted = {(one.least, one.fate): one.count for one in report.scores if one.count}
    assert counted == {
        (0.3, "below high: can only continue a track, after the others"): 10,
        (0.5, "below new: can only continue a track"): 10,
        (0.9, "begins a track"): 10,
    }
    fates = {one.least: one.fate for one in report.scores}
    assert fates[0.02] == fates[0.1] == "dropped: below min_score"
    assert [one.least for one in report.scores[1:]] == [one.most for one in report.scores[:-1]]


def test_models_without_a_tracker_have_no_such_counts(tmp_path: Path, clip: Path) -> None:
    assert check(load_manifest(actions_folder(tmp_path)), clip, progress=Unwatched()).scores == ()
