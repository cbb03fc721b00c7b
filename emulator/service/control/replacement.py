"""Replaces folders together with rows of the database: new content is staged, then swapped in by renames.

A journal file in the data folder lists the swaps. A note in the database, committed with the rows, makes them
valid. A server that is killed in between leaves the journal; the next one completes or undoes the swap.
"""

import contextlib
import errno
import json
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.files import read_bounded, shown
from emulator.storage.confined import ConfinedPath, LeadsOut

if sys.platform != "win32":
    import fcntl

#: Prefix of the folders that a swap keeps inside the folders it changes.
HIDDEN = ".vbe-swap-"
#: The file in the data folder that lists the swaps of a replacement that is not finished.
JOURNAL = "replacement.json"
_LOCK = "replacement.lock"
_MOST_JOURNAL_BYTES = 256 << 20

Committed = Callable[[str], bool]


class ReplacementBusy(Exception):
    """Another server is replacing the same folders."""


@dataclass(frozen=True)
class _Moves:
    """The swaps in one folder, by relative name: what is moved away, and what is moved in."""

    folder: Path
    goes: tuple[str, ...]
    comes: tuple[str, ...]


@dataclass
class Replacement:
    """New content for folders, by their names. `id` is the note in the database that makes it valid."""

    data: Path
    folders: Mapping[str, Path]
    id: str = field(default_factory=lambda: secrets.token_hex(8))

    def stage(self, name: str) -> Path:
        """Make the staging folder for one folder, on the same file system."""
        staged = self._new(self.folders[name])
        staged.mkdir(parents=True, exist_ok=True)
        return staged

    def scratch(self) -> Path:
        """Make a folder for temporary files; `finish` removes it."""
        scratch = self._new(self.data)
        scratch.mkdir(parents=True, exist_ok=True)
        return scratch

    def swap(self, emptied: Collection[str]) -> None:
        """Move the staged content into the folders. Other content of a folder in `emptied` is moved away.

        Raises:
            OSError: a rename failed; call `undo`.
        """
        moves = [self._moves(name, name in emptied) for name in self.folders]
        self._write_journal(moves)
        for of_folder in moves:
            goes, comes = set(of_folder.goes), set(of_folder.comes)
            # Name by name, so that each name is missing for as short as possible.
            for name in sorted(goes | comes):
                if name in goes:
                    _move(of_folder.folder, name, f"{self._old_name}/{name}")
                if name in comes:
                    _move(of_folder.folder, f"{self._new_name}/{name}", name)
            _settle(of_folder.folder)

    def undo(self) -> None:
        """Restore the content from before `swap`, however far it got. Raises OSError."""
        for of_folder in self._read_journal():
            old, folder = self._old(of_folder.folder), of_folder.folder
            goes = set(of_folder.goes)
            for name in of_folder.comes:
                # If the old content was not moved away yet, this name still is the old content.
                if name not in goes or os.path.lexists(old / name):
                    _remove(ConfinedPath(folder) / name)
            for name in of_folder.goes:
                if os.path.lexists(old / name):
                    _move(folder, f"{self._old_name}/{name}", name)
            _settle(folder)
        self.finish()

    def finish(self) -> None:
        """Remove the old content, or what is left of the staged content, and the journal last."""
        for folder in (self.data, *self.folders.values()):
            for path in (self._new(folder), self._old(folder)):
                shutil.rmtree(path, ignore_errors=True)
        (self.data / JOURNAL).unlink(missing_ok=True)

    @property
    def _new_name(self) -> str:
        return f"{HIDDEN}new-{self.id}"

    @property
    def _old_name(self) -> str:
        return f"{HIDDEN}old-{self.id}"

    def _new(self, folder: Path) -> Path:
        return folder / self._new_name

    def _old(self, folder: Path) -> Path:
        return folder / self._old_name

    def _moves(self, name: str, emptied: bool) -> _Moves:
        folder = self.folders[name]
        staged = self._new(folder)
        if emptied:
            mounted = {child for child in _children(folder) if (folder / child).is_mount()}
            goes, comes = (tuple(_names(at, mounted)) for at in (folder, staged))
            return _Moves(folder, goes, comes)
        comes = tuple(_leaves(staged, folder)) if staged.is_dir() else ()
        goes = tuple(leaf for leaf in comes if os.path.lexists(folder / leaf))
        return _Moves(folder, goes, comes)

    def _write_journal(self, moves: list[_Moves]) -> None:
        folders = {str(one.folder): [one.goes, one.comes] for one in moves}
        temporary = self.data / f"{JOURNAL}.new"
        with temporary.open("w", encoding="ascii") as file:
            json.dump({"id": self.id, "folders": folders}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.data / JOURNAL)
        _settle(self.data)

    def _read_journal(self) -> list[_Moves]:
        value = _journal(self.data)
        if value is None:
            return []
        return [
            _Moves(Path(folder), tuple(goes), tuple(comes))
            for folder, (goes, comes) in value["folders"].items()
        ]


