"""Holds, steps and faults of jobs, and the removal, dump and restore of rows."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import String

from emulator.database import TABLES, Database, NewModel, RowRefused
from emulator.database.schema import Words
from emulator.vertex.job_state import JobState
from tests.database.job_rows import Clock, MakeJob, all_rows

LEASE_US = 10_000_000


def state(database: Database, job_id: int) -> JobState:
    row = database.get_job(job_id)
    assert row is not None
    return row.state


def test_held_jobs_are_passed_over(database: Database, make_job: MakeJob) -> None:
    held, free = make_job(pace="pending=hold"), make_job()
    row = database.claim_job("a", LEASE_US)
    assert row is not None
    assert row.id == free
    assert database.claim_job("a", LEASE_US) is None
    assert database.release_hold(held)
    assert not database.release_hold(held)
    row = database.claim_job("a", LEASE_US)
    assert row is not None
    assert (row.id, row.state, row.stage) == (held, JobState.RUNNING, 1)


def test_hold_by_time_ends_by_itself(database: Database, make_job: MakeJob, clock: Clock) -> None:
    job_id = make_job(pace="queued=1s,pending=2s")
    assert state(database, job_id) is JobState.QUEUED
    assert database.next_release_us() == clock() - 1 + 1_000_000
    assert database.claim_job("a", LEASE_US) is None
    clock.advance(1_000_000)
    assert database.claim_job("a", LEASE_US) is None
    assert state(database, job_id) is JobState.PENDING
    clock.advance(2_000_000)
    assert database.claim_job("a", LEASE_US) is not None
    assert database.next_release_us() is None


def test_reads_are_counted_exactly(database: Database, make_job: MakeJob) -> None:
    job_id = make_job(pace="pending=7")
    with ThreadPoolExecutor(8) as executor:
        counted = list(executor.map(lambda _: database.count_read(job_id), range(20)))
    assert sum(counted) == 7
    row = database.get_job(job_id)
    assert row is not None
    assert row.hold_reads is None


def test_stages_are_passed_by_their_owner_only(database: Database, make_job: MakeJob) -> None:
    job_id = make_job(pace="paused=hold")
    database.claim_job("a", LEASE_US)
    assert database.pass_stages(job_id, "b") is None
    row = database.pass_stages(job_id, "a")
    assert row is not None
    assert (row.state, row.held(database.now())) == (JobState.PAUSED, True)
    assert database.heartbeat(["a"], LEASE_US) == {"a": JobState.PAUSED}
    assert not database.finish_job(job_id, "a", JobState.SUCCEEDED)
    database.release_hold(job_id)
    row = database.pass_stages(job_id, "a")
    assert row is not None
    assert row.state is JobState.RUNNING
    assert database.finish_job(job_id, "a", JobState.PARTIALLY_SUCCEEDED)


def test_paused_job_of_a_dead_server_is_claimed_as_it_is(
    database: Database, make_job: MakeJob, clock: Clock
) -> None:
    job_id = make_job(pace="paused=hold")
    database.claim_job("a", LEASE_US)
    database.pass_stages(job_id, "a")
    clock.advance(LEASE_US + 1)
    row = database.claim_job("b", LEASE_US)
    assert row is not None
    assert (row.id, row.state, row.owner, row.attempts) == (job_id, JobState.PAUSED, "b", 2)


def test_steps_tell_what_happened_and_go_with_their_job(database: Database, make_job: MakeJob) -> None:
    heard: list[int] = []
    database.listeners.append(heard.extend)
    job_id = make_job(pace="pending=hold", notes=(("note", "text"),))
    database.request_cancel(job_id)
    steps = [(step.step, step.text) for step in database.steps(job_id=job_id)]
    assert steps == [("state", "JOB_STATE_PENDING"), ("note", "text"), ("state", "JOB_STATE_CANCELLED")]
    assert heard == [job_id, job_id]
    assert database.last_step() == database.steps()[-1].number
    assert database.delete_job(job_id)
    assert database.steps() == []


def test_nothing_is_told_of_a_transaction_that_failed(database: Database, make_job: MakeJob) -> None:
    heard: list[int] = []
    make_job(id=5)
    database.listeners.append(heard.extend)
    try:
        make_job(id=5)
    except Exception:
        assert heard == []
    make_job(id=6)
    assert heard == [6]


def test_fault_is_used_exactly_as_often_as_it_says(database: Database) -> None:
    fault = database.insert_fault("1", "{}")
    with ThreadPoolExecutor(8) as executor:
        used = list(
            executor.map(
                lambda _: database.use_fault(fault.number, lambda match: 3 < match <= 8, fires=False),
                range(20),
            )
        )
    assert sum(used) == 5
    database.count_fired(fault.number)
    [row] = database.list_faults()
    assert (row.matched, row.used, row.fired) == (20, 5, 1)
    assert database.delete_faults(fault.number) == 1
    database.count_fired(fault.number)
    assert not database.use_fault(fault.number, lambda _: True, fires=True)


def test_rows_of_one_project_go_and_the_others_stay(database: Database, make_job: MakeJob) -> None:
    one, other = make_job(project="1"), make_job(project="2")
    database.claim_job("a", LEASE_US)
    database.insert_fault("1", "{}")
    database.set_note("pace/2", "steps")
    database.delete_project("1")
    assert database.get_job(one) is None
    assert database.get_job(other) is not None
    assert {step.job_id for step in database.steps()} == {other}
    assert database.list_faults() == []
    assert database.get_note("pace/2") == "steps"
    database.delete_project(None)
    assert database.get_job(other) is None
    assert database.get_note("pace/2") is None


def test_restored_rows_are_those_of_the_dump(database: Database, make_job: MakeJob) -> None:
    kept = make_job(pace="running=hold", labels={"a": "b"})
    database.insert_fault("", "{}")
    dump = all_rows(database)
    before = database.get_job(kept)
    database.delete_project(None)
    make_job()
    database.restore({name: rows for name, rows in dump.items() if name != "schema_version"})
    assert database.get_job(kept) == before
    assert all_rows(database) == dump
    # New rows get numbers of their own.
    assert database.insert_fault("", "{}").number > database.list_faults()[0].number
    assert database.request_cancel(kept) is JobState.PENDING


def test_seeded_times_follow_the_states(database: Database, make_job: MakeJob, clock: Clock) -> None:
    database.tick_us = 1_000_000
    job_id = make_job(pace="running=hold")
    created = clock() - 1
    database.claim_job("a", LEASE_US)
    clock.advance(123)
    database.set_progress(job_id, "a", successful=0, failed=0, incomplete=3)
    database.finish_job(job_id, "a", JobState.FAILED)
    row = database.get_job(job_id)
    assert row is not None
    assert (row.start_time_us, row.end_time_us) == (created + 1_000_000, created + 2_000_000)
    assert [step.time_us for step in database.steps()] == [created, created + 1_000_000, created + 2_000_000]


def test_all_or_nothing_is_one_transaction(database: Database, make_job: MakeJob) -> None:
    heard: list[int] = []
    database.listeners.append(heard.extend)
    kept = make_job()
    model = NewModel("m", "M", "folder", "digest", b"")
    with suppress(RuntimeError), database.all_or_nothing():
        make_job(id=50)
        database.set_note("a", "1")
        assert database.get_note("a") == "1"  # what is written inside can be read there
        raise RuntimeError
    assert database.get_note("a") is None
    assert database.get_job(50) is None
    with database.all_or_nothing():
        assert database.insert_model("1", "here", model, ["default"])
        assert not database.insert_model("1", "here", model, ["default"])  # fails, and the rest goes on
        database.set_note("a", "2")
        make_job(id=51)
        assert 51 not in heard
    assert database.get_note("a") == "2"
    assert database.get_model("1", "here", "m") is not None
    assert {kept, 51} <= set(heard)
    assert 50 not in heard


def test_rows_that_do_not_fit_are_not_added(database: Database, tmp_path: Path, make_job: MakeJob) -> None:
    make_job()
    with database.all_rows() as tables:
        rows = [(name, dict(row)) for name, of_table in tables.items() for row in of_table]
    other = Database(f"sqlite:///{tmp_path / 'other.db'}")
    with pytest.raises(RowRefused, match="UNIQUE constraint failed"):
        other.add_rows([*rows, *rows])
    shard = {one.name: "" if isinstance(one.type, (String, Words)) else 99 for one in TABLES["shards"].c}
    with pytest.raises(RowRefused, match="FOREIGN KEY constraint failed"):
        other.add_rows([("shards", shard)])
    assert not any(all_rows(other)[name] for name in TABLES)
    other.add_rows(reversed(rows))
    with other.all_rows() as tables:
        database.restore(tables)
    with database.all_rows() as tables:
        assert sorted((name, str(row)) for name, of_table in tables.items() for row in of_table) == sorted(
            (name, str(row)) for name, row in rows
        )
    other.close()
