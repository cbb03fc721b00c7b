"""The messages between the server and its Ray driver, for `ray_executor.py` and `ray_driver.py`.

They are pickled and go over a socket pair, as in `channel.py`. A *seat* is one actor, from the wish to have
it to its end. Seats and tickets are never used twice, so late messages of a dead actor are told apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emulator.execution.executor import Warmed
from emulator.execution.shards import ModelUse


@dataclass(frozen=True)
class Connect:
    """Connect to the cluster and check its nodes; answer Connected. The first message.

    Attributes:
        address: of the cluster, as `ray.init` takes it.
        cpus: CPUs that each actor asks for.
        gpus: GPUs that each actor asks for.
        probe: a file that each node must be able to read, or None.
        token: the content of that file.
    """

    address: str
    cpus: int
    gpus: int
    probe: Path | None = None
    token: str = ""


@dataclass(frozen=True)
class Connected:
    """The cluster can be used, or `problem` says why not; then the driver ends."""

    problem: str = ""


@dataclass(frozen=True)
class Hire:
    """Start an actor for this seat; answer Hired or Lost, and Waits in between."""

    seat: int


@dataclass(frozen=True)
class Hired:
    """The actor is up. `process_id` is 0 if it runs on another machine."""

    seat: int
    node: str
    process_id: int = 0


@dataclass(frozen=True)
class Waits:
    """Ray has no place for the actor yet; `why` says what it waits for."""

    seat: int
    why: str


@dataclass(frozen=True)
class Load:
    """Load a model once there is no shard to work on; answer Loaded. `digest` is that of its content."""

    seat: int
    model: ModelUse
    digest: str


@dataclass(frozen=True)
class Loaded:
    """The answer to Load."""

    seat: int
    warmed: Warmed


@dataclass(frozen=True)
class Work:
    """Predict a shard, which is pickled; answer Heard until the last word is said."""

    seat: int
    ticket: int
    shard: bytes
    model: ModelUse
    digest: str


@dataclass(frozen=True)
class Heard:
    """What the actor said of a shard: a pickled list of Said. Empty for a sign of life."""

    seat: int
    ticket: int
    said: bytes = b""


@dataclass(frozen=True)
class Cancel:
    """Cancel the shard with this ticket."""

    seat: int
    ticket: int


@dataclass(frozen=True)
class Dismiss:
    """End the actor, whatever it does. There is no answer."""

    seat: int


@dataclass(frozen=True)
class Lost:
    """The actor is gone, or could not be started: "was lost with its node 10.0.0.7"."""

    seat: int
    cause: str


ToDriver = Connect | Hire | Load | Work | Cancel | Dismiss
FromDriver = Connected | Hired | Waits | Loaded | Heard | Lost
