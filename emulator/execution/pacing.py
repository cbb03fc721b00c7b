"""The pace of a claimed job: the runner waits while the pace holds the job, and ends the job as it says."""

from __future__ import annotations

import logging
from collections.abc import Callable

from emulator.database import JobRow
from emulator.execution.claim import Claim, Stopped
from emulator.instructions.pace import parse_pace
from emulator.vertex.job_state import JobState

log = logging.getLogger(__name__)

# Interval at which a held job checks whether another server has released it. This server wakes it directly.
_LOOK_INTERVAL_S = 2.0


class Expired(Exception):
    """The job's pace ends it in EXPIRED."""


class Pacing:
    """Keeps the pace of one job. `parked` is true while the pace holds the job.

    `sleep` waits for that many seconds at most, and ends when the job is to be looked at again. `on_park` is
    called each time the job is parked.
    """

    def __init__(self, claim: Claim, sleep: Callable[[float], None], on_park: Callable[[], None]) -> None:
        self.parked = False
        self._claim = claim
        self._database = claim.database
        self._sleep = sleep
        self._on_park = on_park

    def keep(self) -> None:
        """Go through the stages of the pace before the work begins. Raises Stopped and Expired."""
        if self._hold(lambda: self._claim.is_stopped):
            self._claim.check()
        if self.final_state() is JobState.EXPIRED:
            raise Expired

    def await_release(self) -> bool:
        """Wait until the pace releases a cancelled job; False if the runner loses the job first."""
        try:
            return not self._hold(lambda: self._claim.is_lost)
        except Stopped:
            return False

    def final_state(self) -> JobState | None:
        """The final state that the pace sets, or None; read anew, because the pace may change."""
        row = self._database.get_job(self._claim.job.id)
        return parse_pace(row.pace).end if row is not None else None

    def _hold(self, given_up: Callable[[], bool]) -> bool:
        """Wait while the job is held; True if `given_up` became true first."""
        claim = self._claim
        try:
            while not given_up():
                row = self._next_stage()
                if row is None or row.owner != claim.owner:
                    claim.give_up()
                elif row.state is JobState.CANCELLING and not claim.is_stopped:
                    self._park(row)  # until the dispatcher calls `stop`
                elif not row.held(self._database.now()):
                    return False
                else:
                    self._park(row)
            return True
        finally:
            self.parked = False

    def _next_stage(self) -> JobRow | None:
        """The job as it is now, after the stages whose hold is over."""
        row = self._database.get_job(self._claim.job.id)
        paced = row is not None and (row.pace or row.state is not JobState.RUNNING)
        if row is not None and paced and not row.held(self._database.now()):
            row = self._database.pass_stages(self._claim.job.id, self._claim.owner)
        return row

    def _park(self, row: JobRow) -> None:
        if not self.parked:
            self.parked = True
            log.info("%s is held in %s.", row.name, row.state.proto_name)
            self._on_park()
        left_s = ((row.hold_until_us or 2**63) - self._database.now()) / 1_000_000
        self._sleep(min(max(left_s, 0.001), _LOOK_INTERVAL_S))
