"""Endpoints of both kinds, and what a job needs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.execution.workplace import write_tiny_model
from tests.gcs_endpoint.servers import another_emulator, fake_gcs_server

ENDPOINTS = ["another emulator", pytest.param("fake-gcs-server", marks=pytest.mark.gcs_server)]


@pytest.fixture(scope="module", params=ENDPOINTS)
def endpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real endpoint."""
    if request.param == "another emulator":
        with another_emulator(tmp_path_factory.mktemp("data")) as url:
            yield url
    else:
        with fake_gcs_server() as url:
            yield url


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models, with one that is `tiny`."""
    folder = tmp_path_factory.mktemp("models")
    write_tiny_model(folder / "tiny")
    return folder
