"""Queries on jobs: create, read, list, and the guarded changes of state.

A runner owns a job while its lease lasts. Every write of a runner names its owner. So a runner that lost its
lease (after a suspend, or in a debugger) can change nothing any more.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Integer,
    Row,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    not_,
    or_,
    select,
    update,
)

from emulator.database.connection import CHANGED, Connected, now_us
from emulator.database.prepared import Prepared, spelled_out
from emulator.database.rows import UNKNOWN_TOTAL, FilterRow, JobRow, NewJob, ShardRow, StepRow
from emulator.database.schema import jobs, notifications, shards, steps
from emulator.instructions.pace import FOREVER_US, Pace, parse_pace
from emulator.vertex.job_state import TERMINAL, JobState, allowed, sources

ListPosition = tuple[int, int]
"""Where a page ended: create time and id of its last job."""

# PAUSED and UPDATING come only with a pace. A runner owns the job in these states too.
_STARTED = (JobState.RUNNING, JobState.CANCELLING, JobState.PAUSED, JobState.UPDATING)
_WAITING = (JobState.QUEUED, JobState.PENDING)
_UNFINISHED = (*_WAITING, *_STARTED)
_NO_HOLD = {"hold_reads": None, "hold_until_us": None}
_JOB_COLUMNS = [jobs.c[name] for name in JobRow.__dataclass_fields__]
_STEP_COLUMNS = [steps.c[name] for name in StepRow.__dataclass_fields__]
_FILTER_COLUMNS = [jobs.c[name] for name in FilterRow._fields]
_SHARD_COLUMNS = [shards.c[name] for name in ShardRow.__dataclass_fields__]
_SCAN_CHUNK = 1000
#: At most this many videos of a job become steps. The counts and the output cover the others.
MAX_VIDEO_STEPS = 10_000

_IS_ITS_OWNERS = and_(
    jobs.c.id == bindparam("job_id"),
    jobs.c.owner == bindparam("its_owner"),
    jobs.c.state.in_(spelled_out(_STARTED)),
)
# The time of a change: the given one, or the time of the last change plus one tick.
_CHANGE_TIME = func.coalesce(
    bindparam("at", type_=BigInteger), jobs.c.update_time_us + bindparam("tick", type_=BigInteger)
)
_IS_FREE = and_(
    jobs.c.hold_reads.is_(None), or_(jobs.c.hold_until_us.is_(None), jobs.c.hold_until_us <= bindparam("now"))
)
_IS_ORPHANED = and_(
    jobs.c.state.in_(spelled_out(_STARTED)),
    or_(jobs.c.lease_expires_us.is_(None), jobs.c.lease_expires_us < bindparam("now")),
)
_IS_PENDING = and_(jobs.c.state.in_(spelled_out([JobState.PENDING])), _IS_FREE)


def _inserting(table: Table, names: Iterable[str]) -> Prepared:
    return Prepared(insert(table), list(names))


def _oldest(condition: ColumnElement[bool]) -> Prepared:
    """Select the oldest job that meets a condition: the next one to claim."""
    found = select(*_JOB_COLUMNS).where(condition).order_by(jobs.c.create_time_us, jobs.c.id).limit(1)
    return Prepared(found.with_for_update(skip_locked=True))


def _changing(**values: Any) -> Prepared:
    """An update that only the job's owner can make."""
    return Prepared(update(jobs).where(_IS_ITS_OWNERS).values(values))


def _finishing(state: JobState) -> Prepared:
    """The update to a final state. A count that is None stays unchanged."""
    counts: dict[str, Any] = {
        name: func.coalesce(bindparam(f"its_{name}"), jobs.c[name])
        for name in ("successful", "failed", "incomplete")
    }
    moved = update(jobs).where(_IS_ITS_OWNERS, jobs.c.state.in_(spelled_out(sources(state))))
    return Prepared(
        moved.values(
            state=state,
            error=bindparam("its_error"),
            partial_failures=bindparam("its_failures"),
            end_time_us=_CHANGE_TIME,
            update_time_us=_CHANGE_TIME,
            owner=None,
            lease_expires_us=None,
            ending=None,
            staged_errors=None,
            **_NO_HOLD,
            **counts,
        )
    )


