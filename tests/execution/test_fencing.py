"""A server that is stopped at any point, loses its job and goes on: others see nothing of that."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emulator.database import Database, JobRow, now_us
from emulator.database.outages import DatabaseUnavailable
from emulator.execution.dispatcher import Dispatcher
from emulator.execution.runner import RunnerSettings
from emulator.instructions.faults import JobFault
from emulator.storage import LocalStore
from emulator.vertex.job_state import JobState
from tests.execution.stopping import POINTS, Stopper, StoppingDatabase, StoppingStore
from tests.execution.workplace import Workplace, error_of, line, write_tiny_model
from tests.postgresql import postgresql_schema

VIDEOS = 3
#: The middle one has no file.
LINES = [line("0.mp4"), line("0.mp4", "0.1s"), "{", line("missing.mp4"), line("1.mp4"), line("2.mp4")]


@pytest.fixture(params=["sqlite", "postgresql"])
def shared(workplace: Workplace, request: pytest.FixtureRequest) -> Iterator[Workplace]:
    """A workplace whose database several servers share."""
    for number in range(VIDEOS):
        workplace.video(f"{number}.mp4", 0.2)
    if request.param == "sqlite":
        yield workplace
        return
    with postgresql_schema() as url:
        workplace.database.close()
        workplace.database = Database(url)
        yield workplace
        for dispatcher in workplace.dispatchers:
            dispatcher.stop()
        workplace.dispatchers.clear()
        workplace.database.close()
        workplace.database = Database("sqlite://")


class StoppedServer:
    """A second server on the workplace's rows and buckets, which stops at a point of its first job."""

    def __init__(self, workplace: Workplace, point: str) -> None:
        self.stopper = Stopper(point)
        url = workplace.database._engine.url.render_as_string(hide_password=False)
        self._database = StoppingDatabase(url)
        self._database.stopper = self.stopper
        self._dispatcher = Dispatcher(
            self._database,
            StoppingStore(workplace.store, self.stopper),
            workplace.pool,
            owners=workplace.folder / "others",
            settings=RunnerSettings(provider="cpu", threads=1),
        )
        self._dispatcher.start()

    def go_on(self) -> None:
        """Let it go on, and wait until it has done what it does."""
        self.stopper.go_on()
        deadline = time.monotonic() + 120
        while self._dispatcher.running_jobs:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self._dispatcher.stop()
        self._database.close()


def directory_of(workplace: Workplace, row: JobRow) -> Path:
    assert row.output_directory is not None
    return workplace.store.root / row.output_directory.removeprefix("gs://")


