"""Clips and graphs to measure on: the real ones where they are at hand, rendered ones elsewhere."""

import itertools
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from emulator.factory import random_clip, render
from emulator.inference.manifest import ModelManifest, load_manifest
from emulator.onboarding import named_labels, recognise, write_folder
from emulator.registry import bundled_models

Picture = NDArray[np.uint8]

FPS = 30
GRAIN = 6.0

#: Where clips are kept from one benchmark to the next: encoding them takes longer than most measurements.
CACHE = Path(__file__).parents[1] / ".cache" / "benchmarks"

# The input of YOLOX-nano, and of most detectors of its kind: width and height.
DETECTOR_SIZE = 416

ASSETS = "EMULATOR_REAL_ASSETS"
VIDEO, WEIGHTS = "one-by-one-person-detection.mp4", "yolox_nano.onnx"

# Blocks of an action model the size of MoViNet-A0: channels, depthwise kernel (time, space), stride in space.
STAGES: Sequence[Sequence[tuple[int, tuple[int, int], int]]] = (
    ((8, (1, 5), 2),),
    ((32, (3, 3), 2), (32, (3, 3), 1), (32, (3, 3), 1)),
    ((56, (5, 3), 2), (56, (3, 3), 1), (56, (3, 3), 1)),
    ((56, (5, 3), 1), (56, (3, 3), 1), (56, (3, 3), 1), (56, (3, 3), 1)),
    ((104, (5, 3), 2), (104, (1, 5), 1), (104, (1, 5), 1), (104, (1, 5), 1)),
)
CLIP_FRAMES, CLIP_SIZE, CLIP_CLASSES = 16, 172, 600
ACTION_MANIFEST = f"""
[model]
objective = "action_recognition"
[input]
width = {CLIP_SIZE}
height = {CLIP_SIZE}
frames = {CLIP_FRAMES}
layout = "NCTHW"
fit = "stretch"
scale = {1 / 255!r}
[output]
head = "clip"
activation = "softmax"
[sampling]
rate = 5
[actions]
step = 4
"""


def real_assets() -> Path | None:
    """The folder of real videos and weights that EMULATOR_REAL_ASSETS names."""
    folder = os.environ.get(ASSETS)
    return Path(folder) if folder else None


def cached_clip(size: tuple[int, int], frames: int) -> Path:
    """The clip that `write_clip` makes, from `.cache` if it was made before."""
    CACHE.mkdir(parents=True, exist_ok=True)
    source = "real" if real_assets() else "rendered"
    return write_clip(CACHE / f"{source}-{size[0]}x{size[1]}-{frames}.mp4", size, frames)


