"""The pace of a job: the states it passes before its work begins, how long it stays, and how it ends.

A pace is a text, such as `pending=2,running=3s,paused=hold`; docs/control.md has the grammar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from emulator.instructions import InstructionError
from emulator.vertex.job_state import JobState, allowed

REAL = ""
FOREVER_US = 2**63 - 1

_SHORTHANDS = {"real": "", "steps": "pending=hold,running=hold"}
_IMMEDIATE = "immediate"
_BEFORE_WORK = (JobState.QUEUED, JobState.PENDING)
_IN_WORK = (JobState.RUNNING, JobState.PAUSED, JobState.UPDATING)
_ENDS = (JobState.EXPIRED, JobState.PARTIALLY_SUCCEEDED)
_TIME = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s)")
_READS = re.compile(r"\d{1,6}")
_FORMS = (
    "write `real`, `immediate`, `steps`, or states with amounts, as in pending=2,running=500ms,paused=hold"
)


@dataclass(frozen=True)
class Stage:
    """A stay in a state: for a number of reads, for a time, until it is released, or none of these."""

    state: JobState
    reads: int = 0
    time_us: int = 0
    until_released: bool = False

    def hold(self, now_us: int) -> tuple[int | None, int | None]:
        """The hold of a stay that begins now: reads left, and its end in µs; None for no such limit."""
        if self.until_released:
            return None, FOREVER_US
        return self.reads or None, now_us + self.time_us if self.time_us else None


@dataclass(frozen=True)
class Pace:
    """A parsed pace. `stages` lead from QUEUED or PENDING to RUNNING; all their moves are allowed.

    `waits`: a GET waits until the job has ended. `end` replaces the final state: PARTIALLY_SUCCEEDED instead
    of SUCCEEDED, or EXPIRED without any work.
    """

    stages: tuple[Stage, ...]
    waits: bool = False
    end: JobState | None = None
    cancelling: Stage = Stage(JobState.CANCELLING)

    @property
    def last(self) -> int:
        """The index of the last stage. The work begins after it."""
        return len(self.stages) - 1

    @property
    def has_reads(self) -> bool:
        """Whether reads (GETs) move the job on."""
        return any(stage.reads for stage in (*self.stages, self.cancelling))

    def stage_of(self, state: JobState) -> int:
        """The index of the first stage in a state.

        Without such a stage, it is the index before the first PENDING or RUNNING stage (-1 possible), so that
        the job moves to that stage next.
        """
        for number, stage in enumerate(self.stages):
            if stage.state is state:
                return number
        after = JobState.PENDING if state in _BEFORE_WORK else JobState.RUNNING
        return next(number for number, stage in enumerate(self.stages) if stage.state is after) - 1


@lru_cache(maxsize=1024)
def parse_pace(text: str) -> Pace:
    """Parse a pace. Raises InstructionError."""
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    words = [part for word in words for part in _SHORTHANDS.get(word, word).split(",") if part]
    stages: list[Stage] = []
    cancelling, end, waits = Stage(JobState.CANCELLING), None, False
    for word in words:
        name, has_amount, amount = word.partition("=")
        state = JobState.__members__.get(name.upper())
        if word == _IMMEDIATE:
            waits = True
        elif state in _ENDS and not has_amount and end is None:
            end = state
        elif state is JobState.CANCELLING and has_amount:
            cancelling = _stage(state, amount, text)
        elif state in (*_BEFORE_WORK, *_IN_WORK) and has_amount:
            stages.append(_stage(state, amount, text))
        else:
            raise InstructionError(f'The pace "{text[:200]}" has a part "{word[:80]}"; {_FORMS}.')
    return Pace(_complete(stages, text), waits, end, cancelling)


def _stage(state: JobState, amount: str, text: str) -> Stage:
    if amount == "hold":
        return Stage(state, until_released=True)
    if found := _TIME.fullmatch(amount):
        return Stage(state, time_us=round(float(found[1]) * (1_000_000 if found[2] == "s" else 1000)))
    if _READS.fullmatch(amount):
        return Stage(state, reads=int(amount))
    raise InstructionError(
        f'The pace "{text[:200]}" has an amount "{amount[:80]}"; write a number of reads, a time such as 2s'
        " or 500ms, or hold."
    )


def _complete(stages: list[Stage], text: str) -> tuple[Stage, ...]:
    """Insert the states between the given stages, without a stay."""
    complete: list[Stage] = []
    for stage in stages:
        complete.extend(_between(complete[-1].state if complete else None, stage.state, text))
        complete.append(stage)
    complete.extend(_between(complete[-1].state if complete else None, JobState.RUNNING, text))
    if complete[-1].state is not JobState.RUNNING:
        complete.append(Stage(JobState.RUNNING))
    return tuple(complete)


def _between(before: JobState | None, state: JobState, text: str) -> list[Stage]:
    if state in _BEFORE_WORK:
        if before is None or (before is JobState.QUEUED and state is JobState.PENDING):
            return []
    elif before is None or before is JobState.QUEUED:
        between = [Stage(JobState.PENDING)]
        return between if state is JobState.RUNNING else [*between, Stage(JobState.RUNNING)]
    elif allowed(before, state) or (before is state is JobState.RUNNING):
        return []
    else:
        return [Stage(JobState.RUNNING)]
    raise InstructionError(
        f'The pace "{text[:200]}" comes to {state.name} too late; the order is queued, pending, then running,'
        " paused and updating as you like."
    )
