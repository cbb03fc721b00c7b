"""What benchmarks measure on is what they say it is."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from clips import FPS, write_repeated
from columns import columns_model, disagreement
from onnx import numpy_helper

from emulator.factory import random_clip, render
from emulator.inference.manifest import ModelManifest, load_manifest
from emulator.inference.objectives import open_predictor
from emulator.inference.predictor import Segment, Unwatched
from emulator.registry import bundled_models
from emulator.vertex.parameters import ModelParameters


@pytest.fixture(scope="module")
def manifest() -> ModelManifest:
    return load_manifest(bundled_models() / "video-object-tracking")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    render(random_clip(7, size=(320, 240), fps=FPS, duration=2.0), path)
    return path


def pictures(video: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(video))
    found = []
    while (read := capture.read())[0]:
        found.append(np.asarray(read[1], np.uint8))
    return found


def test_a_graph_for_ultralytics_finds_the_same(manifest: ModelManifest, video: Path, tmp_path: Path) -> None:
    columns = columns_model(manifest, tmp_path / "columns")

    assert disagreement(manifest, columns, pictures(video)[::10]) == ""
    whole = [Segment(0, None)]
    ours, theirs = (
        dict(open_predictor(model).predict(video, whole, ModelParameters(), Unwatched()))[0]
        for model in (manifest, columns)
    )
    assert isinstance(ours, list)
    assert isinstance(theirs, list)
    assert [track.label for track in ours] == [track.label for track in theirs] != []


def test_a_graph_that_finds_something_else_is_noticed(
    manifest: ModelManifest, video: Path, tmp_path: Path
) -> None:
    columns = columns_model(manifest, tmp_path / "columns")
    model = onnx.load(str(columns.graph))
    for weight in model.graph.initializer:
        if weight.name == "stride":
            moved = numpy_helper.to_array(weight) * np.float32(1.02)
            weight.CopyFrom(numpy_helper.from_array(moved, "stride"))
    onnx.save(model, str(columns.graph))

    assert disagreement(manifest, columns, pictures(video)[::10]).startswith("picture ")


def test_a_repeated_clip_shows_the_same_pictures_again_in_time(video: Path, tmp_path: Path) -> None:
    once = pictures(video)
    long = write_repeated(tmp_path / "long.mp4", video, 3)

    again = pictures(long)
    assert len(again) == 3 * len(once)
    for number, picture in enumerate(again):
        np.testing.assert_array_equal(picture, once[number % len(once)])
    capture, times = cv2.VideoCapture(str(long)), []
    while capture.grab():
        times.append(capture.get(cv2.CAP_PROP_POS_MSEC))
    np.testing.assert_allclose(np.diff(times), 1000 / FPS, atol=0.1)
