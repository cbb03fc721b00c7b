"""A real emulator with a tiny model, and a test's own project on it."""

from collections.abc import Iterator

import pytest

from emulator.app import Emulator
from tests.control.project import Project, client_of, make_settings


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(make_settings(tmp_path_factory.mktemp("control"))) as emulator:
        yield emulator


@pytest.fixture
def project(emulator: Emulator) -> Iterator[Project]:
    with client_of(emulator) as http:
        yield Project(emulator, http, emulator.settings.buckets)
