"""Every convention that a graph does not show is told with what else would fit, or asked for."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from emulator.inference.manifest import ModelUnusable
from emulator.inference.objectives import open_predictor
from emulator.inference.sections import FITS, HEAD_DEFAULTS, USUAL
from emulator.onboarding import recognise, write_folder
from tests.inference.tiny_models import f32, recorded
from tests.onboarding.test_recognise_layouts import (
    BYTES,
    CELLS,
    LAYOUTS,
    RNG,
    SIZE,
    SQUARE,
    TWO,
    corners,
    decoded,
)

THREE = ("person", "bicycle", "car")
#: Convention -> what it may be; the values that a line about it must name are two of these.
CHOICES: Mapping[str, tuple[str, ...]] = {
    "color": ("RGB", "BGR"),
    "fit": FITS,
    "activation": ("none", "sigmoid", "softmax"),
    "box": ("xyxy", "yxyx", "cxcywh"),
    "box_unit": ("pixels", "relative"),
    "first_class": ("0", "1"),
}
OF_HEADS: Mapping[str, tuple[str, ...]] = {
    "yolox": ("activation",),
    "yolov5": ("activation", "box", "box_unit"),
    "yolov8": ("activation", "box", "box_unit"),
    "nanodet": ("activation",),
    "detr": ("activation", "box", "box_unit", "first_class"),
    "detections": ("activation", "box", "box_unit", "first_class"),
    "clip": ("activation",),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_convention_is_told_with_another_value_that_would_fit(tmp_path: Path, layout: str) -> None:
    outputs, declared, _ = LAYOUTS[layout]
    path = recorded(tmp_path / "net.onnx", outputs, **{"shape": SQUARE, **declared})
    found = recognise(path, labels=TWO)
    document = tomllib.loads(found.manifest)
    told = "\n".join(found.assumptions)
    written = {**USUAL, "activation": "none", "first_class": 0, **HEAD_DEFAULTS.get(found.head, {})}
    written |= {**document["input"], **document["output"]}
    keys = ["fit", *OF_HEADS[found.head], *(["color"] if written["color"] != "GRAY" else [])]
    for key in keys:
        value = str(written[key])
        lines = re.findall(rf"^.*\b{key} {value}(?![\w-]).*$", told, re.MULTILINE)
        assert lines, f"{key} {value} is not among\n{told}"
        others = [choice for choice in CHOICES[key] if choice != value]
        assert any(re.search(rf"\b{other}\b", " ".join(lines)) for other in others), lines
    if declared.get("dtype") is not np.uint8:
        assert re.search(r"\bscale\b.*(mean|scale)", told)
    assert all(f"# Assumed: {line}." in found.manifest for line in found.assumptions)


def test_what_was_said_is_no_assumption(tmp_path: Path) -> None:
    outputs, declared, _ = LAYOUTS["boxes, scores and classes"]
    path = recorded(tmp_path / "net.onnx", outputs, **{"shape": SQUARE, **declared})
    answers = {"output.box": "yxyx", "output.first_class": 1, "input.fit": "stretch"}
    lines = recognise(path, labels=TWO, answers=answers).assumptions
    assert not [line for line in lines if line.startswith(("box ", "first_class ", "fit "))]
    assert [line for line in lines if line.startswith("box_unit ")]


def efficientdet(first: int = 1) -> NDArray[np.float32]:
    """Rows of number, y, x, y, x, score, class: a car and a person."""
    table = np.zeros((1, 100, 7), np.float32)
    table[0, 0] = [0, 90, 120, 150, 200, 0.9, 2 + first]
    table[0, 1] = [0, 10, 10, 60, 40, 0.6, first]
    return table


def detected(path: Path, folder: Path, **said: Any) -> dict[str, tuple[float, ...]]:
    """Label -> box in pixels, of a model that answers the same whatever it sees."""
    from emulator.inference.heads import DETECTION_HEADS
    from emulator.inference.manifest import ModelManifest
    from emulator.inference.onnx_model import OnnxModel
    from emulator.inference.preprocess import ModelInput

    manifest: ModelManifest = write_folder(recognise(path, **said), path, folder)
    open_predictor(manifest)
    model = OnnxModel(manifest.graph)
    head = DETECTION_HEADS[manifest.output.head](manifest, model)
    found = head.decode(model.run(head.names, ModelInput(manifest.input, model).blank()))
    names = [manifest.labels[number].display_name for number in found.classes.tolist()]
    boxes = [tuple(round(side) for side in box) for box in found.boxes.tolist()]
    return dict(zip(names, boxes, strict=True))


CAR, PERSON = (120, 90, 200, 150), (10, 10, 40, 60)


def test_efficientdet_has_y_first_and_counts_from_1(tmp_path: Path) -> None:
    path = recorded(tmp_path / "net.onnx", {"detections": efficientdet()}, **BYTES)
    assert detected(path, tmp_path / "model", labels=THREE) == {"car": CAR, "person": PERSON}
    lines = recognise(path, labels=THREE).assumptions
    assert any(line.startswith("box yxyx") and "xyxy" in line for line in lines)
    assert any(line.startswith("first_class 1") and "0 " in line for line in lines)


def test_class_0_decides_that_none_is_background(tmp_path: Path) -> None:
    path = recorded(tmp_path / "net.onnx", {"detections": efficientdet(first=0)}, **BYTES)
    assert detected(path, tmp_path / "model", labels=THREE) == {"car": CAR, "person": PERSON}


def six_columns() -> NDArray[np.float32]:
    table = np.zeros((1, 300, 6), np.float32)
    table[0, 0] = [*CAR, 0.9, 2]
    table[0, 1] = [*PERSON, 0.6, 0]
    return table


def test_corners_of_colours_last_are_asked_for(tmp_path: Path) -> None:
    path = recorded(tmp_path / "net.onnx", {"output0": six_columns()}, shape=(1, SIZE, SIZE, 3))
    with pytest.raises(ModelUnusable, match=r"--set output.box=yxyx .* or output.box=xyxy"):
        recognise(path, labels=THREE)
    answers = {"output.box": "xyxy"}
    assert detected(path, tmp_path / "model", labels=THREE, answers=answers) == {"car": CAR, "person": PERSON}
    named = {"names": "{0: 'person', 1: 'bicycle', 2: 'car'}", "task": "detect"}
    path = recorded(tmp_path / "ul.onnx", {"o": six_columns()}, shape=(1, SIZE, SIZE, 3), metadata=named)
    assert detected(path, tmp_path / "other") == {"car": CAR, "person": PERSON}


def cells() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Corners in pixels and scores of three classes for each cell; all but one hold nothing."""
    boxes = corners(CELLS) * SIZE
    boxes[700] = CAR
    scores = f32(RNG.uniform(0, 0.02, (CELLS, 3)))
    scores[700, 2] = 0.9
    return boxes, scores


