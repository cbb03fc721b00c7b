"""`models add` on the layouts that frameworks export: what is recognised, written and asked for."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from packaging.version import Version

from emulator.inference.manifest import ModelUnusable
from emulator.inference.objectives import open_predictor
from emulator.onboarding import named_labels, recognise, write_folder
from tests.inference.tiny_models import recorded, save_graph

RNG = np.random.default_rng(0)
NAMES = {"names": "{0: 'cat', 1: 'dog'}"}
TWO = ("cat", "dog")
SIZE = 320
CELLS = 40 * 40 + 20 * 20 + 10 * 10
WITH_64 = CELLS + 5 * 5


def decoded(number: int, scores: int) -> NDArray[np.float32]:
    """Rows (number, 4 + scores): boxes cxcywh in pixels and probabilities."""
    boxes = np.concatenate([RNG.uniform(0, SIZE, (number, 2)), RNG.uniform(5, 99, (number, 2))], axis=1)
    return np.concatenate([boxes, RNG.random((number, scores))], axis=1).astype(np.float32)


def corners(number: int) -> NDArray[np.float32]:
    first = RNG.uniform(0, 0.5, (number, 2))
    return np.concatenate([first, first + RNG.uniform(0.1, 0.5, (number, 2))], axis=1).astype(np.float32)


def f32(values: Any) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def whole(*shape: int) -> NDArray[np.float32]:
    return f32(RNG.integers(0, 2, shape))


def rtdetr(columns: int) -> dict[str, NDArray[Any]]:
    return {"logits": f32(RNG.normal(-5, 1, (1, 50, columns))), "pred_boxes": f32(RNG.random((1, 50, 4)) / 2)}


def detr(columns: int) -> dict[str, NDArray[Any]]:
    found = rtdetr(columns)
    found["logits"][..., -1] = 4
    return found


V8 = decoded(CELLS, 2).T[None]
SSD_BOXES, SSD_SCORES, SSD_CLASSES = corners(10)[None], f32(RNG.random((1, 10))), whole(1, 10)
COUNT = f32([10])
PIXEL_BOXES, LABELS64 = corners(30) * SIZE, RNG.integers(1, 3, 30)
SQUARE = (1, 3, SIZE, SIZE)
BYTES: Mapping[str, Any] = {"shape": (1, SIZE, SIZE, 3), "dtype": np.uint8}
TARGET = {"others": {"orig_target_sizes": (("n", 2), np.int64)}}

#: name -> outputs, how the graph is declared, keys that model.toml must have
LAYOUTS: dict[str, tuple[Mapping[str, NDArray[Any]], Mapping[str, Any], Mapping[str, Any]]] = {
    "yolox": (
        {"output": np.concatenate([f32(RNG.normal(0, 1, (1, CELLS, 4))), decoded(CELLS, 3)[None, :, 4:]], 2)},
        {},
        {"output.head": "yolox", "output.activation": "none", "input.color": "BGR"},
    ),
    "yolov5": (
        {"output0": decoded(3 * CELLS, 3)[None]},
        {},
        {"output.head": "yolov5", "output.box_unit": "pixels", "input.fit": "letterbox-center"},
    ),
    "yolov5 beside its feature maps": (
        {"output0": decoded(3 * CELLS, 3)[None], "a": f32(RNG.random((1, 3, 40, 40, 7)))},
        {},
        {"output.head": "yolov5"},
    ),
    "yolox decoded in the graph": ({"output": decoded(CELLS, 3)[None]}, {}, {"output.head": "yolov5"}),
    "yolov8": ({"output0": V8}, {}, {"output.head": "yolov8", "input.width": SIZE}),
    "yolov8 transposed": ({"output0": V8.transpose(0, 2, 1)}, {}, {"output.head": "yolov8"}),
    "yolov8 relative": (
        {"output0": np.concatenate([V8[:, :4] / SIZE, V8[:, 4:]], axis=1)},
        {},
        {"output.head": "yolov8", "output.box_unit": "relative"},
    ),
    "yolov8 of free size": (
        {"output0": V8},
        {"shape": ("batch", 3, "height", "width"), "metadata": NAMES | {"imgsz": "[320, 320]"}},
        {"output.head": "yolov8", "input.width": SIZE, "input.height": SIZE},
    ),
    "end to end": (
        {
            "output0": np.concatenate([corners(300) * SIZE, RNG.random((300, 1)), whole(300, 1)], 1)[
                None
            ].astype("f")
        },
        {},
        {
            "output.head": "detections",
            "output.columns": ["box", "score", "class"],
            "output.box": "xyxy",
            "output.nms_iou": 1.0,
            "input.fit": "letterbox-center",
        },
    ),
    "RT-DETR of Ultralytics": (
        {
            "output0": np.concatenate(
                [RNG.uniform(0.1, (0.9, 0.9, 0.2, 0.2), (300, 4)), RNG.random((300, 1)), whole(300, 1)], 1
            )[None].astype("f")
        },
        {"metadata": NAMES | {"task": "detect", "head": "RTDETRDecoder"}},
        {
            "output.head": "detections",
            "output.box": "cxcywh",
            "output.box_unit": "relative",
            "input.fit": "stretch",
        },
    ),
    "end to end of YOLOv7": (
        {
            "output": np.concatenate(
                [0 * whole(9, 1), corners(9) * SIZE, whole(9, 1), f32(RNG.random((9, 1)))], 1
            )
        },
        {"free": {"output": ("n", 7)}},
        {"output.columns": ["other", "box", "class", "score"]},
    ),
    "Paddle": (
        {"out": np.concatenate([whole(9, 1), f32(RNG.random((9, 1))), corners(9) * SIZE], 1)},
        {"others": {"scale_factor": ((1, 2), np.float32), "im_shape": ((1, 2), np.float32)}},
        {
            "output.columns": ["class", "score", "box"],
            "input.others": {"scale_factor": "ones", "im_shape": "height-width"},
        },
    ),
    "boxes, scores and classes": (
        {"scores": SSD_SCORES, "boxes": SSD_BOXES * SIZE, "classes": SSD_CLASSES},
        {},
        {"output.names": ["boxes", "scores", "classes"], "output.box": "xyxy", "output.box_unit": "pixels"},
    ),
    "DETR": (
        detr(3),
        {"others": {"pixel_mask": ((1, SIZE, SIZE), np.int64)}},
        {
            "output.head": "detr",
            "output.activation": "softmax",
            "output.first_class": 0,
            "input.others": {"pixel_mask": "ones"},
        },
    ),
    "DETR with an unused class": (detr(4), {}, {"output.activation": "softmax", "output.first_class": 1}),
    "RT-DETR": (rtdetr(2), {}, {"output.activation": "sigmoid", "output.names": ["logits", "pred_boxes"]}),
    "RF-DETR": (
        {"dets": rtdetr(3)["pred_boxes"], "labels": rtdetr(3)["logits"]},
        {},
        {"output.activation": "sigmoid", "output.first_class": 1, "output.names": ["labels", "dets"]},
    ),
    "RT-DETR with its post-processing": (
        {
            "labels": RNG.integers(0, 2, (1, 50)),
            "boxes": corners(50)[None] * SIZE,
            "scores": f32(RNG.random((1, 50))),
        },
        TARGET,
        {
            "output.head": "detections",
            "output.names": ["boxes", "scores", "labels"],
            "output.first_class": 0,
            "input.others": {"orig_target_sizes": "width-height"},
        },
    ),
    "TF detection API": (
        {
            "num_detections": COUNT,
            "raw_detection_boxes": SSD_BOXES,
            "detection_classes": SSD_CLASSES + 1,
            "detection_scores": SSD_SCORES,
            "detection_boxes": SSD_BOXES,
        },
        {"shape": (1, "h", "w", 3), "dtype": np.uint8},
        {
            "output.names": ["detection_boxes", "detection_scores", "detection_classes", "num_detections"],
            "output.box": "yxyx",
            "output.box_unit": "relative",
            "output.first_class": 1,
            "input.layout": "NHWC",
        },
    ),
    "TFLite with numbered outputs": (
        {
            "TFLite_Detection_PostProcess": SSD_BOXES,
            "TFLite_Detection_PostProcess:1": 0 * SSD_CLASSES,
            "TFLite_Detection_PostProcess:2": 0 * SSD_SCORES,
            "TFLite_Detection_PostProcess:3": 0 * COUNT,
        },
        BYTES,
        {
            "output.names": [f"TFLite_Detection_PostProcess{n}" for n in ("", ":2", ":1", ":3")],
            "output.box": "yxyx",
            "output.first_class": 0,
        },
    ),
    "TFLite in the other order": (
        {
            "StatefulPartitionedCall:0": SSD_SCORES,
            "StatefulPartitionedCall:1": SSD_BOXES,
            "StatefulPartitionedCall:2": COUNT,
            "StatefulPartitionedCall:3": SSD_CLASSES,
        },
        BYTES,
        {"output.names": [f"StatefulPartitionedCall:{n}" for n in (1, 0, 3, 2)], "output.first_class": 0},
    ),
    "torchvision": (
        {"boxes": PIXEL_BOXES, "labels": LABELS64, "scores": f32(RNG.random(30))},
        {"shape": (3, SIZE, SIZE), "free": {"boxes": ("n", 4), "labels": ("n",), "scores": ("n",)}},
        {
            "input.layout": "CHW",
            "output.names": ["boxes", "scores", "labels"],
            "output.first_class": 1,
            "output.box": "xyxy",
            "output.box_unit": "pixels",
        },
    ),
    # Its answer has labels before scores, SSD's the other way round, and an export names them in order.
    "torchvision's Faster R-CNN with the names of its SSD": (
        {"boxes": PIXEL_BOXES, "scores": LABELS64, "labels": f32(RNG.random(30))},
        {"shape": (3, SIZE, SIZE), "free": {"boxes": ("n", 4), "scores": ("n",), "labels": ("n",)}},
        {"output.names": ["boxes", "labels", "scores"], "output.first_class": 1},
    ),
    "torchvision that finds nothing": (
        {"boxes": f32(np.zeros((0, 4))), "scores": np.zeros(0, np.int64), "labels": f32(np.zeros(0))},
        {"shape": (3, SIZE, SIZE), "free": {"boxes": ("n", 4), "scores": ("n",), "labels": ("n",)}},
        {"output.names": ["boxes", "labels", "scores"], "output.first_class": 1},
    ),
    "YOLO-NAS with suppression, for batches": (
        {
            "num_predictions": np.array([[0]]),
            "pred_boxes": f32(-np.ones((1, 9, 4))),
            "pred_scores": f32(-np.ones((1, 9))),
            "pred_classes": -np.ones((1, 9), np.int64),
        },
        {"shape": SQUARE, "dtype": np.uint8},
        {
            "output.names": ["pred_boxes", "pred_scores", "pred_classes", "num_predictions"],
            "output.box": "xyxy",
            "output.box_unit": "pixels",
        },
    ),
    "YOLO-NAS with suppression, in one list": (
        {"graph2_flat_predictions": f32(np.zeros((0, 7)))},
        {"shape": SQUARE, "dtype": np.uint8, "free": {"graph2_flat_predictions": ("n", 7)}},
        {"output.columns": ["other", "box", "score", "class"], "input.scale": None},
    ),
    "a list of seven columns, the score before the class": (
        {
            "output": np.concatenate(
                [0 * whole(9, 1), corners(9) * SIZE, f32(RNG.random((9, 1))), whole(9, 1)], 1
            )
        },
        {},
        {"output.columns": ["other", "box", "score", "class"]},
    ),
    "Paddle with its count": (
        {
            "multiclass_nms3_0.tmp_0": np.concatenate(
                [whole(9, 1), f32(RNG.random((9, 1))), corners(9) * SIZE], 1
            ),
            "multiclass_nms3_0.tmp_2": np.array([9], np.int32),
        },
        {"free": {"multiclass_nms3_0.tmp_0": ("n", 6)}},
        {"output.columns": ["class", "score", "box"], "output.names": ["multiclass_nms3_0.tmp_0"]},
    ),
    "TF detection API of a frozen graph": (
        {
            "num_detections:0": COUNT,
            "detection_boxes:0": SSD_BOXES,
            "detection_scores:0": 0 * SSD_SCORES,
            "detection_classes:0": SSD_CLASSES + 1,
        },
        {"shape": (1, "h", "w", 3), "dtype": np.uint8},
        {"output.box": "yxyx", "output.box_unit": "relative", "output.first_class": 1},
    ),
    "classes of which one is the number after the last label's": (
        {"boxes": SSD_BOXES * SIZE, "scores": f32(RNG.random((1, 10))), "classes": SSD_CLASSES * 0 + 2},
        {},
        {"output.first_class": 1},
    ),
    "relative boxes of another framework than TensorFlow": (
        {"boxes": SSD_BOXES, "scores": f32(RNG.random((1, 10))), "classes": SSD_CLASSES},
        {},
        {"output.box": "xyxy", "output.box_unit": "relative"},
    ),
    "a detector of grey pictures": (
        {"output0": V8},
        {"shape": (1, 1, SIZE, SIZE)},
        {"output.head": "yolov8", "input.color": "GRAY", "input.mean": None},
    ),
    "a DETR of grey pictures": (
        detr(3),
        {"shape": (1, 1, SIZE, SIZE)},
        {"input.color": "GRAY", "input.mean": None, "input.std": None, "input.scale": 1 / 255},
    ),
    "end to end that finds nothing": (
        {"output0": f32(np.zeros((1, 300, 6)))},
        {"metadata": NAMES | {"task": "detect", "end2end": "False"}},
        {"output.head": "detections", "output.columns": ["box", "score", "class"]},
    ),
    "NanoDet-Plus": (
        {
            "output": np.concatenate(
                [f32(RNG.random((1, WITH_64, 2))), f32(RNG.normal(0, 2, (1, WITH_64, 32)))], 2
            )
        },
        {},
        {"output.head": "nanodet", "output.strides": [8, 16, 32, 64], "output.cell_offset": 0.0},
    ),
    "PicoDet": (
        {
            f"{part}_{stride}": f32(RNG.random((1, (SIZE // stride) ** 2, width)) * scale)
            for stride in (8, 16, 32, 64)
            for part, width, scale in (("a", 2, 1), ("b", 32, 5))
        },
        {},
        {
            "output.head": "nanodet",
            "output.names": [f"{part}_{stride}" for part in "ab" for stride in (8, 16, 32, 64)],
            "output.cell_offset": 0.5,
        },
    ),
    "boxes in corners, not yet suppressed": (
        {"boxes": corners(CELLS)[None] * SIZE, "scores": f32(RNG.random((1, CELLS, 2)))},
        {},
        {"output.head": "detr", "output.box": "xyxy", "output.box_unit": "pixels", "output.nms_iou": 0.65},
    ),
    "MoViNet as TF has it": (
        {"scores": f32([[3, -1]])},
        {"shape": (1, 8, 172, 172, 3)},
        {
            "input.layout": "NTHWC",
            "input.frames": 8,
            "input.mean": None,
            "input.std": None,
            "output.activation": "softmax",
        },
    ),
    "two pathways": (
        {"scores": f32([[0.25, 0.75]])},
        {"shape": (1, 3, 8, 64, 64), "others": {"second": ((1, 3, 32, 64, 64), np.float32)}},
        {
            "input.name": "second",
            "input.frames": 32,
            "input.slow_name": "images",
            "input.slow_frames": 8,
            "output.activation": "none",
        },
    ),
    "crops beside the batch": (
        {"scores": f32([[3, -1]])},
        {"shape": (1, 1, 3, 16, 64, 64)},
        {"input.layout": "NMCTHW", "input.frames": 16},
    ),
    "Ultralytics' classifier": (
        {"output0": f32([[0.75, 0.25]])},
        {"shape": (1, 3, 224, 224), "metadata": NAMES | {"task": "classify"}},
        {"input.scale": 1 / 255, "input.mean": None, "input.std": None, "output.activation": "none"},
    ),
    "logits near 0": (
        {"scores": f32([[4e-4, -3e-4]])},
        {"shape": (1, 3, 224, 224)},
        {"input.mean": [0.485, 0.456, 0.406], "output.activation": "softmax"},
    ),
    "single frames": (
        {"scores": f32([[3, -1]])},
        {"shape": ("n", 3, "h", "w")},
        {
            "input.layout": "NCHW",
            "input.width": 224,
            "actions.smooth": 9,
            "model.objective": "action_recognition",
        },
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_recognised_and_runs(tmp_path: Path, layout: str) -> None:
    outputs, declared, expected = LAYOUTS[layout]
    path = recorded(tmp_path / "net.onnx", outputs, **{"shape": SQUARE, **declared})
    found = recognise(path, labels=TWO)
    document = tomllib.loads(found.manifest)
    written = {key: document[key.split(".")[0]].get(key.split(".")[1]) for key in expected}
    assert written == dict(expected)
    assert found.findings
    assert found.assumptions
    open_predictor(write_folder(found, path, tmp_path / "model"))


@pytest.mark.parametrize("shape", [("n", 3, "h", "w"), (1, 3, 16, 112, 112)])
def test_classifiers_are_for_videos_where_that_is_said(tmp_path: Path, shape: tuple[int | str, ...]) -> None:
    path = recorded(tmp_path / "net.onnx", {"scores": f32([[3, -1]])}, shape=shape)
    assert "--head scores makes it a model for classification" in recognise(path, labels=TWO).manifest
    found = recognise(path, labels=TWO, head="scores")
    document = tomllib.loads(found.manifest)
    assert document["model"]["objective"] == "classification"
    assert document["output"] == {"head": "scores", "activation": "softmax"}
    assert document["sampling"] == {"rate": 5}
    assert "actions" not in document
    open_predictor(write_folder(found, path, tmp_path / "model"))


# The first onnxruntime that reads an opset; older ones than the lowest that we allow read the others.
READ_SINCE = {22: "1.21", 23: "1.22"}


@pytest.mark.parametrize("opset", [11, 13, 17, 21, 22, 23])
def test_graphs_of_old_and_new_opsets_run(tmp_path: Path, opset: int) -> None:
    if Version(onnxruntime.__version__) < Version(READ_SINCE.get(opset, "0")):
        pytest.skip(f"onnxruntime {onnxruntime.__version__} does not read opset {opset}")
    path = recorded(tmp_path / "net.onnx", {"output0": V8}, shape=SQUARE, opset=opset)
    open_predictor(write_folder(recognise(path, labels=TWO), path, tmp_path / "model"))


def test_a_likely_number_of_classes_decides_and_is_told(tmp_path: Path) -> None:
    """85 columns on the grid are 80 classes with objectness, or 81 without; 84 are 79 or 80."""
    for columns, head in ((81, "yolov5"), (80, "yolov8")):
        path = recorded(tmp_path / f"{head}.onnx", {"o": decoded(CELLS, columns)[None]}, shape=SQUARE)
        found = recognise(path)
        assert found.head == head
        assert any("COCO's 80 classes" in line for line in found.assumptions)


def test_two_readings_are_asked_for_by_name(tmp_path: Path) -> None:
    path = recorded(tmp_path / "net.onnx", {"o": decoded(CELLS, 3)[None]}, shape=SQUARE)
    message = (
        "yolov5 of 2 classes or yolov8 of 3 classes. Say which: --head yolov5 or --head yolov8; --labels"
    )
    with pytest.raises(ModelUnusable, match=message):
        recognise(path)
    assert recognise(path, head="yolov8").head == "yolov8"
    assert recognise(path, labels=("a", "b", "c")).head == "yolov8"
    with pytest.raises(ModelUnusable, match=r"80 labels were given, but .* has 2 or 3 classes"):
        recognise(path, labels=named_labels("coco80"))


def test_classes_that_no_shape_shows_are_asked_for(tmp_path: Path) -> None:
    outputs, declared, _ = LAYOUTS["TF detection API"]
    path = recorded(tmp_path / "net.onnx", outputs, **declared)
    with pytest.raises(
        ModelUnusable, match=r"how many classes it has; give --labels FILE .* coco80 or coco90"
    ):
        recognise(path)
    background = recognise(path, labels=("background", "cat", "dog")).manifest
    assert tomllib.loads(background)["output"]["first_class"] == 0


def test_no_object_that_no_value_shows_is_asked_for(tmp_path: Path) -> None:
    outputs = {"logits": f32(RNG.normal(0, 1, (1, 50, 7))), "pred_boxes": f32(RNG.random((1, 50, 4)))}
    path = recorded(tmp_path / "net.onnx", outputs)
    with pytest.raises(ModelUnusable, match=r"--set output.activation=softmax \(it is\) or sigmoid"):
        recognise(path)
    found = recognise(path, answers={"output.activation": "softmax"})
    assert len(found.labels) == 6
    assert tomllib.loads(found.manifest)["output"]["activation"] == "softmax"


@pytest.mark.parametrize(("columns", "mean"), [(80, None), (91, [0.485, 0.456, 0.406])])
def test_the_classes_of_coco_tell_conditional_detr_from_rtdetr(
    tmp_path: Path, columns: int, mean: list[float] | None
) -> None:
    path = recorded(tmp_path / "net.onnx", rtdetr(columns))
    written = tomllib.loads(recognise(path, labels=[f"label {n}" for n in range(columns)]).manifest)
    assert written["output"]["activation"] == "sigmoid"
    assert written["input"].get("mean") == mean


@pytest.mark.parametrize("columns", [1, 2])
def test_few_classes_are_no_sign_of_a_class_that_means_no_object(tmp_path: Path, columns: int) -> None:
    found = recognise(recorded(tmp_path / "net.onnx", rtdetr(columns), shape=SQUARE))
    assert tomllib.loads(found.manifest)["output"]["activation"] == "sigmoid"
    assert len(found.labels) == columns


def test_seven_columns_of_which_no_row_was_seen_are_asked_for(tmp_path: Path) -> None:
    path = recorded(
        tmp_path / "net.onnx", {"output": f32(np.zeros((0, 7)))}, shape=SQUARE, free={"output": ("n", 7)}
    )
    with pytest.raises(
        ModelUnusable, match=r'say what its columns are: .* \["other", "box", "score", "class"\]'
    ):
        recognise(path, labels=TWO)
    told = ["other", "box", "score", "class"]
    found = recognise(path, labels=TWO, answers={"output.columns": told})
    assert tomllib.loads(found.manifest)["output"]["columns"] == told


def test_six_columns_of_which_no_row_was_seen_are_an_assumption(tmp_path: Path) -> None:
    found = recognise(recorded(tmp_path / "net.onnx", {"output0": f32(np.zeros((1, 300, 6)))}), labels=TWO)
    assert any(
        "columns box, score, class, box_unit pixels: no box was found" in line for line in found.assumptions
    )
    assert not any("columns" in line for line in found.findings)


def test_deltas_are_no_boxes(tmp_path: Path) -> None:
    """RetinaNet's, whose anchors are outside the graph."""
    outputs = {"regression": f32(RNG.normal(0, 1, (1, 900, 4))), "scores": f32(RNG.random((1, 900, 2)))}
    with pytest.raises(ModelUnusable, match="are neither relative nor in pixels"):
        recognise(recorded(tmp_path / "net.onnx", outputs, shape=SQUARE), labels=TWO)


