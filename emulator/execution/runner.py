"""Runs one job: reads its input, has its videos predicted, writes its files, finishes its row.

What is recorded in the database is done, whatever happens to the server: a runner that takes a job over
skips it. A video's file is written first and recorded second; files that nobody recorded are removed.
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

from emulator.database import DATABASE_OUTAGES, UNKNOWN_TOTAL, Database, JobRow, ShardRow
from emulator.execution.channel import Finished, Fired, Refused
from emulator.execution.inputs import InputError, JobInput, Problem, Spool
from emulator.execution.output import ERRORS_FILE, OutputDirectory, output_directory, predictions_file
from emulator.execution.shards import Failed, ModelUse, Predicted, Shard, ShardItem, storage_code
from emulator.execution.slow_store import SlowStore
from emulator.execution.workers import Died, Event, WorkerPool
from emulator.instructions.faults import JobFault, load_faults
from emulator.instructions.pace import parse_pace
from emulator.storage import GcsUri, InvalidUri, ObjectStore, StorageError
from emulator.vertex import contract, errors
from emulator.vertex.job_state import JobState
from emulator.vertex.parameters import ModelParameters, Objective, parse_parameters
from emulator.vertex.predictions import error_line

log = logging.getLogger(__name__)

# Vertex: never more than 20 entries (batch_prediction_job.proto, partial_failures).
_MAX_PARTIAL_FAILURES = 20
_PUBLISH_INTERVAL_S = 0.2
# How often a held job looks whether another server has released it; this one wakes it.
_LOOK_INTERVAL_S = 2.0
# With one poison instance in n a worker dies about log2(n) times until it is found.
_MAX_DEATHS_PER_VIDEO = 40


@dataclass(frozen=True)
class RunnerSettings:
    """How jobs are run, the same for all."""

    provider: str = "auto"
    threads: int = 0
    strict: bool = False


@dataclass(frozen=True)
class _Outcome:
    """How a job ends: its state, and the error's code and message if it has one."""

    state: JobState
    code: int = 0
    message: str = ""


# CANCELLING leads only to what the real service has.
_IF_CANCELLED_MEANWHILE = {
    JobState.PARTIALLY_SUCCEEDED: ((JobState.SUCCEEDED, 0, ""),),
    JobState.EXPIRED: ((JobState.CANCELLED, errors.Cancelled.code, "CANCELED"),),
}


class Stop(Enum):
    """Why a runner is told to stop: its job was cancelled, or is no longer its own."""

    CANCEL = "cancel"
    LET_GO = "let go"


class _Stopped(Exception):
    """The runner was told to stop."""


class _Expired(Exception):
    """The job's pace lets it expire."""


class _JobFailed(Exception):
    """The job as a whole cannot go on: a google.rpc code and a message that names cause and remedy."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class _Task:
    """Instances of one video that are predicted together."""

    video: int
    instances: Sequence[int]
    attempt: int = 1


@dataclass
class _Video:
    """A video under way: what is known of its instances."""

    waiting: set[int]
    tasks: int = 1
    deaths: int = 0
    lines: dict[int, int] = field(default_factory=dict)
    spool: Spool = field(default_factory=Spool)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class _Request:
    """What the job's document asks for."""

    uris: tuple[GcsUri, ...]
    prefix: GcsUri
    parameters: ModelParameters
    batch_size: int


