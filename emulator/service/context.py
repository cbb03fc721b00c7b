"""What every part of the service shares: the rows, the models, the bytes, and who is calling."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from emulator.database import Database
from emulator.instructions.header import Instructions
from emulator.registry import Registry
from emulator.service.identities import random_id
from emulator.storage import ObjectStore
from emulator.vertex.contract import Contract, Package
from emulator.vertex.contract import load as load_contract
from emulator.vertex.names import (
    BatchPredictionJobName,
    LocationName,
    ModelName,
    OperationName,
    project_number,
)

_PROJECT_IDS = 10_000

Name = LocationName | BatchPredictionJobName | ModelName | OperationName


def id_number(text: str) -> int | None:
    """The id at the end of a name, or None when no resource can have it: ids are int64."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else -1
    return number if 0 <= number < 2**63 else None


@dataclass(frozen=True)
class Call:
    """One call as its surface saw it: the API version the client speaks, and the paths of request fields
    that only v1beta1 has, as in `batch_prediction_job.endpoint` (they are lost in the v1 message); what its
    header tells the emulator to do, how long the client will wait, if it said so, and whether the thread that
    answers may wait at all."""

    api_version: str = "v1"
    beta_only_fields: tuple[str, ...] = ()
    instructions: Instructions = field(default_factory=Instructions)
    time_left_s: float | None = None
    may_wait: bool = True


class HasToWait(Exception):
    """A call that has to wait was made where it may not. It has read only."""


@dataclass(frozen=True)
class Place:
    """A project, by its number, and a location: where resources live."""

    project: str
    location: str

    def __str__(self) -> str:
        return f"projects/{self.project}/locations/{self.location}"


@dataclass(frozen=True)
class Context:
    """The parts below the service. `on_work` is called after a commit that leaves something to run,
    `on_change` after one that cancels or lets go of a job there is, `on_created` with the name of each new
    job; `new_id` gives ids to a project's resources. `pace` is that of jobs which have no other,
    `hold_timeout_s` how long a call may be held at the most; `project_ids` are the ids that callers use, by
    number."""

    database: Database
    registry: Registry
    store: ObjectStore
    project_numbers: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False
    on_work: Callable[[], None] = lambda: None
    on_change: Callable[[], None] = lambda: None
    on_created: Callable[[str], None] | None = None
    new_id: Callable[[str], int] = random_id
    pace: str = ""
    hold_timeout_s: float = 4.0
    project_ids: dict[str, str] = field(default_factory=dict)
    contract: Contract = field(default_factory=load_contract)

    @property
    def v1(self) -> Package:
        return self.contract.v1

    def place(self, name: Name) -> Place:
        """Where a name points: a project's id and its number are the same project."""
        number = project_number(name.project, self.project_numbers)
        if number not in self.project_ids and number != name.project and len(self.project_ids) < _PROJECT_IDS:
            self.project_ids[number] = name.project
        return Place(number, name.location)


def timestamp(message: Any, microseconds: int | None) -> None:
    """Set a Timestamp field; None leaves it unset."""
    if microseconds is not None:
        message.FromMicroseconds(microseconds)
