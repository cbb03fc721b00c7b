"""A real emulator with a tiny model; see tests/control/project.py."""

from collections.abc import Iterator

import httpx
import pytest

from emulator.app import Emulator
from tests.control.project import Project, client_of, make_settings


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(make_settings(tmp_path_factory.mktemp("console"))) as emulator:
        yield emulator


@pytest.fixture
def http(emulator: Emulator) -> Iterator[httpx.Client]:
    with client_of(emulator) as http:
        yield http


@pytest.fixture
def project(emulator: Emulator, http: httpx.Client) -> Project:
    return Project(emulator, http, emulator.settings.buckets)
