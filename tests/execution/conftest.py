from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.database import Database
from emulator.execution.executor import Executor
from emulator.storage import LocalStore
from tests.execution.workplace import Workplace, warm_pool, write_tiny_model
from tests.postgresql import database_url


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def pool(tiny_model: Path) -> Iterator[Executor]:
    """Two warm workers for all tests; those that kill workers get new ones from the pool itself."""
    with warm_pool(tiny_model) as pool:
        yield pool


@pytest.fixture
def workplace(tmp_path: Path, tiny_model: Path, pool: Executor) -> Iterator[Workplace]:
    database = Database(database_url(tmp_path))
    store = LocalStore(tmp_path / "buckets")
    (tmp_path / "buckets" / "bucket").mkdir(parents=True)
    workplace = Workplace(tmp_path, tiny_model, pool, database, store)
    yield workplace
    for dispatcher in workplace.dispatchers:
        dispatcher.stop()
    workplace.database.close()  # a test may have put another in its place
