"""Claims jobs and starts a runner for each, renews their leases, and tells runners about cancellations.

The job row is the only channel between the API and the runners. `wake` and `look_after_all` only say that
rows have changed. The dispatcher also polls the database at a long interval, for jobs that other servers on
the same database leave behind.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from emulator.database import DATABASE_OUTAGES, Database, JobRow
from emulator.execution.claim import Stop
from emulator.execution.executor import Executor
from emulator.execution.owner import Lease, Owner, steady_s
from emulator.execution.runner import Runner, RunnerSettings
from emulator.inference.model_files import ModelDigests
from emulator.storage import ObjectStore
from emulator.vertex.job_state import JobState

log = logging.getLogger(__name__)

_HEARTBEAT_INTERVAL_S = 0.4
_LOOK_INTERVAL_S = 2.0
_LEASE_US = 10_000_000


class Dispatcher:
    """One thread that claims jobs, and one thread per running job.

    `owners` is a folder that all servers on the same database share (in their data folder).
    """

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        executor: Executor,
        *,
        owners: Path,
        max_running_jobs: int = 8,
        settings: RunnerSettings | None = None,
    ) -> None:
        self._database = database
        self._store = store
        self._executor = executor
        self._owner = Owner(owners)
        self._max_running_jobs = max_running_jobs
        self._settings = settings or RunnerSettings()
        self._digests = ModelDigests()
        self._claims = 0
        self._runners: dict[str, tuple[Runner, threading.Thread]] = {}  # by owner, as in the job's row
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._stopping = False
        self._looked_at = 0.0
        self._release_us: int | None = None
        self._heartbeat_due = 0.0
        self._renewed_us = 0
        self._thread = threading.Thread(target=self._serve, name="dispatcher", daemon=True)

    @property
    def running_jobs(self) -> int:
        """The number of jobs that run now."""
        with self._lock:
            return len(self._runners)

    def start(self) -> None:
        """Start the thread. It first claims the jobs that a dead server left behind."""
        self._woken.set()
        self._thread.start()

    def wake(self) -> None:
        """Check for claimable jobs now: a job was created, or its hold has ended."""
        # With all places taken there is nothing to claim. A runner that ends wakes the dispatcher again.
        runners = self._running()
        if len(runners) < self._max_running_jobs or any(runner.parked for runner, _ in runners):
            self._woken.set()

    def look_after_all(self) -> None:
        """Check all jobs now: one is to be cancelled, or to leave a stage of its pace."""
        self._heartbeat_due = 0.0
        self._woken.set()

    def stop(self, timeout_s: float = 0.0) -> None:
        """Stop claiming, wait up to `timeout_s` for running jobs, and release the jobs that still run."""
        with self._lock:
            self._stopping = True
        self._woken.set()
        deadline = time.monotonic() + timeout_s
        for _, thread in self._running():
            thread.join(max(0.0, deadline - time.monotonic()))
        for runner, thread in self._running():
            runner.stop(Stop.LOST)
            thread.join()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            if released := self._database.release(self._owner.token):
                log.info("Handed back %d unfinished jobs; the next start resumes them.", released)
        except DATABASE_OUTAGES:
            pass  # logged already; the next start finds this server dead
        finally:
            self._owner.close()

    def _serve(self) -> None:
        while not self._stopping or self._running():
            try:
                self._look()
            except DATABASE_OUTAGES:
                # The outage is logged already. Nothing is claimed until the database is back.
                self._woken.clear()
            except Exception:
                log.exception("The dispatcher could not look at the database.")
                self._woken.clear()
            self._woken.wait(self._pause_s())

    def _pause_s(self) -> float:
        """How long to sleep if nothing wakes the dispatcher, in seconds."""
        pause_s = _HEARTBEAT_INTERVAL_S if self._running() else _LOOK_INTERVAL_S
        if self._release_us is not None:
            left_s = (self._release_us - self._database.now()) / 1_000_000
            pause_s = min(pause_s, max(left_s, 0.001))
        return pause_s

    def _look(self) -> None:
        woken = self._woken.is_set()
        self._woken.clear()
        now = time.monotonic()
        # Not with every created job: one more transaction would delay the next create.
        if now >= self._heartbeat_due:
            self._heartbeat_due = now + _HEARTBEAT_INTERVAL_S
            if self._running():
                self._heartbeat()
        if woken:
            for runner, _ in self._running():
                if runner.parked:
                    runner.wake()
        if self._release_us is not None and self._database.now() >= self._release_us:
            woken = True
        if now - self._looked_at >= _LOOK_INTERVAL_S:
            self._looked_at, woken = now, True
            for token in self._owner.the_dead():
                released = self._database.release(token)
                log.info("Server %s is gone; %d of its jobs are resumed.", token, released)
        if woken:
            self._claim()

    def _claim(self) -> None:
        while not self._stopping and self._busy() < self._max_running_jobs:
            # One clock reading renews leases and decides which have expired. If the clock is set forward, the
            # server's own jobs must not look abandoned.
            now_us = self._database.now()
            if now_us - self._renewed_us > _LEASE_US // 2 and self._running():
                self._heartbeat()
            # A new owner name for each claim: a runner that lost its job must not mistake the next claim for
            # its own.
            self._claims += 1
            lease = Lease(_LEASE_US, steady_s())
            job = self._database.claim_job(f"{self._owner.token}.{self._claims}", _LEASE_US, now_us)
            if job is None:
                break
            self._run(job, lease)
        else:
            self._database.leave_queue()
        self._release_us = self._database.next_release_us()

    def _busy(self) -> int:
        """The number of jobs that use resources; jobs held by their pace do not count."""
        return sum(not runner.parked for runner, _ in self._running())

    def _run(self, job: JobRow, lease: Lease) -> None:
        again = f" (attempt {job.attempts})" if job.attempts > 1 else ""
        log.info("%s %s%s", job.name, job.state.proto_name, again)
        with self._lock:
            if self._stopping:
                return  # `stop` releases it
            runner = Runner(
                job,
                database=self._database,
                store=self._store,
                executor=self._executor,
                settings=self._settings,
                lease=lease,
                digests=self._digests,
                on_park=self.wake,
            )
            if job.state is JobState.CANCELLING:
                runner.stop(Stop.CANCEL)
            thread = threading.Thread(
                target=self._see_through, args=(runner,), name=f"job-{job.id}", daemon=True
            )
            self._runners[runner.owner] = runner, thread
            thread.start()

    def _see_through(self, runner: Runner) -> None:
        try:
            runner.run()
        finally:
            with self._lock:
                del self._runners[runner.owner]
            self._woken.set()

    def _heartbeat(self) -> None:
        runners = [runner for runner, _ in self._running()]
        # Only of running runners: a job that its runner could not finish is claimed again when its lease
        # expires.
        asked_s, asked_us = steady_s(), self._database.now()
        states = self._database.heartbeat([runner.owner for runner in runners], _LEASE_US)
        self._renewed_us = asked_us
        for runner in runners:
            state = states.get(runner.owner)
            if state is not None:
                runner.lease.renew(asked_s)
            if state is JobState.CANCELLING:
                runner.stop(Stop.CANCEL)
            elif state is None:
                # It has just finished, where stop() does nothing, or another server has taken it over.
                runner.stop(Stop.LOST)

    def _running(self) -> list[tuple[Runner, threading.Thread]]:
        with self._lock:
            return list(self._runners.values())
