"""JobService: the calls on batch prediction jobs.

Contract: job_service.proto, batch_prediction_job.proto, completion_stats.proto.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from emulator.database import FilterRow, JobRow, NewJob
from emulator.service.context import Call, Context, Reply, id_number, timestamp
from emulator.service.control import Faults, Paces
from emulator.service.fields import without_output_only
from emulator.service.job_request import JobRequest
from emulator.service.listing import Paging, masked
from emulator.service.model_registry import ModelRegistry
from emulator.service.operations import Operations
from emulator.vertex.errors import FailedPrecondition, InvalidArgument, NotFound
from emulator.vertex.job_state import TERMINAL, JobState
from emulator.vertex.listing import JOB_FILTER_FIELDS, mask_paths, parse_filter
from emulator.vertex.names import BatchPredictionJobName, LocationName, ModelName

_log = logging.getLogger(__name__)

_CANCELLED_CODE = 1
# The largest version number that the database column holds.
_LAST_VERSION = 2**31 - 1


class JobService:
    """The batch prediction calls of `google.cloud.aiplatform.v1.JobService`."""

    def __init__(
        self,
        context: Context,
        models: ModelRegistry,
        operations: Operations,
        paces: Paces,
        faults: Faults,
        on_created: Callable[[JobRow], None],
    ) -> None:
        self._context = context
        self._models = models
        self._operations = operations
        self._paces = paces
        self._faults = faults
        self._on_created = on_created

    def create_batch_prediction_job(self, request: Any, call: Call) -> Reply:
        """Check a job, store it as PENDING (or QUEUED, by its pace), and wake the dispatcher."""
        place = self._context.place(LocationName.parse(request.parent))
        preparation = JobRequest(self._context, self._models, place, call)
        job = preparation.prepare(request.batch_prediction_job)
        job = replace(job, pace=self._paces.of_new_job(job.project, call.instructions.pace))
        if self._context.tracing is not None:
            job = replace(job, notes=(*job.notes, *self._context.tracing.of_new_job()))
        row = self._context.database.insert_job(self._faults.equip(job, call.instructions.job_faults))
        if row.pace:
            self._paces.expect_holds()
        _log.info("%s created: %r with model %s", row.name, row.display_name, row.model_id)
        self._on_created(row)
        # The pace may hold the job for a time, which starts now.
        (self._context.on_change if row.pace else self._context.on_work)()
        return self._reply(row)

    def keep(self, parent: str, job: Any) -> JobRow:
        """Add a job that has ended elsewhere, unchanged, with the id of its name; nothing is run."""
        place = self._context.place(LocationName.parse(parent))
        name = BatchPredictionJobName.parse(job.name) if job.name else None
        number = id_number(name.batch_prediction_job) if name else self._context.new_id(place.project)
        model = ModelName.parse(job.model, field="model", lenient=True)
        known = next((row for row in self._models.list(place) if row.model_id == model.model), None)
        now = self._context.database.clock()
        created = job.create_time.ToMicroseconds() or now
        stats = job.completion_stats
        objective = known.versions[-1].objective if known else ""
        new = NewJob(
            id=number or self._context.new_id(place.project),
            project=place.project,
            location=place.location,
            display_name=job.display_name,
            model_id=model.model,
            model_version=_version(job.model_version_id),
            model_display_name=known.display_name if known else model.model,
            model_objective=objective,
            model_folder="",
            labels=dict(job.labels),
            document=without_output_only(job).SerializeToString(),
            create_time_us=created,
        )
        row = replace(
            new.as_row(now),
            state=JobState(job.state),
            update_time_us=job.update_time.ToMicroseconds() or created,
            start_time_us=job.start_time.ToMicroseconds() or created,
            end_time_us=job.end_time.ToMicroseconds() or created,
            successful=stats.successful_count,
            failed=stats.failed_count,
            incomplete=stats.incomplete_count,
            output_directory=job.output_info.gcs_output_directory or None,
            error=job.error.SerializeToString() if job.HasField("error") else None,
            partial_failures=tuple(failure.SerializeToString() for failure in job.partial_failures),
        )
        return self._context.database.insert_job_as(row, new.labels)

    def get_batch_prediction_job(self, request: Any, call: Call) -> Reply:
        """Read one job. Depending on its pace, the call waits until the job has moved on."""
        return self._reply(self._paces.read(self._named(request.name), call))

    def list_batch_prediction_jobs(self, request: Any, _call: Call) -> Reply:
        """List a page of jobs, newest first."""
        place = self._context.place(LocationName.parse(request.parent))
        paging = Paging.of(request, str(place), request.filter)
        wanted = parse_filter(request.filter, JOB_FILTER_FIELDS)
        mask_paths(self._context.v1.BatchPredictionJob, request.read_mask.paths)
        rows = self._context.database.list_jobs(
            place.project,
            place.location,
            limit=paging.size + 1,
            matches=(lambda row: wanted.matches(_filter_row(row))) if request.filter.strip() else None,
            after=(int(paging.after[0]), int(paging.after[1])) if paging.after else None,
        )
        page = paging.cut(rows, lambda row: (row.create_time_us, row.id))
        response = self._context.v1.ListBatchPredictionJobsResponse(next_page_token=page.next_page_token)
        messages = (job_message(self._context, row) for row in page.rows)
        response.batch_prediction_jobs.extend(masked(messages, request))
        is_masked = any(path != "*" for path in request.read_mask.paths)
        return Reply(
            response, {} if is_masked else {"batchPredictionJobs": [_extras(row) for row in page.rows]}
        )

    def cancel_batch_prediction_job(self, request: Any, _call: Call) -> Any:
        """Cancel a job: a PENDING job at once, a running job when its runner notices."""
        row = self._named(request.name)
        state = self._context.database.request_cancel(row.id)
        if state is None:
            raise _not_found(row.name)
        if state in TERMINAL:
            raise FailedPrecondition(
                f"The BatchPredictionJob {row.name} is in state {state.proto_name}; only a job that has not"
                " finished can be cancelled."
            )
        self._context.on_change()
        _log.info("%s is cancelled: it was %s.", row.name, row.state.proto_name)
        return self._context.contract.protobuf.Empty()

    def delete_batch_prediction_job(self, request: Any, call: Call) -> Any:
        """Delete a finished job; its output files stay. The returned operation is done."""
        row = self._named(request.name)
        if not self._context.database.delete_job(row.id):
            state = self._row(row.id).state
            raise FailedPrecondition(
                f"The BatchPredictionJob {row.name} is in state {state.proto_name}; only a finished job can"
                " be deleted. Cancel it first."
            )
        _log.info("%s is deleted.", row.name)
        return self._operations.deleted(self._context.place(LocationName(row.project, row.location)), call)

    def _named(self, text: str) -> JobRow:
        name = BatchPredictionJobName.parse(text)
        place = self._context.place(name)
        number = id_number(name.batch_prediction_job)
        row = self._context.database.get_job(number) if number is not None else None
        if row is None or (row.project, row.location) != (place.project, place.location):
            raise _not_found(f"{place}/batchPredictionJobs/{name.batch_prediction_job}")
        return row

    def _row(self, job_id: int) -> JobRow:
        row = self._context.database.get_job(job_id)
        if row is None:
            raise _not_found(f"batchPredictionJobs/{job_id}")
        return row

    def _reply(self, row: JobRow) -> Reply:
        return Reply(job_message(self._context, row), _extras(row))


def _version(text: str) -> int:
    """The number of a model version, 1 if the text is empty. Raises InvalidArgument."""
    number = id_number(text or "1")
    if number is None or number > _LAST_VERSION:
        raise InvalidArgument(f"modelVersionId is {text[:80]!r}; it is a number up to {_LAST_VERSION}.")
    return number


def _extras(row: JobRow) -> dict[str, str]:
    # Vertex: members of the documentation's REST responses that the message lacks.
    return {"modelDisplayName": row.model_display_name, "modelObjective": row.model_objective}


def _filter_row(row: FilterRow) -> dict[str, object]:
    return {
        "display_name": row.display_name,
        "model_display_name": row.model_display_name,
        "state": row.state.proto_name,
        "create_time": row.create_time_us,
        "labels": row.labels,
    }


def job_message(context: Context, row: JobRow) -> Any:
    """The v1 BatchPredictionJob of a row: the request's message, updated with what has happened since."""
    job = context.v1.BatchPredictionJob.FromString(row.document)
    job.name = row.name
    job.state = row.state
    timestamp(job.create_time, row.create_time_us)
    timestamp(job.update_time, row.update_time_us)
    if row.start_time_us is not None:
        timestamp(job.start_time, row.start_time_us)
        # Vertex: a pending job has no version id (recorded AutoML output).
        job.model_version_id = str(row.model_version)
    if row.end_time_us is not None:
        timestamp(job.end_time, row.end_time_us)
    if row.output_directory:
        job.output_info.gcs_output_directory = row.output_directory
    if row.error:
        job.error.MergeFromString(row.error)
    elif row.state is JobState.CANCELLED:
        # Vertex: recorded error of a cancelled batch prediction job.
        job.error.code, job.error.message = _CANCELLED_CODE, "CANCELED"
    for failure in row.partial_failures:
        job.partial_failures.add().MergeFromString(failure)
    # Vertex: -1 while the number of instances is unknown (recorded AutoML output). A job that ends before
    # anything was counted has no statistics.
    if row.incomplete >= 0 or row.state not in TERMINAL:
        stats = job.completion_stats
        stats.successful_count, stats.failed_count = row.successful, row.failed
        stats.incomplete_count = row.incomplete
    return job


def _not_found(name: str) -> NotFound:
    # Vertex: "The <Resource> does not exist." The rest tells a developer which name was not found.
    return NotFound(f"The BatchPredictionJob does not exist. No {name}.")
