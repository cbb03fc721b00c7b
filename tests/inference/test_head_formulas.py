"""Every detection head against its published formula, written as plain loops, on 50 made-up outputs each.

`tests/accuracy` compares the same heads with the frameworks' own code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from emulator.inference.heads import DETECTION_HEADS, suppress
from emulator.inference.manifest import load_manifest
from emulator.inference.onnx_model import OnnxModel
from emulator.inference.preprocess import Geometry
from tests.inference.tiny_models import recorded

WIDTH, HEIGHT, CLASSES = 128, 96, 4
STRIDES = (8, 16, 32)
LEAST, NMS_IOU, TENSORS = 0.3, 0.6, 50

Outputs = Mapping[str, NDArray[Any]]
#: score, class, box xyxy in pixels
Row = tuple[float, int, tuple[float, float, float, float]]


def cells() -> list[tuple[int, int, int]]:
    """(column, row, stride), as grids are joined."""
    return [
        (x, y, stride) for stride in STRIDES for y in range(HEIGHT // stride) for x in range(WIDTH // stride)
    ]


def around(cx: float, cy: float, w: float, h: float) -> tuple[float, float, float, float]:
    return (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)


def sharp(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Probabilities, few of them high."""
    return np.asarray(rng.random(shape) ** 6, np.float32)


def decoded(rng: np.random.Generator, number: int) -> NDArray[np.float32]:
    """Boxes (N, 4) cxcywh in pixels."""
    places = rng.uniform(0, (WIDTH, HEIGHT), (number, 2))
    return np.concatenate([places, rng.uniform(4, 60, (number, 2))], axis=1).astype(np.float32)


def yolox_outputs(rng: np.random.Generator) -> Outputs:
    rows = rng.normal(0, 0.7, (len(cells()), 5 + CLASSES)).astype(np.float32)
    rows[:, 4:] = np.sqrt(sharp(rng, len(rows), 1 + CLASSES))
    return {"output": rows[None]}


def yolox_rows(outputs: Outputs) -> list[Row]:
    found = []
    for (x, y, stride), values in zip(cells(), outputs["output"][0].tolist(), strict=True):
        dx, dy, w, h, objectness, *scores = values
        box = around((x + dx) * stride, (y + dy) * stride, math.exp(w) * stride, math.exp(h) * stride)
        found.append((objectness * max(scores), scores.index(max(scores)), box))
    return found


def yolov5_outputs(rng: np.random.Generator) -> Outputs:
    number = 3 * len(cells())
    scores = np.sqrt(sharp(rng, number, 1 + CLASSES))
    return {"output0": np.concatenate([decoded(rng, number), scores], axis=1)[None]}


def yolov5_rows(outputs: Outputs) -> list[Row]:
    found = []
    for cx, cy, w, h, objectness, *scores in outputs["output0"][0].tolist():
        found.append((objectness * max(scores), scores.index(max(scores)), around(cx, cy, w, h)))
    return found


def yolov8_outputs(rng: np.random.Generator) -> Outputs:
    number = len(cells())
    return {"output0": np.concatenate([decoded(rng, number), sharp(rng, number, CLASSES)], axis=1).T[None]}


def yolov8_rows(outputs: Outputs) -> list[Row]:
    found = []
    for cx, cy, w, h, *scores in outputs["output0"][0].T.tolist():
        found.append((max(scores), scores.index(max(scores)), around(cx, cy, w, h)))
    return found


def nanodet_outputs(rng: np.random.Generator) -> Outputs:
    number = len(cells())
    distances = rng.normal(0, 2, (number, 32)).astype(np.float32)
    return {"output": np.concatenate([sharp(rng, number, CLASSES), distances], axis=1)[None]}