def with_background(scores: NDArray[np.float32], place: str) -> NDArray[np.float32]:
    nothing = 1 - scores.sum(axis=1, keepdims=True)
    return np.concatenate([nothing, scores] if place == "first" else [scores, nothing], axis=1)


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("unit", ["relative", "pixels"])
def test_ssd_before_its_suppression_has_a_class_that_means_nothing(
    tmp_path: Path, place: str, unit: str
) -> None:
    boxes, scores = cells()
    outputs: dict[str, NDArray[Any]] = {
        "scores": with_background(scores, place)[None],
        "boxes": boxes[None] / (SIZE if unit == "relative" else 1),
    }
    path = recorded(tmp_path / "net.onnx", outputs, shape=SQUARE)
    assert detected(path, tmp_path / "model", labels=THREE) == {"car": CAR}
    assert len(recognise(path).labels) == 3


@pytest.mark.parametrize("place", ["first", "last"])
def test_ssd_that_leaves_the_softmax_to_others_is_said(tmp_path: Path, place: str) -> None:
    boxes, scores = cells()
    logits = np.log(np.clip(with_background(scores, place), 1e-4, 1))
    path = recorded(tmp_path / "net.onnx", {"conf": logits[None], "loc": boxes[None] / SIZE}, shape=SQUARE)
    answers = {"output.activation": "softmax", "output.background": place, "output.box": "xyxy"}
    found = detected(path, tmp_path / "model", labels=THREE, head="detr", answers=answers)
    assert found == {"car": CAR}


