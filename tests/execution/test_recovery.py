"""Servers that die: their jobs are resumed without a missing or a double line."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emulator.execution.owner import Owner, living_servers
from emulator.instructions.faults import JobFault
from emulator.vertex.job_state import JobState
from tests.execution.workplace import Workplace, line

VIDEOS = 6

SLOW = JobFault("slow-model", delay_s=0.03)
SERVER = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from tests.execution.workplace import *
from tests.postgresql import database_url
from emulator.execution import dispatcher

dispatcher._LEASE_US = 3_600_000_000
folder = Path(sys.argv[1])
pool = ProcessExecutor(2)
store = LocalStore(folder / "buckets")
place = Workplace(folder, folder, pool, Database(database_url(folder)), store)
pool.start()
place.start()
while True:
    time.sleep(0.1)
    print(*pool.status().process_ids, flush=True)
"""


def start_server(workplace: Workplace) -> subprocess.Popen[str]:
    """A server without its API: dispatcher, workers and rows in a process of its own."""
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    script = workplace.folder / "server.py"
    script.write_text(SERVER)
    command = [sys.executable, str(script), str(workplace.folder), *paths]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in Path(f"/proc/{process}/status").read_text()


def lines() -> list[str]:
    videos = [f"{number}.mp4" for number in range(VIDEOS)]
    return [line(video, start) for video in videos for start in ("0s", "0.5s")] + ["{", line("missing.mp4")]


def test_killed_server_is_resumed_without_loss_or_doubles(workplace: Workplace) -> None:
    for number in range(VIDEOS):
        workplace.video(f"{number}.mp4")
    workplace.fault = SLOW
    job = workplace.submit_lines(lines())
    server = start_server(workplace)
    assert server.stdout is not None
    try:
        workers: list[int] = []
        while not workers:
            workers = [int(word) for word in server.stdout.readline().split()]
        before = workplace.wait_until(job, lambda row: row.successful >= 3)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    assert before.state is JobState.RUNNING
    recorded = workplace.database.shards(job)
    assert 1 <= len(recorded) < VIDEOS
    # What a server leaves that dies between writing a file and recording it:
    assert before.output_directory is not None
    folder = before.output_directory.removeprefix("gs://bucket/")
    workplace.put(f"{folder}/predictions_00099.jsonl", "unrecorded")

    workplace.start()
    row = workplace.finish(job)
    assert row.state is JobState.SUCCEEDED
    assert (row.successful, row.failed, row.incomplete) == (2 * VIDEOS, 2, 0)
    assert (row.attempts, row.start_time_us) == (2, before.start_time_us)
    assert row.output_directory == before.output_directory
    found = [json.dumps(entry["instance"]) for entry in workplace.predictions(row)]
    assert sorted(found) == sorted(lines()[: 2 * VIDEOS])
    assert [entry["error"]["code"] for entry in workplace.errors(row)] == [3, 5]
    deadline = time.monotonic() + 60
    while any(running(worker) for worker in workers):
        assert time.monotonic() < deadline, "workers outlive their server"
        time.sleep(0.05)


def test_restart_takes_over_at_once(workplace: Workplace) -> None:
    """Not only when the lease of the dead server runs out, which is in an hour."""
    workplace.video("a.mp4")
    workplace.video("long.mp4", 60)
    workplace.fault = SLOW
    job = workplace.submit_lines([line("long.mp4")])
    server = start_server(workplace)
    assert server.stdout is not None
    workplace.wait_until(job, lambda row: row.incomplete == 1)
    server.kill()
    server.wait()
    server.stdout.close()
    workplace.start()
    workplace.wait_until(job, lambda row: row.attempts == 2)
    workplace.database.request_cancel(job)
    assert workplace.finish(job).state is JobState.CANCELLED


def test_cancellation_survives_the_server(workplace: Workplace) -> None:
    workplace.video("long.mp4", 60)
    job = workplace.submit_lines([line("long.mp4")])
    assert workplace.database.claim_job("a server that died", 0) is not None
    workplace.database.request_cancel(job)
    workplace.start()
    assert workplace.finish(job).state is JobState.CANCELLED


