"""Holds: what keeps a job in a stage of its pace, and what moves it on."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, func, not_, select, update

from emulator.database.job_queries import CHANGE_TIME, IS_FREE, NO_HOLD, STARTED, WAITING, read_job
from emulator.database.prepared import Prepared, spelled_out
from emulator.database.rows import JobRow
from emulator.database.schema import jobs
from emulator.database.steps import Steps
from emulator.instructions.pace import FOREVER_US, Pace, parse_pace
from emulator.vertex.job_state import TERMINAL, JobState, allowed

_QUEUED = Prepared(
    select(jobs.c.id)
    .where(jobs.c.state.in_(spelled_out([JobState.QUEUED])), IS_FREE)
    .with_for_update(skip_locked=True)
)
_RELEASE = Prepared(
    update(jobs)
    .where(jobs.c.id == bindparam("job_id"), jobs.c.state.not_in(spelled_out(TERMINAL)), not_(IS_FREE))
    .values(NO_HOLD)
)
_NEXT_RELEASE = Prepared(
    select(func.min(jobs.c.hold_until_us)).where(
        jobs.c.hold_until_us > bindparam("now"),
        jobs.c.hold_until_us < FOREVER_US,
        jobs.c.state.in_(spelled_out(WAITING)),
    )
)


class Holds(Steps):
    """Jobs that a pace holds: until they were read a number of times, for a time, or until a release."""

    def leave_queue(self) -> None:
        """Move on the QUEUED jobs whose hold has ended."""
        now = self.now()
        with self._write() as connection:
            self._leave_queue(connection, now)

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
            if connection.execute(held.values(NO_HOLD)).rowcount == 1:
                self._note(connection, job_id, "released", "its reads are used up")
            return False

    def set_pace(self, job_id: int, pace: str) -> bool:
        """Give an unfinished job another pace from its current state on; False if it has ended."""
        plan = parse_pace(pace)
        with self._write() as connection:
            row = read_job(connection, job_id, lock=True)
            if row is None or row.state in TERMINAL:
                return False
            working = row.state is JobState.RUNNING and row.stage == parse_pace(row.pace).last
            if row.state is JobState.CANCELLING or (working and not row.held(self.now())):
                changes: dict[str, Any] = {"stage": plan.last, **NO_HOLD}
            else:
                stage = plan.stage_of(row.state)
                known = stage >= 0 and plan.stages[stage].state is row.state
                changes = entering(plan, stage, self.now()) if known else {"stage": stage, **NO_HOLD}
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
            row = read_job(connection, job_id, lock=True)
            while row is not None and row.owner == owner and row.state in STARTED:
                plan = parse_pace(row.pace)
                if row.state is JobState.CANCELLING or row.held(now) or row.stage >= plan.last:
                    return row
                if not self._enter(connection, row, plan, now):
                    return row
                row = read_job(connection, job_id)
        return None

    def _leave_queue(self, connection: Connection, now: int) -> None:
        for queued in _QUEUED.all(connection, {"now": now}):
            row = read_job(connection, queued[0])
            assert row is not None
            self._enter(connection, row, parse_pace(row.pace), now)

    def _enter(self, connection: Connection, row: JobRow, plan: Pace, now: int) -> bool:
        """Move a job to the next stage of its pace; False if that is forbidden or another call was first."""
        changes = entering(plan, row.stage + 1, now)
        time: Mapping[str, int | None] = {}
        if changes["state"] is not row.state:
            if not allowed(row.state, changes["state"]):
                return False
            changes["update_time_us"], time = CHANGE_TIME, self._change_time()
        guard = jobs.c.id == row.id, jobs.c.state == row.state, jobs.c.stage == row.stage
        if connection.execute(update(jobs).where(*guard).values(changes), time).rowcount != 1:
            return False
        if changes["state"] is not row.state:
            self._note(connection, row.id, "state", changes["state"].proto_name)
        return True


def entering(plan: Pace, number: int, now: int) -> dict[str, Any]:
    """The columns of a job that enters a stage of its pace."""
    reads, until = plan.stages[number].hold(now)
    state = plan.stages[number].state
    return {"state": state, "stage": number, "hold_reads": reads, "hold_until_us": until}
