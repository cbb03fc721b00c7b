"""The emulator's whole state: back to the seed or to nothing, and as one file."""

import base64
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from emulator import __version__
from emulator.database import SCHEMA_VERSION, JobRow
from emulator.service.context import Call, Context
from emulator.service.control.paces import PACE_NOTES
from emulator.service.control.watch import Watch
from emulator.vertex.errors import ApiError, FailedPrecondition, InvalidArgument
from emulator.vertex.job_state import TERMINAL, JobState
from emulator.vertex.messages import from_json
from emulator.vertex.names import project_number

_FORMAT = 1
_SEEDED = "seeded"
# How long cancelled jobs have to end.
_GRACE_S = 20.0
_PATH_COLUMNS = ("model_folder", "folder")
_DATA = "{data}"
# Where a snapshot is unpacked, in the data folder, before it takes the place of what is there.
_UNPACKED = ".snapshot-"


@dataclass(frozen=True)
class Folders:
    """Where the state lies beside the rows. `buckets` is None when they are not the emulator's to empty;
    `kept` are those that a snapshot holds besides, by name."""

    data: Path
    buckets: Path | None
    kept: Mapping[str, Path] = field(default_factory=dict)
    seed: Path | None = None


class SeedError(Exception):
    """The seed folder cannot be loaded; the message names file, line and cause."""


