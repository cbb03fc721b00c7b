"""A graph as `models add` sees it: the use of its inputs, and its outputs for one made-up picture."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from emulator.inference.manifest import ModelUnusable
from emulator.inference.onnx_model import DTYPES, OnnxModel, TensorInfo
from emulator.inference.preprocess import ModelInput
from emulator.inference.sections import OTHERS, InputSection
from emulator.onboarding.states import carried, is_state

#: Layouts by the number of axes, the likelier one first.
LAYOUTS: Mapping[int, tuple[str, ...]] = {
    3: ("CHW", "HWC"),
    4: ("NCHW", "NHWC"),
    5: ("NCTHW", "NTCHW", "NTHWC"),
    6: ("NMCTHW",),
}
#: Parts of the names of inputs other than the picture.
TEXT_HINTS = ("input_ids", "token", "attention_mask", "text", "prompt", "position_ids", "caption")
SIZE_HINTS = ("size", "shape", "target", "orig", "hw", "dim")
#: With fewer boxes, it may be chance that each second pair of numbers is larger than the first.
FEW_BOXES = 50
AXES = {"W": "width", "H": "height", "T": "frames"}
#: The assumed lengths of free axes, by the kind of graph.
DETECTOR_SIZE, FRAME_SIZE, CLIP_SIZE, CLIP_FRAMES, SLOWFAST_FRAMES = 640, 224, 112, 16, 32


@dataclass(frozen=True)
class Output:
    """One output, with its value for the picture."""

    name: str
    value: NDArray[Any]
    dtype: str

    def __str__(self) -> str:
        return f"{self.name} {list(self.value.shape)}"

    @property
    def whole(self) -> bool:
        """Whether all its numbers are whole."""
        return bool((self.value == np.floor(self.value)).all())

    @property
    def fractions(self) -> bool:
        """Whether all its numbers are between 0 and 1."""
        return between_0_and_1(self.value)


@dataclass(frozen=True)
class Graph:
    """The graph, its `[input]`, its outputs for one picture, and the user's answers about it."""

    model: OnnxModel
    input: InputSection
    dtype: str
    outputs: tuple[Output, ...]
    labels: tuple[str, ...] | None
    answers: Mapping[str, Any]
    assumptions: tuple[str, ...]

    @property
    def is_clip(self) -> bool:
        """Whether it takes several frames at a time."""
        return "T" in self.input.layout

    @property
    def takes_pixels(self) -> bool:
        """Whether it takes pixels as whole numbers, without scaling."""
        return self.dtype in ("tensor(uint8)", "tensor(int8)")

    @property
    def input_keys(self) -> dict[str, object]:
        """The keys of `[input]` of model.toml that shapes and names decide."""
        usual = {item.name: item.default for item in fields(InputSection)}
        keys: dict[str, object] = {"width": self.input.width, "height": self.input.height}
        for key in ("layout", "frames", "name", "slow_name", "slow_frames", "others", "states"):
            value = getattr(self.input, key)
            if key == "layout" or value != usual[key] or (key == "slow_frames" and self.input.slow_name):
                keys[key] = dict(value) if key in ("others", "states") else value
        return keys

    def answer(self, key: str, default: Any) -> Any:
        """The user's answer for a key, such as `output.box`; `default` if there is none."""
        return self.answers.get(key, default)

    @property
    def is_stream(self) -> bool:
        """Whether it carries states from clip to clip."""
        return bool(self.input.states)

    def with_input(self, name: str, values: Sequence[float], output: str) -> NDArray[Any]:
        """An output for the picture, with these values for another input."""
        feed = _feed(self.model, self.input)
        feed[name] = np.array(values, feed[name].dtype).reshape(feed[name].shape)
        return self.model.run([output], feed)[0]


def look(model: OnnxModel, labels: Sequence[str] | None, answers: Mapping[str, Any]) -> Graph:
    """Tell the inputs apart and run the graph once.

    Raises:
        ModelUnusable: no input is a picture, the use of one is unknown, or the run fails; the message says
            what the user must add.
    """
    section, dtype, assumptions = _describe_input(model, answers)
    infos = {info.name: info for info in model.outputs}
    try:
        values = model.run(list(infos), _feed(model, section))
    except ModelUnusable as error:
        free = [text for text in assumptions if "leaves it free" in text]
        hint = f". Say what the free axes are, with --set input.width=… for example ({'; '.join(free)})"
        raise ModelUnusable(f"{error}{hint if free else ''}") from error
    found = {
        name: Output(name, value, infos[name].type)
        for name, value in zip(infos, values, strict=True)
        if isinstance(value, np.ndarray) and value.ndim
    }
    outputs = tuple(found[name] for name in _wanted(model, found, answers))
    known = None if labels is None else tuple(labels)
    return Graph(model, section, dtype, outputs, known, answers, tuple(assumptions))


def between_0_and_1(values: NDArray[Any]) -> bool:
    """Whether all numbers are between 0 and 1, with some tolerance for rounding."""
    return bool(values.size and values.min() > -1e-3 and values.max() < 1 + 1e-3)


