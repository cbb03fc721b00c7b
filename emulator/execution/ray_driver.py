"""The Ray driver: `python -m emulator.execution.ray_driver FD LOG_LEVEL LOG_FORMAT`.

`ray_executor.py` starts it. It is a process of its own, because Ray aborts a process that loses the cluster's
head. It does what the server says: it starts actors, hands them shards, and passes on what they say.
One thread receives messages, and each seat has one more.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import queue
import re
import signal
import socket
import sys
import threading
import time
from collections import deque
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from emulator import logs
from emulator.execution.executor import Warmed
from emulator.execution.model_packages import pack
from emulator.execution.ray_actor import AHEAD, NodeFacts, Worker, node_facts
from emulator.execution.ray_channel import (
    Cancel,
    Connect,
    Connected,
    Dismiss,
    FromDriver,
    Heard,
    Hire,
    Hired,
    Load,
    Loaded,
    Lost,
    ToDriver,
    Waits,
    Work,
)
from emulator.execution.shards import ModelUse
from emulator.inference.manifest import ModelUnusable

log = logging.getLogger(__name__)

_INSTALL = "Ray is not installed. Install it: pip install 'vertex-batch-emulator[ray]'."
_LISTENER_TIMEOUT_S = 5.0
_NODES_TIMEOUT_S = 60.0
_WAITS_AFTER_S = 3.0
_LOOK_INTERVAL_S = 0.5
_MOST_PACKAGES = 4


class _Unusable(Exception):
    """The cluster cannot be used; the message says why and what to do."""


class Cluster:
    """The connection to Ray: its nodes, actors, and the packed models in its object store."""

    def __init__(self, connect: Connect) -> None:
        """Connect, and check every node on which an actor may be placed.

        Raises:
            _Unusable
        """
        try:
            import ray
        except ImportError as error:
            raise _Unusable(
                _INSTALL if error.name == "ray" else f"Ray cannot be imported: {error}"
            ) from error
        self._connect = connect
        self._ray = ray
        self._packing = threading.Lock()
        self._packages: dict[str, Any] = {}
        _require_listener(connect.address)
        try:
            ray.init(
                address=connect.address,
                log_to_driver=False,
                configure_logging=False,
                namespace="vertex-emulator",
            )
        except Exception as error:
            raise _Unusable(
                f"The Ray cluster {connect.address} cannot be used: {_first_line(error)} Start a node on this"
                " machine with `ray start`, or name a cluster with --ray-address."
            ) from error
        self.facts = node_facts(connect.probe)
        if self.facts.probe != connect.token:
            raise _Unusable(f"The probe file {connect.probe} cannot be read: {self.facts.probe}.")
        self._check_nodes()

    def _check_nodes(self) -> None:
        """Compare the facts of all nodes with those of the server."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asking = self._ray.remote(num_cpus=0, max_retries=0)(node_facts)
        answers = {}
        for node, address in self._nodes().items():
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            answers[asking.options(scheduling_strategy=there).remote(self._connect.probe)] = node, address
        waited = list(answers)
        silent = (
            self._ray.wait(waited, num_returns=len(waited), timeout=_NODES_TIMEOUT_S)[1] if waited else []
        )
        problems = {
            node: f"Node {address}: {problem}"
            for answer, (node, address) in answers.items()
            if (problem := "it does not answer." if answer in silent else self._problem_of(answer))
        }
        # A node that has gone meanwhile is nobody's problem.
        if found := sorted(problems[node] for node in self._nodes() if node in problems):
            raise _Unusable(" ".join(found))

    def _nodes(self) -> dict[str, str]:
        """The addresses of the nodes on which an actor may be placed, by their ids."""
        nodes = (node for node in self._ray.nodes() if node["Alive"])
        return {
            node["NodeID"]: node["NodeManagerAddress"]
            for node in nodes
            if node["Resources"].get("CPU", 0) >= self._connect.cpus
        }

    def _problem_of(self, answer: Any) -> str:
        try:
            facts: NodeFacts = self._ray.get(answer)
        except Exception as error:
            return f"The emulator cannot be run there: {_first_line(error)}"
        return facts.problem(self.facts)

    def hire(self) -> Any:
        """Ask for an actor. It is a handle at once, and an actor when Ray has a place for it."""
        actor = self._ray.remote(
            num_cpus=self._connect.cpus,
            num_gpus=self._connect.gpus,
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups={"control": 1},
        )(Worker)
        return actor.remote()

    def why_waiting(self) -> str:
        """What an actor waits for, and what the cluster has."""
        wish = f"{self._connect.cpus} CPU" + (f" and {self._connect.gpus} GPU" if self._connect.gpus else "")
        total, free = self._ray.cluster_resources(), self._ray.available_resources()
        kinds = [kind for kind in ("CPU", "GPU") if total.get(kind) or kind == "CPU" or self._connect.gpus]
        has = ", ".join(f"{free.get(kind, 0):g} of {total.get(kind, 0):g} {kind} free" for kind in kinds)
        return f"Ray has no node with {wish} free for a worker (the cluster: {has})"

    def package(self, model: ModelUse, digest: str) -> Any:
        """A reference to the packed model in the object store.

        Raises: see `pack`.
        """
        with self._packing:
            if digest not in self._packages:
                self._packages[digest] = self._ray.put(pack(model.folder))
                while len(self._packages) > _MOST_PACKAGES:
                    del self._packages[next(iter(self._packages))]
            return self._packages[digest]

    def is_here(self, answer: Any, timeout_s: float) -> bool:
        """Whether an answer has come within that time."""
        return bool(self._ray.wait([answer], timeout=timeout_s)[0])

    def get(self, answer: Any) -> Any:
        """The value of an answer; waits for it, and raises what Ray raises."""
        return self._ray.get(answer)

    def kill(self, actor: Any) -> None:
        """End an actor at once."""
        with contextlib.suppress(Exception):
            self._ray.kill(actor, no_restart=True)

    def leave(self) -> None:
        """Disconnect; every actor ends with that."""
        with contextlib.suppress(Exception):
            self._ray.shutdown()


