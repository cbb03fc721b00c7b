"""Recognises detectors that suppress inside the graph: boxes, scores and classes in one tensor or several."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.onboarding.graph import Graph, Output, metadata_literal
from emulator.onboarding.guess import ULTRALYTICS_INPUT, Guess

#: Names of class 0 in labels files that mean background; such a file already has a line for it.
BACKGROUND = ("background", "__background__", "n/a", "bg", "???")
#: The TF detection API has more outputs than needed; these are the four that are used.
TF_NAMES = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")
#: The order of the outputs of TFLite's Detection_PostProcess; converters number them.
TFLITE_ROLES = ("boxes", "classes", "scores", "count")
#: The name of RT-DETR's head in Ultralytics' metadata; pictures for it are not letterboxed.
ULTRALYTICS_RTDETR = "RTDETRDecoder"
#: Rounding tolerance for a corner past its opposite, in pictures or in pixels.
CORNER_SLACK = 1e-3
NO_CORNERS = "in a made-up picture the second pair is smaller than the first"
NOTHING_SEEN = "no box was found in a made-up picture; check it with `models check`"
ROLES = ("boxes", "scores", "classes", "count")
HINTS = {
    "boxes": ("box", "dets"),
    "scores": ("score", "conf", "prob"),
    "classes": ("class", "label", "cls"),
    "count": ("num", "count"),
}
#: Columns of end-to-end detections in one tensor, by the width of the tensor.
COLUMNS: dict[int, tuple[tuple[str, ...], ...]] = {
    6: (("box", "score", "class"), ("class", "score", "box")),
    7: (("other", "box", "class", "score"), ("other", "box", "score", "class")),
}
#: The output's name of the only kind with seven columns in the second order (YOLO-NAS).
SCORE_FIRST = "flat_predictions"


def detections(graph: Graph) -> Guess | str:
    """Boxes, scores and classes, in one tensor or in several."""
    if graph.is_clip:
        return "it has one picture as input"
    table = _only_table(graph)
    if table is not None:
        return _in_one_tensor(graph, table)
    named = _by_role(graph)
    if isinstance(named, str):
        return named
    boxes, scores, classes = (named[role] for role in ROLES[:3])
    relative, reason = _relative(graph, boxes, scores)
    first, why = _first_class(graph, boxes, scores, classes)
    form, why_form = "xyxy", "as all but TensorFlow has it; yxyx would fit too"
    if _unnumbered(boxes.name) in TF_NAMES or (relative and _is_of_tensorflow(graph, boxes)):
        form, why_form = "yxyx", "as TensorFlow has it; xyxy would fit too"
    return Guess(
        head="detections",
        classes=None,
        input={**_finished_input(graph, relative=relative), **_sizes_in_order(graph, boxes)},
        output={
            "names": [named[role].name for role in ROLES if role in named],
            "box": form,
            "box_unit": "relative" if relative else "pixels",
            "first_class": first,
            "nms_iou": 1.0,
        },
        findings=(
            "finished detections: " + ", ".join(f"{role} in {output}" for role, output in named.items()),
        ),
        assumptions=(
            f"box {form}, {why_form}",
            f"box_unit {'relative' if relative else 'pixels'}: {reason}; "
            f"{'pixels' if relative else 'relative'} "
            "would fit too",
            f"first_class {first}: {why}",
            *_finished_assumptions(graph, relative=relative),
        ),
    )


def _only_table(graph: Graph) -> Output | None:
    """The output that holds complete detections: the only one, or the only one besides count and masks."""
    if len(graph.outputs) == 1:
        return graph.outputs[0]
    told = "output.names" in graph.answers
    rest = [one for one in graph.outputs if one.value.size != 1 and (told or one.value.ndim < 4)]
    masks = any(one.value.ndim == 4 for one in graph.outputs)
    return rest[0] if len(rest) == 1 and (masks or rest[0].value.shape[-1] in COLUMNS) else None


def _in_one_tensor(graph: Graph, output: Output) -> Guess | str:
    value, width = output.value, output.value.shape[-1]
    orders = _orders(graph, width)
    if value.ndim not in (2, 3) or not orders or value.shape[:-2] not in ((), (1,)):
        return f"its output is [1, N, 6] (box, score, class), here it is {output}"
    rows = value.reshape(-1, width)
    rows = rows[(rows > 0).any(axis=1)]  # filler rows are 0 or -1 throughout
    fitting = _fitting_columns(graph, output, rows)
    if not fitting:
        return "no column of its output holds whole numbers for classes beside one of probabilities"
    if len(fitting) > 1 and width == 7:
        return (
            "no row of its output was seen; say what its columns are: --set 'output.columns="
            f"{json.dumps(fitting[0])}' (YOLOv7) or {json.dumps(fitting[1])} (YOLO-NAS)"
        )
    table = _Table(graph, output, tuple(fitting[0]), rows)
    if table.form is None:
        return (
            "its colours come last, as in TensorFlow, whose boxes have y first, or x as everywhere "
            "else; nothing "
            "in the graph tells: say --set output.box=yxyx (EfficientDet and others of TensorFlow) or "
            "output.box=xyxy (YOLO models)"
        )
    return table.guess()


@dataclass(frozen=True)
class _Table:
    """Finished detections in one tensor; `rows` are those of the made-up picture."""

    graph: Graph
    output: Output
    columns: tuple[str, ...]
    rows: NDArray[Any]

    @property
    def boxes(self) -> NDArray[Any]:
        """(N, 4), as the graph gives them."""
        return self.rows[:, _start(self.columns, "box") :][:, :4]

    @property
    def scored(self) -> NDArray[Any]:
        """The rows that hold a detection."""
        return self.rows[self.rows[:, _start(self.columns, "score")] > 0]

    @property
    def is_efficientdet(self) -> bool:
        """Whether it is TensorFlow's EfficientDet: number, box with y first, score, class from 1."""
        return self.columns == COLUMNS[7][1] and self.graph.input.layout.endswith("C")

    @property
    def form(self) -> str | None:
        """The meaning of a box's four numbers; None if only the user can know it."""
        box, layout = self.boxes, self.graph.input.layout
        if "output.box" in self.graph.answers:
            return str(self.graph.answers["output.box"])
        if not (box[:, 2:] >= box[:, :2] - CORNER_SLACK).all():
            return "cxcywh"
        if self.is_efficientdet:
            return "yxyx"
        made_by_ultralytics = metadata_literal(self.graph.model, "task") is not None
        return "xyxy" if not layout.endswith("C") or made_by_ultralytics else None

    def first_class(self) -> tuple[int, str]:
        """`[output] first_class`, and the reason."""
        labels, seen = self.graph.labels, self.scored[:, _start(self.columns, "class")]
        if labels is not None and labels[0].lower() in BACKGROUND:
            return 0, "the first label means background; 1 where it is not in the graph"
        if (seen == 0).any():
            return 0, "class 0 was found in a made-up picture; 1 where that means background"
        if labels is not None and (seen == len(labels)).any():
            return 1, "the number after the last label's was found in a made-up picture; 0 would not fit"
        if self.is_efficientdet:
            return 1, "TensorFlow's EfficientDet counts from 1; 0 where the first label is class 0"
        return 0, "as YOLO models count; 1 where the graph's class 0 means background"

    def guess(self) -> Guess:
        """The guess for this table."""
        box, shown = self.boxes, ", ".join(_short(self.columns))
        relative = bool(box.size and box.max() <= 1.5)
        unit, other_unit = ("relative", "pixels") if relative else ("pixels", "relative")
        first, why = self.first_class()
        rtdetr = metadata_literal(self.graph.model, "head") == ULTRALYTICS_RTDETR
        fit = "stretch" if rtdetr else "letterbox-center"
        trained = "RT-DETR is" if rtdetr else "YOLO models are"
        seen = f"output {self.output} has the columns {shown}" if len(self.rows) else str(self.output)
        return Guess(
            head="detections",
            classes=None,
            input={**ULTRALYTICS_INPUT, "fit": fit},
            output={
                **({"names": [self.output.name]} if len(self.graph.model.outputs) > 1 else {}),
                "columns": list(self.columns),
                "box": self.form,
                "box_unit": unit,
                "first_class": first,
                "nms_iou": 1.0,
            },
            findings=(f"end-to-end detections: {seen}",),
            assumptions=(
                f"fit {fit} as {trained} trained; {'letterbox-center' if rtdetr else 'stretch'} would "
                "fit too",
                *(
                    []
                    if len(self.rows)
                    else [f"columns {shown}, box_unit {unit}: {NOTHING_SEEN}; relative would fit too"]
                ),
                f"box_unit {unit}: as in a made-up picture; {other_unit} would fit too",
                f"first_class {first}: {why}",
                *([f"box cxcywh: {NO_CORNERS}; xyxy would not fit"] if self.form == "cxcywh" else []),
            ),
        )


