""".ci/run: it fails when a tier does, runs the others all the same, and tells the time of each."""

import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKE = """#!/usr/bin/env bash
echo "$1" >>"$RAN"
[ "$1" != "$FAILING" ] || { echo "1 failed"; exit 2; }
"""


def gate(folder: Path, failing: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the gate on a `make` that only notes the tiers; what it printed, and the tiers that were run."""
    (folder / ".ci").mkdir()
    (folder / "bin").mkdir()
    shutil.copy(ROOT / ".ci" / "run", folder / ".ci" / "run")
    for path, text in [
        (folder / "bin" / "make", MAKE),
        *(
            (folder / ".ci" / f"with-{name}", '#!/bin/sh\n"$@"\n')
            for name in ("postgresql", "chromium", "namespaces")
        ),
    ]:
        path.write_text(text)
        path.chmod(0o755)
    ran = folder / "ran"
    done = subprocess.run(
        [folder / ".ci" / "run"],
        env={
            **os.environ,
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "RAN": str(ran),
            "FAILING": failing,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done, ran.read_text().split()


def tiers() -> set[str]:
    """The tiers that `make test-all` has, and those that only the gate has."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    line = next(line for line in makefile.splitlines() if line.startswith("test-all:"))
    return {"test-newest", *line.partition(":")[2].partition("##")[0].split()}


def test_no_two_test_modules_share_a_name() -> None:
    """pytest collects them by their name alone."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_gate_passes_when_every_tier_does(tmp_path: Path) -> None:
    done, ran = gate(tmp_path, "")
    assert done.returncode == 0, done.stderr
    assert ran[0] == "test"
    assert set(ran) == tiers()
    assert len(ran) == len(set(ran))
    assert all(f"passed  {name}\n" in done.stdout for name in ran)
    assert "minutes in all" in done.stdout


@pytest.mark.parametrize("failing", sorted(tiers() - {"test"}))
def test_gate_fails_when_a_tier_does_and_runs_the_others(tmp_path: Path, failing: str) -> None:
    done, ran = gate(tmp_path, failing)
    assert done.returncode == 1
    assert set(ran) == tiers()
    assert f"FAILED  {failing}\n" in done.stdout
    assert "1 failed" in done.stdout


def test_gate_ends_at_once_when_the_fast_tests_fail(tmp_path: Path) -> None:
    done, ran = gate(tmp_path, "test")
    assert done.returncode != 0
    assert ran == ["test"]
    assert "FAILED  test\n" in done.stdout
