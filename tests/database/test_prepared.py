"""Prepared statements: on SQLite's own connection they do what SQLAlchemy would do with them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, bindparam, create_engine, insert, select, update

from emulator.database import NewJob, jobs, models
from emulator.database.prepared import Prepared, spelled_out
from emulator.database.schema import jobs as table
from emulator.database.schema import metadata
from emulator.vertex.job_state import JobState


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    with engine.begin() as connection:
        metadata.create_all(connection)
        yield connection
    engine.dispose()


@pytest.fixture
def row(connection: Connection) -> dict[str, object]:
    job = NewJob(
        id=7, project="1", location="us-central1", display_name="d", model_id="m", model_version=1,
        model_display_name="m", model_objective="OBJECT_TRACKING", model_folder="/m", labels={},
        document=b"\x00", create_time_us=5,
    )  # fmt: skip
    values = {**vars(job.as_row(5)), "labels": {"team": "ä"}, "partial_failures": (b"\x00one", b"")}
    assert Prepared(insert(table), list(values)).run(connection, values) == 1
    return values


def test_rows_are_read_as_sqlalchemy_reads_them(connection: Connection, row: dict[str, object]) -> None:
    columns = [table.c[name] for name in row]
    statement = select(*columns).where(table.c.id == bindparam("job_id"))
    theirs = connection.execute(statement, {"job_id": row["id"]}).one()
    ours = Prepared(statement).first(connection, {"job_id": row["id"]})
    assert ours is not None
    assert list(ours) == list(theirs) == list(row.values())
    assert Prepared(statement).all(connection, {"job_id": row["id"]}) == [list(ours)]
    assert Prepared(statement).first(connection, {"job_id": 0}) is None


def test_changes_say_how_many_rows_they_concerned(connection: Connection, row: dict[str, object]) -> None:
    waiting = table.c.state.in_(spelled_out([JobState.PENDING, JobState.QUEUED]))
    change = Prepared(update(table).where(waiting).values(state=bindparam("to"), attempts=7))
    assert change.run(connection, {"to": JobState.RUNNING}) == 1
    assert change.run(connection, {"to": JobState.RUNNING}) == 0
    found = connection.execute(select(table.c.state, table.c.attempts)).one()
    assert tuple(found) == (JobState.RUNNING, 7)


def test_a_parameter_that_is_missing_is_no_null(connection: Connection, row: dict[str, object]) -> None:
    with pytest.raises(KeyError, match="its_provider"):
        Prepared(update(table).values(provider=bindparam("its_provider"))).run(connection, {})


@pytest.mark.parametrize("module", [jobs, models])
def test_no_statement_waits_for_sqlalchemy_to_spell_out_a_list(module: object) -> None:
    prepared = [value for value in vars(module).values() if isinstance(value, Prepared)]
    assert prepared
    for statement in prepared:
        assert "POSTCOMPILE" not in statement._form.text
