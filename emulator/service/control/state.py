"""The emulator's whole state: reset to the seed or to nothing, save and load as one file.

Each of these changes everything it should, or nothing: folders by `replacement`, rows in one transaction.
"""

import errno
import json
import logging
import os
import shutil
import stat
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from emulator import __version__
from emulator.comparison.sides import RECORDING_NOTE, check_format
from emulator.database import (
    DATABASE_OUTAGES,
    SCHEMA_VERSION,
    TABLES,
    Database,
    JobRow,
    RowRefused,
    row_from_json,
    row_to_json,
)
from emulator.files import cause, open_regular, read_bounded, shown
from emulator.service.context import Call, Context, Reply
from emulator.service.control.replacement import HIDDEN, Replacement, ReplacementBusy, Replacements, describe
from emulator.service.control.snapshot import Reader, SnapshotRefused, Writer
from emulator.service.control.watch import Watch
from emulator.storage.confined import ConfinedPath
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
# Name of the note with the path of the data folder in the rows.
_HOME = "data_folder"
_PATH_COLUMNS = ("model_folder", "folder")
_DATA = "{data}"
_BUCKETS = "buckets"
_UPLOADS = "uploads"
_MOST_CONTROL_BYTES = 1 << 20
_MOST_JOBS_BYTES = 64 << 20
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