_SELECT_JOB = Prepared(select(*_JOB_COLUMNS).where(jobs.c.id == bindparam("job_id")))
_LOCK_JOB = Prepared(select(*_JOB_COLUMNS).where(jobs.c.id == bindparam("job_id")).with_for_update())
_LOCK_OWN_JOB = Prepared(select(*_JOB_COLUMNS).where(_IS_ITS_OWNERS).with_for_update())
_INSERT_JOB = _inserting(jobs, (*JobRow.__dataclass_fields__, "labels"))
_INSERT_NOTIFICATION = _inserting(
    notifications,
    ("job_id", "project", "address", "time_us", "state", "document", "attempts", "due_us"),
)
_INSERT_STEP = _inserting(steps, ("job_id", "project", "time_us", "step", "text"))
_OLDEST_ORPHAN, _OLDEST_PENDING = _oldest(_IS_ORPHANED), _oldest(_IS_PENDING)
_CLAIM = Prepared(
    update(jobs)
    .where(jobs.c.id == bindparam("job_id"), jobs.c.attempts == bindparam("its_attempts"))
    .values(
        state=bindparam("its_state"),
        stage=bindparam("its_stage"),
        hold_reads=bindparam("its_reads"),
        hold_until_us=bindparam("its_time"),
        owner=bindparam("its_owner"),
        lease_expires_us=bindparam("its_lease"),
        attempts=jobs.c.attempts + 1,
        start_time_us=func.coalesce(jobs.c.start_time_us, _CHANGE_TIME),
        update_time_us=_CHANGE_TIME,
    )
)
_SET_OUTPUT = _changing(
    output_directory=bindparam("its_directory"),
    input_digest=bindparam("its_input"),
    model_digest=bindparam("its_model"),
)
_SET_ENDING = _changing(ending=bindparam("its_ending"), staged_errors=bindparam("its_staged"))
_SET_PROVIDER = _changing(provider=bindparam("its_provider"))
_SET_PROGRESS = _changing(
    successful=bindparam("its_successful"),
    failed=bindparam("its_failed"),
    incomplete=bindparam("its_incomplete"),
    frames_done=bindparam("its_frames_done"),
    frames_left=bindparam("its_frames_left"),
    update_time_us=func.coalesce(bindparam("at", type_=BigInteger), jobs.c.update_time_us),
)
_FINISH = {state: _finishing(state) for state in TERMINAL}
_QUEUED = Prepared(
    select(jobs.c.id)
    .where(jobs.c.state.in_(spelled_out([JobState.QUEUED])), _IS_FREE)
    .with_for_update(skip_locked=True)
)
_SELECT_SHARDS = Prepared(
    select(*_SHARD_COLUMNS).where(shards.c.job_id == bindparam("job_id")).order_by(shards.c.index)
)
_INSERT_SHARD = _inserting(shards, ("job_id", *ShardRow.__dataclass_fields__))
_NUMBER_SHARD = Prepared(
    update(shards)
    .where(shards.c.job_id == bindparam("its_job"), shards.c.index == bindparam("its_index"))
    .values(file_number=bindparam("its_number"))
)
_DELETE_SHARD = Prepared(
    delete(shards).where(shards.c.job_id == bindparam("job_id"), shards.c.index == bindparam("index"))
)
_DELETE_SHARDS = Prepared(delete(shards).where(shards.c.job_id == bindparam("job_id")))
_RELEASE = Prepared(
    update(jobs)
    .where(jobs.c.id == bindparam("job_id"), jobs.c.state.not_in(spelled_out(TERMINAL)), not_(_IS_FREE))
    .values(_NO_HOLD)
)
_NEXT_RELEASE = Prepared(
    select(func.min(jobs.c.hold_until_us)).where(
        jobs.c.hold_until_us > bindparam("now"),
        jobs.c.hold_until_us < FOREVER_US,
        jobs.c.state.in_(spelled_out(_WAITING)),
    )
)


@dataclass(frozen=True)
class Outbox:
    """What the end of a job leaves to be sent: `render(job)`, once for each of `addresses` addresses.

    An address is its position, from 0.
    """

    addresses: int
    render: Callable[[JobRow], bytes]


