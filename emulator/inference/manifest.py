"""Reads `model.toml`, the file that says how a model's ONNX graph is fed and what its outputs mean.

The dataclasses below are the schema: each key is declared once, with its default, its check and the
sentence that `docs/models/manifest.md` prints. The server imports this module, so it imports neither numpy
nor onnxruntime.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import reprlib
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from emulator.files import cause, read_toml, shown
from emulator.inference.label_files import LabelsUnreadable, read_label_file
from emulator.vertex.objectives import Objective
from emulator.vertex.predictions import Label

MANIFEST = "model.toml"
# Vertex: model.proto, display_name. Output folders are named after it.
_MAX_DISPLAY_NAME = 128
MOST_MANIFEST_BYTES = 256 << 10
#: The limit for files and folders below a model's folder, hidden ones aside.
MOST_ENTRIES = 10_000

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

S = TypeVar("S")


class ModelUnusable(Exception):
    """The model cannot be run as its manifest says; the message names the cause and the remedy."""

    def __init__(self, message: str) -> None:
        # The message quotes paths and texts from outside, and goes into logs and answers.
        super().__init__(shown(message))


class ManifestError(ModelUnusable):
    """`model.toml` or its labels file is missing or wrong; the message names file, key and remedy."""


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("it must be a text that is not empty")
    return value


def _display_name(value: object) -> str:
    text = _text(value)
    if len(text) > _MAX_DISPLAY_NAME or not text.isprintable():
        raise ValueError(
            f"it has {len(text)} characters; it may have {_MAX_DISPLAY_NAME}, and no control characters"
        )
    return text


def read_model_id(value: object) -> str:
    """Check a Model id. Raises ValueError, whose text says what an id looks like."""
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?", value):
        raise ValueError("it must be 1 to 63 of a-z, 0-9, _ and -, and begin and end with a letter or digit")
    return value


def _label_id(value: object) -> str:
    text = str(value) if not isinstance(value, bool) else ""
    if not text.isdecimal() or not text.isascii() or int(text) >= 2**63:
        raise ValueError('its values must be whole numbers such as "42", below 2^63')
    return str(int(text))


def _file(value: object) -> str:
    path = Path(_text(value))
    if path.is_absolute() or ".." in path.parts or "\0" in str(path):
        raise ValueError("it must name a file inside the model's folder")
    return path.as_posix()


def _one_of(*choices: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in choices:
            raise ValueError(f"it must be one of {', '.join(choices)}")
        return str(value)

    return read


def _integer(low: int, high: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"it must be a whole number from {low} to {high}")
        return value

    return read


def _number(low: float, high: float) -> Callable[[object], float]:
    def read(value: object) -> float:
        # Compared before it is converted: an int may be too large for a float.
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"it must be a number from {low:g} to {high:g}")
        return float(value)

    return read


def _list(
    read_item: Callable[[object], Any], lengths: Sequence[int] | None = None, *, least: int = 0
) -> Callable[[object], tuple[Any, ...]]:
    def read(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list) or (lengths is not None and len(value) not in lengths):
            count = "" if lengths is None else f" of {' or '.join(map(str, lengths))} values"
            raise ValueError(f"it must be a list{count}")
        if len(value) < least:
            raise ValueError(f"it must be a list of at least {least} value")
        return tuple(read_item(item) for item in value)

    return read


def _pairs(
    read_value: Callable[[object], str], example: str = 'orig_target_sizes = "width-height"'
) -> Callable[[object], tuple[tuple[str, str], ...]]:
    def read(value: object) -> tuple[tuple[str, str], ...]:
        if not isinstance(value, dict):
            raise ValueError(f"it must be a table such as {{ {example} }}")
        return tuple((name, read_value(item)) for name, item in value.items())

    return read


def _key(read: Callable[[object], Any], text: str, default: Any = MISSING) -> Any:
    metadata = {"read": read, "help": text}
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


@dataclass(frozen=True)
class ModelSection:
    """`[model]`: what the model is called."""

    objective: str = _key(
        _one_of(*OBJECTIVES),
        "Kind of prediction: `object_tracking`, `action_recognition` or `classification`.",
    )
    id: str = _key(read_model_id, "Model id in resource names. Default: the folder's name.", "")
    display_name: str = _key(
        _display_name, "Display name, also in the names of output folders. Default: the id.", ""
    )
    description: str = _key(_text, "One or two sentences about the model.", "")
    version: str = _key(_text, "Your own name for this version of the weights.", "1")
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
        _list(_label_id),
        'Annotation spec ids (int64), one per line of the file. Default: `"1"`, `"2"`, …',
        (),
    )
    background: str = _key(
        _text,
        "Label of the file that means *nothing here*: part of a softmax, never predicted.",
        "",
    )


@dataclass(frozen=True)
class InputSection:
    """`[input]`: how a video frame becomes the model's input: `(pixel * scale - mean) / std`."""

    width: int = _key(_integer(8, 8192), "Width of the input in pixels.")
    height: int = _key(_integer(8, 8192), "Height of the input in pixels.")
    layout: str = _key(
        _one_of(*dict.fromkeys(layout for layouts in LAYOUTS.values() for layout in layouts)),
        "Order of the axes. Pictures: `NCHW` (default), `NHWC`, `CHW` or `HWC`. Clips: `NCTHW` (default for "
        "actions), `NTCHW`, `NTHWC`, `NMCTHW` (M: crops), `TCHW` or `THWC`; for a classifier of single "
        "frames `NCHW` or `NHWC`.",
        "",
    )
    frames: int = _key(_integer(1, 512), "Frames in one clip (T); 1 for single pictures.", 1)
    name: str = _key(_text, "Name of the graph's input. Default: its only or first one.", "")
    slow_name: str = _key(_text, "Two-pathway clip models (SlowFast): name of the slow pathway's input.", "")
    slow_frames: int = _key(
        _integer(1, 512), "Number of evenly spread frames of the clip for the slow pathway.", 8
    )
    others: tuple[tuple[str, str], ...] = _key(
        _pairs(_one_of(*OTHERS)),
        "Values of further inputs: a table of name = `width-height` or `height-width` (of the input, in "
        "pixels), `ones` (masks, scale factors) or `zeros`.",
        (),
    )
    states: tuple[tuple[str, str], ...] = _key(
        _pairs(_text, 'state_in = "state_out"'),
        "Streams: a table of input = output. The input is zero for a segment's first clip, then the output "
        "for the clip before.",
        (),
    )
    color: str = _key(_one_of("BGR", "RGB", "GRAY"), "Order of the colour channels.", "RGB")
    scale: float = _key(_number(1e-6, 1e6), "Factor on the 0…255 pixel; `0.00392156862745098` is 1/255.", 1.0)
    mean: tuple[float, ...] = _key(
        _list(_number(-1e6, 1e6), (1, 3)),
        "Subtracted after `scale`, per channel in the order of `color`.",
        (0.0,),
    )
    std: tuple[float, ...] = _key(
        _list(_number(1e-6, 1e6), (1, 3)), "Divides last, per channel in the order of `color`.", (1.0,)
    )
    fit: str = _key(
        _one_of(*FITS),
        "How a frame fills the input: `letterbox-top-left`, `letterbox-center`, `stretch`, `crop-center`.",
        "letterbox-center",
    )
    pad: int = _key(_integer(0, 255), "Grey level of the letterbox's border, before `scale`.", 114)


