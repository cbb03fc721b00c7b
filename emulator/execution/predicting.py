"""Has a job's videos predicted by the executor, and records each video as soon as it is done.

If a worker dies, the instances that it leaves run again, then by halves, until one that kills its worker is
alone and fails.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from emulator.execution.claim import Claim
from emulator.execution.ending import JobFailed
from emulator.execution.executor import Alive, Died, Event, Executor, Finished, Fired, Refused, Waiting
from emulator.execution.injected_faults import InjectedFaults
from emulator.execution.inputs import JobInput
from emulator.execution.ledger import VideoOutcomes
from emulator.execution.progress import PUBLISH_INTERVAL_S, JobProgress, PredictionNotes
from emulator.execution.publishing import Publisher
from emulator.execution.shards import Failed, Predicted, Shard, ShardItem
from emulator.storage import GcsUri
from emulator.vertex import errors
from emulator.vertex.instances import InstanceFailure

log = logging.getLogger(__name__)

# With one poison instance among n, about log2(n) workers die until it is isolated.
_MAX_DEATHS_PER_VIDEO = 40
# Canned and cached predictions come faster than they are recorded. The bound keeps memory flat.
_MAX_WAITING_EVENTS = 1000
_ROOM_TIMEOUT_S = 0.5


@dataclass(frozen=True)
class Task:
    """Instances of one video that are predicted in one shard."""

    video: int
    instances: Sequence[int]
    attempt: int = 1

    @property
    def key(self) -> tuple[int, int]:
        """A key that no other unfinished task has."""
        return self.video, self.instances[0]


#: What happened to a task, or with None to the whole executor.
TaskEvent = tuple[Task | None, Event]


class Events:
    """What the executor's threads report to the runner's thread."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[TaskEvent | None, bool]] = queue.SimpleQueue()
        self._room = threading.Semaphore(_MAX_WAITING_EVENTS)
        self._is_bounded = True

    def put(self, event: TaskEvent) -> None:
        """Add an event. While too many wait, this slows its worker down; it never waits longer than 0.5 s."""
        self._queue.put((event, self._is_bounded and self._room.acquire(timeout=_ROOM_TIMEOUT_S)))

    def lift_bound(self) -> None:
        """Let no `put` wait any more, neither those that wait now nor later ones."""
        self._is_bounded = False
        self._room.release(_MAX_WAITING_EVENTS)

    def wake(self) -> None:
        """Let a `get` return at once."""
        self._queue.put((None, False))

    def get(self, timeout_s: float) -> TaskEvent | None:
        """The next event; None if there is none in that time, or if `wake` was called."""
        try:
            event, took_room = self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if took_room:
            self._room.release()
        return event


class _Video:
    """A video in progress: its instances' outcomes, its unfinished tasks, and the workers that died of it."""

    def __init__(self, instances: Sequence[int]) -> None:
        self.outcomes = VideoOutcomes(instances)
        self.tasks = 1
        self.deaths = 0