def test_graceful_stop_hands_the_job_back(workplace: Workplace) -> None:
    workplace.video("a.mp4")
    workplace.video("long.mp4", 5)
    dispatcher = workplace.start(fault=JobFault("slow-model", delay_s=0.05))
    job = workplace.submit_lines([line("a.mp4"), line("long.mp4")])
    workplace.wait_until(job, lambda _: bool(workplace.database.shards(job)))
    dispatcher.stop()
    row = workplace.job(job)
    assert (row.state, row.owner) == (JobState.RUNNING, None)
    workplace.dispatchers.clear()
    workplace.start()
    row = workplace.finish(job)
    assert (row.state, row.successful, row.attempts) == (JobState.SUCCEEDED, 2, 2)
    assert len(workplace.predictions(row)) == 2


def test_graceful_stop_waits_for_a_job_that_is_nearly_done(workplace: Workplace) -> None:
    workplace.video("a.mp4")
    dispatcher = workplace.start(fault=JobFault("slow-model", delay_s=0.02))
    job = workplace.submit_lines([line("a.mp4")])
    workplace.wait_until(job, lambda row: row.state is JobState.RUNNING)
    dispatcher.stop(timeout_s=10)
    workplace.dispatchers.clear()
    assert workplace.job(job).state is JobState.SUCCEEDED


def test_runner_that_lost_its_lease_changes_nothing(workplace: Workplace) -> None:
    workplace.video("long.mp4", 5)
    workplace.start(fault=JobFault("slow-model", delay_s=0.3))
    job = workplace.submit_lines([line("long.mp4")])
    row = workplace.wait_until(job, lambda row: row.incomplete == 1)
    assert row.owner is not None
    # Or its own server takes it first.
    with workplace.database._lock, workplace.dispatchers[0]._lock:
        workplace.database.release(row.owner)
        taken = workplace.database.claim_job("another server", 60_000_000)
    assert taken is not None
    assert taken.id == job
    workplace.wait_until(job, lambda _: workplace.dispatchers[0].running_jobs == 0)
    row = workplace.job(job)
    assert (row.owner, row.state, row.attempts) == ("another server", JobState.RUNNING, 2)
    assert workplace.files(row) == {}


def test_dead_owner_is_told_from_a_living_one(tmp_path: Path) -> None:
    first, second = Owner(tmp_path), Owner(tmp_path)
    assert list(second.the_dead()) == []
    script = (
        "import sys, time; from pathlib import Path; from emulator.execution.owner import Owner;"
        "owner = Owner(Path(sys.argv[1])); print(owner.token, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    own = f"process {os.getpid()} of {socket.gethostname()}"
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None
        token = process.stdout.readline().strip()
        assert list(first.the_dead()) == []
        other = f"process {process.pid} of {socket.gethostname()}"
        assert sorted(living_servers(tmp_path)) == sorted([own, own, other])
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert living_servers(tmp_path) == [own, own]
    assert list(first.the_dead()) == [token]
    assert list(second.the_dead()) == []
    first.close()
    second.close()
    assert list(tmp_path.iterdir()) == []
    assert living_servers(tmp_path / "missing") == []


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.CANCELLING])
def test_expired_lease_is_taken_over(workplace: Workplace, state: JobState) -> None:
    workplace.video("a.mp4")
    job = workplace.submit_lines([line("a.mp4")])
    workplace.database.claim_job("a server elsewhere", 100_000)
    if state is JobState.CANCELLING:
        workplace.database.request_cancel(job)
    workplace.start()
    expected = {JobState.RUNNING: JobState.SUCCEEDED, JobState.CANCELLING: JobState.CANCELLED}[state]
    assert workplace.finish(job).state is expected


def test_job_that_could_not_be_finished_is_taken_up_again(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease is not renewed by what else the server runs."""
    monkeypatch.setattr("emulator.execution.dispatcher._LEASE_US", 1_000_000)
    workplace.video("a.mp4")
    workplace.video("long.mp4", 60)
    workplace.start(fault=JobFault("slow-model", delay_s=0.05))
    other = workplace.submit_lines([line("long.mp4")])
    job = workplace.submit_lines([line("a.mp4")])
    workplace.wait_until(other, lambda row: row.incomplete == 1)
    workplace.wait_until(job, lambda row: row.incomplete == 1)
    with workplace.database._write() as connection:
        connection.exec_driver_sql("ALTER TABLE shards RENAME TO away")
    workplace.wait_until(job, lambda _: workplace.dispatchers[0].running_jobs == 1)
    with workplace.database._write() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO shards")
    row = workplace.finish(job)
    assert (row.state, row.successful, row.attempts) == (JobState.SUCCEEDED, 1, 2)
    assert workplace.job(other).state is JobState.RUNNING
    workplace.database.request_cancel(other)
