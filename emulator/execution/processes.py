"""The executor of worker processes: starts and restarts them, and kills those that hang.

One thread per worker reads its messages; one more thread checks timeouts. `channel.py` has the messages,
`worker.py` is the other side.
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from emulator import logs
from emulator.execution.channel import Cancel, FromWorker, Ready, ToWorker, Warm, Work
from emulator.execution.executor import Died, Event, Finished, JobQueue, ModelStates, Refused, Status, Warmed
from emulator.execution.queues import Assignment, Queues
from emulator.execution.shards import ModelUse, Shard
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


@dataclass
class _Slot:
    """A place for a worker, and the process that fills it now."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    socket: socket.socket | None = None
    connection: Connection | None = None
    send_lock: threading.Lock = field(default_factory=threading.Lock)
    ready: bool = False
    cold: int = 0  # models still to load
    assignment: Assignment | None = None
    heard_at: float = 0.0
    cancelled_at: float | None = None
    cause_of_death: str = ""


class ProcessExecutor:
    """Runs shards in `size` worker processes, see Executor. A crash of native code costs one worker.

    A worker that is silent for `timeout_s` is killed, and so is one that does not stop half a second after
    its shard was cancelled. If no worker comes up in three attempts, all jobs get a `Refused`.
    """

    def __init__(
        self,
        size: int,
        *,
        timeout_s: float = 300.0,
        warm: Sequence[ModelUse] = (),
        log_level: str = "INFO",
    ) -> None:
        """Prepare the executor.

        Args:
            size: number of worker processes.
            timeout_s: a busy worker that is silent for this long is killed.
            warm: models to load right after the start, before any job needs them.
            log_level: of the workers.
        """
        self._timeout_s = timeout_s
        self._warm = tuple(warm)
        self._models = ModelStates()
        self._log_level = log_level.upper()
        self._slots = [_Slot(number) for number in range(size)]
        self._queues = Queues(self._assign, self._cancel)
        # Guards every field of slots; notified when the watch thread has something to do.
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """See Executor."""
        for slot in self._slots:
            self._spawn_thread(functools.partial(self._attend, slot), f"worker-{slot.number}")
        self._spawn_thread(self._watch, "worker-watch")

    def stop(self) -> None:
        """See Executor."""
        self._stopping.set()
        self._queues.stop()
        with self._changed:
            sockets = [slot.socket for slot in self._slots if slot.socket is not None]
            self._changed.notify_all()
        for link in sockets:
            # Both ends read end-of-file: the worker exits, and the thread that reads its messages ends.
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def open_queue(
        self, build: Callable[[T], Shard], deliver: Callable[[T | None, Event], None]
    ) -> JobQueue[T]:
        """See Executor."""
        return self._queues.open(build, deliver)

    def status(self) -> Status:
        """See Executor."""
        with self._changed:
            up = [slot for slot in self._slots if slot.ready]
            processes = [slot.process.pid for slot in up if slot.process is not None]
            return self._models.status(ready=len(up), is_warm=self._is_warm(), process_ids=processes)

    def wait_until_warm(self) -> bool:
        """See Executor."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_warm() or self._stopping.is_set())
            return not self._stopping.is_set()

    def _is_warm(self) -> bool:
        return any(slot.ready for slot in self._slots) and not any(slot.cold for slot in self._slots)

    def reload(self, model: ModelUse) -> bool:
        """See Executor."""
        with self._changed:
            slot = next((slot for slot in self._slots if slot.ready), None)
            connection = slot.connection if slot else None
        if slot is None or connection is None:
            return False
        self._send(slot, connection, Warm((model,)))
        return True

    def _cancel(self, assignments: Sequence[Assignment]) -> None:
        with self._changed:
            cancelled = [slot for slot in self._slots if slot.assignment in assignments]
            links = [(slot, slot.connection, slot.assignment) for slot in cancelled]
            for slot in cancelled:
                slot.cancelled_at = time.monotonic()
            self._changed.notify_all()
        for slot, connection, assignment in links:
            if assignment is not None:
                self._send(slot, connection, Cancel(assignment.ticket))

    def _assign(self) -> None:
        """Give tasks to free workers."""
        while True:
            with self._changed:
                slot = next((slot for slot in self._slots if slot.ready and slot.assignment is None), None)
                # With the lock: whoever cancels the assignment finds it in its slot.
                assignment = self._queues.take() if slot is not None else None
                if slot is None or assignment is None:
                    return
                slot.assignment, slot.cancelled_at = assignment, None
                slot.heard_at = time.monotonic()
                # Keep this connection: if the worker dies first, its successor must not get the shard.
                connection = slot.connection
                self._changed.notify_all()
            shard = self._queues.build(assignment)
            if shard is None:
                self._free(slot, assignment)
                continue
            try:
                self._send(slot, connection, Work(assignment.ticket, shard))
            except Exception as error:
                self._free(slot, assignment)
                self._queues.refuse(assignment, error)

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
            assignment = slot.assignment
            if isinstance(message, Ready):
                slot.ready = True
            if isinstance(message, Warmed):
                slot.cold = max(0, slot.cold - 1)
            if isinstance(message, Warmed | Finished):
                self._models.note(message)
            if isinstance(message, Ready | Warmed):
                self._changed.notify_all()
        if isinstance(message, Finished | Refused) and assignment is not None:
            self._free(slot, assignment)
        if assignment is not None and not isinstance(message, Ready | Warmed):
            self._queues.deliver(assignment, message)
        if isinstance(message, Ready | Finished | Refused):
            self._assign()

    def _free(self, slot: _Slot, assignment: Assignment) -> None:
        with self._changed:
            if slot.assignment is assignment:
                slot.assignment, slot.cancelled_at = None, None

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
            assignment = slot.assignment
        if assignment is not None:
            self._free(slot, assignment)
            self._queues.deliver(assignment, Died(cause))

    def _give_up(self, complaint: str) -> None:
        """Fail the waiting jobs if no worker can be started, rather than let them wait forever."""
        if not self.status().ready:
            message = f"No worker process can be started: {complaint}. See the server's log."
            self._queues.deliver_to_all(Refused(errors.Internal.code, message))

    def _watch(self) -> None:
        """Kill workers that are silent, or that do not stop when cancelled."""
        while not self._stopping.is_set():
            with self._changed:
                busy = [slot for slot in self._slots if slot.assignment is not None]
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
