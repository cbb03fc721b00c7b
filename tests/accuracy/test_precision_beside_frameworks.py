"""COCO's mAP of every detection head beside the framework's own post-processing, on the same tensors.

A poor detector looks at a crowd of the video factory; what it sees is written as each kind of network would
have it, several cells for one object. YOLOX, transformers and torchvision are asked themselves; YOLOv5 and v8
are suppressed by torchvision. NanoDet and centre heatmaps have no package that could be installed: they are
decoded as their papers say, with PyTorch and torchvision.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from emulator.inference.heads import Detections
from tests.accuracy.heads_on_tensors import HEIGHT, WIDTH, Outputs, assert_same, head_for
from tests.accuracy.tracking_scenes import LABELS, Look, degraded, detect, looks

torch = pytest.importorskip("torch", reason="`make test-accuracy` installs the frameworks")
torchvision = pytest.importorskip("torchvision", reason="`make test-accuracy` installs the frameworks")
transformers = pytest.importorskip("transformers", reason="`make test-accuracy` installs the frameworks")
yolox_boxes = pytest.importorskip("yolox.utils.boxes", reason="`make test-accuracy` installs the frameworks")
yolox_head = pytest.importorskip(
    "yolox.models.yolo_head", reason="`make test-accuracy` installs the frameworks"
)
coco = pytest.importorskip("pycocotools.coco", reason="`make test-accuracy` installs it")
cocoeval = pytest.importorskip("pycocotools.cocoeval", reason="`make test-accuracy` installs it")

pytestmark = [pytest.mark.accuracy, pytest.mark.filterwarnings("ignore")]

FRAMES = 60
CLASSES = len(LABELS)
#: Below the least score that the detector gives.
LEAST, NMS_IOU = 0.04, 0.65
#: Cells that see one object; what they say of it differs a little.
CELLS_EACH = 3
STRIDES = (8, 16, 32)
CENTER_STRIDE = 8
BINS = 8
QUERIES = 100
#: Nothing is to be seen there.
EMPTY = 1e-4

Found = tuple[Any, Any, Any]
"""Boxes xyxy in pixels, scores and classes from 0."""
Encode = Callable[[Detections, np.random.Generator], Outputs]


@dataclass(frozen=True)
class Case:
    """`[output]` of model.toml, what the network would answer, and the framework's post-processing of it."""

    keys: str
    encode: Encode
    theirs: Callable[[Mapping[str, Any]], Found]


