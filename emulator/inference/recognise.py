"""Tells from an ONNX graph what kind of model it is, and writes the `model.toml` for it.

Names, shapes and one run on a grey picture decide; what they cannot tell is written down as an
assumption, with the values that would fit instead. One entry in KINDS per kind of model.
"""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.inference.manifest import MANIFEST, ModelManifest, ModelUnusable, load_manifest
from emulator.inference.onnx_model import DTYPES, OnnxModel, TensorInfo

#: Sets of labels that come with the package, by the name that `--labels` takes.
LABEL_SETS = ("coco80",)

Probe = Callable[[Sequence[int]], list[NDArray[Any]]]


@dataclass(frozen=True)
class Guess:
    """What one kind makes of a graph: sections of model.toml, and what was seen or assumed."""

    head: str
    classes: int
    sections: Mapping[str, Mapping[str, object]]
    findings: tuple[str, ...]
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recognition:
    """A complete model folder in the making."""

    head: str
    manifest: str
    """Text of model.toml."""
    labels: tuple[str, ...]
    findings: tuple[str, ...]
    """What the graph shows."""
    assumptions: tuple[str, ...] = field(default=())
    """What it does not show: the value written, and those that would fit instead."""


def recognise(
    path: Path, *, labels: Sequence[str] | None = None, head: str | None = None, name: str = ""
) -> Recognition:
    """Recognise the graph in `path`.

    Args:
        labels: names of the classes, in the order of the outputs; else the graph's own, else numbers.
        head: try this `[output] head` only.
        name: display name; default the file's.

    Raises:
        ModelUnusable: not ONNX, of no kind known here, or labels of another number than the classes.
    """
    model = OnnxModel(path)
    reasons = []
    for kind, look in KINDS.items():
        if head not in (None, kind):
            continue
        guess = look(model)
        if isinstance(guess, Guess):
            return _complete(model, guess, labels, name or path.stem)
        reasons.append(f"not {kind}: {guess}")
    if not reasons:
        raise ModelUnusable(f"unknown head {head!r}; it must be one of {', '.join(KINDS)}")
    raise ModelUnusable(
        f"{path} is of no kind known here. Inputs: {_listed(model.inputs)}; outputs: "
        f"{_listed(model.outputs)}. {'; '.join(reasons)}. Export it in one of these forms (docs/models.md)"
    )


def write_folder(recognition: Recognition, path: Path, folder: Path) -> ModelManifest:
    """Make the model folder: the graph in `path` under its usual name, model.toml and labels.txt.

    Raises:
        FileExistsError: the folder exists already.
        ManifestError: the display name or the folder's name cannot be used.
    """
    folder.mkdir(parents=True)
    shutil.copyfile(path, folder / "model.onnx")
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in recognition.labels), "utf-8")
    (folder / MANIFEST).write_text(recognition.manifest, "utf-8")
    return load_manifest(folder)


def named_labels(name: str) -> tuple[str, ...]:
    """The labels of a set that comes with the package.

    Raises:
        ModelUnusable: there is no such set.
    """
    if name not in LABEL_SETS:
        raise ModelUnusable(
            f"no label set is called {name!r}; give a file with one label a line, or {', '.join(LABEL_SETS)}"
        )
    text = resources.files("emulator.inference").joinpath("labels", f"{name}.txt").read_text("utf-8")
    return tuple(text.split("\n")[:-1])


def _complete(model: OnnxModel, guess: Guess, labels: Sequence[str] | None, name: str) -> Recognition:
    findings, assumptions = list(guess.findings), list(guess.assumptions)
    if labels is None:
        labels = _own_labels(model)
        if labels is not None:
            findings.append("labels: from the graph's metadata")
    if labels is None:
        fitting = "".join(
            f" or --labels {known}" for known in LABEL_SETS if len(named_labels(known)) == guess.classes
        )
        labels = [f"class {number}" for number in range(1, guess.classes + 1)]
        assumptions.append(f"labels: numbered, the graph has none; give --labels FILE{fitting}")
    if len(labels) != guess.classes:
        raise ModelUnusable(
            f"{len(labels)} labels were given, but {model.path} has {guess.classes} classes; "
            "give one label per class, in the order of the outputs"
        )
    text = _manifest_text(guess, name, findings, assumptions)
    return Recognition(guess.head, text, tuple(labels), tuple(findings), tuple(assumptions))


