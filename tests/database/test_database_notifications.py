"""The outbox: filled by the transaction that ends a job, emptied by senders that do not meet."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from emulator.database import Database, JobRow, Outbox
from emulator.vertex.job_state import JobState
from tests.database.job_rows import Clock, MakeJob, all_rows

LEASE_US = 15_000_000


@pytest.fixture
def woken(database: Database) -> list[int]:
    """An outbox for two addresses; a number is added whenever the senders are woken."""
    calls: list[int] = []

    def render(row: JobRow) -> bytes:
        return f"{row.id} {row.state.proto_name}".encode()

    database.outbox = Outbox(2, render)
    database.end_listeners += (lambda row: calls.append(len(database.notifications(row.id))),)
    return calls


@pytest.fixture
def end(database: Database, make_job: MakeJob) -> Callable[[], int]:
    """Runs a job to its end; its id."""

    def run() -> int:
        job = make_job()
        database.claim_job("owner", LEASE_US)
        assert database.finish_job(job, "owner", JobState.SUCCEEDED)
        return job

    return run


def test_the_end_of_a_job_leaves_one_notification_per_address(
    database: Database, woken: list[int], end: Callable[[], int], clock: Clock
) -> None:
    job = end()
    assert [(row.address, row.document) for row in database.notifications(job)] == [
        (0, b"1 JOB_STATE_SUCCEEDED"),
        (1, b"1 JOB_STATE_SUCCEEDED"),
    ]
    assert woken == [2]
    assert database.next_notification_us(1) == clock()
    assert database.next_notification_us(2) is None


def test_a_cancelled_job_leaves_one_too_and_a_job_that_goes_on_does_not(
    database: Database, woken: list[int], make_job: MakeJob
) -> None:
    waiting, running = make_job(), make_job()
    database.request_cancel(waiting)
    database.claim_job("owner", LEASE_US)
    database.request_cancel(running)
    assert len(database.notifications(waiting)) == 2
    assert database.notifications(running) == []


def test_a_job_that_its_owner_lost_leaves_none(
    database: Database, woken: list[int], make_job: MakeJob
) -> None:
    job = make_job()
    database.claim_job("owner", LEASE_US)
    assert not database.finish_job(job, "another", JobState.SUCCEEDED)
    assert database.notifications(job) == []


def test_a_claim_ends_with_its_lease(
    database: Database, woken: list[int], end: Callable[[], int], clock: Clock
) -> None:
    end()
    first = database.claim_notification(0, LEASE_US)
    assert first is not None
    assert database.claim_notification(0, LEASE_US) is None
    assert database.claim_notification(1, LEASE_US) is not None
    clock.advance(LEASE_US)
    second = database.claim_notification(0, LEASE_US)
    assert second is not None
    assert (second.number, second.attempts) == (first.number, 2)
    # The first sender is late: what it reports changes nothing.
    database.retry_notification(first, 0, "late")
    database.return_notification(first)
    assert database.claim_notification(0, LEASE_US) is None


def test_retried_returned_and_ended(
    database: Database, woken: list[int], end: Callable[[], int], clock: Clock
) -> None:
    job = end()
    row = database.claim_notification(0, LEASE_US)
    assert row is not None
    database.retry_notification(row, 1000, "failed")
    assert database.next_notification_us(0) == clock() + 1000
    clock.advance(1000)
    again = database.claim_notification(0, LEASE_US)
    assert again is not None
    database.return_notification(again)
    final = database.claim_notification(0, LEASE_US)
    assert final is not None
    assert final.attempts == again.attempts == 2
    database.end_notification(final, "delivered")
    assert [row.address for row in database.notifications(job)] == [1]
    steps = [step.text for step in database.all_steps(job) if step.step == "notification"]
    assert steps == ["failed", "delivered"]


def test_senders_of_several_servers_never_get_the_same(
    database: Database, woken: list[int], end: Callable[[], int]
) -> None:
    jobs = {end() for _ in range(40)}
    with ThreadPoolExecutor(4) as servers:
        claims = servers.map(lambda _: database.claim_notification(0, LEASE_US), range(60))
        claimed = [row.job_id for row in claims if row is not None]
    assert sorted(claimed) == sorted(jobs)


def test_without_an_outbox_nothing_is_kept(database: Database, end: Callable[[], int]) -> None:
    assert database.notifications(end()) == []


@pytest.mark.parametrize("project", ["1", None])
def test_removed_projects_leave_nothing_to_send(
    database: Database, woken: list[int], end: Callable[[], int], project: str | None
) -> None:
    job = end()
    database.delete_project(project)
    assert database.notifications(job) == []


def test_removed_later_jobs_leave_nothing_to_send(
    database: Database, woken: list[int], end: Callable[[], int]
) -> None:
    job = end()
    database.delete_after(0, None)
    assert database.notifications(job) == []


def test_a_snapshot_has_none_and_replaces_them(
    database: Database, woken: list[int], end: Callable[[], int]
) -> None:
    job = end()
    rows = all_rows(database)
    assert "notifications" not in rows
    database.restore(rows)
    assert database.notifications(job) == []
    assert database.get_job(job) is not None


def test_a_deleted_job_is_still_told(database: Database, woken: list[int], end: Callable[[], int]) -> None:
    job = end()
    assert database.delete_job(job)
    row = database.claim_notification(0, LEASE_US)
    assert row is not None
    assert row.document == b"1 JOB_STATE_SUCCEEDED"
    database.end_notification(row, "delivered")
    assert database.all_steps(job) == []
