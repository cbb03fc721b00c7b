"""The pool of worker processes: starts and restarts them, shares them fairly among jobs, kills hung ones.

One thread per worker reads its messages; one more thread checks timeouts. A `Lane` is one job's queue of
tasks; the pool delivers what happens to a task as events to its lane.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, TypeVar

from emulator import logs
from emulator.execution.channel import (
    Alive,
    Cancel,
    Finished,
    Fired,
    FromWorker,
    Ready,
    Refused,
    ToWorker,
    Warm,
    Warmed,
    Work,
)
from emulator.execution.shards import Failed, ModelUse, Predicted, Shard
from emulator.vertex import errors

log = logging.getLogger(__name__)

T = TypeVar("T")

# Timeout for a worker to stop a cancelled shard, before it is killed.
_CANCEL_GRACE_S = 0.5
_WORKER_MODULE = "emulator.execution.worker"
_STOP_GRACE_S = 2.0
_WATCH_INTERVAL_S = 0.1
_MAX_BACK_OFF_S = 30.0
_FIRST_BACK_OFF_S = 0.25
_STARTS_BEFORE_GIVING_UP = 3


@dataclass(frozen=True)
class Died:
    """The worker died or was killed during a task; `cause` says how."""

    cause: str


Event = Predicted | Failed | Fired | Alive | Finished | Refused | Died


class Lane(Generic[T]):
    """One job's queue in the pool. `T` is the job's own type for a task.

    `build` makes the shard of a task when a worker is free for it, so waiting tasks stay small. `deliver`
    gets the events of a task. The pool's threads call both.
    """

    def __init__(
        self, pool: WorkerPool, build: Callable[[T], Shard], deliver: Callable[[T | None, Event], None]
    ) -> None:
        self._pool = pool
        self.build = build
        self.deliver = deliver
        self.waiting: deque[T] = deque()
        self.running = 0
        self.served_at = 0

    def add(self, tasks: Sequence[T]) -> None:
        """Append tasks to the queue."""
        self._pool.add(self, tasks)

    def close(self) -> None:
        """Drop waiting tasks and cancel running ones; no more events are delivered."""
        self._pool.close_lane(self)


@dataclass
class _Slot:
    """A place in the pool, and the process that fills it now."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    socket: socket.socket | None = None
    connection: Connection | None = None
    send_lock: threading.Lock = field(default_factory=threading.Lock)
    ready: bool = False
    cold: int = 0  # models still to load
    lane: Lane[Any] | None = None
    task: object = None
    ticket: int = 0
    heard_at: float = 0.0
    cancelled_at: float | None = None
    cause_of_death: str = ""


