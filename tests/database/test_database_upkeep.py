"""What is old enough to go, and whose turn it is to remove it."""

import threading
from pathlib import Path

import pytest

from emulator.database import Database, DatabaseUnusable, JobRow, NewJob, OperationRow, ShardRow
from emulator.vertex.job_state import JobState
from tests.database.job_rows import Clock, MakeJob, all_rows

DAY_US = 86_400_000_000


def finish(database: Database, job_id: int, state: JobState = JobState.SUCCEEDED) -> None:
    row = database.claim_job("me", DAY_US)
    assert row is not None
    assert row.id == job_id
    assert database.start_output(job_id, "me", f"gs://bucket/{job_id}")
    assert database.finish_job(job_id, "me", state)


def test_old_jobs_are_those_that_ended_before(database: Database, make_job: MakeJob, clock: Clock) -> None:
    ended = make_job()
    finish(database, ended)
    running = make_job()
    assert database.claim_job("me", DAY_US)
    cancelled = make_job()
    database.request_cancel(cancelled)
    clock.advance(DAY_US)
    later = make_job()
    database.request_cancel(later)
    before_us = clock() - 1
    assert [job.id for job in database.old_jobs(before_us)] == [ended, cancelled]
    [first] = database.old_jobs(before_us, limit=1)
    assert first.output_directory == f"gs://bucket/{ended}"
    assert [job.id for job in database.old_jobs(before_us, first)] == [cancelled]
    assert [job.id for job in database.old_jobs(clock() + DAY_US)] == [ended, cancelled, later]
    assert running not in {job.id for job in database.old_jobs(clock() + DAY_US)}


def test_deleted_jobs_take_their_rows_along(database: Database, make_job: MakeJob) -> None:
    ended = make_job()
    finish(database, ended)
    running = make_job()
    assert database.claim_job("me", DAY_US)
    assert database.record_shard(running, "me", ShardRow(0, 1, 1, 0, "[]"), "video")
    assert database.delete_jobs([ended, running, 77]) == 1
    rows = all_rows(database)
    assert {row["id"] for row in rows["batch_prediction_jobs"]} == {running}
    assert {row["job_id"] for row in rows["job_steps"]} == {running}
    assert {row["job_id"] for row in rows["shards"]} == {running}
    assert database.delete_jobs([]) == 0


def test_only_finished_operations_are_old(database: Database) -> None:
    for number, done in ((1, True), (2, False), (3, True)):
        database.insert_operation(OperationRow(number, "1", "l", None, number, done, b"document"))
    assert database.count_old_operations(3) == 1
    assert database.delete_old_operations(3) == 1
    assert {row.id for row in database.list_operations("1", "l")} == {2, 3}


def test_output_of_a_job_that_stays_is_told(database: Database, make_job: MakeJob, clock: Clock) -> None:
    finish(database, make_job())
    [old] = database.old_jobs(clock() + 1)
    assert not database.is_output_of_other(old, clock() + 1)
    twin = make_job()
    assert database.claim_job("me", DAY_US)
    assert database.start_output(twin, "me", str(old.output_directory))
    assert database.is_output_of_other(old, clock() + 1)
    database.finish_job(twin, "me", JobState.SUCCEEDED)
    assert not database.is_output_of_other(old, clock() + 1)
    assert database.is_output_of_other(old, clock() - DAY_US)


def test_documents_of_more_jobs_than_a_page(database: Database, clock: Clock) -> None:
    for number in range(1, 1002):
        database.insert_job(
            NewJob(number, "1", "l", "", "m", 1, "", "", "", {}, f"{number}".encode(), clock())
        )
    database.request_cancel(7)
    assert list(database.job_documents()) == [f"{number}".encode() for number in range(1, 1002)]
    assert b"7" not in list(database.job_documents(unfinished=True))


def test_one_of_many_gets_the_turn(database: Database) -> None:
    won = []

    def take() -> None:
        if database.take_turn("sweep", DAY_US):
            won.append(threading.current_thread())

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert not database.take_turn("sweep", DAY_US)
    assert database.take_turn("another", DAY_US)
    assert database.take_turn("sweep", 0)


def test_turn_is_free_again_after_a_time_in_the_future(database: Database) -> None:
    database.set_note("sweep", str(2**62))
    assert database.take_turn("sweep", DAY_US)


def test_listeners_hear_of_each_end_once(database: Database, make_job: MakeJob) -> None:
    ended: list[JobRow] = []
    recorded: list[float] = []
    database.end_listeners.append(ended.append)
    database.recorded.append(recorded.append)
    job = make_job()
    assert database.claim_job("me", DAY_US)
    database.tell_recorded(2.5)
    assert database.finish_job(job, "me", JobState.FAILED)
    assert not database.finish_job(job, "me", JobState.SUCCEEDED)
    assert recorded == [2.5]
    [row] = ended
    assert (row.state, row.end_time_us is not None) == (JobState.FAILED, True)


def test_database_is_measured(database: Database, database_url: str) -> None:
    assert (database.size_bytes() > 0) is (database_url != "sqlite://")


def test_nothing_is_made_where_nothing_is_to_be_migrated(tmp_path: Path, clock: Clock) -> None:
    url = f"sqlite:///{tmp_path / 'emulator.db'}"
    with pytest.raises(DatabaseUnusable, match="no tables of the emulator"):
        Database(url, clock, migrate=False)
    Database(url, clock).close()
    Database(url, clock, migrate=False).close()
