"""What runs on Ray's nodes: the check of a node, and the worker that an actor holds.

Ray imports this module on each node, where the same version of the emulator is installed. `Worker` itself
knows nothing of Ray but `ray.get`.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import platform
import queue
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from emulator import __version__
from emulator.execution.executor import Finished, Refused, Said, Warmed
from emulator.execution.model_packages import NodeModels
from emulator.execution.shards import ModelUse, Shard
from emulator.execution.workbench import Workbench
from emulator.inference.manifest import ModelUnusable
from emulator.vertex import errors

AHEAD = 8
"""The most messages of a shard that the driver has not taken yet."""

_ALIVE_INTERVAL_S = 0.5
_MOST_WAITING = 256
_MOST_TOGETHER = 64


@dataclass(frozen=True)
class NodeFacts:
    """What must fit for a node to work for a server.

    Attributes:
        host: name of the machine.
        process_id: of the process that answered.
        versions: of Python, Ray and the emulator.
        probe: content of the probe file, or why it cannot be read.
    """

    host: str
    process_id: int
    versions: tuple[str, str, str]
    probe: str

    def problem(self, here: NodeFacts) -> str:
        """Why the node cannot work for the server, whose own facts are `here`; "" if it can."""
        for name, theirs, ours in zip(
            ("Python", "Ray", "the emulator"), self.versions, here.versions, strict=True
        ):
            if theirs != ours:
                return f"It has {name} {theirs}, the server {ours}. Run the same image everywhere."
        if self.probe != here.probe:
            return (
                f"It does not see the server's folder of buckets ({self.probe}). Mount the folder under the"
                " same path on each node, or keep the buckets at an endpoint with --gcs-endpoint."
            )
        return ""


def node_facts(probe: Path | None) -> NodeFacts:
    """The facts of this machine. `probe` is the server's file in its folder of buckets, or None."""
    content = ""
    if probe is not None:
        try:
            content = probe.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            content = f"{type(error).__name__}: {error}"
    versions = platform.python_version(), metadata.version("ray"), __version__
    return NodeFacts(socket.gethostname(), os.getpid(), versions, content)


class Worker:
    """The worker of one actor: its loaded models, and the shard at work. One method runs at a time.

    Only `cancel` may be called meanwhile.
    """

    def __init__(self, models: Path | None = None) -> None:
        """Import the packages that models need. `models`: the folder of the node's cache of models."""
        usual = Path(tempfile.gettempdir()) / f"vertex-emulator-{os.getuid()}" / "models"
        self._models = NodeModels(models or usual)
        self._workbench = Workbench()
        self._workbench.prepare()
        self._cancelled_ticket = 0

    def hello(self, probe: Path | None) -> NodeFacts:
        """The facts of the node on which the actor has been placed."""
        return node_facts(probe)

    def lacks(self, folder: Path, digest: str) -> bool:
        """Whether the model has to be sent to this node."""
        return self._models.find(folder, digest) is None

    def keep(self, digest: str, content: Sequence[Any]) -> str:
        """Keep a packed model on this node. Returns why that cannot be done, or "".

        `content` holds a reference to the bytes: Ray would fetch them for each call otherwise.
        """
        import ray

        try:
            self._models.keep(digest, lambda: bytes(ray.get(content[0])))
        except (ModelUnusable, OSError) as error:
            return str(error)
        return ""

    def load(self, model: ModelUse, digest: str) -> Warmed:
        """Load a model; the answer says whether it can be."""
        warmed = self._workbench.warm(self._here(model, digest))
        return replace(warmed, model=model, problem=self._named(warmed.problem, model, digest))

    def cancel(self, ticket: int) -> None:
        """Let the shard with this ticket end at its next frame."""
        self._cancelled_ticket = max(self._cancelled_ticket, ticket)

    def run(self, ticket: int, shard: bytes, digest: str) -> Iterator[bytes]:
        """Predict a pickled shard; yields pickled lists of Said, and b"" where half a second brought none."""
        station = _Station(self, ticket)
        threading.Thread(target=self._work, args=(shard, digest, station), name="shard", daemon=True).start()
        try:
            while not station.is_over:
                said = station.take()
                yield pickle.dumps(said) if said else b""
                if station.crashes:
                    # The driver has taken all but the last AHEAD messages.
                    yield from [b""] * AHEAD
                    os.kill(os.getpid(), signal.SIGSEGV)
                    time.sleep(3600)  # the signal may come a moment later
        finally:
            self.cancel(ticket)

    def is_cancelled(self, ticket: int) -> bool:
        """Whether the shard with this ticket is to end."""
        return self._cancelled_ticket >= ticket

    def _work(self, pickled: bytes, digest: str, station: _Station) -> None:
        try:
            shard: Shard = pickle.loads(pickled)
            model = shard.model
            station.named = lambda text: self._named(text, model, digest)
            station.model = model
            here = replace(shard, model=self._here(model, digest))
        except Exception as error:
            station.say(Refused(errors.Internal.code, f"{type(error).__name__}: {error}"))
            return
        self._workbench.work(here, station)

    def _here(self, model: ModelUse, digest: str) -> ModelUse:
        """The model with its folder on this node. If it has none, loading fails with a reason."""
        return replace(model, folder=self._models.find(model.folder, digest) or model.folder)

    def _named(self, text: str, model: ModelUse, digest: str) -> str:
        """A message about the model, with its folder's name on the server."""
        return text.replace(str(self._models.kept(digest)), str(model.folder)) if digest else text


class _Station:
    """See workbench.Station: one shard in an actor."""

    def __init__(self, worker: Worker, ticket: int) -> None:
        self._worker, self._ticket = worker, ticket
        self._said: queue.Queue[Said | None] = queue.Queue(_MOST_WAITING)
        self.is_over = self.crashes = False
        self.model: ModelUse | None = None
        self.named: Callable[[str], str] = str

    def say(self, said: Said) -> None:
        if isinstance(said, Finished) and self.model is not None:
            said = replace(said, model=self.model)
        if isinstance(said, Refused):
            said = replace(said, message=self.named(said.message))
        self._said.put(said)

    def take(self) -> list[Said]:
        """What has been said since the last call; waits up to half a second for something."""
        said: list[Said] = []
        with contextlib.suppress(queue.Empty):
            item = self._said.get(timeout=_ALIVE_INTERVAL_S)
            while True:
                if item is None:
                    self.crashes = True
                    break
                said.append(item)
                self.is_over = isinstance(item, Finished | Refused)
                if self.is_over or len(said) == _MOST_TOGETHER:
                    break
                item = self._said.get_nowait()
        return said

    def is_cancelled(self) -> bool:
        return self._worker.is_cancelled(self._ticket)

    def crash(self) -> None:
        self._said.put(None)
        time.sleep(3600)

    def hang(self) -> None:
        time.sleep(3600)
