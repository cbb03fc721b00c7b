"""Predictions files are numbered in the order of the input, whatever is finished first."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.database import JobRow, ShardRow
from emulator.execution.ledger import Ledger
from emulator.instructions.faults import JobFault
from emulator.vertex.job_state import JobState
from tests.execution.workplace import Workplace, line

SLOW = JobFault("slow-model", delay_s=0.05)


def videos_by_file(workplace: Workplace, row: JobRow) -> dict[str, str]:
    """Which video each predictions file is about."""
    return {
        name: json.loads(data.splitlines()[0])["instance"]["content"].removeprefix("gs://bucket/")
        for name, data in workplace.files(row).items()
        if name.startswith("predictions_")
    }


def numbered(*videos: str) -> dict[str, str]:
    return {f"predictions_{number:05d}.jsonl": video for number, video in enumerate(videos, start=1)}


def test_a_video_that_takes_long_keeps_its_number(workplace: Workplace) -> None:
    workplace.video("long.mp4", 2)
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        workplace.video(name, 0.2)
    workplace.start(fault=SLOW)
    lines = [line("long.mp4"), line("a.mp4"), line("b.mp4"), line("a.mp4", "0.1s"), line("c.mp4")]
    job = workplace.submit_lines(lines)
    before = workplace.wait_until(job, lambda _: len(workplace.database.shards(job)) == 3)
    assert workplace.files(before) == {}, "their numbers are not known yet"
    row = workplace.finish(job)
    assert videos_by_file(workplace, row) == numbered("long.mp4", "a.mp4", "b.mp4", "c.mp4")
    told = [step.text for step in workplace.database.steps(job_id=job) if step.step == "video"]
    assert "gs://bucket/a.mp4: in predictions_00002.jsonl" in told
    assert "gs://bucket/long.mp4: 1 predicted, 0 failed, in predictions_00001.jsonl" in told


def test_a_video_without_a_prediction_takes_no_number(workplace: Workplace) -> None:
    """As in recorded output, there is a file 1, and no number is missing."""
    for name in ("a.mp4", "b.mp4"):
        workplace.video(name, 0.2)
    row = workplace.run([line("missing.mp4"), line("a.mp4"), line("gone.mp4"), line("b.mp4"), "{"])
    assert videos_by_file(workplace, row) == numbered("a.mp4", "b.mp4")
    assert len(workplace.errors(row)) == 3


@pytest.mark.parametrize("ending", ["cancelled", "killed"])
def test_what_is_done_when_a_job_is_interrupted_keeps_its_order(workplace: Workplace, ending: str) -> None:
    workplace.video("long.mp4", 3)
    for name in ("a.mp4", "b.mp4"):
        workplace.video(name, 0.2)
    dispatcher = workplace.start(fault=SLOW)
    lines = [line("a.mp4"), line("long.mp4"), line("b.mp4"), line("missing.mp4")]
    job = workplace.submit_lines(lines)
    before = workplace.wait_until(job, lambda _: len(workplace.database.shards(job)) == 3)
    first = workplace.files(before)
    assert list(first) == ["predictions_00001.jsonl"]
    if ending == "cancelled":
        workplace.database.request_cancel(job)
        row = workplace.finish(job)
        assert row.state is JobState.CANCELLED
        assert videos_by_file(workplace, row) == numbered("a.mp4", "b.mp4")
    else:
        workplace.dispatchers.pop().stop()
        assert workplace.files(before) == first
        workplace.start()
        row = workplace.finish(job)
        assert row.state is JobState.SUCCEEDED
        assert videos_by_file(workplace, row) == numbered("a.mp4", "long.mp4", "b.mp4")
    assert workplace.files(row).items() >= first.items()
    assert [path.name for path in (workplace.bucket / ".vbe-tmp").iterdir()] == []
    workplace.wait_until(job, lambda _: dispatcher.running_jobs == 0)


def test_a_job_of_an_older_version_is_finished(workplace: Workplace) -> None:
    """It numbered files in the order in which videos were finished, and left one that it did not record."""
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        workplace.video(name, 0.2)
    job = workplace.submit_lines([line("a.mp4"), line("b.mp4"), line("c.mp4")])
    database = workplace.database
    assert database.claim_job("older", 1) is not None
    assert database.start_output(job, "older", "gs://bucket/out/prediction-tiny-x")
    assert database.record_shard(job, "older", ShardRow(2, 1, 1, 0, "[]"))
    assert database.set_progress(job, "older", successful=1, failed=0, incomplete=2)
    for number in (1, 2, 9):
        text = json.dumps({"instance": json.loads(line("c.mp4")), "prediction": []}) + "\n"
        workplace.put(f"out/prediction-tiny-x/predictions_0000{number}.jsonl", text)
    workplace.start()
    row = workplace.finish(job)
    assert (row.state, row.successful) == (JobState.SUCCEEDED, 3)
    assert videos_by_file(workplace, row) == numbered("c.mp4", "a.mp4", "b.mp4")


def shard(index: int, has_file: bool) -> ShardRow:
    return ShardRow(index, None, int(has_file), 1, "[]", f"staged-{index}" if has_file else None)


@given(st.permutations(range(7)), st.lists(st.booleans(), min_size=7, max_size=7), st.integers(0, 7))
def test_numbers_follow_from_the_rows_alone(
    order: Sequence[int], has_file: Sequence[bool], done_before: int
) -> None:
    """A runner is killed after some videos, its rows are all that is left, and another one goes on."""
    expected = [index for index in range(7) if has_file[index]]
    rows: dict[int, ShardRow] = {}
    ledger = Ledger()
    for number, index in enumerate(order):
        if number == done_before:
            ledger = Ledger(rows.values())
        row, later = ledger.add(shard(index, has_file[index]))
        rows |= {changed.index: changed for changed in (row, *later)}
        known = [row for row in rows.values() if row.file_number is not None]
        assert all(expected[(row.file_number or 0) - 1] == row.index for row in known)
    assert [row.index for row in ledger.files()] == expected
    assert ledger.close() == []


@given(st.permutations(range(6)), st.integers(0, 6), st.integers(0, 5))
def test_an_unfinished_job_is_numbered_without_gaps(order: Sequence[int], done: int, lost: int) -> None:
    ledger = Ledger()
    for index in order[:done]:
        ledger.add(shard(index, True))
    ledger.close()
    assert [row.index for row in ledger.files()] == sorted(order[:done])
    assert [row.file_number for row in ledger.files()] == list(range(1, done + 1))
    kept = [row for row in ledger if row.index != lost]
    again = Ledger(kept, [row for row in ledger if row.index == lost])
    if lost in order[:done]:
        again.add(shard(lost, True))
    assert again.files() == ledger.files()
