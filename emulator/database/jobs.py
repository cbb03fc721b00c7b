"""Queries on jobs: create, read, list, and the guarded changes of state.

A runner owns a job while its lease lasts. Everything a runner writes names its owner, so that one that
lost its lease (a machine that slept, a debugger) can no longer change anything.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    delete,
    insert,
    or_,
    select,
    update,
)

from emulator.database.connection import Connected
from emulator.database.rows import UNKNOWN_TOTAL, JobRow, NewJob, ShardRow
from emulator.database.schema import jobs, shards
from emulator.vertex.job_state import TERMINAL, JobState, sources

ListPosition = tuple[int, int]
"""Where a page ended: create time and id of its last job."""

_STARTED = (JobState.RUNNING, JobState.CANCELLING)
_JOB_COLUMNS = [jobs.c[name] for name in JobRow.__dataclass_fields__]
_FILTER_COLUMNS = [
    jobs.c[name] for name in ("id", "display_name", "model_display_name", "state", "labels", "create_time_us")
]
_SCAN_CHUNK = 1000
_SELECT_JOB = select(*_JOB_COLUMNS).where(jobs.c.id == bindparam("job_id"))


class Jobs(Connected):
    """Batch prediction jobs and their shards."""

    def insert_job(self, job: NewJob) -> None:
        """Add a PENDING job."""
        values = {name: getattr(job, name) for name in NewJob.__dataclass_fields__}
        values |= {
            "labels": dict(job.labels),
            "state": JobState.PENDING,
            "update_time_us": job.create_time_us,
            "successful": 0,
            "failed": 0,
            "incomplete": UNKNOWN_TOTAL,
            "partial_failures": (),
            "attempts": 0,
        }
        with self._write() as connection:
            connection.execute(insert(jobs).values(values))

    def get_job(self, job_id: int) -> JobRow | None:
        """The job of that id, or None."""
        with self._read() as connection:
            return _get(connection, job_id)

    def list_jobs(
        self,
        project: str,
        location: str,
        *,
        limit: int,
        matches: Callable[[Mapping[str, Any]], bool] | None = None,
        after: ListPosition | None = None,
    ) -> list[JobRow]:
        """Up to `limit` jobs, newest first, that come `after` a position and that `matches` accepts.

        `matches` sees the light columns only (see _FILTER_COLUMNS), so that a filter over many jobs reads
        no documents.
        """
        with self._read() as connection:
            if matches is None:
                page = _page(_JOB_COLUMNS, project, location, after, limit)
                return [JobRow(*row) for row in connection.execute(page)]
            ids = _scan(connection, project, location, after, limit, matches)
            found = connection.execute(select(*_JOB_COLUMNS).where(jobs.c.id.in_(ids)))
            by_id = {row.id: JobRow(*row) for row in found}
            return [by_id[job_id] for job_id in ids if job_id in by_id]

    def delete_job(self, job_id: int) -> bool:
        """Remove a finished job; False when there is none of that id, or it has not finished."""
        with self._write() as connection:
            # Explicit, because SQLite cascades only where the connection asks for it.
            finished = select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.state.in_(TERMINAL))
            connection.execute(delete(shards).where(shards.c.job_id.in_(finished)))
            statement = delete(jobs).where(jobs.c.id == job_id, jobs.c.state.in_(TERMINAL))
            return connection.execute(statement).rowcount == 1

    def request_cancel(self, job_id: int) -> JobState | None:
        """Move PENDING to CANCELLED and RUNNING to CANCELLING.

        Returns the state the job had before, or None when there is no such job; a job in any other state
        is left alone.
        """
        now = self.clock()
        cancelled = {"state": JobState.CANCELLED, "end_time_us": now, "update_time_us": now}
        cancelling = {"state": JobState.CANCELLING, "update_time_us": now}
        with self._write() as connection:
            for state, changes in ((JobState.PENDING, cancelled), (JobState.RUNNING, cancelling)):
                statement = update(jobs).where(jobs.c.id == job_id, jobs.c.state == state).values(changes)
                if connection.execute(statement).rowcount == 1:
                    return state
            return connection.scalar(select(jobs.c.state).where(jobs.c.id == job_id))

    def claim_job(self, owner: str, lease_us: int) -> JobRow | None:
        """Take the next job, or None when there is nothing to do.

        First comes a started job whose lease has run out or was released: it keeps its state and its start
        time. Then the oldest PENDING job, which becomes RUNNING. No two callers get the same job.
        """
        now = self.clock()
        orphaned = and_(jobs.c.state.in_(_STARTED), _lease_is_dead(now))
        with self._write() as connection:
            for claimable, changes in (
                (orphaned, {}),
                (jobs.c.state == JobState.PENDING, {"state": JobState.RUNNING, "start_time_us": now}),
            ):
                oldest = (
                    select(jobs.c.id)
                    .where(claimable)
                    .order_by(jobs.c.create_time_us, jobs.c.id)
                    .limit(1)
                    .with_for_update(skip_locked=True)
                )
                job_id = connection.scalar(oldest)
                if job_id is None:
                    continue
                claim = update(jobs).where(jobs.c.id == job_id, claimable)
                claim = claim.values(
                    **changes,
                    owner=owner,
                    lease_expires_us=now + lease_us,
                    attempts=jobs.c.attempts + 1,
                    update_time_us=now,
                )
                if connection.execute(claim).rowcount == 1:
                    return _get(connection, job_id)
        return None

    def heartbeat(self, owner: str, lease_us: int) -> dict[int, JobState]:
        """Renew all leases of this owner; the states of its jobs, by id (CANCELLING among them)."""
        owned = and_(jobs.c.owner == owner, jobs.c.state.in_(_STARTED))
        with self._write() as connection:
            connection.execute(update(jobs).where(owned).values(lease_expires_us=self.clock() + lease_us))
            rows = connection.execute(select(jobs.c.id, jobs.c.state).where(owned))
            return {row.id: row.state for row in rows}

    def release(self, owner: str) -> int:
        """Hand back every job of this owner, so that the next claim takes it; how many there were."""
        owned = and_(jobs.c.owner == owner, jobs.c.state.in_(_STARTED))
        with self._write() as connection:
            statement = update(jobs).where(owned).values(owner=None, lease_expires_us=None)
            return connection.execute(statement).rowcount

    def start_output(self, job_id: int, owner: str, output_directory: str) -> bool:
        """Fix the job's output directory. False when the job is no longer this owner's."""
        return self._update_owned(job_id, owner, output_directory=output_directory)

    def set_provider(self, job_id: int, owner: str, provider: str) -> bool:
        """Note what really ran the model. False when the job is no longer this owner's."""
        return self._update_owned(job_id, owner, provider=provider)

    def set_progress(self, job_id: int, owner: str, *, successful: int, failed: int, incomplete: int) -> bool:
        """Publish the counts of instances. False when the job is no longer this owner's."""
        return self._update_owned(
            job_id, owner, successful=successful, failed=failed, incomplete=incomplete,
            update_time_us=self.clock(),
        )  # fmt: skip

    def record_shard(self, job_id: int, owner: str, shard: ShardRow) -> bool:
        """Keep a finished shard, in place of what the same index had. False when the job is no longer
        this owner's."""
        with self._write() as connection:
            held = select(jobs.c.id).where(_owned(job_id, owner)).with_for_update()
            if connection.scalar(held) is None:
                return False
            key = and_(shards.c.job_id == job_id, shards.c.index == shard.index)
            connection.execute(delete(shards).where(key))
            values = {name: getattr(shard, name) for name in ShardRow.__dataclass_fields__}
            connection.execute(insert(shards).values(job_id=job_id, **values))
            return True

    def shards(self, job_id: int) -> list[ShardRow]:
        """The finished shards of a job, by index."""
        columns = [shards.c[name] for name in ShardRow.__dataclass_fields__]
        statement = select(*columns).where(shards.c.job_id == job_id).order_by(shards.c.index)
        with self._read() as connection:
            return [ShardRow(**row) for row in connection.execute(statement).mappings()]

    def finish_job(
        self,
        job_id: int,
        owner: str,
        state: JobState,
        *,
        error: bytes | None = None,
        partial_failures: Sequence[bytes] = (),
        successful: int | None = None,
        failed: int | None = None,
        incomplete: int | None = None,
    ) -> bool:
        """Move a started job to a terminal state, with its final counts (None leaves a count as it is).

        False when the job is no longer this owner's, or cannot go from where it is to `state`: then
        nothing is changed. `error` and `partial_failures` are serialized Status messages.
        """
        counts = {"successful": successful, "failed": failed, "incomplete": incomplete}
        now = self.clock()
        with self._write() as connection:
            statement = update(jobs).where(_owned(job_id, owner), jobs.c.state.in_(sources(state)))
            statement = statement.values(
                state=state,
                error=error,
                partial_failures=tuple(partial_failures),
                end_time_us=now,
                update_time_us=now,
                owner=None,
                lease_expires_us=None,
                **{name: count for name, count in counts.items() if count is not None},
            )
            if connection.execute(statement).rowcount != 1:
                return False
            connection.execute(delete(shards).where(shards.c.job_id == job_id))
            return True

    def folders_in_use(self) -> set[str]:
        """The model folders that unfinished jobs will still read."""
        statement = select(jobs.c.model_folder).where(jobs.c.state.not_in(TERMINAL)).distinct()
        with self._read() as connection:
            return set(connection.scalars(statement))

    def _update_owned(self, job_id: int, owner: str, **values: Any) -> bool:
        with self._write() as connection:
            return connection.execute(update(jobs).where(_owned(job_id, owner)).values(values)).rowcount == 1


