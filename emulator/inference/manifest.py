"""Reads `model.toml`, the file that says how a model's ONNX graph is fed and what its outputs mean.

The dataclasses below are the schema: each key is declared once, with its default, its check and the
sentence that `docs/models.md` prints. Imported by the server, so neither numpy nor onnxruntime here.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from emulator.vertex.parameters import Objective
from emulator.vertex.predictions import Label

MANIFEST = "model.toml"

OBJECTIVES: Mapping[str, Objective] = {objective.value: objective for objective in Objective}
#: What `[output] head` may say, and for which objective. The heads themselves live in `heads/`.
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
#: What those heads take for granted where `[output]` does not say; NMS is for graphs that leave it to others.
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
    Objective.ACTION_RECOGNITION: ("NCTHW", "NTCHW", "NTHWC", "NMCTHW", "NCHW", "NHWC"),
    Objective.CLASSIFICATION: ("NCHW", "NHWC", "NCTHW", "NTCHW", "NTHWC", "NMCTHW"),
}
#: What an input beside the picture may be fed with.
OTHERS = ("width-height", "height-width", "ones")
USUAL_COLUMNS = ("box", "score", "class")
FITS = ("letterbox-top-left", "letterbox-center", "stretch", "crop-center")

S = TypeVar("S")


class ModelUnusable(Exception):
    """The model cannot be run as its manifest says; the message names the cause and the remedy."""


class ManifestError(ModelUnusable):
    """`model.toml` or its labels file is missing or wrong; the message names file, key and remedy."""


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("it must be a text that is not empty")
    return value


def read_model_id(value: object) -> str:
    """A Model id that is one. Raises ValueError, whose text says what one is."""
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
    if path.is_absolute() or ".." in path.parts or "\0" in path.name:
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


def _pairs(read_value: Callable[[object], str]) -> Callable[[object], tuple[tuple[str, str], ...]]:
    def read(value: object) -> tuple[tuple[str, str], ...]:
        if not isinstance(value, dict):
            raise ValueError('it must be a table such as { orig_target_sizes = "width-height" }')
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
        "What it predicts: `object_tracking`, `action_recognition` or `classification`.",
    )
    id: str = _key(read_model_id, "The Model id in resource names. Default: the folder's name.", "")
    display_name: str = _key(_text, "Vertex display name; it names output folders too. Default: the id.", "")
    description: str = _key(_text, "One or two sentences for whoever lists models.", "")
    version: str = _key(_text, "Your own name for this version of the weights.", "1")
    file: str = _key(_file, "The ONNX graph, a file in the same folder.", "model.onnx")
    canned: str = _key(
        _file, "Canned predictions instead of a graph: a JSON Lines file or a folder of such files.", ""
    )


@dataclass(frozen=True)
class LabelsSection:
    """`[labels]`: the names of the classes, in the order of the model's outputs."""

    file: str = _key(_file, "Text file, one display name per line; line n is class n - 1.", "labels.txt")
    ids: tuple[str, ...] = _key(
        _list(_label_id),
        'Annotation spec ids (int64), one per line of the file. Default: `"1"`, `"2"`, …',
        (),
    )
    background: str = _key(
        _text,
        "A label of the file that means *nothing here*: it takes part in a softmax, is never predicted.",
        "",
    )


