"""The emulator's whole state: reset to the seed or to nothing, save and load as one file.

Each of these changes everything it should, or nothing: folders by `replacement`, rows in one transaction.
"""

import errno
import logging
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from emulator import __version__
from emulator.database import (
    DATABASE_OUTAGES,
    SCHEMA_VERSION,
    Database,
    JobRow,
)
from emulator.files import shown
from emulator.service.context import Call, Context
from emulator.service.control.replacement import Replacement, ReplacementBusy, Replacements, describe
from emulator.service.control.seed import Seed
from emulator.service.control.snapshot import Reader, SnapshotRefused, Writer, save_folder
from emulator.service.control.snapshot_rows import SnapshotRows, follow_folder
from emulator.service.control.watch import Watch
from emulator.vertex.errors import (
    ApiError,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from emulator.vertex.job_state import TERMINAL, JobState
from emulator.vertex.messages import from_json
from emulator.vertex.names import project_number

_FORMAT = 1
_SEEDED = "seeded"
# Name of the note with the id of the last valid replacement of folders.
_REPLACED = "replacement"
# Timeout for cancelled jobs to end.
_GRACE_S = 20.0
_BUCKETS = "buckets"
# The exceptions of zipfile and json for a damaged file.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, ValueError, TypeError, AttributeError,
    OverflowError, RuntimeError,
)  # fmt: skip
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Folders:
    """The folders of the state.

    Attributes:
        data: the data folder.
        buckets: None if the emulator must not empty them.
        kept: further folders of a snapshot, by name.
        seed: the seed folder, if any.
        elsewhere: endpoints that hold buckets.
    """

    data: Path
    buckets: Path | None
    kept: Mapping[str, Path] = field(default_factory=dict)
    seed: Path | None = None
    elsewhere: tuple[str, ...] = ()


