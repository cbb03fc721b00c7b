"""The steps of jobs, which the changes of jobs add in their own transactions."""

from collections.abc import Mapping

from sqlalchemy import Connection, func, select

from emulator.database.connection import CHANGED, Connected, now_us
from emulator.database.job_queries import inserting, read_job
from emulator.database.rows import JobRow, StepRow
from emulator.database.schema import steps

_STEP_COLUMNS = [steps.c[name] for name in StepRow.__dataclass_fields__]
_INSERT_STEP = inserting(steps, ("job_id", "project", "time_us", "step", "text"))


class Steps(Connected):
    """The history of jobs, and the times that changes of jobs get.

    If `tick_us` is set, each change of a job's state advances the job's visible times by that much, and
    `clock` gives creation times only.
    """

    tick_us: int | None = None

    def now(self) -> int:
        """The time for leases and holds, in microseconds since 1970: the real clock's if `tick_us` is set."""
        return self.clock() if self.tick_us is None else now_us()

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

    def _change_time(self) -> Mapping[str, int | None]:
        """The parameters of `CHANGE_TIME` for a change of state that happens now."""
        return {"at": self.clock() if self.tick_us is None else None, "tick": self.tick_us or 0}

    def _note(self, connection: Connection, job_id: int, step: str, text: str) -> JobRow | None:
        """Record a step in the change's transaction, for the listeners too; returns the job."""
        row = read_job(connection, job_id)
        if row is not None:
            self._add_step(connection, row, step, text)
        return row

    def _tell_end(self, row: JobRow | None) -> None:
        """Tell the listeners that this process has ended a job. After the commit."""
        if row is not None:
            for listener in self.end_listeners:
                listener(row)

    def _add_step(self, connection: Connection, row: JobRow, step: str, text: str) -> None:
        time_us = self.clock() if self.tick_us is None else row.update_time_us
        values = {"job_id": row.id, "project": row.project, "time_us": time_us, "step": step, "text": text}
        _INSERT_STEP.run(connection, values)
        connection.info[CHANGED].add(row.id)
