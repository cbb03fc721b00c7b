"""The header `x-goog-emulator-instructions`: instructions for the one request that carries it.

Its value is words separated by `;`, such as `delay-500ms; return-503`, or a JSON object; see docs/control.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emulator.instructions import InstructionError
from emulator.instructions.faults import (
    JobFault,
    RpcFault,
    parse_code,
    parse_duration,
    parse_job_fault,
    read_text,
)
from emulator.instructions.pace import parse_pace
from emulator.members import objects, typed

HEADER = "x-goog-emulator-instructions"
_MEMBERS = ("return", "message", "delay", "reset", "pace", "faults")


@dataclass(frozen=True)
class Instructions:
    """The instructions of a request's header. `pace` is None if the header names none."""

    fault: RpcFault = field(default_factory=RpcFault)
    pace: str | None = None
    job_faults: tuple[JobFault, ...] = ()


def parse_instructions(text: str) -> Instructions:
    """Parse the header's value; an empty one has no instructions. Raises InstructionError."""
    text = text.strip()
    if not text:
        return Instructions()
    try:
        value = _read_object(text) if text.startswith("{") else _read_words(text)
        return _instructions(value)
    except ValueError as error:
        raise InstructionError(f"{HEADER}: {text[:200]!r} cannot be read: {error}") from None


def _instructions(value: Mapping[str, Any]) -> Instructions:
    faults = objects("faults must be a list of objects")(value.get("faults", []))
    pace = value.get("pace")
    if pace is not None:
        parse_pace(str(pace))
    reset = typed(bool, "reset must be true or false")(value.get("reset", False))
    return Instructions(
        RpcFault(
            delay_s=parse_duration(value.get("delay", 0)),
            reset=reset,
            code=parse_code(value["return"]) if "return" in value else 0,
            message=read_text(value.get("message", "")),
        ),
        None if pace is None else str(pace),
        tuple(parse_job_fault(fault) for fault in faults),
    )


def _read_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    unknown = next((name for name in value if name not in _MEMBERS), None)
    if unknown is not None:
        raise ValueError(f"{unknown!r} is not known; it takes {', '.join(_MEMBERS)}")
    return dict(value)


def _read_words(text: str) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for word in filter(None, (part.strip() for part in text.split(";"))):
        if word == "reset-connection":
            value["reset"] = True
        elif word.startswith("return-"):
            value["return"] = word.removeprefix("return-")
        elif word.startswith("delay-"):
            value["delay"] = word.removeprefix("delay-")
        elif word.startswith("pace="):
            value["pace"] = word.removeprefix("pace=")
        else:
            raise ValueError(
                f"there is no instruction {word[:80]!r}; there are return-CODE, delay-TIME, reset-connection,"
                " pace=PACE, or a JSON object"
            )
    return value
