"""The sections and keys of `model.toml`, the file that says how a graph is fed and what its outputs mean.

Each key is declared once, with its default, its check and the sentence that `docs/models/manifest.md` prints.
The server imports this module, so it imports neither numpy nor onnxruntime.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any

from emulator.members import Reader, integer, list_of, number, one_of, pairs_of, text
from emulator.vertex.objectives import Objective

# Vertex: model.proto, display_name. Output folders are named after it.
_MAX_DISPLAY_NAME = 128

OBJECTIVES: Mapping[str, Objective] = {objective.value: objective for objective in Objective}
#: The values of `[output] head`, and the objective of each. The heads themselves live in `heads/`.
HEADS: Mapping[str, Objective] = {
    "yolox": Objective.OBJECT_TRACKING,
    "yolov5": Objective.OBJECT_TRACKING,
    "yolov8": Objective.OBJECT_TRACKING,
    "nanodet": Objective.OBJECT_TRACKING,
    "detr": Objective.OBJECT_TRACKING,
    "detections": Objective.OBJECT_TRACKING,
    "center": Objective.OBJECT_TRACKING,
    "clip": Objective.ACTION_RECOGNITION,
    "scores": Objective.CLASSIFICATION,
}
#: The defaults of `[output]` that depend on the head. NMS is for graphs that leave it to others.
HEAD_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "yolov5": {"box": "cxcywh"},
    "yolov8": {"box": "cxcywh"},
    "detr": {"box": "cxcywh", "box_unit": "relative", "nms_iou": 1.0},
    "detections": {"nms_iou": 1.0},
}
USUAL: Mapping[str, Any] = {"box": "xyxy", "box_unit": "pixels", "nms_iou": 0.65}
TRACKERS = ("bytetrack", "iou")

LAYOUTS: Mapping[Objective, tuple[str, ...]] = {
    Objective.OBJECT_TRACKING: ("NCHW", "NHWC", "CHW", "HWC"),
    Objective.ACTION_RECOGNITION: ("NCTHW", "NTCHW", "NTHWC", "NMCTHW", "TCHW", "THWC", "NCHW", "NHWC"),
    Objective.CLASSIFICATION: ("NCHW", "NHWC", "NCTHW", "NTCHW", "NTHWC", "NMCTHW", "TCHW", "THWC"),
}
#: The section of each objective: what becomes of the graph's results.
SECTION_OF: Mapping[Objective, str] = {
    Objective.OBJECT_TRACKING: "tracker",
    Objective.ACTION_RECOGNITION: "actions",
    Objective.CLASSIFICATION: "classification",
}
#: The values for an input other than the picture.
OTHERS = ("width-height", "height-width", "ones", "zeros")
USUAL_COLUMNS = ("box", "score", "class")
FITS = ("letterbox-top-left", "letterbox-center", "stretch", "crop-center")


def _display_name(value: object) -> str:
    name = text(value)
    if len(name) > _MAX_DISPLAY_NAME or not name.isprintable():
        raise ValueError(
            f"it has {len(name)} characters; it may have {_MAX_DISPLAY_NAME}, and no control characters"
        )
    return name


def read_model_id(value: object) -> str:
    """Check a Model id. Raises ValueError, whose text says what an id looks like."""
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?", value):
        raise ValueError("it must be 1 to 63 of a-z, 0-9, _ and -, and begin and end with a letter or digit")
    return value


def _label_id(value: object) -> str:
    digits = str(value) if not isinstance(value, bool) else ""
    if not digits.isdecimal() or not digits.isascii() or int(digits) >= 2**63:
        raise ValueError('its values must be whole numbers such as "42", below 2^63')
    return str(int(digits))


def _file(value: object) -> str:
    path = Path(text(value))
    if path.is_absolute() or ".." in path.parts or "\0" in str(path):
        raise ValueError("it must name a file inside the model's folder")
    return path.as_posix()


def _key(read: Reader[Any], words: str, default: Any = MISSING) -> Any:
    metadata = {"read": read, "help": words}
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


@dataclass(frozen=True)
class ModelSection:
    """`[model]`: what the model is called."""

    objective: str = _key(
        one_of(OBJECTIVES),
        "Kind of prediction: `object_tracking`, `action_recognition` or `classification`.",
    )
    id: str = _key(read_model_id, "Model id in resource names. Default: the folder's name.", "")
    display_name: str = _key(
        _display_name, "Display name, also in the names of output folders. Default: the id.", ""
    )
    description: str = _key(text, "One or two sentences about the model.", "")
    version: str = _key(text, "Your own name for this version of the weights.", "1")
    file: str = _key(_file, "The ONNX graph, a file in the same folder.", "model.onnx")
    canned: str = _key(
        _file, "Canned predictions instead of a graph: a JSON Lines file or a folder of such files.", ""
    )


@dataclass(frozen=True)
class LabelsSection:
    """`[labels]`: the names of the classes, in the order of the model's outputs."""

    file: str = _key(
        _file,
        "Text file, one display name per line; line n is class n - 1. Other forms: see *Labels files*.",
        "labels.txt",
    )
    ids: tuple[str, ...] = _key(
        list_of(_label_id),
        'Annotation spec ids (int64), one per line of the file. Default: `"1"`, `"2"`, …',
        (),
    )
    background: str = _key(
        text,
        "Label of the file that means *nothing here*: part of a softmax, never predicted.",
        "",
    )


