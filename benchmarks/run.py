"""Runs the benchmarks one after the other: `run.py [NAME ...]`, all of them without a name.

Each writes its figures as JSON into benchmarks/results, beside machine.json, which says what they were taken
on; `page.py` makes docs/performance.md of these files.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench_peers import ENVIRONMENT, installed
from clips import real_assets
from measure import report

from emulator.inference.pipeline import core_count

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PACKAGES = ("opencv-python-headless", "onnxruntime", "numpy", "fastapi", "sqlalchemy")
#: Not more, so that all of them take about an hour.
ROUNDS = 3


def names() -> list[str]:
    return [path.stem.removeprefix("bench_") for path in sorted(HERE.glob("bench_*.py"))]


def machine() -> list[dict[str, object]]:
    """What the figures depend on."""
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return [
        {"what": "processor", "value": f"{processor()}, {core_count()} cores"},
        {"what": "Python", "value": platform.python_version()},
        {"what": "packages", "value": packages},
        {"what": "video and weights", "value": "real" if real_assets() else "rendered, bundled"},
        {"what": "commit", "value": commit()},
        {"what": "date", "value": f"{datetime.now(UTC):%Y-%m-%d}"},
    ]


def commit() -> str:
    try:
        command = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
        return subprocess.check_output(command, text=True).strip()
    except (OSError, subprocess.CalledProcessError):  # unpacked from an archive
        return "unknown"


def processor() -> str:
    """Its name, and whether it has the instructions that decide how fast networks run."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return platform.processor() or platform.machine()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    widest = "AVX-512" if "avx512f" in facts.get("flags", "") else "no AVX-512"
    return f"{facts.get('model name', platform.machine())} ({widest})"


def python_for(name: str) -> str:
    """bench_tracker compares in one process, so that it needs the other tracker's environment."""
    if name == "tracker" and installed("trackers"):
        return str(ENVIRONMENT / "bin" / "python")
    return sys.executable


def run(name: str, options: Sequence[str]) -> bool:
    """Run a benchmark; says whether it came to its end."""
    print(f"\n=== {name}", flush=True)
    started = time.monotonic()
    command = [python_for(name), str(HERE / f"bench_{name}.py"), "--json", str(RESULTS / f"{name}.json")]
    status = subprocess.run(
        [*command, *options], env=os.environ | {"PYTHONPATH": str(HERE.parent)}, check=False
    ).returncode
    print(f"=== {name}: {time.monotonic() - started:.0f} s, status {status}", flush=True)
    return status == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these of {', '.join(names())}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"interleaved rounds (default {ROUNDS})")
    parser.add_argument("--no-guard", action="store_true", help="see the benchmarks' own option")
    options = parser.parse_args()
    if unknown := set(options.names) - set(names()):
        parser.error(f"there is no benchmark called {', '.join(sorted(unknown))}")
    passed_on = ["--rounds", str(options.rounds), *(["--no-guard"] if options.no_guard else [])]
    report("Measured on", machine(), RESULTS / "machine.json")
    failed = [name for name in options.names or names() if not run(name, passed_on)]
    if failed:
        print(f"These did not come to their end: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
