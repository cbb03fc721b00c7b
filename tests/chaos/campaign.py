"""Random blows and aimed ones against the servers of an arena, planned from a seed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.arena import CLEAN, WITH_ERRORS, Arena, Server, Setup
from tests.chaos.served import AFTER_DEATH_AT, LEASE_S, Strike
from tests.chaos.verdict import Result, Verdict, judge, result_of

_BLOWS = {
    "kill server": 45,
    "kill all servers": 5,
    "kill worker": 35,
    "pause": 4,
    "long pause": 4,
    "pause worker": 3,
    "turn clock": 4,
}
_HOUR_S = 3600.0
SHORT, LONG, LEAP, KILL = "short stop", "long stop", "clock jump", "kill"


@dataclass
class Campaign:
    """Strikes at an arena and judges every job that ran meanwhile."""

    arena: Arena
    undisturbed: Mapping[str, Result]  # by input object
    seed: str
    blows: Counter[str] = field(default_factory=Counter)
    verdict: Verdict = field(default_factory=Verdict)
    left: set[str] = field(default_factory=set)

    @property
    def kills(self) -> int:
        """How many processes were killed at random."""
        servers = self.blows["kill server"] + self.blows["kill all servers"] * len(self.arena.servers)
        return servers + self.blows["kill worker"]

    def random_round(self, number: int, kills: int) -> None:
        """Run jobs and strike at random moments, with so many kills at the most."""
        plan = random.Random(f"{self.seed}/{self.arena.setup}/{number}")
        wanted = self.kills + min(kills, plan.randint(3, 6))
        server = plan.choice(self.arena.servers)
        jobs = {f"round-{number}-{source}": source for source in self.undisturbed}
        for prefix, source in jobs.items():
            self.arena.submit(server, prefix, source, plan.randint(5, 40))
            self.arena.await_created(prefix)
        while self.kills < wanted and not all(map(self.arena.ended, jobs)):
            time.sleep(plan.uniform(0, 0.8))
            self._strike(plan)
        self._judge(jobs, f"round {number}")

    def _strike(self, plan: random.Random) -> None:
        server = plan.choice(self.arena.servers)
        (blow,) = plan.choices(list(_BLOWS), list(_BLOWS.values()))
        size = plan.random()
        if blow in ("kill worker", "pause worker"):
            workers = [pid for pid, parent in sorted(self.arena.workers().items()) if parent == server.pid]
            if not workers or not self._strike_worker(server, workers[int(size * len(workers))], blow):
                return
        elif blow == "kill server":
            self._kill([server], size if len(self.arena.servers) > 1 else 0.0)
        elif blow == "kill all servers":
            self._kill(list(self.arena.servers), 0.0)
        elif blow == "turn clock":
            self.arena.orders.turn_clock((2 * size - 1) * _HOUR_S)
        else:
            self.arena.pause(server.pid, (1.1 + size if blow == "long pause" else size / 2) * LEASE_S)
        self.blows[blow] += 1

    def _kill(self, servers: Sequence[Server], delay_s: float) -> None:
        for server in servers:
            self.arena.kill(server)
        time.sleep(delay_s)
        for server in servers:
            self.arena.restart(server)

    def _strike_worker(self, server: Server, worker: int, blow: str) -> bool:
        """Kill a worker or stop it for a moment; False when it is not there any more.

        Never a second one of the same server is killed: an instance at which workers die again and again is
        given up, as it should be.
        """
        if blow == "kill worker" and server.wounded:
            return False
        try:
            if blow == "pause worker":
                self.arena.pause(worker, 0.3)
            else:
                os.kill(worker, signal.SIGKILL)
                server.wounded = True
        except ProcessLookupError:
            return False
        return True

    def aimed(self, aim: Aim) -> None:
        """Stop or kill the server that runs a job as it comes to a point."""
        point, blow = aim.point, aim.blow
        plan = random.Random(f"{self.seed}/{aim}")
        prefix = f"aimed-{aim.number}"
        strikes = self._strikes(plan, point, blow)
        self.arena.orders.strike(*strikes)
        sources = [WITH_ERRORS] if point.startswith(("errors", "decide")) else [CLEAN, WITH_ERRORS]
        source = plan.choice(sources)
        self.arena.submit(plan.choice(self.arena.servers), prefix, source, plan.randint(0, 20))
        struck = self._await_strike(prefix)
        dead = None
        if struck and len(strikes) > 1:
            dead = None if self.arena.restart(struck) else struck
            struck = self._await_strike(prefix)
        self.arena.orders.withdraw()
        if struck:
            self._let_go(plan, struck, prefix, blow)
        if dead:
            self.arena.restart(dead)
        if not struck:
            self.verdict.add(Verdict(points_missed=1, words=[f"{point} was not reached by {prefix}"]))
        self.blows[f"{blow} at {point}"] += 1
        self._judge({prefix: source}, f"{blow} at {point} ({aim.number})")

    def _strikes(self, plan: random.Random, point: str, blow: str) -> list[Strike]:
        first = AFTER_DEATH_AT.get(point)
        death = [Strike(first, signal.SIGKILL, plan.randrange(3))] if first else []
        often = point.startswith(("lines", "record", "publish"))
        sent = signal.SIGKILL if blow == KILL else signal.SIGSTOP
        return [*death, Strike(point, sent, plan.randrange(4) if often else 0)]

    def _await_strike(self, prefix: str) -> Server | None:
        """The server that was struck and stands still or is dead; None when the job ended without."""

        def struck_or_over() -> int | None:
            if pid := self.arena.orders.struck():
                return pid
            # The last point comes after the end.
            over = self.arena.ended(prefix) and self.arena.is_idle
            return self.arena.orders.struck() or (0 if over else None)

        pid = self.arena.wait_until(struck_or_over, "a blow", lambda: self.arena.steps(prefix))
        return self.arena.of_process(pid) if pid else None

    def _let_go(self, plan: random.Random, struck: Server, prefix: str, blow: str) -> None:
        """End the stop: soon, with the clock turned, or once another server, if any, has the job."""
        alone = len(self.arena.servers) == 1
        if blow == KILL:
            self.arena.restart(struck)
            return
        if blow == SHORT:
            time.sleep(plan.uniform(0.1, 0.5) * LEASE_S)
        elif blow == LEAP:
            self.arena.orders.turn_clock(plan.choice([-1, 1, 1]) * _HOUR_S)
            time.sleep(plan.uniform(0, 0.5) * LEASE_S)
        elif alone:
            time.sleep(plan.uniform(1.1, 2.0) * LEASE_S)
        else:
            self._wait_for_others(prefix, to_the_end=plan.random() < 0.5, lag_s=plan.uniform(0, 0.3))
        self.arena.resume(struck)

    def _wait_for_others(self, prefix: str, *, to_the_end: bool, lag_s: float) -> None:
        deadline = time.monotonic() + 5 * LEASE_S
        while time.monotonic() < deadline and not self.arena.ended(prefix):
            if not to_the_end and any("taken over" in step for step in self.arena.steps(prefix)):
                break
            time.sleep(0.02)
        time.sleep(lag_s)

    def _judge(self, jobs: Mapping[str, str], where: str) -> None:
        verdicts = []
        for prefix, source in jobs.items():
            job = self.arena.finish(prefix)
            found = judge(result_of(job, self.arena.output(prefix)), self.undisturbed[source])
            if not found.is_clean:
                found.words = [f"{where}: {'; '.join(found.words)}", *self.arena.steps(prefix)]
                print(f"{self.arena.setup}, {where}: {found}", *found.words, sep="\n  ", flush=True)
            verdicts.append(found)
        self.arena.await_no_strays()
        if left := set(self.arena.staged()) - self.left:
            print(f"{self.arena.setup}, {where}: left behind: {left}", flush=True)
            self.left |= left
            self.verdict.add(Verdict(staged_left=len(left), words=[f"{where}: {left}"]))
        for server in self.arena.servers:
            server.wounded = False
        for found in verdicts:
            self.verdict.add(found)

    def report(self) -> str:
        """The figures, for people."""
        blows = ", ".join(f"{number} {blow}" for blow, number in sorted(self.blows.items()))
        return f"{self.arena.setup}: {self.verdict}; after {blows}"


def share(total: int, among: int, place: int) -> int:
    """How many of `total` fall to one of so many places."""
    return total // among + (place < total % among)


@dataclass(frozen=True)
class Aim:
    """A blow at a point in a setup."""

    number: int
    setup: Setup
    point: str
    blow: str


def aims(setups: Sequence[Setup], points: Sequence[str], seed: str, total: int) -> list[Aim]:
    """So many blows, in an order that follows from the seed: each point's long stop first, where another
    server takes the job over; then, again and again, every kind of blow at every point in every setup."""
    plan = random.Random(f"{seed}/aims")
    shared = [setup for setup in setups if setup.servers > 1]
    found = [
        (shared[n % len(shared)], point, LONG) for n, point in enumerate(plan.sample(points, len(points)))
    ]
    kinds = [
        (setup, point, blow) for setup in setups for point in points for blow in (LONG, SHORT, LEAP, KILL)
    ]
    while len(found) < total:
        found += plan.sample(kinds, len(kinds))
    return [Aim(number, *kind) for number, kind in enumerate(found[:total])]
