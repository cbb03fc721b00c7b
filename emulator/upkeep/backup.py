"""Copies the data of a server, which may run meanwhile, to a folder or a tar file that a server can start on.

The rows are copied first, as of one moment. A job's files are published before its row says that it has
finished, so the copy holds the output of every job that has finished in it. Objects are published by a rename
and never changed, so each copied object is complete.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from emulator import __version__
from emulator.config import LOCAL, Settings
from emulator.database import SCHEMA_VERSION, Inspection, now_us
from emulator.service.control.replacement import HIDDEN, JOURNAL
from emulator.service.control.snapshot import save_folder
from emulator.storage.local import is_unstaged_write
from emulator.vertex.errors import ApiError
from emulator.vertex.moments import moment

ARCHIVES = (".tar", ".tar.gz", ".tgz")
_DATABASE, _NOTE, _BUCKETS = "emulator.db", "backup.json", "buckets"
#: The folders of the data folder that a backup holds besides the buckets.
_FOLDERS = ("models", "uploads", "tls")
# The note that changes when the whole state is replaced.
_REPLACED = "replacement"
_PIECE = 1 << 20


class BackupRefused(Exception):
    """The backup cannot be made; the message says why, and nothing is left of it."""


@dataclass
class Backup:
    """What a backup holds. `notes` say in words what is left out."""

    target: Path
    files: int = 0
    bytes: int = 0
    has_rows: bool = True
    notes: list[str] = field(default_factory=list)


def back_up(settings: Settings, target: Path) -> Backup:
    """Copy the database, buckets, models and certificates to `target`: a new folder, or a new tar file.

    Raises:
        BackupRefused: the target exists, or something cannot be read or written.
        DatabaseUnusable: the database is missing, damaged, or of another schema version.
    """
    _refuse(settings, target)
    database = Inspection(settings.database)
    backup = Backup(target, has_rows=database.is_sqlite, notes=_left_out(settings, database))
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        with _writer(partial, target, backup) as writer:
            _copy(settings, database, writer, backup)
        partial.rename(target)
    except ApiError as error:
        raise BackupRefused(error.message) from error
    except OSError as error:
        raise BackupRefused(
            f"{error.filename or target}: {error.strerror or error}. Nothing is left of the backup."
        ) from error
    finally:
        database.close()
        shutil.rmtree(partial, ignore_errors=True)
        partial.unlink(missing_ok=True)
    return backup


def _refuse(settings: Settings, target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise BackupRefused(f"{target} exists already; name a folder or a .tar file that does not.")
    if not target.absolute().parent.is_dir():
        raise BackupRefused(f"{target.absolute().parent} is no folder; create it first.")
    place = target.absolute().parent.resolve() / target.name
    for folder in (settings.data_dir, settings.buckets):
        if place.is_relative_to(folder.resolve()):
            raise BackupRefused(f"{target} lies inside {folder}, which is copied; name a place outside.")


def _left_out(settings: Settings, database: Inspection) -> list[str]:
    notes = []
    if not database.is_sqlite:
        notes.append(
            f"The rows are in {database.shown_url}: copy them with pg_dump BEFORE this copy of the files, so"
            " that the files of each finished job are in it."
        )
    elsewhere = {where for where in (settings.gcs_endpoint, *settings.gcs_buckets.values()) if where != LOCAL}
    notes += [f"The buckets at {where} are left out." for where in sorted(elsewhere)]
    notes += [f"The models in {folder} are left out." for folder in settings.models_dirs]
    return notes


def _copy(settings: Settings, database: Inspection, writer: _Writer, backup: Backup) -> None:
    began, replaced = moment(now_us()), database.note(_REPLACED)
    if database.is_sqlite:
        with tempfile.TemporaryDirectory(dir=backup.target.absolute().parent) as scratch:
            copy = Path(scratch) / _DATABASE
            database.copy_to(copy)
            with copy.open("rb") as file:
                writer.write_file(file, _DATABASE)
    folders = {_BUCKETS: settings.buckets, **{name: settings.data_dir / name for name in _FOLDERS}}
    for name, folder in folders.items():
        if folder.is_dir():
            save_folder(writer, name, folder)
    if database.note(_REPLACED) != replaced or (settings.data_dir / JOURNAL).exists():
        raise BackupRefused("The whole state was replaced meanwhile, by a reset or a snapshot. Try again.")
    note = {"emulator": __version__, "schemaVersion": SCHEMA_VERSION, "time": began, "leftOut": backup.notes}
    writer.write_bytes(json.dumps(note, indent=2).encode(), _NOTE)


class _Writer:
    """Writes the entries of a backup, and counts them."""

    def __init__(self, backup: Backup) -> None:
        self._backup = backup

    def write_folder(self, name: str) -> None:
        """Write a folder, which may be empty."""
        if not _is_left_out(name):
            self._add_folder(name)

    def write_file(self, file: IO[bytes], name: str) -> None:
        """Write an open file, with its time and its permissions."""
        if not _is_left_out(name):
            status = os.fstat(file.fileno())
            self._add_file(file, name, status)
            self._backup.files += 1
            self._backup.bytes += status.st_size
            after = os.fstat(file.fileno())
            if (after.st_size, after.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
                self._backup.notes.append(
                    f"{name} was written by another program during the copy, and may be incomplete in it."
                )

    def write_bytes(self, content: bytes, name: str) -> None:
        """Write a small file."""
        raise NotImplementedError

    def _add_folder(self, name: str) -> None:
        raise NotImplementedError

    def _add_file(self, file: IO[bytes], name: str, status: os.stat_result) -> None:
        raise NotImplementedError


class _FolderWriter(_Writer):
    def __init__(self, folder: Path, backup: Backup) -> None:
        super().__init__(backup)
        self._folder = folder
        # The certificates' keys and the buckets are nobody else's business.
        folder.mkdir(mode=0o700)

    def write_bytes(self, content: bytes, name: str) -> None:
        (self._folder / name).write_bytes(content)

    def _add_folder(self, name: str) -> None:
        (self._folder / name).mkdir(parents=True, exist_ok=True)

    def _add_file(self, file: IO[bytes], name: str, status: os.stat_result) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as copy:
            os.chmod(copy.fileno(), status.st_mode & 0o777)  # noqa: PTH101 - of the open file
            shutil.copyfileobj(file, copy, _PIECE)
            copy.flush()
            os.fsync(copy.fileno())
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


class _TarWriter(_Writer):
    def __init__(self, archive: tarfile.TarFile, backup: Backup) -> None:
        super().__init__(backup)
        self._archive = archive

    def write_bytes(self, content: bytes, name: str) -> None:
        self._archive.addfile(_entry(name, len(content), now_us() * 1000), io.BytesIO(content))

    def _add_folder(self, name: str) -> None:
        entry = _entry(name, 0, now_us() * 1000)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        self._archive.addfile(entry)

    def _add_file(self, file: IO[bytes], name: str, status: os.stat_result) -> None:
        entry = _entry(name, status.st_size, status.st_mtime_ns)
        entry.mode = status.st_mode & 0o777
        self._archive.addfile(entry, file)


def _entry(name: str, size: int, time_ns: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    # A float has no room for nanoseconds, which tell versions of an object apart.
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    entry.mtime = seconds
    entry.pax_headers = {"mtime": f"{seconds}.{fraction:09d}"}
    return entry


@contextmanager
def _writer(partial: Path, target: Path, backup: Backup) -> Iterator[_Writer]:
    if not target.name.endswith(ARCHIVES):
        yield _FolderWriter(partial, backup)
        return
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        mode: Any = "w" if target.name.endswith(".tar") else "w:gz"
        with tarfile.open(fileobj=file, mode=mode, format=tarfile.PAX_FORMAT) as archive:
            yield _TarWriter(archive, backup)
        file.flush()
        os.fsync(file.fileno())


def _is_left_out(name: str) -> bool:
    """Whether an entry is a write that is not finished, and that no job would continue."""
    top, *parts = PurePosixPath(name).parts
    return (top == _BUCKETS and is_unstaged_write(parts[1:])) or any(
        part.startswith(HIDDEN) for part in parts
    )