def box_form(boxes: NDArray[Any]) -> str:
    """`xyxy` if there are many boxes and no second corner lies before the first; else `cxcywh`."""
    ordered = (boxes[:, 2:] >= boxes[:, :2]).all()
    return "xyxy" if len(boxes) >= FEW_BOXES and ordered and np.ptp(boxes) > 0 else "cxcywh"


def metadata_literal(model: OnnxModel, key: str) -> Any:
    """A value of the graph's metadata, a Python literal or else a plain text; None if missing."""
    text = model.metadata.get(key)
    if text is None:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _wanted(model: OnnxModel, found: Mapping[str, Output], answers: Mapping[str, Any]) -> Sequence[str]:
    """The outputs that the user names, in that order; all if they name none."""
    names = answers.get("output.names") or tuple(found)
    for name in names:
        if name not in found:
            raise ModelUnusable(
                f"{model.path} has no output {name!r} with an axis; --set output.names must be of "
                f"{', '.join(found)}"
            )
    return tuple(names)


def _feed(model: OnnxModel, section: InputSection) -> dict[str, NDArray[Any]]:
    # Soft blobs of colour: unlike a flat picture, they make most detectors find something.
    small = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    frame = np.asarray(cv2.resize(small, (512, 512), interpolation=cv2.INTER_CUBIC), np.uint8)
    fed = ModelInput(section, model)
    return dict(fed.feed([fed.fit(frame)] * section.frames))


def _describe_input(model: OnnxModel, answers: Mapping[str, Any]) -> tuple[InputSection, str, list[str]]:
    pictures = _pictures(model, answers)
    main = pictures[0]
    assumptions: list[str] = []
    layout = _layout(model, main, answers, assumptions)
    sizes = _sizes(model, pictures, layout, answers, assumptions)
    channels = main.shape[layout.index("C")]
    values: dict[str, Any] = {
        **sizes,
        "layout": layout,
        "color": "GRAY" if channels == 1 else "RGB",
        "scale": 1 / 255 if main.type in ("tensor(float)", "tensor(float16)") else 1.0,
        "mean": (128.0,) if main.type == "tensor(int8)" else (0.0,),
        "fit": "stretch",
    }
    if len(model.inputs) > 1:
        values["name"] = main.name
    if len(pictures) > 1:
        values["slow_name"] = pictures[1].name
        values["slow_frames"] = _slow_frames(pictures[1], layout, sizes["frames"], answers, assumptions)
    states = (
        dict(answers["input.states"]) if "input.states" in answers else carried(model, pictures, assumptions)
    )
    values["states"] = tuple(states.items())
    rest = [tensor for tensor in model.inputs if tensor not in pictures and tensor.name not in states]
    _refuse_text(model, rest, answers)
    values["others"] = tuple((tensor.name, _use(model, tensor, answers, assumptions)) for tensor in rest)
    return InputSection(**values), main.type, assumptions


def _pictures(model: OnnxModel, answers: Mapping[str, Any]) -> list[TensorInfo]:
    """The inputs for pixels; of two pathways, the one with more frames first."""
    named = [model.input(answers["input.name"])] if answers.get("input.name") else []
    found = [tensor for tensor in model.inputs if _may_be_picture(tensor)]
    if not named and not found:
        raise ModelUnusable(
            f"{model.path}: no input looks like a picture or a clip (3 to 6 axes, one of them the "
            f"colour, 3 or 1 long, of {', '.join(DTYPES)}): {', '.join(map(str, model.inputs))}. Say "
            "which is with --set input.name=…, or export it again"
        )
    clips = [tensor for tensor in found if len(tensor.shape) == 5]
    if not named and len(clips) == 2:
        return sorted(clips, key=lambda tensor: ("slow" in tensor.name, -(tensor.shape[2] or 0)))
    return [(named or found)[0]]


def _may_be_picture(tensor: TensorInfo) -> bool:
    if tensor.type not in DTYPES or "mask" in tensor.name or is_state(tensor):
        return False
    return any(
        tensor.shape[layout.index("C")] in (1, 3, None) for layout in LAYOUTS.get(len(tensor.shape), ())
    )


def _layout(model: OnnxModel, tensor: TensorInfo, answers: Mapping[str, Any], assumptions: list[str]) -> str:
    fitting = _layouts(tensor, frames_first=_scores_one_clip(model))
    layout = str(answers["input.layout"]) if "input.layout" in answers else (fitting or [""])[0]
    if len(layout) != len(tensor.shape):
        raise ModelUnusable(
            f"input {tensor} has {len(tensor.shape)} axes, no layout of {len(layout) or 3} fits; the "
            "picture is the "
            "one with 3 to 6 axes, one of them the colour: --set input.name=… and input.layout=… say which"
        )
    if len(fitting) > 1 and "input.layout" not in answers:
        assumptions.append(f"layout {layout}: {' or '.join(fitting[1:])} would fit too")
    return layout


