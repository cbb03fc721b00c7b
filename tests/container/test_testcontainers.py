"""examples/testcontainers-python against a real server: its calls and its canned track hold.

Docker is the user's: a process of this checkout stands in for the container.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "testcontainers-python"
CONTAINER = """
from emulator.testing import serve

class DockerContainer:
    def __init__(self, image):
        self._settings = {"bundled_models": False, "workers": 1}

    def with_exposed_ports(self, *ports):
        return self

    def with_env(self, name, value):
        self._settings[name.removeprefix("VERTEX_EMULATOR_").lower()] = value
        return self

    def waiting_for(self, strategy):
        return self

    def __enter__(self):
        self._serving = serve(self._settings)
        self._url = self._serving.__enter__().url
        return self

    def __exit__(self, *error):
        self._serving.__exit__(*error)

    def get_container_host_ip(self):
        return "127.0.0.1"

    def get_exposed_port(self, port):
        return self._url.rpartition(":")[2]
"""
STRATEGIES = """
class HttpWaitStrategy:
    def __init__(self, port, path):
        assert (port, path) == (8080, "/_emulator/ready")

    def with_startup_timeout(self, seconds):
        return self
"""


@pytest.mark.slow
def test_example_in_python_passes_against_a_server(tmp_path: Path) -> None:
    core = tmp_path / "testcontainers" / "core"
    core.mkdir(parents=True)
    for name, text in (("container", CONTAINER), ("wait_strategies", STRATEGIES)):
        (core / f"{name}.py").write_text(text, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-c",
            tmp_path / "pytest.ini",
            "-p",
            "no:cacheprovider",
            EXAMPLE,
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(EXAMPLE.parents[1])])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
