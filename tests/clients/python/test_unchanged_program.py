"""A program of nothing but the documented calls, over the SDK's default: gRPC and TLS."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from suite import (
    ACTION_INPUT,
    ACTION_RECOGNITION,
    LOCATION,
    MOVES,
    OBJECT_TRACKING,
    OUTPUT,
    PETS,
    PROJECT,
    TLS,
    TRACKING_INPUT,
    labels,
)

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("model", "source", "seen"),
    [(OBJECT_TRACKING, TRACKING_INPUT, PETS), (ACTION_RECOGNITION, ACTION_INPUT, MOVES)],
)
def test_unchanged_program(model: str, source: str, seen: set[str]) -> None:
    program = [HERE / "documented_calls.py", PROJECT, LOCATION, model, source, OUTPUT]
    done = subprocess.run(
        [sys.executable, HERE / "with_endpoint.py", TLS, *program],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *_, name, job, line = done.stdout.splitlines()
    assert name == "documented calls"
    assert re.fullmatch(r"projects/\d+/locations/us-central1/batchPredictionJobs/\d+", job)
    assert labels([json.loads(line)]) == seen


def test_unchanged_program_knows_of_no_emulator() -> None:
    text = (HERE / "documented_calls.py").read_text().partition('"""\n')[2]
    assert not re.search(r"emulator|endpoint|localhost|127\.|environ|credential", text, re.IGNORECASE)
