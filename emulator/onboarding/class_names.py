"""Sources of class names: a file, a set that comes with the package, or the graph's metadata."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from emulator.inference.label_files import LabelsUnreadable, listed, read_label_file
from emulator.inference.manifest import ModelUnusable
from emulator.inference.onnx_model import OnnxModel
from emulator.onboarding.graph import metadata_literal

#: Sets of labels that come with the package, by the name that `--labels` takes.
LABEL_SETS = ("coco80", "coco90", "kinetics400")


def named_labels(name: str) -> tuple[str, ...]:
    """The labels of a set that comes with the package.

    Raises:
        ModelUnusable: there is no such set.
    """
    if name not in LABEL_SETS:
        raise ModelUnusable(
            f"no label set is called {name!r}; give a file with one label a line, or {', '.join(LABEL_SETS)}"
        )
    text = resources.files("emulator.inference").joinpath("labels", f"{name}.txt").read_text("utf-8")
    return tuple(text.split("\n")[:-1])


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels in a file; see `read_label_file`.

    Raises:
        ModelUnusable: no labels can be read from it with certainty.
    """
    try:
        return read_label_file(path)
    except LabelsUnreadable as error:
        raise ModelUnusable(str(error)) from error


def own_labels(model: OnnxModel) -> tuple[str, ...] | None:
    """Labels in the metadata: a dictionary or list as text (Ultralytics' `names`), or lines (`labels`)."""
    for key in ("names", "labels", "classes"):
        value = metadata_literal(model, key)
        if isinstance(value, str):
            separator = "\n" if "\n" in value else "," if "," in value else None
            value = value.strip().split(separator) if separator else None
        labels = listed(value)
        if labels:
            return labels
    return None
