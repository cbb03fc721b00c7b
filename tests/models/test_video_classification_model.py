"""The bundled classification model says on unseen films what its card promises."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest

from emulator.factory import Camera, Clip, Figure, Film, Object, documentation_clip, render
from emulator.factory.scene import Scene
from emulator.inference.manifest import ModelManifest, load_manifest
from emulator.inference.objectives import open_predictor
from emulator.inference.predictor import Predictor, Segment, Unwatched
from emulator.vertex.parameters import ModelParameters
from emulator.vertex.predictions import prediction_line

FOLDER = Path(__file__).parents[2] / "models" / "video-classification"
SEGMENT, SHOT, SECOND = "segment-classification", "shot-classification", "one-sec-interval-classification"


@pytest.fixture(scope="module")
def manifest() -> ModelManifest:
    return load_manifest(FOLDER)


@pytest.fixture(scope="module")
def predictor(manifest: ModelManifest) -> Predictor:
    return open_predictor(manifest, threads=1)


def answer(predictor: Predictor, scene: Scene, folder: Path) -> list[Mapping[str, Any]]:
    """What is said of a scene with a confidence of 0.5 or more."""
    render(scene, folder / "film.mp4")
    parameters = ModelParameters(
        confidence_threshold=0.5,
        max_predictions=10_000,
        shot_classification=True,
        one_sec_interval_classification=True,
    )
    ((_, found),) = predictor.predict(folder / "film.mp4", [Segment(0, None)], parameters, Unwatched())
    assert isinstance(found, list)
    predictions: list[Mapping[str, Any]] = json.loads(prediction_line("{}", found))["prediction"]
    return predictions


def of_type(predictions: list[Mapping[str, Any]], kind: str) -> list[tuple[str, str, str]]:
    """(start, end, label), in order."""
    return sorted(
        (one["timeSegmentStart"], one["timeSegmentEnd"], one["displayName"])
        for one in predictions
        if one["type"] == kind
    )


def test_graph_is_small_and_readable_by_older_runtimes(manifest: ModelManifest) -> None:
    graph = onnx.load(manifest.graph)
    onnx.checker.check_model(graph)
    assert manifest.graph.stat().st_size < 5_000_000
    assert graph.ir_version <= 10, "onnxruntime 1.20 reads IR versions up to 10"
    assert [label.display_name for label in manifest.labels] == ["cat", "dog", "car", "bird"]


def test_documentation_clip_has_a_cat_and_a_dog(predictor: Predictor, tmp_path: Path) -> None:
    predictions = answer(predictor, documentation_clip(), tmp_path)
    assert of_type(predictions, SEGMENT) == [("0s", "6s", "cat"), ("0s", "6s", "dog")]
    seconds = {(start, label) for start, end, label in of_type(predictions, SECOND) if start == end}
    assert {("1.500s", "dog"), ("2.500s", "dog"), ("2.500s", "cat")} <= seconds
    assert not {label for start, label in seconds if start in ("0.500s", "5.500s")}


def test_each_shot_of_a_film_has_its_own_labels(predictor: Predictor, tmp_path: Path) -> None:
    size, place = (320, 240), [(0.2, 0.3, 0.75, 0.8)]
    cat = Object("cat", 0, 1.8, place, colour=(30, 90, 200))
    car = Object("car", 0, 2.0, [(0.1, 0.4, 0.7, 0.8), (0.3, 0.4, 0.9, 0.8)], colour=(200, 60, 30))
    walker = Figure(activity="walk", height=0.7, position=(0.3, 0.95))
    takes = [
        Clip(size=size, fps=15, duration=1.8, seed=1, background="landscape", objects=[cat]),
        Clip(size=size, fps=15, duration=1.6, seed=2, background="texture", objects=[walker]),
        Clip(size=size, fps=15, duration=2.0, seed=3, background="gradient", objects=[car],
             camera=Camera(pan=(0.1, 0.0))),
    ]  # fmt: skip
    predictions = answer(predictor, Film(takes), tmp_path)
    assert of_type(predictions, SHOT) == [("0s", "1.800s", "cat"), ("3.400s", "5.400s", "car")]
    assert {label for _, _, label in of_type(predictions, SEGMENT)} == {"cat", "car"}


@pytest.mark.slow
def test_a_hundred_unseen_films_reach_the_figures_of_the_card() -> None:
    script = [sys.executable, str(FOLDER / "evaluate.py")]
    evaluation = subprocess.run(script, capture_output=True, text=True, check=False, timeout=3600)
    assert evaluation.returncode == 0, evaluation.stdout[-3000:] + evaluation.stderr[-3000:]
