"""What a job began with is what it goes on with: its input, its model, its videos."""

import os
import signal
import time
from pathlib import Path

import pytest

from emulator.execution.processes import ProcessExecutor
from emulator.instructions.faults import JobFault
from emulator.vertex.job_state import JobState
from tests.execution.workplace import Workplace, error_of, line, write_tiny_model

VIDEOS = 6
SLOW = JobFault("slow-model", delay_s=0.03)


@pytest.fixture
def model(workplace: Workplace) -> Path:
    return write_tiny_model(workplace.folder / "model")


def interrupted(workplace: Workplace, model: Path | None = None, done: int = 2) -> tuple[int, Path]:
    """A job whose server is gone after some of its videos, and its input file."""
    for number in range(VIDEOS):
        workplace.video(f"{number}.mp4", 1)
    workplace.start(fault=SLOW)
    job = workplace.submit_lines(lines(), model=model)
    workplace.wait_until(job, lambda row: len(workplace.database.shards(job)) >= done and row.incomplete > 0)
    workplace.dispatchers.pop().stop()
    workplace.fault = None
    assert 0 < len(workplace.database.shards(job)) < VIDEOS
    (source,) = (workplace.bucket / "in").iterdir()
    return job, source


def lines() -> list[str]:
    return [line(f"{number}.mp4") for number in range(VIDEOS)]


def test_the_same_lines_in_another_order_fail_the_job(workplace: Workplace) -> None:
    job, source = interrupted(workplace)
    before = workplace.job(job)
    recorded = len(workplace.database.shards(job))
    source.write_text("\n".join(reversed(lines())))
    workplace.start()
    row = workplace.finish(job)
    assert (row.state, error_of(row)[0]) == (JobState.FAILED, 9)
    assert "The input has changed since the job began: its lines are others now" in error_of(row)[1]
    assert "Create the job again." in error_of(row)[1]
    assert (row.successful, row.failed) == (before.successful, before.failed)
    assert len(workplace.predictions(row)) == recorded, "what was recorded is kept"


@pytest.mark.parametrize("end", ["\r\n", "\n\n \n"], ids=["crlf", "blank lines"])
def test_line_breaks_do_not_change_the_input(workplace: Workplace, end: str) -> None:
    job, source = interrupted(workplace)
    source.write_bytes("".join(f"{text}{end}" for text in lines()).encode())
    workplace.start()
    row = workplace.finish(job)
    assert (row.state, row.successful) == (JobState.SUCCEEDED, VIDEOS)
    found = [entry["instance"]["content"] for entry in workplace.predictions(row)]
    assert found == [f"gs://bucket/{number}.mp4" for number in range(VIDEOS)]


def test_an_input_belongs_to_its_job_before_anything_is_predicted(workplace: Workplace) -> None:
    workplace.video("long.mp4", 60)
    workplace.start(fault=SLOW)
    job = workplace.submit_lines([line("long.mp4")])
    workplace.wait_until(job, lambda row: row.incomplete == 1)
    workplace.dispatchers.pop().stop()
    (source,) = (workplace.bucket / "in").iterdir()
    source.write_text(line("long.mp4", "0s", "0.1s"))
    workplace.start()
    row = workplace.finish(job)
    assert "The input has changed since the job began" in error_of(row)[1]


def test_a_line_that_strict_reads_otherwise_changes_the_input(workplace: Workplace) -> None:
    """The videos would have other places in the order."""
    workplace.video("long.mp4", 60)
    workplace.start(fault=SLOW)
    job = workplace.submit_lines([line("0.mp4").replace('"', "'"), line("long.mp4")])
    workplace.wait_until(job, lambda _: bool(workplace.database.shards(job)))
    workplace.dispatchers.pop().stop()
    workplace.start(strict=True)
    row = workplace.finish(job)
    assert "The input has changed since the job began" in error_of(row)[1]


