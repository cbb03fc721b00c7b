"""Removes what finished long ago: jobs with their steps, operations, and, if asked to, output folders.

Unfinished jobs, their inputs, their models and their outputs are never touched. Nor is an object that any job
names as its input, even below an output folder: the results of one job can be the input of another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from emulator.database import Database, OldJob
from emulator.execution.output import OutputDirectory
from emulator.storage import GcsUri, InvalidUri, ObjectNotFound, ObjectStore
from emulator.storage.uri import wildcard_pattern
from emulator.vertex.contract import load


@dataclass
class Pruned:
    """What was removed, or would be: numbers of jobs, operations and output files.

    `kept_files` counts the output files that stay, because a job names them as its input.
    """

    jobs: int = 0
    operations: int = 0
    files: int = 0
    kept_files: int = 0


def prune(
    database: Database, before_us: int, *, outputs: ObjectStore | None = None, dry_run: bool = False
) -> Pruned:
    """Remove the jobs and operations that finished before a time (microseconds since 1970).

    Files go before the row that names them, so that a prune that is killed can be repeated.

    Args:
        database: of the rows.
        before_us: the time.
        outputs: the store whose output folders are emptied too; None leaves all output.
        dry_run: change nothing, count only.

    Raises:
        StorageError: an output cannot be removed; the job stays.
    """
    pruned = Pruned(operations=database.count_old_operations(before_us))
    inputs = _Inputs(database.job_documents()) if outputs is not None else _Inputs(())
    for page in _pages(database, before_us):
        if outputs is not None:
            inputs.add(database.job_documents(unfinished=True))
            for job in page:
                if not database.is_output_of_other(job, before_us):
                    _remove_output(outputs, job, inputs, pruned, dry_run=dry_run)
        pruned.jobs += len(page) if dry_run else database.delete_jobs([job.id for job in page])
    if not dry_run:
        pruned.operations = database.delete_old_operations(before_us)
    return pruned


def _pages(database: Database, before_us: int) -> Iterator[list[OldJob]]:
    page = database.old_jobs(before_us)
    while page:
        yield page
        page = database.old_jobs(before_us, page[-1])


def _remove_output(
    store: ObjectStore, job: OldJob, inputs: _Inputs, pruned: Pruned, *, dry_run: bool
) -> None:
    """Remove the files that the job has written. Other objects in its directory stay."""
    if not job.output_directory:
        return
    try:
        prefix = GcsUri.parse_prefix(job.output_directory)
    except InvalidUri:  # of a recording
        return
    directory = OutputDirectory(store, prefix, str(job.id))
    for name in sorted(directory.files()):
        if prefix / name in inputs:
            pruned.kept_files += 1
            continue
        pruned.files += 1
        if not dry_run:
            with suppress(ObjectNotFound):
                store.delete(prefix / name)
    if not dry_run:
        for staged in directory.staged():
            directory.discard(staged)


class _Inputs:
    """The objects that jobs name as their input, also by wildcards."""

    def __init__(self, documents: Iterable[bytes]) -> None:
        self._names: set[str] = set()
        self._patterns: dict[str, tuple[str, re.Pattern[str]]] = {}
        self.add(documents)

    def add(self, documents: Iterable[bytes]) -> None:
        """Add the inputs of these jobs, from their documents."""
        message = load().v1.BatchPredictionJob
        for document in documents:
            for text in message.FromString(document).input_config.gcs_source.uris:
                self._names.add(text)
                with suppress(InvalidUri):
                    if (uri := GcsUri.parse(text)).has_wildcards:
                        self._patterns[text] = uri.bucket, wildcard_pattern(uri.object)

    def __contains__(self, uri: GcsUri) -> bool:
        return str(uri) in self._names or any(
            bucket == uri.bucket and pattern.fullmatch(uri.object)
            for bucket, pattern in self._patterns.values()
        )
