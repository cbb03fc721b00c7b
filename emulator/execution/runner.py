"""Runs one job: reads its input, has its videos predicted, writes its files, finishes its row.

Results recorded in the database are final, also across server crashes: a runner that takes a job over skips
them. The lease is a fence: other programs never see anything that a runner does after it has lost its job.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from emulator.config import DecoderChoice
from emulator.database import DATABASE_OUTAGES, UNKNOWN_TOTAL, Database, JobRow
from emulator.execution.claim import Claim, Stop, Stopped
from emulator.execution.ending import Finalizer, JobFailed, JobOutcome, failed_with
from emulator.execution.executor import Executor
from emulator.execution.injected_faults import InjectedFaults
from emulator.execution.inputs import InputError, JobInput
from emulator.execution.owner import Lease
from emulator.execution.pacing import Expired, Pacing
from emulator.execution.predicting import Events, Predicting
from emulator.execution.progress import JobProgress
from emulator.execution.publishing import Publisher
from emulator.execution.shards import ModelUse, Shard
from emulator.inference.decoding import VideoOptions
from emulator.inference.model_files import ModelDigests
from emulator.inference.prediction_cache import CachePlace
from emulator.storage import GcsUri, InvalidUri, ObjectStore, StorageError
from emulator.vertex import contract, errors
from emulator.vertex.job_state import JobState
from emulator.vertex.objectives import Objective, parse_parameters
from emulator.vertex.parameters import ModelParameters

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunnerSettings:
    """Settings that all jobs share. `on_shard` gets each video that a worker begins with: job, index, URI."""

    provider: str = "auto"
    threads: int = 0
    strict: bool = False
    decoder: DecoderChoice = "auto"
    cache: CachePlace | None = None
    on_shard: Callable[[JobRow, int, str], None] = lambda _job, _index, _video: None


@dataclass(frozen=True)
class _Request:
    """The parsed parts of the job's document."""

    uris: tuple[GcsUri, ...]
    prefix: GcsUri
    parameters: ModelParameters
    batch_size: int


