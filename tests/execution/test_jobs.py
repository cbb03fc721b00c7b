"""A job from its row to its files."""

import json
import threading

import pytest

from emulator.database import JobRow, StepRow
from emulator.instructions.faults import JobFault
from emulator.vertex.job_state import JobState
from tests.execution.workplace import Workplace, error_of, line, partial_failures_of


def test_job_writes_one_file_per_video(workplace: Workplace) -> None:
    for name in ("a.mp4", "b.mp4"):
        workplace.video(name)
    lines = [line("a.mp4"), line("b.mp4"), line("a.mp4", "0.2s", "0.5s")]
    row = workplace.run(lines)
    assert row.state is JobState.SUCCEEDED, row.error
    assert (row.successful, row.failed, row.incomplete, row.attempts) == (3, 0, 0, 1)
    assert row.error is None
    assert row.partial_failures == ()
    assert row.provider == "cpu"
    assert row.start_time_us is not None
    assert row.end_time_us is not None
    assert row.create_time_us <= row.start_time_us <= row.end_time_us
    files = workplace.files(row)
    assert sorted(files) == ["predictions_00001.jsonl", "predictions_00002.jsonl"]
    instances = [[json.loads(text)["instance"] for text in data.splitlines()] for data in files.values()]
    a, b, later_a = (json.loads(text) for text in lines)
    assert sorted(instances, key=len) == [[b], [a, later_a]]


def test_prediction_line_has_the_service_form(workplace: Workplace) -> None:
    workplace.video("a.mp4")
    row = workplace.run([line("a.mp4", "0.2s", "0.4s")])
    box = '"xMin":0.25,"xMax":0.75,"yMin":0.25,"yMax":0.75'
    assert workplace.files(row)["predictions_00001.jsonl"].decode() == (
        '{"instance":{"content":"gs://bucket/a.mp4","mimeType":"video/mp4","timeSegmentStart":"0.2s",'
        '"timeSegmentEnd":"0.4s"},"prediction":[{"id":"1","displayName":"thing","timeSegmentStart":"0.200s",'
        f'"timeSegmentEnd":"0.300s","confidence":0.9,"frames":[{{"timeOffset":"0.200s",{box}}},'
        f'{{"timeOffset":"0.300s",{box}}}]}}]}}\n'
    )


def test_lines_of_one_video_are_in_input_order(workplace: Workplace) -> None:
    workplace.video("a.mp4")
    starts = ["0.6s", "0.2s", "0.4s", "0s"]
    row = workplace.run([line("a.mp4", start, "0.9s") for start in starts])
    assert [entry["instance"]["timeSegmentStart"] for entry in workplace.predictions(row)] == starts


def test_same_input_gives_the_same_bytes(workplace: Workplace) -> None:
    workplace.video("a.mp4")
    workplace.video("b.mp4", 0.5)
    lines = [line("a.mp4"), line("b.mp4"), line("a.mp4", "0.3s"), line("missing.mp4")]
    first, second = (workplace.files(workplace.run(lines)) for _ in range(2))
    assert first == second


def test_model_parameters_reach_the_model(workplace: Workplace) -> None:
    workplace.video("a.mp4")
    row = workplace.run([line("a.mp4")], parameters={"confidenceThreshold": 0.95})
    assert row.state is JobState.SUCCEEDED
    assert workplace.predictions(row)[0]["prediction"] == []


def test_what_became_of_batches_that_were_asked_for_is_a_step(workplace: Workplace) -> None:
    for name in ("a.mp4", "b.mp4"):
        workplace.video(name)
    asked = workplace.run([line("a.mp4"), line("b.mp4")], batch_size=4)
    plain = workplace.run([line("a.mp4")])
    why = "batchSize 4: one by one: the provider is cpu, on which a batch costs more than it helps"
    assert [step.text for step in steps_of(workplace, asked, "batches")] == [why]
    assert steps_of(workplace, plain, "batches") == []


def test_a_batch_of_one_is_as_asked(workplace: Workplace) -> None:
    workplace.video("a.mp4")
    asked = workplace.run([line("a.mp4")], batch_size=1)
    assert [step.text for step in steps_of(workplace, asked, "batches")] == ["batchSize 1: as asked"]
    assert workplace.files(asked) == workplace.files(workplace.run([line("a.mp4")]))


def steps_of(workplace: Workplace, row: JobRow, kind: str) -> list[StepRow]:
    return [step for step in workplace.database.steps(job_id=row.id) if step.step == kind]


