"""A runner's claim on its job: guarded updates of the job's row, and the checks whether to go on.

Every update names the owner, so a runner that has lost its job changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Concatenate, NoReturn, ParamSpec

from emulator.database import Database, JobRow
from emulator.execution.owner import Lease, steady_s

P = ParamSpec("P")


class Stop(Enum):
    """Why a runner is told to stop: its job was cancelled, or the runner has lost it."""

    CANCEL = "cancel"
    LOST = "lost"


class Stopped(Exception):
    """The runner was told to stop, or has found out that it has lost its job."""


class Claim:
    """The claim on a job, as its row was when it was claimed. Only `stop` is for other threads."""

    def __init__(self, job: JobRow, database: Database, lease: Lease) -> None:
        self.job = job
        self.owner = job.owner or ""
        self.database = database
        self.lease = lease
        self.is_cancelled = False
        self.is_lost = False

    @property
    def is_stopped(self) -> bool:
        """Whether the work has to end, because the job is cancelled or lost."""
        return self.is_cancelled or self.is_lost

    def stop(self, why: Stop) -> None:
        """Make the checks raise from now on. A job can be cancelled first and lost later."""
        if why is Stop.CANCEL:
            self.is_cancelled = True
        else:
            self.is_lost = True

    def give_up(self) -> NoReturn:
        """Mark the job as lost. Raises Stopped."""
        self.is_lost = True
        raise Stopped

    def check(self) -> None:
        """Raise Stopped if the job is cancelled or lost. Renews the lease if it has expired."""
        if self.is_cancelled:
            raise Stopped
        self.check_lost()

    def check_lost(self) -> None:
        """Like `check`, but a cancelled job goes on."""
        if self.is_lost:
            raise Stopped
        if self.lease.has_run_out:
            self.renew()

    def renew(self) -> None:
        """Renew the lease now. Raises Stopped if the runner has lost the job."""
        asked_s = steady_s()
        if self.owner not in self.database.heartbeat([self.owner], self.lease.length_us):
            self.give_up()
        self.lease.renew(asked_s)

    def change(
        self, update: Callable[Concatenate[int, str, P], bool], *args: P.args, **kwargs: P.kwargs
    ) -> bool:
        """Make a guarded update, a method of the database; False if the runner has lost the job."""
        return update(self.job.id, self.owner, *args, **kwargs)

    def must_change(
        self, update: Callable[Concatenate[int, str, P], bool], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Make a guarded update. Raises Stopped if the runner has lost the job."""
        if not self.change(update, *args, **kwargs):
            self.give_up()

    def note(self, step: str, text: str) -> None:
        """Add a step to the job's history. Raises Stopped if the runner has lost the job."""
        self.must_change(self.database.note_step, step, text)