class Predicting:
    """The prediction of one job's videos. `run` blocks until every video is recorded.

    `events` gets what the executor's threads report. `shard` makes a shard from `video`, `items` and
    `attempt`. `on_begin` gets each video that a worker begins with: its index and URI.
    """

    def __init__(
        self,
        claim: Claim,
        events: Events,
        shard: Callable[..., Shard],
        *,
        job_input: JobInput,
        publisher: Publisher,
        faults: InjectedFaults,
        progress: JobProgress,
        on_begin: Callable[[int, str], None] = lambda _index, _video: None,
    ) -> None:
        self._claim = claim
        self._events = events
        self._shard = shard
        self._input = job_input
        self._publisher = publisher
        self._faults = faults
        self._progress = progress
        self._on_begin = on_begin
        self._notes = PredictionNotes(claim)
        self._videos: dict[int, _Video] = {}
        self._began_s: dict[int, float] = {}  # when a worker first got each video

    def run(self, executor: Executor) -> None:
        """Predict the videos that are not recorded yet.

        Raises:
            JobFailed: the model cannot be run, or no worker can be started.
            Stopped: the claim's check raised it.
            StorageError, InvalidUri, OSError: from the output.
        """
        try:
            self._predict(executor, self._first_tasks())
            self._notes.note_cache()
        finally:
            for video in self._videos.values():
                video.outcomes.close()

    def _first_tasks(self) -> list[Task]:
        return [
            Task(index, instances)
            for index, (content, instances) in enumerate(self._input.videos)
            if index not in self._publisher.ledger and not self._is_made_unreadable(index, content)
        ]

    def _is_made_unreadable(self, index: int, content: str) -> bool:
        """Whether a fault makes the video unreadable; if so, the video is recorded."""
        failure = self._faults.why_unreadable(content)
        if failure is None:
            return False
        video = self._video(index)
        video.tasks = 0
        for instance in sorted(video.outcomes.waiting):
            self._fail(video, instance, failure)
        self._complete(index)
        return True

    def _predict(self, executor: Executor, tasks: Sequence[Task]) -> None:
        self._progress.videos_left = len(tasks)
        job_queue = executor.open_queue(self._build, lambda task, event: self._events.put((task, event)))
        try:
            job_queue.add(tasks)
            while self._progress.videos_left:
                event = self._next_event()
                if event is not None:
                    task, happened = event
                    job_queue.add(self._handle(task, happened))
                    self._progress.videos_left -= task is not None and self._complete(task.video)
        finally:
            # The queue closes between two deliveries. One that waits for room would delay that.
            self._events.lift_bound()
            job_queue.close()

    def _build(self, task: Task) -> Shard:
        self._began_s.setdefault(task.video, time.monotonic())
        content, _ = self._input.videos[task.video]
        self._on_begin(task.video, content)
        items = tuple(
            ShardItem(instance, self._input.raw(instance), *self._input.segment(instance))
            for instance in task.instances
        )
        return self._shard(video=GcsUri.parse(content), items=items, attempt=task.attempt)

    def _next_event(self) -> TaskEvent | None:
        """The next event, or None if the wait ended early (to publish counts)."""
        event = self._events.get(PUBLISH_INTERVAL_S)
        self._claim.check()
        self._progress.publish_if_due()
        return event

    def _handle(self, task: Task | None, event: Event) -> Sequence[Task]:
        """Process an event; returns the tasks to run again."""
        if isinstance(event, Refused):
            raise JobFailed(event.code, event.message)
        if isinstance(event, Waiting):
            self._claim.note("worker", f"the job waits: {event.why}")
        if task is None:
            return []
        video = self._video(task.video)
        self._count_frames(task, event)
        if isinstance(event, Predicted | Failed):
            self._take(video, event)
        elif isinstance(event, Finished):
            self._notes.add(self._input.videos[task.video][0], event)
            video.tasks -= 1
        elif isinstance(event, Fired):
            self._faults.count(event.plan, "the worker is made to fail")
        elif isinstance(event, Died):
            self._claim.note("worker", f"it {event.cause}")
            retries = self._after_death(task, video, event.cause)
            video.tasks += len(retries) - 1
            return retries
        return []

    def _count_frames(self, task: Task, event: Event) -> None:
        frames = self._progress.frames
        if isinstance(event, Alive):
            frames.advance(task.key, event.frames, event.of)
        elif isinstance(event, Finished):
            frames.finish(task.key, event.frames)
        elif isinstance(event, Died):
            frames.abandon(task.key)

    def _take(self, video: _Video, outcome: Predicted | Failed) -> None:
        """Take the outcome of an instance, unless it has one from an earlier worker."""
        if outcome.instance not in video.outcomes.waiting:
            return
        outcome = self._faults.with_injected_failure(outcome)
        if isinstance(outcome, Predicted):
            video.outcomes.predicted(outcome.instance, outcome.line)
            self._progress.successful += 1
        else:
            self._fail(video, outcome.instance, outcome.failure)

    def _fail(self, video: _Video, instance: int, failure: InstanceFailure) -> None:
        video.outcomes.failed(instance, failure)
        self._progress.failed += 1

    def _after_death(self, task: Task, video: _Video, cause: str) -> Sequence[Task]:
        """The tasks that replace one whose worker died.

        First the same task again, then its halves, until the instance that kills its worker is alone.
        """
        video.deaths += 1
        waiting = [instance for instance in task.instances if instance in video.outcomes.waiting]
        log.warning("%s: a worker %s; %d instances are left.", self._claim.job.name, cause, len(waiting))
        if task.attempt == 1 and waiting:
            return [Task(task.video, waiting, 2)]
        if len(waiting) <= 1 or video.deaths >= _MAX_DEATHS_PER_VIDEO:
            message = (
                f"{self._input.videos[task.video][0]}: the worker process {cause} each time it worked on"
                " this instance. Try the video with another decoder, or encode it anew."
            )
            for instance in waiting:
                self._fail(video, instance, InstanceFailure(errors.Internal.code, message))
            return []
        middle = len(waiting) // 2
        return [Task(task.video, half, task.attempt + 1) for half in (waiting[:middle], waiting[middle:])]

    def _complete(self, index: int) -> bool:
        """Record a video if nothing of it is outstanding; False if tasks of the video are."""
        video = self._videos.get(index)
        if video is None or video.tasks:
            return False
        assert not video.outcomes.waiting, "a worker finished without an answer for each instance"
        if video.outcomes.successful:
            self._faults.refuse_output(self._publisher.uri)
        self._publisher.record(index, video.outcomes)
        if (began_s := self._began_s.pop(index, None)) is not None:
            self._claim.database.tell_recorded(time.monotonic() - began_s)
        self._videos.pop(index).outcomes.close()
        return True

    def _video(self, index: int) -> _Video:
        if index not in self._videos:
            self._videos[index] = _Video(self._input.videos[index][1])
        return self._videos[index]
