"""Heads against plain loops over the same tensors, and what they say of tensors that cannot be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from emulator.inference.heads import CenterHead, ClipHead, Detections, YoloxHead, suppress
from emulator.inference.manifest import ModelUnusable, load_manifest
from emulator.inference.onnx_model import OnnxModel
from emulator.inference.preprocess import Geometry
from emulator.inference.sections import OutputSection
from tests.inference.tiny_models import (
    SIZE,
    TRACKING_TOML,
    actions_folder,
    center_detector,
    tracking_folder,
    yolox_detector,
)

YOLOX_TOML = TRACKING_TOML.replace('"center"', '"yolox"')
WHOLE = Geometry(0, 0, SIZE, SIZE)


def yolox_head(folder: Path, toml: str = YOLOX_TOML) -> YoloxHead:
    tracking_folder(folder, toml)
    return YoloxHead(load_manifest(folder), OnnxModel(yolox_detector(folder / "model.onnx")))


def center_head(folder: Path, **detector: Any) -> CenterHead:
    tracking_folder(folder, **detector)
    return CenterHead(load_manifest(folder), OnnxModel(folder / "model.onnx"))


def random_yolox(seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 0.6, (1, 84, 7)).astype(np.float32)
    rows[..., 4:] = rng.random((1, 84, 3), np.float32)
    return rows


@pytest.mark.parametrize("seed", range(5))
def test_yolox_decodes_as_published(tmp_path: Path, seed: int) -> None:
    rows = random_yolox(seed)
    found = yolox_head(tmp_path).decode([rows])
    expected = []
    row = 0
    for stride in (8, 16, 32):
        for y in range(SIZE // stride):
            for x in range(SIZE // stride):
                dx, dy, w, h, objectness, *scores = rows[0, row].tolist()
                row += 1
                score = objectness * max(scores)
                if score >= 0.3:
                    cx, cy = (dx + x) * stride, (dy + y) * stride
                    half_w, half_h = np.exp(w) * stride / 2, np.exp(h) * stride / 2
                    box = (cx - half_w, cy - half_h, cx + half_w, cy + half_h)
                    expected.append((*box, score, scores.index(max(scores))))
    assert len(expected) > 5
    got = np.column_stack([found.boxes, found.scores, found.classes])
    np.testing.assert_allclose(got, np.array(expected), atol=1e-3)


def test_yolox_logits_become_probabilities(tmp_path: Path) -> None:
    rows = random_yolox(3)
    toml = YOLOX_TOML.replace('"yolox"', '"yolox"\nactivation = "sigmoid"')
    logits = rows.copy()
    logits[..., 4:] = np.log(rows[..., 4:] / (1 - rows[..., 4:]))
    plain = yolox_head(tmp_path / "plain").decode([rows])
    found = yolox_head(tmp_path / "logits", toml).decode([logits])
    assert 5 < len(plain) < 84
    np.testing.assert_allclose(found.scores, plain.scores, atol=1e-5)
    np.testing.assert_array_equal(found.classes, plain.classes)
    np.testing.assert_array_equal(found.boxes, plain.boxes)
    # As they are the logits are no probabilities: nothing but the activation makes them such.
    with pytest.raises(ModelUnusable, match="not between 0 and 1"):
        yolox_head(tmp_path / "raw").decode([logits])


@pytest.mark.parametrize("found", [0, 84])
def test_yolox_may_find_nothing_or_everything(tmp_path: Path, found: int) -> None:
    rows = np.zeros((1, 84, 7), np.float32)
    rows[..., 4:] = 1.0 if found else 0.0
    assert len(yolox_head(tmp_path).decode([rows])) == found


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (np.zeros((1, 84, 8), np.float32), r"needs \[1, 84, 7\].*labels file"),
        (np.zeros((1, 80, 7), np.float32), r"output output is \[1, 80, 7\].*strides"),
        (np.full((1, 84, 7), np.nan, np.float32), "NaN or infinite"),
        (np.full((1, 84, 7), 5, np.float32), "a score is 5, not between 0 and 1.*activation to sigmoid"),
        (np.tile(np.array([0, 0, 500, 0, 1, 1, 1], np.float32), (1, 84, 1)), "NaN or infinite"),
    ],
)
def test_yolox_refuses_what_cannot_be_right(tmp_path: Path, tensor: NDArray[Any], message: str) -> None:
    with pytest.raises(ModelUnusable, match=message):
        yolox_head(tmp_path).decode([tensor])


def test_center_takes_peaks_and_distances(tmp_path: Path) -> None:
    heatmap, boxes = np.zeros((1, 2, 8, 8), np.float32), np.zeros((1, 4, 8, 8), np.float32)
    heatmap[0, 0, 2, 3], heatmap[0, 0, 2, 4], heatmap[0, 1, 7, 0] = 0.9, 0.8, 0.5
    boxes[0, :, 2, 3] = [10, 5, 6, 7]
    boxes[0, :, 7, 0] = [9, 1, 1, 1]
    found = center_head(tmp_path).decode([heatmap, boxes])
    assert found.classes.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.5])
    # Centres of the cells: (28, 20) and (4, 60).
    assert found.boxes.tolist() == [[18, 15, 34, 27], [-5, 59, 5, 61]]


def test_center_tells_its_outputs_by_shape_or_name(tmp_path: Path) -> None:
    assert center_head(tmp_path / "a", names=("scores", "zzz")).names == ["scores", "zzz"]
    assert center_head(tmp_path / "b", names=("x", "a_boxes")).names == ["x", "a_boxes"]


@pytest.mark.parametrize(
    ("heatmap", "message"),
    [
        (np.zeros((1, 3, 8, 8)), "one channel per label|a channel per label"),
        (np.zeros((1, 2, 4, 8)), r"boxes \[1, 4, h, w\]"),
        (np.full((1, 2, 8, 8), np.inf), "NaN or infinite"),
        (np.full((1, 2, 8, 8), -3), "not between 0 and 1"),
    ],
)
def test_center_refuses_what_cannot_be_right(tmp_path: Path, heatmap: NDArray[Any], message: str) -> None:
    with pytest.raises(ModelUnusable, match=message):
        center_head(tmp_path).decode([heatmap.astype(np.float32), np.zeros((1, 4, 8, 8), np.float32)])


def clip_head(folder: Path, activation: str) -> ClipHead:
    actions_folder(folder)
    toml = (folder / "model.toml").read_text().replace('"softmax"', f'"{activation}"')
    (folder / "model.toml").write_text(toml)
    return ClipHead(load_manifest(folder), OnnxModel(folder / "model.onnx"))


@pytest.mark.parametrize(
    ("activation", "raw", "expected"),
    [
        ("softmax", [0, np.log(3), 0], [0.2, 0.6, 0.2]),
        ("softmax", [1000, 0, 0], [1, 0, 0]),
        ("sigmoid", [0, np.log(3), -1000], [0.5, 0.75, 0]),
        ("none", [0.1, 1.0005, 0.3], [0.1, 1, 0.3]),
    ],
)
def test_clip_scores_are_probabilities(
    tmp_path: Path, activation: str, raw: list[float], expected: list[float]
) -> None:
    scores = clip_head(tmp_path, activation).decode([np.array([raw], np.float32)])
    assert scores.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([[0.1, 0.2]], r"output scores is \[1, 2\], but the labels file has 3 lines"),
        ([[0.1, np.nan, 0.2]], "NaN or infinite"),
        ([[4.0, 1, 2]], "not between 0 and 1; these are logits"),
    ],
)
def test_clip_refuses_what_cannot_be_right(tmp_path: Path, scores: list[list[float]], message: str) -> None:
    with pytest.raises(ModelUnusable, match=message):
        clip_head(tmp_path, "none").decode([np.array(scores, np.float32)])


def spec(**values: Any) -> OutputSection:
    return OutputSection(head="yolox", **{"nms_iou": 0.65, **values})


def test_suppression_keeps_the_best_of_a_class_and_all_classes() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [30, 30, 40, 40]], np.float32)
    found = Detections(boxes, np.array([0.5, 0.9, 0.7, 0.6], np.float32), np.array([0, 0, 1, 0]))
    kept = suppress(found, spec(nms_iou=0.5), WHOLE)
    assert kept.scores.tolist() == pytest.approx([0.9, 0.7, 0.6])
    assert kept.classes.tolist() == [0, 1, 0]
    assert kept.boxes[0].tolist() == pytest.approx([1 / 64, 0, 11 / 64, 10 / 64])


def test_suppression_limits_and_survives_ten_thousand_candidates() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 60, (10_000, 2)).astype(np.float32)
    found = Detections(
        np.hstack([corner, corner + 1]), rng.random(10_000, np.float32), np.zeros(10_000, np.int64)
    )
    kept = suppress(found, spec(max_detections=100), WHOLE)
    assert len(kept) == 100
    assert kept.scores.tolist() == sorted(kept.scores.tolist(), reverse=True)


def test_boxes_become_relative_to_the_frame_inside_the_letterbox() -> None:
    geometry = Geometry(left=0, top=16, width=64, height=32)
    boxes = np.array([[0, 16, 64, 48], [-16, 8, 32, 32]], np.float32)
    assert geometry.to_relative(boxes).tolist() == [[0, 0, 1, 1], [-0.25, -0.25, 0.5, 0.5]]


def test_center_detector_builder_is_valid(tmp_path: Path) -> None:
    model = OnnxModel(center_detector(tmp_path / "m.onnx"))
    assert str(model.input()) == "images [1, 3, 64, 64]"
