"""Runs one job: reads its input, has its videos predicted, writes its files, finishes its row.

Results recorded in the database are final, also across server crashes: a runner that takes a job over skips
them. The lease is a fence: other programs never see anything that a runner does after it has lost its job.
Each change of a row names the owner, and each file is

1. staged under a unique name that no listing shows,
2. recorded, if the runner still owns the job, with the number that follows from the rows,
3. published, that is, renamed as the row says. The result is the same whichever server does it, and it
   happens once.

A runner records how its job ends before it acts on it, so the next owner ends the job in the same way.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import queue
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from emulator.config import DecoderChoice
from emulator.database import DATABASE_OUTAGES, UNKNOWN_TOTAL, Database, JobRow, ShardRow
from emulator.execution.channel import Alive, Finished, Fired, Refused
from emulator.execution.inputs import InputError, JobInput, Problem, Spool
from emulator.execution.ledger import Ledger
from emulator.execution.output import ERRORS_FILE, OutputDirectory, output_directory, predictions_file
from emulator.execution.owner import Lease, steady_s
from emulator.execution.shards import Failed, ModelUse, Predicted, Shard, ShardItem, storage_code
from emulator.execution.slow_store import SlowStore
from emulator.execution.workers import Died, Event, WorkerPool
from emulator.inference.decoding import Decoding, VideoOptions
from emulator.inference.model_files import ModelDigests
from emulator.inference.prediction_cache import CachePlace
from emulator.instructions.faults import JobFault, load_faults
from emulator.instructions.pace import parse_pace
from emulator.storage import GcsUri, InvalidUri, ObjectStore, StorageError
from emulator.vertex import contract, errors
from emulator.vertex.job_state import JobState
from emulator.vertex.objectives import Objective, parse_parameters
from emulator.vertex.parameters import ModelParameters
from emulator.vertex.predictions import error_line

log = logging.getLogger(__name__)

# Vertex: never more than 20 entries (batch_prediction_job.proto, partial_failures).
_MAX_PARTIAL_FAILURES = 20
_PUBLISH_INTERVAL_S = 0.2
# Interval at which a held job checks whether another server has released it. This server wakes it directly.
_LOOK_INTERVAL_S = 2.0
# With one poison instance among n, about log2(n) workers die until it is isolated.
_MAX_DEATHS_PER_VIDEO = 40


@dataclass(frozen=True)
class RunnerSettings:
    """Settings that all jobs share."""

    provider: str = "auto"
    threads: int = 0
    strict: bool = False
    decoder: DecoderChoice = "auto"
    cache: CachePlace | None = None


@dataclass(frozen=True)
class _Outcome:
    """How a job ends: its state, and the error's code and message if there is one."""

    state: JobState
    code: int = 0
    message: str = ""


@dataclass(frozen=True)
class _Ending:
    """The decided end of a job.

    `message` is a v1 BatchPredictionJob with the final state, error, failures and counts. `errors` is the
    staged name of the errors file, or None.
    """

    message: Any
    errors: str | None


# CANCELLING leads only to states that the real service has.
_IF_CANCELLED_MEANWHILE = {
    JobState.PARTIALLY_SUCCEEDED: [_Outcome(JobState.SUCCEEDED)],
    JobState.EXPIRED: [_Outcome(JobState.CANCELLED, errors.Cancelled.code, "CANCELED")],
}


class Stop(Enum):
    """Why a runner is told to stop: its job was cancelled, or the runner has lost it."""

    CANCEL = "cancel"
    LET_GO = "let go"


class _Stopped(Exception):
    """The runner was told to stop."""


class _Expired(Exception):
    """The job's pace ends it in EXPIRED."""


