"""The bundled action recognition model on clips it was not trained on, encoded and decoded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from emulator.factory import Action, Camera, Clip, Figure, action_documentation_clip, random_clip, render
from emulator.factory.action_scoring import ActionScore, score_actions
from emulator.inference.manifest import load_manifest
from emulator.inference.objectives import open_predictor
from emulator.inference.predictor import Predictor, Segment, Unwatched
from emulator.vertex.objectives.action_recognition import ActionPrediction
from emulator.vertex.parameters import ModelParameters

FOLDER = Path(__file__).parents[2] / "models" / "video-action-recognition"


@pytest.fixture(scope="module")
def model() -> Predictor:
    return open_predictor(load_manifest(FOLDER), provider="cpu", threads=1)


def recognised(model: Predictor, clip: Clip, path: Path) -> tuple[ActionScore, list[ActionPrediction]]:
    truth = render(clip, path)
    ((index, outcome),) = model.predict(path, [Segment(0, None)], ModelParameters(), Unwatched())
    assert index == 0
    assert isinstance(outcome, list)
    found = [one for one in outcome if isinstance(one, ActionPrediction)]
    lines = [
        {"displayName": one.label.display_name, "timeSegmentStart": f"{one.time_us / 1e6}s"} for one in found
    ]
    return score_actions(truth, lines), found


def test_graph_and_labels_are_small_and_known() -> None:
    manifest = load_manifest(FOLDER)
    assert [label.display_name for label in manifest.labels] == ["swing", "jump", "kick", "throw"]
    assert manifest.graph.stat().st_size < 5_000_000


def test_documentation_clip_gets_its_two_actions_and_nothing_else(model: Predictor, tmp_path: Path) -> None:
    _, found = recognised(model, action_documentation_clip(), tmp_path / "clip.mp4")
    sure = sorted((one for one in found if one.confidence > 0.5), key=lambda one: one.time_us)
    assert [one.label.display_name for one in sure] == ["swing", "jump"]
    assert [one.time_us / 1e6 for one in sure] == pytest.approx([1.2, 3.4], abs=0.1)


@pytest.mark.parametrize(("fps", "suffix"), [(10, ".mp4"), (25, ".avi"), (60, ".mov")])
def test_actions_are_found_at_their_moments(
    model: Predictor, tmp_path: Path, fps: float, suffix: str
) -> None:
    figures = (
        Figure(actions=[Action("kick", 1.3), Action("throw", 3.6)], position=(0.3, 0.9), height=0.6),
        Figure(actions=[Action("jump", 2.2)], position=(0.75, 0.95), height=0.55, faces_left=True),
    )
    clip = Clip(
        size=(480, 270), fps=fps, duration=5, seed=71, background="gradient",
        camera=Camera(pan=(0.04, 0.0)), noise=2.0, objects=figures,
    )  # fmt: skip
    score, found = recognised(model, clip, tmp_path / f"clip{suffix}")
    assert (score.missed, score.false) == (0, 0), found
    assert max(score.errors) <= 0.2


def test_clips_without_actions_stay_empty(model: Predictor, tmp_path: Path) -> None:
    walkers = (
        Figure(activity="walk", position=(0.1, 0.95), height=0.7),
        Figure(activity="gesture", position=(0.8, 0.9), height=0.5, holds_club=True),
    )
    people = Clip(size=(320, 180), fps=15, duration=5, seed=5, background="texture", objects=walkers)
    animals = random_clip(123_456, size=(320, 180), fps=15, duration=5)
    for number, clip in enumerate((people, animals)):
        _, found = recognised(model, clip, tmp_path / f"{number}.mp4")
        assert found == []


@pytest.mark.slow
def test_a_hundred_unseen_clips_reach_the_figures_of_the_card() -> None:
    script = [sys.executable, str(FOLDER / "evaluate.py")]
    evaluation = subprocess.run(script, capture_output=True, text=True, check=False, timeout=3600)
    assert evaluation.returncode == 0, evaluation.stdout[-3000:] + evaluation.stderr[-3000:]
