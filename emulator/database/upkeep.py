"""Queries for upkeep: what is old enough to be removed, its removal, and whose turn it is to do that."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select, text, tuple_, update

from emulator.database.connection import Connected, now_us
from emulator.database.inspection import size_of_tables
from emulator.database.schema import jobs, notes, operations, shards, steps
from emulator.vertex.job_state import TERMINAL

_PAGE = 500
# Both databases know these words, and SQLAlchemy has them for each database apart.
_ADD_TURN = text(f"INSERT INTO {notes.name} (name, value) VALUES (:name, '0') ON CONFLICT DO NOTHING")


class OldJob(NamedTuple):
    """A finished job that may be removed. `output_directory` is a `gs://` name without the final slash."""

    id: int
    project: str
    location: str
    output_directory: str | None
    create_time_us: int

    @property
    def name(self) -> str:
        """The resource name, with the project's number."""
        return f"projects/{self.project}/locations/{self.location}/batchPredictionJobs/{self.id}"


class Upkeep(Connected):
    """The removal of what finished long ago. All times are microseconds since 1970."""

    def old_jobs(self, before_us: int, after: OldJob | None = None, limit: int = _PAGE) -> list[OldJob]:
        """The next finished jobs, oldest first, that neither ended nor had a step at or after `before_us`."""
        position = (after.create_time_us, after.id) if after else (-1, -1)
        statement = (
            select(*(jobs.c[name] for name in OldJob._fields))
            # The first condition lets an index narrow the search: no job ends before it is created.
            .where(jobs.c.state.in_(TERMINAL), jobs.c.create_time_us < before_us, _is_old(before_us))
            .where(tuple_(jobs.c.create_time_us, jobs.c.id) > tuple_(*position))
            .order_by(jobs.c.create_time_us, jobs.c.id)
            .limit(limit)
        )
        with self._read() as connection:
            return [OldJob(*row) for row in connection.execute(statement)]

    def delete_jobs(self, ids: Sequence[int]) -> int:
        """Remove those of these jobs that have finished, with their steps; returns how many there were."""
        with self._write() as connection:
            # In the order in which every transaction locks jobs.
            finished = select(jobs.c.id).where(jobs.c.id.in_(ids), jobs.c.state.in_(TERMINAL))
            found = list(connection.scalars(finished.order_by(jobs.c.id).with_for_update()))
            for table in (shards, steps):
                connection.execute(delete(table).where(table.c.job_id.in_(found)))
            connection.execute(delete(jobs).where(jobs.c.id.in_(found)))
            return len(found)

    def count_old_operations(self, before_us: int) -> int:
        """How many finished operations were created before a time."""
        with self._read() as connection:
            statement = select(func.count()).select_from(operations).where(*_old_operations(before_us))
            return connection.scalar(statement) or 0

    def delete_old_operations(self, before_us: int) -> int:
        """Remove the finished operations that were created before a time; returns how many there were."""
        with self._write() as connection:
            return connection.execute(delete(operations).where(*_old_operations(before_us))).rowcount

    def is_output_of_other(self, job: OldJob, before_us: int) -> bool:
        """Whether a job that stays has the same output directory: a recording may name one twice."""
        other = select(jobs.c.id).where(
            jobs.c.output_directory == job.output_directory,
            jobs.c.id != job.id,
            or_(jobs.c.state.not_in(TERMINAL), ~_is_old(before_us)),
        )
        with self._read() as connection:
            return connection.scalar(other.limit(1)) is not None

    def job_documents(self, *, unfinished: bool = False) -> Iterator[bytes]:
        """The documents of all jobs, or of those that have not finished."""
        statement = select(jobs.c.id, jobs.c.document).order_by(jobs.c.id).limit(_PAGE)
        if unfinished:
            statement = statement.where(jobs.c.state.not_in(TERMINAL))
        last = -1
        while True:
            with self._read() as connection:
                page = connection.execute(statement.where(jobs.c.id > last)).all()
            yield from (document for _, document in page)
            if len(page) < _PAGE:
                return
            last = page[-1][0]

    def size_bytes(self) -> int:
        """The bytes that the tables take on the disk."""
        with self._read() as connection:
            return size_of_tables(connection)

    def take_turn(self, name: str, every_us: int) -> bool:
        """Whether the caller is the one to do something that is done once in `every_us`, by any server."""
        now = now_us()
        own = notes.c.name == name
        with self._write() as connection:
            # Two servers may do this at the same time.
            connection.execute(_ADD_TURN, {"name": name})
            last = int(connection.scalar(select(notes.c.value).where(own).with_for_update()) or 0)
            # A time in the future comes from a clock that has been set back.
            if last <= now < last + every_us:
                return False
            connection.execute(update(notes).where(own).values(value=str(now)))
            return True


def _is_old(before_us: int) -> ColumnElement[bool]:
    """Neither ended nor had a step since: the steps of a recording are newer than its times."""
    ended = func.coalesce(jobs.c.end_time_us, jobs.c.update_time_us)
    recent = exists().where(steps.c.job_id == jobs.c.id, steps.c.time_us >= before_us)
    return and_(ended < before_us, ~recent)


def _old_operations(before_us: int) -> tuple[ColumnElement[bool], ...]:
    return operations.c.done.is_(True), operations.c.create_time_us < before_us
