"""How a job ends: the end is decided and recorded before anything is done about it.

So whichever server owns the job next ends it in the same way.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from emulator.execution.claim import Claim
from emulator.execution.inputs import InputError, JobInput
from emulator.execution.output import ERRORS_FILE
from emulator.execution.publishing import Publisher
from emulator.execution.shards import storage_code
from emulator.storage import InvalidUri, StorageError
from emulator.vertex import contract, errors
from emulator.vertex.instances import InstanceFailure
from emulator.vertex.job_state import JobState

log = logging.getLogger(__name__)

# Vertex: never more than 20 entries (batch_prediction_job.proto, partial_failures).
_MAX_PARTIAL_FAILURES = 20


class JobFailed(Exception):
    """The job as a whole has failed: a google.rpc code and a message that names cause and remedy."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class JobOutcome:
    """How a job ends: its state, and the error's code and message if there is one."""

    state: JobState
    code: int = 0
    message: str = ""


@dataclass(frozen=True)
class Ending:
    """The decided end of a job.

    `message` is a v1 BatchPredictionJob with the final state, error, failures and counts. `errors` is the
    staged name of the errors file, or None.
    """

    message: Any
    errors: str | None


# CANCELLING leads only to states that the real service has.
_IF_CANCELLED_MEANWHILE = {
    JobState.PARTIALLY_SUCCEEDED: [JobOutcome(JobState.SUCCEEDED)],
    JobState.EXPIRED: [JobOutcome(JobState.CANCELLED, errors.Cancelled.code, "CANCELED")],
}


