"""Batches: when they are built, and that they change nothing but the speed."""

from __future__ import annotations

import shutil
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from emulator.factory import action_documentation_clip, random_clip, render
from emulator.inference.batching import BATCHING_PROVIDERS, MOST, Batches, BatchPlan, callers, plan_batches
from emulator.inference.manifest import ModelManifest, ModelUnusable, load_manifest
from emulator.inference.objectives import open_predictor
from emulator.inference.onnx_model import OnnxModel
from emulator.inference.predictor import Segment
from emulator.inference.preprocess import ModelInput
from emulator.registry import bundled_models
from emulator.vertex.instances import InstanceFailure
from emulator.vertex.objectives.object_tracking import ObjectTrack
from emulator.vertex.parameters import ModelParameters
from tests.conftest import decodes
from tests.inference.tiny_models import (
    ACTIONS_TOML,
    SIZE,
    Watch,
    actions_folder,
    squares,
    tracking_folder,
    write_clip,
    yolox_detector,
)

WHOLE = Segment(0, None)
YOLOX_TOML = """
[model]
objective = "object_tracking"
[input]
width = 64
height = 64
color = "BGR"
[output]
head = "yolox"
strides = [8, 16, 32]
"""


def free_batch_axis(graph: Path) -> None:
    """Declare that any number of pictures may come in and go out."""
    model = onnx.load(graph)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, str(graph))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds: 31 pictures for a detector, which is no multiple of a batch's size."""
    path = tmp_path_factory.mktemp("clips") / "rendered.mp4"
    render(random_clip(3, size=(320, 240), duration=3.1), path)
    return path


@pytest.fixture(params=["video-object-tracking", "video-classification"])
def bundled(request: pytest.FixtureRequest, tmp_path: Path) -> ModelManifest:
    return free_copy(str(request.param), tmp_path)


def free_copy(name: str, into: Path) -> ModelManifest:
    """A bundled model with a batch axis that is free."""
    folder = into / name
    folder.mkdir()
    for file in (bundled_models() / name).iterdir():
        if file.suffix in (".toml", ".onnx", ".txt"):
            shutil.copy(file, folder)
    free_batch_axis(folder / "model.onnx")
    return load_manifest(folder)


def predictions(manifest: ModelManifest, video: Path, size: int) -> Any:
    predictor = open_predictor(manifest, batches_help=True)
    parameters = ModelParameters(confidence_threshold=0.0, max_predictions=1000)
    assert predictor.batches(size, parameters) == BatchPlan(size)
    ((_, outcome),) = predictor.predict(video, [WHOLE], parameters, Watch(), size)
    assert not isinstance(outcome, InstanceFailure)
    assert outcome
    return [astuple(prediction) for prediction in outcome]


def numbers_of(value: Any) -> list[float]:
    if isinstance(value, tuple | list):
        return [number for one in value for number in numbers_of(one)]
    return [float(value)] if isinstance(value, int | float) else []


@pytest.mark.parametrize("size", [4, MOST])
def test_the_predictions_are_those_of_single_frames(
    bundled: ModelManifest, video: Path, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    single, batched = (predictions(bundled, video, count) for count in (1, size))
    assert len(batched) == len(single)
    assert numbers_of(batched) == pytest.approx(numbers_of(single), abs=1e-5)
    assert caplog.text == ""  # no batch has failed


@pytest.mark.parametrize("layout", ["NCTHW", "NTCHW"])
def test_clips_in_batches_give_the_same_actions(
    tmp_path: Path, layout: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = actions_folder(tmp_path / "model", ACTIONS_TOML.replace("NCTHW", layout), layout=layout)
    free_batch_axis(folder / "model.onnx")
    flashes = write_clip(
        tmp_path / "flashes.mp4",
        lambda seconds: np.full((16, 16, 3), 255 * (round(seconds * 10) % 14 == 8), np.uint8),
        seconds=5,
    )
    single, batched = (predictions(load_manifest(folder), flashes, count) for count in (1, 4))
    assert numbers_of(batched) == pytest.approx(numbers_of(single), abs=1e-5)
    assert caplog.text == ""


@decodes
def test_the_bundled_action_model_works_on_although_it_is_fixed_inside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = free_copy("video-action-recognition", tmp_path)
    video = tmp_path / "actions.mp4"
    render(action_documentation_clip(), video)
    single, batched = (predictions(manifest, video, count) for count in (1, 4))
    assert batched == single
    assert "Goes on one by one, as a batch of 4 failed" in caplog.text


def test_a_batch_has_each_picture_at_its_place(tmp_path: Path) -> None:
    folder = tracking_folder(tmp_path)
    free_batch_axis(folder / "model.onnx")
    manifest = load_manifest(folder)
    model = OnnxModel(manifest.graph)
    fed = ModelInput(manifest.input, model)
    names = model.output_names(manifest.output.names)
    items = [[fed.fit(squares(((0, 0, 255), column, 2)))] for column in range(6)]
    batches = Batches(model, names, fed, helps=True)
    alone = batches.run(items, 1)
    for count in (8, 6):
        for one, other in zip(alone, batches.run(items, count), strict=True):
            for expected, output in zip(one, other, strict=True):
                np.testing.assert_allclose(output, expected, atol=1e-6)
    assert not np.allclose(alone[0][0], alone[5][0])


def only_in_words(graph: Path) -> None:
    """Make its batch axis free in words, while it computes one picture, which nothing shows beforehand."""
    free_batch_axis(graph)
    model, make = onnx.load(graph), onnx.helper.make_node
    for node in model.graph.node:
        node.input[:] = ["one picture" if name == "images" else name for name in node.input]
    for name, value in {
        "nothing at all": np.float32(0),
        "shape of one": np.array([1, 3, SIZE, SIZE]),
    }.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value), name))
    before = [
        make("ReduceMin", ["images"], ["darkest"], keepdims=0),
        make("Mul", ["darkest", "nothing at all"], ["zero of it"]),
        make("Cast", ["zero of it"], ["whole zero"], to=onnx.TensorProto.INT64),
        make("Add", ["shape of one", "whole zero"], ["shape"]),
        make("Reshape", ["images", "shape"], ["one picture"]),
    ]
    for place, node in enumerate(before):
        model.graph.node.insert(place, node)
    onnx.save(model, str(graph))


