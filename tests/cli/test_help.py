"""Help, errors and progress: readable in any terminal and in a pipe."""

import io
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from emulator import __version__
from emulator.cli import build
from emulator.cli.terminal import Progress, lines_of_progress

NAMES = re.compile(r"--[a-z][a-z-]*")


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    command = command or get_command(build())
    yield path, command
    for name, sub in getattr(command, "commands", {}).items():
        yield from commands(sub, (*path, name))


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
def test_help_fits_and_cuts_no_option(path: tuple[str, ...], columns: int) -> None:
    result = CliRunner().invoke(build(), [*path, "--help"], env={"COLUMNS": str(columns)})
    assert result.exit_code == 0
    found = next(command for other, command in commands() if other == path)
    options = {name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)}
    hidden = {
        name for parameter in found.params if getattr(parameter, "hidden", False) for name in parameter.opts
    }
    shown = set(NAMES.findall(result.stdout))
    assert {name for name in options - hidden if name.startswith("--")} <= shown
    words = [word for line in result.stdout.splitlines() for word in line.split()]
    widest = max(columns, max(map(len, words)) + 8)
    assert all(len(line) <= widest for line in result.stdout.splitlines())
    assert "…" not in result.stdout.replace("cuda, …", "").replace("jsonl …", "")


def test_help_in_a_pipe_is_plain_text() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "emulator", "jobs", "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout.isascii()
    assert "Wait until a job has ended, or is in a state." in done.stdout


def test_version_is_told() -> None:
    result = CliRunner().invoke(build(), ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"vertex-emulator {__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["jobs", "wait"],
        ["jobs", "list", "--limit", "0"],
        ["models", "add", "missing.onnx"],
        ["serve", "--port", "x"],
        ["serve", "--worker-timeout", "0"],
        ["jobs", "list", "--server", "localhost"],
        ["nothing"],
    ],
)
def test_errors_have_one_style(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(build(), arguments)
    assert result.exit_code in (1, 2)
    assert result.stdout == ""
    assert [line for line in result.stderr.splitlines() if line.startswith("Error: ")] == [
        result.stderr.splitlines()[-1]
    ]
    assert list(tmp_path.iterdir()) == []


def test_progress_says_percent_rate_and_time_left() -> None:
    progress = Progress("Predicting")
    assert progress.text == "0:00 so far"
    progress.update(0.25, detail="10 frames", rate="5.0 frames/s")
    assert re.fullmatch(r"25%, 10 frames, 5\.0 frames/s, 0:0\d left", progress.text)
    progress.update(None, detail="11 frames")
    assert progress.text == "11 frames"


def test_progress_in_a_pipe_is_a_line_each_interval() -> None:
    class Stream(io.StringIO):
        lines = threading.Semaphore(0)

        def flush(self) -> None:
            self.lines.release()

    stream = Stream()
    with lines_of_progress(Progress("Predicting"), stream, 0.01) as shown:
        shown.update(0.5, detail="10 frames")
        assert all(stream.lines.acquire(timeout=30) for _ in range(3))
    lines = stream.getvalue().splitlines()
    assert all(line.startswith("Predicting: ") for line in lines)
    assert lines[-1].startswith("Predicting: 50%, 10 frames, ")
