"""Workers that crash, hang or cannot start, and jobs that are cancelled: nothing is lost, nothing hangs."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from emulator.execution.executor import Executor
from emulator.execution.processes import ProcessExecutor
from emulator.execution.shards import ModelUse
from emulator.instructions.faults import JobFault
from emulator.vertex.job_state import JobState
from tests.execution.workplace import Workplace, error_of, line
from tests.inference.corpus import Clip, constant

SEGMENTS = [("0s", "0.2s"), ("0.2s", "0.4s"), ("0.4s", "0.6s"), ("0.6s", "0.8s")]

# A cancelled job ends within a second, on a busy machine within two. Left alone these would take minutes.
PROMPT_S = 15


def lines_of(video: str) -> list[str]:
    return [line(video, *segment) for segment in SEGMENTS]


def starts(entries: list[dict[str, str]]) -> list[str]:
    return [entry["timeSegmentStart"] for entry in entries]


def predicted_starts(workplace: Workplace, job: int) -> list[str]:
    return starts([entry["instance"] for entry in workplace.predictions(workplace.job(job))])


def wait_until(holds: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def impatient(tiny_model: Path) -> Iterator[Executor]:
    """One worker that may be silent for two seconds."""
    pool = ProcessExecutor(1, timeout_s=2, warm=[ModelUse(tiny_model, "cpu", 1)], log_level="warning")
    pool.start()
    wait_until(lambda: pool.status().ready == 1)
    yield pool
    pool.stop()


def test_native_crash_costs_nothing(workplace: Workplace) -> None:
    workplace.video("a.mp4")
    workplace.start(fault=JobFault("kill-worker", instance=3, attempts=1))
    row = workplace.run(lines_of("a.mp4"))
    assert row.state is JobState.SUCCEEDED
    assert (row.successful, row.failed) == (4, 0)
    assert predicted_starts(workplace, row.id) == ["0s", "0.2s", "0.4s", "0.6s"]


@pytest.mark.parametrize("poison", [0, 2])
def test_poison_instance_becomes_an_error_line(workplace: Workplace, poison: int) -> None:
    workplace.video("a.mp4")
    workplace.video("b.mp4")
    workplace.start(fault=JobFault("kill-worker", instance=poison + 1, attempts=99))
    row = workplace.run([*lines_of("a.mp4"), line("b.mp4")])
    assert row.state is JobState.SUCCEEDED
    assert (row.successful, row.failed) == (4, 1)
    [entry] = workplace.errors(row)
    assert entry["timeSegmentStart"] == SEGMENTS[poison][0]
    assert entry["error"]["code"] == 13
    assert "SIGSEGV" in entry["error"]["message"]
    assert "each time it worked on this instance" in entry["error"]["message"]


def test_killed_worker_keeps_what_was_finished(workplace: Workplace, impatient: Executor) -> None:
    workplace.pool = impatient
    workplace.video("a.mp4", 3)
    workplace.start(fault=JobFault("slow-model", delay_s=0.05))
    job = workplace.submit_lines([line("a.mp4", "0s", "0.2s"), line("a.mp4", "0.5s", "2s")])
    workplace.wait_until(job, lambda row: row.successful == 1)
    # The only one: were there others, the work could be on the next one by the time that one is killed.
    [killed] = impatient.status().process_ids
    os.kill(killed, signal.SIGKILL)
    row = workplace.finish(job)
    assert row.state is JobState.SUCCEEDED
    assert (row.successful, row.failed, row.attempts) == (2, 0, 1)
    assert predicted_starts(workplace, job) == ["0s", "0.5s"]
    wait_until(lambda: impatient.status().ready == 1)
    assert impatient.status().process_ids != (killed,)


def test_hung_worker_is_replaced(workplace: Workplace, impatient: Executor) -> None:
    workplace.pool = impatient
    workplace.video("a.mp4")
    workplace.start(fault=JobFault("hang-worker", instance=2, attempts=1))
    [hung] = impatient.status().process_ids
    row = workplace.run(lines_of("a.mp4"))
    assert (row.successful, row.failed) == (4, 0)
    assert impatient.status().process_ids != (hung,)


def test_instance_that_always_hangs_is_an_error_line(workplace: Workplace, impatient: Executor) -> None:
    workplace.pool = impatient
    workplace.video("a.mp4")
    workplace.start(fault=JobFault("hang-worker", instance=2, attempts=99))
    row = workplace.run([line("a.mp4", "0.6s"), line("a.mp4", "0s", "0.4s")])
    assert (row.successful, row.failed) == (1, 1)
    assert "no sign of life for 2 s" in workplace.errors(row)[0]["error"]["message"]


def test_workers_that_cannot_start_fail_the_job(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "cv2.py").write_text("raise ImportError('libGL.so.1 is missing')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    workplace.pool = ProcessExecutor(1)
    workplace.pool.start()
    try:
        workplace.video("a.mp4")
        row = workplace.run([line("a.mp4")])
    finally:
        workplace.pool.stop()
    assert row.state is JobState.FAILED
    code, message = error_of(row)
    assert code == 13
    assert "ImportError: libGL.so.1 is missing" in message


@pytest.mark.slow
def test_worker_on_a_long_walk_is_not_taken_for_hung(workplace: Workplace, impatient: Executor) -> None:
    """An MPEG-TS is not sought. Its half hour here takes far longer to decode than a worker may be silent."""
    ticks = constant(300, 3000)
    piece = Clip("piece.ts", ticks, Fraction(1, 90000), gop=30, b_frames=2).write(workplace.folder)
    workplace.put("long.ts", piece.read_bytes() * 180)
    workplace.pool = impatient
    workplace.start()
    [walker] = impatient.status().process_ids
    row = workplace.run([line("long.ts", "1700s", "1701s")])
    assert (row.state, row.successful, row.failed) == (JobState.SUCCEEDED, 1, 0)
    assert impatient.status().process_ids == (walker,)


def test_idle_worker_is_replaced_when_it_dies(impatient: Executor) -> None:
    [process] = impatient.status().process_ids
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: impatient.status().process_ids not in ((), (process,)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_all_processes_leave_the_workers_to_the_server(
    workplace: Workplace, impatient: Executor, number: signal.Signals
) -> None:
    workplace.pool = impatient
    workplace.video("a.mp4", 2)
    [worker] = impatient.status().process_ids
    workplace.start(fault=JobFault("slow-model", delay_s=0.03))
    job = workplace.submit_lines([line("a.mp4")])
    workplace.wait_until(job, lambda row: row.incomplete == 1)
    os.kill(worker, number)
    row = workplace.finish(job)
    assert (row.state, row.successful) == (JobState.SUCCEEDED, 1)
    assert impatient.status().process_ids == (worker,)


def test_stopping_the_pool_ends_busy_workers(workplace: Workplace, tiny_model: Path) -> None:
    pool = workplace.pool = ProcessExecutor(1)
    pool.start()
    workplace.video("a.mp4")
    dispatcher = workplace.start(fault=JobFault("hang-worker", instance=1))
    job = workplace.submit_lines([line("a.mp4")])
    wait_until(lambda: pool.status().ready == 1)
    [process] = pool.status().process_ids
    workplace.wait_until(job, lambda row: row.incomplete == 1)
    dispatcher.stop()
    before = time.monotonic()
    pool.stop()
    assert time.monotonic() - before < 30
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.parametrize("fault", [JobFault("slow-model", delay_s=0.05), JobFault("hang-worker", instance=2)])
def test_cancel_takes_effect_at_once(workplace: Workplace, pool: Executor, fault: JobFault) -> None:
    """In the middle of a long video, whether the worker cooperates or not; what is written stays."""
    workplace.video("short.mp4", 0.2)
    workplace.video("long.mp4", 60)
    wait_until(lambda: pool.status().ready == 2)
    workers = pool.status().process_ids
    dispatcher = workplace.start(fault=fault)
    job = workplace.submit_lines([line("short.mp4"), line("long.mp4", "0s", "0.5s"), line("long.mp4")])
    workplace.wait_until(job, lambda _: bool(workplace.database.shards(job)))
    time.sleep(1)  # until the worker is in the middle of it, or hangs
    before = time.monotonic()
    assert workplace.database.request_cancel(job) is JobState.RUNNING
    dispatcher.look_after_all()
    row = workplace.finish(job)
    assert time.monotonic() - before < PROMPT_S
    assert row.state is JobState.CANCELLED
    assert error_of(row) == (1, "CANCELED")
    assert (row.successful, row.failed, row.incomplete) == (1, 0, 2)
    assert list(workplace.files(row)) == ["predictions_00001.jsonl"]
    if fault.kind == "hang-worker":
        wait_until(lambda: pool.status().ready == 2 and pool.status().process_ids != workers)
    assert workplace.run([line("short.mp4")]).successful == 1


def test_cancel_is_noticed_without_a_wake(workplace: Workplace) -> None:
    workplace.video("long.mp4", 60)
    workplace.start(fault=JobFault("slow-model", delay_s=0.05))
    job = workplace.submit_lines([line("long.mp4")])
    workplace.wait_until(job, lambda row: row.incomplete == 1)
    workplace.database.request_cancel(job)
    before = time.monotonic()
    workplace.finish(job)
    assert time.monotonic() - before < PROMPT_S


def test_cancelling_one_job_leaves_the_other_alone(workplace: Workplace) -> None:
    for name in ("a.mp4", "b.mp4"):
        workplace.video(name, 2)
    dispatcher = workplace.start(fault=JobFault("slow-model", delay_s=0.05))
    jobs = [workplace.submit_lines([line(name)]) for name in ("a.mp4", "b.mp4")]
    for job in jobs:
        workplace.wait_until(job, lambda row: row.incomplete == 1)
    threading.Timer(0.1, dispatcher.wake).start()
    workplace.database.request_cancel(jobs[0])
    assert workplace.finish(jobs[0]).state is JobState.CANCELLED
    assert workplace.finish(jobs[1]).successful == 1