def _short(columns: Sequence[str]) -> list[str]:
    """The columns for a message, with several `other` columns joined into one entry."""
    others = sum(column == "other" for column in columns)
    if others <= 1:
        return list(columns)
    return [column for column in columns if column != "other"] + [f"{others} others"]


def _orders(graph: Graph, width: int) -> Sequence[Sequence[str]]:
    """The possible orders of so many columns. Masks or key points may follow those of a detection."""
    if "output.columns" in graph.answers or width in COLUMNS:
        return COLUMNS.get(width, ((),))
    task = metadata_literal(graph.model, "task") in ("segment", "pose")
    masks = any(output.value.ndim == 4 and output.value.shape[1] == width - 6 for output in graph.outputs)
    return [(*COLUMNS[6][0], *["other"] * (width - 6))] if width > 7 and (task or masks) else ()


def _fitting_columns(graph: Graph, output: Output, rows: NDArray[Any]) -> Sequence[Sequence[str]]:
    """The orders of columns that fit the rows, the likelier one first; a user's answer replaces them."""
    if "output.columns" in graph.answers:
        told: Sequence[str] = graph.answers["output.columns"]
        return [told] if sum(4 if column == "box" else 1 for column in told) == output.value.shape[-1] else []
    orders = _orders(graph, output.value.shape[-1])
    fitting = [columns for columns in orders if _columns_fit(rows, columns)]
    return fitting[-1:] if SCORE_FIRST in output.name else fitting