@pytest.mark.parametrize("name", ["labels.txt", "model.toml", "model.onnx"])
def test_a_model_that_has_changed_fails_the_job(workplace: Workplace, model: Path, name: str) -> None:
    job, _ = interrupted(workplace, model)
    recorded = len(workplace.database.shards(job))
    if name == "model.onnx":
        other = write_tiny_model(workplace.folder / "other")
        data = (other / name).read_bytes()
        (model / name).write_bytes(data.replace(b"tiny", b"ynit"))
    else:
        (model / name).write_text((model / name).read_text().replace("thing", "other") + "\n# edited\n")
        if name == "labels.txt":
            (model / name).write_text("other\n")
    workplace.start()
    row = workplace.finish(job)
    assert (row.state, error_of(row)[0]) == (JobState.FAILED, 9)
    assert f"The model has changed since the job began: the files in {model}" in error_of(row)[1]
    assert len(workplace.predictions(row)) == recorded == row.successful
    assert row.incomplete == VIDEOS - recorded


def test_a_model_that_changes_while_a_job_runs_fails_it(workplace: Workplace, model: Path) -> None:
    for number in range(VIDEOS):
        workplace.video(f"{number}.mp4", 1)
    workplace.start(fault=SLOW)
    job = workplace.submit_lines(lines(), model=model)
    workplace.wait_until(job, lambda _: bool(workplace.database.shards(job)))
    (model / "labels.txt").write_text("other\n")
    row = workplace.finish(job)
    assert "The model has changed since the job began" in error_of(row)[1]
    labels = {track["displayName"] for entry in workplace.predictions(row) for track in entry["prediction"]}
    assert labels == {"thing"}
    workplace.fault = None
    row = workplace.run([line("0.mp4")], model=model)
    assert workplace.predictions(row)[0]["prediction"][0]["displayName"] == "other"


def test_files_beside_a_model_and_their_times_do_not_change_it(workplace: Workplace, model: Path) -> None:
    job, _ = interrupted(workplace, model)
    (model / "README.md").write_text("notes")
    for path in model.iterdir():
        os.utime(path, (time.time(), time.time()))
    workplace.start()
    assert workplace.finish(job).state is JobState.SUCCEEDED


def test_a_video_that_changes_between_attempts_is_read_as_it_is_then(workplace: Workplace) -> None:
    """Those that are done stay as they were predicted, all instances of one are of the same version."""
    job, _ = interrupted(workplace)
    done = {shard.index for shard in workplace.database.shards(job)}
    for number in range(VIDEOS):
        workplace.video(f"{number}.mp4", 0.5)
    workplace.start()
    row = workplace.finish(job)
    assert (row.state, row.successful) == (JobState.SUCCEEDED, VIDEOS)
    frames = [len(entry["prediction"][0]["frames"]) for entry in workplace.predictions(row)]
    assert frames == [10 if number in done else 5 for number in range(VIDEOS)]


def test_a_video_that_changes_after_its_worker_died_is_read_as_it_is_then(workplace: Workplace) -> None:
    """The instances that were finished stay, the others are predicted on what lies there now."""
    pool = workplace.pool = ProcessExecutor(1, log_level="warning")
    pool.start()
    workplace.video("a.mp4", 2)
    workplace.start(fault=JobFault("hang-worker", instance=2, attempts=1))
    job = workplace.submit_lines([line("a.mp4", "0s", "0.5s"), line("a.mp4")])
    workplace.wait_until(job, lambda row: row.successful == 1)
    workplace.video("a.mp4", 1)
    [process] = pool.status().process_ids
    os.kill(process, signal.SIGKILL)
    row = workplace.finish(job)
    pool.stop()
    assert (row.state, row.successful) == (JobState.SUCCEEDED, 2)
    frames = [len(entry["prediction"][0]["frames"]) for entry in workplace.predictions(row)]
    assert frames == [5, 10]