def test_yolov4_has_an_axis_more(tmp_path: Path) -> None:
    boxes, scores = cells()
    outputs: dict[str, NDArray[Any]] = {"boxes": boxes[None, :, None] / SIZE, "confs": scores[None]}
    path = recorded(tmp_path / "net.onnx", outputs, shape=SQUARE)
    assert detected(path, tmp_path / "model", labels=THREE) == {"car": CAR}


YOLO8 = np.concatenate([*cells()], axis=1)


@pytest.mark.parametrize(
    "output", [YOLO8, YOLO8.T, YOLO8[None, ..., None], YOLO8.T[None, ..., None]], ids=["N", "C", "N1", "C1"]
)
def test_a_batch_axis_may_be_missing_and_one_too_many_be_there(
    tmp_path: Path, output: NDArray[np.float32]
) -> None:
    path = recorded(tmp_path / "net.onnx", {"output0": output}, shape=SQUARE)
    assert detected(path, tmp_path / "model", labels=THREE, head="yolov8") == {"car": CAR}


def centred() -> NDArray[np.float32]:
    """Rows of centre, size and three scores, as YOLOv8 has them."""
    rows = decoded(CELLS, 3)
    rows[:, 4:] *= 0.02
    rows[700] = [160, 120, 80, 60, 0, 0, 0.9]
    return rows


@pytest.mark.parametrize(("task", "columns"), [("segment", 32), ("pose", 51)])
@pytest.mark.parametrize("metadata", [True, False])
def test_masks_and_key_points_are_left_alone(tmp_path: Path, task: str, columns: int, metadata: bool) -> None:
    rows = np.concatenate([centred(), f32(RNG.normal(0, 9, (CELLS, columns)))], axis=1)
    outputs = {"output0": rows.T[None]}
    if task == "segment":
        outputs["output1"] = f32(RNG.normal(0, 1, (1, 32, 80, 80)))
    named = {"names": "{0: 'person', 1: 'bicycle', 2: 'car'}", "task": task} if metadata else None
    path = recorded(tmp_path / "net.onnx", outputs, shape=SQUARE, metadata=named)
    labels = None if metadata else THREE
    assert detected(path, tmp_path / "model", labels=labels) == {"car": CAR}
    assert f"{columns} columns for masks or key points" in recognise(path, labels=THREE).manifest


@pytest.mark.parametrize(("task", "columns"), [("segment", 32), ("pose", 51)])
def test_masks_and_key_points_may_follow_finished_detections(tmp_path: Path, task: str, columns: int) -> None:
    table = np.concatenate([six_columns(), f32(RNG.normal(0, 9, (1, 300, columns)))], axis=2)
    outputs = {"output0": table}
    if task == "segment":
        outputs["output1"] = f32(RNG.normal(0, 1, (1, 32, 80, 80)))
    named = {"names": "{0: 'person', 1: 'bicycle', 2: 'car'}", "task": task}
    path = recorded(tmp_path / "net.onnx", outputs, shape=SQUARE, metadata=named)
    assert detected(path, tmp_path / "model") == {"car": CAR, "person": PERSON}


