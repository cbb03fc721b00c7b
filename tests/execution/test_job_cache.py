"""Jobs over the prediction cache, in real workers: the same files, and words of what was known."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.execution.executor import Executor, Status
from emulator.inference.prediction_cache import CachePlace
from emulator.instructions.faults import JobFault
from emulator.vertex.job_state import JobState
from tests.execution.workplace import Workplace, line, warm_pool, write_tiny_model


@pytest.fixture(scope="module")
def pool(tiny_model: Path) -> Iterator[Executor]:
    """Of its own, so that its counts are those of these tests alone."""
    with warm_pool(tiny_model) as pool:
        yield pool


@pytest.fixture
def cached(workplace: Workplace) -> Workplace:
    workplace.cache = CachePlace(workplace.folder / "cache", 100_000_000)
    return workplace


def said(workplace: Workplace, job_id: int) -> list[str]:
    return [step.text for step in workplace.database.steps(job_id=job_id) if step.step == "cache"]


def grown(before: Status, after: Status) -> tuple[int, int]:
    """The grid points recalled and computed in between."""
    return (
        after.points_recalled - before.points_recalled,
        after.points_computed - before.points_computed,
    )


LINES = [line("a.mp4"), line("b.mp4"), line("a.mp4", "0.3s", "1.2s")]


def test_a_second_job_knows_all_and_writes_the_same_files(cached: Workplace) -> None:
    cached.video("a.mp4", 2)
    cached.video("b.mp4", 1.5)
    before = cached.pool.status()
    first = cached.run(LINES)
    between = cached.pool.status()
    second = cached.run(LINES)
    assert cached.files(first) == cached.files(second)
    assert said(cached, first.id) == []
    assert said(cached, second.id) == ["35 of 35 grid points from the cache"]
    after = cached.pool.status()
    assert grown(before, between) == (0, 35)
    assert grown(between, after) == (35, 0)


def test_without_a_place_nothing_is_kept(workplace: Workplace) -> None:
    workplace.cache = None
    workplace.video("a.mp4")
    before = workplace.pool.status()
    rows = [workplace.run([line("a.mp4")]) for _ in range(2)]
    assert grown(before, workplace.pool.status()) == (0, 0)
    assert [said(workplace, row.id) for row in rows] == [[], []]


def test_a_longer_job_computes_the_rest(cached: Workplace) -> None:
    cached.video("a.mp4", 2)
    cached.run([line("a.mp4", "0s", "1s")])
    row = cached.run([line("a.mp4")])
    assert said(cached, row.id) == ["10 of 20 grid points from the cache"]
    shutil.rmtree(cached.folder / "cache")
    assert cached.files(row) == cached.files(cached.run([line("a.mp4")]))


def test_thresholds_and_sizes_of_a_job_need_nothing_new(cached: Workplace) -> None:
    cached.video("a.mp4", 2)
    cached.run([line("a.mp4")])
    for parameters in ({"confidenceThreshold": 0.95}, {"minBoundingBoxSize": 0.6}, {"maxPredictions": 1}):
        row = cached.run([line("a.mp4")], parameters=parameters)
        assert said(cached, row.id) == ["20 of 20 grid points from the cache"]


def test_a_model_that_changes_is_asked_again(cached: Workplace, tmp_path: Path) -> None:
    cached.video("a.mp4")
    model = write_tiny_model(tmp_path / "mine", "before")
    cached.run([line("a.mp4")], model=model)
    (model / "labels.txt").write_text("after\n")
    row = cached.run([line("a.mp4")], model=model)
    assert said(cached, row.id) == ["10 of 10 grid points from the cache"]
    assert cached.predictions(row)[0]["prediction"][0]["displayName"] == "after"
    graph = model / "model.onnx"
    graph.write_bytes(graph.read_bytes() + b"\x72\x06\x0a\x01a\x12\x01b")  # an entry of its metadata
    row = cached.run([line("a.mp4")], model=model)
    assert said(cached, row.id) == []


def test_a_video_that_is_replaced_is_looked_at_again(cached: Workplace) -> None:
    cached.video("a.mp4")
    cached.run([line("a.mp4")])
    cached.video("a.mp4", 1.5)
    row = cached.run([line("a.mp4")])
    assert said(cached, row.id) == []
    assert len(cached.predictions(row)[0]["prediction"][0]["frames"]) == 15


def test_a_killed_worker_is_killed_all_the_same(cached: Workplace) -> None:
    cached.video("a.mp4")
    expected = cached.files(cached.run([line("a.mp4")]))
    cached.dispatchers.pop().stop()
    cached.start(fault=JobFault("kill-worker", instance=1, attempts=1))
    row = cached.run([line("a.mp4")])
    assert row.state is JobState.SUCCEEDED
    assert cached.files(row) == expected
    died = [step.text for step in cached.database.steps(job_id=row.id) if step.step == "worker"]
    assert len(died) == 1
    assert said(cached, row.id) == ["10 of 10 grid points from the cache"]


def test_a_slow_model_is_slow_all_the_same(cached: Workplace) -> None:
    cached.video("a.mp4")
    cached.run([line("a.mp4")])
    cached.dispatchers.pop().stop()
    cached.start(fault=JobFault("slow-model", delay_s=0.05))
    began = time.monotonic()
    row = cached.run([line("a.mp4")])
    assert time.monotonic() - began >= 10 * 0.05
    assert said(cached, row.id) == ["10 of 10 grid points from the cache"]


@pytest.mark.parametrize("spoil", ["foreign", "damaged", "a file", "gone"])
def test_whatever_becomes_of_the_folder_no_job_fails(cached: Workplace, spoil: str) -> None:
    cached.video("a.mp4")
    expected = cached.files(cached.run([line("a.mp4")]))
    folder = cached.folder / "cache"
    if spoil == "foreign":
        (folder / "notes.txt").write_text("mine")
        (folder / "folder").mkdir()
    elif spoil == "damaged":
        for path in folder.iterdir():
            os.truncate(path, path.stat().st_size // 2)
    else:
        shutil.rmtree(folder)
        if spoil == "a file":
            folder.write_text("no folder")
    for _ in range(2):
        row = cached.run([line("a.mp4")])
        assert row.state is JobState.SUCCEEDED
        assert cached.files(row) == expected
