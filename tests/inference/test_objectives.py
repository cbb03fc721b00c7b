"""Each objective has its two halves: pure ones for the server, predictors with the heads of the manifest."""

import subprocess
import sys

import pytest

from emulator.inference.objectives import PREDICTORS, load
from emulator.inference.passes import ModelPredictor
from emulator.inference.sections import HEADS, LAYOUTS, SECTION_OF, SECTIONS
from emulator.vertex.objectives import Objective, objective_of


@pytest.mark.parametrize("objective", Objective)
def test_both_halves_have_the_name_of_the_objective(objective: Objective) -> None:
    predictor = load(objective.value)
    assert isinstance(predictor, type)
    assert issubclass(predictor, ModelPredictor)
    assert predictor.__module__ == f"emulator.inference.objectives.{objective.value}"
    assert objective.definition.read.__module__ == f"emulator.vertex.objectives.{objective.value}"


@pytest.mark.parametrize("objective", Objective)
def test_heads_of_a_predictor_are_those_of_the_manifest(objective: Objective) -> None:
    predictor = load(objective.value)
    assert isinstance(predictor, type)
    assert issubclass(predictor, ModelPredictor)
    assert set(predictor.heads) == {head for head, of in HEADS.items() if of is objective}
    assert LAYOUTS[objective]
    assert SECTION_OF[objective] in SECTIONS


def test_every_objective_has_a_predictor() -> None:
    assert list(PREDICTORS) == [objective.value for objective in Objective]


def test_a_prediction_shows_its_objective() -> None:
    assert objective_of({"displayName": "cat", "frames": []}) is Objective.OBJECT_TRACKING
    assert objective_of({"displayName": "cat", "type": "shot-classification"}) is Objective.CLASSIFICATION
    assert objective_of({"displayName": "jump", "type": ""}) is Objective.ACTION_RECOGNITION


def test_the_server_half_needs_no_numpy() -> None:
    code = """
import sys, emulator.inference.objectives, emulator.vertex.objectives
print(sorted({"numpy", "cv2", "onnxruntime", "google.protobuf"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