class State:
    """Resets, seeds, saves and loads the state.

    Args:
        context: the parts of the service.
        watch: to wait for jobs.
        folders: of the state.
        forget: called after rows of a project (or of all) were removed.
        forget_rows: only invalidates caches of rows, inside the transaction that changes them.
        create_job: creates a job of the seed.
        keep_job: adds a finished job of the seed, given its parent.
        control: applies the seed's control.json.
        sweep: removes the files of models that are gone.
    """

    def __init__(
        self,
        context: Context,
        watch: Watch,
        folders: Folders,
        *,
        forget: Callable[[str | None], None],
        forget_rows: Callable[[str | None], None],
        create_job: Callable[[Any, Call], Any],
        keep_job: Callable[[str, Any], JobRow],
        control: Callable[[Mapping[str, Any]], None],
        sweep: Callable[[], None],
    ) -> None:
        self._context = context
        self._watch = watch
        self._folders = folders
        self._forget = forget
        self._forget_rows = forget_rows
        self._create_job = create_job
        self._keep_job = keep_job
        self._control = control
        self._sweep = sweep
        self._replacements = Replacements(folders.data, dict(self._saved_folders()), self._is_noted)
        self._lock = threading.Lock()

    def reset(self, project: str | None, *, to_seed: bool, buckets: bool | None) -> dict[str, Any]:
        """Remove everything of one project (id or number) or of all, and load the seed again if asked to.

        `buckets`: also empty the buckets. By default they are emptied if everything is reset and they are the
        emulator's own.
        """
        number = None if project is None else project_number(project, self._context.project_numbers)
        if buckets and self._folders.buckets is None:
            raise FailedPrecondition(
                "The folder of the buckets was given with storage_dir; it is not emptied."
            )
        if buckets and project is not None:
            raise FailedPrecondition("Buckets belong to no project; they are emptied when all is reset.")
        with self._lock:
            if project is not None:
                cancelled = self._stop_jobs(number)
                self._context.database.delete_project(number)
                self._forget(number)
                return {"cancelledJobs": cancelled, "bucketsEmptied": False, "seeded": False}
            emptied = buckets is not False and self._folders.buckets is not None
            return self._reset_all(emptied=emptied, seeded=to_seed and self._folders.seed is not None)

    def reset_after(self, moment_us: int, project: str | None) -> dict[str, Any]:
        """Remove the jobs, models and operations created after a time, of one project (id or number) or of
        all.

        Everything older stays, and so do paces, faults and the journal.
        """
        number = None if project is None else project_number(project, self._context.project_numbers)
        database = self._context.database
        with self._lock:
            unfinished = database.unfinished_jobs(number)
            cancelled = {row.id for row in unfinished if row.create_time_us > moment_us}
            if cancelled:
                self._stop_jobs_of(cancelled)
            emptied = database.delete_after(moment_us, number)
            for one in emptied:
                self._forget_rows(one)
            self._sweep()
        return {"cancelledJobs": len(cancelled), "bucketsEmptied": False, "seeded": False}

    def _reset_all(self, *, emptied: bool, seeded: bool) -> dict[str, Any]:
        def change() -> None:
            self._context.database.delete_project(None)
            self._forget_rows(None)
            if seeded:
                self._seed_rows()

        with self._replacing() as replacement:
            if seeded:
                self._stage_seed(replacement)
                self._try(change)
            cancelled = self._stop_jobs(None)
            self._put(replacement, {_BUCKETS} if emptied else (), change)
        self._forget(None)
        answer = {"cancelledJobs": cancelled, "bucketsEmptied": emptied, "seeded": seeded}
        return answer | self._left_alone()

    def _left_alone(self) -> dict[str, Any]:
        """The part of an answer that names endpoints whose buckets are left unchanged."""
        return {"bucketsLeftAlone": list(self._folders.elsewhere)} if self._folders.elsewhere else {}

    def recover(self) -> None:
        """Complete or undo what a killed server had begun, and adapt the rows to a moved data folder."""
        self._replacements.recover()
        follow_folder(self._context.database, self._folders.data)

    def seed_if_new(self) -> None:
        """Load the seed folder, unless this data folder has been seeded. Raises SeedError."""
        if self._folders.seed is not None and self._context.database.get_note(_SEEDED) is None:
            with self._lock, self._replacing() as replacement:
                self._stage_seed(replacement)
                self._put(replacement, (), self._seed_rows)

    def save(self, file: IO[bytes]) -> None:
        """Write the state as a zip file.

        Raises:
            FailedPrecondition: a file cannot be read, or the snapshot would exceed what can be loaded.
        """
        # A zip file cannot hold dates before 1980; such files are saved too, and the head has all dates.
        with self._lock, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            writer, kept = Writer(archive), SnapshotRows(self._context, self._folders.data)
            try:
                with self._context.database.all_rows() as tables:
                    writer.write_rows({name: map(kept.out, rows) for name, rows in tables.items()})
                for name, folder in self._saved_folders():
                    save_folder(writer, name, folder)
                for endpoint in self._folders.elsewhere:
                    _log.warning("The snapshot does not hold the buckets at %s.", endpoint)
                writer.finish(format=_FORMAT, emulator=__version__, schema=SCHEMA_VERSION)
            except SnapshotRefused as error:
                raise FailedPrecondition(f"There is no snapshot: {error}.") from None

    def load(self, file: IO[bytes]) -> dict[str, Any]:
        """Replace the whole state by one that `save` wrote.

        If it raises, nothing has changed, except that jobs may have been cancelled.

        Raises:
            InvalidArgument: the file is no snapshot or is damaged.
        """
        with self._lock, self._replacing() as replacement:
            with _damage_is_told():
                snapshot = Reader(file, dict(self._saved_folders()).__contains__)
                self._check_version(snapshot)
                for name, _ in self._saved_folders():
                    snapshot.unpack(name, replacement.stage(name))
                scratch = Database(f"sqlite:///{replacement.scratch() / 'rows.db'}")
            try:
                with _damage_is_told():
                    rows_in = SnapshotRows(self._context, self._folders.data).read(snapshot.rows())
                    scratch.add_rows(rows_in)
                jobs = sum(scratch.count_jobs().values())
                self._stop_all()
                with scratch.all_rows() as rows:
                    self._put(
                        replacement,
                        [name for name, _ in self._saved_folders()],
                        lambda: self._context.database.restore(rows),
                    )
            finally:
                scratch.close()
        self._forget(None)
        self._context.on_work()
        return {"jobs": jobs, "files": len(snapshot.head.times)} | self._left_alone()

    def _check_version(self, snapshot: Reader) -> None:
        head = snapshot.head
        made = f"The snapshot was made by emulator {str(head.emulator)[:40]}, whose tables"
        if head.format != _FORMAT or not isinstance(head.schema, int) or head.schema > SCHEMA_VERSION:
            raise InvalidArgument(f"{made} differ from those of {__version__}. Load it with that version.")
        if head.schema < SCHEMA_VERSION:
            raise InvalidArgument(
                f"{made} are older than those of {__version__} (schema {head.schema} and {SCHEMA_VERSION})."
                " Load it with that version, and start this one on its data folder, whose rows it brings"
                " forward. Nothing changed."
            )

    def _stop_all(self) -> None:
        self._stop_jobs(None)
        if running := self._context.database.unfinished_jobs():
            raise FailedPrecondition(
                f"{len(running)} jobs have been cancelled and have not stopped within {_GRACE_S:g} s, the"
                f" first is {running[0].name}; nothing was replaced. Try again."
            )

    @contextmanager
    def _replacing(self) -> Iterator[Replacement]:
        try:
            with self._replacements.begin() as replacement:
                yield replacement
        except ReplacementBusy:
            raise FailedPrecondition(
                "Another server on this data folder is loading, seeding or resetting now. Try again."
            ) from None
        except OSError as error:
            kind = ResourceExhausted if error.errno in _NO_SPACE else FailedPrecondition
            raise kind(f"The folders cannot be replaced: {describe(error)}. Nothing changed.") from error

    def _put(self, replacement: Replacement, emptied: Collection[str], change: Callable[[], None]) -> None:
        """Swap the folders and change the rows, both or neither. The database commit decides."""
        database, is_committing = self._context.database, False
        try:
            replacement.swap(emptied)
            # Last: a job may start as soon as its row exists.
            with database.all_or_nothing():
                change()
                database.set_note(_REPLACED, replacement.id)
                is_committing = True
        except BaseException:
            if not is_committing or not self._counts(replacement):
                self._undo(replacement)
                raise
        replacement.finish()

    def _undo(self, replacement: Replacement) -> None:
        try:
            replacement.undo()
        except OSError as error:
            raise FailedPrecondition(
                f"The folders cannot be brought back: {describe(error)}. Mend that and start the server"
                " again, which goes on with it."
            ) from error
        self._forget_rows(None)

    def _counts(self, replacement: Replacement) -> bool:
        """Whether the database committed a transaction that ended in an error."""
        try:
            return self._is_noted(replacement.id)
        except DATABASE_OUTAGES as error:
            raise Unavailable(
                "The database does not say whether the rows were replaced. Start the server again: it"
                " completes that, or undoes it."
            ) from error

    def _is_noted(self, replacement: str) -> bool:
        return self._context.database.get_note(_REPLACED) == replacement

    def _try(self, change: Callable[[], None]) -> None:
        """Run `change` in a transaction that is rolled back, so that its errors are raised early."""
        try:
            with self._context.database.all_or_nothing():
                change()
                raise _Undone
        except _Undone:
            pass
        finally:
            self._forget_rows(None)

    def _stage_seed(self, replacement: Replacement) -> None:
        self._seed.check_exists()
        if self._folders.buckets is not None:
            self._seed.copy_buckets(lambda: replacement.stage(_BUCKETS))

    def _seed_rows(self) -> None:
        """Create the rows of the seed folder, inside a transaction. Raises SeedError."""
        self._seed.load(self._control, self._seed_job)
        self._context.database.set_note(_SEEDED, str(self._seed.folder))

    @property
    def _seed(self) -> Seed:
        assert self._folders.seed is not None
        return Seed(self._folders.seed)

    def _stop_jobs(self, number: str | None) -> int:
        """Cancel the unfinished jobs and wait for them up to the timeout; returns how many there were."""
        unfinished = {row.id for row in self._context.database.unfinished_jobs(number)}
        self._stop_jobs_of(unfinished)
        return len(unfinished)

    def _stop_jobs_of(self, job_ids: Set[int]) -> None:
        database = self._context.database
        for job_id in job_ids:
            database.request_cancel(job_id)
            database.release_hold(job_id)
        self._context.on_change()
        self._watch.wait(
            lambda: job_ids.isdisjoint(row.id for row in database.unfinished_jobs()) or None, _GRACE_S
        )

    def _seed_job(self, value: Mapping[str, Any]) -> int:
        """Create one job of a seed; returns its id."""
        request = from_json(self._context.v1.CreateBatchPredictionJobRequest, dict(value))
        if JobState(request.batch_prediction_job.state) in TERMINAL:
            return self._keep_job(request.parent, request.batch_prediction_job).id
        return int(self._create_job(request, Call()).name.rpartition("/")[2])

    def _saved_folders(self) -> Iterator[tuple[str, Path]]:
        if self._folders.buckets is not None:
            yield "buckets", self._folders.buckets
        yield from self._folders.kept.items()


class _Undone(Exception):
    """Rolls back a transaction that was only tried."""


@contextmanager
def _damage_is_told() -> Iterator[None]:
    try:
        yield
    except ApiError:
        raise
    except _DAMAGE as error:
        raise InvalidArgument(
            f"The body is no snapshot of this emulator, or it is damaged: {shown(error)[:500]}. Nothing"
            " changed."
        ) from None
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise
        raise InvalidArgument(
            f"The body cannot be unpacked: {describe(error)[:500]}. Nothing changed."
        ) from error
