"""The executor of a Ray cluster: one actor per slot, which it starts, replaces and ends itself.

Imports no Ray: `ray_driver.py` does, in a process of its own, and `ray_actor.py` on the nodes. Ray restarts
nothing, so there is never a doubt where a shard is.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import pickle
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from emulator.execution.executor import (
    Died,
    Event,
    Finished,
    JobQueue,
    ModelStates,
    Refused,
    Said,
    Status,
    Waiting,
)
from emulator.execution.processes import ending, start_process
from emulator.execution.queues import Assignment, Queues
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
from emulator.execution.shards import ModelUse, Shard
from emulator.inference.model_files import ModelDigests
from emulator.vertex import errors

log = logging.getLogger(__name__)

T = TypeVar("T")

_DRIVER_MODULE = "emulator.execution.ray_driver"
_CONNECT_TIMEOUT_S = 180.0
_CANCEL_GRACE_S = 2.0
_STOP_GRACE_S = 10.0
_WATCH_INTERVAL_S = 0.1
_IDLE_INTERVAL_S = 1.0
_LONGEST_SILENCE_S = 30.0
_IDLE_S = 60.0
_MAX_BACK_OFF_S = 30.0
_FIRST_BACK_OFF_S = 0.25
_STARTS_BEFORE_GIVING_UP = 3
_PROBE = ".vertex-emulator-probe"


class RayUnusable(Exception):
    """The cluster cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class RaySettings:
    """Where the actors run and what each asks for.

    Attributes:
        address: `auto` for the cluster that this machine is a node of, or `host:port` of its head.
        cpus: CPUs that each actor asks for.
        gpus: GPUs that each actor asks for.
        shared: the folder of buckets, which each node must see under the same path; None if none is local.
        idle_s: an actor without work for this long is ended, all but one.
    """

    address: str = "auto"
    cpus: int = 1
    gpus: int = 0
    shared: Path | None = None
    idle_s: float = _IDLE_S


@dataclass
class _Slot:
    """A place for a worker, and the actor that fills it now: its seat is 0 while there is none."""

    number: int
    seat: int = 0
    is_up: bool = False
    rests: bool = False  # ended because it was idle, until there is more work than workers
    process_id: int = 0
    waits: str = ""
    has_warmed: bool = False
    loading: set[ModelUse] = field(default_factory=set)
    assignment: Assignment | None = None
    heard_at: float = 0.0  # of the actor
    spoke_at: float = 0.0  # of the shard
    cancelled_at: float | None = None
    idle_since: float = 0.0
    failures: int = 0
    hire_at: float = 0.0


