"""The rows of the database as rows of a snapshot, and back: paths that fit any data folder, checked messages.

The same paths follow a data folder that was moved or copied.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from emulator.database import TABLES, Database, RowRefused, row_from_json, row_to_json
from emulator.service.context import Context

# Name of the note with the path of the data folder in the rows.
_HOME = "data_folder"
_PATH_COLUMNS = ("model_folder", "folder")
_UPLOADS = "uploads"
#: Stands for the data folder in a snapshot.
_DATA = "{data}"

_log = logging.getLogger(__name__)


class SnapshotRows:
    """Writes and reads the rows of a snapshot for a server on the data folder `data`."""

    def __init__(self, context: Context, data: Path) -> None:
        self._context = context
        self._data = data.resolve()

    def out(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row for a snapshot. The server that loads it resumes the job, so it names no owner."""
        out = row_to_json(row)
        for name in _path_columns(out):
            if isinstance(out.get(name), str):
                out[name] = self._portable(out[name])
        return out | {name: None for name in ("owner", "lease_expires_us") if name in out}

    def read(self, rows: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
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

    def _portable(self, path: str) -> str:
        """A path below the data folder with a placeholder for that folder; other paths unchanged."""
        return f"{_DATA}{path[len(str(self._data)) :]}" if Path(path).is_relative_to(self._data) else path

    def _placed(self, path: str) -> str:
        """The inverse of `_portable`."""
        below = path.removeprefix(_DATA)
        is_ours = below != path and below[:1] in ("", "/", os.sep)
        return f"{self._data}{below}" if is_ours else path

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


def follow_folder(database: Database, data: Path) -> None:
    """Update the absolute paths of model folders in the rows, if the data folder was moved or copied.

    Not on a shared database, where each server has a data folder of its own.
    """
    here, before = data.resolve(), database.get_note(_HOME)
    if database.is_shared or before == str(here):
        return
    if home := Path(before) if before else _former_home(database, here):
        _log.info("The data folder was at %s and is at %s.", home, here)
        database.move_folders(partial(_moved, home=home, here=here))
    database.set_note(_HOME, str(here))


def _former_home(database: Database, here: Path) -> Path | None:
    """The old path of a data folder without the note: its uploads are here, the rows' path is not."""
    for folder in map(Path, database.version_folders()):
        home = folder.parent.parent
        if folder.parent.name == _UPLOADS and home != here and (here / _UPLOADS / folder.name).is_dir():
            return home
    return None


def _path_columns(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (*_PATH_COLUMNS, "value") if row.get("name") == _HOME else _PATH_COLUMNS


def _moved(path: str, *, home: Path, here: Path) -> str:
    """A path below the old data folder, moved to the new one; other paths unchanged."""
    return str(here / Path(path).relative_to(home)) if Path(path).is_relative_to(home) else path