def _manifest_text(guess: Guess, name: str, findings: list[str], assumptions: list[str]) -> str:
    lines = ["# Written by `vertex-emulator models add`. Every key is explained in docs/models.md."]
    lines += [f"# Seen: {finding}." for finding in findings]
    lines += [f"# Assumed: {assumption}." for assumption in assumptions]
    sections = dict(guess.sections)
    sections["model"] = {**sections["model"], "display_name": name}
    for section, values in sections.items():
        lines += ["", f"[{section}]"]
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _own_labels(model: OnnxModel) -> list[str] | None:
    """Labels in the metadata: a dictionary or list as text (Ultralytics' `names`), or lines (`labels`)."""
    for key in ("names", "labels", "classes"):
        text = model.metadata.get(key, "")
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text.split("\n") if "\n" in text else text.split(",") if "," in text else None
        if isinstance(value, dict):
            value = [value[number] for number in sorted(value)]
        if isinstance(value, list | tuple) and value:
            return [str(label).strip() for label in value]
    return None


def _yolox(model: OnnxModel) -> Guess | str:
    tensor = model.inputs[0]
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(tensor.shape) != 4 or tensor.shape[1] != 3:
        return "it has one input [1, 3, height, width] and one output"
    _, _, height, width = tensor.shape
    if height is None or width is None:
        return "its height and width must be fixed in the graph; export with fixed ones"
    outputs = _probe(model, tensor, (1, 3, height, width))
    rows = outputs[0]
    for strides in ((8, 16, 32), (8, 16, 32, 64)):
        cells = sum((height // stride) * (width // stride) for stride in strides)
        if rows.ndim == 3 and rows.shape[1] == cells and rows.shape[2] > 5:
            break
    else:
        return f"its output is [1, cells of the grids, 5 + classes], here it is {list(rows.shape)}"
    if rows[0, :, :2].max() > max(height, width) / 4:
        return "its boxes are decoded in the graph already; export without --decode_in_inference"
    logits = bool(rows[0, :, 4:].min() < 0 or rows[0, :, 4:].max() > 1)
    return Guess(
        head="yolox",
        classes=rows.shape[2] - 5,
        sections={
            "model": {"objective": "object_tracking"},
            "input": {
                "width": width,
                "height": height,
                "layout": "NCHW",
                "color": "BGR",
                "fit": "letterbox-top-left",
                "pad": 114,
            },
            "output": {
                "head": "yolox",
                "activation": "sigmoid" if logits else "none",
                "strides": strides,
                "min_score": 0.1,
                "nms_iou": 0.65,
            },
            "tracker": {"high": 0.5, "low": 0.1, "new": 0.6, "buffer": 1.0},
        },
        findings=(
            f"YOLOX: output {model.outputs[0]} is the raw grid of strides {', '.join(map(str, strides))}",
            f"{rows.shape[2] - 5} classes, scores are {'logits' if logits else 'probabilities'}",
        ),
        assumptions=(
            "color BGR, scale 1.0 (0 to 255), as YOLOX is exported since 0.1.1; older weights want RGB, "
            "scale 0.00392156862745098, mean [0.485, 0.456, 0.406], std [0.229, 0.224, 0.225]",
        ),
    )


def _center(model: OnnxModel) -> Guess | str:
    tensor = model.inputs[0]
    fits = len(model.inputs) == 1 and len(tensor.shape) == 4
    if not fits or len(model.outputs) != 2 or any(len(output.shape) != 4 for output in model.outputs):
        return "it has one picture as input and two outputs [1, classes, h, w] and [1, 4, h, w]"
    last = tensor.shape[3] in (1, 3)
    channels, height, width = (tensor.shape[axis] for axis in ((3, 1, 2) if last else (1, 2, 3)))
    if height is None or width is None or channels not in (1, 3):
        return "its height, width and channels must be fixed in the graph; export with fixed ones"
    outputs = _probe(model, tensor, [size or 1 for size in tensor.shape])
    order = sorted((0, 1), key=lambda position: "box" in model.outputs[position].name)
    if outputs[order[1]].shape[1] != 4:
        order.reverse()
    heatmap, boxes = outputs[order[0]], outputs[order[1]]
    if boxes.shape[1] != 4 or heatmap.shape[2:] != boxes.shape[2:]:
        return f"its outputs are a heatmap and boxes of one size, here {_listed(model.outputs)}"
    logits = bool(heatmap.min() < 0 or heatmap.max() > 1)
    return Guess(
        head="center",
        classes=heatmap.shape[1],
        sections={
            "model": {"objective": "object_tracking"},
            "input": {
                "width": width,
                "height": height,
                "layout": "NHWC" if last else "NCHW",
                "color": "RGB" if channels == 3 else "GRAY",
                "scale": 1 / 255,
                "fit": "letterbox-center",
            },
            "output": {
                "head": "center",
                "names": [model.outputs[position].name for position in order],
                "activation": "sigmoid" if logits else "none",
            },
        },
        findings=(
            f"centre heatmap and boxes: {_listed(model.outputs)}",
            f"{heatmap.shape[1]} classes, scores are {'logits' if logits else 'probabilities'}",
        ),
        assumptions=(
            "color RGB, scale 1/255, fit letterbox-center: as the model was trained; color BGR, scale 1.0, "
            "fit stretch or letterbox-top-left would fit too",
        ),
    )


def _clip(model: OnnxModel) -> Guess | str:
    tensor = model.inputs[0]
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(tensor.shape) != 5:
        return "it has one input of five axes (a clip) and one output [1, classes]"
    channels_axis = next((axis for axis in (1, 2, 4) if tensor.shape[axis] in (1, 3)), None)
    if channels_axis is None:
        return "none of its axes 1, 2 and 4 is the colour (3 or 1 long)"
    layout = {1: "NCTHW", 2: "NTCHW", 4: "NTHWC"}[channels_axis]
    assumptions = [
        "scale 1/255, mean 0.45, std 0.225 as for Kinetics models of PyTorchVideo; as the model was trained: "
        "mean 0.0 and std 1.0 (MoViNet), or mean [0.432, 0.395, 0.376] and std [0.228, 0.221, 0.217] "
        "(torchvision)",
        "rate 10 frames a second: the frame rate of the clips it was trained on",
        "fit crop-center: stretch or letterbox-center would fit too",
    ]
    sizes = dict(zip(layout, tensor.shape, strict=True))
    for axis, key, usual in (("T", "frames", 16), ("H", "height", 112), ("W", "width", 112)):
        if sizes[axis] is None:
            sizes[axis] = usual
            assumptions.append(f"{key} {usual}: the graph leaves it free, any it was trained with fits")
    scores = _probe(model, tensor, [sizes[axis] or 1 for axis in layout])[0]
    if scores.size != max(scores.shape):
        return f"its output is one score per class, here {list(scores.shape)}"
    probabilities = bool(scores.min() >= 0 and abs(scores.sum() - 1) < 1e-3)
    if not probabilities:
        assumptions.append("activation softmax: sigmoid fits if several actions can be true at once")
    return Guess(
        head="clip",
        classes=scores.size,
        sections={
            "model": {"objective": "action_recognition"},
            "input": {
                "width": sizes["W"],
                "height": sizes["H"],
                "frames": sizes["T"],
                "layout": layout,
                "color": "RGB" if tensor.shape[channels_axis] == 3 else "GRAY",
                "scale": 1 / 255,
                "mean": [0.45],
                "std": [0.225],
                "fit": "crop-center",
            },
            "output": {"head": "clip", "activation": "none" if probabilities else "softmax"},
            "sampling": {"rate": 10},
            "actions": {"step": 1, "moment": 0.5, "min_confidence": 0.5, "window": 0.5},
        },
        findings=(
            f"clip classifier: {tensor} is {layout}",
            f"{scores.size} classes, scores are {'probabilities' if probabilities else 'logits'}",
        ),
        assumptions=tuple(assumptions),
    )


#: Head -> what recognises it: a Guess, or what is missing for it to be one.
KINDS: Mapping[str, Callable[[OnnxModel], Guess | str]] = {"yolox": _yolox, "center": _center, "clip": _clip}


def _probe(model: OnnxModel, tensor: TensorInfo, shape: Sequence[int]) -> list[NDArray[Any]]:
    """The outputs for a picture of one grey; any free axis is as `shape` has it."""
    if tensor.type not in DTYPES:
        raise ModelUnusable(f"{model.path}: input {tensor.name} is {tensor.type}; export it with float32")
    grey = np.full(shape, 114 if tensor.type == "tensor(uint8)" else 0.5, DTYPES[tensor.type])
    return model.run(model.output_names(()), {tensor.name: grey})


def _listed(tensors: Sequence[TensorInfo]) -> str:
    return ", ".join(map(str, tensors))