def test_output_directory_is_named_after_model_and_time(workplace: Workplace) -> None:
    workplace.video("a.mp4")
    row = workplace.run([line("a.mp4")], prefix="gs://results/deep/er", model_display_name="my/model é")
    assert row.output_directory is not None
    assert row.output_directory.startswith("gs://results/deep/er/prediction-my_model é-20")
    assert row.output_directory.endswith("Z")
    assert list(workplace.files(row)) == ["predictions_00001.jsonl"]


def test_wildcards_and_several_uris_are_read_once_each(workplace: Workplace) -> None:
    workplace.video("a.mp4")
    for number in range(3):
        workplace.put(f"in/{number}.jsonl", line("a.mp4", f"0.{number}s"))
    workplace.start()
    row = workplace.finish(workplace.submit("gs://bucket/in/[12].jsonl", "gs://bucket/in/*.jsonl"))
    starts = [entry["instance"]["timeSegmentStart"] for entry in workplace.predictions(row)]
    assert starts == ["0.1s", "0.2s", "0.0s"]


def test_failed_instances_leave_the_job_succeeded(workplace: Workplace) -> None:
    workplace.video("a.mp4")
    row = workplace.run([line("a.mp4"), "{", line("missing.mp4"), line("a.mp4", "5s")])
    assert row.state is JobState.SUCCEEDED
    assert row.error is None
    assert (row.successful, row.failed, row.incomplete) == (1, 3, 0)
    errors = workplace.errors(row)
    assert [entry["error"]["code"] for entry in errors] == [3, 5, 11]
    assert errors[1]["content"] == "gs://bucket/missing.mp4"
    failures = partial_failures_of(row)
    assert [code for code, _ in failures] == [3, 5, 11]
    assert all("gs://bucket/in/" in message for _, message in failures)
    assert " line 3: gs://bucket/missing.mp4 does not exist" in failures[1][1]


def test_job_without_any_prediction_is_failed_and_says_why(workplace: Workplace) -> None:
    row = workplace.run([line("missing.mp4"), line("gone.mp4")])
    assert row.state is JobState.FAILED
    code, message = error_of(row)
    assert code == 5
    assert "None of the 2 instances" in message
    assert "gs://bucket/missing.mp4 does not exist" in message
    assert f"{row.output_directory}/errors_00001.jsonl" in message
    assert (row.successful, row.failed, row.incomplete) == (0, 2, 0)
    assert list(workplace.files(row)) == ["errors_00001.jsonl"]
    _, message = error_of(workplace.run([line("gone.mp4")]))
    assert message.startswith("The only instance, gs://bucket/in/")
    assert "gs://bucket/gone.mp4 does not exist" in message
    assert len(row.partial_failures) == 2


def test_partial_failures_stop_at_twenty(workplace: Workplace) -> None:
    row = workplace.run([line("a.mp4", "x") for _ in range(30)])
    assert len(row.partial_failures) == 20
    assert len(workplace.errors(row)) == 30


def test_counts_are_live(workplace: Workplace) -> None:
    workplace.video("a.mp4", 4)
    workplace.start(fault=JobFault("slow-model", delay_s=0.05))
    job = workplace.submit_lines([line("a.mp4", "0s", "0.2s"), line("a.mp4", "0s", "3s"), "{"])
    row = workplace.wait_until(job, lambda row: row.successful == 1)
    assert row.state is JobState.RUNNING
    assert (row.failed, row.incomplete) == (1, 1)
    assert row.output_directory is not None
    assert workplace.finish(job).successful == 2


def test_small_job_does_not_wait_for_a_large_one(workplace: Workplace) -> None:
    for number in range(12):
        workplace.video(f"{number}.mp4")
    workplace.start(fault=JobFault("slow-model", delay_s=0.02))
    large = workplace.submit_lines([line(f"{number}.mp4") for number in range(12)])
    workplace.wait_until(large, lambda row: row.successful > 0)
    small = workplace.submit_lines([line("0.mp4")])
    workplace.finish(small)
    assert workplace.job(large).state is JobState.RUNNING
    assert workplace.job(large).incomplete > 4
    assert workplace.finish(large).successful == 12


def test_only_so_many_jobs_run_at_a_time(workplace: Workplace) -> None:
    workplace.video("a.mp4")
    workplace.start(max_running_jobs=1, fault=JobFault("slow-model", delay_s=0.02))
    first, second = (workplace.submit_lines([line("a.mp4")]) for _ in range(2))
    workplace.wait_until(first, lambda row: row.state is JobState.RUNNING)
    assert workplace.job(second).state is JobState.PENDING
    assert workplace.finish(second).state is JobState.SUCCEEDED
    assert workplace.job(first).state is JobState.SUCCEEDED


