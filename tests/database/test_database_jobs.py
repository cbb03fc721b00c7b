"""The life of a job's row: every move is guarded, whoever comes second changes nothing."""

from collections.abc import Collection

import pytest

from emulator.database import Database, NewJob, ShardRow
from emulator.vertex.job_state import JobState
from tests.database.job_rows import Clock, MakeJob

LEASE_US = 10_000_000


def test_inserted_job_is_pending_and_has_no_counts(database: Database, make_job: MakeJob) -> None:
    job = database.get_job(make_job(labels={"team": "vision"}))
    assert job is not None
    assert (job.state, job.successful, job.failed, job.incomplete) == (JobState.PENDING, 0, 0, -1)
    assert (job.create_time_us, job.start_time_us, job.end_time_us) == (job.update_time_us, None, None)
    assert job.name == "projects/1/locations/us-central1/batchPredictionJobs/1"


def test_insert_returns_what_get_returns(database: Database, clock: Clock) -> None:
    job = NewJob(
        id=2**63 - 1, project="1", location="l", display_name="é" * 128, model_id="m", model_version=1,
        model_display_name="M", model_objective="OBJECT_TRACKING", model_folder="/f", labels={"a": "b"},
        document=bytes(range(256)), create_time_us=clock(),
    )  # fmt: skip
    assert database.insert_job(job) == database.get_job(job.id)


def test_unknown_job_is_none(database: Database) -> None:
    assert database.get_job(404) is None
    assert database.request_cancel(404) is None
    assert not database.delete_job(404)


def test_claim_takes_the_oldest_pending_job(database: Database, make_job: MakeJob, clock: Clock) -> None:
    oldest, newest = make_job(), make_job()
    clock.advance(5)
    job = database.claim_job("runner", LEASE_US)
    assert job is not None
    assert (job.id, job.state, job.owner, job.attempts) == (oldest, JobState.RUNNING, "runner", 1)
    assert job.start_time_us == job.update_time_us == clock()
    second = database.claim_job("runner", LEASE_US)
    assert second is not None
    assert second.id == newest
    assert database.claim_job("runner", LEASE_US) is None


def test_job_with_a_dead_lease_is_claimed_again_as_it_was(
    database: Database, make_job: MakeJob, clock: Clock
) -> None:
    job_id = make_job()
    first = database.claim_job("lost", LEASE_US)
    assert first is not None
    clock.advance(LEASE_US)
    assert database.claim_job("other", LEASE_US) is None, "the lease still holds"
    clock.advance(1)
    again = database.claim_job("other", LEASE_US)
    assert again is not None
    assert (again.id, again.state, again.owner, again.attempts) == (job_id, JobState.RUNNING, "other", 2)
    assert again.start_time_us == first.start_time_us


def test_heartbeat_keeps_the_lease_and_tells_of_a_cancellation(
    database: Database, make_job: MakeJob, clock: Clock
) -> None:
    _, second = make_job(), make_job()
    make_job()
    for owner in ("runner.1", "runner.2", "other"):
        database.claim_job(owner, LEASE_US)
    clock.advance(LEASE_US)
    assert database.request_cancel(second) is JobState.RUNNING
    states = database.heartbeat(["runner.1", "runner.2", "runner.3"], LEASE_US)
    assert states == {"runner.1": JobState.RUNNING, "runner.2": JobState.CANCELLING}
    clock.advance(LEASE_US)
    claimed = database.claim_job("third", LEASE_US)
    assert claimed is not None
    assert claimed.owner == "third", "only the job whose runner was silent"
    assert database.claim_job("third", LEASE_US) is None


def test_released_jobs_are_claimed_at_once(database: Database, make_job: MakeJob) -> None:
    running, cancelling = make_job(), make_job()
    for number in range(2):
        database.claim_job(f"stopping.{number}", LEASE_US)
    database.request_cancel(cancelling)
    assert database.release("stopping") == 2
    states = {job.id: job.state for _ in range(2) if (job := database.claim_job("next", LEASE_US))}
    assert states == {running: JobState.RUNNING, cancelling: JobState.CANCELLING}
    assert database.release("stopping") == 0


def test_cancel_of_a_pending_job_ends_it(database: Database, make_job: MakeJob, clock: Clock) -> None:
    job_id = make_job()
    assert database.request_cancel(job_id) is JobState.PENDING
    job = database.get_job(job_id)
    assert job is not None
    assert (job.state, job.end_time_us) == (JobState.CANCELLED, clock())
    assert database.claim_job("runner", LEASE_US) is None