def write_clip(path: Path, size: tuple[int, int], frames: int) -> Path:
    """H.264 at 30 frames a second with B-frames, a key frame every 250 and a film's grain.

    It shows real people walking by where EMULATOR_REAL_ASSETS is set, else rendered objects.
    """
    if path.exists():
        return path
    noise = np.random.default_rng(1).normal(0, GRAIN, (size[1] + 64, size[0] + 64, 1)).astype(np.int16)
    unfinished = path.with_suffix(f".{os.getpid()}.mp4")
    with av.open(str(unfinished), "w") as container:
        options = {"preset": "medium", "crf": "23"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.gop_size, stream.max_b_frames = 250, 3
        for number, picture in enumerate(itertools.islice(_pictures(path.parent), frames)):
            large = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
            top, left = number * 37 % 64, number * 53 % 64
            grain = noise[top : top + size[1], left : left + size[0]]
            grainy = np.clip(large.astype(np.int16) + grain, 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(grainy, format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return unfinished.replace(path)


def write_repeated(path: Path, clip: Path, times: int) -> Path:
    """The clip several times in a row: its packets again, with later times, so that nothing is encoded."""
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        read = source.streams.video[0]
        written = target.add_stream_from_template(read)
        length = round(read.frames / (read.average_rate or FPS) / read.time_base)
        for number in range(times):
            source.seek(0)
            for packet in source.demux(read):
                if packet.dts is None:  # the end
                    continue
                packet.pts = (packet.pts or 0) + number * length
                packet.dts += number * length
                packet.stream = written
                target.mux(packet)
    return path


def _pictures(folder: Path) -> Iterator[Picture]:
    """The source's pictures for ever."""
    assets = real_assets()
    source = assets / VIDEO if assets else folder / "rendered.mp4"
    if not source.exists():
        render(random_clip(7, size=(768, 432), fps=FPS), source)
    while True:
        capture = cv2.VideoCapture(str(source))
        while True:
            found, picture = capture.read()
            if not found:
                break
            yield np.asarray(picture, np.uint8)
        capture.release()


def detector(folder: Path, rate: int) -> ModelManifest:
    """The detector at `rate` samples a second: YOLOX-nano where it is at hand, else the bundled model with as
    large an input, which its graph takes as well."""
    assets = real_assets()
    target = folder / f"detector-{rate}"
    if assets:
        found = recognise(assets / WEIGHTS, labels=named_labels("coco80"), name="YOLOX-nano")
        write_folder(found, assets / WEIGHTS, target)
    else:
        target.mkdir()
        for file in (bundled_models() / "video-object-tracking").iterdir():
            if file.suffix in (".toml", ".onnx", ".txt"):
                (target / file.name).write_bytes(file.read_bytes())
        _enlarge(target)
    manifest = target / "model.toml"
    text = manifest.read_text(encoding="utf-8")
    assert "[sampling]" not in text
    manifest.write_text(f"{text}\n[sampling]\nrate = {rate}\n", encoding="utf-8")
    return load_manifest(target)


def _enlarge(folder: Path) -> None:
    manifest, graph = folder / "model.toml", onnx.load(folder / "model.onnx")
    text = manifest.read_text(encoding="utf-8")
    side = graph.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    assert f"width = {side}\nheight = {side}\n" in text
    manifest.write_text(
        text.replace(
            f"width = {side}\nheight = {side}\n", f"width = {DETECTOR_SIZE}\nheight = {DETECTOR_SIZE}\n"
        ),
        encoding="utf-8",
    )
    for axis in (2, 3):
        graph.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = DETECTOR_SIZE
    graph.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "cells"
    onnx.save(graph, str(folder / "model.onnx"))


def action_model(folder: Path) -> ModelManifest:
    """A clip classifier of random weights with the layers of MoViNet-A0: 3 million parameters."""
    target = folder / "actions"
    target.mkdir()
    onnx.save(_action_graph(), str(target / "model.onnx"))
    (target / "model.toml").write_text(ACTION_MANIFEST, encoding="utf-8")
    labels = "".join(f"action {number}\n" for number in range(CLIP_CLASSES))
    (target / "labels.txt").write_text(labels, encoding="utf-8")
    return load_manifest(target)


class _Graph:
    """Nodes and weights under construction; `last` names the latest output and `channels` its depth."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.last, self.channels = "video", 3
        self._random = np.random.default_rng(0)

    def add(self, kind: str, *others: str, **attributes: Any) -> None:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self.last, *others], [name], **attributes))
        self.last = name

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        values = self._random.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def convolve(self, channels: int, kernel: tuple[int, int], stride: int = 1, *, depthwise: bool) -> None:
        time, space = kernel
        weight = self.weight(channels, 1 if depthwise else self.channels, time, space, space)
        pads = [time // 2, space // 2, space // 2] * 2
        group = channels if depthwise else 1
        self.add("Conv", weight, pads=pads, strides=[1, stride, stride], group=group)
        self.channels = channels

    def block(self, channels: int, kernel: tuple[int, int], stride: int) -> None:
        """An inverted residual: wide, depthwise over time and space, narrow again."""
        shortcut, before = self.last, self.channels
        wide = channels * 3
        self.convolve(wide, (1, 1), depthwise=False)
        self.add("HardSwish")
        self.convolve(wide, kernel, stride, depthwise=True)
        self.add("HardSwish")
        self.convolve(channels, (1, 1), depthwise=False)
        if stride == 1 and before == channels:
            self.add("Add", shortcut)


def _action_graph() -> Any:
    graph = _Graph()
    graph.convolve(8, (1, 3), 2, depthwise=False)
    for channels, kernel, stride in itertools.chain.from_iterable(STAGES):
        graph.block(channels, kernel, stride)
    graph.convolve(480, (1, 1), depthwise=False)
    graph.add("HardSwish")
    graph.add("GlobalAveragePool")
    for channels in (2048, CLIP_CLASSES):
        graph.convolve(channels, (1, 1), depthwise=False)
    graph.add("Flatten")
    shape = [1, 3, CLIP_FRAMES, CLIP_SIZE, CLIP_SIZE]
    body = helper.make_graph(
        graph.nodes,
        "actions",
        [helper.make_tensor_value_info("video", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(graph.last, TensorProto.FLOAT, [1, CLIP_CLASSES])],
        graph.weights,
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