def _columns_fit(rows: NDArray[Any], columns: Sequence[str]) -> bool:
    scores, classes = rows[:, _start(columns, "score")], rows[:, _start(columns, "class")]
    fractions = not len(rows) or bool(((scores >= 0) & (scores <= 1.001) | (scores == -1)).all())
    return fractions and bool((classes == np.floor(classes)).all())


def _start(columns: Sequence[str], wanted: str) -> int:
    return sum(4 if column == "box" else 1 for column in columns[: list(columns).index(wanted)])


def _by_role(graph: Graph) -> dict[str, Output] | str:
    """The outputs by role, from the user's answer or from names, types and values; else what is missing."""
    outputs = {output.name: output for output in graph.outputs}
    if "output.names" in graph.answers and len(outputs) in (3, 4):
        return dict(zip(ROLES, outputs.values(), strict=False))
    unnumbered = {_unnumbered(name): output for name, output in outputs.items()}
    if set(TF_NAMES) <= unnumbered.keys():
        return dict(zip(ROLES, (unnumbered[name] for name in TF_NAMES), strict=True))
    roles = _tflite_roles(outputs) or _told_apart(list(outputs.values()))
    if set(ROLES[:3]) <= roles.keys():
        return {role: roles[role] for role in ROLES if role in roles}
    return (
        "it has outputs of boxes, scores, classes and perhaps their count, here "
        f"{', '.join(map(str, graph.outputs))}"
        '; where these are they, say which: --set \'output.names=["boxes", "scores", "classes", "count"]\''
    )


def _unnumbered(name: str) -> str:
    """The name of a TensorFlow tensor without the output number, as in detection_boxes:0."""
    return re.sub(r":\d+$", "", name)


def _is_of_tensorflow(graph: Graph, boxes: Output) -> bool:
    """Whether the detections come from TensorFlow, which has y before x, and the channels last."""
    return (
        _unnumbered(boxes.name) in TF_NAMES or "PostProcess" in boxes.name or graph.input.layout.endswith("C")
    )


def _tflite_roles(outputs: dict[str, Output]) -> dict[str, Output]:
    numbered = sorted(name for name in outputs if "Detection_PostProcess" in name)
    if len(numbered) != len(TFLITE_ROLES):
        return {}
    return dict(zip(TFLITE_ROLES, (outputs[name] for name in numbered), strict=True))


