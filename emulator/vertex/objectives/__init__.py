"""The objectives of video models. The modules here define one each; the server imports them without numpy.

The numpy half of each, its predictor, has the same name in `emulator/inference/objectives/`.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from emulator.vertex.errors import Violations
from emulator.vertex.objectives import action_recognition, classification, object_tracking
from emulator.vertex.objectives.definition import Definition
from emulator.vertex.parameters import ModelParameters, json_name, read_parameters


class Objective(Enum):
    """The task of a video model; the value is its word in `model.toml`."""

    _value_: str
    definition: Definition

    OBJECT_TRACKING = object_tracking.DEFINITION
    ACTION_RECOGNITION = action_recognition.DEFINITION
    CLASSIFICATION = classification.DEFINITION

    def __new__(cls, definition: Definition) -> "Objective":
        member = object.__new__(cls)
        member._value_, member.definition = definition.word, definition
        return member

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


def parameter_names(objective: Objective) -> tuple[str, ...]:
    """Return the JSON names of an objective's parameters."""
    return tuple(map(json_name, objective.definition.parameters))


def parse_parameters(objective: Objective, value: Any, violations: Violations) -> ModelParameters:
    """Parse the parameters in a `google.protobuf.Value`; adds problems to `violations`.

    None, null and a Value without a kind mean "no parameters". Names may be lowerCamel or snake_case, and
    numbers may be strings, as in protobuf's JSON mapping. A null member counts as absent.
    """
    definition, owner = objective.definition, f"a {objective.display_text.lower()} model"
    return read_parameters(definition.parameters, definition.defaults, owner, value, violations)


def objective_of(prediction: Mapping[str, Any]) -> Objective:
    """Tell the objective of a prediction in JSON by its members."""
    signs = {objective.definition.sign: objective for objective in Objective}
    return next((signs[sign] for sign in signs if prediction.get(sign) not in (None, "")), signs[""])