@pytest.mark.parametrize("final", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_finished_job_stays_as_it_is(database: Database, make_job: MakeJob, final: JobState) -> None:
    job_id = make_job()
    database.claim_job("runner", LEASE_US)
    if final is JobState.CANCELLED:
        database.request_cancel(job_id)
    failures = [b"one", b"", b"three"]
    assert database.finish_job(
        job_id, "runner", final, error=b"e", partial_failures=failures, successful=2, failed=1, incomplete=0
    )
    job = database.get_job(job_id)
    assert job is not None
    assert (job.state, job.error, job.partial_failures) == (final, b"e", tuple(failures))
    assert (job.successful, job.failed, job.incomplete, job.owner) == (2, 1, 0, None)
    assert database.request_cancel(job_id) is final
    assert not database.finish_job(job_id, "runner", JobState.FAILED)
    assert not database.set_progress(job_id, "runner", successful=9, failed=9, incomplete=9)
    assert database.claim_job("other", LEASE_US) is None
    assert database.get_job(job_id) == job


def test_running_job_cannot_become_cancelled_without_a_request(database: Database, make_job: MakeJob) -> None:
    job_id = make_job()
    database.claim_job("runner", LEASE_US)
    assert not database.finish_job(job_id, "runner", JobState.CANCELLED)
    assert not database.finish_job(job_id, "runner", JobState.PENDING)


def test_only_the_owner_writes(database: Database, make_job: MakeJob, clock: Clock) -> None:
    job_id = make_job()
    database.claim_job("slow", LEASE_US)
    clock.advance(LEASE_US + 1)
    taken = database.claim_job("quick", LEASE_US)
    assert not database.start_output(job_id, "slow", "gs://b/slow")
    assert not database.set_progress(job_id, "slow", successful=1, failed=0, incomplete=0)
    assert not database.record_shard(job_id, "slow", ShardRow(0, 1, 1, 0, ""))
    assert not database.finish_job(job_id, "slow", JobState.SUCCEEDED)
    assert database.get_job(job_id) == taken
    assert database.shards(job_id) == []


def test_progress_and_output_are_published(database: Database, make_job: MakeJob, clock: Clock) -> None:
    job_id = make_job()
    database.claim_job("runner", LEASE_US)
    clock.advance(7)
    assert database.start_output(job_id, "runner", "gs://b/prediction-x")
    assert database.set_progress(job_id, "runner", successful=2**40, failed=1, incomplete=3)
    job = database.get_job(job_id)
    assert job is not None
    assert (job.successful, job.failed, job.incomplete) == (2**40, 1, 3)
    assert (job.output_directory, job.update_time_us) == ("gs://b/prediction-x", clock())


def test_shards_are_kept_once_each_until_the_job_ends(database: Database, make_job: MakeJob) -> None:
    job_id = make_job()
    database.claim_job("runner", LEASE_US)
    for shard in (ShardRow(1, None, 0, 2, "errors"), ShardRow(0, 1, 1, 0, ""), ShardRow(0, 2, 3, 0, "é")):
        assert database.record_shard(job_id, "runner", shard)
    assert database.shards(job_id) == [ShardRow(0, 2, 3, 0, "é"), ShardRow(1, None, 0, 2, "errors")]
    database.finish_job(job_id, "runner", JobState.SUCCEEDED)
    assert database.shards(job_id) == []


def test_delete_takes_finished_jobs_only(database: Database, make_job: MakeJob) -> None:
    pending = make_job()
    running = make_job()
    assert not database.delete_job(pending)
    database.claim_job("runner", LEASE_US)
    database.request_cancel(running)
    assert not database.delete_job(pending), "it runs now"
    assert database.delete_job(running)
    assert database.get_job(running) is None


def test_list_is_newest_first_and_pages_by_position(database: Database, make_job: MakeJob) -> None:
    ids = [make_job() for _ in range(5)]
    make_job(project="2")
    make_job(location="europe-west4")
    first = database.list_jobs("1", "us-central1", limit=2)
    assert [job.id for job in first] == [ids[4], ids[3]]
    position = (first[-1].create_time_us, first[-1].id)
    make_job()  # Newer than the page: it must not shift the next one.
    rest = database.list_jobs("1", "us-central1", limit=10, after=position)
    assert [job.id for job in rest] == [ids[2], ids[1], ids[0]]


def test_jobs_of_one_instant_are_paged_by_id(database: Database, make_job: MakeJob, clock: Clock) -> None:
    now = clock()
    ids = [make_job(create_time_us=now) for _ in range(7)]
    seen: list[int] = []
    after = None
    while page := database.list_jobs("1", "us-central1", limit=3, after=after):
        seen += [job.id for job in page]
        after = (page[-1].create_time_us, page[-1].id)
    assert seen == ids[::-1]


def test_filter_reaches_over_chunks(database: Database, make_job: MakeJob, clock: Clock) -> None:
    rare = [make_job(labels={"rare": "yes"}), make_job(labels={"rare": "yes"})]
    for _ in range(1100):  # More than one chunk of the scan.
        make_job()
    found = database.list_jobs("1", "us-central1", limit=10, matches=lambda row: "rare" in row.labels)
    assert [job.id for job in found] == rare[::-1]
    newest = database.list_jobs("1", "us-central1", limit=1, matches=lambda row: row.id % 2 == 0)
    assert [job.id for job in newest] == [1102]


def test_folders_in_use_are_those_of_unfinished_jobs(database: Database, make_job: MakeJob) -> None:
    finished = make_job(model_folder="/done")
    database.request_cancel(finished)
    make_job(model_folder="/pending")
    assert database.folders_in_use() == {"/pending"}


def test_steps_of_videos_end_and_say_so(
    database: Database, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emulator.database.leases.MAX_VIDEO_STEPS", 3)
    job, heard = make_job(), list[Collection[int]]()
    database.claim_job("me", LEASE_US)
    database.listeners.append(heard.append)
    for index in range(6):
        assert database.record_shard(job, "me", ShardRow(index, None, 1, 0, "[]"), f"video {index}")
    assert len(heard) == 6, "whoever waits hears of each"
    steps = [step.text for step in database.all_steps(job) if step.step.startswith("video")]
    assert steps == ["video 0", "video 1", "video 2", "no steps from video 4 on"]
