"""The text of a model.toml, from what was recognised and what the user said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from emulator.onboarding.graph import Graph
from emulator.onboarding.guess import Guess
from emulator.onboarding.scales import MIN_SCORE, scale_of


def manifest_text(
    graph: Graph, guess: Guess, name: str, findings: Sequence[str], assumptions: Sequence[str]
) -> str:
    """model.toml with a comment for each finding and assumption."""
    lines = ["# Written by `vertex-emulator models add`. Try it: `vertex-emulator models check`."]
    lines += [f"# Seen: {finding}." for finding in findings]
    lines += [f"# Assumed: {assumption}." for assumption in assumptions]
    for section, values in _sections(graph, guess, name).items():
        lines += ["", f"[{section}]"]
        lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _sections(graph: Graph, guess: Guess, name: str) -> dict[str, dict[str, object]]:
    tracking = guess.objective == "object_tracking"
    pixels = {"mean": graph.input.mean} if graph.dtype == "tensor(int8)" else {}
    usual = dict(guess.input)
    if graph.input.color == "GRAY":
        # The usual values are for three channels.
        usual = {key: value for key, value in usual.items() if key not in ("mean", "std")} | {"color": "GRAY"}
    found = {key: value for key, value in usual.items() if key not in ("scale", "mean", "std")}
    sections: dict[str, dict[str, object]] = {
        "model": {"objective": guess.objective, "display_name": name},
        # Whole numbers are taken unscaled, whatever is usual for this kind of model.
        "input": {**graph.input_keys, **(found | pixels if graph.takes_pixels else usual)},
        "output": {"head": guess.head, **guess.output, **({"min_score": MIN_SCORE} if tracking else {})},
    }
    sections |= {section: dict(values) for section, values in guess.others.items()}
    if tracking:
        sections["tracker"] = {**scale_of(guess).tracker, "buffer": 1.0}
    for answer, value in graph.answers.items():
        section, _, key = answer.partition(".")
        sections.setdefault(section, {})[key] = value
    return sections


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    # JSON's strings, numbers, booleans and lists are valid TOML, too.
    return json.dumps(value, ensure_ascii=False)
