"""A client on a host of its own, where Google's names lead to an emulator on the other host."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.alias.network import SERVER_ADDRESS, Network, network
from tests.sdk.conftest import write_input, write_model

ASKED = "EMULATOR_TEST_NAMESPACES"
HOSTS = tuple(
    f"{name}.googleapis.com"
    for name in ("us-central1-aiplatform", "storage", "aiplatform", "oauth2", "my-bucket.storage")
)


@dataclass(frozen=True)
class Client:
    """The client's host: its names, and the variables that `env --alias` prints.

    `data` and `log` are the server's.
    """

    network: Network
    hosts: Path
    data: Path
    log: Path
    environment: dict[str, str]

    def run(self, *command: str | Path, **environment: str) -> str:
        done = subprocess.run(
            self.network.on_client(self.hosts, *command),
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def python(self, program: str) -> str:
        return self.run(sys.executable, "-W", "ignore", "-c", program)


@contextmanager
def hosts_on_one_cable() -> Iterator[Network]:
    """Make the two hosts; the test fails where the system does not allow it."""
    try:
        with network() as made:
            yield made
    except FileNotFoundError:
        pytest.fail("`ip` was not found; install iproute2 (on Debian: apt-get install iproute2).")
    except subprocess.CalledProcessError as error:
        pytest.fail(f"`{' '.join(error.cmd)}` is not possible here, it needs root: {error.stderr.strip()}")


@contextmanager
def served(network: Network, folder: Path) -> Iterator[Client]:
    """Return a client of an emulator that is served by its own command on the other host, on port 443."""
    write_model(folder / "models" / "video-object-tracking")
    buckets = folder / "data" / "buckets"
    (buckets / "bucket").mkdir(parents=True)
    write_input(buckets / "bucket", "input", seconds=1)
    (buckets / "my-bucket").mkdir()
    shutil.copy(buckets / "bucket" / "input.jsonl", buckets / "my-bucket")
    program = [sys.executable, "-m", "emulator", "serve", "--data-dir", str(folder / "data")]
    listening = ["--host", "0.0.0.0", "--tls", "--tls-port", "443"]
    options = ["--models-dirs", str(folder / "models"), "--no-bundled-models", "--provider", "cpu"]
    command = network.on_server(*program, *listening, *options, "--workers", "1")
    log = folder / "server.log"
    with log.open("w") as errors:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("Vertex emulator listening"), log.read_text()
        hosts, environment = _client_side(folder)
        yield Client(network, hosts, folder / "data", log, environment)
    finally:
        server.terminate()
        server.communicate(timeout=60)


def _client_side(folder: Path) -> tuple[Path, dict[str, str]]:
    hosts = folder / "hosts"
    hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{SERVER_ADDRESS} {name}\n" for name in HOSTS))
    env = [sys.executable, "-m", "emulator", "env", "--alias", "--shell", "json"]
    files = ["--data-dir", str(folder / "data"), "--copy-to", str(folder / "client")]
    printed = json.loads(subprocess.check_output([*env, *files], timeout=60))
    return hosts, {"PATH": os.environ["PATH"], "HOME": str(folder), **printed}
