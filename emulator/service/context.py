"""What all parts of the service share: database, registry, store, and the caller."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

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

if TYPE_CHECKING:
    from emulator.tracing import Tracing

_PROJECT_IDS = 10_000

Name = LocationName | BatchPredictionJobName | ModelName | OperationName


def id_number(text: str) -> int | None:
    """The id at the end of a name, or None if no resource can have it: ids are int64."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else -1
    return number if 0 <= number < 2**63 else None


@dataclass(frozen=True)
class Call:
    """One call as its surface received it.

    Attributes:
        api_version: the version that the client speaks.
        beta_only_fields: paths of request fields that only v1beta1 has, such as
            `batch_prediction_job.endpoint`; the v1 message does not have them.
        instructions: from the call's header.
        time_left_s: the client's deadline in seconds, if it gave one.
        may_wait: whether the thread of this call may block.
    """

    api_version: str = "v1"
    beta_only_fields: tuple[str, ...] = ()
    instructions: Instructions = field(default_factory=Instructions)
    time_left_s: float | None = None
    may_wait: bool = True


class HasToWait(Exception):
    """The call has to wait, but its thread may not block. The call has only read so far."""


class Reply(NamedTuple):
    """A v1 message, and the members that REST adds to its JSON.

    `extras` is an object of JSON members. A list in it holds the extra members of each item of the message's
    list of that name.
    """

    message: Any
    extras: Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """A project (its number) and a location: the parent of resources."""

    project: str
    location: str

    def __str__(self) -> str:
        return f"projects/{self.project}/locations/{self.location}"


@dataclass(frozen=True)
class Context:
    """The parts below the service.

    Attributes:
        database: of all rows.
        registry: of model folders.
        store: of objects.
        project_numbers: project numbers by id.
        strict: refuse what only the emulator accepts.
        on_work: called after a commit that leaves something to run.
        on_change: called after a commit that cancels or releases a job.
        on_created: called with the name of each new job.
        new_id: makes ids for a project's resources.
        pace: of jobs that get no other pace.
        hold_timeout_s: the longest time that a call is held.
        project_ids: the project ids that callers use, by number.
        tracing: makes spans; None without the setting `otel`.
        contract: the messages.
    """

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
    tracing: "Tracing | None" = None

    @property
    def v1(self) -> Package:
        return self.contract.v1

    def place(self, name: Name) -> Place:
        """The place of a name: a project's id and its number are the same project."""
        number = project_number(name.project, self.project_numbers)
        if number not in self.project_ids and number != name.project and len(self.project_ids) < _PROJECT_IDS:
            self.project_ids[number] = name.project
        return Place(number, name.location)


def timestamp(message: Any, microseconds: int | None) -> None:
    """Set a Timestamp field from microseconds since 1970; None leaves it unset."""
    if microseconds is not None:
        message.FromMicroseconds(microseconds)