@decodes
def test_a_graph_that_cannot_compute_batches_goes_on_one_by_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clip = write_clip(
        tmp_path / "clip.mp4", lambda seconds: squares(((0, 0, 255), round(seconds * 2), 3)), seconds=2
    )
    folder = tracking_folder(tmp_path / "model")
    single = predictions(load_manifest(folder), clip, 1)
    only_in_words(folder / "model.onnx")
    assert caplog.text == ""
    assert predictions(load_manifest(folder), clip, 4) == single
    assert "Goes on one by one, as a batch of 4 failed" in caplog.text


def test_a_graph_whose_output_cannot_follow_is_not_asked_for_batches(tmp_path: Path) -> None:
    """onnxruntime finds out that a constant inside fixes it."""
    free_batch_axis(yolox_detector(tmp_path / "model.onnx"))
    (tmp_path / "model.toml").write_text(YOLOX_TOML, encoding="utf-8")
    (tmp_path / "labels.txt").write_text("red\ngreen\n", encoding="utf-8")
    plan = open_predictor(load_manifest(tmp_path), batches_help=True).batches(4, ModelParameters())
    assert (plan.size, plan.note) == (
        1,
        "one by one: the graph's batch axis is fixed; export it with a free one",
    )


def test_outputs_that_do_not_follow_the_batch_are_refused(tmp_path: Path) -> None:
    """Its picture goes in per item, but one mean of all comes out."""
    folder = tracking_folder(tmp_path)
    graph = folder / "model.onnx"
    free_batch_axis(graph)
    manifest = load_manifest(folder)
    model = onnx.load(graph)
    for node in model.graph.node:
        node.input[:] = ["first" if name == "images" else name for name in node.input]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "zero index"))
    model.graph.node.insert(0, onnx.helper.make_node("Gather", ["images", "zero index"], ["first"], axis=0))
    onnx.save(model, str(graph))
    loaded = OnnxModel(graph)
    fed = ModelInput(manifest.input, loaded)
    items = [[fed.fit(np.zeros((SIZE, SIZE, 3), np.uint8))]] * 4
    with pytest.raises(ModelUnusable, match="for a batch of 4; export the graph again"):
        Batches(loaded, loaded.output_names(manifest.output.names), fed, helps=True).run(items, 4)


LISTED_TOML = """
[model]
objective = "object_tracking"
[input]
width = 64
height = 64
scale = 0.00392156862745098
fit = "stretch"
[output]
head = "detections"
columns = ["other", "box", "class", "score"]
[tracker]
min_frames = 1
"""