class _Seat:
    """One actor, and the thread that talks with it."""

    def __init__(self, number: int, driver: Driver) -> None:
        self._number, self._driver, self._cluster = number, driver, driver.cluster
        self._inbox: queue.SimpleQueue[Load | Work] = queue.SimpleQueue()
        self._cold: deque[Load] = deque()
        self._provided: set[tuple[Path, str]] = set()
        self._is_over = False
        self._actor: Any = None
        threading.Thread(target=self._serve, name=f"seat-{number}", daemon=True).start()

    def put(self, message: Load | Work) -> None:
        """Have the actor do something after what it does now."""
        self._inbox.put(message)

    def cancel(self, ticket: int) -> None:
        """Pass on a cancellation."""
        if self._actor is not None:
            with contextlib.suppress(Exception):
                self._actor.cancel.options(concurrency_group="control").remote(ticket)

    def dismiss(self) -> None:
        """End the actor; whatever it still says is not passed on."""
        self._is_over = True
        if self._actor is not None:
            self._cluster.kill(self._actor)

    def _serve(self) -> None:
        try:
            self._take_place()
            while not self._is_over:
                message = self._next()
                if isinstance(message, Work):
                    self._work(message)
                else:
                    self._say(Loaded(self._number, self._load(message)))
        except Exception as error:
            log.debug("Seat %d: %s", self._number, error)
            self._say(Lost(self._number, _cause(error)))
        finally:
            if self._actor is not None:
                self._cluster.kill(self._actor)

    def _say(self, message: FromDriver) -> None:
        if not self._is_over:
            self._driver.say(message)

    def _take_place(self) -> None:
        self._actor = self._cluster.hire()
        answer = self._actor.hello.remote(self._driver.connect.probe)
        asked_at, told = time.monotonic(), ""
        while not self._cluster.is_here(answer, _LOOK_INTERVAL_S):
            if self._is_over:
                return
            if time.monotonic() - asked_at > _WAITS_AFTER_S and (why := self._cluster.why_waiting()) != told:
                told = why
                self._say(Waits(self._number, why))
        facts: NodeFacts = self._cluster.get(answer)
        if problem := facts.problem(self._cluster.facts):
            raise _Unusable(f"could not be used on node {facts.host}: {problem}")
        here = facts.host == self._cluster.facts.host
        self._say(Hired(self._number, facts.host, facts.process_id if here else 0))

    def _next(self) -> Load | Work:
        """The next message; models are loaded only while there is no work."""
        while True:
            try:
                message = self._inbox.get(block=not self._cold)
            except queue.Empty:
                return self._cold.popleft()
            if isinstance(message, Work):
                return message
            self._cold.append(message)

    def _load(self, load: Load) -> Warmed:
        if problem := self._provide(load.model, load.digest, lambda: None):
            return Warmed(load.model, problem=problem)
        warmed: Warmed = self._cluster.get(self._actor.load.remote(load.model, load.digest))
        return warmed

    def _work(self, work: Work) -> None:
        def alive() -> None:
            self._say(Heard(self._number, work.ticket))

        # Without the model, the worker itself says that it cannot be run.
        self._provide(work.model, work.digest, alive)
        run = self._actor.run.options(num_returns="streaming", _generator_backpressure_num_objects=AHEAD)
        for answer in run.remote(work.ticket, work.shard, work.digest):
            self._say(Heard(self._number, work.ticket, self._cluster.get(answer)))

    def _provide(self, model: ModelUse, digest: str, alive: Any) -> str:
        """Send a model to the actor's node if it is not there. Returns why that cannot be done, or ""."""
        if (model.folder, digest) in self._provided:
            return ""
        problem = ""
        if self._wait(self._actor.lacks.remote(model.folder, digest), alive):
            try:
                package = self._cluster.package(model, digest)
            except (ModelUnusable, OSError, ValueError) as error:
                return str(error)
            problem = self._wait(self._actor.keep.remote(digest, [package]), alive)
        if not problem:
            self._provided.add((model.folder, digest))
        return problem

    def _wait(self, answer: Any, alive: Any) -> Any:
        while not self._cluster.is_here(answer, _LOOK_INTERVAL_S):
            alive()
        return self._cluster.get(answer)


