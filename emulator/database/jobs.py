"""Queries on jobs: create, read, list, and the guarded changes of state.

A runner owns a job while its lease lasts. Everything a runner writes names its owner, so that one that
lost its lease (a machine that slept, a debugger) can no longer change anything.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Integer,
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
from emulator.database.rows import FilterRow, JobRow, NewJob, ShardRow
from emulator.database.schema import jobs, shards
from emulator.vertex.job_state import TERMINAL, JobState, sources

ListPosition = tuple[int, int]
"""Where a page ended: create time and id of its last job."""

_STARTED = (JobState.RUNNING, JobState.CANCELLING)
_UNFINISHED = (JobState.PENDING, *_STARTED)
_JOB_COLUMNS = [jobs.c[name] for name in JobRow.__dataclass_fields__]
_FILTER_COLUMNS = [jobs.c[name] for name in FilterRow._fields]
_SCAN_CHUNK = 1000
# What every request runs is built once: building a statement takes longer than running it.
_SELECT_JOB = select(*_JOB_COLUMNS).where(jobs.c.id == bindparam("job_id"))
_INSERT_JOB = insert(jobs)


class Jobs(Connected):
    """Batch prediction jobs and their shards."""

    def insert_job(self, job: NewJob) -> JobRow:
        """Add a PENDING job; the row that it has become."""
        row = job.as_row()
        values = {name: getattr(row, name) for name in JobRow.__dataclass_fields__}
        with self._write() as connection:
            connection.execute(_INSERT_JOB, {**values, "labels": dict(job.labels)})
        return row

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
        matches: Callable[[FilterRow], bool] | None = None,
        after: ListPosition | None = None,
    ) -> list[JobRow]:
        """Up to `limit` jobs, newest first, that come `after` a position and that `matches` accepts.

        `matches` sees the light columns only, so that a filter over many jobs reads no documents.
        """
        with self._read() as connection:
            parent = project, location
            if matches is None:
                return [JobRow(*row) for row in _page(connection, _JOB_PAGES, parent, after, limit)]
            ids = _scan(connection, parent, after, limit, matches)
            found = connection.execute(select(*_JOB_COLUMNS).where(jobs.c.id.in_(ids)))
            by_id = {job.id: job for job in (JobRow(*row) for row in found)}
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

    def heartbeat(
        self, owner: str, lease_us: int, job_ids: Collection[int] | None = None
    ) -> dict[int, JobState]:
        """Renew this owner's leases, all or those on `job_ids`; the states of these jobs, by id (CANCELLING
        among them)."""
        with self._write() as connection:
            states = _lock_owned(connection, owner)
            if job_ids is not None:
                states = {job_id: state for job_id, state in states.items() if job_id in job_ids}
            if states:
                renewed = {"lease_expires_us": self.clock() + lease_us}
                connection.execute(update(jobs).where(jobs.c.id.in_(states)).values(renewed))
            return states

    def release(self, owner: str) -> int:
        """Hand back every job of this owner, so that the next claim takes it; how many there were."""
        with self._write() as connection:
            states = _lock_owned(connection, owner)
            free = {"owner": None, "lease_expires_us": None}
            connection.execute(update(jobs).where(jobs.c.id.in_(states)).values(free))
            return len(states)

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
        statement = select(jobs.c.model_folder).where(jobs.c.state.in_(_UNFINISHED)).distinct()
        with self._read() as connection:
            return set(connection.scalars(statement))

    def _update_owned(self, job_id: int, owner: str, **values: Any) -> bool:
        with self._write() as connection:
            return connection.execute(update(jobs).where(_owned(job_id, owner)).values(values)).rowcount == 1


def _lock_owned(connection: Connection, owner: str) -> dict[int, JobState]:
    """The unfinished jobs of an owner and their states. Rows are locked in one order everywhere: two calls
    that locked them in different orders would wait for each other."""
    owned = select(jobs.c.id, jobs.c.state).where(jobs.c.owner == owner, jobs.c.state.in_(_STARTED))
    return {row.id: row.state for row in connection.execute(owned.order_by(jobs.c.id).with_for_update())}


def _owned(job_id: int, owner: str) -> ColumnElement[bool]:
    return and_(jobs.c.id == job_id, jobs.c.owner == owner, jobs.c.state.in_(_STARTED))


def _lease_is_dead(now: int) -> ColumnElement[bool]:
    return or_(jobs.c.lease_expires_us.is_(None), jobs.c.lease_expires_us < now)


def _get(connection: Connection, job_id: int) -> JobRow | None:
    row = connection.execute(_SELECT_JOB, {"job_id": job_id}).one_or_none()
    return None if row is None else JobRow(*row)


def _page_statements(columns: Sequence[Column[Any]]) -> tuple[Select[Any], Select[Any]]:
    """The first page of a parent's jobs, and the page after a position."""
    of_parent = jobs.c.project == bindparam("project"), jobs.c.location == bindparam("location")
    after_time, after_id = bindparam("after_time", type_=BigInteger), bindparam("after_id", type_=BigInteger)
    first = select(*columns).where(*of_parent)
    # The first condition looks redundant; it is what lets the index skip to the position.
    later = first.where(
        jobs.c.create_time_us <= after_time,
        or_(jobs.c.create_time_us < after_time, jobs.c.id < after_id),
    )
    newest_first = jobs.c.create_time_us.desc(), jobs.c.id.desc()
    limit = bindparam("limit", type_=Integer)
    return first.order_by(*newest_first).limit(limit), later.order_by(*newest_first).limit(limit)


_JOB_PAGES = _page_statements(_JOB_COLUMNS)
_FILTER_PAGES = _page_statements(_FILTER_COLUMNS)


def _page(
    connection: Connection,
    pages: tuple[Select[Any], Select[Any]],
    parent: tuple[str, str],
    after: ListPosition | None,
    limit: int,
) -> Sequence[Any]:
    parameters: dict[str, Any] = {"project": parent[0], "location": parent[1], "limit": limit}
    if after is None:
        return connection.execute(pages[0], parameters).all()
    return connection.execute(pages[1], {**parameters, "after_time": after[0], "after_id": after[1]}).all()


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
        for row in rows:
            if matches(FilterRow(*row)):
                ids.append(row[0])
                if len(ids) == limit:
                    return ids
        if len(rows) < _SCAN_CHUNK:
            return ids
        after = (rows[-1].create_time_us, rows[-1].id)
