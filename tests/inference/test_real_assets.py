"""Real weights on real video: `EMULATOR_REAL_ASSETS` names the folder that holds them."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from emulator.inference.manifest import ModelManifest
from emulator.inference.predictor import InstanceFailure, Segment, open_predictor
from emulator.inference.recognise import named_labels, recognise, write_folder
from emulator.vertex.parameters import ModelParameters
from emulator.vertex.predictions import ObjectTrack
from tests.inference.tiny_models import Watch

pytestmark = [
    pytest.mark.assets,
    pytest.mark.skipif("EMULATOR_REAL_ASSETS" not in os.environ, reason="EMULATOR_REAL_ASSETS is not set"),
]


def asset(name: str) -> Path:
    return Path(os.environ["EMULATOR_REAL_ASSETS"]) / name


@pytest.fixture(scope="module")
def yolox(tmp_path_factory: pytest.TempPathFactory) -> ModelManifest:
    weights = asset("yolox_nano.onnx")
    found = recognise(weights, labels=named_labels("coco80"), name="YOLOX-nano")
    assert found.head == "yolox"
    assert 'activation = "none"' in found.manifest
    return write_folder(found, weights, tmp_path_factory.mktemp("models") / "yolox-nano")


def tracks(manifest: ModelManifest, clip: str, segment: Segment) -> list[ObjectTrack]:
    ((_, outcome),) = open_predictor(manifest).predict(asset(clip), [segment], ModelParameters(), Watch())
    assert not isinstance(outcome, InstanceFailure)
    return [track for track in outcome if isinstance(track, ObjectTrack)]


def test_people_walking_by_one_at_a_time_are_one_track_each(yolox: ModelManifest) -> None:
    """Between 6 and 46 s two people walk by, with nobody in the picture between them."""
    found = tracks(yolox, "one-by-one-person-detection.mp4", Segment(4_000_000, 48_000_000))
    people = [track for track in found if track.label.display_name == "person" and track.confidence >= 0.6]
    people.sort(key=lambda track: track.frames[0].time_us)
    assert len(people) == 2
    for before, after in pairwise(people):
        assert before.frames[-1].time_us < after.frames[0].time_us
    assert all(len(track.frames) > 100 for track in people)
    assert not [track for track in found if track.confidence >= 0.6 and track not in people]


@pytest.mark.parametrize("clip", ["car-detection.mp4", "nasa_13013.mp4"])
def test_other_clips_do_not_break_it(yolox: ModelManifest, clip: str) -> None:
    for track in tracks(yolox, clip, Segment(2_000_000, 6_000_000)):
        assert all(frame.x_min < frame.x_max and frame.y_min < frame.y_max for frame in track.frames)
