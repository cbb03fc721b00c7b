"""The messages between the server and a worker process.

They are pickled and go over a socket pair that the worker inherits. No other process can connect to it, so it
needs neither an address nor a secret. A worker exits when it reads end-of-file, that is, when the server
dies.
"""

from __future__ import annotations

from dataclasses import dataclass

from emulator.execution.shards import ModelUse, Outcome, Shard
from emulator.inference.decoding import Decoding


@dataclass(frozen=True)
class Warm:
    """Load these models while there is no shard to work on."""

    models: tuple[ModelUse, ...]


@dataclass(frozen=True)
class Work:
    """Predict this shard. Tickets are sequence numbers: a late Cancel cannot hit the wrong shard."""

    ticket: int
    shard: Shard


@dataclass(frozen=True)
class Cancel:
    """Cancel the shard with this ticket; answer Finished."""

    ticket: int


ToWorker = Work | Cancel | Warm


@dataclass(frozen=True)
class Ready:
    """The worker has started, and has imported the inference packages if they are installed."""


@dataclass(frozen=True)
class Warmed:
    """A model of a Warm message is loaded on `provider`, or cannot be loaded: `problem` is the reason."""

    model: ModelUse
    provider: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Alive:
    """Heartbeat of the current shard: frames of its video sampled so far, of how many.

    `of` is None if the video does not state its length.
    """

    frames: int = 0
    of: int | None = None


@dataclass(frozen=True)
class Fired:
    """An injected fault is about to fire; `plan` is the fault's number."""

    plan: int


@dataclass(frozen=True)
class Finished:
    """The shard is done or cancelled.

    Attributes:
        provider: the execution provider that ran the model.
        model: the model that ran.
        batches: how the batch size that the job asks for was applied, in words; "" if it asks for none.
        frames: number of sampled frames.
        decoding: how the video was decoded, if it was.
    """

    provider: str
    model: ModelUse
    batches: str = ""
    frames: int = 0
    decoding: Decoding | None = None


@dataclass(frozen=True)
class Refused:
    """The model cannot be run, which fails the whole job: a google.rpc code and a message."""

    code: int
    message: str


FromWorker = Ready | Warmed | Alive | Fired | Outcome | Finished | Refused