class State:
    """Resets, seeds, saves and loads.

    `forget` is called after rows have gone, of a project or of all. `create_job`, `keep_job` (a parent and a
    finished job) and `control` are how a seed's jobs and instructions come about.
    """

    def __init__(
        self,
        context: Context,
        watch: Watch,
        folders: Folders,
        *,
        forget: Callable[[str | None], None],
        create_job: Callable[[Any, Call], Any],
        keep_job: Callable[[str, Any], JobRow],
        control: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._context = context
        self._watch = watch
        self._folders = folders
        self._forget = forget
        self._create_job = create_job
        self._keep_job = keep_job
        self._control = control

    def reset(self, project: str | None, *, to_seed: bool, buckets: bool | None) -> dict[str, Any]:
        """Remove what there is, of one project (id or number) or all, and load the seed again if asked to.

        buckets: empty them as well; by default when all is reset and they are the emulator's own.
        """
        number = None if project is None else project_number(project, self._context.project_numbers)
        if buckets and self._folders.buckets is None:
            raise FailedPrecondition(
                "The folder of the buckets was given with storage_dir; it is not emptied."
            )
        if buckets and project is not None:
            raise FailedPrecondition("Buckets belong to no project; they are emptied when all is reset.")
        cancelled = self._stop_jobs(number)
        self._context.database.delete_project(number)
        self._forget(number)
        emptied = project is None and buckets is not False and self._folders.buckets is not None
        if emptied:
            _empty(self._folders.buckets)
        seeded = to_seed and self._folders.seed is not None and project is None
        if seeded:
            self.seed()
        return {"cancelledJobs": cancelled, "bucketsEmptied": emptied, "seeded": seeded}

    def remove_leftovers(self) -> None:
        """Remove what a server that was killed had unpacked of a snapshot."""
        for path in self._folders.data.glob(f"{_UNPACKED}*"):
            shutil.rmtree(path, ignore_errors=True)

    def seed_if_new(self) -> None:
        """Load the seed folder, unless this data folder has been seeded. Raises SeedError."""
        if self._folders.seed is not None and self._context.database.get_note(_SEEDED) is None:
            self.seed()

    def seed(self) -> None:
        """Load the seed folder, all of it or nothing. Raises SeedError."""
        folder = self._folders.seed
        assert folder is not None
        if not folder.is_dir():
            raise SeedError(f"The seed folder {folder} does not exist.")
        if (folder / "buckets").is_dir() and self._folders.buckets is not None:
            with _blaming(str(folder / "buckets")):
                shutil.copytree(folder / "buckets", self._folders.buckets, dirs_exist_ok=True)
        with self._undone_on_error() as job_ids:
            control = folder / "control.json"
            if control.is_file():
                with _blaming(str(control)):
                    self._control(_json_object(control.read_text(encoding="utf-8")))
            for where, line in _lines(folder / "jobs.jsonl"):
                with _blaming(where):
                    job_ids.append(self._seed_job(_json_object(line)))
        self._context.database.set_note(_SEEDED, str(folder))

    def save(self, file: IO[bytes]) -> None:
        """Write everything as a zip file. Raises FailedPrecondition where a file cannot be read."""
        times: dict[str, int] = {}
        # Files from before 1980, which a zip file cannot date, are kept as well: `times` has all dates.
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            rows = {name: [self._row_out(row) for row in rows] for name, rows in self._dump()}
            archive.writestr("rows.json", json.dumps(rows))
            for name, folder in self._saved_folders():
                for path in sorted(folder.rglob("*")):
                    # Files may go while they are read, and those of unfinished writes do.
                    with suppress(FileNotFoundError), _unreadable_is_said(path):
                        entry = f"{name}/{path.relative_to(folder).as_posix()}"
                        if path.is_dir() and not path.is_symlink():
                            archive.writestr(f"{entry}/", b"")
                        elif path.is_file() and not path.is_symlink():
                            times[entry] = path.stat().st_mtime_ns
                            archive.write(path, entry)
            head = {"format": _FORMAT, "emulator": __version__, "schema": SCHEMA_VERSION, "times": times}
            archive.writestr("snapshot.json", json.dumps(head))

    def load(self, file: IO[bytes]) -> dict[str, Any]:
        """Put what `save` has written in place of everything.

        Raises InvalidArgument for another file or a damaged one, before anything is touched.
        """
        self._folders.data.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folders.data, prefix=_UNPACKED) as unpacked:
            try:
                with zipfile.ZipFile(file) as archive:
                    head, rows = (json.loads(archive.read(name)) for name in ("snapshot.json", "rows.json"))
                    self._check_version(head)
                    self._unpack(archive, head["times"], Path(unpacked))
                loaded = {name: [self._row_in(row) for row in of_table] for name, of_table in rows.items()}
                jobs, files = len(rows["batch_prediction_jobs"]), len(head["times"])
            except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, TypeError, AttributeError) as error:
                raise InvalidArgument(
                    f"The body is no snapshot of this emulator, or it is damaged: {error}. Nothing changed."
                ) from None
            self._stop_jobs(None)
            if running := self._context.database.unfinished_jobs():
                raise FailedPrecondition(
                    f"{len(running)} jobs have not stopped within {_GRACE_S:g} s, the first is"
                    f" {running[0].name}; nothing was replaced. Try again."
                )
            for name, folder in self._saved_folders():
                _empty(folder)
                _move_all(Path(unpacked, name), folder)
        # Last: a job may go on as soon as it has its row.
        self._context.database.restore(loaded)
        self._forget(None)
        self._context.on_work()
        return {"jobs": jobs, "files": files}

    def _check_version(self, head: Mapping[str, Any]) -> None:
        if (head.get("format"), head.get("schema")) != (_FORMAT, SCHEMA_VERSION):
            raise InvalidArgument(
                f"The snapshot was made by emulator {head.get('emulator')}, whose tables differ from those of"
                f" {__version__}. Load it with that version."
            )

    def _unpack(self, archive: zipfile.ZipFile, times: Mapping[str, int], into: Path) -> None:
        for name in archive.namelist():
            if "/" not in name:
                continue
            target = into / self._checked(name)
            (target if name.endswith("/") else target.parent).mkdir(parents=True, exist_ok=True)
            if not name.endswith("/"):
                with archive.open(name) as origin, target.open("wb") as copy:
                    shutil.copyfileobj(origin, copy)
                os.utime(target, ns=(times[name], times[name]))

    def _stop_jobs(self, number: str | None) -> int:
        """Cancel what is unfinished and wait until it has ended, for a while; how many there were."""
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
        """Make one job of a seed; its id."""
        request = from_json(self._context.v1.CreateBatchPredictionJobRequest, dict(value))
        if JobState(request.batch_prediction_job.state) in TERMINAL:
            return self._keep_job(request.parent, request.batch_prediction_job).id
        return int(self._create_job(request, Call()).name.rpartition("/")[2])

    @contextmanager
    def _undone_on_error(self) -> Iterator[list[int]]:
        """Take back the paces, the faults and the jobs (whose ids are put into the list) of a seed that
        cannot be loaded to its end: it will be loaded again."""
        database, job_ids = self._context.database, list[int]()
        paces = database.get_notes(PACE_NOTES)
        faults = {row.number for row in database.list_faults()}
        try:
            yield job_ids
        except SeedError:
            self._stop_jobs_of({*job_ids})
            for job_id in job_ids:
                database.delete_job(job_id)
            for row in database.list_faults():
                if row.number not in faults:
                    database.delete_faults(row.number)
            for name in {*database.get_notes(PACE_NOTES), *paces}:
                database.set_note(name, paces.get(name))
            self._forget(None)
            raise

    def _dump(self) -> Iterator[tuple[str, Any]]:
        for name, rows in self._context.database.dump().items():
            if name != "schema_version":
                yield name, rows

    def _saved_folders(self) -> Iterator[tuple[str, Path]]:
        if self._folders.buckets is not None:
            yield "buckets", self._folders.buckets
        yield from self._folders.kept.items()

    def _checked(self, name: str) -> Path:
        path = PurePosixPath(name)
        top, *rest = path.parts
        if top not in dict(self._saved_folders()) or not rest or ".." in rest or "\0" in name:
            raise ValueError(f"it has an entry {name!r}")
        return Path(path)

    def _row_out(self, row: Mapping[str, Any]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, value in row.items():
            if name in _PATH_COLUMNS:
                value = str(value).replace(str(self._folders.data.resolve()), _DATA, 1)
            elif isinstance(value, bytes):
                value = {"bytes": _text(value)}
            elif isinstance(value, tuple):
                value = {"frames": [_text(frame) for frame in value]}
            elif name in ("owner", "lease_expires_us"):
                value = None  # Whoever loads it resumes the job.
            out[name] = value
        return out

    def _row_in(self, row: Mapping[str, Any]) -> dict[str, Any]:
        loaded: dict[str, Any] = {}
        for name, value in row.items():
            if name in _PATH_COLUMNS:
                value = str(value).replace(_DATA, str(self._folders.data.resolve()), 1)
            elif isinstance(value, dict) and list(value) == ["bytes"]:
                value = base64.b64decode(value["bytes"])
            elif isinstance(value, dict) and list(value) == ["frames"]:
                value = tuple(base64.b64decode(frame) for frame in value["frames"])
            loaded[name] = value
        return loaded


@contextmanager
def _blaming(where: str) -> Iterator[None]:
    """Turn what goes wrong inside into a SeedError that says where."""
    try:
        yield
    except ApiError as error:
        raise SeedError(f"{where}: {error.message}") from error
    except (ValueError, OSError) as error:
        raise SeedError(f"{where}: {error}") from error


@contextmanager
def _unreadable_is_said(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, UnicodeEncodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "its name is not UTF-8"
        raise FailedPrecondition(
            f"{os.fsencode(path)!r} cannot be saved ({cause}), so there is no snapshot; mend or remove it."
        ) from error


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a file that are not blank, with what to call each; none where there is no file."""
    if path.is_file():
        with _blaming(str(path)):
            text = path.read_text(encoding="utf-8")
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield f"{path} line {number}", line


def _json_object(text: str) -> Mapping[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("it must be a JSON object")
    return value


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _move_all(origin: Path, target: Path) -> None:
    """Move what is in one folder into another, if there is the first."""
    for path in origin.iterdir() if origin.is_dir() else ():
        target.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)


def _empty(folder: Path | None) -> None:
    """Remove everything in a folder, but not the folder."""
    if folder is None or not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
