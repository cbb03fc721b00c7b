"""A service over a real database, model folders and a storage folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.database import Database
from emulator.registry import Registry
from emulator.service import Context, Service
from emulator.storage import LocalStore
from tests.postgresql import database_url
from tests.service.service_client import NUMBER, PROJECT, Client, write_model


@pytest.fixture
def models_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    write_model(folder / "tracker")
    write_model(folder / "swings", objective="action_recognition", display_name="Swings")
    return folder


@pytest.fixture
def make_client(tmp_path: Path, models_folder: Path) -> Iterator[Callable[..., Client]]:
    opened: list[Client] = []

    def make(**options: Any) -> Client:
        database = Database(database_url(tmp_path))
        wake_ups: list[None] = []
        registry = Registry([models_folder], tmp_path / "uploads")
        context = Context(
            database=database,
            registry=registry,
            project_numbers={PROJECT: NUMBER},
            on_work=lambda: wake_ups.append(None),
            on_change=lambda: wake_ups.append(None),
            **{"store": LocalStore(tmp_path / "buckets"), **options},
        )
        client = Client(Service(context), context, database, registry, models_folder, tmp_path, wake_ups)
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.service.close()
        client.database.close()


@pytest.fixture
def client(make_client: Callable[..., Client]) -> Client:
    return make_client()
