"""Programs that a test starts: Python's own stand under the guard and are pointed at the emulator.

Variables of the environment tell them so, and they do it before their own first line: see `child/`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

TARGET = "EMULATOR_TESTING_TARGET"
REPORT = "EMULATOR_TESTING_REPORT"
"""The variables: where the emulator is, as JSON, and the file that takes what was refused."""

_HOOK = str(Path(__file__).parent / "child")


def python_path() -> str:
    """PYTHONPATH with what children begin with in front."""
    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return os.pathsep.join([_HOOK, *(entry for entry in given if entry != _HOOK)])


def begin(environment: Mapping[str, str]) -> None:
    """Do what the variables say, for as long as this process runs."""
    if report := environment.get(REPORT):
        from emulator.testing.guard import Guard

        Guard(lambda _: None, report=Path(report)).stay()
    if target := environment.get(TARGET):
        from emulator.testing.pointing import Target

        Target(**json.loads(target)).stay()