class _JobFailed(Exception):
    """The job as a whole has failed: a google.rpc code and a message that names cause and remedy."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class _Task:
    """Instances of one video that are predicted in one shard."""

    video: int
    instances: Sequence[int]
    attempt: int = 1


class _Frames:
    """The number of sampled frames of a job's videos, and an estimate of those left."""

    def __init__(self) -> None:
        self.done = 0
        self._known: list[int] = []  # of finished tasks
        self._running: dict[tuple[int, int], tuple[int, int | None]] = {}

    def advance(self, task: _Task, done: int, total: int | None) -> None:
        """Update the progress of a running task."""
        self.done += done - self._running.get(_key(task), (0, None))[0]
        self._running[_key(task)] = done, total

    def finish(self, task: _Task, done: int) -> None:
        """Mark a task as finished."""
        self.advance(task, done, done)
        self._known.append(done)
        del self._running[_key(task)]

    def abandon(self, task: _Task) -> None:
        """Forget the progress of a task that runs again."""
        done, _ = self._running.pop(_key(task), (0, None))
        self.done -= done

    def left(self, tasks: int) -> int:
        """Estimate the frames left in this many unfinished tasks.

        A waiting task is assumed to be as long as the mean of the known ones. Returns UNKNOWN_TOTAL while no
        length is known.
        """
        totals = [total for _, total in self._running.values() if total is not None]
        known = [*self._known, *totals]
        if tasks and not known:
            return UNKNOWN_TOTAL
        mean = sum(known) / len(known) if known else 0.0
        unknown = tasks - len(totals)
        under_way = sum(max(0, total - done) for done, total in self._running.values() if total is not None)
        return under_way + round(max(0, unknown) * mean)


def _key(task: _Task) -> tuple[int, int]:
    return task.video, task.instances[0]


@dataclass
class _Video:
    """A video in progress and the state of its instances."""

    waiting: set[int]
    tasks: int = 1
    deaths: int = 0
    lines: dict[int, int] = field(default_factory=dict)
    spool: Spool = field(default_factory=Spool)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class _Request:
    """The parsed parts of the job's document."""

    uris: tuple[GcsUri, ...]
    prefix: GcsUri
    parameters: ModelParameters
    batch_size: int