@dataclass(frozen=True)
class InputSection:
    """`[input]`: how a video frame becomes the model's input: `(pixel * scale - mean) / std`."""

    width: int = _key(_integer(8, 8192), "Width of the input in pixels.")
    height: int = _key(_integer(8, 8192), "Height of the input in pixels.")
    layout: str = _key(
        _one_of(*dict.fromkeys(layout for layouts in LAYOUTS.values() for layout in layouts)),
        "Order of the axes: `NCHW` (default), `NHWC`, `CHW` or `HWC`; for clips `NCTHW` (default for "
        "actions), `NTCHW`, `NTHWC` or `NMCTHW` (M: crops), and `NCHW` or `NHWC` for a classifier of single "
        "frames.",
        "",
    )
    frames: int = _key(_integer(1, 512), "Frames in one clip (T); 1 for single pictures.", 1)
    name: str = _key(_text, "Name of the graph's input. Default: its only or first one.", "")
    slow_name: str = _key(_text, "Two-pathway clip models (SlowFast): name of the slow pathway's input.", "")
    slow_frames: int = _key(
        _integer(1, 512), "Frames of the clip, evenly spread, that the slow pathway takes.", 8
    )
    others: tuple[tuple[str, str], ...] = _key(
        _pairs(_one_of(*OTHERS)),
        "What further inputs are fed with: a table of name = `width-height` or `height-width` (of the input, "
        "in pixels) or `ones` (masks, scale factors).",
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
        "How a frame is fitted in: `letterbox-top-left`, `letterbox-center`, `stretch`, `crop-center`.",
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
        "What still has to be applied to the scores: `none` (they are probabilities), `sigmoid`, `softmax`; "
        "`softmax` in a `detr` head means that the last class is *no object*.",
        "none",
    )
    names: tuple[str, ...] = _key(
        _list(_text),
        "Names of the graph's outputs in the order the head takes them. Default: told by shape.",
        (),
    )
    strides: tuple[int, ...] = _key(
        _list(_integer(1, 512), least=1),
        "`yolox`, `nanodet`: strides of the grids, in the order they are joined.",
        (8, 16, 32),
    )
    cell_offset: float = _key(
        _number(0, 1), "`nanodet`: where in its cell a point lies that distances are measured from.", 0.5
    )
    box: str = _key(
        _one_of("xyxy", "yxyx", "cxcywh"),
        "What the four numbers of a box are: two corners, two corners with y first, or centre and size. "
        "Default: "
        "`cxcywh` for `yolov5`, `yolov8` and `detr`, else `xyxy`.",
        "",
    )
    box_unit: str = _key(
        _one_of("pixels", "relative"),
        "`pixels` of the input, or `relative` to it (0 to 1). Default: `relative` for `detr`, else `pixels`.",
        "",
    )
    columns: tuple[str, ...] = _key(
        _list(_one_of(*USUAL_COLUMNS, "other")),
        "`detections` in one tensor: its columns; `box` stands for four of them, `other` for one without "
        "meaning.",
        USUAL_COLUMNS,
    )
    first_class: int = _key(
        _integer(0, 1),
        "`detections`, `detr`: the graph's number for the first line of the labels file; 1 where its 0 means "
        "background.",
        0,
    )
    min_score: float = _key(
        _number(0, 1),
        "Detections below this score are dropped at once (keep it at or under the tracker's `low`).",
        0.1,
    )
    nms_iou: float = _key(
        _number(0, 1),
        "Of two boxes of one class that overlap more than this, the weaker is dropped; 1: both stay. "
        "Default: 1 "
        "for `detr` and `detections`, else 0.65.",
        None,
    )
    nms_iou_across: float = _key(
        _number(0, 1),
        "Of two boxes of different classes that overlap more than this, the weaker is dropped; 1: both stay.",
        1.0,
    )
    max_detections: int = _key(_integer(1, 10_000), "At most so many detections a frame, best first.", 300)


@dataclass(frozen=True)
class SamplingSection:
    """`[sampling]`: how densely the video is looked at, on a grid that starts at the video's start."""

    rate: float = _key(
        _number(0.1, 240),
        "Samples a second: detections for tracking (Vertex: 10), frames of a clip, pictures to classify.",
        10.0,
    )


@dataclass(frozen=True)
class TrackerSection:
    """`[tracker]`: what joins detections to tracks (object tracking). Scores and overlaps are 0 to 1."""

    kind: str = _key(
        _one_of(*TRACKERS),
        "`bytetrack` predicts where objects go. `iou` compares boxes with the last ones alone, and has no "
        "use for `high` and the overlaps but `match_iou`.",
        "bytetrack",
    )
    high: float = _key(_number(0, 1), "Detections at or above it are matched first.", 0.5)
    low: float = _key(
        _number(0, 1), "Detections from here to `high` may only continue a track (second stage).", 0.1
    )
    new: float = _key(_number(0, 1), "A track begins only with a detection at or above it.", 0.6)
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
        "Least overlap of the doubled boxes for a lost track to be found again where nothing overlaps it.",
        0.15,
    )
    rival_iou: float = _key(
        _number(0, 1),
        "No track begins on one of another label that it overlaps more than this; 1: any may.",
        0.8,
    )
    buffer: float = _key(
        _number(0, 60),
        "Seconds a lost track is looked for; a shorter gap is interpolated, a longer one ends the track.",
        1.0,
    )
    min_frames: int = _key(
        _integer(1, 1000), "Tracks detected in fewer frames are dropped, unless they reach `sure`.", 3
    )
    sure: float = _key(
        _number(0, 1),
        "A track whose mean score reaches it is kept even if it is shorter than `min_frames`.",
        0.8,
    )


