"""The server under test: `vertex-emulator serve` with short leases, a clock to turn, and points to strike at.

It runs in a process of its own, forked from one that has imported everything, so that hundreds of starts
take minutes. What it does on purpose it reads from a folder of orders that all servers of an arena share.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

#: Names the arena in the environment of its servers and of their workers.
ARENA_VARIABLE = "EMULATOR_CHAOS_ARENA"
LEASE_S = 2.0
_SHORTENED = {"_LEASE_US": int(LEASE_S * 1_000_000), "_HEARTBEAT_INTERVAL_S": 0.2, "_LOOK_INTERVAL_S": 0.3}

_PR_SET_PDEATHSIG = 1
_ORDER, _CLOCK = "order", "clock"


@dataclass(frozen=True)
class Point:
    """A place in the code where a server can be struck: before or after a call, or at one of its stages."""

    name: str
    target: str
    stage: str
    only: Callable[[tuple[Any, ...]], bool] = lambda _: True


def _is_file(kind: str) -> Callable[[tuple[Any, ...]], bool]:
    return lambda arguments: str(arguments[2]).startswith(kind)


def _is_step(step: str) -> Callable[[tuple[Any, ...]], bool]:
    return lambda arguments: arguments[3] == step


_LOCAL, _REMOTE = "emulator.storage.local:LocalStore", "emulator.storage.gcs_store:GcsStore"
_LEASES = "emulator.database.leases:Leases"
_OUTPUT = "emulator.execution.output:OutputDirectory"
_FINALIZER = "emulator.execution.ending:Finalizer"
_PUBLISHER = "emulator.execution.publishing:Publisher"
#: Every point at which something becomes visible to others, in the order in which a job passes them.
POINTS = (
    Point("claimed", "emulator.execution.dispatcher:Dispatcher._run", "before"),
    Point("output before", f"{_LEASES}.start_output", "before"),
    Point("output after", f"{_LEASES}.start_output", "after"),
    *(
        Point(f"lines {stage}", f"{store}.write_staged", stage)
        for stage in ("opened", "written", "staged")
        for store in (_LOCAL, _REMOTE)
    ),
    Point("record before", f"{_LEASES}.record_shard", "before"),
    Point("record inside", f"{_LEASES}._add_step", "after", _is_step("video")),
    Point("record after", f"{_LEASES}.record_shard", "after"),
    Point("publish before", f"{_OUTPUT}.publish", "before", _is_file("predictions")),
    Point("publish inside", f"{_LOCAL}.publish", "before"),
    Point("publish inside", "emulator.storage.gcs_store:_rewrite", "before"),
    Point("publish done", f"{_LOCAL}.settle", "before"),
    Point("publish done", "emulator.storage.gcs_store:_rewrite", "after"),
    Point("publish after", f"{_OUTPUT}.publish", "after", _is_file("predictions")),
    Point("errors before", f"{_FINALIZER}._stage_errors", "before"),
    Point("errors staged", f"{_FINALIZER}._stage_errors", "after"),
    Point("decide before", f"{_LEASES}.decide_ending", "before"),
    Point("decide after", f"{_LEASES}.decide_ending", "after"),
    Point("errors publish", f"{_OUTPUT}.publish", "before", _is_file("errors")),
    Point("errors published", f"{_OUTPUT}.publish", "after", _is_file("errors")),
    Point("tidy before", f"{_OUTPUT}.remove_others", "before"),
    Point("tidy after", f"{_OUTPUT}.remove_others", "after"),
    Point("finish before", f"{_LEASES}.finish_job", "before"),
    Point("finish after", f"{_LEASES}.finish_job", "after"),
    Point("resume before", f"{_PUBLISHER}.find_files", "before"),
    Point("resume after", f"{_PUBLISHER}.find_files", "after"),
    Point("discard", f"{_LOCAL}.discard_staged", "before"),
    Point("discard", f"{_REMOTE}.discard_staged", "before"),
)
POINT_NAMES = tuple(dict.fromkeys(point.name for point in POINTS))
#: Points that a job passes only after a server has died at another one.
AFTER_DEATH_AT = {
    "resume before": "record after",
    "resume after": "publish after",
    "discard": "lines staged",
}


@dataclass(frozen=True)
class Strike:
    """An order: the first server that comes to `point`, after `skip` visits, stops or kills itself there."""

    point: str
    blow: signal.Signals
    skip: int = 0


@dataclass(frozen=True)
class Orders:
    """The folder in which an arena tells its servers what to do."""

    folder: Path

    def strike(self, *strikes: Strike) -> None:
        """Have servers strike themselves, one after the other."""
        now = time.monotonic_ns()
        orders = [[strike.point, int(strike.blow), strike.skip, now + n] for n, strike in enumerate(strikes)]
        self._put(_ORDER, json.dumps(orders))

    def struck(self) -> int | None:
        """A process that obeyed, once it has; each is told once."""
        for path in self.folder.glob("struck-*"):
            path.unlink()
            return int(path.name.partition("-")[2])
        return None

    def withdraw(self) -> None:
        """Take the order back."""
        (self.folder / _ORDER).unlink(missing_ok=True)

    def turn_clock(self, seconds: float) -> None:
        """Set the servers' clock forward or back by that much, from where it stands."""
        self._put(_CLOCK, str(self.clock_ns() + int(seconds * 1e9)))

    def clock_ns(self) -> int:
        """How far the servers' clock is ahead."""
        try:
            return int((self.folder / _CLOCK).read_text())
        except FileNotFoundError:
            return 0

    def obey(self, name: str, seen: dict[int, int]) -> None:
        """Strike this process, if it is to be struck here. `seen` counts the visits by order."""
        try:
            (point, blow, skip, order), *rest = json.loads((self.folder / _ORDER).read_text())
        except FileNotFoundError:
            return
        if point != name:
            return
        seen[order] = seen.get(order, 0) + 1
        if seen[order] <= skip:
            return
        # Of several servers at the point, the one whose rename succeeds is struck.
        with contextlib.suppress(FileNotFoundError):
            (self.folder / _ORDER).rename(self.folder / f"struck-{os.getpid()}")
            if rest:
                self._put(_ORDER, json.dumps(rest))
            os.kill(os.getpid(), blow)

    def _put(self, name: str, text: str) -> None:
        fresh = self.folder / f"{name}.new"
        fresh.write_text(text)
        fresh.replace(self.folder / name)


