"""Classification: one prediction is a label for a segment, for a shot or for one second."""

from dataclasses import dataclass

from emulator.vertex.objectives.definition import Definition
from emulator.vertex.parameters import COMMON, ModelParameters
from emulator.vertex.prediction_members import SEGMENT as SEGMENT_MEMBERS
from emulator.vertex.prediction_members import Members
from emulator.vertex.predictions import Label, common_members, json_text

SEGMENT, SHOT, SECOND = "segment-classification", "shot-classification", "one-sec-interval-classification"
TYPES = (SEGMENT, SHOT, SECOND)


@dataclass(frozen=True, slots=True)
class ClassificationPrediction:
    """A label for an interval of a video; `type` is one of TYPES."""

    type: str
    label: Label
    start_us: int
    end_us: int
    confidence: float

    def as_json(self) -> str:
        """See Prediction."""
        type_member = f'"type":{json_text(self.type)},'
        return f"{{{common_members(self.label, self.start_us, self.end_us, self.confidence, type_member)}}}"


def _read(members: Members) -> ClassificationPrediction:
    members.only("id", "displayName", "type", *SEGMENT_MEMBERS, "confidence")
    kind = members.values.get("type")
    if kind not in TYPES:
        raise ValueError(f"{members.path}type is {kind!r}; it must be one of {', '.join(TYPES)}")
    start, end = members.segment()
    return ClassificationPrediction(str(kind), members.label(), start, end, members.confidence())


def types_of(parameters: ModelParameters) -> list[str]:
    """The types of predictions that a job asks for."""
    wanted = (
        parameters.segment_classification,
        parameters.shot_classification,
        parameters.one_sec_interval_classification,
    )
    return [kind for kind, on in zip(TYPES, wanted, strict=True) if on]


DEFINITION = Definition(
    word="classification",
    read=_read,
    noun="labels",
    example=("what is in it", "classification.jsonl"),
    sign="type",
    parameters=(
        *COMMON,
        "segment_classification",
        "shot_classification",
        "one_sec_interval_classification",
    ),
    # Vertex: the default maximum of a classification model is 10,000 predictions.
    defaults=ModelParameters(max_predictions=10_000),
)