class WorkerPool:
    """`size` worker processes. `start` returns at once; the workers start in the background."""

    def __init__(
        self,
        size: int,
        *,
        timeout_s: float = 300.0,
        warm: Sequence[ModelUse] = (),
        log_level: str = "INFO",
    ) -> None:
        """Prepare the pool.

        Args:
            size: number of worker processes.
            timeout_s: a busy worker that is silent for this long is killed.
            warm: models to load right after the start, before any job needs them.
            log_level: of the workers.
        """
        self._timeout_s = timeout_s
        self._warm = tuple(warm)
        self._problems: dict[str, str] = {}
        self._providers: dict[str, str] = {}
        self._points_kept = self._points = 0
        self._log_level = log_level.upper()
        self._slots = [_Slot(number) for number in range(size)]
        self._lanes: list[Lane[Any]] = []
        self._turn = 0
        # Guards every field of slots and lanes; notified when the watch thread has something to do.
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the workers and their threads."""
        for slot in self._slots:
            self._spawn_thread(functools.partial(self._attend, slot), f"worker-{slot.number}")
        self._spawn_thread(self._watch, "worker-watch")

    def stop(self) -> None:
        """End every worker, also a busy one. No more events are delivered."""
        self._stopping.set()
        with self._changed:
            self._lanes.clear()
            sockets = [slot.socket for slot in self._slots if slot.socket is not None]
            self._changed.notify_all()
        for link in sockets:
            # Both ends read end-of-file: the worker exits, and the thread that reads its messages ends.
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    @property
    def ready(self) -> int:
        """The number of workers that are up."""
        with self._changed:
            return sum(slot.ready for slot in self._slots)

    @property
    def warm(self) -> bool:
        """Whether a worker is up and the loading of every model of `warm` has been tried."""
        with self._changed:
            return self._is_warm()

    def wait_until_warm(self) -> bool:
        """Wait until the pool is warm; False if it is stopped first."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_warm() or self._stopping.is_set())
            return not self._stopping.is_set()

    def _is_warm(self) -> bool:
        return any(slot.ready for slot in self._slots) and not any(slot.cold for slot in self._slots)

    @property
    def problems(self) -> dict[str, str]:
        """Why models could not be loaded at the last attempt, by model folder."""
        with self._changed:
            return dict(self._problems)

    def reload(self, model: ModelUse) -> bool:
        """Make a worker load a model whose files have changed; False if no worker is up."""
        with self._changed:
            slot = next((slot for slot in self._slots if slot.ready), None)
            connection = slot.connection if slot else None
        if slot is None or connection is None:
            return False
        self._send(slot, connection, Warm((model,)))
        return True

    @property
    def providers(self) -> dict[str, str]:
        """The execution provider that each model was last loaded on, by model folder."""
        with self._changed:
            return dict(self._providers)

    @property
    def cache_counts(self) -> tuple[int, int]:
        """The number of grid points with a result from the prediction cache, and of those without."""
        with self._changed:
            return self._points_kept, self._points - self._points_kept

    def processes(self) -> list[int]:
        """The process ids of the workers that are up."""
        with self._changed:
            return [slot.process.pid for slot in self._slots if slot.ready and slot.process is not None]

    def lane(self, build: Callable[[T], Shard], deliver: Callable[[T | None, Event], None]) -> Lane[T]:
        """Open a queue for a job."""
        lane = Lane(self, build, deliver)
        with self._changed:
            self._lanes.append(lane)
        return lane

    def add(self, lane: Lane[T], tasks: Sequence[T]) -> None:
        """See Lane.add."""
        with self._changed:
            lane.waiting.extend(tasks)
        self._assign()

    def close_lane(self, lane: Lane[T]) -> None:
        """See Lane.close."""
        with self._changed:
            if lane in self._lanes:
                self._lanes.remove(lane)
            lane.waiting.clear()
            cancelled = [slot for slot in self._slots if slot.lane is lane]
            links = [(slot, slot.connection, slot.ticket) for slot in cancelled]
            for slot in cancelled:
                slot.cancelled_at = time.monotonic()
            self._changed.notify_all()
        for slot, connection, ticket in links:
            self._send(slot, connection, Cancel(ticket))

    def _assign(self) -> None:
        """Give tasks to free workers, each time from the job with the fewest workers."""
        while True:
            with self._changed:
                slot = next((slot for slot in self._slots if slot.ready and slot.lane is None), None)
                waiting = [lane for lane in self._lanes if lane.waiting]
                if slot is None or not waiting:
                    return
                lane = min(waiting, key=lambda lane: (lane.running, lane.served_at))
                self._turn = ticket = self._turn + 1
                lane.served_at = self._turn
                lane.running += 1
                task = lane.waiting.popleft()
                slot.lane, slot.task, slot.ticket, slot.cancelled_at = lane, task, ticket, None
                slot.heard_at = time.monotonic()
                # Keep this connection: if the worker dies first, its successor must not get the shard.
                connection = slot.connection
                self._changed.notify_all()
            try:
                self._send(slot, connection, Work(ticket, lane.build(task)))
            except Exception as error:
                self._hand_back(slot, ticket, error)

    def _hand_back(self, slot: _Slot, ticket: int, error: Exception) -> None:
        """Tell the job that its shard could not be built or sent."""
        with self._changed:
            if slot.lane is None or slot.ticket != ticket:
                return  # the worker has died; the job knows from Died
            lane, task = slot.lane, slot.task
            self._free(slot)
            wanted = lane is not None and lane in self._lanes
        if wanted and lane is not None:
            log.error("A shard could not be handed to a worker.", exc_info=error)
            lane.deliver(task, Refused(errors.Internal.code, f"{type(error).__name__}: {error}"))

    def _send(self, slot: _Slot, connection: Connection | None, message: ToWorker) -> None:
        # If the worker has just died, the thread that reads its messages notices.
        with slot.send_lock, contextlib.suppress(OSError):
            if connection is not None:
                connection.send(message)

    def _attend(self, slot: _Slot) -> None:
        """Run one slot: start a worker, read its messages until it dies, start the next."""
        failures = 0
        # Only the slot's first worker warms up: a model that kills its worker must not kill every successor.
        warm = self._warm
        while not self._stopping.is_set():
            came_up = False
            try:
                self._spawn(slot, warm)
            except OSError as error:  # out of file descriptors or processes for now
                cause = f"could not be started: {error}"
            else:
                warm = ()
                came_up = self._listen(slot)
                cause = self._reap(slot)
            if self._stopping.is_set():
                return
            failures = 0 if came_up else failures + 1
            log.warning("Worker %d %s; it is replaced.", slot.number, cause)
            self._bury(slot, cause)
            if failures >= _STARTS_BEFORE_GIVING_UP:
                self._give_up(f"it {cause}, before it was ready")
            if not came_up:
                self._stopping.wait(min(_MAX_BACK_OFF_S, _FIRST_BACK_OFF_S * 2**failures))

    def _spawn(self, slot: _Slot, warm: Sequence[ModelUse]) -> None:
        process, ours, connection = start_process(self._log_level)
        with self._changed:
            slot.process, slot.socket, slot.cause_of_death = process, ours, ""
            slot.cold = len(warm)
            slot.connection = connection
            if self._stopping.is_set():
                ours.shutdown(socket.SHUT_RDWR)
        if warm:
            self._send(slot, slot.connection, Warm(tuple(warm)))

    def _listen(self, slot: _Slot) -> bool:
        """Handle the worker's messages until it dies; returns whether it came up."""
        assert slot.connection is not None
        try:
            while True:
                message: FromWorker = slot.connection.recv()
                self._heard(slot, message)
        except (EOFError, OSError):
            return slot.ready

    def _heard(self, slot: _Slot, message: FromWorker) -> None:
        with self._changed:
            slot.heard_at = time.monotonic()
            lane, task = slot.lane, slot.task
            if isinstance(message, Ready):
                slot.ready = True
            if isinstance(message, Warmed):
                slot.cold = max(0, slot.cold - 1)
            if isinstance(message, Ready | Warmed):
                self._changed.notify_all()
            if isinstance(message, Warmed | Finished):
                self._learn(message)
            if isinstance(message, Finished) and message.decoding is not None:
                self._points_kept += message.decoding.kept
                self._points += message.decoding.of
            if isinstance(message, Finished | Refused):
                self._free(slot)
            wanted = lane is not None and lane in self._lanes
        if (
            wanted
            and lane is not None
            and isinstance(message, Predicted | Failed | Fired | Alive | Finished | Refused)
        ):
            lane.deliver(task, message)
        if isinstance(message, Ready | Finished | Refused):
            self._assign()

    def _learn(self, message: Warmed | Finished) -> None:
        """Remember whether a model can be loaded; the last message counts."""
        folder = str(message.model.folder)
        if isinstance(message, Warmed) and message.problem:
            if self._problems.get(folder) != message.problem:
                log.warning("The model in %s cannot be run: %s", folder, message.problem)
            self._problems[folder] = message.problem
        elif message.provider:
            self._problems.pop(folder, None)
            self._providers[folder] = message.provider

    def _free(self, slot: _Slot) -> None:
        if slot.lane is not None:
            slot.lane.running -= 1
        slot.lane, slot.task, slot.cancelled_at = None, None, None

    def _reap(self, slot: _Slot) -> str:
        """Wait for the process to end, kill it if it does not; returns how it ended."""
        assert slot.process is not None
        assert slot.connection is not None
        assert slot.socket is not None
        try:
            slot.process.wait(_STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            slot.process.kill()
            slot.process.wait()
        with self._changed:
            slot.ready = False
        with slot.send_lock:
            slot.connection.close()
            slot.socket.close()
            slot.connection, slot.socket = None, None
        return slot.cause_of_death or ending(slot.process.returncode)

    def _bury(self, slot: _Slot, cause: str) -> None:
        with self._changed:
            lane, task = slot.lane, slot.task
            self._free(slot)
            wanted = lane is not None and lane in self._lanes
        if wanted and lane is not None:
            lane.deliver(task, Died(cause))

    def _give_up(self, complaint: str) -> None:
        """Fail the waiting jobs if no worker can be started, rather than let them wait forever."""
        with self._changed:
            lanes = [] if any(slot.ready for slot in self._slots) else list(self._lanes)
        for lane in lanes:
            message = f"No worker process can be started: {complaint}. See the server's log."
            lane.deliver(None, Refused(errors.Internal.code, message))

    def _watch(self) -> None:
        """Kill workers that are silent, or that do not stop when cancelled."""
        while not self._stopping.is_set():
            with self._changed:
                busy = [slot for slot in self._slots if slot.lane is not None]
                now = time.monotonic()
                for slot in busy:
                    cause = self._overdue(slot, now)
                    if cause and slot.process is not None and not slot.cause_of_death:
                        slot.cause_of_death = cause
                        slot.process.kill()
                self._changed.wait(_WATCH_INTERVAL_S if busy else None)

    def _overdue(self, slot: _Slot, now: float) -> str:
        if slot.cancelled_at is not None:
            late = now - slot.cancelled_at > _CANCEL_GRACE_S
            return "was killed, because it did not stop when its job was cancelled" if late else ""
        if now - slot.heard_at > self._timeout_s:
            return f"was killed, because it gave no sign of life for {self._timeout_s:g} s"
        return ""

    def _spawn_thread(self, target: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)


def start_process(
    log_level: str, *arguments: str
) -> tuple[subprocess.Popen[bytes], socket.socket, Connection]:
    """Start a process of the worker module.

    Returns:
        The process, and the server's end of its channel as socket and connection.

    Raises:
        OSError: the process cannot be started.
    """
    ours, theirs = socket.socketpair()
    with theirs, contextlib.ExitStack() as undone:
        undone.callback(ours.close)
        connection = undone.enter_context(Connection(os.dup(ours.fileno())))
        package_parent = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (package_parent, os.environ.get("PYTHONPATH"))))
        process = subprocess.Popen(
            # -P: a file cv2.py in the current folder must not be taken for OpenCV.
            [
                *(sys.executable, "-P", "-m", _WORKER_MODULE),
                *(str(theirs.fileno()), log_level, logs.form_in_use(), *arguments),
            ],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )
        undone.pop_all()
    return process, ours, connection


def ending(returncode: int) -> str:
    """Describe how a process ended, from its return code."""
    if returncode >= 0:
        return f"ended with exit status {returncode}"
    with contextlib.suppress(ValueError):
        return f"was killed by signal {-returncode} ({signal.Signals(-returncode).name})"
    return f"was killed by signal {-returncode}"
