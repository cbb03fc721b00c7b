"""Real weights on real video: `EMULATOR_REAL_ASSETS` names the folder that holds them."""

from __future__ import annotations

import os
from dataclasses import astuple
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest

from emulator.inference.manifest import ModelManifest
from emulator.inference.objectives import open_predictor
from emulator.inference.predictor import Segment
from emulator.onboarding import named_labels, recognise, write_folder
from emulator.vertex.instances import InstanceFailure
from emulator.vertex.objectives.object_tracking import ObjectTrack
from emulator.vertex.parameters import ModelParameters
from tests.inference.tiny_models import Watch

pytestmark = [
    pytest.mark.assets,
    pytest.mark.skipif(not os.environ.get("EMULATOR_REAL_ASSETS"), reason="EMULATOR_REAL_ASSETS is not set"),
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
    found = tracks(yolox, clip, Segment(2_000_000, 6_000_000))
    assert found
    for track in found:
        assert all(frame.x_min < frame.x_max and frame.y_min < frame.y_max for frame in track.frames)


@pytest.mark.parametrize("head", ["yolov5", "yolov8", "detections"])
def test_other_layouts_of_the_same_weights_find_the_same(
    yolox: ModelManifest, tmp_path: Path, head: str
) -> None:
    """YOLOX-nano with its grids decoded, its scores multiplied, its boxes suppressed in the graph."""
    weights = with_layout(asset("yolox_nano.onnx"), tmp_path / "net.onnx", head)
    taken = {"input.color": "BGR", "input.scale": 1.0, "input.fit": "letterbox-top-left"}
    answers = taken | ({} if head == "detections" else {"output.nms_iou": 0.65})
    found = recognise(weights, labels=named_labels("coco80"), answers=answers)
    assert found.head == head
    manifest = write_folder(found, weights, tmp_path / "model")
    piece = Segment(8_000_000, 12_000_000)
    clip = "one-by-one-person-detection.mp4"
    (expected,) = [track for track in tracks(yolox, clip, piece) if track.confidence >= 0.6]
    (same,) = [track for track in tracks(manifest, clip, piece) if track.confidence >= 0.6]
    assert same.label == expected.label
    assert same.confidence == pytest.approx(expected.confidence, abs=1e-3)
    assert len(same.frames) == len(expected.frames)
    for mine, theirs in zip(same.frames, expected.frames, strict=True):
        assert astuple(mine) == pytest.approx(astuple(theirs), abs=1e-4)


def with_layout(weights: Path, path: Path, head: str) -> Path:
    """The YOLOX graph with what follows it in another export: decoding, one score a class, suppression."""
    model = onnx.load(weights)
    graph = model.graph
    name = graph.output[0].name
    cells = [(x, y, s) for s in (8, 16, 32) for y in range(416 // s) for x in range(416 // s)]
    constants = {
        "cell": np.array([cell[:2] for cell in cells], np.float32)[None],
        "stride": np.array([cell[2:] for cell in cells], np.float32)[None],
        "parts": np.array([2, 2, 1, 80]),
        "half": np.array(0.5, np.float32),
        "most": np.array([50]),
        "iou": np.array([0.65], np.float32),
        "least": np.array([0.1], np.float32),
        "last": np.array([2]),
        "axis": np.array([1]),
        "one": np.array([1]),
        "three": np.array([3]),
        "zero": np.array([0]),
    }
    node = onnx.helper.make_node
    graph.node.extend(
        [
            node("Split", [name, "parts"], ["offset", "log_size", "objectness", "classes"], axis=2),
            node("Add", ["offset", "cell"], ["place"]),
            node("Mul", ["place", "stride"], ["center"]),
            node("Exp", ["log_size"], ["relative"]),
            node("Mul", ["relative", "stride"], ["size"]),
            node("Mul", ["objectness", "classes"], ["products"]),
        ]
    )
    if head == "yolov5":
        graph.node.append(node("Concat", ["center", "size", "objectness", "classes"], ["out"], axis=2))
    elif head == "yolov8":
        graph.node.append(node("Concat", ["center", "size", "products"], ["rows"], axis=2))
        graph.node.append(node("Transpose", ["rows"], ["out"], perm=[0, 2, 1]))
    else:
        graph.node.extend(
            [
                node("Mul", ["size", "half"], ["reach"]),
                node("Sub", ["center", "reach"], ["top_left"]),
                node("Add", ["center", "reach"], ["bottom_right"]),
                node("Concat", ["top_left", "bottom_right"], ["boxes"], axis=2),
                node("Transpose", ["products"], ["by_class"], perm=[0, 2, 1]),
                node("NonMaxSuppression", ["boxes", "by_class", "most", "iou", "least"], ["kept"]),
                node("Slice", ["kept", "one", "three", "axis"], ["class_and_cell"]),
                node("Slice", ["kept", "last", "three", "axis"], ["cells"]),
                node("Slice", ["kept", "one", "last", "axis"], ["numbers"]),
                node("Squeeze", ["boxes", "zero"], ["all_boxes"]),
                node("Squeeze", ["cells", "one"], ["flat_cells"]),
                node("Gather", ["all_boxes", "flat_cells"], ["kept_boxes"], axis=0),
                node("Squeeze", ["by_class", "zero"], ["all_scores"]),
                node("GatherND", ["all_scores", "class_and_cell"], ["kept_scores"]),
                node("Unsqueeze", ["kept_scores", "one"], ["score_column"]),
                node("Cast", ["numbers"], ["class_column"], to=onnx.TensorProto.FLOAT),
                node("Concat", ["kept_boxes", "score_column", "class_column"], ["out"], axis=1),
            ]
        )
    graph.initializer.extend(onnx.numpy_helper.from_array(value, key) for key, value in constants.items())
    del graph.output[:]
    shape = {"yolov5": [1, 3549, 85], "yolov8": [1, 84, 3549], "detections": ["n", 6]}[head]
    graph.output.append(onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, shape))
    model.opset_import[0].version = 13
    onnx.save(model, str(path))
    return path
