"""The emulator's whole state: back to the seed or to nothing, and as one file."""

import base64
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from emulator import __version__
from emulator.database import SCHEMA_VERSION, JobRow
from emulator.service.context import Call, Context
from emulator.service.control.watch import Watch
from emulator.vertex.errors import ApiError, FailedPrecondition, InvalidArgument
from emulator.vertex.job_state import TERMINAL, JobState
from emulator.vertex.messages import from_json
from emulator.vertex.names import project_number

_FORMAT = 1
_SEEDED = "seeded"
_GRACE_S = 5.0
_PATH_COLUMNS = ("model_folder", "folder")
_DATA = "{data}"


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
        number = project_number(project, self._context.project_numbers) if project else None
        if buckets and self._folders.buckets is None:
            raise FailedPrecondition(
                "The folder of the buckets was given with storage_dir; it is not emptied."
            )
        if buckets and project:
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

    def seed_if_new(self) -> None:
        """Load the seed folder, unless this data folder has been seeded. Raises SeedError."""
        if self._folders.seed is not None and self._context.database.get_note(_SEEDED) is None:
            self.seed()

    def seed(self) -> None:
        """Load the seed folder. Raises SeedError."""
        folder = self._folders.seed
        assert folder is not None
        if not folder.is_dir():
            raise SeedError(f"The seed folder {folder} does not exist.")
        if (folder / "buckets").is_dir() and self._folders.buckets is not None:
            shutil.copytree(folder / "buckets", self._folders.buckets, dirs_exist_ok=True)
        control = folder / "control.json"
        if control.is_file():
            with _blaming(str(control)):
                self._control(_json_object(control.read_text(encoding="utf-8")))
        jobs = folder / "jobs.jsonl"
        if jobs.is_file():
            for number, line in enumerate(jobs.read_text(encoding="utf-8").splitlines(), start=1):
                if line.strip():
                    with _blaming(f"{jobs} line {number}"):
                        self._seed_job(_json_object(line))
        self._context.database.set_note(_SEEDED, str(folder))

    def save(self, file: IO[bytes]) -> None:
        """Write everything as a zip file."""
        times: dict[str, int] = {}
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            rows = {name: [self._row_out(row) for row in rows] for name, rows in self._dump()}
            archive.writestr("rows.json", json.dumps(rows))
            for name, folder in self._saved_folders():
                for path in sorted(folder.rglob("*")):
                    # Files may go while they are read, and those of unfinished writes do.
                    with suppress(FileNotFoundError):
                        if path.is_file() and not path.is_symlink():
                            entry = f"{name}/{path.relative_to(folder).as_posix()}"
                            times[entry] = path.stat().st_mtime_ns
                            archive.write(path, entry)
            head = {"format": _FORMAT, "emulator": __version__, "schema": SCHEMA_VERSION, "times": times}
            archive.writestr("snapshot.json", json.dumps(head))

    def load(self, file: IO[bytes]) -> dict[str, Any]:
        """Put what `save` has written in place of everything. Raises InvalidArgument for another file."""
        try:
            archive = zipfile.ZipFile(file)
            head = json.loads(archive.read("snapshot.json"))
            rows = json.loads(archive.read("rows.json"))
            names = [name for name in archive.namelist() if "/" in name]
            targets = {name: self._target(name) for name in names}
        except (zipfile.BadZipFile, KeyError, ValueError) as error:
            raise InvalidArgument(f"The body is no snapshot of this emulator: {error}.") from None
        if (head.get("format"), head.get("schema")) != (_FORMAT, SCHEMA_VERSION):
            raise InvalidArgument(
                f"The snapshot was made by emulator {head.get('emulator')}, whose tables differ from those of"
                f" {__version__}. Load it with that version."
            )
        with archive:
            self._stop_jobs(None)
            for _, folder in self._saved_folders():
                _empty(folder)
            for name, target in targets.items():
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as origin, target.open("wb") as copy:
                    shutil.copyfileobj(origin, copy)
                os.utime(target, ns=(head["times"][name], head["times"][name]))
        loaded = {name: [self._row_in(row) for row in of_table] for name, of_table in rows.items()}
        self._context.database.restore(loaded)
        self._forget(None)
        self._context.on_work()
        return {"jobs": len(rows["batch_prediction_jobs"]), "files": len(targets)}

    def _stop_jobs(self, number: str | None) -> int:
        """Cancel what is unfinished and wait until it has ended, for a while; how many there were."""
        unfinished = self._context.database.unfinished_jobs(number)
        for row in unfinished:
            self._context.database.request_cancel(row.id)
            self._context.database.release_hold(row.id)
        self._context.on_cancel()
        self._watch.wait(lambda: None if self._context.database.unfinished_jobs(number) else True, _GRACE_S)
        return len(unfinished)

    def _seed_job(self, value: Mapping[str, Any]) -> None:
        request = from_json(self._context.v1.CreateBatchPredictionJobRequest, dict(value))
        if JobState(request.batch_prediction_job.state) in TERMINAL:
            self._keep_job(request.parent, request.batch_prediction_job)
        else:
            self._create_job(request, Call())

    def _dump(self) -> Iterator[tuple[str, Any]]:
        for name, rows in self._context.database.dump().items():
            if name != "schema_version":
                yield name, rows

    def _saved_folders(self) -> Iterator[tuple[str, Path]]:
        if self._folders.buckets is not None:
            yield "buckets", self._folders.buckets
        yield from self._folders.kept.items()

    def _target(self, name: str) -> Path:
        top, *rest = PurePosixPath(name).parts
        folder = dict(self._saved_folders()).get(top)
        if folder is None or not rest or ".." in rest or any("\0" in part for part in rest):
            raise ValueError(f"it has an entry {name!r}")
        return folder.joinpath(*rest)

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


def _json_object(text: str) -> Mapping[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("it must be a JSON object")
    return value


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _empty(folder: Path | None) -> None:
    """Remove everything in a folder, but not the folder."""
    if folder is None or not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
