"""What the server and a worker process say to each other.

They speak pickle over a socket pair that the worker inherits: nobody else can connect to it, so it needs
neither an address nor a secret. The worker ends when it reads end-of-file, that is, when the server dies.
"""

from __future__ import annotations

from dataclasses import dataclass

from emulator.execution.shards import ModelUse, Outcome, Shard
from emulator.inference.decoding import Decoding


@dataclass(frozen=True)
class Warm:
    """Load these models while there is nothing else to do."""

    models: tuple[ModelUse, ...]


@dataclass(frozen=True)
class Work:
    """Predict this shard. Tickets count up, so that a late Cancel cannot hit the wrong shard."""

    ticket: int
    shard: Shard


@dataclass(frozen=True)
class Cancel:
    """Give up the shard of this ticket, and say Finished."""

    ticket: int


ToWorker = Work | Cancel | Warm


@dataclass(frozen=True)
class Ready:
    """The worker has started and imported what models need, if that is there."""


@dataclass(frozen=True)
class Warmed:
    """One of the models of Warm is loaded, on `provider`, or cannot be: then `problem` says why."""

    model: ModelUse
    provider: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Alive:
    """The shard under way goes on. So many frames of its video are sampled, of so many; None where the video
    does not say how long it is."""

    frames: int = 0
    of: int | None = None


@dataclass(frozen=True)
class Fired:
    """A failure on demand is about to happen; `plan` is the number of its plan."""

    plan: int


@dataclass(frozen=True)
class Finished:
    """The shard is done or given up; `provider` is the execution provider that ran the model, `batches` what
    became of those that the job asks for, `frames` how many were sampled, `decoding` how the video was
    decoded, if it was."""

    provider: str
    model: ModelUse
    batches: str = ""
    frames: int = 0
    decoding: Decoding | None = None


@dataclass(frozen=True)
class Refused:
    """The model cannot be run, which concerns the whole job: a google.rpc code and a message."""

    code: int
    message: str


FromWorker = Ready | Warmed | Alive | Fired | Outcome | Finished | Refused
