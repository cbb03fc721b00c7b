"""examples/github-action: its scripts start a server, and what they export leads a client there."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "examples" / "github-action"


def free_ports() -> int:
    """A port that is free, as is the next one."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port: int = first.getsockname()[1]
            try:
                with socket.create_server(("127.0.0.1", port + 1)):
                    return port
            except (OSError, OverflowError):
                continue


@pytest.fixture
def runner(tmp_path: Path) -> dict[str, str]:
    """The environment of a step, with the emulator of this checkout where `install.sh` would put it."""
    programs = tmp_path / "vertex-emulator" / "venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "vertex-emulator"):
        (programs / name).symlink_to(Path(sys.executable).with_name(name))
    return {
        **os.environ,
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_ENV": str(tmp_path / "env"),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "PROJECT": "of-the-action",
        "VERTEX_EMULATOR_PORT": str(free_ports()),
        "VERTEX_EMULATOR_PACE": "immediate",
    }


def test_action_starts_a_server_and_exports_where_it_is(runner: dict[str, str], tmp_path: Path) -> None:
    subprocess.run([FOLDER / "start.sh"], env=runner, check=True, timeout=300)
    try:
        exported = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
        outputs = dict(line.split("=", 1) for line in (tmp_path / "output").read_text().splitlines())
        assert outputs["url"] == f"http://127.0.0.1:{runner['VERTEX_EMULATOR_PORT']}"
        assert exported["STORAGE_EMULATOR_HOST"] == outputs["url"]
        assert exported["GOOGLE_CLOUD_PROJECT"] == "of-the-action"
        # A step that follows: it has what was exported, and not the port.
        step = {name: value for name, value in runner.items() if name != "VERTEX_EMULATOR_PORT"}
        listed = subprocess.run(
            [sys.executable, "-m", "emulator", "jobs", "list"],
            env={**step, **exported}, capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        assert listed.stdout == "No jobs in projects/of-the-action/locations/us-central1.\n"
        assert "Vertex emulator listening at" in Path(outputs["log"]).read_text()
    finally:
        os.kill(int((tmp_path / "vertex-emulator" / "pid").read_text()), signal.SIGTERM)


def test_action_names_its_scripts_and_inputs() -> None:
    action = yaml.safe_load((FOLDER / "action.yml").read_text(encoding="utf-8"))
    text = str(action["runs"])
    scripts = set(re.findall(r"github\.action_path }}/(\S+?\.sh)", text))
    assert scripts == {path.name for path in FOLDER.glob("*.sh")}
    assert all(os.access(FOLDER / name, os.X_OK) for name in scripts)
    assert set(re.findall(r"inputs\.(\w+)", text)) == set(action["inputs"])
    steps = {step["id"] for step in action["runs"]["steps"] if "id" in step}
    named = re.findall(r"steps\.(\w+)\.outputs\.", str(action))
    assert set(named) <= steps
