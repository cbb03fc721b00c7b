"""The progress of a running job, as its row and its history show it to others."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable

from emulator.database import UNKNOWN_TOTAL
from emulator.execution.claim import Claim
from emulator.execution.executor import Finished
from emulator.inference.decoding import Decoding

log = logging.getLogger(__name__)

#: Interval at which the counts are published while the job runs, in seconds.
PUBLISH_INTERVAL_S = 0.2


class Frames:
    """The number of sampled frames of a job's videos, and an estimate of those left. Tasks go by a key."""

    def __init__(self) -> None:
        self.done = 0
        self._known: list[int] = []  # of finished tasks
        self._running: dict[Hashable, tuple[int, int | None]] = {}

    def advance(self, task: Hashable, done: int, total: int | None) -> None:
        """Update the progress of a running task."""
        self.done += done - self._running.get(task, (0, None))[0]
        self._running[task] = done, total

    def finish(self, task: Hashable, done: int) -> None:
        """Mark a task as finished."""
        self.advance(task, done, done)
        self._known.append(done)
        del self._running[task]

    def abandon(self, task: Hashable) -> None:
        """Forget the progress of a task that runs again."""
        done, _ = self._running.pop(task, (0, None))
        self.done -= done

    def left(self, tasks: int) -> int:
        """Estimate the frames left in this many unfinished tasks.

        A waiting task is assumed to be as long as the mean of the known ones. Returns UNKNOWN_TOTAL while no
        length is known.
        """
        totals = [total for _, total in self._running.values() if total is not None]
        known = [*self._known, *totals]
        if tasks and not known:
            return UNKNOWN_TOTAL
        mean = sum(known) / len(known) if known else 0.0
        unknown = tasks - len(totals)
        under_way = sum(max(0, total - done) for done, total in self._running.values() if total is not None)
        return under_way + round(max(0, unknown) * mean)


class JobProgress:
    """The counts of a job's instances, videos and frames, and their publication in the job's row."""

    def __init__(self, claim: Claim) -> None:
        self.successful = 0
        self.failed = 0
        self.videos_left = 0
        self.frames = Frames()
        self._claim = claim
        self._instances = 0
        self._published_at = 0.0

    def begin(self, instances: int, *, successful: int, failed: int) -> None:
        """Set the number of instances, and of those that have an outcome before the work begins."""
        self._instances = instances
        self.successful, self.failed = successful, failed

    def publish(self) -> None:
        """Write the counts to the row. Raises Stopped if the runner has lost the job."""
        self._published_at = time.monotonic()
        self._claim.must_change(
            self._claim.database.set_progress,
            successful=self.successful,
            failed=self.failed,
            incomplete=self._instances - self.successful - self.failed,
            frames_done=self.frames.done,
            frames_left=self.frames.left(self.videos_left),
        )

    def publish_if_due(self) -> None:
        """Publish the counts unless that was done a moment ago."""
        if time.monotonic() - self._published_at > PUBLISH_INTERVAL_S:
            self.publish()


class PredictionNotes:
    """Notes in a job's history on how its videos are predicted; each fact is noted once.

    The methods raise Stopped if the runner has lost the job.
    """

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._provider = claim.job.provider
        self._batches = self._decoder = ""
        self._kept = self._of = 0

    def add(self, content: str, finished: Finished) -> None:
        """Note how a shard of this video was predicted."""
        self._note_provider(finished.provider)
        if finished.batches != self._batches:
            self._batches = finished.batches
            self._claim.note("batches", finished.batches)
        if finished.decoding is not None:
            self._note_decoding(content, finished.decoding)

    def note_cache(self) -> None:
        """Note how many grid points came from the prediction cache, if any did."""
        if self._kept:
            self._claim.note("cache", f"{self._kept:,} of {self._of:,} grid points from the cache")

    def _note_provider(self, provider: str) -> None:
        if provider != self._provider:
            self._provider = provider
            self._claim.must_change(self._claim.database.set_provider, provider)
            log.info("%s runs on %s.", self._claim.job.name, provider)

    def _note_decoding(self, content: str, decoding: Decoding) -> None:
        """Note the decoder of the job's first video, each video with another decoder, and all warnings."""
        if not self._decoder:
            self._claim.note("decoder", decoding.decoder)
        elif decoding.decoder != self._decoder:
            self._claim.note("decoder", f"{content}: {decoding.decoder}")
        self._decoder = self._decoder or decoding.decoder
        for warning in decoding.warnings:
            self._claim.note("warning", f"{content}: {warning}")
        self._kept += decoding.kept
        self._of += decoding.of