class Runner:
    """Runs one claimed job. `run` blocks until the job is finished or lost.

    A job that its pace holds is parked: it uses no resources. `on_park` is called each time that begins.
    """

    def __init__(
        self,
        job: JobRow,
        *,
        database: Database,
        store: ObjectStore,
        executor: Executor,
        settings: RunnerSettings,
        lease: Lease,
        digests: ModelDigests,
        on_park: Callable[[], None] = lambda: None,
    ) -> None:
        self.job = job
        self.lease = lease
        self._executor = executor
        self._settings = settings
        self._digests = digests
        self._events = Events()
        self._claim = Claim(job, database, lease)
        self._faults = InjectedFaults(self._claim)
        self._store = self._faults.slowed(store)
        self._pacing = Pacing(self._claim, self._sleep, on_park)
        self._input = JobInput()
        self._publisher = Publisher(self._claim, self._store, self._input)
        self._progress = JobProgress(self._claim)
        self._finalizer = Finalizer(self._claim, self._input, self._publisher)

    @property
    def owner(self) -> str:
        """The owner in the job's row."""
        return self._claim.owner

    @property
    def parked(self) -> bool:
        """Whether the job's pace holds it now."""
        return self._pacing.parked

    def stop(self, why: Stop) -> None:
        """Ask the runner to stop, from another thread."""
        self._claim.stop(why)
        self.wake()

    def wake(self) -> None:
        """Make the runner check whether its job is still held, from another thread."""
        self._events.wake()

    def run(self) -> None:
        """Run the job to its end. Never raises."""
        try:
            self._publisher.restore()
            ending = self._finalizer.decided()
            if ending is None and (outcome := self._outcome()) is not None:
                ending = self._finalizer.decide(outcome)
            if ending is not None:
                self._finalizer.finish_as_decided(ending)
        except Stopped:
            log.info("%s is let go.", self.job.name)
        except DATABASE_OUTAGES as error:
            log.error("%s is taken up again when its lease runs out: %s", self.job.name, error)
        except Exception:
            log.exception(
                "%s cannot be finished; it is taken up again when its lease runs out.", self.job.name
            )
        finally:
            self._input.close()

    def _outcome(self) -> JobOutcome | None:
        """Do the work; returns how it ended, or None if the runner has lost the job.

        A database outage does not end the job: the exception is passed on.
        """
        try:
            self._work()
            return self._conclusion()
        except Stopped:
            if self._claim.is_lost:
                log.info("%s is let go.", self.job.name)
                return None
            if not self._pacing.await_release():
                return None
            # Vertex: recorded error of a cancelled batch prediction job.
            return JobOutcome(JobState.CANCELLED, errors.Cancelled.code, "CANCELED")
        except DATABASE_OUTAGES:
            raise
        except Expired:
            return JobOutcome(JobState.EXPIRED, errors.DeadlineExceeded.code, "The job has expired.")
        except Exception as error:
            outcome = failed_with(error)
            if outcome.code == errors.Internal.code:
                log.error("%s failed.", self.job.name, exc_info=error)
            return outcome

    def _work(self) -> None:
        request = self._parse_request()
        self._publisher.find_files()
        if self.job.state is JobState.CANCELLING and self.job.output_directory:
            self._count_earlier_work(request)
        self._claim.check()
        self._faults.note_delays()
        self._read_input(request, self._claim.check)
        self._begin_counts()
        digest = self.job.model_digest or self._digests.get(Path(self.job.model_folder))
        self._publisher.open(request.prefix, input_digest=self._input.digest, model_digest=digest)
        self._progress.publish()
        self._claim.note("input", self._input.summary)  # wakes clients that wait for the counts
        self._pacing.keep()
        self._faults.fail_job()
        self._predict(request, digest)

    def _conclusion(self) -> JobOutcome:
        """How a job ends after all its instances have been tried."""
        if not self._progress.successful:
            return self._finalizer.nothing_predicted()
        partially = self._pacing.final_state() is JobState.PARTIALLY_SUCCEEDED
        return JobOutcome(JobState.PARTIALLY_SUCCEEDED if partially else JobState.SUCCEEDED)

    def _parse_request(self) -> _Request:
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

    def _count_earlier_work(self, request: _Request) -> None:
        """Read the input of a job that is to end as CANCELLED, so that what a dead server did is counted."""
        try:
            self._read_input(request, self._claim.check_lost)
        except (StorageError, InvalidUri, InputError, OSError, JobFailed) as error:
            log.warning("%s: what it had done by then cannot be told: %s", self.job.name, error)

    def _read_input(self, request: _Request, check: Callable[[], None]) -> None:
        """Read the input. Raises JobFailed if it differs from the one that the job began with."""
        store = self._store.interruptible(check)
        self._input.read(store, request.uris, strict=self._settings.strict, check=check)
        counts = (self.job.successful, self.job.failed, self.job.incomplete)
        counted = self.job.incomplete != UNKNOWN_TOTAL
        if counted and any(self._publisher.ledger) and sum(counts) != len(self._input):
            change = f"it had {sum(counts)} instances, and has {len(self._input)} now"
        elif self.job.input_digest not in ("", self._input.digest):
            change = "its lines are others now, or in another order"
        else:
            return
        self._input.complete = False  # its counts are not this job's
        raise JobFailed(
            errors.FailedPrecondition.code,
            f"The input has changed since the job began: {change}, so what was predicted does not fit it."
            " Create the job again.",
        )

    def _begin_counts(self) -> None:
        ledger, invalid = self._publisher.ledger, len(self._input.failures)
        self._progress.begin(len(self._input), successful=ledger.successful, failed=ledger.failed + invalid)

    def _predict(self, request: _Request, digest: str) -> None:
        settings = self._settings
        model = ModelUse(
            Path(self.job.model_folder),
            settings.provider,
            settings.threads,
            VideoOptions(settings.decoder, settings.strict),
            settings.cache,
        )
        shard = partial(
            Shard,
            job=self.job.name,
            model=model,
            store=self._store,
            parameters=request.parameters,
            faults=self._faults.all,
            batch_size=request.batch_size,
            model_digest=digest,
        )
        Predicting(
            self._claim,
            self._events,
            shard,
            job_input=self._input,
            publisher=self._publisher,
            faults=self._faults,
            progress=self._progress,
            on_begin=partial(settings.on_shard, self.job),
        ).run(self._executor)

    def _sleep(self, timeout_s: float) -> None:
        """Sleep until the runner is woken, that long at most."""
        self._events.get(timeout_s)
