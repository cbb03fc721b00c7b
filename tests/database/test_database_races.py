"""Guarded updates under real threads: of several that want the same row, exactly one gets it."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from emulator.database import Database, NewModel, ShardRow
from emulator.vertex.job_state import TERMINAL, JobState
from tests.database.job_rows import Clock, MakeJob, all_rows

LEASE_US = 10_000_000


def at_once(*actions: Callable[[], Any]) -> Sequence[Any]:
    """Run the actions in threads that start together."""
    barrier = threading.Barrier(len(actions))

    def run(action: Callable[[], Any]) -> Any:
        barrier.wait(60)
        return action()

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(run, actions))


def test_each_job_is_claimed_once(database: Database, make_job: MakeJob) -> None:
    ids = {make_job() for _ in range(24)}

    def claim_all(owner: str) -> list[int]:
        claimed = []
        while job := database.claim_job(owner, LEASE_US):
            claimed.append(job.id)
        return claimed

    taken = at_once(*(partial(claim_all, f"runner-{n}") for n in range(4)))
    assert Counter(job_id for claimed in taken for job_id in claimed) == Counter(ids)


def test_one_dead_lease_is_recovered_once(database: Database, make_job: MakeJob) -> None:
    for _ in range(10):
        make_job()
        database.claim_job("lost", LEASE_US)
        database.release("lost")
        claims = at_once(*(partial(database.claim_job, f"r{n}", LEASE_US) for n in range(3)))
        (job,) = [claim for claim in claims if claim is not None]
        assert job.owner is not None
        assert database.finish_job(job.id, job.owner, JobState.SUCCEEDED)


def test_cancel_against_claim_leaves_a_consistent_job(database: Database, make_job: MakeJob) -> None:
    for _ in range(15):
        job_id = make_job()
        before, claimed = at_once(
            partial(database.request_cancel, job_id),
            partial(database.claim_job, "runner", LEASE_US),
        )
        job = database.get_job(job_id)
        assert job is not None
        if claimed is None:
            assert (before, job.state) == (JobState.PENDING, JobState.CANCELLED)
        else:
            assert (before, job.state) == (JobState.RUNNING, JobState.CANCELLING)
            database.finish_job(job_id, "runner", JobState.CANCELLED)


def test_cancel_against_finish_has_one_winner(database: Database, make_job: MakeJob) -> None:
    for _ in range(15):
        job_id = make_job()
        database.claim_job("runner", LEASE_US)
        before, finished = at_once(
            partial(database.request_cancel, job_id),
            partial(database.finish_job, job_id, "runner", JobState.SUCCEEDED),
        )
        job = database.get_job(job_id)
        assert job is not None
        assert finished is True, "a cancelling job may still succeed"
        assert job.state is JobState.SUCCEEDED
        assert before in (JobState.RUNNING, JobState.SUCCEEDED)


def test_two_that_finish_a_job_have_one_winner(database: Database, make_job: MakeJob) -> None:
    for _ in range(10):
        job_id = make_job()
        database.claim_job("runner", LEASE_US)
        results = at_once(
            *(
                partial(database.finish_job, job_id, "runner", state)
                for state in (JobState.SUCCEEDED, JobState.FAILED)
            )
        )
        assert sorted(results) == [False, True]


def test_delete_against_claim_never_removes_a_running_job(database: Database, make_job: MakeJob) -> None:
    for _ in range(10):
        job_id = make_job()
        deleted, claimed = at_once(
            partial(database.delete_job, job_id),
            partial(database.claim_job, "runner", LEASE_US),
        )
        assert deleted is False
        assert claimed is not None
        assert database.record_shard(job_id, "runner", ShardRow(0, 1, 1, 0, "[]"))
        # It runs, so that nothing of it may go; and its end makes it one that may.
        assert not database.delete_job(job_id)
        assert [shard.index for shard in database.shards(job_id)] == [0]
        deleted, finished = at_once(
            partial(database.delete_job, job_id),
            partial(database.finish_job, job_id, "runner", JobState.FAILED),
        )
        assert finished is True
        assert (database.get_job(job_id) is None) is deleted
        assert (database.steps(job_id=job_id) == []) is deleted
        assert database.delete_job(job_id) is not deleted


@pytest.mark.parametrize("reset", ["delete_project", "delete_after"])
def test_a_job_that_ends_while_it_is_reset_leaves_nothing(
    database: Database, make_job: MakeJob, reset: str
) -> None:
    for _ in range(10):
        job_id = make_job()
        assert database.claim_job("runner", LEASE_US) is not None
        assert database.record_shard(job_id, "runner", ShardRow(0, 1, 1, 0, "[]"))
        at_once(
            partial(database.delete_project, None)
            if reset == "delete_project"
            else partial(database.delete_after, 0, None),
            partial(database.finish_job, job_id, "runner", JobState.FAILED),
        )
        assert database.get_job(job_id) is None
        assert database.steps() == []
        assert database.shards(job_id) == []


def test_readers_and_writers_do_not_block_each_other(database: Database, make_job: MakeJob) -> None:
    for _ in range(20):
        make_job()

    def work() -> int:
        while job := database.claim_job("runner", LEASE_US):
            database.set_progress(job.id, "runner", successful=1, failed=0, incomplete=0)
            database.finish_job(job.id, "runner", JobState.SUCCEEDED)
        return 0

    def read() -> int:
        for _ in range(30):
            database.list_jobs("1", "us-central1", limit=10)
            database.heartbeat(["runner"], LEASE_US)
        return 0

    at_once(work, work, read, read)
    assert {job.state for job in database.list_jobs("1", "us-central1", limit=50)} <= TERMINAL


def test_a_dump_is_of_one_moment(database: Database, make_job: MakeJob) -> None:
    """Each shard that it holds belongs to a job that it holds, and finished jobs have none."""

    def work() -> int:
        for _ in range(40):
            make_job()
            job = database.claim_job("runner", LEASE_US)
            assert job is not None
            database.record_shard(job.id, "runner", ShardRow(0, 1, 1, 0, "[]"))
            database.finish_job(job.id, "runner", JobState.SUCCEEDED)
        return 0

    def look() -> int:
        for _ in range(40):
            rows = all_rows(database)
            running = {row["id"] for row in rows["batch_prediction_jobs"] if row["state"] not in TERMINAL}
            assert {row["job_id"] for row in rows["shards"]} <= running
        return 0

    at_once(work, look, look)


def test_versions_uploaded_at_once_get_numbers_of_their_own(database: Database) -> None:
    model = NewModel("m", "M", "/f", "digest", b"")
    database.insert_model("1", "l", model, ["default"])
    numbers = at_once(*(lambda: database.add_version("1", "l", model, ["default"]) for _ in range(5)))
    assert sorted(number or 0 for number in numbers) == [2, 3, 4, 5, 6]
    row = database.get_model("1", "l", "m")
    assert row is not None
    assert [version.version for version in row.versions if "default" in version.aliases] != []
    assert sum("default" in version.aliases for version in row.versions) == 1


def test_seeding_at_once_adds_each_folder_model_once(database: Database) -> None:
    sources = [NewModel(f"m{n}", "M", "/f", "digest", b"", source=f"m{n}") for n in range(3)]
    at_once(*(lambda: database.seed_models("1", "l", sources) for _ in range(4)))
    assert [model.model_id for model in database.list_models("1", "l")] == ["m2", "m1", "m0"]


@pytest.fixture
def servers(database_url: str, clock: Clock) -> Iterator[tuple[Database, Database]]:
    """Two servers on one database: what keeps them apart is the database, no lock of one process."""
    if database_url == "sqlite://":
        pytest.skip("memory is not shared")
    one, other = Database(database_url, clock), Database(database_url, clock)
    yield one, other
    one.close()
    other.close()


def test_two_servers_claim_each_job_once(
    servers: tuple[Database, Database], database: Database, make_job: MakeJob
) -> None:
    ids = {make_job() for _ in range(20)}

    def claim_all(server: Database, owner: str) -> list[int]:
        claimed = []
        while job := server.claim_job(owner, LEASE_US):
            claimed.append(job.id)
        return claimed

    taken = at_once(partial(claim_all, servers[0], "one"), partial(claim_all, servers[1], "other"))
    assert Counter(job_id for claimed in taken for job_id in claimed) == Counter(ids)


def test_two_servers_merge_aliases_without_losing_any(servers: tuple[Database, Database]) -> None:
    servers[0].insert_model("1", "l", NewModel("m", "M", "/f", "digest", b""), ["default"])

    def merge(server: Database, prefix: str) -> None:
        for n in range(20):
            assert server.merge_aliases("1", "l", "m", 1, add=[f"{prefix}{n}"], remove=set())

    at_once(partial(merge, servers[0], "a"), partial(merge, servers[1], "b"))
    row = servers[0].get_model("1", "l", "m")
    assert row is not None
    assert set(row.versions[0].aliases) == {
        "default",
        *(f"{prefix}{n}" for prefix in "ab" for n in range(20)),
    }


def test_one_of_several_updates_of_what_was_seen_wins(servers: tuple[Database, Database]) -> None:
    servers[0].insert_model("1", "l", NewModel("m", "M", "/f", "digest", b""), ["default"])
    for number in range(20):
        row = servers[0].get_model("1", "l", "m")
        assert row is not None
        seen = row, row.versions[0]
        name, text = {"display_name": f"{number}"}, {"description": f"{number}"}
        won = at_once(
            *(partial(server.update_model, "1", "l", "m", name, seen) for server in servers),
            *(partial(server.update_version, "1", "l", "m", 1, text, seen) for server in servers),
        )
        assert Counter(won) == {True: 1, False: 3}
        # The clock stands still here, and what was seen is old all the same.
        assert not servers[0].update_model("1", "l", "m", name, seen)


def test_changes_of_a_model_and_its_versions_do_not_wait_for_each_other(
    servers: tuple[Database, Database],
) -> None:
    model = NewModel("m", "M", "/f", "digest", b"")
    servers[0].insert_model("1", "l", model, ["default"])
    servers[0].add_version("1", "l", model, [])
    for _ in range(10):
        row = servers[0].get_model("1", "l", "m")
        assert row is not None
        seen = row, row.versions[0]
        at_once(
            partial(servers[0].update_version, "1", "l", "m", 1, {"description": "x"}, seen),
            partial(servers[1].merge_aliases, "1", "l", "m", 1, add=["a"], remove=set()),
            partial(servers[0].add_version, "1", "l", model, ["a"]),
            partial(servers[1].delete_version, "1", "l", "m", row.versions[-1].version),
            partial(servers[1].update_model, "1", "l", "m", {"display_name": "y"}),
        )
    row = servers[0].get_model("1", "l", "m")
    assert row is not None
    assert sum("a" in version.aliases for version in row.versions) == 1
