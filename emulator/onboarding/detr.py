"""Recognises detectors with a box and scores for each query or cell: DETR and its kin, YOLO-NAS, SSD."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.inference.heads.detections import as_table
from emulator.onboarding.graph import Graph, Output, box_form
from emulator.onboarding.guess import IMAGENET, ULTRALYTICS_INPUT, Guess, scores_are

#: Width of the logits of DETR as published: COCO's ids 0 to 90, and a no-object class.
COCO_DETR = 92
#: The same for its kin with low scores instead of a no-object class; RT-DETR and D-FINE have just COCO's 80.
COCO_SIGMOID_DETR = 91
#: Logits below this belong to absent classes.
FAR_BELOW = -2
#: A set prediction has at most this many boxes, and needs no suppression.
MOST_QUERIES = 1000


def detr(graph: Graph) -> Guess | str:
    """Class logits [1, queries, classes] and boxes [1, queries, 4]."""
    pair = _logits_and_boxes(graph)
    if pair is None or graph.is_clip:
        return "it has outputs [1, queries, classes] and [1, queries, 4]"
    logits, boxes = pair
    names = {"names": [logits.name, boxes.name]}
    columns = logits.value.shape[-1]
    far = float(np.abs(boxes.value).max(initial=0))
    pixels = far > 2
    if (pixels and far < min(graph.input.width, graph.input.height) / 4) or boxes.value.min(
        initial=0
    ) < -far / 2:
        return f"its boxes, up to {far:.3g}, are neither relative nor in pixels"
    if pixels or logits.fractions or graph.answer("output.background", "last") != "last":
        return _boxes_and_scores(graph, logits, boxes, pixels=pixels)
    told = _classes_of(graph, logits)
    if told is None:
        return (
            "whether the last class of its logits is no object cannot be told; say --set "
            "output.activation=softmax (it is) or sigmoid (it is a class like the others), and give --labels"
        )
    activation, first = told
    classes = columns - first - (activation == "softmax")
    imagenet = activation == "softmax" or logits.name == "labels" or columns == COCO_SIGMOID_DETR
    kind = "DETR" if activation == "softmax" else "RT-DETR, D-FINE or another of sigmoid scores"
    return Guess(
        head="detr",
        classes=classes,
        input={**(IMAGENET if imagenet else {"color": "RGB", "scale": 1 / 255}), "fit": "stretch"},
        output={
            **names,
            "activation": activation,
            "first_class": first,
            "box": box_form(_as_rows(boxes)),
            "box_unit": "relative",
            "nms_iou": 1.0,
            "max_detections": min(len(_as_rows(boxes)), 10_000),
        },
        findings=(f"{kind}: {logits} and {boxes}", f"{classes} classes, {scores_are(False)}"),
        assumptions=(
            "activation softmax: the last class is no object; if there is none such, sigmoid (and a "
            "label more)"
            if activation == "softmax"
            else "activation sigmoid; softmax where the last class is no object (and a label less)",
            f"first_class {first}: "
            f"{'0 where the first label is class 0' if first else '1 where class 0 is unused'}",
            "scale 0.00392157, mean and std of ImageNet; RT-DETR and D-FINE are trained with mean [0.0], std "
            "[1.0]; scale 1.0 where 0 to 255 was trained"
            if imagenet
            else "scale 0.00392157, mean [0.0], std [1.0]; DETR and RF-DETR want mean [0.485, 0.456, 0.406], "
            "std [0.229, 0.224, 0.225]; scale 1.0 where 0 to 255 was trained",
            "fit stretch: letterbox-top-left with pad 0 where the aspect ratio was kept in training",
        ),
    )


def _as_rows(output: Output) -> NDArray[Any]:
    """Boxes (N, 4), without other axes."""
    return output.value.reshape(-1, output.value.shape[-1])


def _logits_and_boxes(graph: Graph) -> tuple[Output, Output] | None:
    """The two outputs, with one row per query each; the first axis may be missing."""
    flat = [
        replace(output, value=table)
        for output in graph.outputs
        if "int" not in output.dtype and (table := as_table(output.value)) is not None
    ]
    if "output.names" in graph.answers and len(flat) == 2 == len(graph.outputs):
        return (flat[0], flat[1]) if flat[1].value.shape == (len(flat[0].value), 4) else None
    boxes = [output for output in flat if output.value.shape[1] == 4]
    if len(boxes) > 1:
        boxes = [output for output in boxes if "box" in output.name]
    if len(boxes) != 1:
        return None
    rest = [output for output in flat if output is not boxes[0] and len(output.value) == len(boxes[0].value)]
    if len(rest) > 1:
        rest = [output for output in rest if "logit" in output.name or "score" in output.name]
    return (rest[0], boxes[0]) if len(rest) == 1 else None


def _classes_of(graph: Graph, logits: Output) -> tuple[str, int] | None:
    """Activation and first_class, by the labels or by the values if these are clear; None if open."""
    columns = logits.value.shape[-1]
    last_wins = float((logits.value.argmax(axis=1) == columns - 1).mean())
    # A DETR is sure of no object in most queries. After training with focal loss, all logits are far below 0.
    sure_of_nothing = last_wins > 0.5 and float(np.median(logits.value[..., -1])) > FAR_BELOW
    softmax_likely = columns > 1 and (sure_of_nothing or columns == COCO_DETR)
    clear = softmax_likely or columns == 1 or float(np.median(logits.value)) < FAR_BELOW
    activations = ["softmax", "sigmoid"] if softmax_likely else ["sigmoid", "softmax"]
    if "output.activation" in graph.answers:
        clear, activations = True, [str(graph.answers["output.activation"])]
    fitting = [
        (activation, first)
        for activation in activations
        for first in (0, 1)
        if graph.labels is not None and columns - first - (activation == "softmax") == len(graph.labels)
    ]
    if fitting:
        return fitting[0] if clear or len(fitting) == 1 else None
    return (activations[0], int(graph.answer("output.first_class", 0))) if clear else None


def _boxes_and_scores(graph: Graph, scores: Output, boxes: Output, *, pixels: bool) -> Guess | str:
    """Decoded boxes and class scores for every cell, as YOLO-NAS, YOLOv4 and SSD export them."""
    activation = str(graph.answer("output.activation", "none"))
    if activation == "none" and not scores.fractions:
        return (
            "its boxes are decoded, but its scores are not probabilities; if so: --set "
            "output.activation=sigmoid"
        )
    background, why = _background(graph, scores)
    first = int(graph.answer("output.first_class", 0))
    classes = scores.value.shape[-1] - (background != "none") - first
    form, unit = box_form(_as_rows(boxes)), "pixels" if pixels else "relative"
    few = len(boxes.value) <= MOST_QUERIES
    return Guess(
        head="detr",
        classes=classes,
        input={**ULTRALYTICS_INPUT, **({} if pixels else {"fit": "stretch"})},
        output={
            "names": [scores.name, boxes.name],
            "activation": activation,
            "background": background,
            "box": form,
            "box_unit": unit,
            "nms_iou": 1.0 if few and not pixels else 0.65,
        },
        findings=(
            f"boxes and class scores, not yet suppressed: {scores}, {boxes}",
            f"{classes} classes, {scores_are(activation == 'none')}",
        ),
        assumptions=(
            f"background {background}: {why}",
            f"box_unit {unit}: {'relative' if pixels else 'pixels'} would fit too; none is larger than "
            f"{float(boxes.value.max(initial=0)):.3g}",
        ),
    )


def _background(graph: Graph, scores: Output) -> tuple[str, str]:
    """The column of probabilities that means nothing, and the reason.

    A softmax adds up to 1. Nearly all cells are empty, so its fullest column means nothing.
    """
    columns = scores.value.shape[-1]
    asked = "; --set output.background=first, last or none says otherwise"
    sums_to_1 = columns > 1 and bool(np.allclose(scores.value.sum(axis=-1), 1, atol=0.01))
    means = scores.value.mean(axis=0)
    fuller = "first" if means[0] >= means[-1] else "last"
    if graph.labels is not None and columns != len(graph.labels) + (1 if sums_to_1 else 0):
        if columns == len(graph.labels) + 1:
            return fuller, f"there is a column more than labels{asked}"
        return "none", f"there is a column for each label{asked}"
    if sums_to_1:
        return fuller, f"the scores of a box add up to 1, and the {fuller} column is the fullest{asked}"
    return "none", f"the scores of a box do not add up to 1{asked}"