def _owned(job_id: int, owner: str) -> ColumnElement[bool]:
    return and_(jobs.c.id == job_id, jobs.c.owner == owner, jobs.c.state.in_(_STARTED))


def _lease_is_dead(now: int) -> ColumnElement[bool]:
    return or_(jobs.c.lease_expires_us.is_(None), jobs.c.lease_expires_us < now)


def _get(connection: Connection, job_id: int) -> JobRow | None:
    row = connection.execute(_SELECT_JOB, {"job_id": job_id}).one_or_none()
    return None if row is None else JobRow(*row)


def _page(
    columns: Sequence[Column[Any]], project: str, location: str, after: ListPosition | None, limit: int
) -> Select[Any]:
    statement = select(*columns).where(jobs.c.project == project, jobs.c.location == location)
    if after is not None:
        create_time_us, job_id = after
        # The first condition looks redundant; it is what lets the index skip to the position.
        statement = statement.where(
            jobs.c.create_time_us <= create_time_us,
            or_(jobs.c.create_time_us < create_time_us, jobs.c.id < job_id),
        )
    return statement.order_by(jobs.c.create_time_us.desc(), jobs.c.id.desc()).limit(limit)


def _scan(
    connection: Connection,
    project: str,
    location: str,
    after: ListPosition | None,
    limit: int,
    matches: Callable[[Mapping[str, Any]], bool],
) -> list[int]:
    """Ids of the first `limit` matching jobs, read in chunks so that an early end reads little."""
    ids: list[int] = []
    while True:
        page = _page(_FILTER_COLUMNS, project, location, after, _SCAN_CHUNK)
        rows = connection.execute(page).mappings().all()
        for row in rows:
            if matches(cast(Mapping[str, Any], row)):
                ids.append(row["id"])
                if len(ids) == limit:
                    return ids
        if len(rows) < _SCAN_CHUNK:
            return ids
        after = (rows[-1]["create_time_us"], rows[-1]["id"])
