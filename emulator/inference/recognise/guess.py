"""What one kind of model makes of a graph."""

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
    """Sections of model.toml for a graph, and what was seen or assumed."""

    head: str
    classes: int | None
    """None where the outputs do not tell."""
    input: Mapping[str, object]
    output: Mapping[str, object]
    findings: tuple[str, ...]
    assumptions: tuple[str, ...] = ()
    objective: str = "object_tracking"
    others: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Sections beside [model], [input] and [output]."""


def scores_are(probabilities: bool) -> str:
    """The finding's words for whether a graph applies the last sigmoid or softmax itself."""
    return f"scores are {PROBABILITIES if probabilities else LOGITS}"


def sigmoid_unless(probabilities: bool) -> str:
    """`[output] activation` of a detector."""
    return "none" if probabilities else "sigmoid"