@dataclass(frozen=True)
class InputSection:
    """`[input]`: how a video frame becomes the model's input: `(pixel * scale - mean) / std`."""

    width: int = _key(integer(8, 8192), "Width of the input in pixels.")
    height: int = _key(integer(8, 8192), "Height of the input in pixels.")
    layout: str = _key(
        one_of(dict.fromkeys(layout for layouts in LAYOUTS.values() for layout in layouts)),
        "Order of the axes. Pictures: `NCHW` (default), `NHWC`, `CHW` or `HWC`. Clips: `NCTHW` (default for "
        "actions), `NTCHW`, `NTHWC`, `NMCTHW` (M: crops), `TCHW` or `THWC`; for a classifier of single "
        "frames `NCHW` or `NHWC`.",
        "",
    )
    frames: int = _key(integer(1, 512), "Frames in one clip (T); 1 for single pictures.", 1)
    name: str = _key(text, "Name of the graph's input. Default: its only or first one.", "")
    slow_name: str = _key(text, "Two-pathway clip models (SlowFast): name of the slow pathway's input.", "")
    slow_frames: int = _key(
        integer(1, 512), "Number of evenly spread frames of the clip for the slow pathway.", 8
    )
    others: tuple[tuple[str, str], ...] = _key(
        pairs_of(one_of(OTHERS), 'orig_target_sizes = "width-height"'),
        "Values of further inputs: a table of name = `width-height` or `height-width` (of the input, in "
        "pixels), `ones` (masks, scale factors) or `zeros`.",
        (),
    )
    states: tuple[tuple[str, str], ...] = _key(
        pairs_of(text, 'state_in = "state_out"'),
        "Streams: a table of input = output. The input is zero for a segment's first clip, then the output "
        "for the clip before.",
        (),
    )
    color: str = _key(one_of(("BGR", "RGB", "GRAY")), "Order of the colour channels.", "RGB")
    scale: float = _key(number(1e-6, 1e6), "Factor on the 0…255 pixel; `0.00392156862745098` is 1/255.", 1.0)
    mean: tuple[float, ...] = _key(
        list_of(number(-1e6, 1e6), (1, 3)),
        "Subtracted after `scale`, per channel in the order of `color`.",
        (0.0,),
    )
    std: tuple[float, ...] = _key(
        list_of(number(1e-6, 1e6), (1, 3)), "Divides last, per channel in the order of `color`.", (1.0,)
    )
    fit: str = _key(
        one_of(FITS),
        "How a frame fills the input: `letterbox-top-left`, `letterbox-center`, `stretch`, `crop-center`.",
        "letterbox-center",
    )
    pad: int = _key(integer(0, 255), "Grey level of the letterbox's border, before `scale`.", 114)


@dataclass(frozen=True)
class OutputSection:
    """`[output]`: what the graph's outputs mean."""

    head: str = _key(
        one_of(HEADS),
        "`yolox`, `yolov5`, `yolov8`, `nanodet`, `detr`, `detections` or `center`, see *Heads of detectors*; "
        "`clip`: scores [1, classes] of a clip or a frame, for actions; `scores`: the same for "
        "classification.",
    )
    activation: str = _key(
        one_of(("none", "sigmoid", "softmax")),
        "Function that turns scores into probabilities: `none`, `sigmoid` or `softmax`. In a `detr` head, "
        "`softmax` means that one class is *nothing*: see `background`.",
        "none",
    )
    names: tuple[str, ...] = _key(
        list_of(text),
        "Names of the graph's outputs in the order of the head. Default: found by their shapes.",
        (),
    )
    strides: tuple[int, ...] = _key(
        list_of(integer(1, 512), least=1),
        "`yolox`, `nanodet`: strides of the grids, in the order they are joined.",
        (8, 16, 32),
    )
    cell_offset: float = _key(
        number(0, 1), "`nanodet`: position in its cell, 0 to 1, of the point that distances count from.", 0.5
    )
    box: str = _key(
        one_of(("xyxy", "yxyx", "cxcywh")),
        "Meaning of a box's four numbers: two corners (`xyxy`), two corners with y first (`yxyx`), or centre "
        "and size (`cxcywh`). Default: `cxcywh` for `yolov5`, `yolov8` and `detr`, else `xyxy`.",
        "",
    )
    box_unit: str = _key(
        one_of(("pixels", "relative")),
        "`pixels` of the input, or `relative` to it (0 to 1). Default: `relative` for `detr`, else `pixels`.",
        "",
    )
    columns: tuple[str, ...] = _key(
        list_of(one_of((*USUAL_COLUMNS, "other"))),
        "`detections` in one tensor: its columns. `box` stands for four columns, `other` for an unused one.",
        USUAL_COLUMNS,
    )
    first_class: int = _key(
        integer(0, 1),
        "`detections`, `detr`: the graph's number for the first line of the labels file; 1 if its 0 means "
        "background.",
        0,
    )
    min_score: float = _key(
        number(0, 1),
        "Detections below this score are dropped at once. Keep it at or below the tracker's `low`.",
        0.1,
    )
    extra: int = _key(
        integer(0, 4096),
        "`yolov5`, `yolov8`: number of unused columns after the class scores: mask coefficients, key points.",
        0,
    )
    background: str = _key(
        one_of(("last", "first", "none")),
        "`detr`: column of the scores that means *nothing*: `last`, `first` or `none`. Default: `last` with "
        "activation `softmax`, else `none`.",
        "",
    )
    nms_iou: float = _key(
        number(0, 1),
        "If two boxes of one class overlap more than this, the weaker is dropped; 1 keeps both. Default: 1 "
        "for `detr` and `detections`, else 0.65.",
        None,
    )
    nms_iou_across: float = _key(
        number(0, 1),
        "If two boxes of different classes overlap more than this, the weaker is dropped; 1 keeps both.",
        1.0,
    )
    max_detections: int = _key(integer(1, 10_000), "Most detections per frame; the best are kept.", 300)