@dataclass(frozen=True)
class ActionsSection:
    """`[actions]`: how clip scores become moments (action recognition)."""

    step: int = _key(_integer(1, 512), "A clip begins at every so many-th sample.", 1)
    moment: float = _key(
        _number(0, 1),
        "Where in the clip the action is that its score speaks of: 0 first frame, 0.5 middle, 1 last.",
        0.5,
    )
    min_confidence: float = _key(
        _number(0, 1), "Peaks below it are not predicted, whatever the job's confidenceThreshold.", 0.5
    )
    window: float = _key(
        _number(0, 60), "Seconds: of two peaks of one label nearer than this, the weaker is dropped.", 0.5
    )
    smooth: int = _key(
        _integer(1, 101), "Scores are averaged over so many clips (odd) before peaks are sought.", 1
    )


@dataclass(frozen=True)
class ClassificationSection:
    """`[classification]`: how scores become confidences for a stretch of video (classification)."""

    step: int = _key(_integer(1, 512), "A picture or clip is looked at for every so many-th sample.", 1)
    emphasis: float = _key(
        _number(1, 64),
        "Power of the mean of a stretch's scores: 1 is their average; with more, a part weighs more.",
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
    """A model folder's `model.toml`, checked. `labels[i]` is what class i of the outputs is called."""

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
        """Where the ONNX file lies (not checked here: `open_predictor` does)."""
        return self.folder / self.model.file

    @property
    def is_canned(self) -> bool:
        """Whether predictions are read from a file, and no network is run."""
        return bool(self.model.canned)

    @property
    def interval_us(self) -> int:
        """Distance of the sampling grid's points."""
        return round(1_000_000 / self.sampling.rate)


def load_manifest(folder: Path) -> ModelManifest:
    """Read and check `folder/model.toml` and the labels file it names.

    Raises:
        ManifestError: naming the file, the key and the remedy.
    """
    path = folder / MANIFEST
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(
            f"{path} does not exist; `vertex-emulator models add FILE.onnx` writes one"
        ) from None
    except (OSError, ValueError) as error:  # no TOML, no UTF-8, or a number of thousands of digits
        raise ManifestError(f"{path} cannot be read as TOML: {error}") from error
    return parse_manifest(document, folder)


def check_key(name: str, value: object) -> None:
    """Check a single value as `[section] key` of a model.toml would be; `name` is `section.key`.

    Raises:
        ManifestError: there is no such key, or the value does not fit.
    """
    section, _, key = name.partition(".")
    _refuse_unknown("--set", "section", {section: value}, SECTIONS)
    keys = {item.name: item for item in fields(SECTIONS[section])}
    _refuse_unknown("--set", f"key in [{section}]", {key: value}, keys)
    try:
        keys[key].metadata["read"](value)
    except ValueError as error:
        raise ManifestError(f"--set {name} is {value!r}; {error}") from None


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
    )
    _check_together(path, manifest)
    return manifest


def _refuse_unknown(path: Path | str, kind: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise ManifestError(f"{path}: unknown {kind} {name!r}; {hint}")


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
                raise ManifestError(f"{path}: [{name}] {key} is {table[key]!r}; {error}") from None
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
    """The manifest of a model that runs no network: it has nothing but the section [model]."""
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
    usual = {**USUAL, **HEAD_DEFAULTS.get(spec.head, {})}
    return replace(spec, **{key: value for key, value in usual.items() if getattr(spec, key) in ("", None)})


def label_lines(path: Path) -> list[str]:
    """The labels in a text file, one a line.

    Raises:
        ManifestError: it is empty, cannot be read, or has an empty line, after which all numbers would shift.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read ({error}); it must hold one label a line") from error
    names = [line.strip() for line in text.rstrip().split("\n")]
    if not all(names):
        where = "is empty" if len(names) == 1 else f"has an empty line {names.index('') + 1}"
        raise ManifestError(f"{path} {where}; it must hold one label a line, in the order of the outputs")
    return names


def _read_labels(path: Path, spec: LabelsSection, folder: Path) -> tuple[tuple[Label, ...], int | None]:
    labels_path = folder / spec.file
    try:
        names = label_lines(labels_path)
    except ManifestError as error:
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
    if manifest.actions.smooth % 2 == 0:
        raise ManifestError(f"{path}: [actions] smooth is {manifest.actions.smooth}; it must be odd")
