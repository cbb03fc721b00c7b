"""Ctrl-C at any moment ends the command with status 130 and without a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

#: Sends SIGINT to itself when the module is first looked for, or when the interpreter ends.
INTERRUPTED = """\
import atexit, os, signal, sys

class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == {moment!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupter())
if {moment!r} == "end":
    atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
sys.argv = ["vertex-emulator", *{arguments!r}]
from emulator.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("moment", "command"),
    [
        ("emulator.cli", ["serve"]),
        ("typer", ["serve"]),
        ("google.protobuf", ["serve"]),
        ("emulator.app", ["serve"]),
        ("uvicorn", ["serve"]),
        ("emulator.execution.dispatcher", ["serve"]),
        ("end", ["--help"]),
    ],
)
def test_interrupt_leaves_no_traceback(tmp_path: Path, moment: str, command: list[str]) -> None:
    arguments = [*command, "--port", "0", "--data-dir", str(tmp_path)] if command == ["serve"] else command
    program = INTERRUPTED.format(moment=moment, arguments=arguments)
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 130
    assert "Traceback" not in ended.stderr
    assert "KeyboardInterrupt" not in ended.stderr