def grid() -> NDArray[np.float64]:
    """(N, 3): column, row and stride of every cell."""
    cells = [
        (x, y, stride) for stride in STRIDES for y in range(HEIGHT // stride) for x in range(WIDTH // stride)
    ]
    return np.array(cells, np.float64)


GRID = grid()


def cells_of(found: Detections, rng: np.random.Generator) -> Iterator[tuple[int, int, float, NDArray[Any]]]:
    """Cell, class, score and box xyxy in pixels of what is seen; no cell twice, its centre in the box."""
    taken: set[int] = set()
    centers = (GRID[:, :2] + 0.5) * GRID[:, 2:]
    for row in range(len(found)):
        box = found.boxes[row] * np.array([WIDTH, HEIGHT] * 2)
        near = np.abs(centers - (box[:2] + box[2:]) / 2).sum(axis=1)
        reaches = np.maximum(centers - box[:2], box[2:] - centers).max(axis=1) < (BINS - 2) * GRID[:, 2]
        inside = ((centers > box[:2] + 1) & (centers < box[2:] - 1)).all(axis=1) & reaches
        free = [cell for cell in np.argsort(near, kind="stable") if inside[cell] and cell not in taken]
        for cell in free[:CELLS_EACH]:
            taken.add(int(cell))
            moved = box + rng.uniform(-0.9, 0.9, 4)
            yield int(cell), int(found.classes[row]), float(found.scores[row] * rng.uniform(0.8, 1)), moved


def grid_scores(rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.uniform(0, 0.02, (len(GRID), CLASSES))


def centered(box: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([(box[:2] + box[2:]) / 2, box[2:] - box[:2]])


def decoded(found: Detections, rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Boxes cxcywh, objectness and class scores of all cells."""
    boxes = np.concatenate(
        [rng.uniform(0, (WIDTH, HEIGHT), (len(GRID), 2)), rng.uniform(9, 90, (len(GRID), 2))], 1
    )
    objectness, scores = rng.uniform(0, 0.02, (len(GRID), 1)), grid_scores(rng)
    for cell, label, score, box in cells_of(found, rng):
        boxes[cell], objectness[cell], scores[cell, label] = centered(box), score**0.5, score**0.5
    return boxes, objectness, scores


def yolov8(found: Detections, rng: np.random.Generator) -> Outputs:
    boxes, _, scores = decoded(found, rng)
    return {"output0": np.concatenate([boxes, scores**2], axis=1).T[None].astype(np.float32)}


def yolov5(found: Detections, rng: np.random.Generator) -> Outputs:
    return {"output0": np.concatenate(decoded(found, rng), axis=1)[None].astype(np.float32)}


def yolox(found: Detections, rng: np.random.Generator) -> Outputs:
    boxes, objectness, scores = decoded(found, rng)
    offsets = boxes[:, :2] / GRID[:, 2:] - GRID[:, :2]
    sizes = np.log(boxes[:, 2:] / GRID[:, 2:])
    return {"output": np.concatenate([offsets, sizes, objectness, scores], axis=1)[None].astype(np.float32)}


def nanodet(found: Detections, rng: np.random.Generator) -> Outputs:
    """A distance is the mean of its distribution: two neighbouring bins share what there is."""
    scores, shares = grid_scores(rng), rng.random((len(GRID), 4, BINS))
    for cell, label, score, box in cells_of(found, rng):
        column, row, stride = GRID[cell]
        x, y = (column + 0.5) * stride, (row + 0.5) * stride
        scores[cell, label], shares[cell] = score, EMPTY
        for side, distance in enumerate((x - box[0], y - box[1], box[2] - x, box[3] - y)):
            whole, part = divmod(max(float(distance), 0.0) / stride, 1)
            shares[cell, side, int(whole)], shares[cell, side, int(whole) + 1] = (
                1 - part + EMPTY,
                part + EMPTY,
            )
    rows = np.concatenate([scores, np.log(shares).reshape(len(GRID), -1)], axis=1)
    return {"output": rows[None].astype(np.float32)}


def center(found: Detections, rng: np.random.Generator) -> Outputs:
    """A score falls off around its cell."""
    rows, columns = HEIGHT // CENTER_STRIDE, WIDTH // CENTER_STRIDE
    heatmap, distances = (
        rng.uniform(0, 0.02, (CLASSES, rows, columns)),
        rng.uniform(4, 40, (4, rows, columns)),
    )
    for number in range(len(found)):
        box = found.boxes[number] * np.array([WIDTH, HEIGHT] * 2)
        column, row = ((box[:2] + box[2:]) / 2 // CENTER_STRIDE).astype(int)
        if not (0 <= column < columns and 0 <= row < rows):
            continue
        for y in range(max(0, row - 1), min(rows, row + 2)):
            for x in range(max(0, column - 1), min(columns, column + 2)):
                score = found.scores[number] * (1.0 if (x, y) == (column, row) else 0.7)
                label = found.classes[number]
                heatmap[label, y, x] = max(heatmap[label, y, x], score)
        middle = (np.array([column, row]) + 0.5) * CENTER_STRIDE
        distances[:, row, column] = np.concatenate([middle - box[:2], box[2:] - middle])
    return {"heatmap": heatmap[None].astype(np.float32), "boxes": distances[None].astype(np.float32)}


def queries(found: Detections, rng: np.random.Generator, columns: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Probabilities (queries, columns) and boxes cxcywh."""
    boxes = np.concatenate([rng.random((QUERIES, 2)), rng.uniform(0.02, 0.3, (QUERIES, 2))], axis=1)
    chances = rng.uniform(EMPTY, 0.02, (QUERIES, columns))
    for query, row in zip(rng.permutation(QUERIES), range(len(found)), strict=False):
        boxes[query] = centered(found.boxes[row])
        chances[query, found.classes[row]] = min(float(found.scores[row]), 0.99)
    return chances, boxes


def detr(found: Detections, rng: np.random.Generator) -> Outputs:
    chances, boxes = queries(found, rng, CLASSES)
    nothing = np.maximum(1 - chances.sum(axis=1, keepdims=True), EMPTY)
    logits = np.log(np.concatenate([chances, nothing], axis=1))
    return {"logits": logits[None].astype(np.float32), "pred_boxes": boxes[None].astype(np.float32)}


def rtdetr(found: Detections, rng: np.random.Generator) -> Outputs:
    chances, boxes = queries(found, rng, CLASSES)
    logits = np.log(chances / (1 - chances))
    return {"logits": logits[None].astype(np.float32), "pred_boxes": boxes[None].astype(np.float32)}


def finished(found: Detections, rng: np.random.Generator) -> Outputs:
    """As torchvision's detectors end: suppressed, best first, classes from 1."""
    boxes, scores, classes = suppressed_rows(torch.from_numpy(yolov8(found, rng)["output0"][0].T.copy()), 4)
    return {"boxes": boxes.numpy(), "scores": scores.numpy(), "labels": classes.numpy() + 1}


def suppressed_rows(rows: Any, first: int) -> Found:
    """torchvision's suppression of rows cxcywh, perhaps objectness, class scores from column `first` on."""
    scores = rows[:, first:] * (rows[:, 4:5] if first == 5 else 1)
    boxes = torchvision.ops.box_convert(rows[:, :4], "cxcywh", "xyxy")
    return suppressed(boxes, scores)


def suppressed(boxes: Any, scores: Any) -> Found:
    best, classes = scores.max(1)
    kept = best >= LEAST
    boxes, best, classes = boxes[kept], best[kept], classes[kept]
    stay = torchvision.ops.batched_nms(boxes, best, classes, NMS_IOU)
    return boxes[stay], best[stay], classes[stay]


def yolox_own(outputs: Mapping[str, Any]) -> Found:
    head = yolox_head.YoloxHead(CLASSES, strides=list(STRIDES))
    head.hw = [(HEIGHT // stride, WIDTH // stride) for stride in STRIDES]
    decoded = head.decode_outputs(outputs["output"].clone(), torch.float32)
    (rows,) = yolox_boxes.postprocess(decoded, CLASSES, LEAST, NMS_IOU)
    return rows[:, :4], rows[:, 4] * rows[:, 5], rows[:, 6].long()


def nanodet_own(outputs: Mapping[str, Any]) -> Found:
    """Generalized Focal Loss (Li et al., NeurIPS 2020), equation 5: a distance is the sum of P(y) y."""
    rows, cells = outputs["output"][0], torch.from_numpy(GRID).float()
    shares = torch.softmax(rows[:, CLASSES:].reshape(-1, 4, BINS), dim=2)
    distances = torch.nn.functional.linear(shares, torch.arange(BINS).float()[None])[..., 0] * cells[:, 2:]
    points = (cells[:, :2] + 0.5) * cells[:, 2:]
    boxes = torch.cat([points - distances[:, :2], points + distances[:, 2:]], dim=1)
    return suppressed(boxes, rows[:, :CLASSES])


def center_own(outputs: Mapping[str, Any]) -> Found:
    """Objects as Points (Zhou et al., 2019): peaks of 3 x 3 maximum pooling."""
    heatmap, distances = outputs["heatmap"], outputs["boxes"][0]
    peaks = (torch.nn.functional.max_pool2d(heatmap, 3, stride=1, padding=1) == heatmap) & (heatmap >= LEAST)
    classes, rows, columns = peaks[0].nonzero(as_tuple=True)
    x, y = (columns + 0.5) * CENTER_STRIDE, (rows + 0.5) * CENTER_STRIDE
    left, top, right, bottom = distances[:, rows, columns]
    boxes = torch.stack([x - left, y - top, x + right, y + bottom], dim=1)
    scores = heatmap[0, classes, rows, columns]
    stay = torchvision.ops.batched_nms(boxes, scores, classes, NMS_IOU)
    return boxes[stay], scores[stay], classes[stay]


def transformers_own(processor: str) -> Callable[[Mapping[str, Any]], Found]:
    def theirs(outputs: Mapping[str, Any]) -> Found:
        answer = type("ObjectDetectionOutput", (), dict(outputs))
        (found,) = getattr(transformers, processor)().post_process_object_detection(
            answer, threshold=LEAST, target_sizes=[(HEIGHT, WIDTH)]
        )
        return found["boxes"], found["scores"], found["labels"]

    return theirs


NMS = f"nms_iou = {NMS_IOU}"
CASES: Mapping[str, Case] = {
    "yolox": Case(f'head = "yolox"\n{NMS}', yolox, yolox_own),
    "yolov5": Case(f'head = "yolov5"\n{NMS}', yolov5, lambda out: suppressed_rows(out["output0"][0], 5)),
    "yolov8": Case(f'head = "yolov8"\n{NMS}', yolov8, lambda out: suppressed_rows(out["output0"][0].T, 4)),
    "nanodet": Case(f'head = "nanodet"\nstrides = [8, 16, 32]\n{NMS}', nanodet, nanodet_own),
    "detr": Case('head = "detr"\nactivation = "softmax"', detr, transformers_own("DetrImageProcessor")),
    "rtdetr": Case('head = "detr"\nactivation = "sigmoid"', rtdetr, transformers_own("RTDetrImageProcessor")),
    "detections": Case(
        'head = "detections"\nfirst_class = 1',
        finished,
        lambda out: (out["boxes"], out["scores"], out["labels"] - 1),
    ),
    "center": Case(f'head = "center"\n{NMS}', center, center_own),
}


def crowd() -> list[tuple[Look, Detections]]:
    """Frames of several clips, each with what a poor detector sees there."""
    frames: list[tuple[Look, Detections]] = []
    for seed in (1, 2, 3, 4):
        seen = looks("crowded", seed)
        pairs = list(zip(seen, detect(seen, degraded("crowded"), seed), strict=True))
        frames += pairs[20:95:5]
    return frames[:FRAMES]


def truth(frames: Sequence[tuple[Look, Detections]]) -> Any:
    """What is to be seen, as pycocotools takes it."""
    boxes = [
        (image, box, label)
        for image, (look, _) in enumerate(frames)
        for box, label in zip(look.boxes, look.classes, strict=True)
    ]
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": int(label),
            "iscrowd": 0,
            **placed(box * np.array([WIDTH, HEIGHT] * 2)),
        }
        for number, (image, box, label) in enumerate(boxes, start=1)
    ]
    document = coco.COCO()
    document.dataset = {
        "info": {},
        "images": [{"id": image} for image in range(len(frames))],
        "categories": [{"id": number, "name": label} for number, label in enumerate(LABELS)],
        "annotations": annotations,
    }
    document.createIndex()
    return document


def placed(box: NDArray[Any]) -> dict[str, Any]:
    x_min, y_min, x_max, y_max = (float(value) for value in box)
    width, height = x_max - x_min, y_max - y_min
    return {"bbox": [x_min, y_min, width, height], "area": width * height}


def precision(expected: Any, found: Sequence[Found]) -> tuple[float, float]:
    """COCO's mAP at 0.5 to 0.95 and at 0.5."""
    rows = [
        {
            "image_id": image,
            "category_id": int(label),
            "score": float(score),
            "bbox": placed(np.asarray(box))["bbox"],
        }
        for image, answer in enumerate(found)
        for box, score, label in zip(*answer, strict=True)
    ]
    evaluation = cocoeval.COCOeval(expected, expected.loadRes(rows), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


@pytest.mark.parametrize("name", CASES)
def test_a_head_is_as_precise_as_the_framework(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    frames = crowd()
    rng = np.random.default_rng(0)
    tensors = [case.encode(found, rng) for _, found in frames]
    head = head_for(tmp_path, CLASSES, f"{case.keys}\nmax_detections = 300", tensors[0], LEAST)
    ours: list[Found] = []
    theirs: list[Found] = []
    for outputs in tensors:
        found = head(outputs)
        expected = case.theirs({key: torch.from_numpy(value) for key, value in outputs.items()})
        assert_same(found, *expected)
        ours.append((found.boxes, found.scores, found.classes))
        theirs.append(expected)
    with contextlib.redirect_stdout(io.StringIO()):
        document = truth(frames)
        (mine, mine_50), (other, other_50) = precision(document, ours), precision(document, theirs)
    print(f"\n{name:12} mAP {100 * mine:5.2f} ({100 * other:5.2f})")
    print(f"{'at 0.5':12}     {100 * mine_50:5.2f} ({100 * other_50:5.2f})")
    assert len(frames) >= 50
    assert 0.2 < other < 0.95
    assert other_50 > 0.6
    assert mine == pytest.approx(other, abs=1e-3)
    assert mine_50 == pytest.approx(other_50, abs=1e-3)
