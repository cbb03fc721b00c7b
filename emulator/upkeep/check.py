"""Checks a data folder: the database by itself, and its rows against the files. Changes nothing.

A server may run meanwhile. What looks wrong is looked at a second time, after the rows have been read: a job
that ends in between is no problem.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.config import Settings
from emulator.database import SCHEMA_VERSION, Inspection, JobFiles
from emulator.execution.output import ERRORS_FILE, OutputDirectory
from emulator.execution.owner import dead_servers, living_servers
from emulator.storage import GcsUri, InvalidUri, LocalStore, ObjectStore, StorageError
from emulator.upkeep.sizes import sizes
from emulator.vertex.job_state import TERMINAL, JobState

_SUCCEEDED = (JobState.SUCCEEDED, JobState.PARTIALLY_SUCCEEDED)
_FILE_OF_VIDEO = re.compile(r"in (predictions_\d{5,}\.jsonl)$")
# The note with the path that the data folder had when a server last started on it.
_HOME = "data_folder"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. `part` is `database`, `jobs`, `models`, `buckets` or `servers`."""

    part: str
    subject: str
    problem: str
    remedy: str


@dataclass
class Report:
    """What a check has found. `sizes` are bytes on the disk by part; `jobs` are numbers of jobs by state."""

    schema_version: int
    jobs: dict[str, int]
    servers: list[str]
    sizes: dict[str, int]
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "ok": not self.problems,
            "schemaVersion": self.schema_version,
            "jobs": self.jobs,
            "servers": self.servers,
            "diskBytes": {**self.sizes, "total": sum(self.sizes.values())},
            "problems": [vars(problem) for problem in self.problems],
            "notes": self.notes,
        }


def check(settings: Settings, store: ObjectStore) -> Report:
    """Check the data of the server that has these settings; `store` holds its buckets.

    Raises:
        DatabaseUnusable: the database is missing, cannot be read, or is of another schema version.
    """
    database = Inspection(settings.database)
    try:
        return _Check(settings, store, database).report()
    finally:
        database.close()


class _Check:
    def __init__(self, settings: Settings, store: ObjectStore, database: Inspection) -> None:
        self._settings = settings
        self._store = store
        self._database = database
        self._local = LocalStore(settings.buckets)
        self._owners = settings.data_dir / "owners"

    def report(self) -> Report:
        database = self._database
        report = Report(
            SCHEMA_VERSION,
            {state.proto_name: count for state, count in sorted(database.counts().items())},
            living_servers(self._owners),
            {"database": database.size_bytes(), **sizes(self._settings)},
        )
        parts = (self._rows, self._models, self._outputs, self._staged, self._dead)
        report.problems = [problem for part in parts for problem in part()]
        if not database.is_sqlite:
            report.notes.append(
                "PostgreSQL looks after its own pages; what it has counted of damaged ones, and rows that fit"
                " no job, are checked here. pg_amcheck looks further."
            )
        return report

    def _rows(self) -> Iterator[Problem]:
        for text in self._database.problems():
            remedy = "restore a backup" if self._database.is_sqlite else "see the log of PostgreSQL"
            yield Problem("database", self._database.shown_url, text, remedy)

    def _models(self) -> Iterator[Problem]:
        uploads = self._settings.data_dir / "uploads"
        # Folders first: one that is new meanwhile belongs to a row that is read after it.
        folders = sorted(path for path in uploads.glob("*") if not path.name.startswith("."))
        for model, folder in self._database.uploaded_models().items():
            if not self._here(folder).is_dir():
                remedy = "upload the model again, or restore its folder from a backup"
                yield Problem("models", model, f"its folder {self._here(folder)} is missing", remedy)
        in_use = self._database.folders_in_use()
        for folder_left in folders:
            if folder_left.name not in in_use and folder_left.exists():
                remedy = "the next start of a server removes it"
                yield Problem("models", str(folder_left), "no model version needs this upload", remedy)

    def _here(self, folder: str) -> Path:
        """The folder of a row, also in a data folder that was copied and has not been served since."""
        home, path = self._database.note(_HOME), Path(folder)
        if home is not None and self._database.is_sqlite and path.is_relative_to(home):
            return self._settings.data_dir.resolve() / path.relative_to(home)
        return path

    def _outputs(self) -> Iterator[Problem]:
        for job in self._database.jobs(*_SUCCEEDED):
            missing = self._missing(job)
            # It may have been deleted, with its output, since its row was read.
            if missing and self._database.job(job.id) is not None:
                remedy = "restore the files from a backup, or delete the job and create it again"
                yield Problem("jobs", job.name, f"of its output in {job.output_directory}, {missing}", remedy)

    def _missing(self, job: JobFiles) -> str:
        """What of a succeeded job's recorded output is missing, in words; "" if nothing is."""
        if not job.output_directory:
            return ""
        try:
            directory = GcsUri.parse_prefix(job.output_directory)
            files = OutputDirectory(self._store, directory, str(job.id)).files()
        except (StorageError, InvalidUri) as error:
            return f"nothing can be read: {error}"
        steps = self._database.texts_of_steps(job.id, "video")
        wanted = {found[1] for text in steps if (found := _FILE_OF_VIDEO.search(text))}
        wanted |= {ERRORS_FILE} if job.failed and steps else set()
        if lost := sorted(wanted - files):
            return (
                f"{_listed(lost)} of {len(wanted)} files missing"
                if len(lost) > 1
                else f"{lost[0]} is missing"
            )
        if job.successful and not any(name.startswith("predictions_") for name in files):
            return "all files are missing"
        return ""

    def _staged(self) -> Iterator[Problem]:
        files = list(self._local.unfinished())
        unfinished = {str(job.id) for job in self._database.unfinished_jobs()}
        for file in files:
            is_owned = file.group in unfinished if file.group else not file.is_leftover
            if is_owned or not file.path.exists():
                continue
            if file.group:
                what = f"job {file.group}, for which it was staged, has finished or is gone"
            else:
                what = "its writer is gone"
            remedy = (
                "a server that starts removes it once it is a week old"
                if file.group
                else ("the next start of a server removes it")
            )
            yield Problem("buckets", str(file.path), f"nobody owns this file: {what}", remedy)

    def _dead(self) -> Iterator[Problem]:
        if self._database.is_sqlite or not living_servers(self._owners):
            for server in dead_servers(self._owners):
                remedy = "start a server: it resumes what this one has left"
                yield Problem("servers", server, "it was killed, and no server has taken over", remedy)
        now_us = time.time_ns() // 1000
        for job in self._database.unfinished_jobs():
            if job.owner and (job.lease_expires_us or 0) < now_us and self._is_left(job):
                remedy = "start a server: it resumes the job"
                yield Problem("servers", job.name, f"{job.state.name}, and its server is gone", remedy)

    def _is_left(self, job: JobFiles) -> bool:
        again = self._database.job(job.id)
        return again is not None and again.state not in TERMINAL and again.owner == job.owner


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