class Jobs(Connected):
    """Batch prediction jobs, their shards and their steps.

    If `tick_us` is set, each change of a job's state advances the job's visible times by that much, and
    `clock` gives creation times only. If `outbox` is set, the transaction that ends a job adds the
    notifications of it. After its commit, each of `end_listeners` is called with the job, and after that of a
    recorded shard each of `shard_listeners` with the job and the shard.
    """

    tick_us: int | None = None
    outbox: Outbox | None = None
    end_listeners: tuple[Callable[[JobRow], None], ...] = ()
    shard_listeners: tuple[Callable[[JobRow, ShardRow], None], ...] = ()

    def now(self) -> int:
        """The time for leases and holds, in microseconds since 1970: the real clock's if `tick_us` is set."""
        return self.clock() if self.tick_us is None else now_us()

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
        """Up to `limit` jobs, newest first, from behind the position `after`, that `matches` accepts.

        `matches` gets the small columns only, so a filter over many jobs reads no documents.
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
            row = _get(connection, job_id, lock=True)
            if row is None:
                return None
            to = JobState.CANCELLED if row.state in _WAITING else JobState.CANCELLING
            if not allowed(row.state, to):
                return row.state
            changes: dict[str, Any] = {"state": to, "update_time_us": _CHANGE_TIME, **_NO_HOLD}
            if to is JobState.CANCELLED:
                changes["end_time_us"] = _CHANGE_TIME
            else:
                reads, until = parse_pace(row.pace).cancelling.hold(self.now())
                changes |= {"hold_reads": reads, "hold_until_us": until}
            statement = update(jobs).where(jobs.c.id == job_id, jobs.c.state == row.state)
            before, ended = row.state, None
            if connection.execute(statement.values(changes), time).rowcount == 1:
                moved = self._note(connection, job_id, "state", to.proto_name)
                if to is JobState.CANCELLED:
                    ended = self._owe(connection, moved)
        self._tell_end(ended)
        return before

    def leave_queue(self) -> None:
        """Move on the QUEUED jobs whose hold has ended."""
        now = self.now()
        with self._write() as connection:
            self._leave_queue(connection, now)

    def claim_job(self, owner: str, lease_us: int, now_us: int | None = None) -> JobRow | None:
        """Claim the next job; None if there is none.

        A started job whose lease has expired or was released comes first; it keeps its state and its start
        time. Then comes the oldest PENDING job, which becomes RUNNING. Two callers never get the same job.
        `now_us` (default: the current time) decides which leases have expired.
        """
        now = {"now": self.now() if now_us is None else now_us}
        with self._write() as connection:
            self._leave_queue(connection, now["now"])
            for oldest in (_OLDEST_ORPHAN, _OLDEST_PENDING):
                found = oldest.first(connection, now)
                if found is not None:
                    return self._claim(connection, JobRow(*found), owner, now["now"] + lease_us)
        return None

    def _claim(self, connection: Connection, row: JobRow, owner: str, lease_us: int) -> JobRow | None:
        pending = row.state is JobState.PENDING
        changes = vars(row)
        if pending:
            changes = _entering(parse_pace(row.pace), row.stage + 1, self.now())
        claim = {
            "job_id": row.id,
            "its_attempts": row.attempts,
            "its_state": changes["state"],
            "its_stage": changes["stage"],
            "its_reads": changes["hold_reads"],
            "its_time": changes["hold_until_us"],
            "its_owner": owner,
            "its_lease": lease_us,
        }
        if _CLAIM.run(connection, {**claim, **self._change_time()}) != 1:
            return None
        state = changes["state"].proto_name
        step, text = (
            ("state", f"{state} by {owner}") if pending else ("resumed", f"{state} taken over by {owner}")
        )
        return self._note(connection, row.id, step, text)

    def next_release_us(self) -> int | None:
        """The end of the next timed hold of a job that waits to be claimed; None if there is none."""
        with self._read() as connection:
            found = _NEXT_RELEASE.first(connection, {"now": self.now()})
            return None if found is None else found[0]

    def release_hold(self, job_id: int) -> bool:
        """End a job's hold, so that the dispatcher or runner moves the job on; False if it is not held."""
        with self._write() as connection:
            if _RELEASE.run(connection, {"job_id": job_id, "now": self.now()}) != 1:
                return False
            self._note(connection, job_id, "released", "the hold has ended")
            return True

    def count_read(self, job_id: int) -> bool:
        """Count one read of a job that is held for a number of reads.

        Returns:
            False if no reads are left: this call has ended the hold, or it had ended before.
        """
        held = update(jobs).where(jobs.c.id == job_id, jobs.c.hold_reads.is_not(None))
        with self._write() as connection:
            counted = held.where(jobs.c.hold_reads > 0).values(hold_reads=jobs.c.hold_reads - 1)
            if connection.execute(counted).rowcount == 1:
                return True
            if connection.execute(held.values(_NO_HOLD)).rowcount == 1:
                self._note(connection, job_id, "released", "its reads are used up")
            return False

    def set_pace(self, job_id: int, pace: str) -> bool:
        """Give an unfinished job another pace from its current state on; False if it has ended."""
        plan = parse_pace(pace)
        with self._write() as connection:
            row = _get(connection, job_id, lock=True)
            if row is None or row.state in TERMINAL:
                return False
            working = row.state is JobState.RUNNING and row.stage == parse_pace(row.pace).last
            if row.state is JobState.CANCELLING or (working and not row.held(self.now())):
                changes: dict[str, Any] = {"stage": plan.last, **_NO_HOLD}
            else:
                stage = plan.stage_of(row.state)
                known = stage >= 0 and plan.stages[stage].state is row.state
                changes = _entering(plan, stage, self.now()) if known else {"stage": stage, **_NO_HOLD}
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(**changes, pace=pace))
            self._note(connection, job_id, "pace", pace or "real")
            return True

    def pass_stages(self, job_id: int, owner: str) -> JobRow | None:
        """Move a started job through all stages of its pace whose hold has ended.

        Returns:
            The job after that, or None if this owner has lost it.
        """
        now = self.now()
        with self._write() as connection:
            row = _get(connection, job_id, lock=True)
            while row is not None and row.owner == owner and row.state in _STARTED:
                plan = parse_pace(row.pace)
                if row.state is JobState.CANCELLING or row.held(now) or row.stage >= plan.last:
                    return row
                if not self._enter(connection, row, plan, now):
                    return row
                row = _get(connection, job_id)
        return None

    def heartbeat(self, owners: Collection[str], lease_us: int) -> dict[str, JobState]:
        """Renew the leases of these owners; returns their jobs' states, CANCELLING among them, by owner."""
        with self._write() as connection:
            found = _lock_owned(connection, jobs.c.owner.in_(owners))
            if found:
                renewed = {"lease_expires_us": self.now() + lease_us}
                ids = [row.id for row in found]
                connection.execute(update(jobs).where(jobs.c.id.in_(ids)).values(renewed))
            return {row.owner: row.state for row in found}

    def release(self, server: str) -> int:
        """Release all leases of a server, so that the next claims take its jobs; returns how many."""
        with self._write() as connection:
            found = _lock_owned(connection, jobs.c.owner.startswith(server, autoescape=True))
            free = {"owner": None, "lease_expires_us": None}
            ids = [row.id for row in found]
            connection.execute(update(jobs).where(jobs.c.id.in_(ids)).values(free))
            return len(found)

    def start_output(
        self,
        job_id: int,
        owner: str,
        output_directory: str,
        *,
        input_digest: str = "",
        model_digest: str = "",
    ) -> bool:
        """Set a job's output directory, input and model digest; False if the owner lost the job."""
        values = {"its_directory": output_directory, "its_input": input_digest, "its_model": model_digest}
        return self._change_own(_SET_OUTPUT, job_id, owner, values, ("output", output_directory))

    def set_provider(self, job_id: int, owner: str, provider: str) -> bool:
        """Record the execution provider that runs the model; False if the owner lost the job."""
        note = ("provider", provider)
        return self._change_own(_SET_PROVIDER, job_id, owner, {"its_provider": provider}, note)

    def set_progress(
        self,
        job_id: int,
        owner: str,
        *,
        successful: int,
        failed: int,
        incomplete: int,
        frames_done: int = 0,
        frames_left: int = UNKNOWN_TOTAL,
    ) -> bool:
        """Publish the counts of instances and frames; False if the owner lost the job."""
        counts = {
            "its_successful": successful,
            "its_failed": failed,
            "its_incomplete": incomplete,
            "its_frames_done": frames_done,
            "its_frames_left": frames_left,
        }
        at = self.clock() if self.tick_us is None else None
        return self._change_own(_SET_PROGRESS, job_id, owner, {**counts, "at": at})

    def note_step(self, job_id: int, owner: str, step: str, text: str) -> bool:
        """Record a step of a job; False if the owner lost the job."""
        with self._write() as connection:
            row = _get_own(connection, job_id, owner)
            if row is not None:
                self._add_step(connection, row, step, text)
            return row is not None

    def steps(self, *, job_id: int | None = None, after: int = 0, limit: int = 1000) -> list[StepRow]:
        """One page of the steps of one job or of all, in order, from behind step number `after`."""
        statement = select(*_STEP_COLUMNS).where(steps.c.number > after).order_by(steps.c.number).limit(limit)
        if job_id is not None:
            statement = statement.where(steps.c.job_id == job_id)
        with self._read() as connection:
            return [StepRow(*row) for row in connection.execute(statement)]

    def all_steps(self, job_id: int) -> list[StepRow]:
        """Every step of one job, in order."""
        found: list[StepRow] = []
        while page := self.steps(job_id=job_id, after=found[-1].number if found else 0):
            found += page
        return found

    def last_step(self) -> int:
        """The number of the newest step; 0 if there is none."""
        with self._read() as connection:
            return connection.scalar(select(func.max(steps.c.number))) or 0

    def record_shard(
        self, job_id: int, owner: str, shard: ShardRow, note: str = "", numbered: Sequence[ShardRow] = ()
    ) -> bool:
        """Record a finished shard (it replaces a shard with the same index) and a step for it.

        Args:
            job_id: of the job.
            owner: of the job.
            shard: the finished shard.
            note: text of the step.
            numbered: earlier shards that get their file number in the same transaction.

        Returns:
            False if the owner lost the job.
        """
        with self._write() as connection:
            row = _get_own(connection, job_id, owner)
            if row is None:
                return False
            _DELETE_SHARD.run(connection, {"job_id": job_id, "index": shard.index})
            _INSERT_SHARD.run(connection, {"job_id": job_id, **vars(shard)})
            _number(connection, job_id, numbered)
            if shard.index < MAX_VIDEO_STEPS:
                self._add_step(connection, row, "video", note)
            else:
                connection.info[CHANGED].add(row.id)
            if shard.index == MAX_VIDEO_STEPS:
                self._add_step(connection, row, "videos", f"no steps from video {MAX_VIDEO_STEPS + 1} on")
        for listener in self.shard_listeners:
            listener(row, shard)
        return True

    def decide_ending(
        self,
        job_id: int,
        owner: str,
        ending: bytes,
        staged_errors: str | None = None,
        numbered: Sequence[ShardRow] = (),
    ) -> bool:
        """Record how a job ends, before it ends: each later owner only carries that out.

        `numbered` are the shards that get their file number in the same transaction. Returns False if the
        owner lost the job.
        """
        values = {"its_ending": ending, "its_staged": staged_errors}
        with self._write() as connection:
            owned = _SET_ENDING.run(connection, {"job_id": job_id, "its_owner": owner, **values}) == 1
            if owned:
                _number(connection, job_id, numbered)
            return owned

    def shards(self, job_id: int) -> list[ShardRow]:
        """The finished shards of a job, by index."""
        with self._read() as connection:
            return [ShardRow(*row) for row in _SELECT_SHARDS.all(connection, {"job_id": job_id})]

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
        """Move a started job to a terminal state with its final counts (None leaves a count unchanged).

        `error` and `partial_failures` are serialized Status messages.

        Returns:
            False, with nothing changed, if the owner lost the job or the state machine forbids the move.
        """
        if state not in _FINISH:
            return False
        values = {
            "its_error": error,
            "its_failures": tuple(partial_failures),
            "its_successful": successful,
            "its_failed": failed,
            "its_incomplete": incomplete,
            **self._change_time(),
        }
        with self._write() as connection:
            if _FINISH[state].run(connection, {"job_id": job_id, "its_owner": owner, **values}) != 1:
                return False
            _DELETE_SHARDS.run(connection, {"job_id": job_id})
            ended = self._owe(connection, self._note(connection, job_id, "state", state.proto_name))
        self._tell_end(ended)
        return True

    def latest_job_us(self) -> int:
        """The create time of the newest job; 0 if there is none."""
        with self._read() as connection:
            return connection.scalar(select(func.max(jobs.c.create_time_us))) or 0

    def unfinished_jobs(self, project: str | None = None) -> list[JobRow]:
        """The jobs that have not ended, of one project or of all."""
        statement = select(*_JOB_COLUMNS).where(jobs.c.state.in_(_UNFINISHED))
        if project is not None:
            statement = statement.where(jobs.c.project == project)
        with self._read() as connection:
            return [JobRow(*row) for row in connection.execute(statement)]

    def has_paced_jobs(self) -> bool:
        """Whether any unfinished job has a pace."""
        paced = select(jobs.c.id).where(jobs.c.state.in_(_UNFINISHED), jobs.c.pace != "").limit(1)
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
        statement = select(jobs.c.model_folder).where(jobs.c.state.in_(_UNFINISHED)).distinct()
        with self._read() as connection:
            return set(connection.scalars(statement))

    def _change_own(
        self,
        change: Prepared,
        job_id: int,
        owner: str,
        values: Mapping[str, Any],
        note: tuple[str, str] | None = None,
    ) -> bool:
        with self._write() as connection:
            owned = change.run(connection, {"job_id": job_id, "its_owner": owner, **values}) == 1
            if owned and note:
                self._note(connection, job_id, *note)
            return owned

    def _change_time(self) -> Mapping[str, int | None]:
        """The parameters of `_CHANGE_TIME` for a change of state that happens now."""
        return {"at": self.clock() if self.tick_us is None else None, "tick": self.tick_us or 0}

    def _leave_queue(self, connection: Connection, now: int) -> None:
        for queued in _QUEUED.all(connection, {"now": now}):
            row = _get(connection, queued[0])
            assert row is not None
            self._enter(connection, row, parse_pace(row.pace), now)

    def _enter(self, connection: Connection, row: JobRow, plan: Pace, now: int) -> bool:
        """Move a job to the next stage of its pace; False if that is forbidden or another call was first."""
        changes = _entering(plan, row.stage + 1, now)
        time: Mapping[str, int | None] = {}
        if changes["state"] is not row.state:
            if not allowed(row.state, changes["state"]):
                return False
            changes["update_time_us"], time = _CHANGE_TIME, self._change_time()
        guard = jobs.c.id == row.id, jobs.c.state == row.state, jobs.c.stage == row.stage
        if connection.execute(update(jobs).where(*guard).values(changes), time).rowcount != 1:
            return False
        if changes["state"] is not row.state:
            self._note(connection, row.id, "state", changes["state"].proto_name)
        return True

    def _note(self, connection: Connection, job_id: int, step: str, text: str) -> JobRow | None:
        """Record a step in the change's transaction, for the listeners too; returns the job."""
        row = _get(connection, job_id)
        if row is not None:
            self._add_step(connection, row, step, text)
        return row

    def _owe(self, connection: Connection, row: JobRow | None) -> JobRow | None:
        """Add the notifications of a job that has ended; returns the job."""
        if self.outbox is None or row is None:
            return row
        values = {
            "job_id": row.id,
            "project": row.project,
            "time_us": row.update_time_us,
            "state": row.state,
            "document": self.outbox.render(row),
            "attempts": 0,
            "due_us": self.now(),
        }
        for address in range(self.outbox.addresses):
            _INSERT_NOTIFICATION.run(connection, {**values, "address": address})
        return row

    def _tell_end(self, row: JobRow | None) -> None:
        if row is not None:
            for listener in self.end_listeners:
                listener(row)

    def _add_step(self, connection: Connection, row: JobRow, step: str, text: str) -> None:
        time_us = self.clock() if self.tick_us is None else row.update_time_us
        values = {"job_id": row.id, "project": row.project, "time_us": time_us, "step": step, "text": text}
        _INSERT_STEP.run(connection, values)
        connection.info[CHANGED].add(row.id)


