"""The emulator as it is served, and Google's storage client pointed at it by an environment variable."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.oauth2 import service_account

from emulator.app import Emulator
from emulator.config import Settings
from emulator.trust import prepare


@dataclass(frozen=True)
class Server:
    """Where the emulator listens, and the folder that holds its buckets."""

    url: str
    buckets: Path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An emulator without models."""
    settings = Settings(
        port=0, data_dir=tmp_path_factory.mktemp("gcs"), bundled_models=False, workers=1, grpc=False
    )
    with Emulator(settings) as emulator:
        yield Server(emulator.url, settings.buckets)


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    """A plain HTTP client of the server."""
    with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Google's storage client."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    return storage.Client(project="my-project", credentials=AnonymousCredentials())


@pytest.fixture
def name() -> str:
    """A bucket name of the test's own."""
    return f"bucket-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def folder(server: Server, name: str) -> Path:
    """The folder of the test's own bucket."""
    path = server.buckets / name
    path.mkdir(exist_ok=True)
    return path


@pytest.fixture
def bucket(client: Any, folder: Path) -> Any:
    """The test's own bucket, as the storage client sees it."""
    return client.bucket(folder.name)


@pytest.fixture(scope="session")
def account(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The service account that `vertex-emulator env` makes up, which signs without asking anybody."""
    path = prepare(tmp_path_factory.mktemp("tls")).account
    return service_account.Credentials.from_service_account_file(str(path))
