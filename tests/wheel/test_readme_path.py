"""The README's way from a clone to a green test, in a fresh environment.

Needs a package registry and minutes, so `make test-wheel` asks for it.
"""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks, runs

SECTION = "Test your pipeline"
MOST_COMMANDS = 10


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


PORT = free_port()

pytestmark = pytest.mark.skipif(not os.environ.get("EMULATOR_TEST_WHEEL"), reason="run by `make test-wheel`")


def environment(folder: Path) -> dict[str, str]:
    """A new user's: of this run's own only the interpreter, and ports that are free."""
    ours = ("PYTHON", "PYTEST", "VIRTUAL", "VERTEX_EMULATOR")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
    python = Path(sys.executable).resolve().parent
    return {
        **kept,
        "HOME": str(folder),
        "REPOSITORY": str(ROOT),
        # Most of the SDK is never imported, and compiling it takes longer than the rest.
        "PIP_NO_COMPILE": "0",  # which pip reads as --no-compile
        "PATH": f"{python}{os.pathsep}{kept['PATH']}",
        "VERTEX_EMULATOR_PORT": PORT,
        "VERTEX_EMULATOR_GRPC": "false",
    }


def shell(script: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@runs(*blocks("README.md", "sh", SECTION))
def test_from_a_clone_to_a_green_test(tmp_path: Path) -> None:
    (block,) = blocks("README.md", "sh", SECTION)
    steps = [line.partition("    #")[0] for line in block.text.splitlines()]
    assert len(steps) <= MOST_COMMANDS
    for file in blocks("README.md", "python", SECTION):
        named = re.match(r"# (\S+\.py)\n", file.text)
        assert named
        (tmp_path / named[1]).write_text(file.text, encoding="utf-8")
    assert "1 passed" in shell("\n".join(steps), tmp_path)