def test_an_output_that_is_not_there_cannot_be_named(tmp_path: Path) -> None:
    path = recorded(tmp_path / "net.onnx", {"output0": V8}, shape=SQUARE)
    with pytest.raises(ModelUnusable, match=r"has no output 'boxes' with an axis; .* must be of output0"):
        recognise(path, answers={"output.names": ["boxes"]})


def test_one_named_output_of_several_is_enough(tmp_path: Path) -> None:
    table = np.concatenate([corners(9) * SIZE, f32(RNG.random((9, 1))), whole(9, 1)], 1)[None]
    outputs = {"features": f32(RNG.random((1, 8, 40, 40))), "found": table}
    path = recorded(tmp_path / "net.onnx", outputs, shape=SQUARE)
    found = recognise(path, labels=TWO, answers={"output.names": ["found"]})
    assert open_predictor(write_folder(found, path, tmp_path / "model"))
    with pytest.raises(ModelUnusable, match="is of no kind known here"):
        recognise(path, labels=TWO, answers={"output.names": ["features", "found"]})


def test_outputs_that_cannot_be_told_apart_are_asked_for(tmp_path: Path) -> None:
    outputs = {"a": SSD_BOXES, "b": 0 * SSD_SCORES, "c": 0 * SSD_CLASSES, "d": COUNT}
    path = recorded(tmp_path / "net.onnx", outputs, **BYTES)
    with pytest.raises(ModelUnusable, match=r"--set 'output.names="):
        recognise(path, labels=TWO)
    found = recognise(path, labels=TWO, answers={"output.names": ["a", "b", "c", "d"]})
    assert found.head == "detections"


