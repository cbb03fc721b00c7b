"""The `modelParameters` of a job (schema/predict/params)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from emulator.vertex.errors import Violations

_FIELD = "batch_prediction_job.model_parameters"
_INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class ModelParameters:
    """The parameters of a job with defaults filled in, including those that the objective does not take."""

    confidence_threshold: float = 0.0
    # Per frame for object tracking and action recognition; per instance and type for classification.
    max_predictions: int = 50
    # Shortest side of a box, relative to the frame.
    min_bounding_box_size: float = 0.0
    segment_classification: bool = True
    shot_classification: bool = False
    one_sec_interval_classification: bool = False
    asks_threshold: bool = field(default=False, compare=False)
    """Whether the job sets the confidence threshold itself, even to 0."""


#: The parameters that every objective takes.
COMMON = ("confidence_threshold", "max_predictions")


def read_parameters(
    taken: Sequence[str], defaults: ModelParameters, owner: str, value: Any, violations: Violations
) -> ModelParameters:
    """Read the `taken` parameters from a `google.protobuf.Value`; see `objectives.parse_parameters`."""
    kind = None if value is None else value.WhichOneof("kind")
    if kind in (None, "null_value"):
        return defaults
    if kind != "struct_value":
        violations.add(_FIELD, "The model parameters must be a JSON object")
        return defaults
    names = {spelling: name for name in taken for spelling in (name, json_name(name))}
    found: dict[str, Any] = {}
    # Sorted by name: protobuf maps are unordered, and all surfaces must report problems in the same order.
    for key, member in sorted(value.struct_value.fields.items()):
        name = names.get(key)
        if name is None:
            known = ", ".join(map(json_name, taken))
            violations.add(f"{_FIELD}.{key}", f'Unknown parameter "{key}" for {owner}. It takes {known}')
        elif member.WhichOneof("kind") not in (None, "null_value"):
            _set(found, name, member, f"{_FIELD}.{key}", violations)
    asked = {"asks_threshold": "confidence_threshold" in found}
    return ModelParameters(**{**vars(defaults), **found, **asked})


def _set(found: dict[str, Any], name: str, member: Any, field: str, violations: Violations) -> None:
    expected, parse = _PARSERS[ModelParameters.__annotations__[name]]
    parsed = parse(member)
    if parsed is None:
        violations.add(field, f"Expected {expected}, got {_shown(member)}")
    else:
        found[name] = parsed


def _number(member: Any) -> float | None:
    if member.WhichOneof("kind") == "number_value":
        return float(member.number_value)
    if member.WhichOneof("kind") != "string_value":
        return None
    try:
        return float(member.string_value)
    except ValueError:
        return None


def _fraction(member: Any) -> float | None:
    number = _number(member)
    return number if number is not None and 0.0 <= number <= 1.0 else None


def _count(member: Any) -> int | None:
    number = _number(member)
    if number is None or not math.isfinite(number) or not number.is_integer():
        return None
    return int(number) if 1 <= number <= _INT32_MAX else None


def _boolean(member: Any) -> bool | None:
    return bool(member.bool_value) if member.WhichOneof("kind") == "bool_value" else None


_PARSERS: Mapping[type, tuple[str, Any]] = {
    float: ("a number from 0 to 1", _fraction),
    int: (f"a whole number from 1 to {_INT32_MAX}", _count),
    bool: ("true or false", _boolean),
}


def _shown(member: Any) -> str:
    match member.WhichOneof("kind"):
        case "number_value":
            return f"{member.number_value:g}"
        case "string_value":
            return f'"{member.string_value[:100]}"'
        case "bool_value":
            return str(member.bool_value).lower()
        case kind:
            return "an object" if kind == "struct_value" else "a list"


def json_name(name: str) -> str:
    """The lowerCamel form of a field's name."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
