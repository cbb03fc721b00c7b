"""Claims and leases: which runner owns a job, and everything that only its owner may write.

A runner owns a job while its lease lasts. Every write of a runner names its owner. So a runner that lost its
lease (after a suspend, or in a debugger) can change nothing any more.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    update,
)

from emulator.database.connection import CHANGED
from emulator.database.holds import Holds, entering
from emulator.database.job_queries import CHANGE_TIME, IS_FREE, JOB_COLUMNS, NO_HOLD, STARTED, inserting
from emulator.database.prepared import Prepared, spelled_out
from emulator.database.rows import UNKNOWN_TOTAL, JobRow, ShardRow
from emulator.database.schema import jobs, shards
from emulator.instructions.pace import parse_pace
from emulator.vertex.job_state import TERMINAL, JobState, sources

_SHARD_COLUMNS = [shards.c[name] for name in ShardRow.__dataclass_fields__]
#: At most this many videos of a job become steps. The counts and the output cover the others.
MAX_VIDEO_STEPS = 10_000

_IS_ITS_OWNERS = and_(
    jobs.c.id == bindparam("job_id"),
    jobs.c.owner == bindparam("its_owner"),
    jobs.c.state.in_(spelled_out(STARTED)),
)
_IS_ORPHANED = and_(
    jobs.c.state.in_(spelled_out(STARTED)),
    or_(jobs.c.lease_expires_us.is_(None), jobs.c.lease_expires_us < bindparam("now")),
)
_IS_PENDING = and_(jobs.c.state.in_(spelled_out([JobState.PENDING])), IS_FREE)


def _oldest(condition: ColumnElement[bool]) -> Prepared:
    """Select the oldest job that meets a condition: the next one to claim."""
    found = select(*JOB_COLUMNS).where(condition).order_by(jobs.c.create_time_us, jobs.c.id).limit(1)
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
            end_time_us=CHANGE_TIME,
            update_time_us=CHANGE_TIME,
            owner=None,
            lease_expires_us=None,
            ending=None,
            staged_errors=None,
            **NO_HOLD,
            **counts,
        )
    )


_LOCK_OWN_JOB = Prepared(select(*JOB_COLUMNS).where(_IS_ITS_OWNERS).with_for_update())
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
        start_time_us=func.coalesce(jobs.c.start_time_us, CHANGE_TIME),
        update_time_us=CHANGE_TIME,
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
_SELECT_SHARDS = Prepared(
    select(*_SHARD_COLUMNS).where(shards.c.job_id == bindparam("job_id")).order_by(shards.c.index)
)
_INSERT_SHARD = inserting(shards, ("job_id", *ShardRow.__dataclass_fields__))
_NUMBER_SHARD = Prepared(
    update(shards)
    .where(shards.c.job_id == bindparam("its_job"), shards.c.index == bindparam("its_index"))
    .values(file_number=bindparam("its_number"))
)
_DELETE_SHARD = Prepared(
    delete(shards).where(shards.c.job_id == bindparam("job_id"), shards.c.index == bindparam("index"))
)
_DELETE_SHARDS = Prepared(delete(shards).where(shards.c.job_id == bindparam("job_id")))


class Leases(Holds):
    """Claims of jobs, and the writes of the runners that own them: output, counts, shards, the end."""

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
            changes = entering(parse_pace(row.pace), row.stage + 1, self.now())
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
            return True

    def tell_recorded(self, seconds: float) -> None:
        """Tell the listeners how long a shard took that this process has recorded."""
        for listener in self.recorded:
            listener(seconds)

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
            row = self._note(connection, job_id, "state", state.proto_name)
        self._tell_end(row)
        return True

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


def _lock_owned(connection: Connection, is_owner: ColumnElement[bool]) -> Sequence[Row[Any, Any, Any]]:
    """Lock the unfinished jobs of some owners; returns id, owner and state.

    All transactions lock rows in the same order: two that locked them in different orders would deadlock.
    """
    owned = select(jobs.c.id, jobs.c.owner, jobs.c.state).where(is_owner, jobs.c.state.in_(STARTED))
    return connection.execute(owned.order_by(jobs.c.id).with_for_update()).all()


def _get_own(connection: Connection, job_id: int, owner: str) -> JobRow | None:
    """The job, locked, if this owner still owns it."""
    row = _LOCK_OWN_JOB.first(connection, {"job_id": job_id, "its_owner": owner})
    return None if row is None else JobRow(*row)


def _number(connection: Connection, job_id: int, numbered: Sequence[ShardRow]) -> None:
    for shard in numbered:
        its = {"its_job": job_id, "its_index": shard.index, "its_number": shard.file_number}
        _NUMBER_SHARD.run(connection, its)
