"""Servers that lose their job while they write to an endpoint: nothing of theirs is seen there."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from emulator.database import Database
from emulator.execution.dispatcher import Dispatcher
from emulator.execution.processes import ProcessExecutor
from emulator.execution.runner import RunnerSettings
from emulator.storage import LocalStore
from emulator.storage.routing_store import RoutingStore
from emulator.vertex.job_state import JobState
from tests.execution.stopping import POINTS, Stopper, StoppingDatabase, StoppingStore
from tests.execution.workplace import Workplace, line
from tests.gcs_endpoint.servers import client_at, store_at

LINES = [line("0.mp4"), line("missing.mp4"), line("1.mp4")]


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessExecutor]:
    pool = ProcessExecutor(1, log_level="warning")
    pool.start()
    yield pool
    pool.stop()


@pytest.fixture
def workplace(tmp_path: Path, models: Path, endpoint: str, pool: ProcessExecutor) -> Iterator[Workplace]:
    """Input and videos lie in a folder, output goes to the endpoint."""
    local = LocalStore(tmp_path / "buckets")
    store = RoutingStore((("results-*", store_at(endpoint, tmp_path / "cache")),), local)
    database = Database(f"sqlite:///{tmp_path / 'emulator.db'}")
    workplace = Workplace(tmp_path, models / "tiny", pool, database, local)
    for number in range(2):
        workplace.video(f"{number}.mp4", 0.2)
    workplace.put("in.jsonl", "\n".join(LINES))
    workplace.store = cast("LocalStore", store)
    yield workplace
    for dispatcher in workplace.dispatchers:
        dispatcher.stop()
    database.close()


def objects(endpoint: str, bucket: str) -> dict[str, tuple[int, bytes]]:
    """Every object of the bucket: its generation and its bytes."""
    return {
        blob.name: (blob.generation, blob.download_as_bytes())
        for blob in client_at(endpoint).list_blobs(bucket)
    }


@pytest.mark.parametrize(
    ("point", "removed"),
    [
        *((point, False) for point in POINTS if point != "tidy"),
        *((point, True) for point in ("stage", "publish", "publish errors")),
    ],
)
def test_what_a_server_does_after_it_lost_its_job_is_not_seen(
    workplace: Workplace, endpoint: str, point: str, removed: bool
) -> None:
    bucket = f"results-{uuid.uuid4().hex[:12]}"
    stopper = Stopper(point)
    database = StoppingDatabase(f"sqlite:///{workplace.folder / 'emulator.db'}")
    database.stopper = stopper
    options: dict[str, Any] = {"settings": RunnerSettings(provider="cpu", threads=1)}
    store = StoppingStore(workplace.store, stopper)
    stopped = Dispatcher(database, store, workplace.pool, owners=workplace.folder / "others", **options)
    job = workplace.submit("gs://bucket/in.jsonl", prefix=f"gs://{bucket}/out")
    stopped.start()
    assert stopper.stopped.wait(120)
    workplace.database.release(workplace.job(job).owner or "")
    workplace.start()
    row = workplace.finish(job, timeout_s=120)
    assert (row.state, row.successful, row.failed) == (JobState.SUCCEEDED, 2, 1)
    assert [entry["instance"]["content"][-5] for entry in workplace.predictions(row)] == ["0", "1"]
    before = objects(endpoint, bucket)
    expected = ["errors_00001.jsonl", "predictions_00001.jsonl", "predictions_00002.jsonl"]
    assert sorted(name.rpartition("/")[2] for name in before) == expected
    if removed:
        for name in before:
            client_at(endpoint).bucket(bucket).delete_blob(name)
    stopper.go_on()
    stopped.stop(timeout_s=120)
    database.close()
    assert objects(endpoint, bucket) == ({} if removed else before)
    assert workplace.job(job) == row
