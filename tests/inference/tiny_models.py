"""Real ONNX models small enough to be written by hand, and the clips whose content they find.

Each detector looks at 8 x 8 cells; class 0 is red, class 1 is green, the score is how pure the colour is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from emulator.inference.decoding import Decoding

SIZE = 64
CELL = 8
RED, GREEN, BLACK, WHITE = (0, 0, 255), (0, 255, 0), (0, 0, 0), (255, 255, 255)

Picture = NDArray[np.uint8]


def save_graph(
    path: Path,
    nodes: Sequence[Any],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, Sequence[int | str]],
    constants: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a float32 graph that onnxruntime 1.20 reads too."""

    def info(name: str, shape: Sequence[int | str]) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))

    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [info(name, shape) for name, shape in inputs.items()],
        [info(name, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, str(path))
    return path


def f32(values: Any) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def _purity_nodes(source: str) -> tuple[list[Any], dict[str, NDArray[Any]]]:
    """RGB 0..1 -> "purity" [1, 2, 8, 8]: mean of red - green - blue and of green - red - blue per cell."""
    weights = f32([[1, -1, -1], [-1, 1, -1]]).reshape(2, 3, 1, 1)
    nodes = [
        helper.make_node("AveragePool", [source], ["mean"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
        helper.make_node("Conv", ["mean", "weights"], ["difference"]),
        helper.make_node("Clip", ["difference", "zero", "one"], ["purity"]),
    ]
    return nodes, {"weights": weights, "zero": f32(0), "one": f32(1)}


def center_detector(path: Path, *, names: tuple[str, str] = ("heatmap", "boxes"), spoil: str = "") -> Path:
    """A `center` head: the boxes reach 12 pixels to all sides. `spoil` is "nan" or "" (for the heatmap)."""
    nodes, constants = _purity_nodes("images")
    nodes.append(helper.make_node("Conv", ["mean", "nothing", "reach"], [names[1]]))
    if spoil == "nan":
        nodes.append(helper.make_node("Log", ["difference"], [names[0]]))
    else:
        nodes.append(helper.make_node("Identity", ["purity"], [names[0]]))
    constants |= {"nothing": np.zeros((4, 3, 1, 1), np.float32), "reach": f32([12] * 4)}
    grid = SIZE // CELL
    outputs = {names[0]: (1, 2, grid, grid), names[1]: (1, 4, grid, grid)}
    return save_graph(path, nodes, {"images": (1, 3, SIZE, SIZE)}, outputs, constants)


def yolox_detector(path: Path, *, logits: bool = False) -> Path:
    """A YOLOX head of strides 8, 16, 32 for BGR 0..255; the stride 8 grid finds things, 24 pixels wide."""
    scale = helper.make_node("Mul", ["bgr", "per_shade"], ["bright"])
    flip = helper.make_node("Gather", ["bright", "order"], ["rgb"], axis=1)
    purity, constants = _purity_nodes("rgb")
    cells, coarse = (SIZE // 8) ** 2, (SIZE // 16) ** 2 + (SIZE // 32) ** 2
    nodes = [
        scale,
        flip,
        *purity,
        helper.make_node("ReduceMax", ["purity"], ["best"], axes=[1], keepdims=1),
        helper.make_node("Concat", ["best", "purity"], ["scores"], axis=1),
        helper.make_node("Reshape", ["scores", "columns"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["rows"], perm=[0, 2, 1]),
        helper.make_node("Concat", ["places", "rows"], ["fine"], axis=2),
        helper.make_node("Concat", ["fine", "rest"], ["output" if not logits else "joined"], axis=1),
    ]
    place = f32([0.5, 0.5, np.log(3), np.log(3)])
    constants |= {
        "per_shade": f32(1 / 255),
        "order": np.array([2, 1, 0]),
        "columns": np.array([1, 3, cells]),
        "places": np.tile(place, (1, cells, 1)),
        "rest": np.zeros((1, coarse, 7), np.float32),
    }
    if logits:
        slope = f32([1, 1, 1, 1, 12, 12, 12])
        nodes += [
            helper.make_node("Mul", ["joined", "slope"], ["steep"]),
            helper.make_node("Sub", ["steep", "shift"], ["output"]),
        ]
        constants |= {"slope": slope, "shift": f32([0, 0, 0, 0, 6, 6, 6])}
    outputs = {"output": (1, cells + coarse, 7)}
    return save_graph(path, nodes, {"bgr": (1, 3, SIZE, SIZE)}, outputs, constants)


def flash_classifier(path: Path, *, frames: int = 5, layout: str = "NCTHW", softmax: bool = False) -> Path:
    """Clip scores for "none", "white", "red": highest when the flash is in the middle of the clip."""
    size = 16
    shape = {"NCTHW": (1, 3, frames, size, size), "NTCHW": (1, frames, 3, size, size)}[layout]
    middle = (frames - 1) / 2
    bump = f32([1 - abs(t - middle) / (middle + 1) for t in range(frames)])
    weights = np.zeros((3, 3, frames), np.float32)  # class, channel, frame
    weights[1] = bump * 2  # red, green and blue all bright
    weights[1, 0] = -bump
    weights[2] = -bump * 4
    weights[2, 0] = bump * 5
    nodes = [
        helper.make_node("ReduceMean", ["clip"], ["mean"], axes=[3, 4], keepdims=0),
        helper.make_node(
            "Transpose", ["mean"], ["by_channel"], perm=[0, 1, 2] if layout == "NCTHW" else [0, 2, 1]
        ),
        helper.make_node("Flatten", ["by_channel"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["scores" if not softmax else "raw"], transB=1),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["raw"], ["scores"], axis=1))
    constants = {"weights": weights.reshape(3, -1) * 4, "bias": f32([0, -6, -6])}
    return save_graph(path, nodes, {"clip": shape}, {"scores": (1, 3)}, constants)


def colour_classifier(path: Path, *, frames: int = 1) -> Path:
    """Scores for "grey", "red", "green": how pure the colour of the whole picture, or clip (NCTHW), is."""
    size = 16
    clip = frames > 1
    shape = (1, 3, frames, size, size) if clip else (1, 3, size, size)
    weights = f32([[0, 0, 0], [1, -1, -1], [-1, 1, -1]])
    nodes = [
        helper.make_node("ReduceMean", ["picture"], ["mean"], axes=[2, 3, 4] if clip else [2, 3], keepdims=0),
        helper.make_node("Gemm", ["mean", "weights", "bias"], ["difference"], transB=1),
        helper.make_node("Clip", ["difference", "zero", "one"], ["scores"]),
    ]
    constants = {"weights": weights, "bias": f32([0.25, 0, 0]), "zero": f32(0), "one": f32(1)}
    return save_graph(path, nodes, {"picture": shape}, {"scores": (1, 3)}, constants)


TRACKING_TOML = """
[model]
id = "squares"
objective = "object_tracking"
display_name = "Squares"
[input]
width = 64
height = 64
scale = 0.00392156862745098
fit = "stretch"
[output]
head = "center"
min_score = 0.3
[tracker]
min_frames = 2
"""

ACTIONS_TOML = """
[model]
id = "flashes"
objective = "action_recognition"
[labels]
background = "none"
[input]
width = 16
height = 16
frames = 5
layout = "NCTHW"
scale = 0.00392156862745098
fit = "stretch"
[output]
head = "clip"
activation = "softmax"
[actions]
min_confidence = 0.5
window = 0.3
"""

CLASSIFICATION_TOML = """
[model]
id = "colours"
objective = "classification"
[labels]
background = "grey"
[input]
width = 16
height = 16
scale = 0.00392156862745098
fit = "stretch"
[output]
head = "scores"
[sampling]
rate = 5
"""


def tracking_folder(folder: Path, toml: str = TRACKING_TOML, **detector: Any) -> Path:
    """A complete model folder with the `center` detector."""
    folder.mkdir(parents=True, exist_ok=True)
    center_detector(folder / "model.onnx", **detector)
    (folder / "labels.txt").write_text("red\ngreen\n")
    (folder / "model.toml").write_text(toml)
    return folder


def actions_folder(folder: Path, toml: str = ACTIONS_TOML, **classifier: Any) -> Path:
    """A complete model folder with the flash classifier."""
    folder.mkdir(parents=True, exist_ok=True)
    flash_classifier(folder / "model.onnx", **classifier)
    (folder / "labels.txt").write_text("none\nwhite\nred\n")
    (folder / "model.toml").write_text(toml)
    return folder


def classification_folder(folder: Path, toml: str = CLASSIFICATION_TOML, **classifier: Any) -> Path:
    """A complete model folder with the colour classifier."""
    folder.mkdir(parents=True, exist_ok=True)
    colour_classifier(folder / "model.onnx", **classifier)
    (folder / "labels.txt").write_text("grey\nred\ngreen\n")
    (folder / "model.toml").write_text(toml)
    return folder


def write_clip(
    path: Path, draw: Callable[[float], Picture], *, seconds: float, fps: float = 10.0, size: int = 128
) -> Path:
    """Encode `draw(time in seconds)` as MPEG-4 in an mp4 file."""
    fourcc = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), fourcc, fps, (size, size))
    for frame in range(round(seconds * fps)):
        writer.write(cv2.resize(draw(frame / fps), (size, size), interpolation=cv2.INTER_NEAREST))
    writer.release()
    return path


def squares(*placed: tuple[tuple[int, int, int], int, int]) -> Picture:
    """A black picture with squares of one cell and a bit around: (colour, column, row) of the cell."""
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    for color, column, row in placed:
        top, left = row * CELL, column * CELL
        picture[top : top + CELL, left : left + CELL] = color
    return picture


def cell_box(column: int, row: int) -> tuple[float, float, float, float]:
    """The relative box that `center_detector` gives a square there."""
    x, y = (column + 0.5) * CELL, (row + 0.5) * CELL
    return ((x - 12) / SIZE, (y - 12) / SIZE, (x + 12) / SIZE, (y + 12) / SIZE)


class Watch:
    """A Progress that remembers the times, counts signs of life, and cancels after some of the times.

    `frames` is what it heard last of the frames: how many were sampled, of how many."""

    def __init__(self, cancel_after: int | None = None) -> None:
        self.times: list[int] = []
        self.signs = 0
        self.decoding: Decoding | None = None
        self.frames: tuple[int, int | None] = (0, None)
        self._cancel_after = cancel_after

    def cancelled(self) -> bool:
        return self._cancel_after is not None and len(self.times) >= self._cancel_after

    def advance(self, time_us: int) -> None:
        self.times.append(time_us)

    def sampled(self, done: int, total: int | None) -> None:
        self.frames = (done, total)

    def alive(self) -> None:
        self.signs += 1

    def decoded(self, decoding: Decoding) -> None:
        self.decoding = decoding


def recorded(
    path: Path,
    outputs: Mapping[str, NDArray[Any]],
    *,
    shape: Sequence[int | str] = (1, 3, SIZE, SIZE),
    dtype: Any = np.float32,
    others: Mapping[str, tuple[Sequence[int | str], Any]] | None = None,
    free: Mapping[str, Sequence[int | str]] | None = None,
    metadata: Mapping[str, str] | None = None,
    opset: int = 17,
) -> Path:
    """A graph that gives `outputs` whatever it sees.

    `others` are further inputs (shape, type), `free` the shapes of outputs where they are declared otherwise.
    """

    def info(name: str, axes: Sequence[int | str], kind: Any) -> Any:
        return helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), list(axes)
        )

    inputs = {"images": (shape, dtype), **(others or {})}
    axes = {name: value.shape for name, value in outputs.items()} | dict(free or {})
    graph = helper.make_graph(
        [helper.make_node("Identity", [f"{name} as recorded"], [name]) for name in outputs],
        "recorded",
        [info(name, *spec) for name, spec in inputs.items()],
        [info(name, axes[name], value.dtype) for name, value in outputs.items()],
        [numpy_helper.from_array(value, f"{name} as recorded") for name, value in outputs.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, str(path))
    return path
