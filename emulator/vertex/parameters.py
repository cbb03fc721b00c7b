"""Objectives of video models, and the `modelParameters` of each (schema/predict/params)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from emulator.vertex.errors import Violations

_FIELD = "batch_prediction_job.model_parameters"
_INT32_MAX = 2**31 - 1


class Objective(Enum):
    """The task of a video model; the value is its word in `model.toml`."""

    OBJECT_TRACKING = "object_tracking"
    ACTION_RECOGNITION = "action_recognition"
    CLASSIFICATION = "classification"

    @property
    def display_text(self) -> str:
        """The name for people: "Video object tracking"."""
        return f"Video {self.value.replace('_', ' ')}"

    @property
    def instance_schema_uri(self) -> str:
        return self._schema_uri("instance")

    @property
    def parameters_schema_uri(self) -> str:
        return self._schema_uri("params")

    @property
    def prediction_schema_uri(self) -> str:
        return self._schema_uri("prediction")

    @property
    def schema_title(self) -> str:
        """The prefix of the schema messages' names: "VideoObjectTracking"."""
        return f"Video{self.value.title().replace('_', '')}"

    def _schema_uri(self, group: str) -> str:
        return f"gs://google-cloud-aiplatform/schema/predict/{group}/video_{self.value}_1.0.0.yaml"


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


_COMMON = ("confidence_threshold", "max_predictions")
_TAKEN: Mapping[Objective, tuple[str, ...]] = {
    Objective.OBJECT_TRACKING: (*_COMMON, "min_bounding_box_size"),
    Objective.ACTION_RECOGNITION: _COMMON,
    Objective.CLASSIFICATION: (
        *_COMMON,
        "segment_classification",
        "shot_classification",
        "one_sec_interval_classification",
    ),
}
# Vertex: the default maximum of a classification model is 10,000 predictions.
_DEFAULTS: Mapping[Objective, ModelParameters] = {
    Objective.OBJECT_TRACKING: ModelParameters(),
    Objective.ACTION_RECOGNITION: ModelParameters(),
    Objective.CLASSIFICATION: ModelParameters(max_predictions=10_000),
}


def parameter_names(objective: Objective) -> tuple[str, ...]:
    """Return the JSON names of an objective's parameters."""
    return tuple(_json_name(name) for name in _TAKEN[objective])


def parse_parameters(objective: Objective, value: Any, violations: Violations) -> ModelParameters:
    """Parse the parameters in a `google.protobuf.Value`; adds problems to `violations`.

    None, null and a Value without a kind mean "no parameters". Names may be lowerCamel or snake_case, and
    numbers may be strings, as in protobuf's JSON mapping. A null member counts as absent.
    """
    defaults = _DEFAULTS[objective]
    kind = None if value is None else value.WhichOneof("kind")
    if kind in (None, "null_value"):
        return defaults
    if kind != "struct_value":
        violations.add(_FIELD, "The model parameters must be a JSON object")
        return defaults
    names = {spelling: name for name in _TAKEN[objective] for spelling in (name, _json_name(name))}
    found: dict[str, Any] = {}
    # Sorted by name: protobuf maps are unordered, and all surfaces must report problems in the same order.
    for key, member in sorted(value.struct_value.fields.items()):
        name = names.get(key)
        if name is None:
            known = ", ".join(parameter_names(objective))
            problem = (
                f'Unknown parameter "{key}" for a {objective.display_text.lower()} model. It takes {known}'
            )
            violations.add(f"{_FIELD}.{key}", problem)
        elif member.WhichOneof("kind") not in (None, "null_value"):
            _set(found, name, member, f"{_FIELD}.{key}", violations)
    asked = {"asks_threshold": "confidence_threshold" in found}
    return ModelParameters(**{**vars(defaults), **found, **asked})


def _set(found: dict[str, Any], name: str, member: Any, field: str, violations: Violations) -> None:
    expected, parse = _PARSERS.get(name, ("true or false", _boolean))
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


_PARSERS: Mapping[str, tuple[str, Any]] = {
    "confidence_threshold": ("a number from 0 to 1", _fraction),
    "min_bounding_box_size": ("a number from 0 to 1", _fraction),
    "max_predictions": (f"a whole number from 1 to {_INT32_MAX}", _count),
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


def _json_name(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
