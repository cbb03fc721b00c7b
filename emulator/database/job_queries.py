"""What the queries on jobs have in common: columns, groups of states, conditions, and the read of one job."""

from collections.abc import Iterable

from sqlalchemy import BigInteger, Connection, Table, and_, bindparam, func, insert, or_, select

from emulator.database.prepared import Prepared
from emulator.database.rows import JobRow
from emulator.database.schema import jobs
from emulator.vertex.job_state import JobState

# PAUSED and UPDATING come only with a pace. A runner owns the job in these states too.
STARTED = (JobState.RUNNING, JobState.CANCELLING, JobState.PAUSED, JobState.UPDATING)
WAITING = (JobState.QUEUED, JobState.PENDING)
UNFINISHED = (*WAITING, *STARTED)
#: The values of a job that is not held.
NO_HOLD = {"hold_reads": None, "hold_until_us": None}
JOB_COLUMNS = [jobs.c[name] for name in JobRow.__dataclass_fields__]
#: The time of a change: the given one, or the time of the last change plus one tick.
CHANGE_TIME = func.coalesce(
    bindparam("at", type_=BigInteger), jobs.c.update_time_us + bindparam("tick", type_=BigInteger)
)
#: Whether a job is not held, or its hold has ended by `now`.
IS_FREE = and_(
    jobs.c.hold_reads.is_(None), or_(jobs.c.hold_until_us.is_(None), jobs.c.hold_until_us <= bindparam("now"))
)

_SELECT_JOB = Prepared(select(*JOB_COLUMNS).where(jobs.c.id == bindparam("job_id")))
_LOCK_JOB = Prepared(select(*JOB_COLUMNS).where(jobs.c.id == bindparam("job_id")).with_for_update())


def inserting(table: Table, names: Iterable[str]) -> Prepared:
    """An INSERT that sets these columns."""
    return Prepared(insert(table), list(names))


def read_job(connection: Connection, job_id: int, *, lock: bool = False) -> JobRow | None:
    """The job with that id, or None."""
    row = (_LOCK_JOB if lock else _SELECT_JOB).first(connection, {"job_id": job_id})
    return None if row is None else JobRow(*row)
