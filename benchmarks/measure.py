"""What the benchmarks share: samples taken on a quiet machine, in interleaved rounds, reported one way."""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# A sample counts only if other processes used less than this share of the machine meanwhile.
QUIET = 0.05
RETRIES = 12


def interleaved(
    rounds: int, samplers: Mapping[str, Callable[[], T]], *, guard: bool = True
) -> dict[str, list[T]]:
    """Take `rounds` samples of each sampler, in turns, so that a slow spell of the machine hits all alike.

    A sampler returns its own measure; `guard` repeats a sample during which other processes were busy.
    """
    samples: dict[str, list[T]] = {name: [] for name in samplers}
    for _ in range(rounds):
        for name, sampler in samplers.items():
            samples[name].append(quiet_sample(sampler) if guard else sampler())
    return samples


def quiet_sample(sampler: Callable[[], T]) -> T:
    """Take a sample while nobody else keeps the machine busy; after RETRIES tries take it as it is."""
    for attempt in range(RETRIES):
        busy, own, wall = _busy_seconds(), own_seconds(), time.monotonic()
        value = sampler()
        others = (_busy_seconds() - busy) - (own_seconds() - own)
        if others <= QUIET * (time.monotonic() - wall) * (os.cpu_count() or 1):
            return value
        time.sleep(min(2.0, 0.2 * (attempt + 1)))
    print("  (the machine never was quiet: sample taken anyway)", file=sys.stderr)
    return value


def _busy_seconds() -> float:
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    except OSError:  # no Linux: no guard
        return 0.0
    user, nice, system, _idle, _iowait, irq, softirq = map(int, fields[:7])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """CPU time of this process and all below it, those that have ended included."""
    parents: dict[int, int] = {}
    spent: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        pid = int(path.parent.name)
        parents[pid] = int(fields[1])
        spent[pid] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return sum(seconds for pid, seconds in spent.items() if _is_below(os.getpid(), pid, parents))


def _is_below(ancestor: int, pid: int, parents: Mapping[int, int]) -> bool:
    while pid in parents and pid != ancestor:
        pid = parents[pid]
    return pid == ancestor


def median(values: Sequence[float]) -> float:
    """The median of some samples."""
    return statistics.median(values)


def paired(values: Sequence[float], yardstick: Sequence[float]) -> float:
    """The median of the ratios within each round: what slows the machine for minutes slows both."""
    return median([value / base for value, base in zip(values, yardstick, strict=True)])


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB (10^6 bytes)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 / 1e6 for line in status.splitlines() if line.startswith("VmRSS"))


def arguments(description: str | None, **numbers: tuple[int, str]) -> argparse.Namespace:
    """The options every benchmark takes, and numbers of its own: the usual value and help text by name."""
    # Processes that are started to be measured read their byte code, as everywhere else.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument(
        "--no-guard", action="store_true", help="keep samples taken while the machine was busy"
    )
    for name, (usual, text) in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=usual, help=f"{text} (default {usual})")
    return parser.parse_args()


def report(title: str, rows: Sequence[Mapping[str, object]], path: Path | None = None) -> None:
    """Print rows as a table of equal keys and write them as JSON when asked to."""
    print(f"\n{title}\n")
    cells = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"title": title, "rows": list(rows)}, indent=2), encoding="utf-8")


def _text(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