def _scores_one_clip(model: OnnxModel) -> bool:
    """Whether all outputs are single rows: several pictures in one input are then the frames of a clip."""
    return all(len(tensor.shape) == 2 and tensor.shape[0] == 1 for tensor in model.outputs)


def _layouts(tensor: TensorInfo, *, frames_first: bool) -> list[str]:
    """The layouts that fit an input, the likeliest first."""
    options = LAYOUTS.get(len(tensor.shape), ())
    for channels in (3, 1, None):
        fitting = [layout for layout in options if tensor.shape[layout.index("C")] == channels]
        if fitting and frames_first and len(tensor.shape) == 4 and (tensor.shape[0] or 1) > 1:
            return ["TCHW" if layout == "NCHW" else "THWC" for layout in fitting]
        if fitting:
            return fitting
    return []


def _sizes(
    model: OnnxModel,
    pictures: Sequence[TensorInfo],
    layout: str,
    answers: Mapping[str, Any],
    assumptions: list[str],
) -> dict[str, int]:
    usual = _usual_sizes(model, layout, two_pathways=len(pictures) > 1)
    if any(is_state(tensor) for tensor in model.inputs):
        usual["frames"] = 1
    sizes = {"frames": 1}
    for axis, size in zip(layout, pictures[0].shape, strict=True):
        if axis not in AXES:
            continue
        key = AXES[axis]
        if size is None and f"input.{key}" not in answers:
            assumptions.append(f"{key} {usual[key]}: the graph leaves it free, any it was trained with fits")
        sizes[key] = int(answers.get(f"input.{key}", usual[key])) if size is None else size
    return sizes


def _usual_sizes(model: OnnxModel, layout: str, *, two_pathways: bool) -> dict[str, int]:
    if "T" in layout:
        frames = SLOWFAST_FRAMES if two_pathways else CLIP_FRAMES
        return {"frames": frames, "width": CLIP_SIZE, "height": CLIP_SIZE}
    own = metadata_literal(model, "imgsz")  # as Ultralytics writes it: [height, width]
    if isinstance(own, list) and len(own) == 2:
        return {"height": int(own[0]), "width": int(own[1])}
    classifier = (
        len(model.outputs) == 1 and len(model.outputs[0].shape) == 2 and model.outputs[0].shape[1] != 6
    )
    size = FRAME_SIZE if classifier else DETECTOR_SIZE
    return {"height": size, "width": size}


def _slow_frames(
    tensor: TensorInfo, layout: str, frames: int, answers: Mapping[str, Any], assumptions: list[str]
) -> int:
    own = tensor.shape[layout.index("T")]
    if own is None and "input.slow_frames" not in answers:
        assumptions.append(
            f"slow_frames {frames // 4}: the graph leaves it free; a quarter of frames is usual"
        )
    return own or int(answers.get("input.slow_frames", frames // 4))


def _refuse_text(model: OnnxModel, tensors: Sequence[TensorInfo], answers: Mapping[str, Any]) -> None:
    """Raise ModelUnusable if the graph needs text besides the picture, as CLIP and its kin do."""
    known = answers.get("input.others", {})
    words = [
        tensor.name
        for tensor in tensors
        if tensor.name not in known and any(hint in tensor.name.lower() for hint in TEXT_HINTS)
    ]
    if words:
        raise ModelUnusable(
            f"{model.path} takes text beside the picture: {', '.join(words)}. A video has none; export "
            "the model "
            "with its texts built in, as a classifier of pictures or a detector whose classes are fixed"
        )


def _use(model: OnnxModel, tensor: TensorInfo, answers: Mapping[str, Any], assumptions: list[str]) -> str:
    """The kind of value for an input other than the picture."""
    given = answers.get("input.others", {}).get(tensor.name)
    if given is not None:
        return str(given)
    name = tensor.name.lower()
    if "mask" in name or "scale" in name:
        assumptions.append(f"input {tensor.name} is fed with ones: zeros, a size would fit too, see others")
        return "ones"
    if is_state(tensor):
        assumptions.append(
            f"input {tensor.name} is fed with zeros for every clip: no output of the graph carries it "
            "on, as its "
            "name says; export the graph with its new states as outputs too, or say which: --set "
            "input.states=…"
        )
        return "zeros"
    sizes = any(hint in name for hint in SIZE_HINTS)
    if len(tensor.shape) <= 2 and (tensor.shape[-1:] == (2,) or (sizes and tensor.shape[-1:] == (None,))):
        use, other = "width-height", "height-width"
        if "target" not in name and "orig" not in name:
            use, other = other, use
        assumptions.append(
            f"input {tensor.name} takes the picture's {use} in pixels: {other} would fit too, see others"
        )
        return use
    raise ModelUnusable(
        f"{model.path}: what does the input {tensor} take? Say it with --set "
        f'\'input.others={{ "{tensor.name}" = "ones" }}\'; the values are {", ".join(OTHERS)}. '
        "Or export it with the picture as only input"
    )
