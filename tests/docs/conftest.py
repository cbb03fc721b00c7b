"""A server, its clients' environment, and a folder in which the pages' blocks run."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from emulator.app import Emulator
from emulator.cli import build
from emulator.config import Settings
from tests.docs.pages import Block, ports
from tests.sdk.conftest import write_input, write_model

# The commands that the blocks call: this environment's, before any other.
BIN = str(Path(sys.executable).parent)
_TIMEOUT_S = 540


@dataclass(frozen=True)
class Place:
    """A running emulator with the pages' model and input, and the environment for its clients."""

    emulator: Emulator
    environment: dict[str, str]
    folder: Path

    @property
    def ports(self) -> dict[str, str]:
        emulator = self.emulator
        return ports(emulator.url, str(emulator.grpc_address), str(emulator.tls_address))

    def run(self, block: Block, program: list[str]) -> str:
        """Run a block, with the real ports, by a program that takes it as its last argument."""
        return self.run_text(block.at(self.ports), program)

    def run_text(self, text: str, program: list[str]) -> str:
        done = subprocess.run(
            [*program, text],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def python(self, block: Block) -> str:
        return self.run(block, [sys.executable, "-W", "ignore", "-c"])

    def bash(self, block: Block) -> str:
        return self.run(block, ["bash", "-euc"])


@contextmanager
def place_in(folder: Path) -> Iterator[Place]:
    """Serve the pages' model, and `gs://my-bucket/input.jsonl`, from a folder."""
    write_model(folder / "models" / "video-object-tracking")
    settings = Settings(
        port=0,
        tls=True,
        data_dir=folder / "vertex-emulator-data",
        models_dirs=[folder / "models"],
        bundled_models=False,
        provider="cpu",
        workers=1,
        worker_threads=1,
    )
    bucket = settings.buckets / "bucket"
    bucket.mkdir(parents=True)
    write_input(bucket, "input", seconds=1)
    (settings.buckets / "my-bucket").mkdir()
    shutil.copy(bucket / "input.jsonl", settings.buckets / "my-bucket")
    with Emulator(settings) as emulator:
        yield Place(emulator, _environment(emulator, settings, folder), folder)


def _environment(emulator: Emulator, settings: Settings, folder: Path) -> dict[str, str]:
    port = emulator.url.rpartition(":")[2]
    arguments = ["env", "--shell", "json", "--port", port, "--data-dir", str(settings.data_dir)]
    printed = CliRunner().invoke(build(), arguments, catch_exceptions=False).output
    kept = {name: os.environ[name] for name in ("HOME",) if name in os.environ}
    return {
        **kept,
        **json.loads(printed),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "CLOUDSDK_CONFIG": str(folder / "gcloud"),
        "VERTEX_EMULATOR_PORT": port,
        "no_proxy": "127.0.0.1,localhost",
    }


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The server that all pages share; what a block makes there stays."""
    with place_in(tmp_path_factory.mktemp("docs")) as made:
        yield made


@pytest.fixture
def own_place(tmp_path: Path) -> Iterator[Place]:
    """A server for blocks that replace its whole state."""
    with place_in(tmp_path) as made:
        yield made


def job_of(created: str) -> str:
    """The id of the job in an answer."""
    found = re.search(r"batchPredictionJobs/(\d+)", created)
    assert found, created
    return found[1]