def nanodet(batch: bool) -> dict[str, NDArray[np.float32]]:
    outputs = {}
    for stride in (8, 16, 32):
        number = (64 // stride) ** 2
        scores = f32(RNG.uniform(0, 0.02, (number, 3)))
        if stride == 16:
            scores[5, 1] = 0.9
        outputs[f"cls_{stride}"] = scores
        outputs[f"reg_{stride}"] = f32(np.zeros((number, 32)))
    return {name: value[None] if batch else value for name, value in outputs.items()}


@pytest.mark.parametrize("batch", [True, False])
def test_nanodet_needs_no_batch_axis(tmp_path: Path, batch: bool) -> None:
    """Point 5 of the grid of stride 16 lies at 24, 24; each distance is 3.5 strides."""
    path = recorded(tmp_path / "net.onnx", nanodet(batch), shape=(1, 3, 64, 64))
    assert detected(path, tmp_path / "model", labels=THREE) == {"bicycle": (-32, -32, 80, 80)}
    with pytest.raises(ModelUnusable, match=r"2 labels were given, but .* has 3 classes"):
        recognise(path, labels=TWO)


def test_a_named_head_takes_what_was_said_although_the_graph_does_not_look_like_it(tmp_path: Path) -> None:
    """Four classes in a grid of strides that no published model has, and logits."""
    rows = f32(RNG.normal(-9, 1, (2 * 100, 9)))
    rows[:, :4] = 0
    rows[150, 4:6] = 9
    path = recorded(tmp_path / "net.onnx", {"raw": rows[None]}, shape=SQUARE)
    with pytest.raises(ModelUnusable, match="no kind known here"):
        recognise(path, labels=("a", "b", "c", "d"))
    with pytest.raises(ModelUnusable, match=r"give --labels and what model\.toml needs with --set"):
        recognise(path, head="yolox")
    answers = {"output.strides": [32, 32], "output.activation": "sigmoid"}
    found = detected(path, tmp_path / "model", labels=("a", "b", "c", "d"), head="yolox", answers=answers)
    assert found == {"a": (-16, 144, 16, 176)}
    lines = recognise(path, labels=("a", "b", "c", "d"), head="yolox", answers=answers).findings
    assert any("because you say so" in line for line in lines)


def test_labels_that_do_not_fit_a_named_head_are_refused_by_the_head(tmp_path: Path) -> None:
    path = recorded(tmp_path / "net.onnx", {"raw": centred()[None]}, shape=SQUARE)
    found = recognise(path, labels=("a",), head="yolov8", answers={"output.min_score": 0.2})
    with pytest.raises(ModelUnusable, match=r"a yolov8 head of 1 labels needs"):
        open_predictor(write_folder(found, path, tmp_path / "model"))


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"input_ids": (("t", "s"), np.int64), "attention_mask": (("t", "s"), np.int64)}, "input_ids"),
        ({"text_tokens": ((1, 77), np.int64)}, "text_tokens"),
        ({"prompt_embeds": ((1, 7, 512), np.float32)}, "prompt_embeds"),
    ],
)
def test_texts_beside_the_picture_are_refused_by_name(
    tmp_path: Path, inputs: Mapping[str, Any], words: str
) -> None:
    path = recorded(tmp_path / "net.onnx", {"scores": f32([[3, -1]])}, shape=(1, 3, 224, 224), others=inputs)
    with pytest.raises(ModelUnusable, match=f"takes text beside the picture: {words}"):
        recognise(path, labels=TWO)


def test_a_free_axis_alone_makes_no_size(tmp_path: Path) -> None:
    others = {"gains": (("n", "m"), np.float32)}
    path = recorded(tmp_path / "net.onnx", {"scores": f32([[3, -1]])}, shape=(1, 3, 224, 224), others=others)
    with pytest.raises(ModelUnusable, match=r"what does the input gains \[\?, \?\] take\?"):
        recognise(path, labels=TWO)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"input.name": "pixels"}, r"has no input 'pixels'; \[input\] name must be one of images"),
        ({"input.layout": "NCTHW"}, "has 4 axes, no layout of 5 fits"),
    ],
)
def test_answers_that_fit_no_input_are_refused(
    tmp_path: Path, answers: Mapping[str, Any], message: str
) -> None:
    path = recorded(tmp_path / "net.onnx", {"scores": f32([[3, -1]])}, shape=(1, 3, 224, 224))
    with pytest.raises(ModelUnusable, match=message):
        recognise(path, labels=TWO, answers=answers)


def test_frames_in_the_place_of_the_batch_are_a_clip(tmp_path: Path) -> None:
    path = recorded(tmp_path / "net.onnx", {"logits": f32([[3, -1]])}, shape=(8, 3, 64, 64))
    found = recognise(path, labels=TWO)
    written = tomllib.loads(found.manifest)["input"]
    assert (written["layout"], written["frames"]) == ("TCHW", 8)
    open_predictor(write_folder(found, path, tmp_path / "model"))


def test_two_layouts_that_fit_are_told(tmp_path: Path) -> None:
    path = recorded(tmp_path / "net.onnx", {"scores": f32([[3, -1]])}, shape=(1, 3, 3, 64, 64))
    assert any(
        "layout NCTHW: NTCHW would fit too" in line for line in recognise(path, labels=TWO).assumptions
    )