def look(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Everything in a folder, and whether it is still the same."""
    return {
        path.name: (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.iterdir()
    }


def staged(workplace: Workplace) -> list[str]:
    return [path.name for path in (workplace.bucket / ".vbe-tmp").iterdir()]


def take_over(workplace: Workplace, job: int) -> JobRow:
    """Have another server go on with a job whose lease is over; the row at its end."""
    owner = workplace.job(job).owner
    assert owner is not None
    workplace.database.release(owner)
    workplace.start()
    return workplace.finish(job, timeout_s=120)


@pytest.mark.parametrize(
    ("point", "removed"),
    [
        *((point, False) for point in POINTS),
        *((point, True) for point in ("stage", "publish", "publish errors")),
    ],
)
def test_what_a_server_does_after_it_lost_its_job_is_not_seen(
    shared: Workplace, point: str, removed: bool
) -> None:
    clean = shared.files(shared.run(LINES))
    shared.dispatchers.pop().stop()
    assert sorted(clean) == ["errors_00001.jsonl", *(f"predictions_0000{n}.jsonl" for n in (1, 2, 3))]

    shared.fault = JobFault("slow-model", delay_s=0.1) if point == "tidy" else None
    job = shared.submit_lines(LINES)
    stopped = StoppedServer(shared, point)
    if point == "tidy":
        row = shared.wait_until(job, lambda row: row.output_directory is not None)
        name = (row.output_directory or "").removeprefix("gs://bucket/")
        shared.put(f"{name}/predictions_00009.jsonl", "unrecorded")
    assert stopped.stopper.stopped.wait(120)
    row = take_over(shared, job)
    assert (row.state, row.successful, row.failed, row.attempts) == (JobState.SUCCEEDED, 4, 2, 2)
    ended = directory_of(shared, row)
    before = look(ended)
    assert shared.files(row) == clean
    if removed:
        shutil.rmtree(ended)
    stopped.go_on()
    assert (look(ended) if ended.exists() else {}) == ({} if removed else before)
    assert staged(shared) == []
    assert shared.job(job) == row


@pytest.mark.parametrize("point", ["stage", "record", "publish", "decide", "publish errors"])
def test_a_cancelled_job_that_is_taken_over_keeps_what_was_done(shared: Workplace, point: str) -> None:
    job = shared.submit_lines(LINES)
    stopped = StoppedServer(shared, point)
    assert stopped.stopper.stopped.wait(120)
    shared.database.request_cancel(job)
    row = take_over(shared, job)
    decided = point == "publish errors"
    assert row.state is (JobState.SUCCEEDED if decided else JobState.CANCELLED)
    before = look(directory_of(shared, row))
    assert len(shared.predictions(row)) == row.successful
    assert len(shared.errors(row)) == row.failed
    stopped.go_on()
    assert look(directory_of(shared, row)) == before
    assert staged(shared) == []
    assert shared.job(job) == row


@pytest.mark.parametrize("point", ["decide", "publish", "finish"])
def test_a_job_that_fails_before_all_is_done_ends_as_it_was_decided(shared: Workplace, point: str) -> None:
    """Who takes it over could do the rest, but the files have their numbers already."""
    model = write_tiny_model(shared.folder / "model")
    shared.video("long.mp4", 5)
    shared.fault = JobFault("slow-model", delay_s=0.1)
    job = shared.submit_lines([line("long.mp4"), *LINES], model=model)
    stopped = StoppedServer(shared, point)
    shared.wait_until(job, lambda _: bool(shared.database.shards(job)))
    (model / "labels.txt").write_text("another\n")
    assert stopped.stopper.stopped.wait(120)
    shared.fault = None
    (model / "labels.txt").write_text("thing\n")
    row = take_over(shared, job)
    if point != "decide":
        assert (row.state, error_of(row)[0]) == (JobState.FAILED, 9)
        assert "The model has changed since the job began" in error_of(row)[1]
    before = look(directory_of(shared, row))
    assert len(shared.predictions(row)) == row.successful > 0
    stopped.go_on()
    assert look(directory_of(shared, row)) == before
    assert staged(shared) == []
    assert shared.job(job) == row


SERVER = """
import os, signal, sys, time
from pathlib import Path
sys.path[:0] = sys.argv[4:]
from emulator.execution import dispatcher
from tests.execution.stopping import *
from tests.execution.workplace import *

folder, url, point = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
dispatcher._LEASE_US = 1_000_000

class Signalled(Stopper):
    done = False

    def passes(self, *points):
        if self._point in points and not self.done:
            self.done = True
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(0.2)  # the signal stops this thread a moment after the call has returned

stopper = Signalled(point)
database = StoppingDatabase(url)
database.stopper = stopper
store = StoppingStore(LocalStore(folder / "buckets"), stopper)
pool = ProcessExecutor(1)
pool.start()
place = Workplace(folder, folder, pool, database, store)
place.start()
print("started", flush=True)
sys.stdin.readline()
place.dispatchers[0].stop()
pool.stop()
"""


@contextmanager
def stopping_server(workplace: Workplace, point: str) -> Iterator[subprocess.Popen[str]]:
    """A server in a process of its own that stops itself at a point; it ends when its input does."""
    url = workplace.database._engine.url.render_as_string(hide_password=False)
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    command = [sys.executable, "-c", SERVER, str(workplace.folder), url, point, *paths]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "started\n"
            yield server
        finally:
            server.kill()


def is_stopped(process: int) -> bool:
    return "State:\tT" in Path(f"/proc/{process}/status").read_text()


@pytest.mark.parametrize(
    "point",
    [
        "staging",
        *(
            pytest.param(point, marks=pytest.mark.slow)
            for point in POINTS
            if point not in ("staging", "tidy")
        ),
    ],
)
def test_two_servers_one_of_which_is_stopped_by_a_signal(shared: Workplace, point: str) -> None:
    """Its lease runs out, the other server ends the job, and it goes on."""
    clean = shared.files(shared.run(LINES))
    shared.dispatchers.pop().stop()
    job = shared.submit_lines(LINES)
    with stopping_server(shared, point) as server:
        first = shared.wait_until(job, lambda _: is_stopped(server.pid), timeout_s=120)
        shared.start()
        row = shared.finish(job, timeout_s=120)
        before = look(directory_of(shared, row))
        os.kill(server.pid, signal.SIGCONT)
        server.communicate("stop\n", timeout=120)
        assert server.returncode == 0
    assert first.owner is not None
    assert (row.state, row.successful, row.failed, row.attempts) == (JobState.SUCCEEDED, 4, 2, 2)
    assert shared.files(row) == clean
    assert look(directory_of(shared, row)) == before
    assert staged(shared) == []
    assert shared.job(job) == row


def test_a_server_whose_clock_is_ahead_takes_over_and_nothing_is_lost(shared: Workplace) -> None:
    """The other one works on, and learns of it by its row."""
    shared.start(fault=JobFault("slow-model", delay_s=0.5))
    job = shared.submit_lines(LINES)
    first = shared.wait_until(job, lambda row: row.incomplete >= 0 and row.owner is not None)
    url = shared.database._engine.url.render_as_string(hide_password=False)
    ahead = Database(url, clock=lambda: now_us() + 3600 * 1_000_000)
    other = Dispatcher(ahead, shared.store, shared.pool, owners=shared.folder / "others")
    other.start()
    try:
        shared.wait_until(job, lambda row: row.attempts > first.attempts)
        row = shared.finish(job)
    finally:
        other.stop()
        ahead.close()
    assert (row.state, row.successful, row.failed) == (JobState.SUCCEEDED, 4, 2)
    assert len(shared.predictions(row)) == 4
    assert sorted(shared.files(row))[1:] == [f"predictions_0000{number}.jsonl" for number in (1, 2, 3)]
    assert staged(shared) == []


class Deaf(Database):
    """A database that renews no lease for a while."""

    deaf = threading.Event()

    def heartbeat(self, owners: object, lease_us: int) -> dict[str, JobState]:
        if self.deaf.is_set():
            raise DatabaseUnavailable("The connection is gone.")
        return super().heartbeat(owners, lease_us)  # type: ignore[arg-type]


def test_a_runner_stops_by_itself_when_its_lease_has_run_out(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell it: the dispatcher cannot renew the lease, and no other server has taken the job."""
    monkeypatch.setattr("emulator.execution.dispatcher._LEASE_US", 1_000_000)
    workplace.database.close()
    workplace.database = Deaf(f"sqlite:///{workplace.folder / 'emulator.db'}")
    Deaf.deaf.clear()
    workplace.start(fault=JobFault("slow-model", delay_s=0.1))
    workplace.video("long.mp4", 6)
    job = workplace.submit_lines([line("long.mp4")])
    workplace.wait_until(job, lambda row: row.incomplete == 1)
    Deaf.deaf.set()
    row = workplace.wait_until(job, lambda row: row.attempts == 2)
    assert workplace.files(row) == {}
    Deaf.deaf.clear()
    row = workplace.finish(job)
    assert (row.state, row.successful) == (JobState.SUCCEEDED, 1)


def test_what_was_recorded_and_is_gone_is_made_again(workplace: Workplace) -> None:
    """As after a power cut, or when somebody emptied the folder of unfinished writes."""
    for number in range(VIDEOS):
        workplace.video(f"{number}.mp4", 0.2)
    clean = workplace.files(workplace.run(LINES))
    workplace.dispatchers.pop().stop()
    job = workplace.submit_lines(LINES)
    stopped = StoppedServer(workplace, "publish")
    assert stopped.stopper.stopped.wait(120)
    for name in staged(workplace):
        (workplace.bucket / ".vbe-tmp" / name).unlink()
    row = take_over(workplace, job)
    assert (row.state, row.successful, row.attempts) == (JobState.SUCCEEDED, 4, 2)
    assert workplace.files(row) == clean
    stopped.go_on()
    assert workplace.files(row) == clean


def test_old_files_that_are_staged_outlive_a_restart(workplace: Workplace) -> None:
    """They may belong to a job that goes on only now."""
    folder = workplace.bucket / ".vbe-tmp"
    folder.mkdir(exist_ok=True)
    for name, age_s in (("staged.1.a", 7200), ("staged.1.b", 30 * 86400), ("c", 7200)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age_s,) * 2)
    LocalStore(workplace.store.root).remove_leftovers()
    assert staged(workplace) == ["staged.1.a"]
