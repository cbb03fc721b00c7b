"""The queues of all jobs, from which the slots of an executor take their tasks.

Every executor has one `Queues`. It decides who is next, numbers what is under way, and delivers events by the
contract of `Executor.open_queue`: one ending for each task, and nothing after it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from emulator.execution.executor import Ending, Event, Refused
from emulator.execution.shards import Shard
from emulator.vertex import errors

log = logging.getLogger(__name__)

T = TypeVar("T")


class Queue(Generic[T]):
    """See JobQueue. `T` is the job's own type for a task."""

    def __init__(
        self, owner: Queues, build: Callable[[T], Shard], deliver: Callable[[T | None, Event], None]
    ) -> None:
        self._owner = owner
        self.build = build
        self.deliver = deliver
        # Held while an event is delivered, so that `close` can promise that none follows.
        self.delivering = threading.RLock()
        self.is_open = True
        # Guarded by the lock of `owner`.
        self.waiting: deque[T] = deque()
        self.running: list[Assignment] = []
        self.served_at = 0

    def add(self, tasks: Sequence[T]) -> None:
        """See JobQueue."""
        self._owner.add(self, tasks)

    def close(self) -> None:
        """See JobQueue."""
        self._owner.close(self)


@dataclass(eq=False)
class Assignment:
    """A task that a slot has taken.

    Attributes:
        ticket: number of the assignment, ascending. Late messages and cancellations are told by it.
        is_over: whether its ending has been delivered.
    """

    ticket: int
    queue: Queue[Any]
    task: Any
    is_over: bool = False

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody waits for it any more: the queue is closed, or the executor is stopped."""
        return not self.queue.is_open


class Queues:
    """All queues of an executor. Thread-safe."""

    def __init__(
        self,
        on_tasks: Callable[[], None] = lambda: None,
        on_cancel: Callable[[Sequence[Assignment]], None] = lambda _: None,
    ) -> None:
        """Begin without queues.

        Args:
            on_tasks: called after tasks were added, by the thread that added them.
            on_cancel: called with the assignments under way of a queue that was closed. A worker that asks
                `Assignment.is_cancelled` itself does not need it.
        """
        self._on_tasks, self._on_cancel = on_tasks, on_cancel
        # Guards every queue; notified when there are tasks. No callback is called with it.
        self._changed = threading.Condition()
        self._queues: list[Queue[Any]] = []
        self._tickets = 0
        self._stopped = False

    def open(self, build: Callable[[T], Shard], deliver: Callable[[T | None, Event], None]) -> Queue[T]:
        """Open a queue, see Executor.open_queue."""
        queue = Queue(self, build, deliver)
        with self._changed:
            queue.is_open = not self._stopped
            if queue.is_open:
                self._queues.append(queue)
        return queue

    def add(self, queue: Queue[T], tasks: Sequence[T]) -> None:
        """See JobQueue.add."""
        with self._changed:
            if not queue.is_open:
                return
            queue.waiting.extend(tasks)
            self._changed.notify_all()
        self._on_tasks()

    def close(self, queue: Queue[T]) -> None:
        """See JobQueue.close."""
        with queue.delivering:
            queue.is_open = False
        with self._changed:
            if queue not in self._queues:
                return
            self._queues.remove(queue)
            queue.waiting.clear()
            cancelled = list(queue.running)
        if cancelled:
            self._on_cancel(cancelled)

    def stop(self) -> None:
        """Close every queue, and let every `take` return None from now on."""
        with self._changed:
            self._stopped = True
            queues = list(self._queues)
            self._changed.notify_all()
        for queue in queues:
            self.close(queue)

    def take(self, timeout_s: float | None = 0.0) -> Assignment | None:
        """Take the next task for a free slot, from the job with the fewest running shards.

        Waits up to `timeout_s` for one; None waits until there is one. The caller sees to it that each
        assignment gets its ending by `deliver`.

        Returns:
            None if there is no task in that time, or the executor is stopped.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not self._stopped:
                if any(queue.waiting for queue in self._queues):
                    return self._next()
                left_s = None if until_s is None else until_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    return None
                self._changed.wait(left_s)
        return None

    def _next(self) -> Assignment:
        waiting = [queue for queue in self._queues if queue.waiting]
        queue = min(waiting, key=lambda queue: (len(queue.running), queue.served_at))
        self._tickets += 1
        queue.served_at = self._tickets
        assignment = Assignment(self._tickets, queue, queue.waiting.popleft())
        queue.running.append(assignment)
        return assignment

    def build(self, assignment: Assignment) -> Shard | None:
        """The shard of an assignment; None if it cannot be built: the job has been told then."""
        try:
            shard: Shard = assignment.queue.build(assignment.task)
        except Exception as error:
            self.refuse(assignment, error)
            return None
        return shard

    def refuse(self, assignment: Assignment, error: Exception) -> None:
        """Tell the job that its shard could not be built or handed to a worker."""
        if not (assignment.is_over or assignment.is_cancelled):
            log.error("A shard could not be handed to a worker.", exc_info=error)
        self.deliver(assignment, Refused(errors.Internal.code, f"{type(error).__name__}: {error}"))

    def deliver(self, assignment: Assignment, event: Event) -> None:
        """Deliver an event; the first ending counts, and what comes after it is dropped.

        Do not call it with a lock that `on_tasks` or `on_cancel` take: the job may close its queue meanwhile.
        """
        is_ending = isinstance(event, Ending)
        if is_ending and not self._end(assignment):
            return
        queue = assignment.queue
        with queue.delivering:
            if queue.is_open and (is_ending or not assignment.is_over):
                queue.deliver(assignment.task, event)

    def _end(self, assignment: Assignment) -> bool:
        """End an assignment; False if it has ended already."""
        with self._changed:
            if assignment.is_over:
                return False
            assignment.is_over = True
            assignment.queue.running.remove(assignment)
            return True

    def deliver_to_all(self, event: Refused) -> None:
        """Deliver an event that concerns every job, as when no worker can be started."""
        with self._changed:
            queues = list(self._queues)
        for queue in queues:
            with queue.delivering:
                if queue.is_open:
                    queue.deliver(None, event)