def test_an_input_of_unknown_use_is_asked_for(tmp_path: Path) -> None:
    path = recorded(tmp_path / "net.onnx", {"o": V8}, shape=SQUARE, others={"gain": ((1, 7), np.float32)})
    with pytest.raises(
        ModelUnusable, match=r"what does the input gain \[1, 7\] take\? .*--set 'input.others="
    ):
        recognise(path, labels=TWO)
    found = recognise(path, labels=TWO, answers={"input.others": {"gain": "ones"}})
    assert tomllib.loads(found.manifest)["input"]["others"] == {"gain": "ones"}
    with pytest.raises(ModelUnusable, match="does not take width-height"):
        recognise(path, labels=TWO, answers={"input.others": {"gain": "width-height"}})


@pytest.mark.parametrize("order", ["width-height", "height-width"])
def test_the_order_of_a_size_is_found_out(tmp_path: Path, order: str) -> None:
    """A graph that multiplies its boxes with the size it is given."""
    node = helper.make_node
    nodes = [
        node("Gather", ["sizes", "x and y"], ["four"], axis=1),
        node("Cast", ["four"], ["factors"], to=TensorProto.FLOAT),
        node("Mul", ["relative", "factors"], ["boxes"]),
        node("Identity", ["recorded scores"], ["scores"]),
        node("Identity", ["recorded labels"], ["labels"]),
    ]
    constants = {
        "x and y": np.array([0, 1, 0, 1] if order == "width-height" else [1, 0, 1, 0]),
        "relative": SSD_BOXES,
        "recorded scores": SSD_SCORES,
        "recorded labels": SSD_CLASSES,
    }
    path = save_graph(
        tmp_path / "net.onnx",
        nodes,
        {"images": (1, 3, 64, 128), "sizes": ("n", 2)},
        {"boxes": (1, 10, 4), "scores": (1, 10), "labels": (1, 10)},
        constants,
    )
    found = recognise(path, labels=TWO)
    assert tomllib.loads(found.manifest)["input"]["others"] == {"sizes": order}


def test_answers_fill_free_axes_and_win(tmp_path: Path) -> None:
    path = recorded(tmp_path / "net.onnx", {"o": V8}, shape=(1, 3, "h", "w"))
    found = recognise(path, labels=TWO, answers={"input.width": 320, "input.height": 320, "input.pad": 0})
    written = tomllib.loads(found.manifest)["input"]
    assert (written["width"], written["height"], written["pad"]) == (320, 320, 0)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"metadata": {"task": "obb"}}, "is a model for obb by its metadata, which has no upright boxes"),
        ({"shape": (8, 3, SIZE, SIZE)}, r"takes 8 at a time, .*batch axis of 1, or a free one"),
        ({"shape": (1, 12)}, "no input looks like a picture"),
        ({"dtype": np.int64}, "no input looks like a picture"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, declared: Mapping[str, Any], message: str) -> None:
    path = recorded(tmp_path / "net.onnx", {"o": V8}, **{"shape": SQUARE, **declared})
    with pytest.raises(ModelUnusable, match=message):
        recognise(path, labels=TWO)
