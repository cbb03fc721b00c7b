from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.database import Database
from emulator.execution.shards import ModelUse
from emulator.execution.workers import WorkerPool
from emulator.storage import LocalStore
from tests.execution.workplace import Workplace, write_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def pool(tiny_model: Path) -> Iterator[WorkerPool]:
    """Two warm workers for all tests; those that kill workers get new ones from the pool itself."""
    pool = WorkerPool(2, timeout_s=60, warm=[ModelUse(tiny_model, "cpu", 1)], log_level="warning")
    pool.start()
    yield pool
    pool.stop()


@pytest.fixture
def workplace(tmp_path: Path, tiny_model: Path, pool: WorkerPool) -> Iterator[Workplace]:
    database = Database(f"sqlite:///{tmp_path / 'emulator.db'}")
    store = LocalStore(tmp_path / "buckets")
    (tmp_path / "buckets" / "bucket").mkdir(parents=True)
    workplace = Workplace(tmp_path, tiny_model, pool, database, store)
    yield workplace
    for dispatcher in workplace.dispatchers:
        dispatcher.stop()
    database.close()