def listing_detector(folder: Path) -> Path:
    """As YOLOv7 is exported with suppression: a row of 7 for each bright quarter of each picture, its first
    number the picture's; nothing keeps the pictures of a batch apart."""
    make, floating = onnx.helper.make_node, onnx.TensorProto.FLOAT
    to_row = np.zeros((3, 7), np.float32)
    to_row[0, 0] = 1  # picture
    to_row[2, [1, 3]] = to_row[1, [2, 4]] = 32  # column and row of the quarter
    constants = {
        "channels": np.array([1]),
        "half": np.float32(0.5),
        "to row": to_row,
        "corner": np.array([0, 4, 4, 28, 28, 0, 0.9], np.float32),
    }
    nodes = [
        make("AveragePool", ["images"], ["quarters"], kernel_shape=[32, 32], strides=[32, 32]),
        make("ReduceMean", ["quarters", "channels"], ["grey"], keepdims=0),
        make("Greater", ["grey", "half"], ["bright"]),
        make("NonZero", ["bright"], ["places"]),
        make("Transpose", ["places"], ["listed"], perm=[1, 0]),
        make("Cast", ["listed"], ["numbers"], to=floating),
        make("MatMul", ["numbers", "to row"], ["moved"]),
        make("Add", ["moved", "corner"], ["output"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "listing",
        [onnx.helper.make_tensor_value_info("images", floating, ["n", 3, 64, 64])],
        [onnx.helper.make_tensor_value_info("output", floating, ["listed", 7])],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(folder / "model.onnx"))
    (folder / "model.toml").write_text(LISTED_TOML, encoding="utf-8")
    (folder / "labels.txt").write_text("thing\n", encoding="utf-8")
    return folder


def test_detections_that_are_listed_for_all_pictures_together_are_asked_for_one_by_one(
    tmp_path: Path,
) -> None:
    """Eight rows for eight pictures would look like one row for each."""

    def two_objects_then_none(seconds: float) -> Any:
        picture = np.zeros((64, 64, 3), np.uint8)
        if seconds < 0.35:
            picture[:32, :32] = picture[32:, 32:] = 255
        return picture

    clip = write_clip(tmp_path / "clip.mp4", two_objects_then_none, seconds=0.8)
    predictor = open_predictor(load_manifest(listing_detector(tmp_path)), batches_help=True)
    plan = predictor.batches(8, ModelParameters())
    assert plan.size == 1
    assert "the detections of all pictures of a batch into one list" in plan.note
    ((_, tracks),) = predictor.predict(clip, [WHOLE], ModelParameters(), Watch(), 8)
    assert not isinstance(tracks, InstanceFailure)
    times = [[frame.time_us for frame in track.frames] for track in tracks if isinstance(track, ObjectTrack)]
    assert times == [[0, 100_000, 200_000, 300_000]] * 2


def test_cancelling_half_way_ends_it(tmp_path: Path, video: Path) -> None:
    folder = tracking_folder(tmp_path)
    free_batch_axis(folder / "model.onnx")
    predictor = open_predictor(load_manifest(folder), batches_help=True)
    watch = Watch(cancel_after=10)
    assert list(predictor.predict(video, [WHOLE], ModelParameters(), watch, 4)) == []
    assert len(watch.times) == 10


@pytest.mark.parametrize(
    ("provider", "obstacle", "asked", "size", "note"),
    [
        ("cuda", "", 0, 8, ""),
        ("cuda", "", 1, 1, ""),
        ("tensorrt", "", 16, 16, ""),
        ("cuda", "", -3, 8, ""),
        ("cuda", "", 65, 64, "batches of 64"),
        ("cuda", "its axis is fixed", 0, 1, ""),
        ("cuda", "its axis is fixed", 4, 1, "one by one: its axis is fixed"),
        ("cpu", "", 0, 1, ""),
        ("cpu", "", 1, 1, ""),
        ("cpu", "", 2, 1, "the provider is cpu"),
        ("cpu", "", 4, 1, "the provider is cpu"),
        ("cpu", "its axis is fixed", 1, 1, ""),
        ("cuda", "", 2, 2, ""),
        ("cuda", "", 64, 64, ""),
        ("openvino", "", 4, 1, "the provider is openvino"),
    ],
)
def test_the_plan(provider: str, obstacle: str, asked: int, size: int, note: str) -> None:
    helps = provider in BATCHING_PROVIDERS
    plan = plan_batches(helps=helps, provider=provider, obstacle=obstacle, asked=asked)
    assert plan.size == size
    assert note in plan.note
    assert bool(plan.note) == bool(note)


def test_a_batch_needs_no_more_than_two_callers() -> None:
    assert [callers(1, 16), callers(8, 16), callers(8, 1)] == [16, 2, 1]


def test_shots_are_looked_for_between_single_clips(tmp_path: Path) -> None:
    predictor = open_predictor(free_copy("video-classification", tmp_path), batches_help=True)
    assert predictor.batches(8, ModelParameters()) == BatchPlan(8)
    with_shots = ModelParameters(shot_classification=True)
    plan = predictor.batches(8, with_shots)
    assert plan.size == 1
    assert "shotClassification" in plan.note
    # Nothing is taken away from who asks for single clips.
    assert predictor.batches(1, with_shots) == BatchPlan(1)
    assert predictor.batches(2, with_shots) == plan