def nanodet_rows(outputs: Outputs) -> list[Row]:
    found = []
    for (x, y, stride), values in zip(cells(), outputs["output"][0].tolist(), strict=True):
        scores, sides = values[:CLASSES], []
        for side in range(4):
            bins = values[CLASSES + 8 * side : CLASSES + 8 * side + 8]
            powers = [math.exp(one) for one in bins]
            sides.append(stride * sum(k * power for k, power in enumerate(powers)) / sum(powers))
        cx, cy = (x + 0.5) * stride, (y + 0.5) * stride
        box = (cx - sides[0], cy - sides[1], cx + sides[2], cy + sides[3])
        found.append((max(scores), scores.index(max(scores)), box))
    return found


def queries(rng: np.random.Generator, columns: int) -> Outputs:
    boxes = np.concatenate([rng.random((30, 2)), rng.uniform(0.05, 0.5, (30, 2))], axis=1)
    logits = rng.normal(-1, 2, (30, columns))
    return {"logits": logits[None].astype(np.float32), "pred_boxes": boxes[None].astype(np.float32)}


def relative_box(values: list[float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = around(*values)
    return (x0 * WIDTH, y0 * HEIGHT, x1 * WIDTH, y1 * HEIGHT)


def detr_rows(outputs: Outputs) -> list[Row]:
    """The last class is no object, class 0 is unused."""
    found = []
    for logits, box in zip(outputs["logits"][0].tolist(), outputs["pred_boxes"][0].tolist(), strict=True):
        powers = [math.exp(one) for one in logits]
        scores = [power / sum(powers) for power in powers][1:-1]
        found.append((max(scores), scores.index(max(scores)), relative_box(box)))
    return found


def rtdetr_rows(outputs: Outputs) -> list[Row]:
    return [
        (1 / (1 + math.exp(-logit)), number, relative_box(box))
        for logits, box in zip(outputs["logits"][0].tolist(), outputs["pred_boxes"][0].tolist(), strict=True)
        for number, logit in enumerate(logits)
    ]


def tf_outputs(rng: np.random.Generator) -> Outputs:
    corners = rng.uniform(0, 0.6, (1, 20, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.05, 0.4, (1, 20, 2))], axis=2)
    number = int(rng.integers(0, 20))
    scores = -np.sort(-rng.random((1, 20)))
    scores[:, number:] = 0
    return {
        "detection_boxes": boxes.astype(np.float32),
        "detection_scores": scores.astype(np.float32),
        "detection_classes": rng.integers(1, 1 + CLASSES, (1, 20)).astype(np.float32),
        "num_detections": np.array([number], np.float32),
    }


def tf_rows(outputs: Outputs) -> list[Row]:
    found = []
    for number in range(int(outputs["num_detections"][0])):
        y0, x0, y1, x1 = outputs["detection_boxes"][0, number].tolist()
        score = float(outputs["detection_scores"][0, number])
        box = (x0 * WIDTH, y0 * HEIGHT, x1 * WIDTH, y1 * HEIGHT)
        found.append((score, int(outputs["detection_classes"][0, number]) - 1, box))
    return found


def end_to_end_outputs(rng: np.random.Generator) -> Outputs:
    boxes = np.array([around(*box) for box in decoded(rng, 40).tolist()])
    rows = [boxes, rng.random((40, 1)), rng.integers(0, CLASSES, (40, 1))]
    return {"output0": np.concatenate(rows, axis=1)[None].astype(np.float32)}


def end_to_end_rows(outputs: Outputs) -> list[Row]:
    return [(row[4], int(row[5]), (row[0], row[1], row[2], row[3])) for row in outputs["output0"][0].tolist()]


def center_outputs(rng: np.random.Generator) -> Outputs:
    shape = (HEIGHT // 8, WIDTH // 8)
    return {
        "heatmap": sharp(rng, 1, CLASSES, *shape),
        "boxes": rng.uniform(2, 30, (1, 4, *shape)).astype(np.float32),
    }


def center_rows(outputs: Outputs) -> list[Row]:
    """An object where no neighbour has a higher score; edges are measured from the middle of the cell."""
    found = []
    for number, scores in enumerate(outputs["heatmap"][0].tolist()):
        for y, row in enumerate(scores):
            for x, score in enumerate(row):
                around_it = [line[max(0, x - 1) : x + 2] for line in scores[max(0, y - 1) : y + 2]]
                if score == max(max(part) for part in around_it):
                    left, top, right, bottom = outputs["boxes"][0, :, y, x].tolist()
                    cx, cy = 8 * x + 4, 8 * y + 4
                    found.append((score, number, (cx - left, cy - top, cx + right, cy + bottom)))
    return found


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / (sum(areas) - both)


def suppressed(rows: list[Row]) -> list[Row]:
    """Greedy, class by class, the best first."""
    kept: list[Row] = []
    for row in sorted((row for row in rows if row[0] >= LEAST), key=lambda row: -row[0]):
        if all(other[1] != row[1] or overlap(other[2], row[2]) <= NMS_IOU for other in kept):
            kept.append(row)
    return kept


NMS = f"nms_iou = {NMS_IOU}"
DONE = "nms_iou = 1.0"
TF_KEYS = (
    'names = ["detection_boxes", "detection_scores", "detection_classes", "num_detections"]\n'
    'box = "yxyx"\nbox_unit = "relative"\nfirst_class = 1'
)
CASES: dict[str, tuple[Callable[[np.random.Generator], Outputs], Callable[[Outputs], list[Row]], str]] = {
    "yolox": (yolox_outputs, yolox_rows, f'head = "yolox"\n{NMS}'),
    "yolov5": (yolov5_outputs, yolov5_rows, f'head = "yolov5"\n{NMS}'),
    "yolov8": (yolov8_outputs, yolov8_rows, f'head = "yolov8"\n{NMS}'),
    "nanodet": (nanodet_outputs, nanodet_rows, f'head = "nanodet"\n{NMS}'),
    "detr": (
        lambda rng: queries(rng, CLASSES + 2),
        detr_rows,
        'head = "detr"\nactivation = "softmax"\nfirst_class = 1',
    ),
    "rtdetr": (lambda rng: queries(rng, CLASSES), rtdetr_rows, 'head = "detr"\nactivation = "sigmoid"'),
    "tf": (tf_outputs, tf_rows, f'head = "detections"\n{TF_KEYS}'),
    "end-to-end": (end_to_end_outputs, end_to_end_rows, 'head = "detections"'),
    "center": (center_outputs, center_rows, f'head = "center"\n{NMS}'),
}


def folder_of(folder: Path, output_keys: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.txt").write_text("a\nb\nc\nd\n")
    (folder / "model.toml").write_text(
        f'[model]\nobjective = "object_tracking"\nid = "m"\n[input]\nwidth = {WIDTH}\nheight = {HEIGHT}\n'
        f"[output]\n{output_keys}\nmin_score = {LEAST}\n"
    )
    return folder


@pytest.mark.parametrize("case", CASES)
def test_a_head_is_its_published_formula(tmp_path: Path, case: str) -> None:
    make, reference, keys = CASES[case]
    folder = folder_of(tmp_path, keys)
    recorded(folder / "model.onnx", make(np.random.default_rng(0)), shape=(1, 3, HEIGHT, WIDTH))
    manifest = load_manifest(folder)
    head = DETECTION_HEADS[manifest.output.head](manifest, OnnxModel(manifest.graph))
    whole = Geometry(0, 0, WIDTH, HEIGHT)
    compared = 0
    for seed in range(TENSORS):
        outputs = make(np.random.default_rng(seed))
        rows = reference(outputs)
        if manifest.output.nms_iou < 1:
            expected = suppressed(rows)
        else:
            expected = sorted((row for row in rows if row[0] >= LEAST), key=lambda row: -row[0])
        found = suppress(head.decode([outputs[name] for name in head.names]), manifest.output, whole)
        boxes = found.boxes * np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
        assert found.classes.tolist() == [row[1] for row in expected]
        np.testing.assert_allclose(found.scores, [row[0] for row in expected], atol=1e-3)
        np.testing.assert_allclose(boxes, np.array([row[2] for row in expected]).reshape(-1, 4), atol=1e-3)
        compared += len(expected)
    assert compared > 4 * TENSORS