def serve(options: Sequence[str], arena: str, orders: Orders, log: Path) -> None:
    """Run the command in this process until it is killed. Both streams go to `log`."""
    # Linux: die with the process that was forked from, however the tests end.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with log.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ[ARENA_VARIABLE] = arena
    _turn(orders)
    dispatcher = importlib.import_module("emulator.execution.dispatcher")
    for name, value in _SHORTENED.items():
        assert hasattr(dispatcher, name), f"the dispatcher has no {name} any more"
        setattr(dispatcher, name, value)
    seen: dict[int, int] = {}
    for point in POINTS:
        _guard(point, lambda name: orders.obey(name, seen))
    sys.argv = ["vertex-emulator", "serve", *options]
    from emulator.cli import main

    main()


def _turn(orders: Orders) -> None:
    """Have this process see the arena's clock."""
    true_ns = time.time_ns
    time.time_ns = lambda: true_ns() + orders.clock_ns()
    time.time = lambda: time.time_ns() / 1e9


def _guard(point: Point, visit: Callable[[str], None]) -> None:
    """Wrap the function that a point names, so that it is visited. A name that is gone is an error."""
    module, _, path = point.target.partition(":")
    owner = importlib.import_module(module)
    *classes, name = path.split(".")
    for part in classes:
        owner = getattr(owner, part)
    around = _around_call if point.stage in ("before", "after") else _around_block
    setattr(owner, name, around(getattr(owner, name), point, visit))


def _around_call(inner: Callable[..., Any], point: Point, visit: Callable[[str], None]) -> Callable[..., Any]:
    def called(*arguments: Any, **named: Any) -> Any:
        here = point.only(arguments)
        if here and point.stage == "before":
            visit(point.name)
        result = inner(*arguments, **named)
        if here and point.stage == "after":
            visit(point.name)
        return result

    return called


def _around_block(
    inner: Callable[..., AbstractContextManager[BinaryIO]], point: Point, visit: Callable[[str], None]
) -> Callable[..., AbstractContextManager[BinaryIO]]:
    @contextlib.contextmanager
    def written(*arguments: Any, **named: Any) -> Iterator[BinaryIO]:
        def at(stage: str) -> None:
            if stage == point.stage and point.only(arguments):
                visit(point.name)

        with inner(*arguments, **named) as file:
            at("opened")
            yield file
            at("written")
        at("staged")

    return written