class Runner:
    """Runs one job that was claimed for it. `run` blocks until the job is finished or taken away.

    `parked` says that the job's pace holds it, so that it uses nothing; `on_park` is called when that begins.
    """

    def __init__(
        self,
        job: JobRow,
        *,
        database: Database,
        store: ObjectStore,
        pool: WorkerPool,
        settings: RunnerSettings,
        on_park: Callable[[], None] = lambda: None,
    ) -> None:
        self.job = job
        self.parked = False
        self._on_park = on_park
        self.owner = job.owner or ""
        self._database = database
        self._faults = load_faults(job.faults)
        delay_s = sum(fault.delay_s for fault in self._faults if fault.kind == "slow-storage")
        self._store = SlowStore(store, delay_s) if delay_s else store
        self._pool = pool
        self._settings = settings
        self._model = ModelUse(Path(job.model_folder), settings.provider, settings.threads)
        self._stop: Stop | None = None
        self._let_go = False
        self._events: queue.SimpleQueue[tuple[_Task | None, Event] | None] = queue.SimpleQueue()
        self._input = JobInput()
        self._parameters = ModelParameters()
        self._batch_size = 0
        self._batches = ""
        self._output: OutputDirectory | None = None
        self._videos: dict[int, _Video] = {}
        self._recorded: list[ShardRow] = []
        self._files = 0
        self._counts = Counter[str]()
        self._provider = job.provider
        self._published_at = 0.0

    def stop(self, why: Stop) -> None:
        """Ask the runner to stop, from another thread. The first reason counts, but a cancelled job that is
        held can still be let go."""
        self._let_go = self._let_go or why is Stop.LET_GO
        self._stop = self._stop or why
        self.wake()

    def wake(self) -> None:
        """Have the runner look whether its job is still held, from another thread."""
        self._events.put(None)

    def run(self) -> None:
        """Run the job to its end. Never raises."""
        try:
            outcome = self._outcome()
            if outcome is not None:
                self._finish(outcome)
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
        """Do the work and say how it ended; None when the job is no longer this runner's.

        A database that cannot answer is no end of the job: what it raises goes on to the caller.
        """
        try:
            self._run()
            self._tidy()
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
        try:
            self._tidy()
        except (StorageError, InvalidUri, OSError) as error:
            log.warning("%s: %s", self.job.name, error)
        return outcome

    def _run(self) -> None:
        request = self._read_request()
        if self.job.state is JobState.CANCELLING and self.job.output_directory:
            self._look_back(request)
        self._check_stop()
        self._parameters = request.parameters
        self._batch_size = request.batch_size
        self._fire("slow-storage", "slow-model")
        store = self._store.interruptible(self._check_stop)
        self._input.read(store, request.uris, strict=self._settings.strict, check=self._check_stop)
        # Before there is an output to tidy: what was recorded is what is kept of it.
        self._resume()
        self._open_output(store, request.prefix)
        self._publish()
        self._note("input", self._input.summary)  # who waits for the counts hears of it by this
        self._keep_pace()
        for fault in self._fire("fail-job"):
            message = fault.message or "The job fails because a fault was asked for."
            raise _JobFailed(fault.code or errors.Internal.code, message)
        self._predict()

    def _keep_pace(self) -> None:
        """Go through the stages of the job's pace, waiting as long as it is held in one."""
        if self._hold(lambda: self._stop is not None):
            self._check_stop()
        if self._end() is JobState.EXPIRED:
            raise _Expired

    def _is_released(self) -> bool:
        """Wait until the pace lets a cancelled job go on; False when it is let go of first."""
        try:
            return not self._hold(lambda: self._let_go)
        except _Stopped:
            return False

    def _hold(self, given_up: Callable[[], bool]) -> bool:
        """Wait until no hold keeps the job; True when `given_up` came first."""
        try:
            while not given_up():
                row = self._database.get_job(self.job.id)
                paced = row is not None and (row.pace or row.state is not JobState.RUNNING)
                if row is not None and paced and not row.held(self._database.now()):
                    row = self._database.pass_stages(self.job.id, self.owner)
                if row is None or row.owner != self.owner:
                    self._must_own(False)
                elif row.state is JobState.CANCELLING and self._stop is None:
                    self._park(row)  # until the dispatcher passes it on
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
        """How the job's pace wants it to end, as it is now: it may have been given another one."""
        row = self._database.get_job(self.job.id)
        return parse_pace(row.pace).end if row is not None else None

    def _fire(self, *kinds: str, instance: int | None = None) -> list[JobFault]:
        """The job's faults of these kinds (and on that instance, from 0), counted as happening now."""
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
        if self.job.output_directory:
            self._output = OutputDirectory(store, GcsUri.parse_prefix(self.job.output_directory))
        else:
            self._output = output_directory(
                store, prefix, self.job.model_display_name, self.job.create_time_us
            )
        # Named before it is tried: a job that fails at output says where (recorded batch traffic).
        self._must_own(self._database.start_output(self.job.id, self.owner, self._output.uri))
        store.check_writable(self._output.prefix)

    def _look_back(self, request: _Request) -> None:
        """Learn what a runner whose server died has done of a job that is to end as cancelled."""
        store = self._store.interruptible(self._check_let_go)
        try:
            self._input.read(store, request.uris, strict=self._settings.strict, check=self._check_let_go)
            self._resume()
            self._output = OutputDirectory(store, GcsUri.parse_prefix(self.job.output_directory or ""))
        except (StorageError, InvalidUri, InputError, OSError, _JobFailed) as error:
            log.warning("%s: what it had done by then cannot be told: %s", self.job.name, error)

    def _resume(self) -> None:
        """Take over what an earlier runner of this job recorded. Raises _JobFailed: its input is another."""
        recorded = self._database.shards(self.job.id)
        counts = (self.job.successful, self.job.failed, self.job.incomplete)
        if recorded and self.job.incomplete != UNKNOWN_TOTAL and sum(counts) != len(self._input):
            self._input.complete = False  # it tells nothing of this job
            raise _JobFailed(
                errors.FailedPrecondition.code,
                f"The input has changed since the job began: it had {sum(counts)} instances, and has"
                f" {len(self._input)} now, so what was predicted does not fit it. Create the job again.",
            )
        self._recorded = recorded
        self._counts["failed"] = len(self._input.problems)
        for shard in self._recorded:
            self._counts["successful"] += shard.successful
            self._counts["failed"] += shard.failed
            self._files += shard.file_number is not None

    def _predict(self) -> None:
        done = {shard.index for shard in self._recorded}
        tasks = [
            _Task(index, instances)
            for index, (content, instances) in enumerate(self._input.videos)
            if index not in done and not self._is_made_unreadable(index, content)
        ]
        left = len(tasks)
        lane = self._pool.lane(self._build, lambda task, event: self._events.put((task, event)))
        try:
            lane.add(tasks)
            while left:
                event = self._next_event()
                if event is not None:
                    task, happened = event
                    retries = self._handle(task, happened)
                    lane.add(retries)
                    left -= task is not None and self._complete(task.video)
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
        """The next event, or None when the wait was cut short to publish the counts or to stop."""
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
        )

    def _handle(self, task: _Task | None, event: Event) -> list[_Task]:
        """Note what happened; returns the work to be done again."""
        if isinstance(event, Refused):
            raise _JobFailed(event.code, event.message)
        if task is None:
            return []
        video = self._video(task.video)
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
            video.tasks -= 1
        elif isinstance(event, Fired):
            self._account(event.plan, "the worker is made to fail")
        elif isinstance(event, Died):
            self._note("worker", f"it {event.cause}")
            retries = self._after_death(task, video, event.cause)
            video.tasks += len(retries) - 1
            return retries
        return []

    def _spoilt(self, event: Predicted | Failed) -> Predicted | Failed:
        for fault in self._fire("fail-instance", instance=event.instance):
            message = fault.message or "The instance fails because a fault was asked for."
            return Failed(event.instance, fault.code or errors.Internal.code, message)
        return event

    def _after_death(self, task: _Task, video: _Video, cause: str) -> list[_Task]:
        """What to do about a task whose worker died: again as it is, then in halves, until the instance
        that kills its worker stands alone."""
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

    def _video(self, index: int) -> _Video:
        if index not in self._videos:
            self._videos[index] = _Video(set(self._input.videos[index][1]))
        return self._videos[index]

    def _complete(self, index: int) -> bool:
        """Write and record a video that has nothing outstanding; False when it has."""
        video = self._videos.get(index)
        if video is None or video.tasks:
            return False
        assert self._output is not None
        assert not video.waiting, "a worker finished without an answer for each instance"
        number = None
        if video.lines:
            self._refuse_output()
            number = self._files = self._files + 1
            lines = (video.spool.get(line) for _, line in sorted(video.lines.items()))
            self._output.write_predictions(number, lines)
        found = [[problem.instance, problem.code, problem.message] for problem in video.problems]
        shard = ShardRow(index, number, len(video.lines), len(found), json.dumps(found))
        note = f"{self._input.videos[index][0]}: {shard.successful} predicted, {shard.failed} failed"
        if number is not None:
            note += f", in {predictions_file(number)}"
        self._must_own(self._database.record_shard(self.job.id, self.owner, shard, note))
        self._recorded.append(shard)
        self._videos.pop(index).spool.close()
        return True

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
        """How a job ended whose instances have all been tried."""
        assert self._output is not None
        if self._counts["successful"]:
            partially = self._end() is JobState.PARTIALLY_SUCCEEDED
            return _Outcome(JobState.PARTIALLY_SUCCEEDED if partially else JobState.SUCCEEDED)
        problems = self._problems()
        codes = {problem.code for problem in problems}
        message = (
            f"None of the {len(problems)} instances could be predicted. The first,"
            f" {self._input.origin(problems[0].instance)}, failed with: {problems[0].message}"
            f" All of them are in {self._output.uri}/{ERRORS_FILE}."
        )
        return _Outcome(
            JobState.FAILED, codes.pop() if len(codes) == 1 else errors.InvalidArgument.code, message
        )

    def _finish(self, outcome: _Outcome) -> None:
        problems = self._problems()
        successful = sum(shard.successful for shard in self._recorded)
        counted = self._input.complete
        ends = [
            (outcome.state, outcome.code, outcome.message),
            *_IF_CANCELLED_MEANWHILE.get(outcome.state, ()),
        ]
        finished = any(
            self._database.finish_job(
                self.job.id,
                self.owner,
                state,
                error=_status(code, message) if code else None,
                partial_failures=self._partial_failures(problems) if counted else (),
                successful=successful if counted else None,
                failed=len(problems) if counted else None,
                incomplete=len(self._input) - successful - len(problems) if counted else None,
            )
            for state, code, message in ends
        )
        if finished:
            log.info("%s %s %s", self.job.name, outcome.state.proto_name, outcome.message)
        else:
            log.warning("%s is no longer this server's; it is left alone.", self.job.name)

    def _tidy(self) -> None:
        """Write the errors file and remove what nobody recorded."""
        if self._output is None:
            return
        # A cancelled job tidies up, too: nothing interrupts that.
        output = replace(self._output, store=self._store)
        problems = self._problems()
        known = {predictions_file(shard.file_number) for shard in self._recorded if shard.file_number}
        if problems:
            known.add(ERRORS_FILE)
            raw = self._input.raw
            output.write_errors(
                f"{error_line(raw(problem.instance), problem.code, problem.message)}\n".encode()
                for problem in problems
            )
        output.remove_others(known)

    def _problems(self) -> list[Problem]:
        """Every failed instance that is recorded, in the order of the input."""
        found = list(self._input.problems)
        for shard in self._recorded:
            found.extend(Problem(*entry) for entry in json.loads(shard.errors))
        return sorted(found, key=lambda problem: problem.instance)

    def _partial_failures(self, problems: Iterable[Problem]) -> list[bytes]:
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
            )
        )

    def _must_own(self, owned: bool) -> None:
        if not owned:
            self._stop = Stop.LET_GO
            raise _Stopped

    def _check_stop(self) -> None:
        if self._stop is not None:
            raise _Stopped

    def _check_let_go(self) -> None:
        if self._let_go:
            raise _Stopped


def _job_status(error: Exception) -> tuple[int, str]:
    """The Status of a job that an exception ended."""
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


def _status(code: int, message: str) -> bytes:
    serialized: Any = contract.load().rpc.Status(code=code, message=message).SerializeToString()
    return bytes(serialized)
