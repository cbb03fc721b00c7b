"""The form of an objective's definition."""

from collections.abc import Callable
from dataclasses import dataclass

from emulator.vertex.parameters import COMMON, ModelParameters
from emulator.vertex.prediction_members import Members
from emulator.vertex.predictions import Prediction


@dataclass(frozen=True, eq=False)
class Definition:
    """What the contract says of one objective.

    word: its name in `model.toml` and in schema URIs.
    read: parses one prediction of JSON Lines; raises ValueError, which names the member.
    noun: what its predictions are called, in the plural.
    example: a job's display name and the name of its input file, for the API documents.
    sign: a member that only its predictions have; "" for the objective whose predictions have no such member.
    parameters: the fields of ModelParameters that a job may set.
    defaults: the parameters of a job that sets none.
    """

    word: str
    read: Callable[[Members], Prediction]
    noun: str
    example: tuple[str, str]
    sign: str = ""
    parameters: tuple[str, ...] = COMMON
    defaults: ModelParameters = ModelParameters()  # noqa: RUF009  # it is frozen