class Driver:
    """The process's state: its channel, the cluster, and the seats."""

    cluster: Cluster
    connect: Connect

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._seats: dict[int, _Seat] = {}

    def serve(self) -> None:
        """Do what the server says until it closes the channel."""
        connect = self._connection.recv()
        assert isinstance(connect, Connect)
        self.connect = connect
        try:
            self.cluster = Cluster(connect)
        except _Unusable as error:
            self.say(Connected(str(error)))
            return
        self.say(Connected())
        try:
            while True:
                self._do(self._connection.recv())
        except (EOFError, OSError):
            for seat in self._seats.values():
                seat.dismiss()
        self.cluster.leave()

    def say(self, message: FromDriver) -> None:
        """Send a message, from any thread; if the server is gone, the process exits."""
        try:
            with self._sending:
                self._connection.send(message)
        except OSError:
            os._exit(0)

    def _do(self, message: ToDriver) -> None:
        if isinstance(message, Hire):
            self._seats[message.seat] = _Seat(message.seat, self)
            return
        assert not isinstance(message, Connect)
        seat = self._seats.get(message.seat)
        if seat is None:
            return
        if isinstance(message, Cancel):
            seat.cancel(message.ticket)
        elif isinstance(message, Dismiss):
            del self._seats[message.seat]
            # In a thread: the cluster may be slow to answer.
            threading.Thread(target=seat.dismiss, name="dismiss", daemon=True).start()
        else:
            seat.put(message)


def _require_listener(address: str) -> None:
    """Raise _Unusable if nothing listens at `host:port`: Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return  # `auto`, or a form that Ray may know
    try:
        socket.create_connection((host.strip("[]"), int(port)), _LISTENER_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise _Unusable(
            f"No Ray cluster answers at {address} ({error}). Start its head with `ray start --head`, or name"
            " another with --ray-address."
        ) from error


def _first_line(error: Exception) -> str:
    """The sentence of Ray's message that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines and "Traceback" in str(error) else (lines or [type(error).__name__])[0]
    return text if text.endswith(".") else f"{text}."


def _cause(error: Exception) -> str:
    """How an actor ended, from Ray's error: "was lost with its node"."""
    if isinstance(error, _Unusable):
        return str(error)
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    name = type(error).__name__
    if name in ("ActorDiedError", "ActorUnavailableError", "NodeDiedError", "LocalRayletDiedError"):
        address = re.search(r"^\s*ip: (\S+)", text, re.MULTILINE)
        where = f" on node {address[1]}" if address else ""
        if "node" in text.lower() and ("node has died" in text.lower() or "node was" in text.lower()):
            return f"was lost with its node{where.removeprefix(' on node')}"
        return f"ended unexpectedly{where}"
    return f"could not be used: {name}: {_first_line(error)}"


def main() -> None:
    """Run the driver on the inherited socket."""
    descriptor, level, form = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    logs.set_up(
        level, "%(asctime)s %(levelname)s ray[%(process)d] %(message)s", "json" if form == "json" else "text"
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # Ray takes SIGTERM for itself in the main thread only, and the server decides when this process ends.
    thread = threading.Thread(target=functools.partial(Driver(Connection(descriptor)).serve), name="driver")
    thread.start()
    thread.join()
    os._exit(0)


if __name__ == "__main__":
    main()
