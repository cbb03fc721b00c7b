"""Queries on jobs as clients see them: create, read, list, cancel, delete, count.

`leases.py` has what a runner does with a job, `holds.py` what its pace does.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Integer, bindparam, delete, func, or_, select, update

from emulator.database.job_queries import (
    CHANGE_TIME,
    JOB_COLUMNS,
    NO_HOLD,
    UNFINISHED,
    WAITING,
    inserting,
    read_job,
)
from emulator.database.prepared import Prepared, spelled_out
from emulator.database.rows import FilterRow, JobRow, NewJob
from emulator.database.schema import jobs, shards, steps
from emulator.database.steps import Steps
from emulator.instructions.pace import parse_pace
from emulator.vertex.job_state import TERMINAL, JobState, allowed

_INSERT_JOB = inserting(jobs, (*JobRow.__dataclass_fields__, "labels"))

ListPosition = tuple[int, int]
"""Where a page ended: create time and id of its last job."""

_FILTER_COLUMNS = [jobs.c[name] for name in FilterRow._fields]
_SCAN_CHUNK = 1000


class Jobs(Steps):
    """Batch prediction jobs."""

    def insert_job(self, job: NewJob) -> JobRow:
        """Add a job to be run; returns its row."""
        return self.insert_job_as(job.as_row(self.now()), job.labels, job.notes)

    def insert_job_as(
        self, row: JobRow, labels: Mapping[str, str], notes: Sequence[tuple[str, str]] = ()
    ) -> JobRow:
        """Add a job in any state, also a finished one; returns its row."""
        with self._write() as connection:
            _INSERT_JOB.run(connection, {**vars(row), "labels": dict(labels)})
            for step, text in (("state", row.state.proto_name), *notes):
                self._add_step(connection, row, step, text)
        return row

    def get_job(self, job_id: int) -> JobRow | None:
        """The job with that id, or None."""
        with self._read() as connection:
            return read_job(connection, job_id)

    def list_jobs(
        self,
        project: str,
        location: str,
        *,
        limit: int,
        matches: Callable[[FilterRow], bool] | None = None,
        after: ListPosition | None = None,
    ) -> list[JobRow]:
        """Up to `limit` jobs, newest first, from behind the position `after`, that `matches` accepts.

        `matches` gets the small columns only, so a filter over many jobs reads no documents.
        """
        with self._read() as connection:
            parent = project, location
            if matches is None:
                return [JobRow(*row) for row in _page(connection, _JOB_PAGES, parent, after, limit)]
            ids = _scan(connection, parent, after, limit, matches)
            found = connection.execute(select(*JOB_COLUMNS).where(jobs.c.id.in_(ids)))
            by_id = {job.id: job for job in (JobRow(*row) for row in found)}
            return [by_id[job_id] for job_id in ids if job_id in by_id]

    def delete_job(self, job_id: int) -> bool:
        """Remove a finished job; False if there is no such job or it has not finished."""
        with self._write() as connection:
            # Locked: a job that ends between two of these statements would leave its shards and steps behind.
            finished = select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.state.in_(TERMINAL))
            if connection.scalar(finished.with_for_update()) is None:
                return False
            # Explicit, because SQLite cascades only on connections that ask for it.
            connection.execute(delete(shards).where(shards.c.job_id == job_id))
            connection.execute(delete(steps).where(steps.c.job_id == job_id))
            return connection.execute(delete(jobs).where(jobs.c.id == job_id)).rowcount == 1

    def request_cancel(self, job_id: int) -> JobState | None:
        """Move a waiting job to CANCELLED, and a started job to CANCELLING.

        A job in any other state is left unchanged.

        Returns:
            The state before, or None if there is no such job.
        """
        time = self._change_time()
        with self._write() as connection:
            row = read_job(connection, job_id, lock=True)
            if row is None:
                return None
            to = JobState.CANCELLED if row.state in WAITING else JobState.CANCELLING
            if not allowed(row.state, to):
                return row.state
            changes: dict[str, Any] = {"state": to, "update_time_us": CHANGE_TIME, **NO_HOLD}
            if to is JobState.CANCELLED:
                changes["end_time_us"] = CHANGE_TIME
            else:
                reads, until = parse_pace(row.pace).cancelling.hold(self.now())
                changes |= {"hold_reads": reads, "hold_until_us": until}
            statement = update(jobs).where(jobs.c.id == job_id, jobs.c.state == row.state)
            if connection.execute(statement.values(changes), time).rowcount == 1:
                self._note(connection, job_id, "state", to.proto_name)
            return row.state

    def latest_job_us(self) -> int:
        """The create time of the newest job; 0 if there is none."""
        with self._read() as connection:
            return connection.scalar(select(func.max(jobs.c.create_time_us))) or 0

    def unfinished_jobs(self, project: str | None = None) -> list[JobRow]:
        """The jobs that have not ended, of one project or of all."""
        statement = select(*JOB_COLUMNS).where(jobs.c.state.in_(UNFINISHED))
        if project is not None:
            statement = statement.where(jobs.c.project == project)
        with self._read() as connection:
            return [JobRow(*row) for row in connection.execute(statement)]

    def has_paced_jobs(self) -> bool:
        """Whether any unfinished job has a pace."""
        paced = select(jobs.c.id).where(jobs.c.state.in_(UNFINISHED), jobs.c.pace != "").limit(1)
        with self._read() as connection:
            return connection.scalar(paced) is not None

    def count_jobs(self) -> dict[JobState, int]:
        """The number of jobs in each state."""
        statement = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        with self._read() as connection:
            return {row[0]: row[1] for row in connection.execute(statement)}

    def frames(self) -> list[tuple[str, int, int]]:
        """The unfinished jobs that have sampled frames: resource name, frames done, frames left."""
        columns = jobs.c.project, jobs.c.location, jobs.c.id, jobs.c.frames_done, jobs.c.frames_left
        active = jobs.c.state.in_(spelled_out([JobState.RUNNING, JobState.CANCELLING]))
        with self._read() as connection:
            found = connection.execute(select(*columns).where(active, jobs.c.frames_done > 0)).all()
        return [
            (f"projects/{project}/locations/{location}/batchPredictionJobs/{number}", done, left)
            for project, location, number, done, left in found
        ]

    def count_by_place(self) -> dict[tuple[str, str], int]:
        """The number of jobs in each project and location."""
        place = jobs.c.project, jobs.c.location
        with self._read() as connection:
            found = connection.execute(select(*place, func.count()).group_by(*place))
            return {(project, location): count for project, location, count in found}

    def folders_in_use(self) -> set[str]:
        """The model folders that unfinished jobs still need."""
        statement = select(jobs.c.model_folder).where(jobs.c.state.in_(UNFINISHED)).distinct()
        with self._read() as connection:
            return set(connection.scalars(statement))


def _page_statements(columns: Sequence[Column[Any]]) -> tuple[Prepared, Prepared]:
    """The first page of a parent's jobs, and a later page from behind a position."""
    of_parent = jobs.c.project == bindparam("project"), jobs.c.location == bindparam("location")
    after_time, after_id = bindparam("after_time", type_=BigInteger), bindparam("after_id", type_=BigInteger)
    first = select(*columns).where(*of_parent)
    # The first condition looks redundant. It lets the index skip to the position.
    later = first.where(
        jobs.c.create_time_us <= after_time,
        or_(jobs.c.create_time_us < after_time, jobs.c.id < after_id),
    )
    newest_first = jobs.c.create_time_us.desc(), jobs.c.id.desc()
    limit = bindparam("limit", type_=Integer)
    pages = (page.order_by(*newest_first).limit(limit) for page in (first, later))
    return Prepared(next(pages)), Prepared(next(pages))


_JOB_PAGES = _page_statements(JOB_COLUMNS)
_FILTER_PAGES = _page_statements(_FILTER_COLUMNS)


def _page(
    connection: Connection,
    pages: tuple[Prepared, Prepared],
    parent: tuple[str, str],
    after: ListPosition | None,
    limit: int,
) -> Sequence[Any]:
    parameters: dict[str, Any] = {"project": parent[0], "location": parent[1], "limit": limit}
    if after is None:
        return pages[0].all(connection, parameters)
    return pages[1].all(connection, {**parameters, "after_time": after[0], "after_id": after[1]})


def _scan(
    connection: Connection,
    parent: tuple[str, str],
    after: ListPosition | None,
    limit: int,
    matches: Callable[[FilterRow], bool],
) -> list[int]:
    """Ids of the first `limit` matching jobs, read in chunks so that an early end reads little."""
    ids: list[int] = []
    while True:
        rows = _page(connection, _FILTER_PAGES, parent, after, _SCAN_CHUNK)
        for row in map(FilterRow._make, rows):
            if matches(row):
                ids.append(row.id)
                if len(ids) == limit:
                    return ids
        if len(rows) < _SCAN_CHUNK:
            return ids
        after = row.create_time_us, row.id
