"""A YOLOX detector in the form in which ultralytics exports its own, and whether it still finds the same."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import clips
import numpy as np
import onnx
from bench_pipeline import grid
from onnx import TensorProto, helper, numpy_helper

from emulator.inference.heads import DETECTION_HEADS, Detections, suppress
from emulator.inference.manifest import ModelManifest
from emulator.inference.onnx_model import OnnxModel
from emulator.inference.preprocess import ModelInput

#: How far scores and boxes (relative to the picture) of equal detections may differ.
TOLERANCE = 1e-4


def columns_model(manifest: ModelManifest, folder: Path) -> ModelManifest:
    """Write the graph with RGB from 0 to 1 as its input and [1, 4 + classes, N] in pixels as its output."""
    folder.mkdir()
    _write_graph(manifest, folder / manifest.model.file)
    as_input = replace(manifest.input, color="RGB", scale=1 / 255)
    as_output = replace(manifest.output, head="yolov8", box="cxcywh")
    return replace(manifest, folder=folder, input=as_input, output=as_output)


def disagreement(first: ModelManifest, second: ModelManifest, pictures: Iterable[clips.Picture]) -> str:
    """What one of two models finds and the other does not, or an empty text."""
    taken = list(pictures)
    for number, (one, two) in enumerate(zip(_detect(first, taken), _detect(second, taken), strict=True)):
        same = (
            np.array_equal(one.classes, two.classes)
            and np.allclose(one.boxes, two.boxes, atol=TOLERANCE)
            and np.allclose(one.scores, two.scores, atol=TOLERANCE)
        )
        if not same:
            return f"picture {number}: {one} and {two}"
    return ""


def _write_graph(manifest: ModelManifest, target: Path) -> None:
    model = onnx.load(str(manifest.graph))
    graph, labels = model.graph, manifest.labels
    raw = graph.output[0].name
    size, width = [1, 3, manifest.input.height, manifest.input.width], 4 + len(labels)
    cells = grid(size[3], size[2], manifest.output.strides).astype(np.float32)
    weights = {
        "factor": np.array(255 * manifest.input.scale, np.float32),
        "channels": np.array([2, 1, 0] if manifest.input.color == "BGR" else [0, 1, 2], np.int64),
        "corner": cells[None, :, :2],
        "stride": cells[None, :, 2:],
        "axis": np.array([2], np.int64),
        **{f"cut_{at}": np.array([at], np.int64) for at in (0, 2, 4, 5, 5 + len(labels))},
    }
    before = [
        helper.make_node("Gather", ["pictures", "channels"], ["ordered"], axis=1),
        helper.make_node("Mul", ["ordered", "factor"], [graph.input[0].name]),
    ]
    after = [
        helper.make_node("Slice", [raw, "cut_0", "cut_2", "axis"], ["offset"]),
        helper.make_node("Slice", [raw, "cut_2", "cut_4", "axis"], ["log_size"]),
        helper.make_node("Slice", [raw, "cut_4", "cut_5", "axis"], ["objectness"]),
        helper.make_node("Slice", [raw, "cut_5", f"cut_{5 + len(labels)}", "axis"], ["likely"]),
        helper.make_node("Add", ["offset", "corner"], ["place"]),
        helper.make_node("Mul", ["place", "stride"], ["centre"]),
        helper.make_node("Exp", ["log_size"], ["strides_wide"]),
        helper.make_node("Mul", ["strides_wide", "stride"], ["size"]),
        helper.make_node("Mul", ["objectness", "likely"], ["scores"]),
        helper.make_node("Concat", ["centre", "size", "scores"], ["rows"], axis=2),
        helper.make_node("Transpose", ["rows"], ["output0"], perm=[0, 2, 1]),
    ]
    wrapped = helper.make_graph(
        [*before, *graph.node, *after],
        "columns",
        [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, width, len(cells)])],
        [*graph.initializer, *(numpy_helper.from_array(value, name) for name, value in weights.items())],
    )
    made = helper.make_model(wrapped, opset_imports=model.opset_import, ir_version=model.ir_version)
    names = {number: label.display_name for number, label in enumerate(labels)}
    about = {"task": "detect", "stride": "32", "batch": "1", "imgsz": str(size[2:])}
    helper.set_model_props(made, about | {"names": str(names)})
    onnx.save(made, str(target))


def _detect(manifest: ModelManifest, pictures: Iterable[clips.Picture]) -> Iterator[Detections]:
    """What a model finds in pictures, by the product's own code."""
    model = OnnxModel(manifest.graph)
    head = DETECTION_HEADS[manifest.output.head](manifest, model)
    fitted = ModelInput(manifest.input, model)
    for picture in pictures:
        fit = fitted.fit(picture)
        yield suppress(head.decode(model.run(head.names, fitted.feed([fit]))), manifest.output, fit.geometry)
