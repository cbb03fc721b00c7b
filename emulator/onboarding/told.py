"""Accepts a kind of model that the user names although the graph does not look like it.

`--head` and `--set` can express everything that a hand-written model.toml can. One run of the model decides
whether it fits, as for every model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emulator.inference.sections import HEAD_DEFAULTS, LAYOUTS, USUAL
from emulator.onboarding.graph import Graph
from emulator.onboarding.guess import Guess
from emulator.vertex.objectives import Objective

#: Answers in these sections say what the outputs mean.
_SECTIONS = ("output.", "labels.")
_SECTIONS_OF: Mapping[Objective, Mapping[str, Mapping[str, Any]]] = {
    Objective.OBJECT_TRACKING: {},
    Objective.ACTION_RECOGNITION: {"sampling": {"rate": 10}},
    Objective.CLASSIFICATION: {"sampling": {"rate": 5}},
}


def says_more(graph: Graph) -> bool:
    """Whether the user has said how to read the outputs."""
    return any(key.startswith(_SECTIONS) for key in graph.answers)


def guess(head: str, objective: Objective, graph: Graph, reason: str) -> Guess | str:
    """The head with its defaults and the user's answers; a text with what is missing if they cannot suffice.

    `reason` says why the graph does not look like this head.
    """
    if graph.input.layout not in LAYOUTS[objective]:
        return reason
    if graph.labels is None:
        return f"{reason}. If it is one all the same, give --labels and what model.toml needs with --set"
    defaults = {**USUAL, **HEAD_DEFAULTS.get(head, {})}
    detector = objective is Objective.OBJECT_TRACKING
    names = [output.name for output in graph.outputs] if len(graph.model.outputs) > 1 else []
    return Guess(
        head=head,
        classes=None,
        objective=objective.value,
        input={
            "color": graph.input.color,
            "fit": "letterbox-center" if detector else "crop-center",
            **({} if graph.takes_pixels else {"scale": 1 / 255}),
        },
        output={**({"names": names} if names else {}), **(defaults if detector else {})},
        findings=(f"taken for {head} because you say so: {reason}",),
        others=_SECTIONS_OF[objective],
    )
