"""Paths below a folder that no link leads out of, even one that is swapped in while the path is used.

Each part of a path is opened relative to the folder above it, without following links. Links are read and
followed here, one by one, as long as they stay below the folder: what is opened is what was checked.
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
"""Does something with a name in a folder (an open descriptor), without following a link of that name."""

_MOST_LINKS = 40  # as Linux has it
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# To pass through a folder takes no permission to list it.
_PASSAGE = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
# A named pipe that someone put there must not hang who reads it.
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
    """A path below `root`, with the operations of pathlib's. Deliberately no os.PathLike: `os.open` and its
    kin would follow links.

    Every operation may raise LeadsOut. The root itself may be a link.
    """

    root: Path
    parts: tuple[str, ...] = ()

    def __truediv__(self, name: str) -> ConfinedPath:
        """A path below this one. Raises ValueError for a name that leads upwards."""
        added = name.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in added):
            raise ValueError(f"{name!r} is no path below {self}")
        return ConfinedPath(self.root, (*self.parts, *added))

    def __str__(self) -> str:
        return str(self.path)

    @property
    def path(self) -> Path:
        """The same as an ordinary path, for messages."""
        return self.root.joinpath(*self.parts)

    @property
    def name(self) -> str:
        """The last part."""
        return self.parts[-1]

    @property
    def parent(self) -> ConfinedPath:
        """The folder that holds it; the root is its own."""
        return ConfinedPath(self.root, self.parts[:-1])

    def stat(self) -> os.stat_result:
        """Look at what is there, following links."""
        return self._do(_stat)

    def lstat(self) -> os.stat_result:
        """Look at what is there, a link being a link."""
        return self._do(_lstat, follow=False)

    def exists(self) -> bool:
        """Whether something is there; False where it cannot be told."""
        return self._is(lambda _: True)

    def is_dir(self) -> bool:
        """Whether a folder is there; False where it cannot be told."""
        return self._is(stat.S_ISDIR)

    def is_file(self) -> bool:
        """Whether a regular file is there; False where it cannot be told."""
        return self._is(stat.S_ISREG)

    def open(self, mode: str) -> BinaryIO:
        """Open a file: `rb`, `r+b`, `wb` or `xb`."""
        file = os.fdopen(self.descriptor(_MODES[mode]), mode.replace("x", "w"))
        return cast("BinaryIO", file)

    def descriptor(self, flags: int) -> int:
        """Open by `os.open`'s flags, following links."""
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
        """As `os.access`; False where it cannot be told."""
        try:
            return self._do(lambda name, folder: _access(name, folder, mode))
        except OSError:
            return False

    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a folder, and those above it when asked to."""
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
        """Give a file another name, replacing what has it; a link of that name is replaced, too."""
        self._do(lambda name, folder: target._take(name, folder), follow=False)

    def hardlink_to(self, source: ConfinedPath) -> None:
        """Make this a second name of a file."""
        source._do(self._link)

    def names(self) -> list[str]:
        """The names in a folder."""
        with self.opened() as descriptor:
            return os.listdir(descriptor)  # noqa: PTH208 - pathlib lists no descriptors

    def remove_tree(self) -> None:
        """Remove a folder with all that it holds; links in it are removed, not followed."""
        for name in self.names():
            entry = ConfinedPath(self.root, (*self.parts, name))
            if stat.S_ISDIR(entry.lstat().st_mode):
                entry.remove_tree()
            else:
                entry.unlink(missing_ok=True)
        self.rmdir()

    def _link(self, name: str, folder: int) -> None:
        _stat(name, folder)  # a link is followed first; one that takes its place now is linked itself
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
        """Operate on the last part. With `follow`, a link there is followed."""
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
    """On the way along a path: the folder that has been reached, and what is still to come."""

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
        """Enter folder after folder; return the last name, `.` for the folder itself."""
        while self._to_come:
            name = self._to_come.pop(0)
            if name == "..":
                if not self._passed:
                    raise LeadsOut(self._path.path)
                # The folder above is looked for anew: one that was moved meanwhile could have another.
                self._restart([*self._passed[:-1], *self._to_come])
            elif not self._to_come:
                return name
            else:
                self._enter(name)
        return "."

    def follow(self, name: str) -> bool:
        """Go on where a link of this name leads; False when it is none (any more)."""
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
    # A link that takes its place now tells no more than whether something may be read.
    return os.access(name, mode, dir_fd=folder)
