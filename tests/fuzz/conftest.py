"""A server for each file, whose jobs never begin."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.config import Settings
from tests.execution.workplace import write_tiny_model
from tests.fuzz.wire import Wire, wire_to


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    folder: Path = tmp_path_factory.mktemp("fuzz")
    write_tiny_model(folder / "models" / "tiny")
    settings = Settings(
        port=0,
        data_dir=folder / "data",
        models_dirs=[folder / "models"],
        bundled_models=False,
        workers=1,
        grpc=False,
        pace="steps",
        hold_timeout=1,
    )
    with wire_to(settings) as wire:
        yield wire