@dataclass(frozen=True)
class SamplingSection:
    """`[sampling]`: how often the video is sampled, on a grid that starts at the video's start."""

    rate: float = _key(
        number(0.1, 240),
        "Samples per second: detections for tracking (Vertex: 10), frames of a clip, pictures to classify.",
        10.0,
    )


@dataclass(frozen=True)
class TrackerSection:
    """`[tracker]`: what joins detections to tracks (object tracking). Scores and overlaps are 0 to 1."""

    kind: str = _key(
        one_of(TRACKERS),
        "`bytetrack` predicts where objects go. `iou` compares boxes with the last ones only; of `high` and "
        "the overlaps it uses `match_iou` alone.",
        "bytetrack",
    )
    high: float = _key(number(0, 1), "Detections with this score or more are matched first.", 0.5)
    low: float = _key(
        number(0, 1), "Detections from here to `high` can only continue a track (second stage).", 0.1
    )
    new: float = _key(
        number(0, 1),
        "Least score of a detection that begins a track, or the job's confidenceThreshold if that is lower.",
        0.6,
    )
    match_iou: float = _key(
        number(0, 1), "First stage: least overlap with the predicted box (times the score).", 0.1
    )
    second_iou: float = _key(number(0, 1), "Second stage: least overlap with the predicted box.", 0.2)
    new_iou: float = _key(
        number(0, 1),
        "Least overlap of the doubled boxes for a track's second detection (times the score).",
        0.1,
    )
    lost_iou: float = _key(
        number(0, 1),
        "Least overlap of the doubled boxes to find a lost track again if nothing overlaps it.",
        0.15,
    )
    rival_iou: float = _key(
        number(0, 1),
        "A detection begins no track if it overlaps one of another label more than this; 1: it always may.",
        0.8,
    )
    buffer: float = _key(
        number(0, 60),
        "Seconds to search for a lost track. A shorter gap is interpolated, a longer one ends the track.",
        1.0,
    )
    min_frames: int = _key(
        integer(1, 1000), "Tracks detected in fewer frames are dropped, unless they reach `sure`.", 3
    )
    sure: float = _key(
        number(0, 1),
        "A track with this mean score or more is kept, even if it is shorter than `min_frames`.",
        0.8,
    )


@dataclass(frozen=True)
class ActionsSection:
    """`[actions]`: how clip scores become moments (action recognition)."""

    step: int = _key(integer(1, 512), "A clip begins at every `step`-th sample.", 1)
    moment: float = _key(
        number(0, 1),
        "Position of the action in its clip: 0 first frame, 0.5 middle, 1 last.",
        0.5,
    )
    min_confidence: float = _key(
        number(0, 1), "Peaks below it are not predicted, unless the job's confidenceThreshold is lower.", 0.5
    )
    window: float = _key(
        number(0, 60), "Seconds. Of two nearer peaks of one label, the weaker is dropped.", 0.5
    )
    smooth: int = _key(
        integer(1, 101), "Number of clips, odd, over which scores are averaged before peaks are searched.", 1
    )


@dataclass(frozen=True)
class ClassificationSection:
    """`[classification]`: how scores become confidences for a stretch of video (classification)."""

    step: int = _key(integer(1, 512), "A picture or clip is classified at every `step`-th sample.", 1)
    emphasis: float = _key(
        number(1, 64),
        "Power of the mean of a stretch's scores: 1 is the average; with more, high scores weigh more.",
        1.0,
    )


SECTIONS: Mapping[str, type[Any]] = {
    "model": ModelSection,
    "labels": LabelsSection,
    "input": InputSection,
    "output": OutputSection,
    "sampling": SamplingSection,
    "tracker": TrackerSection,
    "actions": ActionsSection,
    "classification": ClassificationSection,
}
