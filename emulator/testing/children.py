"""Programs that a test starts. Python programs run under the guard and point at the emulator.

Environment variables tell them to. The hook in `child/` does it before the program's own first line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

TARGET = "EMULATOR_TESTING_TARGET"
REPORT = "EMULATOR_TESTING_REPORT"
"""The variables: the emulator's address, as JSON, and the file for reports of refused hosts."""

_HOOK = str(Path(__file__).parent / "child")


def python_path() -> str:
    """PYTHONPATH with the folder of the children's hook in front."""
    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return os.pathsep.join([_HOOK, *(entry for entry in given if entry != _HOOK)])


def begin(environment: Mapping[str, str]) -> None:
    """Apply the variables, for as long as this process runs."""
    if report := environment.get(REPORT):
        from emulator.testing.google_guard import Guard

        Guard(lambda _: None, report=Path(report)).stay()
    if target := environment.get(TARGET):
        from emulator.testing.pointing import Target

        Target(**json.loads(target)).stay()
