"""Reads `model.toml`, the file that says how a model's ONNX graph is fed and what its outputs mean.

`sections.py` has its keys. The server imports both modules, so they import neither numpy nor onnxruntime.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import reprlib
import stat
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from emulator.files import cause, read_toml, shown
from emulator.inference.label_files import LabelsUnreadable, read_label_file
from emulator.inference.sections import (
    HEAD_DEFAULTS,
    HEADS,
    LAYOUTS,
    OBJECTIVES,
    SECTION_OF,
    SECTIONS,
    USUAL,
    USUAL_COLUMNS,
    ActionsSection,
    ClassificationSection,
    InputSection,
    LabelsSection,
    ModelSection,
    OutputSection,
    SamplingSection,
    TrackerSection,
    read_model_id,
)
from emulator.vertex.objectives import Objective
from emulator.vertex.predictions import Label

MANIFEST = "model.toml"
MOST_MANIFEST_BYTES = 256 << 10
#: The limit for files and folders below a model's folder, hidden ones aside.
MOST_ENTRIES = 10_000

S = TypeVar("S")


class ModelUnusable(Exception):
    """The model cannot be run as its manifest says; the message names the cause and the remedy."""

    def __init__(self, message: str) -> None:
        # The message quotes paths and texts from outside, and goes into logs and answers.
        super().__init__(shown(message))


class ManifestError(ModelUnusable):
    """`model.toml` or its labels file is missing or wrong; the message names file, key and remedy."""


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
