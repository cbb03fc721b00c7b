"""The executor without worker processes: shards run in threads of this process.

For debugging and for `vertex-emulator predict`: breakpoints in a predictor work, and nothing is pickled. Only
`start` imports numpy, OpenCV and onnxruntime.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from emulator.execution.executor import Died, Event, Finished, JobQueue, ModelStates, Said, Status
from emulator.execution.queues import Assignment, Queues
from emulator.execution.shards import ModelUse, Shard
from emulator.execution.workbench import Workbench

log = logging.getLogger(__name__)

T = TypeVar("T")

_LOOK_INTERVAL_S = 0.05
_STOP_GRACE_S = 10.0


class _WorkerDied(BaseException):
    """An injected fault ends the worker. No Exception: a predictor's errors are caught, this one is not."""


class InlineExecutor:
    """Runs shards in `size` threads of this process, see Executor. All threads share the loaded models.

    Three things differ from worker processes, because nobody can end a thread:

    - A crash of native code ends this process.
    - Silence has no limit, so a breakpoint may be held for as long as you like. A cancelled shard ends at its
      next frame.
    - Injected faults end no thread: `kill-worker` lets the shard end with `Died` at once, `hang-worker` after
      `timeout_s`.
    """

    def __init__(
        self,
        size: int,
        *,
        timeout_s: float = 300.0,
        warm: Sequence[ModelUse] = (),
        workbench: Workbench | None = None,
    ) -> None:
        """Prepare the executor.

        Args:
            size: number of threads that run shards.
            timeout_s: the time after which a shard with the fault `hang-worker` counts as dead.
            warm: models to load right after the start, before any job needs them.
            workbench: holds the loaded models; several executors may share one.
        """
        self._timeout_s = timeout_s
        self._workbench = workbench or Workbench()
        self._models = ModelStates()
        self._queues = Queues()
        self._to_load: queue.SimpleQueue[ModelUse | None] = queue.SimpleQueue()
        for model in warm:
            self._to_load.put(model)
        # Guards the two fields below; notified when they change.
        self._changed = threading.Condition()
        self._cold = len(warm)
        self._is_up = self._is_stopped = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"inline-{number}", daemon=True)
            for number in range(size)
        ]
        self._loader = threading.Thread(target=self._load, name="inline-models", daemon=True)

    def start(self) -> None:
        """See Executor."""
        self._loader.start()

    def stop(self) -> None:
        """See Executor. A thread that is busy after 10 s is left behind."""
        with self._changed:
            self._is_up, self._is_stopped = False, True
            self._changed.notify_all()
        self._queues.stop()
        self._to_load.put(None)
        deadline_s = time.monotonic() + _STOP_GRACE_S
        for thread in (self._loader, *self._threads):
            if thread.ident is not None:
                thread.join(max(0.0, deadline_s - time.monotonic()))
            if thread.is_alive():
                log.warning("The thread %s is still busy and is left behind.", thread.name)

    def open_queue(
        self, build: Callable[[T], Shard], deliver: Callable[[T | None, Event], None]
    ) -> JobQueue[T]:
        """See Executor."""
        return self._queues.open(build, deliver)

    def status(self) -> Status:
        """See Executor."""
        with self._changed:
            ready = len(self._threads) if self._is_up else 0
            return self._models.status(ready=ready, is_warm=self._is_warm())

    def wait_until_warm(self) -> bool:
        """See Executor."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_warm() or self._is_stopped)
            return not self._is_stopped

    def _is_warm(self) -> bool:
        return self._is_up and not self._cold

    def reload(self, model: ModelUse) -> bool:
        """See Executor."""
        with self._changed:
            if not self._is_up:
                return False
        self._to_load.put(model)
        return True

    def _load(self) -> None:
        """Import the packages, let the slots begin, and load models until the end."""
        self._workbench.prepare()
        with self._changed:
            if self._is_stopped:
                return
            self._is_up = True
            for thread in self._threads:
                thread.start()
            self._changed.notify_all()
        while (model := self._to_load.get()) is not None and not self._is_stopped:
            self._models.note(self._workbench.warm(model))
            with self._changed:
                self._cold = max(0, self._cold - 1)
                self._changed.notify_all()

    def _serve(self) -> None:
        """Run one slot: a shard after the other."""
        while (assignment := self._queues.take(timeout_s=None)) is not None:
            shard = self._queues.build(assignment)
            if shard is None:
                continue
            station = _Station(self._queues, self._models, assignment, self._timeout_s)
            try:
                self._workbench.work(shard, station)
            except BaseException as death:  # whatever it is, the job hears of it and the thread goes on
                cause = str(death) if isinstance(death, _WorkerDied) else f"raised {type(death).__name__}"
                self._queues.deliver(assignment, Died(cause))


@dataclass(frozen=True)
class _Station:
    """See workbench.Station: one shard in a thread."""

    queues: Queues
    models: ModelStates
    assignment: Assignment
    timeout_s: float

    def say(self, said: Said) -> None:
        if isinstance(said, Finished):
            self.models.note(said)
        self.queues.deliver(self.assignment, said)

    def is_cancelled(self) -> bool:
        return self.assignment.is_cancelled

    def crash(self) -> None:
        raise _WorkerDied("was ended by an injected fault")

    def hang(self) -> None:
        until_s = time.monotonic() + self.timeout_s
        while time.monotonic() < until_s:
            if self.is_cancelled():
                return
            time.sleep(_LOOK_INTERVAL_S)
        raise _WorkerDied(f"gave no sign of life for {self.timeout_s:g} s")