class SeedError(Exception):
    """The seed folder cannot be loaded; the message names file, line and cause."""


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
        create_job: Callable[[Any, Call], Reply],
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
        self._follow_folder()

    def _follow_folder(self) -> None:
        """Update the absolute paths of model folders in the rows, if the data folder was moved or copied.

        Not on a shared database, where each server has a data folder of its own.
        """
        database, here = self._context.database, self._folders.data.resolve()
        before = database.get_note(_HOME)
        if database.is_shared or before == str(here):
            return
        if home := Path(before) if before else self._former_home(here):
            _log.info("The data folder was at %s and is at %s.", home, here)
            database.move_folders(partial(_moved, home=home, here=here))
        database.set_note(_HOME, str(here))

    def _former_home(self, here: Path) -> Path | None:
        """The old path of a data folder without the note: its uploads are here, the rows' path is not."""
        for folder in map(Path, self._context.database.version_folders()):
            home = folder.parent.parent
            if folder.parent.name == _UPLOADS and home != here and (here / _UPLOADS / folder.name).is_dir():
                return home
        return None

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
            writer = Writer(archive)
            try:
                with self._context.database.all_rows() as tables:
                    writer.write_rows({name: map(self._row_out, rows) for name, rows in tables.items()})
                for name, folder in self._saved_folders():
                    _save_folder(writer, name, folder)
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
                    scratch.add_rows(self._rows_in(snapshot.rows()))
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
        folder = self._folders.seed
        assert folder is not None
        if not folder.is_dir():
            raise SeedError(f"The seed folder {folder} does not exist.")
        if (folder / _BUCKETS).is_dir() and self._folders.buckets is not None:
            with _blaming(str(folder / _BUCKETS)):
                _copy_objects(folder / _BUCKETS, replacement.stage(_BUCKETS))

    def _seed_rows(self) -> None:
        """Create the rows of the seed folder, inside a transaction. Raises SeedError."""
        folder = self._folders.seed
        assert folder is not None
        with _blaming(str(folder / RECORDING_NOTE)):
            check_format(folder)
        control = folder / "control.json"
        with _blaming(str(control)):
            if text := _text_of(control, _MOST_CONTROL_BYTES):
                self._control(_json_object(text))
        for where, line in _lines(folder / "jobs.jsonl"):
            with _blaming(where):
                self._seed_job(_json_object(line))
        self._context.database.set_note(_SEEDED, str(folder))

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
        return int(self._create_job(request, Call()).message.name.rpartition("/")[2])

    def _saved_folders(self) -> Iterator[tuple[str, Path]]:
        if self._folders.buckets is not None:
            yield "buckets", self._folders.buckets
        yield from self._folders.kept.items()

    def _row_out(self, row: Mapping[str, Any]) -> dict[str, Any]:
        out = row_to_json(row)
        for name in _path_columns(out):
            if isinstance(out.get(name), str):
                out[name] = self._portable(out[name])
        # The server that loads the snapshot resumes the job.
        return out | {name: None for name in ("owner", "lease_expires_us") if name in out}

    def _portable(self, path: str) -> str:
        """A path below the data folder with a placeholder for that folder; other paths unchanged."""
        data = self._folders.data.resolve()
        return f"{_DATA}{path[len(str(data)) :]}" if Path(path).is_relative_to(data) else path

    def _placed(self, path: str) -> str:
        """The inverse of `_portable`."""
        below = path.removeprefix(_DATA)
        is_ours = below != path and below[:1] in ("", "/", os.sep)
        return f"{self._folders.data.resolve()}{below}" if is_ours else path

    def _rows_in(self, rows: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
        """The rows of a snapshot, checked against the tables. Raises RowRefused."""
        numbers: dict[str, int] = {}
        for name, value in rows:
            if name not in TABLES:
                raise RowRefused(f"it has an unknown table {name[:100]!r}")
            if value is None and name in numbers:
                raise RowRefused(f"it has the table {name} twice")
            numbers[name] = numbers.get(name, -1) + 1
            if value is not None:
                try:
                    yield name, self._row_in(name, value)
                except RowRefused as error:
                    raise RowRefused(f"row {numbers[name]} of {name}: {error}") from None
        if missing := [name for name in TABLES if name not in numbers]:
            raise RowRefused(f"its table {missing[0]} is missing")

    def _row_in(self, table: str, value: Any) -> dict[str, Any]:
        row = row_from_json(TABLES[table], value)
        for name in _path_columns(row):
            if isinstance(row.get(name), str):
                row[name] = self._placed(row[name])
        self._check_messages(table, row)
        return row

    def _check_messages(self, table: str, row: Mapping[str, Any]) -> None:
        """Refuse a message that could not be returned to a client."""
        contract = self._context.contract
        messages = {
            "batch_prediction_jobs": {
                "document": contract.v1.BatchPredictionJob,
                "error": contract.rpc.Status,
            },
            "model_versions": {"document": contract.v1.Model},
            "operations": {"document": contract.longrunning.Operation},
        }
        for column, message in messages.get(table, {}).items():
            if isinstance(row.get(column), bytes):
                try:
                    message.FromString(row[column])
                except Exception as error:  # the DecodeError of whichever protobuf implementation is in use
                    raise RowRefused(f"its column {column} does not fit: {error}") from None


def _path_columns(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (*_PATH_COLUMNS, "value") if row.get("name") == _HOME else _PATH_COLUMNS


def _moved(path: str, *, home: Path, here: Path) -> str:
    """A path below the old data folder, moved to the new one; other paths unchanged."""
    return str(here / Path(path).relative_to(home)) if Path(path).is_relative_to(home) else path


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


def _save_folder(writer: Writer, name: str, folder: Path) -> None:
    """Write the content of a folder. Symbolic links are left out, and a link swapped in meanwhile cannot lead
    out.

    A folder is listed only after everything before it has been written, and hidden entries come first. So a
    file that is renamed from a hidden folder to its final place meanwhile is found in one of the two.
    """
    waiting = [ConfinedPath(folder)]
    while waiting:
        path = waiting.pop()
        # Files may vanish while they are read; those of unfinished writes do.
        with suppress(FileNotFoundError), _unreadable_is_said(path):
            mode = path.lstat().st_mode if path.parts else stat.S_IFDIR
            entry = "/".join((name, *path.parts))
            if stat.S_ISDIR(mode):
                if path.parts:
                    writer.write_folder(entry)
                waiting += _to_save(path)
            elif stat.S_ISREG(mode):
                with _open_to_save(path) as file:
                    writer.write_file(file, entry)


def _to_save(folder: ConfinedPath) -> list[ConfinedPath]:
    """The content of a folder, in reverse order."""
    names = sorted(folder.names(), key=lambda name: (not name.startswith("."), name), reverse=True)
    return [
        ConfinedPath(folder.root, (*folder.parts, name))
        for name in names
        if folder.parts or not name.startswith(HIDDEN)
    ]


def _open_to_save(path: ConfinedPath) -> IO[bytes]:
    file = path.open("rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # another file has replaced it
        file.close()
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return file


def _copy_objects(origin: Path, target: Path) -> None:
    """Copy everything that can be an object: folders and regular files, also through links. Warns about the
    rest.

    Raises:
        OSError: an existing file or folder cannot be read.
    """
    waiting: list[tuple[Path, Path, tuple[tuple[int, int], ...]]] = [(origin, target, ())]
    while waiting:
        folder, into, above = waiting.pop()
        status = folder.stat()
        here = (status.st_dev, status.st_ino)
        if here in above:
            _log.warning("Seed: %s is left out: it is a link to a folder above itself.", shown(folder))
            continue
        into.mkdir(exist_ok=True)
        for path in sorted(folder.iterdir()):
            if problem := _no_object(path):
                _log.warning("Seed: %s is left out: %s.", shown(path), problem)
            elif path.is_dir():
                waiting.append((path, into / path.name, (*above, here)))
            else:
                _copy_file(path, into / path.name)


def _no_object(path: Path) -> str:
    """The reason why this cannot be an object or a folder of objects; "" if it can."""
    if not path.name.isprintable():
        return "its name is not printable UTF-8"
    try:
        if not path.is_dir():
            open_regular(path).close()
    except PermissionError:
        raise
    except OSError as error:
        return cause(error)
    return ""


def _copy_file(origin: Path, target: Path) -> None:
    with open_regular(origin) as source, target.open("xb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
        status = os.fstat(source.fileno())
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


@contextmanager
def _blaming(where: str) -> Iterator[None]:
    """Turn errors inside the block into a SeedError that says where."""
    try:
        yield
    except ApiError as error:
        raise SeedError(shown(f"{where}: {error.message}")) from error
    except OSError as error:
        named = error.filename if isinstance(error.filename, str) else where
        raise SeedError(shown(f"{where}: {cause(error)} ({named})")) from error
    except ValueError as error:
        raise SeedError(shown(f"{where}: {error}")) from error
    except RecursionError:
        raise SeedError(f"{where}: it is nested too deeply") from None


@contextmanager
def _unreadable_is_said(path: ConfinedPath) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, UnicodeEncodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "its name is not UTF-8"
        raise FailedPrecondition(
            f"{os.fsencode(path.path)!r} cannot be saved ({cause}), so there is no snapshot; mend or remove"
            " it."
        ) from error


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a file that are not blank, each with its location for messages; none without the file."""
    with _blaming(str(path)):
        text = _text_of(path, _MOST_JOBS_BYTES)
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{path} line {number}", line


def _text_of(path: Path, most_bytes: int) -> str:
    """The text of a file; "" if it does not exist. Raises OSError and ValueError."""
    if not os.path.lexists(path):
        return ""
    return read_bounded(path, most_bytes).decode("utf-8")


def _json_object(text: str) -> Mapping[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("it must be a JSON object")
    return value
