"""Where the names of the classes come from: a file, a set that is known by name, the graph's metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from emulator.inference.manifest import ModelUnusable, label_lines
from emulator.inference.onnx_model import OnnxModel
from emulator.inference.recognise.graph import metadata_literal

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
    """The labels in a file: one a line, or JSON (a list, or a Hugging Face config.json with its id2label).

    Raises:
        ModelUnusable: the file is no text, has an empty line between two labels, or is JSON without labels.
    """
    if path.suffix != ".json":
        return tuple(label_lines(path))
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ModelUnusable(f"the labels in {path} cannot be read: {error}") from error
    labels = _listed(document.get("id2label", document) if isinstance(document, dict) else document)
    if labels is None:
        raise ModelUnusable(
            f"{path} holds no labels; a list of names is needed, or id2label with a name for 0, 1, 2 and so "
            "on, each of one line"
        )
    return labels


def own_labels(model: OnnxModel) -> tuple[str, ...] | None:
    """Labels in the metadata: a dictionary or list as text (Ultralytics' `names`), or lines (`labels`)."""
    for key in ("names", "labels", "classes"):
        value = metadata_literal(model, key)
        if isinstance(value, str):
            separator = "\n" if "\n" in value else "," if "," in value else None
            value = value.strip().split(separator) if separator else None
        labels = _listed(value)
        if labels:
            return labels
    return None


def _listed(value: Any) -> tuple[str, ...] | None:
    """Names in the order of their numbers; None where they are not numbered 0, 1, 2 …"""
    if isinstance(value, Mapping):
        try:
            numbered = {int(number): name for number, name in value.items()}
        except ValueError:
            return None
        value = [numbered[number] for number in sorted(numbered)] if _gapless(numbered) else None
    if not isinstance(value, list | tuple) or not value or not all(map(_is_name, value)):
        return None
    return tuple(str(label).strip() for label in value)


def _is_name(value: object) -> bool:
    """Whether it can be a line of labels.txt."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return False
    return bool(str(value).strip()) and not re.search(r"[\n\r]", str(value).strip())


def _gapless(numbered: Mapping[int, object]) -> bool:
    return sorted(numbered) == list(range(len(numbered)))