def _lock_owned(connection: Connection, is_owner: ColumnElement[bool]) -> Sequence[Row[Any, Any, Any]]:
    """Lock the unfinished jobs of some owners; returns id, owner and state.

    All transactions lock rows in the same order: two that locked them in different orders would deadlock.
    """
    owned = select(jobs.c.id, jobs.c.owner, jobs.c.state).where(is_owner, jobs.c.state.in_(_STARTED))
    return connection.execute(owned.order_by(jobs.c.id).with_for_update()).all()


def _entering(plan: Pace, number: int, now: int) -> dict[str, Any]:
    """The columns of a job that enters a stage of its pace."""
    reads, until = plan.stages[number].hold(now)
    state = plan.stages[number].state
    return {"state": state, "stage": number, "hold_reads": reads, "hold_until_us": until}


def _get(connection: Connection, job_id: int, *, lock: bool = False) -> JobRow | None:
    row = (_LOCK_JOB if lock else _SELECT_JOB).first(connection, {"job_id": job_id})
    return None if row is None else JobRow(*row)


def _get_own(connection: Connection, job_id: int, owner: str) -> JobRow | None:
    """The job, locked, if this owner still owns it."""
    row = _LOCK_OWN_JOB.first(connection, {"job_id": job_id, "its_owner": owner})
    return None if row is None else JobRow(*row)


def _number(connection: Connection, job_id: int, numbered: Sequence[ShardRow]) -> None:
    for shard in numbered:
        its = {"its_job": job_id, "its_index": shard.index, "its_number": shard.file_number}
        _NUMBER_SHARD.run(connection, its)


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


_JOB_PAGES = _page_statements(_JOB_COLUMNS)
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
