"""A job's files and the rows that name them. The lease is a fence: a lost job gets no file that others see.

Each file is

1. staged under a unique name that no listing shows,
2. recorded, if the runner still owns the job, with the number that follows from the rows,
3. published, that is, renamed as the row says. The result is the same whichever server does it, and it
   happens once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace

from emulator.database import ShardRow
from emulator.execution.claim import Claim
from emulator.execution.inputs import JobInput
from emulator.execution.ledger import Ledger, VideoOutcomes
from emulator.execution.output import ERRORS_FILE, OutputDirectory, output_directory, predictions_file
from emulator.storage import GcsUri, ObjectStore
from emulator.vertex.instances import InstanceFailure
from emulator.vertex.predictions import error_line

log = logging.getLogger(__name__)


class Publisher:
    """The output of one claimed job. `ledger` has its recorded videos.

    Every method may raise StorageError, InvalidUri and OSError.
    """

    def __init__(self, claim: Claim, store: ObjectStore, job_input: JobInput) -> None:
        self.ledger = Ledger()
        self._claim = claim
        self._database = claim.database
        self._store = store
        self._input = job_input
        self._output: OutputDirectory | None = None
        self._published: set[str] = set()

    @property
    def has_directory(self) -> bool:
        """Whether the job has an output directory."""
        return self._output is not None

    @property
    def uri(self) -> str:
        """The URI of the output directory."""
        return self._directory.uri

    def restore(self) -> None:
        """Load what earlier runners of this job recorded."""
        job = self._claim.job
        if job.output_directory:
            prefix = GcsUri.parse_prefix(job.output_directory)
            self._output = OutputDirectory(self._store, prefix, str(job.id))
            self.ledger = Ledger(self._database.shards(job.id))

    def find_files(self) -> None:
        """Publish files that earlier runners recorded but did not publish; schedule lost ones again."""
        if self._output is None or not any(self.ledger):
            return
        # In this order: another runner, stopped between its two calls, may publish in between.
        staged, published = self._output.staged(), self._output.files()
        recorded: list[ShardRow] = []
        lost: list[ShardRow] = []
        for shard in self.ledger:
            is_there = shard.file_number is not None and predictions_file(shard.file_number) in published
            is_kept = shard.staged is None or shard.staged in staged or is_there
            (recorded if is_kept else lost).append(shard)
        if lost:
            log.warning("%s: %d files are gone and are made again.", self._claim.job.name, len(lost))
        self.ledger = Ledger(recorded, lost)
        self._publish(shard for shard in self.ledger.files() if shard.staged in staged)

    def open(self, prefix: GcsUri, *, input_digest: str, model_digest: str) -> None:
        """Choose the output directory below `prefix`, or keep the job's, and record it with both digests.

        From now on, `record` can be interrupted by the claim's check.
        """
        job, store = self._claim.job, self._store.interruptible(self._claim.check)
        if self._output is not None:
            self._output = replace(self._output, store=store)
        else:
            self._output = output_directory(
                store, prefix, job.model_display_name, job.create_time_us, str(job.id)
            )
        # Recorded before it is tried: a job that fails on output still names its directory (recorded batch
        # traffic).
        self._claim.must_change(
            self._database.start_output, self.uri, input_digest=input_digest, model_digest=model_digest
        )
        store.check_writable(self._output.prefix)

    def record(self, index: int, video: VideoOutcomes) -> None:
        """Stage the lines of a finished video, record it, and publish the files that have a number now.

        Raises:
            Stopped: the runner has lost the job.
        """
        staged = self._directory.stage(video.lines()) if video.successful else None
        shard, numbered = self.ledger.add(video.row(index, staged))
        note = f"{self._content(shard)}: {shard.successful} predicted, {shard.failed} failed"
        if shard.file_number is not None:
            note += f", in {_file(shard)}"
        if not self._claim.change(self._database.record_shard, shard, note, numbered):
            self.discard(staged)
            self._claim.give_up()
        self._publish([shard, *numbered])
        for later in numbered:
            self._claim.note("video", f"{self._content(later)}: in {_file(later)}")

    def is_all_recorded(self) -> bool:
        """Whether every video of the input is recorded."""
        return self._input.complete and all(index in self.ledger for index in range(len(self._input.videos)))

    def stage_errors(self, failures: Mapping[int, InstanceFailure]) -> str:
        """Stage the errors file; returns its staged name. A cancelled job has one, too."""
        return self._uninterruptible.stage(
            f"{error_line(self._input.raw(instance), failure.code, failure.message)}\n".encode()
            for instance, failure in failures.items()
        )

    def discard(self, staged: str | None) -> None:
        """Remove a staged file, if there is one."""
        if staged is not None:
            self._uninterruptible.discard(staged)

    def publish_rest(self, staged_errors: str | None) -> None:
        """Publish the recorded files that are not yet, and remove all other files of the emulator.

        Call this only once the end of the job is decided.

        Raises:
            Stopped: the runner has lost the job.
        """
        self._output = output = self._uninterruptible
        files = self.ledger.files()
        known = {_file(shard) for shard in files}
        is_resumed = self._claim.job.attempts > 1
        if is_resumed:
            self._published |= output.files()
        self._publish(shard for shard in files if _file(shard) not in self._published)
        if staged_errors is not None:
            known.add(ERRORS_FILE)
            output.publish(staged_errors, ERRORS_FILE)
        output.remove_others(known, self._claim.renew)
        # The first runner of a job leaves no leftovers while it lives.
        if is_resumed:
            for staged in output.staged():
                output.discard(staged)

    @property
    def _directory(self) -> OutputDirectory:
        assert self._output is not None, "the job has no output directory yet"
        return self._output

    @property
    def _uninterruptible(self) -> OutputDirectory:
        return replace(self._directory, store=self._store)

    def _publish(self, shards: Iterable[ShardRow]) -> None:
        """Publish the files of those recorded shards that have a number."""
        for shard in shards:
            if shard.staged is not None and shard.file_number is not None:
                self._directory.publish(shard.staged, _file(shard))
                self._published.add(_file(shard))

    def _content(self, shard: ShardRow) -> str:
        return self._input.videos[shard.index][0]


def _file(shard: ShardRow) -> str:
    return predictions_file(shard.file_number or 0)