class Replacements:
    """Makes replacements, one at a time among all servers on a data folder, and recovers interrupted ones.

    `committed` tells whether the database has the note of a replacement.
    """

    def __init__(self, data: Path, folders: Mapping[str, Path], committed: Committed) -> None:
        self._data = data
        self._folders = dict(folders)
        self._committed = committed

    @contextlib.contextmanager
    def begin(self) -> Iterator[Replacement]:
        """Yield a new replacement; its staged content is removed at the end. Raises ReplacementBusy."""
        self._data.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._recover()
            replacement = Replacement(self._data, self._folders)
            try:
                yield replacement
            finally:
                # If the journal is still there, the next start recovers it.
                if _journal(self._data) is None:
                    replacement.finish()

    def recover(self) -> None:
        """Complete or undo what a killed server had begun, unless another server is replacing now."""
        if not (self._data / JOURNAL).exists() and not any(self._leftovers()):
            return
        with contextlib.suppress(ReplacementBusy), self._locked():
            self._recover()

    def _recover(self) -> None:
        journal = _journal(self._data)
        if journal is not None:
            folders = {folder: Path(folder) for folder in journal["folders"]}
            left = Replacement(self._data, folders, journal["id"])
            (left.finish if self._committed(left.id) else left.undo)()
        for path in self._leftovers():
            shutil.rmtree(path, ignore_errors=True)

    def _leftovers(self) -> Iterator[Path]:
        for folder in (self._data, *self._folders.values()):
            yield from folder.glob(f"{HIDDEN}*")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._data / _LOCK).open("ab") as file:
            if sys.platform != "win32":
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise ReplacementBusy from None
            yield


def _journal(data: Path) -> Any:
    try:
        return json.loads(read_bounded(data / JOURNAL, _MOST_JOURNAL_BYTES))
    except FileNotFoundError:
        return None


def _children(folder: Path) -> Iterator[str]:
    if folder.is_dir():
        yield from sorted(path.name for path in folder.iterdir() if not path.name.startswith(HIDDEN))


def _names(folder: Path, mounted: Collection[str]) -> Iterator[str]:
    """The names in a folder. For a mounted child, which cannot be moved, the names in that child."""
    for name in _children(folder):
        if name in mounted and (folder / name).is_dir():
            yield from (f"{name}/{below}" for below in _children(folder / name))
        else:
            yield name


def _leaves(staged: Path, folder: Path, below: str = "") -> Iterator[str]:
    """The topmost staged names that are not a folder on both sides.

    Raises:
        OSError: a file and a folder have the same name, or a link leads out of the folder.
    """
    for path in sorted((staged / below).iterdir()):
        leaf = f"{below}{path.name}"
        there, comes = ConfinedPath(folder) / leaf, staged / leaf
        is_folder = _is_folder(there)
        if is_folder and comes.is_dir():
            yield from _leaves(staged, folder, f"{leaf}/")
        elif os.path.lexists(there.path) and (is_folder or comes.is_dir()):
            message = "there is a file where a folder comes, or the reverse"
            raise FileExistsError(errno.EEXIST, message, str(there))
        else:
            yield leaf


def _is_folder(path: ConfinedPath) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except LeadsOut:
        raise
    except OSError:
        return False


def _move(folder: Path, name: str, new_name: str) -> None:
    """Rename inside a folder. Raises OSError, also if a link leads out of the folder."""
    origin, target = ConfinedPath(folder) / name, ConfinedPath(folder) / new_name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        origin.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV or isinstance(error, LeadsOut):
            raise
        # The bucket is a mount point, so it is on another file system.
        shutil.move(origin.path, target.path)


def _remove(path: ConfinedPath) -> None:
    try:
        is_folder = stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if is_folder:
        path.remove_tree()
    else:
        path.unlink(missing_ok=True)


def _settle(folder: Path) -> None:
    """Fsync a folder, so that its renames survive a crash."""
    if os.name == "nt" or not folder.is_dir():
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def describe(error: OSError) -> str:
    """Describe which path could not be moved, and why."""
    return shown(f"{error.strerror or error} ({error.filename})")
