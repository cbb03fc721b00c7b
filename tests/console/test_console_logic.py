"""The console's logic without a DOM, run by Node."""

import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.mark.parametrize("file", ["logic.test.mjs", "player.test.mjs"])
def test_logic_under_node(file: str) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is missing; on Debian: apt-get install nodejs")
    found = subprocess.run(
        [node, "--test", str(Path(__file__).with_name(file))],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
