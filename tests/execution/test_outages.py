"""What is not there for a moment - the database, a process more, the right time - costs no result."""

import errno
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from emulator.database import Database, JobRow, now_us
from emulator.execution.dispatcher import Dispatcher
from emulator.execution.processes import ProcessExecutor
from emulator.instructions.faults import JobFault
from emulator.vertex.job_state import JobState
from tests.execution.workplace import Workplace, error_of, line
from tests.postgresql import another_program_writes, database_url

VIDEOS = 4
SLOW_STORAGE = JobFault("slow-storage", delay_s=0.6)
SLOW_MODEL = JobFault("slow-model", delay_s=0.05)


@pytest.fixture
def impatient(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """A workplace whose database waits 0.2 s for a lock, and whose leases run out after a second."""
    monkeypatch.setattr("emulator.database.connection._BUSY_TIMEOUT_MS", 200)
    monkeypatch.setattr("emulator.execution.dispatcher._LEASE_US", 1_000_000)
    workplace.database.close()
    workplace.database = Database(database_url(workplace.folder))
    return workplace


def submit_videos(workplace: Workplace, seconds: float = 0.3) -> int:
    for number in range(VIDEOS):
        workplace.video(f"{number}.mp4", seconds)
    return workplace.submit_lines([line(f"{number}.mp4") for number in range(VIDEOS)])


def all_predicted(workplace: Workplace, row: JobRow) -> None:
    assert (row.state, row.successful, row.failed) == (JobState.SUCCEEDED, VIDEOS, 0)
    found = {entry["instance"]["content"] for entry in workplace.predictions(row)}
    assert found == {f"gs://bucket/{number}.mp4" for number in range(VIDEOS)}


def stop(workplace: Workplace) -> None:
    workplace.dispatchers.pop().stop()


def test_a_locked_database_fails_no_job(impatient: Workplace) -> None:
    impatient.start(fault=SLOW_STORAGE)
    job = submit_videos(impatient)
    impatient.wait_until(job, lambda _: bool(impatient.database.shards(job)))
    with another_program_writes(database_url(impatient.folder)):
        time.sleep(1.5)
    row = impatient.finish(job)
    all_predicted(impatient, row)
    assert row.attempts > 1


def test_a_resumed_job_keeps_its_results_when_the_database_is_locked_at_once(impatient: Workplace) -> None:
    """Locked before the runner has written anything: it must not take the recorded files for leftovers."""
    impatient.start(fault=SLOW_STORAGE)
    job = submit_videos(impatient)
    # What is recorded of a later video has no file before the first video has one.
    impatient.wait_until(job, lambda row: row.output_directory is not None and bool(impatient.files(row)))
    stop(impatient)
    before = impatient.files(impatient.job(job))
    assert before
    impatient.start()
    impatient.wait_until(job, lambda row: row.attempts == 2)
    with another_program_writes(database_url(impatient.folder)):
        time.sleep(1.5)
        assert impatient.files(impatient.job(job)).items() >= before.items()
    row = impatient.finish(job)
    all_predicted(impatient, row)
    assert row.attempts > 2


def test_a_job_that_was_being_cancelled_when_its_server_died_tells_all_it_did(workplace: Workplace) -> None:
    workplace.start(fault=SLOW_MODEL)
    for number in range(VIDEOS):
        workplace.video(f"{number}.mp4")
    job = workplace.submit_lines(["{", *(line(f"{number}.mp4") for number in range(VIDEOS))])
    workplace.wait_until(job, lambda _: bool(workplace.database.shards(job)))
    stop(workplace)
    recorded = len(workplace.database.shards(job))
    before = workplace.job(job)
    assert before.output_directory is not None
    workplace.database.request_cancel(job)
    folder = before.output_directory.removeprefix("gs://bucket/")
    workplace.put(f"{folder}/predictions_00099.jsonl", "unrecorded")
    workplace.start()
    row = workplace.finish(job)
    assert (row.state, error_of(row)) == (JobState.CANCELLED, (1, "CANCELED"))
    assert (row.successful, row.failed, row.incomplete) == (recorded, 1, VIDEOS - recorded)
    assert len(row.partial_failures) == 1
    assert len(workplace.predictions(row)) == recorded
    assert [entry["error"]["code"] for entry in workplace.errors(row)] == [3]


def test_a_cancelled_job_ends_although_its_input_is_gone(workplace: Workplace) -> None:
    workplace.start(fault=SLOW_MODEL)
    workplace.video("a.mp4", 60)
    job = workplace.submit_lines([line("a.mp4", "0s", "0.1s"), line("a.mp4")])
    workplace.wait_until(job, lambda row: row.successful == 1)
    stop(workplace)
    workplace.database.request_cancel(job)
    for file in (workplace.bucket / "in").iterdir():
        file.unlink()
    workplace.start()
    row = workplace.finish(job)
    assert (row.state, row.successful) == (JobState.CANCELLED, 1)


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_job_whose_input_has_changed_is_not_resumed_against_it(
    workplace: Workplace, cancelled: bool
) -> None:
    workplace.start(fault=SLOW_MODEL)
    workplace.video("a.mp4", 60)
    job = workplace.submit_lines([line("a.mp4"), line("missing.mp4")])
    workplace.wait_until(job, lambda row: row.failed == 1 and bool(workplace.database.shards(job)))
    stop(workplace)
    if cancelled:
        workplace.database.request_cancel(job)
    for file in (workplace.bucket / "in").iterdir():
        file.write_text(f"{line('a.mp4', '0s', '0.1s')}\n")
    workplace.start()
    row = workplace.finish(job)
    assert (row.successful, row.failed, row.incomplete) == (0, 1, 1)
    if cancelled:
        assert row.state is JobState.CANCELLED
    else:
        assert row.state is JobState.FAILED
        assert "input has changed since the job began: it had 2 instances, and has 1 now" in error_of(row)[1]


def test_a_clock_that_is_set_forward_makes_no_job_look_abandoned(workplace: Workplace) -> None:
    ahead_us = 0
    workplace.database.close()
    workplace.database = Database(database_url(workplace.folder), clock=lambda: now_us() + ahead_us)
    workplace.start(fault=SLOW_MODEL)
    workplace.video("long.mp4", 60)
    workplace.video("a.mp4", 0.3)
    job = workplace.submit_lines([line("long.mp4")])
    workplace.wait_until(job, lambda row: row.incomplete == 1)
    for _ in range(3):
        ahead_us += 60_000_000
        other = workplace.submit_lines([line("a.mp4")])
        assert workplace.finish(other).state is JobState.SUCCEEDED
    assert workplace.job(job).attempts == 1
    workplace.database.request_cancel(job)
    assert workplace.finish(job).state is JobState.CANCELLED


def test_a_runner_does_not_take_a_later_claim_of_its_own_server_for_its_own(workplace: Workplace) -> None:
    """As after a snapshot was loaded while it worked: its row is there again, and free."""
    dispatcher = workplace.start(fault=SLOW_MODEL)
    workplace.video("long.mp4", 5)
    job = workplace.submit_lines([line("long.mp4")])
    first = workplace.wait_until(job, lambda row: row.incomplete == 1)
    assert first.owner is not None
    workplace.database.release(first.owner)
    dispatcher.look_after_all()
    second = workplace.wait_until(job, lambda row: row.attempts == 2 and row.owner is not None)
    assert second.owner != first.owner
    row = workplace.finish(job)
    assert (row.state, row.successful, row.attempts) == (JobState.SUCCEEDED, 1, 2)
    assert len(workplace.predictions(row)) == 1


def test_workers_come_back_when_no_process_could_be_started_for_a_while(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = workplace.pool = ProcessExecutor(1, log_level="warning")
    pool.start()
    workplace.start(fault=JobFault("kill-worker", instance=1, attempts=1))
    workplace.video("a.mp4", 0.3)
    refused: list[int] = []
    start = subprocess.Popen.__init__

    def refuse_twice(self: Any, *arguments: Any, **options: Any) -> None:
        if "emulator.execution.worker" in arguments[0] and len(refused) < 2:
            refused.append(sum(str(link).startswith("socket:") for link in _descriptors()))
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        start(self, *arguments, **options)

    deadline = time.monotonic() + 60
    while pool.status().ready == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse_twice)
    row = workplace.run([line("a.mp4")])
    assert (row.state, row.successful) == (JobState.SUCCEEDED, 1)
    assert len(refused) == 2
    assert refused[1] <= refused[0], "a start that fails leaves descriptors behind"
    pool.stop()


def _descriptors() -> Iterator[Path]:
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            yield path.readlink()


class SlowClaims(Database):
    """A database that is slow to answer a claim."""

    claiming = threading.Event()

    def claim_job(self, owner: str, lease_us: int, now_us: int | None = None) -> JobRow | None:
        row = super().claim_job(owner, lease_us, now_us)
        if row is not None:
            self.claiming.set()
            time.sleep(0.5)
        return row


def test_a_job_that_is_claimed_while_the_server_stops_is_handed_back(workplace: Workplace) -> None:
    workplace.database.close()
    database = workplace.database = SlowClaims(database_url(workplace.folder))
    database.claiming.clear()
    dispatcher = workplace.start(fault=SLOW_MODEL)
    workplace.video("long.mp4", 60)
    job = workplace.submit_lines([line("long.mp4")])
    assert database.claiming.wait(60)
    stopping = threading.Thread(target=dispatcher.stop)
    stopping.start()
    stopping.join(60)
    assert not stopping.is_alive(), "it waits for the whole job"
    workplace.dispatchers.clear()
    row = workplace.job(job)
    assert (row.state, row.owner) == (JobState.RUNNING, None)


@pytest.mark.parametrize(("pace", "reads"), [("queued=0.2s", 0), ("queued=1", 1)])
def test_a_job_leaves_the_queue_while_all_places_are_taken(
    workplace: Workplace, pace: str, reads: int
) -> None:
    dispatcher: Dispatcher = workplace.start(fault=SLOW_MODEL, max_running_jobs=1)
    workplace.video("long.mp4", 60)
    busy = workplace.submit_lines([line("long.mp4")])
    workplace.wait_until(busy, lambda row: row.incomplete == 1)
    job = workplace.submit_lines([line("long.mp4")], pace=pace)
    dispatcher.look_after_all()
    assert workplace.job(job).state is JobState.QUEUED
    for _ in range(reads + 1):
        workplace.database.count_read(job)
    dispatcher.look_after_all()
    workplace.wait_until(job, lambda row: row.state is JobState.PENDING, timeout_s=60)
    for one in (busy, job):
        workplace.database.request_cancel(one)
    dispatcher.look_after_all()


def test_a_killed_worker_of_a_stopping_pool_is_not_replaced(workplace: Workplace) -> None:
    pool = ProcessExecutor(1, log_level="warning")
    pool.start()
    deadline = time.monotonic() + 60
    while pool.status().ready == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    [process] = pool.status().process_ids
    os.kill(process, signal.SIGKILL)
    pool.stop()
    assert pool.status().process_ids == ()