@pytest.mark.parametrize(("of_second", "of_job"), [(5, 5), (7, 3)])
def test_a_job_without_predictions_has_the_code_of_all_its_instances_or_the_general_one(
    workplace: Workplace, of_second: int, of_job: int
) -> None:
    workplace.video("a.mp4")
    workplace.start(fault=JobFault("fail-instance", instance=2, code=of_second))
    row = workplace.run([line("missing.mp4"), line("a.mp4")])
    assert row.state is JobState.FAILED
    assert [entry["error"]["code"] for entry in workplace.errors(row)] == [5, of_second]
    assert error_of(row)[0] == of_job


def test_a_job_leaves_the_queue_while_every_place_is_taken(workplace: Workplace) -> None:
    workplace.video("long.mp4", 60)
    workplace.start(max_running_jobs=1, fault=JobFault("slow-model", delay_s=1))
    running = workplace.submit_lines([line("long.mp4")])
    workplace.wait_until(running, lambda row: row.state is JobState.RUNNING, timeout_s=120)
    queued = workplace.submit_lines([line("long.mp4")], pace="queued=50ms")
    row = workplace.wait_until(queued, lambda row: row.state is not JobState.QUEUED, timeout_s=120)
    assert row.state is JobState.PENDING
    assert workplace.job(running).state is JobState.RUNNING, "it gave up its place"
    for job in (queued, running):
        workplace.database.request_cancel(job)
    workplace.dispatchers[0].look_after_all()
    assert workplace.finish(running, timeout_s=120).state is JobState.CANCELLED


def test_a_job_whose_storage_is_slow_can_be_cancelled_and_handed_back(workplace: Workplace) -> None:
    """Each read would take an hour."""
    workplace.video("a.mp4")
    dispatcher = workplace.start(fault=JobFault("slow-storage", delay_s=3600))
    jobs = [workplace.submit_lines([line("a.mp4")]) for _ in range(2)]
    for job in jobs:
        workplace.wait_until(job, lambda row: bool(steps_of(workplace, row, "fault")), timeout_s=120)
    workplace.database.request_cancel(jobs[0])
    dispatcher.look_after_all()
    assert workplace.finish(jobs[0], timeout_s=120).state is JobState.CANCELLED
    stopping = threading.Thread(target=dispatcher.stop, daemon=True)
    stopping.start()
    stopping.join(120)
    assert not stopping.is_alive()
    row = workplace.job(jobs[1])
    assert (row.state, row.owner) == (JobState.RUNNING, None)


def test_files_that_are_not_the_emulators_stay(workplace: Workplace) -> None:
    workplace.video("a.mp4")
    workplace.start(fault=JobFault("slow-model", delay_s=0.05))
    job = workplace.submit_lines([line("a.mp4")])
    row = workplace.wait_until(job, lambda row: row.output_directory is not None)
    assert row.output_directory is not None
    folder = row.output_directory.removeprefix("gs://bucket/")
    workplace.put(f"{folder}/notes.txt", "mine")
    workplace.put(f"{folder}/predictions_00007.jsonl", "left by a server that died before it recorded it")
    row = workplace.finish(job)
    assert sorted(workplace.files(row)) == ["notes.txt", "predictions_00001.jsonl"]


@pytest.mark.parametrize("prefix", ["gs://", "gs:///out", "/tmp/out", "gs://../tmp", "gs://bucket/\0"])
def test_unusable_output_prefix_fails_the_job(workplace: Workplace, prefix: str) -> None:
    workplace.video("a.mp4")
    row = workplace.run([line("a.mp4")], prefix=prefix)
    assert row.state is JobState.FAILED
    code, message = error_of(row)
    assert code == 3
    assert repr(prefix)[1:-1] in message


@pytest.mark.parametrize(
    "prefix", ["gs://bucket/../../tmp", "gs://bucket/a//b/", "gs://bucket/./x", "gs://bucket/.vbe-tmp"]
)
def test_output_whose_names_no_folder_can_hold_stays_in_the_bucket(workplace: Workplace, prefix: str) -> None:
    """Cloud Storage takes such names; what stands for them lies inside the bucket's folder."""
    workplace.video("a.mp4")
    row = workplace.run([line("a.mp4"), line("missing.mp4")], prefix=prefix)
    assert row.state is JobState.SUCCEEDED
    assert row.output_directory is not None
    assert row.output_directory.startswith(f"{prefix.removesuffix('/')}/prediction-")
    assert sorted(workplace.files(row)) == ["errors_00001.jsonl", "predictions_00001.jsonl"]
    written = [path for path in workplace.folder.rglob("*.o") if workplace.bucket in path.parents]
    assert len(written) == 2
    assert not list(workplace.folder.parent.glob("tmp"))
    assert list((workplace.bucket / ".vbe-tmp").iterdir()) == []
