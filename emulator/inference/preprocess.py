"""Turns decoded frames into input tensors. One fixed path, so that equal frames give equal bytes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from emulator.inference.frames import Frame, PackedFrame
from emulator.inference.manifest import ModelUnusable
from emulator.inference.onnx_model import DTYPES, OTHER_DTYPES, OnnxModel, TensorInfo
from emulator.inference.sections import OTHERS, InputSection


@dataclass(frozen=True)
class Geometry:
    """The place of the whole frame in the model's picture, in its pixels; partly outside if cropped."""

    left: int
    top: int
    width: int
    height: int

    def to_relative(self, boxes_px: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes (N, 4) xyxy in the model's pixels -> relative to the frame, not clamped."""
        offset = np.array([self.left, self.top, self.left, self.top], np.float32)
        size = np.array([self.width, self.height, self.width, self.height], np.float32)
        return (boxes_px - offset) / size


@dataclass(frozen=True)
class Picture:
    """A frame at the model's size: uint8 (height, width, channels), blue first or grey."""

    pixels: NDArray[np.uint8]
    geometry: Geometry


class Preprocessor:
    """Fits frames into the input (in the decoding thread), and writes them into tensors (in the others)."""

    def __init__(self, spec: InputSection, dtype: type[np.generic] = np.float32) -> None:
        self._spec = spec
        self.channels = 1 if spec.color == "GRAY" else 3
        self.channels_last = spec.layout.endswith("C")
        self.dtype = dtype
        std = np.broadcast_to(np.array(spec.std, np.float64), (self.channels,))
        mean = np.broadcast_to(np.array(spec.mean, np.float64), (self.channels,))
        # (pixel * scale - mean) / std as one multiplication and one subtraction.
        self._factor = (spec.scale / std).astype(np.float32)
        self._offset = (mean / std).astype(np.float32)
        self._plain = bool((self._factor == 1).all() and (self._offset == 0).all())
        if dtype is np.uint8 and not self._plain:
            raise ModelUnusable("the graph takes uint8 pixels; leave [input] scale, mean and std out")
        if dtype is np.int8 and not ((self._factor == 1).all() and (self._offset == 128).all()):
            raise ModelUnusable("the graph takes int8 pixels, -128 to 127; set [input] mean to [128]")

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """Shape of one frame in the tensor, (channels, height, width) or with the channels last."""
        height, width = self._spec.height, self._spec.width
        return (height, width, self.channels) if self.channels_last else (self.channels, height, width)

    def fit(self, frame: NDArray[np.uint8]) -> Picture:
        """Resize and pad or crop a BGR frame of any size to the input's size."""
        return self.fit_frame(PackedFrame(frame))

    def fit_frame(self, frame: Frame) -> Picture:
        """Like `fit`, for a decoded frame."""
        geometry = self._geometry(frame.width, frame.height)
        spec = self._spec
        size = (geometry.width, geometry.height)
        resized = frame.scaled(*size, gray=self.channels == 1)
        resized = resized.reshape(geometry.height, geometry.width, self.channels)
        if spec.fit == "crop-center":
            top, left = -geometry.top, -geometry.left
            pixels = np.ascontiguousarray(resized[top : top + spec.height, left : left + spec.width])
            return Picture(pixels, geometry)
        if size == (spec.width, spec.height):
            return Picture(resized, geometry)
        pixels = np.full((spec.height, spec.width, self.channels), spec.pad, np.uint8)
        bottom, right = geometry.top + geometry.height, geometry.left + geometry.width
        pixels[geometry.top : bottom, geometry.left : right] = resized
        return Picture(pixels, geometry)

    def write(self, picture: Picture, out: NDArray[Any]) -> None:
        """Write normalised values into `out`, a view of `frame_shape` in a tensor of `dtype`."""
        planes = cv2.split(picture.pixels)
        if self._spec.color == "RGB":
            planes = planes[::-1]
        for channel, plane in enumerate(planes):
            target = out[..., channel] if self.channels_last else out[channel]
            if self._plain:
                np.copyto(target, plane, casting="unsafe")
            elif self.dtype is np.float32:
                np.multiply(plane, self._factor[channel], out=target)
                np.subtract(target, self._offset[channel], out=target)
            else:
                target[...] = plane * self._factor[channel] - self._offset[channel]

    def _geometry(self, width: int, height: int) -> Geometry:
        spec = self._spec
        if spec.fit == "stretch":
            return Geometry(0, 0, spec.width, spec.height)
        pick = max if spec.fit == "crop-center" else min
        ratio = pick(spec.width / width, spec.height / height)
        fitted = Geometry(0, 0, max(1, round(width * ratio)), max(1, round(height * ratio)))
        if spec.fit == "letterbox-top-left":
            return fitted
        left, top = (spec.width - fitted.width) // 2, (spec.height - fitted.height) // 2
        return Geometry(left, top, fitted.width, fitted.height)


class ModelInput:
    """The graph's inputs, checked against the manifest. Thread-safe: each thread fills tensors of its own."""

    def __init__(self, spec: InputSection, model: OnnxModel) -> None:
        """Raises ModelUnusable if the manifest's size, layout or frames do not fit the graph."""
        main = model.input(spec.name)
        self._preprocessor = Preprocessor(spec, _picture_type(model, main))
        self._frames = spec.frames
        self._pathways = [_Pathway(model, main, spec, self._preprocessor, range(spec.frames))]
        if spec.slow_name:
            slow = model.input(spec.slow_name)
            self._pathways.append(
                _Pathway(model, slow, spec, self._preprocessor, _spread(spec.frames, spec.slow_frames))
            )
        self._constants = {name: _constant(model.input(name), kind, spec) for name, kind in spec.others}
        self.batch_is_free = spec.layout.startswith("N") and all(
            tensor.shape[:1] == (None,) for tensor in model.inputs
        )
        """Whether every input takes any number of items along its first axis, as `feed_batch` needs."""
        self._constants |= {name: _constant(model.input(name), "zeros", spec) for name, _ in spec.states}
        fed = {pathway.name for pathway in self._pathways} | self._constants.keys()
        missing = [tensor for tensor in model.inputs if tensor.name not in fed]
        if missing:
            raise ModelUnusable(
                f"{model.path} also wants the inputs {', '.join(map(str, missing))}; say in [input] "
                f"others what they are fed with ({', '.join(OTHERS)}), or export it with the picture as "
                "only input"
            )
        self._local = threading.local()

    def fit(self, frame: NDArray[np.uint8]) -> Picture:
        """See Preprocessor."""
        return self._preprocessor.fit(frame)

    def fit_frame(self, frame: Frame) -> Picture:
        """See Preprocessor."""
        return self._preprocessor.fit_frame(frame)

    def feed(self, pictures: Sequence[Picture]) -> dict[str, NDArray[Any]]:
        """The feed for `OnnxModel.run`. Valid until this thread's next call, which reuses the tensors."""
        return self.feed_batch([pictures], 1)

    def feed_batch(self, items: Sequence[Sequence[Picture]], size: int) -> dict[str, NDArray[Any]]:
        """Like `feed`, for at most `size` items. A short batch is padded by repeating its last item."""
        tensors = self._tensors(size)
        for pathway in self._pathways:
            tensor = tensors[pathway.name]
            for number, pictures in enumerate(items):
                pathway.write(pictures, tensor[number : number + 1] if size > 1 else tensor)
            if len(items) < size:
                tensor[len(items) :] = tensor[len(items) - 1]
        return tensors

    def _tensors(self, size: int) -> dict[str, NDArray[Any]]:
        """This thread's tensors for a batch size. Those of the last size are kept, and those for single
        items, to which a failed batch falls back."""
        kept: dict[int, dict[str, NDArray[Any]]] = self._local.__dict__.setdefault("kept", {})
        if size not in kept:
            for other in [other for other in kept if other != 1]:
                del kept[other]
            kept[size] = {
                name: np.repeat(constant, size, axis=0) if size > 1 else constant
                for name, constant in self._constants.items()
            }
            for pathway in self._pathways:
                kept[size][pathway.name] = pathway.new_tensor(size)
        return kept[size]

    def blank(self) -> dict[str, NDArray[Any]]:
        """The feed for a made-up picture, to check the shapes of the outputs."""
        shades = np.linspace(64, 192, 64, dtype=np.uint8)
        frame = np.broadcast_to(shades[None, :, None], (64, 64, 3))
        return self.feed([self.fit(np.ascontiguousarray(frame))] * self._frames)


class _Pathway:
    """One input for pixels: the frames of a clip that it takes, and their layout in its tensor."""

    def __init__(
        self,
        model: OnnxModel,
        tensor: TensorInfo,
        spec: InputSection,
        preprocessor: Preprocessor,
        chosen: Sequence[int],
    ) -> None:
        self.name = tensor.name
        self._preprocessor, self._chosen = preprocessor, chosen
        sizes = {"N": 1, "M": 1, "C": preprocessor.channels, "T": len(chosen)}
        sizes |= {"H": spec.height, "W": spec.width}
        self._shape = [sizes[axis] for axis in spec.layout]
        # Without the axes of length 1, a frame remains, or frames along one axis.
        inner = spec.layout.replace("N", "").replace("M", "")
        self._inner_shape = [sizes[axis] for axis in inner]
        self._frames_axis = inner.find("T")
        batch = tensor.shape[0] if tensor.shape and spec.layout.startswith("N") else None
        if batch and batch > 1 and tensor.takes([batch, *self._shape[1:]]):
            raise ModelUnusable(
                f"{model.path} takes {batch} at a time, as its input {tensor} says; "
                "export it with a batch axis of 1, or a free one"
            )
        if not tensor.takes(self._shape):
            raise ModelUnusable(
                f"{model.path} takes {tensor}, but model.toml says {spec.layout} {self._shape}; correct "
                "[input] width, height, frames, layout or color (a batch axis must be 1 or free)"
            )
        if _picture_type(model, tensor) is not preprocessor.dtype:
            raise ModelUnusable(f"{model.path}: the inputs for pixels are of different types")

    def new_tensor(self, size: int) -> NDArray[Any]:
        shape = [size, *self._shape[1:]] if size > 1 else self._shape
        return np.zeros(shape, self._preprocessor.dtype)

    def write(self, pictures: Sequence[Picture], tensor: NDArray[Any]) -> None:
        inner = tensor.reshape(self._inner_shape)
        frames = [inner] if self._frames_axis < 0 else np.moveaxis(inner, self._frames_axis, 0)
        for position, number in enumerate(self._chosen):
            self._preprocessor.write(pictures[number], frames[position])


def _spread(frames: int, wanted: int) -> list[int]:
    """`wanted` of the frames, evenly spread from the first to the last, as PyTorchVideo picks them."""
    if wanted > frames:
        raise ModelUnusable(f"[input] slow_frames is {wanted}, more than the {frames} frames of a clip")
    return [number * (frames - 1) // max(1, wanted - 1) for number in range(wanted)]


def _picture_type(model: OnnxModel, tensor: TensorInfo) -> type[np.generic]:
    if tensor.type not in DTYPES:
        raise ModelUnusable(
            f"{model.path}: input {tensor.name} is {tensor.type}; it must be one of {', '.join(DTYPES)}"
        )
    return DTYPES[tensor.type]


def _constant(tensor: TensorInfo, kind: str, spec: InputSection) -> NDArray[Any]:
    """The value of an input other than the picture, the same for every frame."""
    if tensor.type not in OTHER_DTYPES:
        raise ModelUnusable(
            f"input {tensor.name} is {tensor.type}; it must be one of {', '.join(OTHER_DTYPES)}"
        )
    # A free axis is the batch or, in a mask, the picture's height or width.
    rank = len(tensor.shape)
    usual = (1, spec.height, spec.width) if rank == 3 else (1,) * rank
    shape = [free if size is None else size for size, free in zip(tensor.shape, usual, strict=True)]
    if kind in ("ones", "zeros"):
        return np.full(shape, kind == "ones", OTHER_DTYPES[tensor.type])
    sizes = [spec.width, spec.height] if kind == "width-height" else [spec.height, spec.width]
    if tensor.shape[-1:] == (None,):
        shape[-1] = 2
    if np.prod(shape) != 2:
        raise ModelUnusable(f"input {tensor} does not take {kind}: that is [1, 2]; correct [input] others")
    return np.array(sizes, OTHER_DTYPES[tensor.type]).reshape(shape)
