"""The bundled object tracking model does on unseen clips what its card says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest

from emulator.factory import (
    Clip,
    TrackingScore,
    Truth,
    documentation_clip,
    random_clip,
    render,
    score_tracking,
)
from emulator.inference.manifest import ModelManifest, load_manifest
from emulator.inference.objectives import open_predictor
from emulator.inference.predictor import Predictor, Segment, Unwatched
from emulator.vertex.parameters import ModelParameters
from emulator.vertex.predictions import prediction_line

FOLDER = Path(__file__).parents[2] / "models" / "video-object-tracking"
HELD_OUT = range(500_000, 500_008)
"""Training uses seeds from 1,000,000, evaluate.py those from 0."""


@pytest.fixture(scope="module")
def manifest() -> ModelManifest:
    return load_manifest(FOLDER)


@pytest.fixture(scope="module")
def predictor(manifest: ModelManifest) -> Predictor:
    return open_predictor(manifest, threads=1)


def answer(predictor: Predictor, clip: Clip, folder: Path) -> tuple[Truth, list[Mapping[str, Any]]]:
    """A clip's truth, and what the model predicts of it with a confidence of 0.5 or more."""
    truth = render(clip, folder / "clip.mp4")
    parameters = ModelParameters(confidence_threshold=0.5)
    ((_, found),) = predictor.predict(folder / "clip.mp4", [Segment(0, None)], parameters, Unwatched())
    assert isinstance(found, list)
    predictions: list[Mapping[str, Any]] = json.loads(prediction_line("{}", found))["prediction"]
    return truth, predictions


def test_graph_is_small_and_readable_by_older_runtimes(manifest: ModelManifest) -> None:
    graph = onnx.load(manifest.graph)
    onnx.checker.check_model(graph)
    assert manifest.graph.stat().st_size < 5_000_000
    assert graph.ir_version <= 10, "onnxruntime 1.20 reads IR versions up to 10"
    assert max(opset.version for opset in graph.opset_import) <= 21


def test_labels_are_those_of_the_factory(manifest: ModelManifest) -> None:
    assert [label.display_name for label in manifest.labels] == ["cat", "dog", "car", "bird"]


def test_documentation_clip_is_predicted_as_documented(predictor: Predictor, tmp_path: Path) -> None:
    truth, predictions = answer(predictor, documentation_clip(), tmp_path)
    segments = {(one["displayName"], one["timeSegmentStart"], one["timeSegmentEnd"]) for one in predictions}
    assert segments == {
        ("cat", "1.200s", "3.400s"),
        ("dog", "1.200s", "3.400s"),
        ("cat", "4.800s", "4.800s"),
    }
    score = score_tracking(truth, predictions)
    assert (score.precision, score.recall, score.track_f1, score.id_switches) == (1, 1, 1, 0)
    assert score.mean_iou >= 0.8


def test_unseen_clips_are_predicted_well(predictor: Predictor, tmp_path: Path) -> None:
    total = TrackingScore()
    for seed in HELD_OUT:
        clip = random_clip(seed, size=(426, 240), fps=10, duration=2.0)
        total += score_tracking(*answer(predictor, clip, tmp_path))
    assert total.tracks_expected >= 8
    assert total.precision >= 0.9
    assert total.recall >= 0.9
    assert total.track_f1 >= 0.85


def test_clips_without_objects_have_no_predictions(predictor: Predictor, tmp_path: Path) -> None:
    for seed in HELD_OUT[:4]:
        clip = random_clip(seed, size=(320, 180), fps=10, duration=1.0, count=0)
        assert answer(predictor, clip, tmp_path)[1] == []


@pytest.mark.slow
def test_a_hundred_unseen_clips_reach_the_figures_of_the_card() -> None:
    script = [sys.executable, str(FOLDER / "evaluate.py"), "--clips", "100"]
    evaluation = subprocess.run(script, capture_output=True, text=True, check=False, timeout=3600)
    assert evaluation.returncode == 0, evaluation.stdout[-3000:] + evaluation.stderr[-3000:]
