"""Paths below a folder that no link leads out of, even a link that is swapped in during use.

Each path component is opened relative to its parent, without following links. Links are read and followed
here, one at a time, as long as they stay below the folder. So exactly what was checked is opened.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar, cast

T = TypeVar("T")
Operation = Callable[[str, int], T]
"""Operates on a name in a folder (an open descriptor), without following a link of that name."""

_MOST_LINKS = 40  # the limit of Linux
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Traversing a folder must not need the permission to list it.
_PASSAGE = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
# Non-blocking: a reader must not hang on a named pipe in the folder.
_MODES = {
    "rb": os.O_RDONLY | os.O_NONBLOCK,
    "r+b": os.O_RDWR,
    "wb": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "xb": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
}


class LeadsOut(OSError):
    """A link leads out of the folder."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EXDEV, "a symbolic link leads out of the folder", str(path))


@dataclass(frozen=True)
class ConfinedPath:
    """A path below `root`, with the operations of pathlib.

    It is deliberately no os.PathLike, because `os.open` and similar calls would follow links. Every operation
    may raise LeadsOut. The root itself may be a link.
    """

    root: Path
    parts: tuple[str, ...] = ()

    def __truediv__(self, name: str) -> ConfinedPath:
        """A path below this one. Raises ValueError if the name leads upwards."""
        added = name.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in added):
            raise ValueError(f"{name!r} is no path below {self}")
        return ConfinedPath(self.root, (*self.parts, *added))

    def __str__(self) -> str:
        return str(self.path)

    @property
    def path(self) -> Path:
        """The same as a pathlib path, for messages."""
        return self.root.joinpath(*self.parts)

    @property
    def name(self) -> str:
        """The last part."""
        return self.parts[-1]

    @property
    def parent(self) -> ConfinedPath:
        """The folder above; the root is its own parent."""
        return ConfinedPath(self.root, self.parts[:-1])

    def stat(self) -> os.stat_result:
        """The status of the file; follows links."""
        return self._do(_stat)

    def lstat(self) -> os.stat_result:
        """The status of the file or of the link itself."""
        return self._do(_lstat, follow=False)

    def exists(self) -> bool:
        """Whether the path exists; False if the file system raises."""
        return self._is(lambda _: True)

    def is_dir(self) -> bool:
        """Whether the path is a folder; False if the file system raises."""
        return self._is(stat.S_ISDIR)

    def is_file(self) -> bool:
        """Whether the path is a regular file; False if the file system raises."""
        return self._is(stat.S_ISREG)

    def open(self, mode: str) -> BinaryIO:
        """Open a file: `rb`, `r+b`, `wb` or `xb`."""
        file = os.fdopen(self.descriptor(_MODES[mode]), mode.replace("x", "w"))
        return cast("BinaryIO", file)

    def descriptor(self, flags: int) -> int:
        """Open with the flags of `os.open`, following links."""
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        return self._do(lambda name, folder: os.open(name, flags, 0o666, dir_fd=folder))

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """Open a folder for listing."""
        descriptor = self.descriptor(os.O_RDONLY | _FOLDER)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def access(self, mode: int) -> bool:
        """Like `os.access`; False if the file system raises."""
        try:
            return self._do(lambda name, folder: _access(name, folder, mode))
        except OSError:
            return False

    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Create a folder, and its parents if asked to."""
        if not self.parts:
            self.root.mkdir(parents=parents, exist_ok=exist_ok)
            return
        try:
            self._do(lambda name, folder: os.mkdir(name, dir_fd=folder), follow=False)
        except FileNotFoundError:
            if not parents:
                raise
            self.parent.mkdir(parents=True, exist_ok=True)
            self.mkdir(exist_ok=exist_ok)
        except FileExistsError:
            if not exist_ok or not self.is_dir():
                raise

    def rmdir(self) -> None:
        """Remove an empty folder."""
        self._do(lambda name, folder: os.rmdir(name, dir_fd=folder), follow=False)

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Remove a file or a link."""
        with contextlib.suppress(FileNotFoundError) if missing_ok else contextlib.nullcontext():
            self._do(lambda name, folder: os.unlink(name, dir_fd=folder), follow=False)

    def replace(self, target: ConfinedPath) -> None:
        """Rename to `target`, replacing a file or link of that name."""
        self._do(lambda name, folder: target._take(name, folder), follow=False)

    def hardlink_to(self, source: ConfinedPath) -> None:
        """Create this path as a hard link to `source`."""
        source._do(self._link)

    def names(self) -> list[str]:
        """The names in a folder."""
        with self.opened() as descriptor:
            return os.listdir(descriptor)  # noqa: PTH208 - pathlib lists no descriptors

    def remove_tree(self) -> None:
        """Remove a folder and its content; links in it are removed, not followed."""
        for name in self.names():
            entry = ConfinedPath(self.root, (*self.parts, name))
            if stat.S_ISDIR(entry.lstat().st_mode):
                entry.remove_tree()
            else:
                entry.unlink(missing_ok=True)
        self.rmdir()

    def _link(self, name: str, folder: int) -> None:
        _stat(name, folder)  # links are followed here; one swapped in now is itself linked
        self._do(
            lambda own, into: os.link(name, own, src_dir_fd=folder, dst_dir_fd=into, follow_symlinks=False),
            follow=False,
        )

    def _take(self, name: str, folder: int) -> None:
        self._do(lambda own, into: os.replace(name, own, src_dir_fd=folder, dst_dir_fd=into), follow=False)

    def _is(self, fits: Callable[[int], bool]) -> bool:
        try:
            return fits(self.stat().st_mode)
        except OSError:
            return False

    def _do(self, operate: Operation[T], *, follow: bool = True) -> T:
        """Operate on the last component. With `follow`, a link there is followed."""
        with _Walk(self) as walk:
            while True:
                name = walk.to_last()
                try:
                    return operate(name, walk.folder)
                except OSError as error:
                    if not follow or error.errno not in (errno.ELOOP, errno.ENOTDIR):
                        raise
                    if not walk.follow(name) and error.errno != errno.ELOOP:
                        raise