class Finalizer:
    """Ends one claimed job: decides how, records that, and then does it."""

    def __init__(self, claim: Claim, job_input: JobInput, publisher: Publisher) -> None:
        self._claim = claim
        self._database = claim.database
        self._input = job_input
        self._publisher = publisher

    def decided(self) -> Ending | None:
        """The end that an earlier runner decided, or None."""
        job = self._claim.job
        if job.ending is None:
            return None
        return Ending(contract.load().v1.BatchPredictionJob.FromString(job.ending), job.staged_errors)

    def nothing_predicted(self) -> JobOutcome:
        """How a job ends if each of its instances has failed."""
        failures = self._failures()
        codes = {failure.code for failure in failures.values()}
        file = f"{self._publisher.uri}/{ERRORS_FILE}"
        instance, failure = next(iter(failures.items()))
        first = f"{self._input.origin(instance)}, failed with: {failure.message}"
        if len(failures) == 1:
            message = f"The only instance, {first} It is in {file}."
        else:
            message = (
                f"None of the {len(failures)} instances could be predicted. The first, {first}"
                f" All of them are in {file}."
            )
        code = codes.pop() if len(codes) == 1 else errors.InvalidArgument.code
        return JobOutcome(JobState.FAILED, code, message)

    def decide(self, outcome: JobOutcome) -> Ending | None:
        """Record in the job's row how it ends; None if the runner has lost the job."""
        failures = self._failures()
        staged = None
        try:
            staged = self._stage_errors(failures)
        except (StorageError, InvalidUri, OSError) as error:
            log.warning("%s: %s", self._claim.job.name, error)
            if outcome.code == 0:
                outcome = failed_with(error)
        ending = Ending(self._message(outcome, failures), staged)
        # If everything is done and published, no decision is needed: finishing the row is one update.
        if (staged is None and self._publisher.is_all_recorded()) or self._record_ending(ending):
            return ending
        self._publisher.discard(staged)
        self._log_lost()
        return None

    def finish_as_decided(self, ending: Ending) -> None:
        """Publish the remaining files, remove leftovers, and finish the row.

        Raises:
            Stopped: the runner has lost the job.
        """
        if self._publisher.has_directory:
            try:
                self._publisher.publish_rest(ending.errors)
            except (StorageError, InvalidUri, OSError) as error:
                log.warning("%s: %s", self._claim.job.name, error)
                ending = self._without_output(ending, error)
        self._finish(ending.message)

    def _stage_errors(self, failures: Mapping[int, InstanceFailure]) -> str | None:
        if not self._publisher.has_directory or not failures or not self._input.complete:
            return None
        return self._publisher.stage_errors(failures)

    def _message(self, outcome: JobOutcome, failures: Mapping[int, InstanceFailure]) -> Any:
        """The final fields of the job, where they differ from the request."""
        message = contract.load().v1.BatchPredictionJob(state=int(outcome.state))
        if outcome.code:
            message.error.MergeFrom(_status(outcome.code, outcome.message))
        if self._input.complete:
            successful = self._publisher.ledger.successful
            message.partial_failures.extend(self._partial_failures(failures))
            message.completion_stats.successful_count = successful
            message.completion_stats.failed_count = len(failures)
            message.completion_stats.incomplete_count = len(self._input) - successful - len(failures)
        return message

    def _record_ending(self, ending: Ending) -> bool:
        """Record the end and the numbers of all files; False if the runner has lost the job."""
        return self._claim.change(
            self._database.decide_ending,
            ending.message.SerializeToString(),
            ending.errors,
            self._publisher.ledger.close(),
        )

    def _without_output(self, ending: Ending, error: Exception) -> Ending:
        """How the job ends if its files cannot be published."""
        if ending.message.state in (JobState.SUCCEEDED, JobState.PARTIALLY_SUCCEEDED):
            failed = failed_with(error)
            message = type(ending.message)()
            message.CopyFrom(ending.message)
            message.state = int(failed.state)
            message.error.MergeFrom(_status(failed.code, failed.message))
            ending = Ending(message, ending.errors)
            if not self._record_ending(ending):
                self._claim.give_up()
        return ending

    def _finish(self, message: Any) -> None:
        outcome = JobOutcome(JobState(message.state), message.error.code, message.error.message)
        ends = [outcome, *_IF_CANCELLED_MEANWHILE.get(outcome.state, ())]
        if any(self._finish_row(end, message) for end in ends):
            log.info("%s %s %s", self._claim.job.name, outcome.state.proto_name, outcome.message)
        else:
            self._log_lost()

    def _finish_row(self, end: JobOutcome, message: Any) -> bool:
        stats = message.completion_stats if message.HasField("completion_stats") else None
        return self._claim.change(
            self._database.finish_job,
            end.state,
            error=_status(end.code, end.message).SerializeToString() if end.code else None,
            partial_failures=[status.SerializeToString() for status in message.partial_failures],
            successful=stats.successful_count if stats else None,
            failed=stats.failed_count if stats else None,
            incomplete=stats.incomplete_count if stats else None,
        )

    def _log_lost(self) -> None:
        log.warning("%s is no longer this server's; it is left alone.", self._claim.job.name)

    def _failures(self) -> dict[int, InstanceFailure]:
        """Why instances failed, as far as that is recorded, by instance in input order."""
        return dict(sorted((self._input.failures | self._publisher.ledger.failures()).items()))

    def _partial_failures(self, failures: Mapping[int, InstanceFailure]) -> list[Any]:
        statuses = [
            _status(errors.InvalidArgument.code, f"{name} holds no instance; it was passed over.")
            for name in self._input.empty
        ]
        statuses += [
            _status(failure.code, f"{self._input.origin(instance)}: {failure.message}")
            for instance, failure in islice(failures.items(), _MAX_PARTIAL_FAILURES)
        ]
        return statuses[:_MAX_PARTIAL_FAILURES]


def failed_with(error: Exception) -> JobOutcome:
    """How a job ends that this exception ended."""
    return JobOutcome(JobState.FAILED, *_code_and_message(error))


def _code_and_message(error: Exception) -> tuple[int, str]:
    if isinstance(error, InputError | JobFailed):
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
