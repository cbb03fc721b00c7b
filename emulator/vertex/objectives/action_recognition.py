"""Action recognition: one prediction is an action at one time."""

from dataclasses import dataclass

from emulator.vertex.objectives.definition import Definition
from emulator.vertex.prediction_members import SEGMENT, Members
from emulator.vertex.predictions import Label, common_members


@dataclass(frozen=True, slots=True)
class ActionPrediction:
    """An action at one time."""

    label: Label
    confidence: float
    time_us: int

    def as_json(self) -> str:
        """See Prediction."""
        return f"{{{common_members(self.label, self.time_us, self.time_us, self.confidence)}}}"


def _read(members: Members) -> ActionPrediction:
    members.only("id", "displayName", *SEGMENT, "confidence")
    start, end = members.segment()
    if start != end:
        raise ValueError(
            f"{members.path}timeSegmentEnd differs from timeSegmentStart; an action is a moment, so make them"
            " equal"
        )
    return ActionPrediction(members.label(), members.confidence(), start)


DEFINITION = Definition(
    word="action_recognition",
    read=_read,
    noun="actions",
    example=("find the jumps", "actions.jsonl"),
)
