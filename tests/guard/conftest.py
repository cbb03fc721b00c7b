"""An emulator without models, with a bucket that has an object."""

from collections.abc import Iterator

import httpx
import pytest

from emulator.app import Emulator
from emulator.config import Settings

ORIGIN = "http://localhost:3000"


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = Settings(
        port=0,
        data_dir=tmp_path_factory.mktemp("guard"),
        bundled_models=False,
        workers=1,
        allowed_hosts=["emulator.example"],
        allowed_origins=[ORIGIN],
    )
    (settings.buckets / "bucket").mkdir(parents=True)
    (settings.buckets / "bucket" / "page.html").write_text("<script>document.title = 'ran'</script>")
    return settings


@pytest.fixture(scope="session")
def emulator(settings: Settings) -> Iterator[Emulator]:
    with Emulator(settings) as emulator:
        yield emulator


@pytest.fixture
def http(emulator: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emulator.url, trust_env=False, timeout=30) as client:
        yield client
