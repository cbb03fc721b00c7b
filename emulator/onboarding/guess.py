"""The reading of a graph as one kind of model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: The words that end a finding about scores.
PROBABILITIES, LOGITS = "probabilities", "logits"
ULTRALYTICS_INPUT: Mapping[str, object] = {
    "color": "RGB",
    "scale": 1 / 255,
    "fit": "letterbox-center",
    "pad": 114,
}
IMAGENET: Mapping[str, object] = {
    "color": "RGB",
    "scale": 1 / 255,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


@dataclass(frozen=True)
class Guess:
    """Sections of model.toml for a graph, with findings and assumptions."""

    head: str
    classes: int | None
    """None if the outputs do not show it."""
    input: Mapping[str, object]
    output: Mapping[str, object]
    findings: tuple[str, ...]
    assumptions: tuple[str, ...] = ()
    objective: str = "object_tracking"
    others: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Sections other than [model], [input] and [output]."""


def scores_are(probabilities: bool) -> str:
    """A finding's words for whether the graph itself applies the last sigmoid or softmax."""
    return f"scores are {PROBABILITIES if probabilities else LOGITS}"


def sigmoid_unless(probabilities: bool) -> str:
    """`[output] activation` of a detector: sigmoid, unless its scores are probabilities already."""
    return "none" if probabilities else "sigmoid"
