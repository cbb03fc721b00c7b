"""Airflow and Kubeflow Pipelines, each in an environment of its own, on the host of alias mode's client."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.alias.client import Client, hosts_on_one_cable, served

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("CLIENTS_CACHE", HERE.parents[1] / ".clients-cache"))


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with hosts_on_one_cable() as network, served(network, tmp_path_factory.mktemp("neighbours")) as client:
        yield client


@dataclass(frozen=True)
class Neighbour:
    """A folder on the client's host, with the programs of one environment first on its path."""

    client: Client
    folder: Path
    programs: Path

    def sh(self, script: str, **environment: str) -> str:
        """Run a documented block; its standard output. Fails unless every command ends with 0."""
        ours = Path(sys.executable).parent
        path = os.pathsep.join(map(str, (self.programs, ours, self.client.environment["PATH"])))
        command: list[str | Path] = ["sh", "-e", "-c", f'cd "$0"\n{script}', self.folder]
        return self.client.run(*command, PATH=path, HOME=str(self.folder), **environment)


def neighbour(client: Client, folder: Path, name: str) -> Neighbour:
    """Install the packages of `NAME.txt` once. In `folder`, `vertex-emulator env` finds the server's data."""
    (folder / "vertex-emulator-data").symlink_to(client.data)
    return Neighbour(client, folder, _environment(name) / "bin")


def _environment(name: str) -> Path:
    packages, venv = HERE / f"{name}.txt", CACHE / name
    installed = venv / "installed.txt"
    if not installed.exists() or installed.read_bytes() != packages.read_bytes():
        uv: list[str | Path] = [Path(sys.executable).with_name("uv"), "--quiet"]
        subprocess.run([*uv, "venv", "--clear", "--python", sys.executable, venv], check=True)
        install = [*uv, "pip", "install", "--python", venv / "bin" / "python", "--requirement", packages]
        subprocess.run(install, check=True, timeout=1500)
        installed.write_bytes(packages.read_bytes())
    return venv
