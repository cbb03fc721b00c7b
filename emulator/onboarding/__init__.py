"""Detects what kind of model an ONNX graph is, and writes the `model.toml` for it.

Names, shapes and one run on a made-up picture decide. Values that they leave open are written as assumptions,
with the alternatives that would fit, or the user is asked for them by name. KINDS has one entry per kind of
model.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from emulator.files import open_regular
from emulator.inference.manifest import MANIFEST, ModelManifest, ModelUnusable, check_key, load_manifest
from emulator.inference.model_files import external_files
from emulator.inference.onnx_model import OnnxModel
from emulator.inference.sections import HEADS
from emulator.onboarding import classifiers, conventions, dense, detr, suppressed, told
from emulator.onboarding.class_names import LABEL_SETS, named_labels, own_labels, read_labels
from emulator.onboarding.graph import Graph, look, metadata_literal
from emulator.onboarding.guess import Guess
from emulator.onboarding.writing import manifest_text

__all__ = ["LABEL_SETS", "Recognition", "named_labels", "read_labels", "recognise", "write_folder"]

#: Head -> function that recognises it. It returns a Guess, or a text that says what is missing.
KINDS: Mapping[str, Callable[[Graph], Guess | str]] = {
    "yolox": dense.yolox,
    "yolov5": dense.yolov5,
    "yolov8": dense.yolov8,
    "nanodet": dense.nanodet,
    "detr": detr.detr,
    "detections": suppressed.detections,
    "center": dense.center,
    "clip": classifiers.clip,
    "scores": classifiers.scores,
}
#: Kinds that a graph cannot show, so that the user must ask for them.
ON_REQUEST = frozenset({"scores"})
#: If the number of classes leaves several kinds possible, this number decides: most models use COCO.
LIKELY_CLASSES = 80


@dataclass(frozen=True)
class Recognition:
    """A complete model folder that is not written yet."""

    head: str
    manifest: str
    """Text of model.toml."""
    labels: tuple[str, ...]
    findings: tuple[str, ...]
    """Facts that the graph shows."""
    assumptions: tuple[str, ...] = ()
    """Values that the graph does not show, each with the alternatives that would fit."""


def recognise(
    path: Path,
    *,
    labels: Sequence[str] | None = None,
    head: str | None = None,
    name: str = "",
    answers: Mapping[str, Any] | None = None,
) -> Recognition:
    """Recognise the graph in `path`.

    Args:
        labels: names of the classes, in the order of the outputs; else the graph's own, else numbers.
        head: try this `[output] head` only.
        name: display name; default the file's.
        answers: keys of model.toml that the graph leaves open, such as `input.width`; they override guesses.

    Raises:
        ModelUnusable: not ONNX, of no known kind, the numbers of labels and classes differ, or an answer
            does not fit.
    """
    if head not in (None, *KINDS):
        raise ModelUnusable(f"unknown head {head!r}; it must be one of {', '.join(KINDS)}")
    for key, value in (answers or {}).items():
        check_key(key, value)
    model = OnnxModel(path)
    _refuse_other_tasks(model)
    own = own_labels(model) if labels is None else None
    graph = look(model, own if labels is None else labels, answers or {})
    guess = _choose(graph, head)
    findings = guess.findings + (("labels: from the graph's metadata",) if own else ())
    names, assumed = _names(graph, guess)
    assumptions = (*conventions.assumptions(graph, guess), *assumed)
    text = manifest_text(graph, guess, name or path.stem, findings, assumptions)
    return Recognition(guess.head, text, names, findings, assumptions)


def write_folder(recognition: Recognition, path: Path, folder: Path) -> ModelManifest:
    """Make the model folder: the graph in `path` under its usual name, model.toml and labels.txt.

    Raises:
        FileExistsError: the folder exists already.
        ManifestError: the display name or the folder's name cannot be used.
        ModelUnusable: the graph's external data lies outside its folder.
    """
    folder.mkdir(parents=True)
    _copy(path, folder / "model.onnx")
    for weights in external_files(path):
        relative = PurePosixPath(weights)
        if (
            relative.is_absolute()
            or ".." in relative.parts
            or "\0" in weights
            or relative.as_posix() in _OWN_FILES
        ):
            raise ModelUnusable(
                f"{path} keeps weights in {weights}; save it with external data beside it, under another name"
            )
        (folder / relative).parent.mkdir(parents=True, exist_ok=True)
        _copy(path.parent / relative, folder / relative)
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in recognition.labels), "utf-8")
    (folder / MANIFEST).write_text(recognition.manifest, "utf-8")
    return load_manifest(folder)


def _copy(origin: Path, target: Path) -> None:
    with open_regular(origin) as source, target.open("xb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)


_OWN_FILES = ("model.onnx", "labels.txt", MANIFEST)


def _choose(graph: Graph, head: str | None) -> Guess:
    """Choose the one reading of the graph that fits.

    Raises:
        ModelUnusable: none fits, or several do; the message says what would decide.
    """
    guesses: list[Guess] = []
    reasons: list[str] = []
    for kind, read in KINDS.items():
        if head == kind or (head is None and kind not in ON_REQUEST):
            found = read(graph)
            if isinstance(found, str) and head == kind:
                found = told.guess(kind, HEADS[kind], graph, found)
            if isinstance(found, Guess):
                guesses.append(found)
            else:
                reasons.append(f"not {kind}: {found}")
    path = graph.model.path
    if not guesses:
        inputs, outputs = (", ".join(map(str, tensors)) for tensors in (graph.model.inputs, graph.outputs))
        raise ModelUnusable(
            f"{path} is of no kind known here. Inputs: {inputs}; outputs: {outputs}. {'; '.join(reasons)}. "
            "Export it in one of these forms, or say what it is with --head and --set"
        )
    if head is not None and told.says_more(graph):
        return guesses[0]  # the head itself checks the labels then
    fitting = _fitting(guesses, graph)
    if len(fitting) == 1:
        return fitting[0]
    readings = " or ".join(_reading(guess) for guess in fitting)
    raise ModelUnusable(
        f"{path} can be read as {readings}. Say which: "
        f"{' or '.join(f'--head {guess.head}' for guess in fitting)}; --labels may decide it too"
    )


def _fitting(guesses: list[Guess], graph: Graph) -> list[Guess]:
    """The guesses with as many classes as labels; without labels, those with the likeliest number."""
    if graph.labels is not None:
        known = len(graph.labels)
        fitting = [guess for guess in guesses if guess.classes in (None, known)]
        if not fitting:
            counts = " or ".join(str(guess.classes) for guess in guesses)
            raise ModelUnusable(
                f"{known} labels were given, but {graph.model.path} has {counts} classes; "
                "give one label per class, in the order of the outputs"
            )
        return fitting
    likely = [guess for guess in guesses if guess.classes == LIKELY_CLASSES]
    if len(guesses) == 1 or len(likely) != 1:
        return guesses
    note = (
        f"{likely[0].head} rather than {' or '.join(g.head for g in guesses if g is not likely[0])}: it has"
    )
    return [
        replace(likely[0], assumptions=(*likely[0].assumptions, f"{note} COCO's {LIKELY_CLASSES} classes"))
    ]


def _reading(guess: Guess) -> str:
    return guess.head if guess.classes is None else f"{guess.head} of {guess.classes} classes"


def _names(graph: Graph, guess: Guess) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The labels, and the assumptions behind them."""
    if graph.labels is not None:
        return graph.labels, ()
    if guess.classes is None:
        raise ModelUnusable(
            f"{graph.model.path} does not show how many classes it has; give --labels FILE (one label a "
            f"line), or --labels {' or '.join(LABEL_SETS)}"
        )
    fitting = "".join(
        f" or --labels {known}" for known in LABEL_SETS if len(named_labels(known)) == guess.classes
    )
    numbered = tuple(f"class {number}" for number in range(1, guess.classes + 1))
    return numbered, (f"labels: numbered, the graph has none; give --labels FILE{fitting}",)


def _refuse_other_tasks(model: OnnxModel) -> None:
    task = metadata_literal(model, "task")  # as Ultralytics writes it
    if task in ("obb", "semantic", "depth"):
        raise ModelUnusable(
            f"{model.path} is a model for {task} by its metadata, which has no upright boxes; export one for "
            "detect, segment, pose or classify"
        )