def _told_apart(outputs: list[Output]) -> dict[str, Output]:
    roles: dict[str, Output] = {}
    boxes = [output for output in outputs if output.value.ndim in (2, 3) and output.value.shape[-1] == 4]
    if len(boxes) > 1:
        boxes = [output for output in boxes if _hinted(output, "boxes")]
    if len(boxes) != 1:
        return {}
    roles["boxes"] = boxes[0]
    number = boxes[0].value.size // 4
    counts = [
        output for output in outputs if output.value.size == 1 and output.value.ndim <= 2 and number != 1
    ]
    rest = [
        output
        for output in outputs
        if output is not boxes[0] and output not in counts and output.value.size == number
    ]
    if len(counts) == 1:
        roles["count"] = counts[0]
    if len(rest) != 2:
        return roles
    for first, second in (rest, rest[::-1]):
        if _likelier(first, second):
            roles |= {"scores": first, "classes": second}
            break
    return roles


def _likelier(scores: Output, classes: Output) -> bool:
    """Whether the two outputs are scores and classes rather than the other way round."""
    if ("int" in classes.dtype) != ("int" in scores.dtype):
        return (
            "int" in classes.dtype
        )  # names may be wrong: torchvision's models differ in the order they answer
    if _hinted(scores, "scores") and not _hinted(scores, "classes"):
        return True
    if _hinted(classes, "classes") and not _hinted(classes, "scores"):
        return True
    return classes.whole and not scores.whole and scores.fractions


def _hinted(output: Output, role: str) -> bool:
    return any(hint in output.name.lower() for hint in HINTS[role])


def _relative(graph: Graph, boxes: Output, scores: Output) -> tuple[bool, str]:
    """Whether boxes are 0 to 1, and the reason."""
    seen = boxes.value.reshape(-1, 4)[scores.value.reshape(-1) > 0]
    if not seen.size:
        return _is_of_tensorflow(graph, boxes), NOTHING_SEEN
    return bool(np.abs(seen).max() <= 2), "from boxes found in a made-up picture"


def _first_class(graph: Graph, boxes: Output, scores: Output, classes: Output) -> tuple[int, str]:
    if graph.labels is not None and graph.labels[0].lower() in BACKGROUND:
        return 0, "the first label means background; 1 where the graph leaves that out"
    seen = classes.value.reshape(-1)[scores.value.reshape(-1) > 0]
    if (seen == 0).any():
        return 0, "class 0 was found in a made-up picture; 1 where that means background"
    if graph.labels is not None and (seen == len(graph.labels)).any():
        return 1, "the number after the last label's was found in a made-up picture; 0 would not fit"
    if _unnumbered(boxes.name) in TF_NAMES:
        return 1, "the TF detection API counts from 1; 0 where the first label is class 0"
    if boxes.value.ndim == 2 and "int" in classes.dtype:
        return 1, "torchvision counts from 1, its 0 is background; 0 where the first label is class 0"
    return 0, "as TFLite and DETR's kin count; 1 where the graph's class 0 is background"


def _sizes_in_order(graph: Graph, boxes: Output) -> dict[str, object]:
    """`[input] others`. A run with a very wide size shows in which order the graph takes a size."""
    others = dict(graph.input.others)
    for name, kind in others.items():
        if kind in ("width-height", "height-width") and name not in graph.answer("input.others", {}):
            wide = np.abs(graph.with_input(name, (10_000, 1), boxes.name).reshape(-1, 4))
            x, y = wide[:, ::2].max(initial=0), wide[:, 1::2].max(initial=0)
            if max(x, y) > 100 * min(x, y):
                others[name] = "width-height" if x > y else "height-width"
    return {"others": others} if others else {}


def _finished_input(graph: Graph, *, relative: bool) -> dict[str, object]:
    if graph.takes_pixels:
        return {"color": "RGB", "fit": "stretch"}
    if relative:
        return {"color": "RGB", "scale": 1 / 127.5, "mean": [1.0], "fit": "stretch"}
    fit = "stretch" if graph.input.others else "letterbox-center"
    return {"color": "RGB", "scale": 1 / 255, "fit": fit}


def _finished_assumptions(graph: Graph, *, relative: bool) -> tuple[str, ...]:
    if graph.takes_pixels:
        return ("fit stretch: letterbox-center where the aspect ratio was kept in training",)
    scale = f"scale {1 / 127.5 if relative else 1 / 255:.6g}"
    others = "0.00392157 (0 to 1)" if relative else "0.00784314 with mean [1.0] (-1 to 1)"
    return (f"{scale}, as such models are trained; {others}, or mean and std of ImageNet would fit too",)