@dataclass(frozen=True)
class OutputSection:
    """`[output]`: what the graph's outputs mean."""

    head: str = _key(
        _one_of(*HEADS),
        "`yolox`, `yolov5`, `yolov8`, `nanodet`, `detr`, `detections` or `center`, see *Heads of detectors*; "
        "`clip`: scores [1, classes] of a clip or a frame, for actions; `scores`: the same for "
        "classification.",
    )
    activation: str = _key(
        _one_of("none", "sigmoid", "softmax"),
        "Function that turns scores into probabilities: `none`, `sigmoid` or `softmax`. In a `detr` head, "
        "`softmax` means that one class is *nothing*: see `background`.",
        "none",
    )
    names: tuple[str, ...] = _key(
        _list(_text),
        "Names of the graph's outputs in the order of the head. Default: found by their shapes.",
        (),
    )
    strides: tuple[int, ...] = _key(
        _list(_integer(1, 512), least=1),
        "`yolox`, `nanodet`: strides of the grids, in the order they are joined.",
        (8, 16, 32),
    )
    cell_offset: float = _key(
        _number(0, 1), "`nanodet`: position in its cell, 0 to 1, of the point that distances count from.", 0.5
    )
    box: str = _key(
        _one_of("xyxy", "yxyx", "cxcywh"),
        "Meaning of a box's four numbers: two corners (`xyxy`), two corners with y first (`yxyx`), or centre "
        "and size (`cxcywh`). Default: `cxcywh` for `yolov5`, `yolov8` and `detr`, else `xyxy`.",
        "",
    )
    box_unit: str = _key(
        _one_of("pixels", "relative"),
        "`pixels` of the input, or `relative` to it (0 to 1). Default: `relative` for `detr`, else `pixels`.",
        "",
    )
    columns: tuple[str, ...] = _key(
        _list(_one_of(*USUAL_COLUMNS, "other")),
        "`detections` in one tensor: its columns. `box` stands for four columns, `other` for an unused one.",
        USUAL_COLUMNS,
    )
    first_class: int = _key(
        _integer(0, 1),
        "`detections`, `detr`: the graph's number for the first line of the labels file; 1 if its 0 means "
        "background.",
        0,
    )
    min_score: float = _key(
        _number(0, 1),
        "Detections below this score are dropped at once. Keep it at or below the tracker's `low`.",
        0.1,
    )
    extra: int = _key(
        _integer(0, 4096),
        "`yolov5`, `yolov8`: number of unused columns after the class scores: mask coefficients, key points.",
        0,
    )
    background: str = _key(
        _one_of("last", "first", "none"),
        "`detr`: column of the scores that means *nothing*: `last`, `first` or `none`. Default: `last` with "
        "activation `softmax`, else `none`.",
        "",
    )
    nms_iou: float = _key(
        _number(0, 1),
        "If two boxes of one class overlap more than this, the weaker is dropped; 1 keeps both. Default: 1 "
        "for `detr` and `detections`, else 0.65.",
        None,
    )
    nms_iou_across: float = _key(
        _number(0, 1),
        "If two boxes of different classes overlap more than this, the weaker is dropped; 1 keeps both.",
        1.0,
    )
    max_detections: int = _key(_integer(1, 10_000), "Most detections per frame; the best are kept.", 300)