class Runner:
    """Runs one claimed job. `run` blocks until the job is finished or lost.

    `parked` is true while the job's pace holds it; a parked job uses no resources. `on_park` is called each
    time that begins.
    """

    def __init__(
        self,
        job: JobRow,
        *,
        database: Database,
        store: ObjectStore,
        pool: WorkerPool,
        settings: RunnerSettings,
        lease: Lease,
        digests: ModelDigests,
        on_park: Callable[[], None] = lambda: None,
    ) -> None:
        self.job = job
        self.lease = lease
        self.parked = False
        self._on_park = on_park
        self.owner = job.owner or ""
        self._database = database
        self._faults = load_faults(job.faults)
        delay_s = sum(fault.delay_s for fault in self._faults if fault.kind == "slow-storage")
        self._store = SlowStore(store, delay_s) if delay_s else store
        self._pool = pool
        self._settings = settings
        self._model = ModelUse(
            Path(job.model_folder),
            settings.provider,
            settings.threads,
            VideoOptions(settings.decoder, settings.strict),
            settings.cache,
        )
        self._model_digest = job.model_digest
        self._digests = digests
        self._stop: Stop | None = None
        self._let_go = False
        self._events: queue.SimpleQueue[tuple[_Task | None, Event] | None] = queue.SimpleQueue()
        self._input = JobInput()
        self._parameters = ModelParameters()
        self._batch_size = 0
        self._batches = self._decoder = ""
        self._kept = self._of = 0
        self._output: OutputDirectory | None = None
        self._videos: dict[int, _Video] = {}
        self._ledger = Ledger()
        self._published: set[str] = set()
        self._counts = Counter[str]()
        self._frames = _Frames()
        self._videos_left = 0
        self._provider = job.provider
        self._published_at = 0.0

    def stop(self, why: Stop) -> None:
        """Ask the runner to stop, from another thread.

        The first reason wins, but a cancelled job that is held can still be let go.
        """
        self._let_go = self._let_go or why is Stop.LET_GO
        self._stop = self._stop or why
        self.wake()

    def wake(self) -> None:
        """Make the runner check whether its job is still held, from another thread."""
        self._events.put(None)

    def run(self) -> None:
        """Run the job to its end. Never raises."""
        try:
            self._restore()
            ending = self._decided()
            if ending is None and (outcome := self._outcome()) is not None:
                ending = self._decide(outcome)
            if ending is not None:
                self._carry_out(ending)
        except _Stopped:
            log.info("%s is let go.", self.job.name)
        except DATABASE_OUTAGES as error:
            log.error("%s is taken up again when its lease runs out: %s", self.job.name, error)
        except Exception:
            log.exception(
                "%s cannot be finished; it is taken up again when its lease runs out.", self.job.name
            )
        finally:
            for video in self._videos.values():
                video.spool.close()
            self._input.close()

    def _outcome(self) -> _Outcome | None:
        """Do the work; returns how it ended, or None if the runner has lost the job.

        A database outage does not end the job: the exception is passed on.
        """
        try:
            self._run()
            return self._conclusion()
        except _Stopped:
            if self._stop is Stop.LET_GO:
                log.info("%s is let go.", self.job.name)
                return None
            if not self._is_released():
                return None
            # Vertex: recorded error of a cancelled batch prediction job.
            outcome = _Outcome(JobState.CANCELLED, errors.Cancelled.code, "CANCELED")
        except DATABASE_OUTAGES:
            raise
        except _Expired:
            outcome = _Outcome(JobState.EXPIRED, errors.DeadlineExceeded.code, "The job has expired.")
        except Exception as error:
            outcome = _Outcome(JobState.FAILED, *_job_status(error))
            if outcome.code == errors.Internal.code:
                log.error("%s failed.", self.job.name, exc_info=error)
        return outcome

    def _run(self) -> None:
        request = self._read_request()
        self._find_files()
        if self.job.state is JobState.CANCELLING and self.job.output_directory:
            self._look_back(request)
        self._check_stop()
        self._parameters = request.parameters
        self._batch_size = request.batch_size
        self._fire("slow-storage", "slow-model")
        store = self._store.interruptible(self._check_stop)
        self._input.read(store, request.uris, strict=self._settings.strict, check=self._check_stop)
        self._check_input()
        self._count_recorded()
        self._open_output(store, request.prefix)
        self._publish()
        self._note("input", self._input.summary)  # wakes clients that wait for the counts
        self._keep_pace()
        for fault in self._fire("fail-job"):
            message = fault.message or "The job fails because a fault was asked for."
            raise _JobFailed(fault.code or errors.Internal.code, message)
        self._predict()

    def _keep_pace(self) -> None:
        """Go through the stages of the job's pace, and wait while the job is held."""
        if self._hold(lambda: self._stop is not None):
            self._check_stop()
        if self._end() is JobState.EXPIRED:
            raise _Expired

    def _is_released(self) -> bool:
        """Wait until the pace releases a cancelled job; False if the runner is told to let it go first."""
        try:
            return not self._hold(lambda: self._let_go)
        except _Stopped:
            return False

    def _hold(self, given_up: Callable[[], bool]) -> bool:
        """Wait while the job is held; True if `given_up` became true first."""
        try:
            while not given_up():
                row = self._database.get_job(self.job.id)
                paced = row is not None and (row.pace or row.state is not JobState.RUNNING)
                if row is not None and paced and not row.held(self._database.now()):
                    row = self._database.pass_stages(self.job.id, self.owner)
                if row is None or row.owner != self.owner:
                    self._must_own(False)
                elif row.state is JobState.CANCELLING and self._stop is None:
                    self._park(row)  # until the dispatcher calls `stop`
                elif not row.held(self._database.now()):
                    return False
                else:
                    self._park(row)
            return True
        finally:
            self.parked = False

    def _park(self, row: JobRow) -> None:
        if not self.parked:
            self.parked = True
            log.info("%s is held in %s.", self.job.name, row.state.proto_name)
            self._on_park()
        left_s = ((row.hold_until_us or 2**63) - self._database.now()) / 1_000_000
        with contextlib.suppress(queue.Empty):
            self._events.get(timeout=min(max(left_s, 0.001), _LOOK_INTERVAL_S))

    def _end(self) -> JobState | None:
        """The final state that the job's pace sets, or None; read anew, because the pace may change."""
        row = self._database.get_job(self.job.id)
        return parse_pace(row.pace).end if row is not None else None

    def _fire(self, *kinds: str, instance: int | None = None) -> list[JobFault]:
        """The job's faults of these kinds (and of that 0-based instance); each is counted as fired."""
        found = [
            fault
            for fault in self._faults
            if fault.kind in kinds and (instance is None or fault.instance == instance + 1)
        ]
        for fault in found:
            self._account(fault.plan, f"{fault.kind}" + (f" {fault.message}" if fault.message else ""))
        return found

    def _account(self, plan: int | None, text: str) -> None:
        self._note("fault", text if plan is None else f"plan {plan}: {text}")
        if plan is not None:
            self._database.count_fired(plan)

    def _note(self, step: str, text: str) -> None:
        self._must_own(self._database.note_step(self.job.id, self.owner, step, text))

    def _read_request(self) -> _Request:
        document = contract.load().v1.BatchPredictionJob.FromString(self.job.document)
        violations = errors.Violations()
        objective = Objective[self.job.model_objective]
        parameters = parse_parameters(objective, document.model_parameters, violations)
        violations.raise_if_any()
        return _Request(
            tuple(GcsUri.parse(uri) for uri in document.input_config.gcs_source.uris),
            GcsUri.parse_prefix(document.output_config.gcs_destination.output_uri_prefix),
            parameters,
            max(0, document.manual_batch_tuning_parameters.batch_size),
        )

    def _open_output(self, store: ObjectStore, prefix: GcsUri) -> None:
        if self._output is not None:
            self._output = replace(self._output, store=store)
        else:
            self._output = output_directory(
                store, prefix, self.job.model_display_name, self.job.create_time_us, str(self.job.id)
            )
        self._model_digest = self._model_digest or self._digests.get(self._model.folder)
        # Recorded before it is tried: a job that fails on output still names its directory (recorded batch
        # traffic).
        self._must_own(
            self._database.start_output(
                self.job.id,
                self.owner,
                self._output.uri,
                input_digest=self._input.digest,
                model_digest=self._model_digest,
            )
        )
        store.check_writable(self._output.prefix)

    def _restore(self) -> None:
        """Load the progress that earlier runners of this job recorded."""
        if self.job.output_directory:
            prefix = GcsUri.parse_prefix(self.job.output_directory)
            self._output = OutputDirectory(self._store, prefix, str(self.job.id))
            self._ledger = Ledger(self._database.shards(self.job.id))

    def _find_files(self) -> None:
        """Publish files that earlier runners recorded but did not publish; schedule lost ones again."""
        if self._output is None or not any(self._ledger):
            return
        # In this order: another runner, stopped between its two calls, may publish in between.
        staged, published = self._output.staged(), self._output.files()
        recorded: list[ShardRow] = []
        lost: list[ShardRow] = []
        for shard in self._ledger:
            is_there = shard.file_number is not None and predictions_file(shard.file_number) in published
            is_kept = shard.staged is None or shard.staged in staged or is_there
            (recorded if is_kept else lost).append(shard)
        if lost:
            log.warning("%s: %d files are gone and are made again.", self.job.name, len(lost))
        self._ledger = Ledger(recorded, lost)
        self._publish_files(shard for shard in self._ledger.files() if shard.staged in staged)

    def _look_back(self, request: _Request) -> None:
        """Read what a dead server's runner has done of a job that is to end as CANCELLED."""
        store = self._store.interruptible(self._check_let_go)
        try:
            self._input.read(store, request.uris, strict=self._settings.strict, check=self._check_let_go)
            self._check_input()
        except (StorageError, InvalidUri, InputError, OSError, _JobFailed) as error:
            log.warning("%s: what it had done by then cannot be told: %s", self.job.name, error)

    def _check_input(self) -> None:
        """Raise _JobFailed if the input differs from the one that the job began with."""
        counts = (self.job.successful, self.job.failed, self.job.incomplete)
        counted = self.job.incomplete != UNKNOWN_TOTAL
        if counted and any(self._ledger) and sum(counts) != len(self._input):
            change = f"it had {sum(counts)} instances, and has {len(self._input)} now"
        elif self.job.input_digest not in ("", self._input.digest):
            change = "its lines are others now, or in another order"
        else:
            return
        self._input.complete = False  # its counts are not this job's
        raise _JobFailed(
            errors.FailedPrecondition.code,
            f"The input has changed since the job began: {change}, so what was predicted does not fit it."
            " Create the job again.",
        )

    def _count_recorded(self) -> None:
        self._counts["failed"] = len(self._input.problems)
        for shard in self._ledger:
            self._counts["successful"] += shard.successful
            self._counts["failed"] += shard.failed

    def _predict(self) -> None:
        tasks = [
            _Task(index, instances)
            for index, (content, instances) in enumerate(self._input.videos)
            if index not in self._ledger and not self._is_made_unreadable(index, content)
        ]
        self._videos_left = len(tasks)
        lane = self._pool.lane(self._build, lambda task, event: self._events.put((task, event)))
        try:
            lane.add(tasks)
            while self._videos_left:
                event = self._next_event()
                if event is not None:
                    task, happened = event
                    retries = self._handle(task, happened)
                    lane.add(retries)
                    self._videos_left -= task is not None and self._complete(task.video)
            self._note_cache()
        finally:
            lane.close()

    def _is_made_unreadable(self, index: int, content: str) -> bool:
        fault = next((fault for fault in self._faults if fault.hits_video(content)), None)
        if fault is None:
            return False
        self._account(fault.plan, f"unreadable-video {content}")
        video = self._video(index)
        video.tasks = 0
        message = f"{content}: it cannot be read as a video, because a fault was asked for."
        for instance in sorted(video.waiting):
            self._note_failure(video, Problem(instance, errors.InvalidArgument.code, message))
        self._complete(index)
        return True

    def _next_event(self) -> tuple[_Task | None, Event] | None:
        """The next event, or None if the wait ended early (to publish counts)."""
        try:
            event = self._events.get(timeout=_PUBLISH_INTERVAL_S)
        except queue.Empty:
            event = None
        self._check_stop()
        if time.monotonic() - self._published_at > _PUBLISH_INTERVAL_S:
            self._publish()
        return event

    def _build(self, task: _Task) -> Shard:
        content, _ = self._input.videos[task.video]
        items = tuple(
            ShardItem(instance, self._input.raw(instance), *self._input.segment(instance))
            for instance in task.instances
        )
        return Shard(
            job=self.job.name,
            model=self._model,
            video=GcsUri.parse(content),
            store=self._store,
            items=items,
            parameters=self._parameters,
            attempt=task.attempt,
            faults=self._faults,
            batch_size=self._batch_size,
            model_digest=self._model_digest,
        )

    def _handle(self, task: _Task | None, event: Event) -> list[_Task]:
        """Process an event; returns the tasks to run again."""
        if isinstance(event, Refused):
            raise _JobFailed(event.code, event.message)
        if task is None:
            return []
        video = self._video(task.video)
        self._count_frames(task, event)
        if isinstance(event, Predicted | Failed) and event.instance in video.waiting:
            event = self._spoilt(event)
        if isinstance(event, Predicted) and event.instance in video.waiting:
            video.waiting.remove(event.instance)
            video.lines[event.instance] = video.spool.add(event.line)
            self._counts["successful"] += 1
        elif isinstance(event, Failed) and event.instance in video.waiting:
            self._note_failure(video, Problem(event.instance, event.code, event.message))
        elif isinstance(event, Finished):
            self._note_provider(event.provider)
            self._note_batches(event.batches)
            self._note_decoding(self._input.videos[task.video][0], event.decoding)
            video.tasks -= 1
        elif isinstance(event, Fired):
            self._account(event.plan, "the worker is made to fail")
        elif isinstance(event, Died):
            self._note("worker", f"it {event.cause}")
            retries = self._after_death(task, video, event.cause)
            video.tasks += len(retries) - 1
            return retries
        return []

    def _count_frames(self, task: _Task, event: Event) -> None:
        if isinstance(event, Alive):
            self._frames.advance(task, event.frames, event.of)
        elif isinstance(event, Finished):
            self._frames.finish(task, event.frames)
        elif isinstance(event, Died):
            self._frames.abandon(task)

    def _spoilt(self, event: Predicted | Failed) -> Predicted | Failed:
        for fault in self._fire("fail-instance", instance=event.instance):
            message = fault.message or "The instance fails because a fault was asked for."
            return Failed(event.instance, fault.code or errors.Internal.code, message)
        return event

    def _after_death(self, task: _Task, video: _Video, cause: str) -> list[_Task]:
        """The tasks that replace one whose worker died.

        First the same task again, then its halves, until the instance that kills its worker is alone.
        """
        video.deaths += 1
        waiting = [instance for instance in task.instances if instance in video.waiting]
        log.warning("%s: a worker %s; %d instances are left.", self.job.name, cause, len(waiting))
        if task.attempt == 1 and waiting:
            return [_Task(task.video, waiting, 2)]
        if len(waiting) <= 1 or video.deaths >= _MAX_DEATHS_PER_VIDEO:
            for instance in waiting:
                message = (
                    f"{self._input.videos[task.video][0]}: the worker process {cause} each time it worked on"
                    " this instance. Try the video with another decoder, or encode it anew."
                )
                self._note_failure(video, Problem(instance, errors.Internal.code, message))
            return []
        middle = len(waiting) // 2
        halves = (waiting[:middle], waiting[middle:])
        return [_Task(task.video, half, task.attempt + 1) for half in halves]

    def _note_failure(self, video: _Video, problem: Problem) -> None:
        video.waiting.discard(problem.instance)
        video.problems.append(problem)
        self._counts["failed"] += 1

    def _note_provider(self, provider: str) -> None:
        if provider != self._provider:
            self._provider = provider
            self._must_own(self._database.set_provider(self.job.id, self.owner, provider))
            log.info("%s runs on %s.", self.job.name, provider)

    def _note_batches(self, batches: str) -> None:
        if batches != self._batches:
            self._batches = batches
            self._note("batches", batches)

    def _note_decoding(self, content: str, decoding: Decoding | None) -> None:
        """Record the decoder of the job's first video, each video with another decoder, and all warnings."""
        if decoding is None:
            return
        if not self._decoder:
            self._note("decoder", decoding.decoder)
        elif decoding.decoder != self._decoder:
            self._note("decoder", f"{content}: {decoding.decoder}")
        self._decoder = self._decoder or decoding.decoder
        for warning in decoding.warnings:
            self._note("warning", f"{content}: {warning}")
        self._kept += decoding.kept
        self._of += decoding.of

    def _note_cache(self) -> None:
        """Record how many grid points came from the prediction cache, if any did."""
        if self._kept:
            self._note("cache", f"{self._kept:,} of {self._of:,} grid points from the cache")

    def _video(self, index: int) -> _Video:
        if index not in self._videos:
            self._videos[index] = _Video(set(self._input.videos[index][1]))
        return self._videos[index]

    def _complete(self, index: int) -> bool:
        """Record a video if nothing of it is outstanding, and publish the files that are ready.

        Returns:
            False if tasks of the video are outstanding.
        """
        video = self._videos.get(index)
        if video is None or video.tasks:
            return False
        assert not video.waiting, "a worker finished without an answer for each instance"
        found = [[problem.instance, problem.code, problem.message] for problem in video.problems]
        staged = self._stage(video) if video.lines else None
        done = ShardRow(index, None, len(video.lines), len(found), json.dumps(found), staged)
        shard, numbered = self._ledger.add(done)
        note = f"{self._input.videos[index][0]}: {shard.successful} predicted, {shard.failed} failed"
        if shard.file_number is not None:
            note += f", in {predictions_file(shard.file_number)}"
        if not self._database.record_shard(self.job.id, self.owner, shard, note, numbered):
            self._discard(staged)
            self._must_own(False)
        self._publish_files([shard, *numbered])
        for later in numbered:
            file = predictions_file(later.file_number or 0)
            self._note("video", f"{self._input.videos[later.index][0]}: in {file}")
        self._videos.pop(index).spool.close()
        return True

    def _stage(self, video: _Video) -> str:
        assert self._output is not None
        self._refuse_output()
        return self._output.stage(video.spool.get(line) for _, line in sorted(video.lines.items()))

    def _discard(self, staged: str | None) -> None:
        if staged is not None and self._output is not None:
            # `self._output` may be bound to a check that raises once the runner is stopped; removal must work
            # anyway.
            replace(self._output, store=self._store).discard(staged)

    def _publish_files(self, shards: Iterable[ShardRow]) -> None:
        """Publish the files of those recorded shards that have a number."""
        assert self._output is not None
        for shard in shards:
            if shard.staged is not None and shard.file_number is not None:
                name = predictions_file(shard.file_number)
                self._output.publish(shard.staged, name)
                self._published.add(name)

    def _refuse_output(self) -> None:
        assert self._output is not None
        for fault in self._fire("fail-output"):
            # Vertex: recorded error of a batch prediction job whose output bucket was not writable.
            message = (
                f'The service account doesn\'t have sufficient permission "storage.objects.create" to write'
                f" {self._output.uri}. (A fault was asked for.)"
            )
            raise _JobFailed(fault.code or errors.PermissionDenied.code, fault.message or message)

    def _conclusion(self) -> _Outcome:
        """How a job ends after all its instances have been tried."""
        assert self._output is not None
        if self._counts["successful"]:
            partially = self._end() is JobState.PARTIALLY_SUCCEEDED
            return _Outcome(JobState.PARTIALLY_SUCCEEDED if partially else JobState.SUCCEEDED)
        problems = self._problems()
        codes = {problem.code for problem in problems}
        file = f"{self._output.uri}/{ERRORS_FILE}"
        first = f"{self._input.origin(problems[0].instance)}, failed with: {problems[0].message}"
        if len(problems) == 1:
            message = f"The only instance, {first} It is in {file}."
        else:
            message = (
                f"None of the {len(problems)} instances could be predicted. The first, {first}"
                f" All of them are in {file}."
            )
        return _Outcome(
            JobState.FAILED, codes.pop() if len(codes) == 1 else errors.InvalidArgument.code, message
        )

    def _decided(self) -> _Ending | None:
        """The end that an earlier runner decided, or None."""
        if self.job.ending is None:
            return None
        document = contract.load().v1.BatchPredictionJob.FromString(self.job.ending)
        return _Ending(document, self.job.staged_errors)

    def _decide(self, outcome: _Outcome) -> _Ending | None:
        """Record in the job's row how it ends; None if the runner has lost the job."""
        problems = self._problems()
        staged = None
        try:
            staged = self._stage_errors(problems)
        except (StorageError, InvalidUri, OSError) as error:
            log.warning("%s: %s", self.job.name, error)
            if outcome.code == 0:
                outcome = _Outcome(JobState.FAILED, *_job_status(error))
        ending = _Ending(self._ending_message(outcome, problems), staged)
        # If everything is done and published, no decision is needed: finishing the row is one update.
        if (staged is None and self._is_all_done()) or self._put_on_record(ending):
            return ending
        self._discard(staged)
        log.warning("%s is no longer this server's; it is left alone.", self.job.name)
        return None

    def _is_all_done(self) -> bool:
        return self._input.complete and all(index in self._ledger for index in range(len(self._input.videos)))

    def _stage_errors(self, problems: Sequence[Problem]) -> str | None:
        if self._output is None or not problems or not self._input.complete:
            return None
        raw = self._input.raw
        # Not interruptible: a cancelled job has an errors file, too.
        return replace(self._output, store=self._store).stage(
            f"{error_line(raw(problem.instance), problem.code, problem.message)}\n".encode()
            for problem in problems
        )

    def _ending_message(self, outcome: _Outcome, problems: Sequence[Problem]) -> Any:
        """The final fields of the job, where they differ from the request."""
        message = contract.load().v1.BatchPredictionJob(state=int(outcome.state))
        if outcome.code:
            message.error.MergeFrom(_status(outcome.code, outcome.message))
        if self._input.complete:
            successful = sum(shard.successful for shard in self._ledger)
            message.partial_failures.extend(self._partial_failures(problems))
            message.completion_stats.successful_count = successful
            message.completion_stats.failed_count = len(problems)
            message.completion_stats.incomplete_count = len(self._input) - successful - len(problems)
        return message

    def _put_on_record(self, ending: _Ending) -> bool:
        return self._database.decide_ending(
            self.job.id, self.owner, ending.message.SerializeToString(), ending.errors, self._ledger.close()
        )

    def _carry_out(self, ending: _Ending) -> None:
        """Publish the remaining files, remove leftovers, and finish the row."""
        if self._output is not None:
            self._output = replace(self._output, store=self._store)
            try:
                self._publish_rest(ending)
            except (StorageError, InvalidUri, OSError) as error:
                log.warning("%s: %s", self.job.name, error)
                ending = self._without_output(ending, error)
        self._finish(ending.message)

    def _publish_rest(self, ending: _Ending) -> None:
        assert self._output is not None
        known = {predictions_file(shard.file_number or 0) for shard in self._ledger.files()}
        if self.job.attempts > 1:
            self._published |= self._output.files()
        self._publish_files(
            shard
            for shard in self._ledger.files()
            if predictions_file(shard.file_number or 0) not in self._published
        )
        if ending.errors is not None:
            known.add(ERRORS_FILE)
            self._output.publish(ending.errors, ERRORS_FILE)
        self._output.remove_others(known, self._renew)
        # The first runner of a job leaves no leftovers while it lives.
        if self.job.attempts > 1:
            for staged in self._output.staged():
                self._output.discard(staged)

    def _without_output(self, ending: _Ending, error: Exception) -> _Ending:
        """How the job ends if its files cannot be published."""
        if ending.message.state in (JobState.SUCCEEDED, JobState.PARTIALLY_SUCCEEDED):
            message = type(ending.message)()
            message.CopyFrom(ending.message)
            message.state = int(JobState.FAILED)
            message.error.MergeFrom(_status(*_job_status(error)))
            ending = _Ending(message, ending.errors)
            self._must_own(self._put_on_record(ending))
        return ending

    def _finish(self, message: Any) -> None:
        stats = message.completion_stats if message.HasField("completion_stats") else None
        outcome = _Outcome(JobState(message.state), message.error.code, message.error.message)
        ends = [outcome, *_IF_CANCELLED_MEANWHILE.get(outcome.state, ())]
        finished = any(
            self._database.finish_job(
                self.job.id,
                self.owner,
                end.state,
                error=_status(end.code, end.message).SerializeToString() if end.code else None,
                partial_failures=[status.SerializeToString() for status in message.partial_failures],
                successful=stats.successful_count if stats else None,
                failed=stats.failed_count if stats else None,
                incomplete=stats.incomplete_count if stats else None,
            )
            for end in ends
        )
        if finished:
            log.info("%s %s %s", self.job.name, outcome.state.proto_name, outcome.message)
        else:
            log.warning("%s is no longer this server's; it is left alone.", self.job.name)

    def _problems(self) -> list[Problem]:
        """All failed instances that are recorded, in input order."""
        found = list(self._input.problems)
        for shard in self._ledger:
            found.extend(Problem(*entry) for entry in json.loads(shard.errors))
        return sorted(found, key=lambda problem: problem.instance)

    def _partial_failures(self, problems: Iterable[Problem]) -> list[Any]:
        statuses = [
            _status(errors.InvalidArgument.code, f"{name} holds no instance; it was passed over.")
            for name in self._input.empty
        ]
        for problem in problems:
            if len(statuses) >= _MAX_PARTIAL_FAILURES:
                break
            message = f"{self._input.origin(problem.instance)}: {problem.message}"
            statuses.append(_status(problem.code, message))
        return statuses[:_MAX_PARTIAL_FAILURES]

    def _publish(self) -> None:
        successful, failed = self._counts["successful"], self._counts["failed"]
        self._published_at = time.monotonic()
        self._must_own(
            self._database.set_progress(
                self.job.id,
                self.owner,
                successful=successful,
                failed=failed,
                incomplete=len(self._input) - successful - failed,
                frames_done=self._frames.done,
                frames_left=self._frames.left(self._videos_left),
            )
        )

    def _must_own(self, owned: bool) -> None:
        if not owned:
            self._stop = Stop.LET_GO
            raise _Stopped

    def _check_stop(self) -> None:
        if self._stop is not None:
            raise _Stopped
        if self.lease.has_run_out:
            self._renew()

    def _check_let_go(self) -> None:
        if self._let_go:
            raise _Stopped
        if self.lease.has_run_out:
            self._renew()

    def _renew(self) -> None:
        """Renew the lease now; if that fails, the runner has lost the job."""
        asked_s = steady_s()
        self._must_own(self.owner in self._database.heartbeat([self.owner], self.lease.length_us))
        self.lease.renew(asked_s)


def _job_status(error: Exception) -> tuple[int, str]:
    """The google.rpc code and message for an exception that ended a job."""
    if isinstance(error, InputError | _JobFailed):
        return error.code, str(error)
    if isinstance(error, errors.ApiError):
        return error.code, error.message
    if isinstance(error, InvalidUri):
        return errors.InvalidArgument.code, str(error)
    if isinstance(error, StorageError):
        return storage_code(error), str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = "The server's folder for temporary files is full; free some space or set TMPDIR."
        return errors.ResourceExhausted.code, message
    cause = f"{type(error).__name__}: {error}"
    return errors.Internal.code, f"The job failed with {cause}. This is a defect; see the server's log."


def _status(code: int, message: str) -> Any:
    return contract.load().rpc.Status(code=code, message=message)