class _Link:
    """The driver process and the server's end of its channel."""

    def __init__(self, log_level: str) -> None:
        started = start_process(
            log_level, module=_DRIVER_MODULE, environment={"RAY_USAGE_STATS_ENABLED": "0"}
        )
        self.process: subprocess.Popen[bytes] = started[0]
        self._socket: socket.socket = started[1]
        self._connection: Connection = started[2]
        self._sending = threading.Lock()

    def send(self, message: ToDriver) -> None:
        """Send a message. If the driver has just ended, the thread that reads its messages notices."""
        with self._sending, contextlib.suppress(OSError):
            self._connection.send(message)

    def receive(self, timeout_s: float | None = None) -> FromDriver | None:
        """The next message; None if there is none in that time. Raises EOFError and OSError at the end."""
        if timeout_s is not None and not self._connection.poll(timeout_s):
            return None
        message: FromDriver = self._connection.recv()
        return message

    def hang_up(self) -> None:
        """Have both sides read end-of-file: the driver ends its actors and itself."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def end(self) -> str:
        """Wait for the process, kill it if it does not end; returns how it ended."""
        self.hang_up()
        try:
            self.process.wait(_STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        with self._sending:
            self._connection.close()
            self._socket.close()
        return ending(self.process.returncode)


class _Probe:
    """A file of this server in the folder of buckets, which each node must be able to read."""

    def __init__(self, folder: Path) -> None:
        """Write it, and remove those of servers that were killed. Raises OSError."""
        for left in folder.glob(f"{_PROBE}-*"):
            with contextlib.suppress(OSError), left.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
        self.token = secrets.token_hex(16)
        self.path = (folder / f"{_PROBE}-{self.token}").absolute()
        self._file = self.path.open("w", encoding="utf-8")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._file.write(self.token)
        self._file.flush()

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


class RayExecutor:
    """Runs shards in actors of a Ray cluster, see Executor. `size` is the most actors at once.

    An actor that is silent for 30 s (or `timeout_s`, if that is shorter) is ended: its node may be frozen or
    cut off. So is one whose shard says nothing for `timeout_s`, and one that does not stop two seconds after
    its shard was cancelled. If no node has a place for an actor, jobs wait, and their queues hear `Waiting`.
    """

    def __init__(
        self,
        size: int,
        *,
        timeout_s: float = 300.0,
        warm: Sequence[ModelUse] = (),
        log_level: str = "INFO",
        ray: RaySettings | None = None,
    ) -> None:
        """Prepare the executor; see ProcessExecutor for what the arguments mean."""
        self._settings = ray or RaySettings()
        self._timeout_s = timeout_s
        self._silence_s = min(timeout_s, _LONGEST_SILENCE_S)
        self._warm = tuple(warm)
        self._untried = set(warm)
        self._models = ModelStates()
        self._digests = ModelDigests()
        self._log_level = log_level.upper()
        self._slots = [_Slot(number) for number in range(size)]
        self._queues = Queues(self._on_tasks, self._cancel)
        # Guards the link and every field of slots; notified when the watch thread has something to do.
        self._changed = threading.Condition()
        self._link: _Link | None = None
        self._is_connected = False
        self._delivering_since: float | None = None
        self._seats = itertools.count(1)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._probe: _Probe | None = None

    def connect(self) -> None:
        """Connect to the cluster before `start`, and check its nodes.

        Raises:
            RayUnusable: there is no such cluster, or a node of it cannot work for this server.
        """
        link, problem = self._call()
        if link is None:
            self._close_probe()
            raise RayUnusable(problem)
        self._link = link

    def start(self) -> None:
        """See Executor."""
        for target, name in ((self._attend, "ray"), (self._watch, "ray-watch")):
            thread = threading.Thread(target=target, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """See Executor."""
        self._stopping.set()
        self._queues.stop()
        with self._changed:
            link = self._link
            for slot in self._slots:
                _vacate(slot)
            self._changed.notify_all()
        if link is not None:
            link.hang_up()
        for thread in self._threads:
            thread.join()
        if link is not None and not self._threads:
            link.end()
        self._close_probe()

    def open_queue(
        self, build: Callable[[T], Shard], deliver: Callable[[T | None, Event], None]
    ) -> JobQueue[T]:
        """See Executor."""
        return self._queues.open(build, deliver)

    def status(self) -> Status:
        """See Executor."""
        with self._changed:
            up = [slot for slot in self._slots if slot.is_up]
            processes = [slot.process_id for slot in up if slot.process_id]
            return self._models.status(ready=len(up), is_warm=self._is_warm(), process_ids=processes)

    def wait_until_warm(self) -> bool:
        """See Executor."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_warm() or self._stopping.is_set())
            return not self._stopping.is_set()

    def _is_warm(self) -> bool:
        return any(slot.is_up for slot in self._slots) and not self._untried

    def reload(self, model: ModelUse) -> bool:
        """See Executor."""
        digest = self._digests.get(model.folder)
        with self._changed:
            slot = next((slot for slot in self._slots if slot.is_up), None)
            if slot is None:
                return False
            self._send(Load(slot.seat, model, digest))
        return True

    def _send(self, message: ToDriver) -> None:
        if self._link is not None:
            self._link.send(message)

    # Tasks

    def _on_tasks(self) -> None:
        with self._changed:
            self._changed.notify_all()
        self._assign()

    def _cancel(self, assignments: Sequence[Assignment]) -> None:
        with self._changed:
            for slot in self._slots:
                if slot.assignment in assignments and slot.assignment is not None:
                    slot.cancelled_at = time.monotonic()
                    self._send(Cancel(slot.seat, slot.assignment.ticket))
            self._changed.notify_all()

    def _assign(self) -> None:
        """Give tasks to free workers."""
        while True:
            with self._changed:
                slot = next((slot for slot in self._slots if slot.is_up and slot.assignment is None), None)
                # With the lock: whoever cancels the assignment finds it in its slot.
                assignment = self._queues.take() if slot is not None else None
                if slot is None or assignment is None:
                    return
                slot.assignment, slot.cancelled_at, seat = assignment, None, slot.seat
                slot.heard_at = slot.spoke_at = time.monotonic()
                self._changed.notify_all()
            shard = self._queues.build(assignment)
            if shard is None:
                self._free(slot, assignment)
                continue
            try:
                work = self._work_of(seat, assignment.ticket, shard)
            except Exception as error:
                self._free(slot, assignment)
                self._queues.refuse(assignment, error)
            else:
                with self._changed:
                    slot.heard_at = slot.spoke_at = time.monotonic()
                    link = self._link
                if link is not None:
                    link.send(work)

    def _work_of(self, seat: int, ticket: int, shard: Shard) -> Work:
        return Work(seat, ticket, pickle.dumps(shard), shard.model, self._digests.get(shard.model.folder))

    def _free(self, slot: _Slot, assignment: Assignment) -> None:
        with self._changed:
            if slot.assignment is assignment:
                slot.assignment, slot.cancelled_at = None, None
                slot.idle_since = time.monotonic()

    # The driver

    def _attend(self) -> None:
        """Keep a driver that is connected, and read its messages until it ends."""
        failures = 0
        while not self._stopping.is_set():
            link, problem = (self._link, "") if self._link is not None else self._call()
            if link is not None:
                failures = 0
                self._serve(link)
                problem = f"Ray's driver {link.end()}."
            if self._stopping.is_set():
                return
            log.warning("%s It is tried again.", problem)
            self._queues.tell(Waiting(problem))
            failures += 1
            self._stopping.wait(min(_MAX_BACK_OFF_S, _FIRST_BACK_OFF_S * 2**failures))

    def _call(self) -> tuple[_Link | None, str]:
        """Start a driver that connects; returns it, or None and why the cluster cannot be used."""
        settings = self._settings
        try:
            if self._settings.shared is not None and self._probe is None:
                self._probe = _Probe(self._settings.shared)
            link = _Link(self._log_level)
        except OSError as error:
            return None, f"Ray's driver cannot be started: {error}."
        probe = (self._probe.path, self._probe.token) if self._probe is not None else (None, "")
        link.send(Connect(settings.address, settings.cpus, settings.gpus, *probe))
        answer: FromDriver | None = None
        until_s = time.monotonic() + _CONNECT_TIMEOUT_S
        with contextlib.suppress(EOFError, OSError):
            while answer is None and time.monotonic() < until_s and not self._stopping.is_set():
                answer = link.receive(_WATCH_INTERVAL_S)
        if isinstance(answer, Connected) and not answer.problem:
            return link, ""
        if answer is None and link.process.poll() is None:
            link.process.kill()
        how = link.end()
        problem = answer.problem if isinstance(answer, Connected) else ""
        return None, problem or f"The Ray cluster {settings.address} cannot be used: its driver {how}."

    def _close_probe(self) -> None:
        if self._probe is not None:
            self._probe.close()

    def _serve(self, link: _Link) -> None:
        """Handle the driver's messages until it ends; then all its actors are lost."""
        with self._changed:
            self._link, self._is_connected = link, True
            if self._stopping.is_set():
                link.hang_up()
            self._changed.notify_all()
        with contextlib.suppress(EOFError, OSError):
            while (message := link.receive()) is not None:
                self._handle(message)
        with self._changed:
            self._link, self._is_connected = None, False
            seats = [slot.seat for slot in self._slots if slot.seat]
        for seat in seats:
            self._bury(seat, "was lost with the connection to the Ray cluster")

    def _handle(self, message: FromDriver) -> None:
        if isinstance(message, Heard):
            self._heard(message)
        elif isinstance(message, Hired):
            self._hired(message)
        elif isinstance(message, Loaded):
            self._loaded(message)
        elif isinstance(message, Waits):
            self._waits(message)
        elif isinstance(message, Lost):
            self._bury(message.seat, message.cause)

    def _slot_of(self, seat: int) -> _Slot | None:
        return next((slot for slot in self._slots if slot.seat == seat), None)

    def _hired(self, hired: Hired) -> None:
        with self._changed:
            slot = self._slot_of(hired.seat)
            if slot is None:
                return
            slot.is_up, slot.process_id, slot.waits, slot.failures = True, hired.process_id, "", 0
            slot.idle_since = time.monotonic()
            # Only the slot's first worker warms up: a model that kills it must not kill its successor.
            models = () if slot.has_warmed else self._warm
            slot.has_warmed, slot.loading = True, set(models)
            self._changed.notify_all()
        log.debug("Worker %d is up on node %s.", slot.number, hired.node)
        for model in models:
            digest = self._digests.get(model.folder)
            with self._changed:
                self._send(Load(hired.seat, model, digest))
        self._assign()

    def _loaded(self, loaded: Loaded) -> None:
        self._models.note(loaded.warmed)
        with self._changed:
            if (slot := self._slot_of(loaded.seat)) is not None:
                slot.loading.discard(loaded.warmed.model)
            self._untried.discard(loaded.warmed.model)
            self._changed.notify_all()

    def _waits(self, waits: Waits) -> None:
        with self._changed:
            if (slot := self._slot_of(waits.seat)) is not None:
                slot.waits = waits.why
                self._changed.notify_all()

    def _heard(self, heard: Heard) -> None:
        said: list[Said] = pickle.loads(heard.said) if heard.said else []
        with self._changed:
            slot = self._slot_of(heard.seat)
            assignment = slot.assignment if slot is not None else None
            if slot is None or assignment is None or assignment.ticket != heard.ticket:
                return
            slot.heard_at = time.monotonic()
            if said:
                slot.spoke_at = slot.heard_at
        for event in said:
            if isinstance(event, Finished):
                self._models.note(event)
            if isinstance(event, Finished | Refused):
                self._free(slot, assignment)
            self._deliver(assignment, event)
        if said and isinstance(said[-1], Finished | Refused):
            self._assign()

    def _deliver(self, assignment: Assignment, event: Event) -> None:
        """Deliver an event. The time that a job takes for it is no silence of the actors."""
        with self._changed:
            self._delivering_since = since = time.monotonic()
        self._queues.deliver(assignment, event)
        with self._changed:
            taken_s = time.monotonic() - since
            self._delivering_since = None
            for slot in self._slots:
                slot.heard_at += taken_s
                slot.spoke_at += taken_s
                if slot.cancelled_at is not None:
                    slot.cancelled_at += taken_s

    # The actors

    def _bury(self, seat: int, cause: str) -> None:
        """Note that an actor is gone, and have its slot filled again."""
        with self._changed:
            slot = self._slot_of(seat)
            if slot is None or self._stopping.is_set():
                return
            assignment, came_up = slot.assignment, slot.is_up
            self._untried -= slot.loading
            _vacate(slot)
            slot.failures = 0 if came_up else slot.failures + 1
            back_off_s = 0.0 if came_up else min(_MAX_BACK_OFF_S, _FIRST_BACK_OFF_S * 2**slot.failures)
            slot.hire_at = time.monotonic() + back_off_s
            give_up = slot.failures >= _STARTS_BEFORE_GIVING_UP and not any(
                each.is_up for each in self._slots
            )
            self._changed.notify_all()
        log.warning("Worker %d %s; it is replaced.", slot.number, cause)
        if assignment is not None:
            self._queues.deliver(assignment, Died(cause))
        if give_up:
            message = f"No worker can be started on the Ray cluster: it {cause}. See the server's log."
            self._queues.deliver_to_all(Refused(errors.Internal.code, message))

    def _watch(self) -> None:
        """Fill slots, end actors that are silent or idle, and tell jobs what they wait for."""
        while not self._stopping.is_set():
            with self._changed:
                now = time.monotonic()
                # While a job takes an event, what actors have said waits unread.
                heard_until = now if self._delivering_since is None else self._delivering_since
                overdue = [
                    (slot.seat, cause) for slot in self._slots if (cause := self._overdue(slot, heard_until))
                ]
                for seat, _ in overdue:
                    self._send(Dismiss(seat))
                if self._is_connected:
                    self._rest(now)
                    self._fill(now)
                why = self._why_waiting()
            for seat, cause in overdue:
                self._bury(seat, cause)
            if why:
                self._queues.tell(Waiting(why))
            with self._changed:
                if not self._stopping.is_set():
                    self._changed.wait(_WATCH_INTERVAL_S if self._is_in_motion() else _IDLE_INTERVAL_S)

    def _is_in_motion(self) -> bool:
        return any(slot.assignment is not None or not (slot.is_up or slot.rests) for slot in self._slots)

    def _overdue(self, slot: _Slot, now: float) -> str:
        if slot.assignment is None:
            return ""
        if slot.cancelled_at is not None:
            late = now - slot.cancelled_at > _CANCEL_GRACE_S
            return "was ended, because it did not stop when its job was cancelled" if late else ""
        if now - slot.heard_at > self._silence_s:
            return f"was given up, because it gave no sign of life for {self._silence_s:g} s"
        if now - slot.spoke_at > self._timeout_s:
            return f"was given up, because it gave no sign of life for {self._timeout_s:g} s"
        return ""

    def _rest(self, now: float) -> None:
        """End actors that have been idle for long, so that a cluster shrinks. One stays, to be ready."""
        up = [slot for slot in self._slots if slot.is_up]
        idle = [
            slot
            for slot in up
            if slot.assignment is None and not slot.loading and now - slot.idle_since > self._settings.idle_s
        ]
        for slot in idle[: max(0, len(up) - 1)]:
            self._send(Dismiss(slot.seat))
            _vacate(slot)
            slot.rests = True

    def _fill(self, now: float) -> None:
        """Ask for an actor for each vacant slot; for one that rests, if more tasks wait than workers."""
        coming = sum(bool(slot.seat) and slot.assignment is None for slot in self._slots)
        wanted = self._queues.waiting() - coming
        for slot in self._slots:
            if slot.seat or now < slot.hire_at:
                continue
            if slot.rests:
                if wanted <= 0:
                    continue
                wanted -= 1
            slot.rests, slot.seat = False, next(self._seats)
            self._send(Hire(slot.seat))

    def _why_waiting(self) -> str:
        """What all jobs wait for: no worker is up, and Ray has no place for one; else ""."""
        if any(slot.is_up for slot in self._slots):
            return ""
        return next((slot.waits for slot in self._slots if slot.waits), "")


def _vacate(slot: _Slot) -> None:
    slot.seat, slot.is_up, slot.process_id, slot.waits = 0, False, 0, ""
    slot.assignment, slot.cancelled_at = None, None
    slot.loading = set()
