"""Recognises detectors that leave suppression to others: they give a result for every grid cell."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.inference.heads.detections import as_table
from emulator.inference.sections import InputSection
from emulator.onboarding.graph import Graph, Output, between_0_and_1, box_form, metadata_literal
from emulator.onboarding.guess import (
    IMAGENET,
    ULTRALYTICS_INPUT,
    Guess,
    scores_are,
    sigmoid_unless,
)

STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32), (8, 16))
#: Bins of a distance's distribution: NanoDet and PicoDet have 8, GFL has 17, older NanoDet had 11.
BINS = (8, 17, 11, 16)
ANCHORS = 3


def yolox(graph: Graph) -> Guess | str:
    """[1, N, 5 + classes] of raw grid offsets."""
    found = _rows(graph)
    if isinstance(found, str):
        return found
    output, rows = found
    strides = _strides(graph.input, len(rows))
    if strides is None or rows.shape[1] < 6:
        return f"its output is [1, cells of the grids, 5 + classes], here it is {list(rows.shape)}"
    if _is_decoded(rows, graph.input):
        return "its boxes are decoded in the graph already"
    probabilities = between_0_and_1(rows[:, 4:])
    if not probabilities and _share_of_fractions(rows[:, 4:]) > 0.5:
        return "only some of its columns from the fifth on are scores"
    return Guess(
        head="yolox",
        classes=rows.shape[1] - 5,
        input={"color": "BGR", "scale": 1.0, "fit": "letterbox-top-left", "pad": 114},
        output={
            **_named(graph, output),
            "activation": sigmoid_unless(probabilities),
            "strides": strides,
            "nms_iou": 0.65,
        },
        findings=(
            f"YOLOX: output {output} is the raw grid of strides {_listed(strides)}",
            f"{rows.shape[1] - 5} classes, {scores_are(probabilities)}",
        ),
        assumptions=(
            "color BGR, scale 1.0 (0 to 255), as YOLOX is exported since 0.1.1; older weights want RGB, "
            "scale 0.00392156862745098, mean [0.485, 0.456, 0.406], std [0.229, 0.224, 0.225]",
        ),
    )


def yolov5(graph: Graph) -> Guess | str:
    """[1, N, 5 + classes] of decoded boxes, objectness and class scores."""
    found = _rows(graph)
    if isinstance(found, str):
        return found
    output, rows = found
    extra = _extra(graph, rows, 5)
    anchors = len(rows) % ANCHORS == 0 and _strides(graph.input, len(rows) // ANCHORS) is not None
    if rows.shape[1] < 6 or not (anchors or _strides(graph.input, len(rows))):
        return (
            f"its output is [1, {ANCHORS} x cells of the grids, 5 + classes], here it is {list(rows.shape)}"
        )
    relative = anchors and _is_relative(rows)
    if not relative and not _is_decoded(rows, graph.input):
        return "its boxes are not decoded in the graph"
    if not between_0_and_1(rows[:, 4 : rows.shape[1] - extra]):
        return "its columns from the fifth on are not all probabilities"
    kind = "YOLOv5 or v7" if anchors else "YOLOv6, or YOLOX decoded in the graph"
    usual = (
        "color RGB, scale 0.00392157, fit letterbox-center as YOLO models are trained; a YOLOX wants "
        "color BGR, "
        "scale 1.0, fit letterbox-top-left"
    )
    return Guess(
        head="yolov5",
        classes=rows.shape[1] - 5 - extra,
        input=ULTRALYTICS_INPUT,
        output={**_yolo_output(graph, output, rows, extra), "box_unit": "relative" if relative else "pixels"},
        findings=(
            f"{kind}: output {output} has decoded boxes, objectness and class scores{_beside(extra)}",
            f"{rows.shape[1] - 5 - extra} classes, {scores_are(True)}",
        ),
        assumptions=() if anchors else (usual,),
    )


def yolov8(graph: Graph) -> Guess | str:
    """[1, 4 + classes, N], or the other way round: boxes and class scores without objectness."""
    found = _rows(graph)
    if isinstance(found, str):
        return found
    output, rows = found
    upright = rows.shape[0] < rows.shape[1]
    cells = rows.T if upright else rows
    on_grid = _strides(graph.input, len(cells)) is not None
    if cells.shape[1] < 5 or not (on_grid or (upright and len(cells) >= 100)):
        return f"its output is [1, 4 + classes, cells of the grids], here it is {[1, *rows.shape]}"
    relative = upright and _is_relative(cells)
    if not relative and not _is_decoded(cells, graph.input):
        return "its boxes are not decoded in the graph"
    extra = _extra(graph, cells, 4)
    if not between_0_and_1(cells[:, 4 : cells.shape[1] - extra]):
        return (
            "its scores are not probabilities; where masks or key points follow them, give --labels, or "
            "say how "
            "many columns these have: --set output.extra=32"
        )
    return Guess(
        head="yolov8",
        classes=cells.shape[1] - 4 - extra,
        input=ULTRALYTICS_INPUT,
        output={
            **_yolo_output(graph, output, cells, extra),
            "box_unit": "relative" if relative else "pixels",
        },
        findings=(
            f"YOLOv8 or a later one: output {output} has decoded boxes and class scores, no "
            f"objectness{_beside(extra)}",
            f"{cells.shape[1] - 4 - extra} classes, {scores_are(True)}",
        ),
    )


def _yolo_output(graph: Graph, output: Output, rows: NDArray[Any], extra: int) -> dict[str, object]:
    return {
        **_named(graph, output),
        "box": box_form(rows[:, :4]),
        "nms_iou": 0.45,
        **({"extra": extra} if extra else {}),
    }


def _named(graph: Graph, output: Output) -> dict[str, object]:
    return {"names": [output.name]} if len(graph.model.outputs) > 1 else {}


def _beside(extra: int) -> str:
    return f", and {extra} columns for masks or key points, which are not used" if extra else ""


def _extra(graph: Graph, rows: NDArray[Any], first: int) -> int:
    """The number of columns for masks or key points after the class scores, which begin at `first`."""
    if "output.extra" in graph.answers:
        return int(graph.answers["output.extra"])
    masks = [output.value.shape[1] for output in graph.outputs if output.value.ndim == 4]
    if graph.labels is None:
        return masks[0] if len(masks) == 1 and rows.shape[1] > first + masks[0] else 0
    rest = rows.shape[1] - first - len(graph.labels)
    told = rest in masks or metadata_literal(graph.model, "task") in ("segment", "pose")
    return rest if rest > 0 and (told or not between_0_and_1(rows[:, rows.shape[1] - rest :])) else 0


def nanodet(graph: Graph) -> Guess | str:
    """Class scores and distributions of distances, in one tensor or in two for every stride."""
    found = _joined_distributions(graph) if len(graph.outputs) == 1 else _separate_distributions(graph)
    if isinstance(found, str):
        return found
    strides, scores, names = found
    probabilities = between_0_and_1(scores)
    plus = len(strides) == 4 and not names
    offset = 0.0 if plus else 0.5
    pico = len(strides) == 4 and bool(names)
    caffe = {
        "color": "BGR",
        "scale": 1.0,
        "mean": [103.53, 116.28, 123.675],
        "std": [57.375, 57.12, 58.395],
    }
    return Guess(
        head="nanodet",
        classes=scores.shape[1],
        input={**(IMAGENET if pico else caffe), "fit": "stretch"},
        output={
            **({"names": names} if names else {}),
            "activation": sigmoid_unless(probabilities),
            "strides": strides,
            "cell_offset": offset,
            "nms_iou": 0.6,
        },
        findings=(
            f"NanoDet or PicoDet: class scores and distance distributions of strides {_listed(strides)}",
            f"{scores.shape[1]} classes, {scores_are(probabilities)}",
        ),
        assumptions=(
            f"cell_offset {offset}: NanoDet-Plus measures from the corner of a cell (0.0), NanoDet and "
            "PicoDet from its middle (0.5)",
            "color RGB, scale 0.00392157, mean and std of PicoDet (ImageNet); NanoDet wants BGR, scale "
            "1.0, mean "
            "[103.53, 116.28, 123.675], std [57.375, 57.12, 58.395]"
            if pico
            else "color BGR, scale 1, mean and std of NanoDet; PicoDet wants RGB, scale 0.00392156862745098, "
            "mean [0.485, 0.456, 0.406], std [0.229, 0.224, 0.225]",
        ),
    )


def center(graph: Graph) -> Guess | str:
    """A heatmap [1, classes, h, w] and boxes [1, 4, h, w]."""
    if len(graph.outputs) != 2 or any(output.value.ndim != 4 for output in graph.outputs):
        return "it has one picture as input and two outputs [1, classes, h, w] and [1, 4, h, w]"
    heatmap, boxes = sorted(graph.outputs, key=lambda output: "box" in output.name)
    if boxes.value.shape[1] != 4:
        heatmap, boxes = boxes, heatmap
    if boxes.value.shape[1] != 4 or heatmap.value.shape[2:] != boxes.value.shape[2:]:
        return f"its outputs are a heatmap and boxes of one size, here {heatmap} and {boxes}"
    classes = heatmap.value.shape[1]
    return Guess(
        head="center",
        classes=classes,
        input={"color": graph.input.color, "scale": 1 / 255, "fit": "letterbox-center"},
        output={"names": [heatmap.name, boxes.name], "activation": sigmoid_unless(heatmap.fractions)},
        findings=(
            f"centre heatmap and boxes: {heatmap}, {boxes}",
            f"{classes} classes, {scores_are(heatmap.fractions)}",
        ),
    )


def _rows(graph: Graph) -> tuple[Output, NDArray[Any]] | str:
    """The only tensor [1, A, B] of the YOLO family, as (A, B). Feature maps or masks may come with it."""
    tables = [(output, table) for output in graph.outputs if (table := as_table(output.value)) is not None]
    rest = [output for output in graph.outputs if output.name not in {one.name for one, _ in tables}]
    if graph.is_clip or len(tables) != 1 or any(output.value.ndim not in (4, 5) for output in rest):
        return (
            "it has one picture as input and one output [1, cells, columns] (the first axis may be missing)"
        )
    output, table = tables[0]
    if not table.size:
        return f"its output is of one picture, here it is {output}"
    if not np.isfinite(table).all():
        return "its output holds NaN or infinite numbers"
    return output, table


def _strides(spec: InputSection, cells: int) -> tuple[int, ...] | None:
    for strides in STRIDES:
        if cells == sum(
            math.ceil(spec.width / stride) * math.ceil(spec.height / stride) for stride in strides
        ):
            return strides
    return None


def _is_decoded(rows: NDArray[Any], spec: InputSection) -> bool:
    """Whether boxes are decoded: they reach far across the picture, but raw offsets are a few units."""
    return bool(rows[:, :2].max() > max(spec.width, spec.height) / 4)


def _is_relative(rows: NDArray[Any]) -> bool:
    """Whether boxes are relative: their centres cover 0 to 1, but raw offsets hardly vary between cells."""
    return between_0_and_1(rows[:, :4]) and bool(np.ptp(rows[:, :2], axis=0).min() > 0.5)


def _share_of_fractions(columns: NDArray[Any]) -> float:
    inside = (columns.min(axis=0) > -1e-3) & (columns.max(axis=0) < 1 + 1e-3)
    return float(inside.mean())


Distributions = tuple[tuple[int, ...], NDArray[Any], list[str]]


def _joined_distributions(graph: Graph) -> Distributions | str:
    found = _rows(graph)
    if isinstance(found, str):
        return found
    rows = found[1]
    strides = _strides(graph.input, len(rows))
    if strides is not None:
        for classes in _class_counts(graph, rows.shape[1]):
            scores, distances = rows[:, :classes], rows[:, classes:]
            if between_0_and_1(scores) and not between_0_and_1(distances):
                return strides, scores, []
    return (
        "its output is [1, cells of the grids, classes + 4 x bins] with scores that are probabilities, "
        f"here it is {[1, *rows.shape]}"
    )


def _class_counts(graph: Graph, width: int) -> Iterator[int]:
    """The possible numbers of class scores in a row, by the labels or the usual numbers of bins."""
    if graph.labels is not None:
        rest = width - len(graph.labels)
        if rest >= 8 and rest % 4 == 0:
            yield len(graph.labels)
    yield from (width - 4 * bins for bins in BINS if width > 4 * bins)


def _separate_distributions(graph: Graph) -> Distributions | str:
    outputs = sorted(graph.outputs, key=lambda output: -output.value.size // max(1, _channels(output)))
    channels = sorted({_channels(output) for output in outputs})
    if (
        len(channels) != 2
        or len(outputs) % 2
        or any(output.value.ndim not in (2, 3, 4) for output in outputs)
    ):
        return "it has for every stride one output of class scores and one of distances"
    # Labels that do not match the number of classes are refused later, with both numbers.
    readings = [(distances, labels) for labels in {graph.labels, None} for distances in channels]
    readings.sort(key=lambda reading: reading[1] is None)
    for distances, labels in readings:
        scores = [output for output in outputs if _channels(output) != distances]
        rest = [output for output in outputs if _channels(output) == distances]
        fits = distances % 4 == 0 and distances >= 8 and len(scores) == len(rest)
        cells = sum(output.value.size // _channels(output) for output in scores)
        strides = _strides(graph.input, cells)
        if fits and strides is not None and len(strides) == len(scores) and _may_be_scores(labels, scores):
            flat = [_flat(output.value) for output in scores]
            return strides, np.concatenate(flat), [output.name for output in (*scores, *rest)]
    return "its outputs are class scores and 4 x bins distances of every stride"


def _may_be_scores(labels: tuple[str, ...] | None, outputs: list[Output]) -> bool:
    if labels is not None:
        return _channels(outputs[0]) == len(labels)
    return all(output.fractions for output in outputs) or any("cls" in output.name for output in outputs)


def _channels(output: Output) -> int:
    return int(output.value.shape[1 if output.value.ndim == 4 else -1])


def _flat(value: NDArray[Any]) -> NDArray[Any]:
    if value.ndim == 4:
        value = value[0].reshape(value.shape[1], -1).T
    return np.asarray(value.reshape(-1, value.shape[-1]))


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))
