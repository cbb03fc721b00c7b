"""Conventions that no graph shows: for each key, a sentence with the alternatives that would fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from emulator.inference.sections import FITS, HEAD_DEFAULTS, USUAL
from emulator.onboarding.graph import Graph
from emulator.onboarding.guess import Guess
from emulator.onboarding.scales import scale_of

#: Keys of `[output]` that say how a head's numbers are meant, and that its shapes do not show.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "yolox": ("activation",),
    "yolov5": ("activation", "box", "box_unit"),
    "yolov8": ("activation", "box", "box_unit"),
    "nanodet": ("activation", "cell_offset"),
    "detr": ("activation", "box", "box_unit", "first_class", "background"),
    "detections": ("activation", "box", "box_unit", "first_class"),
    "center": ("activation",),
    "clip": ("activation",),
    "scores": ("activation",),
}
_BOXES = {"xyxy": "two corners", "yxyx": "two corners, y first", "cxcywh": "centre and size"}
_SCALES = (
    "scale 0.00392156862745098 (0 to 1), 1.0 (0 to 255), 0.00784313725490196 with mean [1.0] (-1 to 1), "
    "or mean and std of ImageNet fit as well, as in training"
)


def assumptions(graph: Graph, guess: Guess) -> tuple[str, ...]:
    """The guess's own assumptions, and a sentence for each convention that they leave out.

    Keys that the user has set are not assumptions.
    """
    told = {key.partition(".")[2] for key in graph.answers if key.startswith(("input.", "output."))}
    own = [line for line in (*graph.assumptions, *guess.assumptions) if line.split(" ")[0] not in told]
    return (
        *own,
        *(text for key, text in _sentences(graph, guess) if key not in told and not _said(own, text)),
    )


def _said(lines: Sequence[str], text: str) -> bool:
    """Whether a line mentions the same key and value."""
    spoken = re.escape(text.partition(":")[0])
    return any(re.search(rf"\b{spoken}(?![\w.-])", line) for line in lines)


def _sentences(graph: Graph, guess: Guess) -> Iterator[tuple[str, str]]:
    color = guess.input.get("color", graph.input.color)
    if graph.input.color != "GRAY":
        other = "BGR" if color == "RGB" else "RGB"
        yield "color", f"color {color}: {other} where red and blue lie the other way round"
    if not graph.takes_pixels:
        scale = float(f"{guess.input.get('scale', graph.input.scale):.6g}")
        yield "scale", f"scale {scale}: {_SCALES}"
    fit = str(guess.input.get("fit", graph.input.fit))
    yield (
        "fit",
        f"fit {fit}: {' or '.join(one for one in FITS if one != fit)} where frames were fitted so in "
        "training",
    )
    values: dict[str, Any] = {**_DEFAULTS, **HEAD_DEFAULTS.get(guess.head, {}), **guess.output}
    if guess.objective == "object_tracking":
        yield "tracker", str(scale_of(guess))
    for key in _KEYS[guess.head]:
        if sentence := _ALTERNATIVES[key](values[key], guess):
            yield key, f"{key} {values[key]}: {sentence}"


def _activation(value: str, guess: Guess) -> str:
    others = {
        "none": "sigmoid (or softmax) where these numbers between 0 and 1 are logits still",
        "sigmoid": "none where the graph applies it already",
        "softmax": (
            "sigmoid where several classes may be true at once, none where the graph applies it already"
        ),
    }
    if value == "none" and guess.head not in ("clip", "scores", "detr"):
        return "sigmoid where these numbers between 0 and 1 are logits still"
    return others[value]


def _box(value: str, _: Guess) -> str:
    others = " or ".join(f"{form} ({meaning})" for form, meaning in _BOXES.items() if form != value)
    return f"{_BOXES[value]}; {others} would fit too"


def _box_unit(value: str, _: Guess) -> str:
    return (
        "relative where boxes are 0 to 1"
        if value == "pixels"
        else "pixels where boxes are in those of the input"
    )


def _first_class(value: int, _: Guess) -> str:
    return (
        "1 where the graph's class 0 means background" if value == 0 else "0 where the first label is class 0"
    )


def _background(value: str, guess: Guess) -> str:
    if value == ("last" if guess.output.get("activation") == "softmax" else "none"):
        return ""  # the activation implies this value
    return f"the column that means nothing; {'last' if value == 'first' else 'first'} or none would fit too"


def _cell_offset(value: float, _: Guess) -> str:
    return f"where in its cell a point lies; {0.5 if value == 0 else 0.0} would fit too"


_ALTERNATIVES: Mapping[str, Callable[[Any, Guess], str]] = {
    "activation": _activation,
    "box": _box,
    "box_unit": _box_unit,
    "first_class": _first_class,
    "background": _background,
    "cell_offset": _cell_offset,
}
_DEFAULTS: Mapping[str, Any] = {
    **USUAL,
    "activation": "none",
    "first_class": 0,
    "background": "none",
    "cell_offset": 0.5,
}
