"""Pages of a location's jobs, newest first, also through a filter."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Integer, bindparam, or_, select

from emulator.database.job_queries import JOB_COLUMNS
from emulator.database.prepared import Prepared
from emulator.database.rows import FilterRow, JobRow
from emulator.database.schema import jobs

ListPosition = tuple[int, int]
"""Where a page ended: create time and id of its last job."""

_FILTER_COLUMNS = [jobs.c[name] for name in FilterRow._fields]
_SCAN_CHUNK = 1000


def list_jobs(
    connection: Connection,
    parent: tuple[str, str],
    *,
    limit: int,
    matches: Callable[[FilterRow], bool] | None,
    after: ListPosition | None,
) -> list[JobRow]:
    """Up to `limit` jobs of a project and location, from behind `after`, that `matches` accepts."""
    if matches is None:
        return [JobRow(*row) for row in _page(connection, _JOB_PAGES, parent, after, limit)]
    ids = _scan(connection, parent, after, limit, matches)
    found = connection.execute(select(*JOB_COLUMNS).where(jobs.c.id.in_(ids)))
    by_id = {job.id: job for job in (JobRow(*row) for row in found)}
    return [by_id[job_id] for job_id in ids if job_id in by_id]


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