class _Walk:
    """A walk along a path: the folder reached so far, and the components still to come."""

    def __init__(self, path: ConfinedPath) -> None:
        self._path = path
        self._links = 0
        self._to_come: list[str] = []
        self._passed: list[str] = []
        self.folder = -1
        self._restart(list(path.parts))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.folder >= 0:
            os.close(self.folder)

    def to_last(self) -> str:
        """Enter all folders of the path; returns the last component, `.` for the root itself."""
        while self._to_come:
            name = self._to_come.pop(0)
            if name == "..":
                if not self._passed:
                    raise LeadsOut(self._path.path)
                # The parent is looked up again from the root: a folder that was moved meanwhile has another
                # parent.
                self._restart([*self._passed[:-1], *self._to_come])
            elif not self._to_come:
                return name
            else:
                self._enter(name)
        return "."

    def follow(self, name: str) -> bool:
        """Continue at the target of a link; False if the name is no link (any more)."""
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(self._path))
        try:
            target = os.readlink(name, dir_fd=self.folder)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._to_come.insert(0, name)
            return False
        rest = [part for part in target.split("/") if part not in ("", ".")] + self._to_come
        if target.startswith("/"):
            self._restart([*self._below_root(target), *self._to_come])
        else:
            self._to_come = rest
        return True

    def _enter(self, name: str) -> None:
        try:
            entered = os.open(name, _PASSAGE | os.O_NOFOLLOW, dir_fd=self.folder)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR) or not self.follow(name):
                raise
            return
        os.close(self.folder)
        self.folder = entered
        self._passed.append(name)

    def _restart(self, parts: list[str]) -> None:
        root = os.open(self._path.root, _PASSAGE)
        if self.folder >= 0:
            os.close(self.folder)
        self.folder, self._to_come, self._passed = root, parts, []

    def _below_root(self, target: str) -> list[str]:
        for root in (self._path.root.absolute(), self._path.root.resolve()):
            with contextlib.suppress(ValueError):
                return list(Path(target).relative_to(root).parts)
        raise LeadsOut(self._path.path)


def _lstat(name: str, folder: int) -> os.stat_result:
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def _stat(name: str, folder: int) -> os.stat_result:
    status = _lstat(name, folder)
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    return status


def _access(name: str, folder: int, mode: int) -> bool:
    _stat(name, folder)
    # If a link replaces the file now, the answer only tells whether something may be read.
    return os.access(name, mode, dir_fd=folder)