@dataclass(frozen=True)
class SamplingSection:
    """`[sampling]`: how often the video is sampled, on a grid that starts at the video's start."""

    rate: float = _key(
        _number(0.1, 240),
        "Samples per second: detections for tracking (Vertex: 10), frames of a clip, pictures to classify.",
        10.0,
    )


@dataclass(frozen=True)
class TrackerSection:
    """`[tracker]`: what joins detections to tracks (object tracking). Scores and overlaps are 0 to 1."""

    kind: str = _key(
        _one_of(*TRACKERS),
        "`bytetrack` predicts where objects go. `iou` compares boxes with the last ones only; of `high` and "
        "the overlaps it uses `match_iou` alone.",
        "bytetrack",
    )
    high: float = _key(_number(0, 1), "Detections with this score or more are matched first.", 0.5)
    low: float = _key(
        _number(0, 1), "Detections from here to `high` can only continue a track (second stage).", 0.1
    )
    new: float = _key(
        _number(0, 1),
        "Least score of a detection that begins a track, or the job's confidenceThreshold if that is lower.",
        0.6,
    )
    match_iou: float = _key(
        _number(0, 1), "First stage: least overlap with the predicted box (times the score).", 0.1
    )
    second_iou: float = _key(_number(0, 1), "Second stage: least overlap with the predicted box.", 0.2)
    new_iou: float = _key(
        _number(0, 1),
        "Least overlap of the doubled boxes for a track's second detection (times the score).",
        0.1,
    )
    lost_iou: float = _key(
        _number(0, 1),
        "Least overlap of the doubled boxes to find a lost track again if nothing overlaps it.",
        0.15,
    )
    rival_iou: float = _key(
        _number(0, 1),
        "A detection begins no track if it overlaps one of another label more than this; 1: it always may.",
        0.8,
    )
    buffer: float = _key(
        _number(0, 60),
        "Seconds to search for a lost track. A shorter gap is interpolated, a longer one ends the track.",
        1.0,
    )
    min_frames: int = _key(
        _integer(1, 1000), "Tracks detected in fewer frames are dropped, unless they reach `sure`.", 3
    )
    sure: float = _key(
        _number(0, 1),
        "A track with this mean score or more is kept, even if it is shorter than `min_frames`.",
        0.8,
    )


