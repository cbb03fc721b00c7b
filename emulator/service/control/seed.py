"""The seed folder: buckets, jobs, paces and faults that a new server starts with."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.comparison.sides import RECORDING_NOTE, check_format
from emulator.files import cause, open_regular, read_bounded, shown
from emulator.vertex.errors import ApiError

_BUCKETS = "buckets"
_MOST_CONTROL_BYTES = 1 << 20
_MOST_JOBS_BYTES = 64 << 20

_log = logging.getLogger(__name__)


class SeedError(Exception):
    """The seed folder cannot be loaded; the message names file, line and cause."""


@dataclass(frozen=True)
class Seed:
    """A seed folder. docs/control.md describes its files."""

    folder: Path

    def copy_buckets(self, make_target: Callable[[], Path]) -> None:
        """Copy the objects of the seed, if it has any, into the folder that `make_target` returns."""
        if (self.folder / _BUCKETS).is_dir():
            with _blaming(str(self.folder / _BUCKETS)):
                _copy_objects(self.folder / _BUCKETS, make_target())

    def check_exists(self) -> None:
        """Raises SeedError if there is no such folder."""
        if not self.folder.is_dir():
            raise SeedError(f"The seed folder {self.folder} does not exist.")

    def load(
        self, control: Callable[[Mapping[str, Any]], None], create_job: Callable[[Mapping[str, Any]], object]
    ) -> None:
        """Pass the object in control.json to `control`, and each object in jobs.jsonl to `create_job`.

        Raises:
            SeedError: a file or an object cannot be read, or was refused.
        """
        with _blaming(str(self.folder / RECORDING_NOTE)):
            check_format(self.folder)
        path = self.folder / "control.json"
        with _blaming(str(path)):
            if text := _text_of(path, _MOST_CONTROL_BYTES):
                control(_json_object(text))
        for where, line in _lines(self.folder / "jobs.jsonl"):
            with _blaming(where):
                create_job(_json_object(line))


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
