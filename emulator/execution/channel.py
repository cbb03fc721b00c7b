"""The messages between the server and a worker process, for `processes.py` and `worker.py`.

They are pickled and go over a socket pair that the worker inherits. No other process can connect to it, so it
needs neither an address nor a secret. A worker exits when it reads end-of-file, that is, when the server
dies.
"""

from __future__ import annotations

from dataclasses import dataclass

from emulator.execution.executor import Said, Warmed
from emulator.execution.shards import ModelUse, Shard


@dataclass(frozen=True)
class Warm:
    """Load these models while there is no shard to work on; answer Warmed for each."""

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


FromWorker = Ready | Warmed | Said