@dataclass(frozen=True)
class ActionsSection:
    """`[actions]`: how clip scores become moments (action recognition)."""

    step: int = _key(_integer(1, 512), "A clip begins at every `step`-th sample.", 1)
    moment: float = _key(
        _number(0, 1),
        "Position of the action in its clip: 0 first frame, 0.5 middle, 1 last.",
        0.5,
    )
    min_confidence: float = _key(
        _number(0, 1), "Peaks below it are not predicted, unless the job's confidenceThreshold is lower.", 0.5
    )
    window: float = _key(
        _number(0, 60), "Seconds. Of two nearer peaks of one label, the weaker is dropped.", 0.5
    )
    smooth: int = _key(
        _integer(1, 101), "Number of clips, odd, over which scores are averaged before peaks are searched.", 1
    )


@dataclass(frozen=True)
class ClassificationSection:
    """`[classification]`: how scores become confidences for a stretch of video (classification)."""

    step: int = _key(_integer(1, 512), "A picture or clip is classified at every `step`-th sample.", 1)
    emphasis: float = _key(
        _number(1, 64),
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


@dataclass(frozen=True)
class ModelManifest:
    """A model folder's `model.toml`, checked. `labels[i]` is the label of class i of the outputs."""

    folder: Path
    objective: Objective
    model: ModelSection
    labels: tuple[Label, ...]
    background: int | None
    input: InputSection
    output: OutputSection
    sampling: SamplingSection
    tracker: TrackerSection
    actions: ActionsSection
    classification: ClassificationSection
    labels_file: str = ""

    @property
    def id(self) -> str:
        """The Model id, the last part of its resource name."""
        return self.model.id

    @property
    def display_name(self) -> str:
        """Vertex's displayName."""
        return self.model.display_name

    @property
    def graph(self) -> Path:
        """The path of the ONNX file. `open_predictor` checks it; nothing is checked here."""
        return self.folder / self.model.file

    @property
    def is_canned(self) -> bool:
        """Whether predictions are read from a file instead of computed by a network."""
        return bool(self.model.canned)

    @property
    def interval_us(self) -> int:
        """The interval of the sampling grid, in microseconds."""
        return round(1_000_000 / self.sampling.rate)


def load_manifest(folder: Path, changes: Mapping[str, object] | None = None) -> ModelManifest:
    """Read and check `folder/model.toml` and the labels file it names.

    `changes` replaces values by `section.key` after they are read; the file stays as it is.

    Raises:
        ManifestError: naming the file, the key and the remedy.
    """
    path = folder / MANIFEST
    try:
        values = read_toml(path, MOST_MANIFEST_BYTES)
        for key, value in (changes or {}).items():
            section, _, name = key.partition(".")
            values.setdefault(section, {})[name] = value
        return parse_manifest(values, folder)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            remedy = "`vertex-emulator models add FILE.onnx` writes one"
            raise ManifestError(f"{path} does not exist; {remedy}") from None
        raise ManifestError(f"{path} cannot be read: {cause(error)}") from error
    except ValueError as error:  # no TOML, no UTF-8, or a number of thousands of digits
        raise ManifestError(f"{path} cannot be read as TOML: {error}") from error


def model_files(folder: Path) -> tuple[tuple[bytes, os.stat_result], ...]:
    """The files of a model's folder, by relative name, with their status: if one changes, so does the model.

    Leaves out hidden files, dangling links, and everything that is not a regular file.

    Raises:
        ManifestError: there are too many files to look at them all.
    """
    files: dict[bytes, os.stat_result] = {}
    waiting, seen = [os.fsencode(folder)], 0
    while waiting:
        for entry in _entries(waiting.pop()):
            seen += 1
            if seen > MOST_ENTRIES:
                raise ManifestError(
                    f"{folder} holds more than {MOST_ENTRIES:,} files; keep a model in a folder of its own"
                )
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif stat.S_ISREG((status := entry.stat()).st_mode):
                    files[os.path.relpath(entry.path, os.fsencode(folder))] = status
    return tuple(sorted(files.items(), key=lambda file: file[0]))


def _entries(folder: bytes) -> list[os.DirEntry[bytes]]:
    """The entries of a folder that are not hidden; none if it cannot be read."""
    with contextlib.suppress(OSError), os.scandir(folder) as found:
        visible = (entry for entry in found if not entry.name.startswith(b"."))
        return [entry for entry, _ in zip(visible, range(MOST_ENTRIES + 1), strict=False)]
    return []


def check_key(name: str, value: object, option: str = "--set") -> None:
    """Check one value as a key of a model.toml; `name` is `section.key`, and messages name `option`.

    Raises:
        ManifestError: there is no such key, or the value does not fit.
    """
    section, _, key = name.partition(".")
    _refuse_unknown(option, "section", {section: value}, SECTIONS)
    keys = {item.name: item for item in fields(SECTIONS[section])}
    _refuse_unknown(option, f"key in [{section}]", {key: value}, keys)
    try:
        keys[key].metadata["read"](value)
    except ValueError as error:
        raise ManifestError(f"{option} {name} is {_brief(value)}; {error}") from None


def parse_manifest(document: Mapping[str, Any], folder: Path) -> ModelManifest:
    """Check an already parsed `model.toml` that belongs to `folder`."""
    path = folder / MANIFEST
    _refuse_unknown(path, "section", document, SECTIONS)
    if isinstance(document.get("model"), dict) and document["model"].get("canned"):
        return _parse_canned(document, folder)
    sections = {
        name: _read_section(path, name, cls, document.get(name, {})) for name, cls in SECTIONS.items()
    }
    model = _named(path, sections["model"], folder)
    objective = OBJECTIVES[model.objective]
    labels, background = _read_labels(path, sections["labels"], folder)
    manifest = ModelManifest(
        folder=folder,
        objective=objective,
        model=model,
        labels=labels,
        background=background,
        input=_with_layout(path, sections["input"], objective),
        output=_with_head_defaults(sections["output"]),
        sampling=sections["sampling"],
        tracker=sections["tracker"],
        actions=sections["actions"],
        classification=sections["classification"],
        labels_file=sections["labels"].file,
    )
    _check_together(path, manifest)
    return manifest


def _refuse_unknown(path: Path | str, kind: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name[:100], known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise ManifestError(f"{path}: unknown {kind} {_brief(name)}; {hint}")


_VALUES = reprlib.Repr()
_VALUES.maxstring = _VALUES.maxother = _VALUES.maxlong = 100
_VALUES.maxlist = _VALUES.maxdict = 8
_VALUES.maxlevel = 3


def _brief(value: object) -> str:
    """A manifest's value, shortened for a message: the value may be very long."""
    try:
        return _VALUES.repr(value)
    except ValueError:  # Python refuses to write numbers of thousands of digits
        return "a number of thousands of digits"


def _read_section(path: Path, name: str, cls: type[S], table: object) -> S:
    if not isinstance(table, dict):
        raise ManifestError(f"{path}: {name} must be a section, [{name}], not a value")
    keys: dict[str, Field[Any]] = {item.name: item for item in fields(cls)}  # type: ignore[arg-type]
    _refuse_unknown(path, f"key in [{name}]", table, keys)
    values: dict[str, Any] = {}
    for key, item in keys.items():
        if key in table:
            try:
                values[key] = item.metadata["read"](table[key])
            except ValueError as error:
                raise ManifestError(f"{path}: [{name}] {key} is {_brief(table[key])}; {error}") from None
        elif item.default is MISSING:
            raise ManifestError(f"{path}: [{name}] {key} is missing. {item.metadata['help']}")
    return cls(**values)


def _named(path: Path, model: ModelSection, folder: Path) -> ModelSection:
    model_id = model.id
    if not model_id:
        try:
            model_id = read_model_id(folder.resolve().name)
        except ValueError as error:
            raise ManifestError(
                f"{path}: the folder's name cannot be the model id: {error}; set [model] id"
            ) from None
    return replace(model, id=model_id, display_name=model.display_name or model_id)


def _parse_canned(document: Mapping[str, Any], folder: Path) -> ModelManifest:
    """The manifest of a canned model, which runs no network and has only the section [model]."""
    path = folder / MANIFEST
    _refuse_unknown(path, "section of a canned model", document, {"model": ModelSection})
    model = _named(path, _read_section(path, "model", ModelSection, document["model"]), folder)
    objective = OBJECTIVES[model.objective]
    head = next(head for head, of in HEADS.items() if of is objective)
    return ModelManifest(
        folder=folder,
        objective=objective,
        model=model,
        labels=(),
        background=None,
        input=InputSection(width=8, height=8),
        output=OutputSection(head=head),
        sampling=SamplingSection(),
        tracker=TrackerSection(),
        actions=ActionsSection(),
        classification=ClassificationSection(),
    )


def _with_layout(path: Path, spec: InputSection, objective: Objective) -> InputSection:
    known = LAYOUTS[objective]
    if spec.layout and spec.layout not in known:
        raise ManifestError(
            f"{path}: [input] layout is {spec.layout!r}; for this objective it is {' or '.join(known)}"
        )
    return replace(spec, layout=spec.layout or known[0])


def _with_head_defaults(spec: OutputSection) -> OutputSection:
    background = "last" if spec.activation == "softmax" else "none"
    usual = {**USUAL, "background": background, **HEAD_DEFAULTS.get(spec.head, {})}
    return replace(spec, **{key: value for key, value in usual.items() if getattr(spec, key) in ("", None)})


def _read_labels(path: Path, spec: LabelsSection, folder: Path) -> tuple[tuple[Label, ...], int | None]:
    labels_path = folder / spec.file
    try:
        names = read_label_file(labels_path)
    except LabelsUnreadable as error:
        raise ManifestError(f"{error}; [labels] file in {path} may name another file") from error
    if spec.ids and (len(spec.ids) != len(names) or len(set(spec.ids)) != len(names)):
        raise ManifestError(
            f"{path}: [labels] ids has {len(set(spec.ids))} different values, but {labels_path.name} "
            f"has {len(names)} labels; give one id per label or leave ids out"
        )
    if spec.background and spec.background not in names:
        raise ManifestError(f"{path}: [labels] background {spec.background!r} is not a line of {labels_path}")
    ids = spec.ids or tuple(str(number) for number in range(1, len(names) + 1))
    background = names.index(spec.background) if spec.background else None
    return tuple(Label(id=id_, display_name=name) for id_, name in zip(ids, names, strict=True)), background


def _check_together(path: Path, manifest: ModelManifest) -> None:
    head, spec, tracker = manifest.output.head, manifest.input, manifest.tracker
    if HEADS[head] is not manifest.objective:
        fitting = ", ".join(name for name, objective in HEADS.items() if objective is manifest.objective)
        raise ManifestError(
            f"{path}: [output] head {head!r} is not for {manifest.model.objective}; these are: {fitting}"
        )
    channels = 1 if spec.color == "GRAY" else 3
    for key, values in (("mean", spec.mean), ("std", spec.std)):
        if len(values) not in (1, channels):
            raise ManifestError(
                f"{path}: [input] {key} has {len(values)} values, color {spec.color} has {channels}"
            )
    if manifest.objective is Objective.OBJECT_TRACKING:
        if manifest.output.activation == "softmax" and head != "detr":
            raise ManifestError(
                f"{path}: [output] activation 'softmax' is for clip classifiers and detr; use sigmoid or none"
            )
        if spec.frames != 1:
            raise ManifestError(
                f"{path}: [input] frames is {spec.frames}; a detector takes 1 frame at a time"
            )
        if sorted(column for column in manifest.output.columns if column != "other") != sorted(USUAL_COLUMNS):
            raise ManifestError(
                f"{path}: [output] columns is {list(manifest.output.columns)}; it must have each of "
                f"{', '.join(USUAL_COLUMNS)} once"
            )
        if not tracker.low <= tracker.high <= tracker.new:
            raise ManifestError(f"{path}: [tracker] must have low <= high <= new")
    elif "T" not in spec.layout and spec.frames != 1:
        raise ManifestError(
            f"{path}: [input] frames is {spec.frames}, but layout {spec.layout} holds one picture; use 1, or "
            "NCTHW, NTCHW or NTHWC for clips"
        )
    step, rate = manifest.classification.step, manifest.sampling.rate
    if manifest.objective is Objective.CLASSIFICATION and step > rate:
        raise ManifestError(
            f"{path}: [classification] step is {step} samples, over a second at [sampling] rate {rate:g}; "
            "each second must be looked at once at least"
        )
    _check_stream(path, manifest)
    if manifest.actions.smooth % 2 == 0:
        raise ManifestError(f"{path}: [actions] smooth is {manifest.actions.smooth}; it must be odd")


def _check_stream(path: Path, manifest: ModelManifest) -> None:
    """Check a stream, which must see every frame once, in order."""
    spec = manifest.input
    if not spec.states:
        return
    if manifest.objective is Objective.OBJECT_TRACKING:
        raise ManifestError(f"{path}: [input] states is for classifiers, not for {manifest.model.objective}")
    section = SECTION_OF[manifest.objective]
    step = getattr(manifest, section).step
    if step != spec.frames:
        raise ManifestError(
            f"{path}: [{section}] step is {step}, but a stream ([input] states) goes on where its last "
            "clip ended; "
            f"set it to [input] frames, {spec.frames}"
        )
