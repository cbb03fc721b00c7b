"""Reads untrusted files: regular files only, without blocking, up to a size limit.

Opening a named pipe waits for a writer, a device may never end, and a link may be dangling. All code that
reads a user's folder opens its files here.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

#: Maximum of keys, dots, tables and lists in a TOML file: parsing a key of 30,000 dots takes a minute.
MOST_TOML_MARKS = 2_000

_TOML_TEXTS = re.compile(
    r'"""[\s\S]*?"""|' + r"'''[\s\S]*?'''|" + r'"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'|#[^\n]*"
)

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a link",
}
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


class NotRegular(OSError):
    """The path is not a regular file; `strerror` says what it is."""


class FileTooLarge(OSError):
    """The file exceeds the reader's limit; `strerror` names the limit."""


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file without blocking; links are followed. Raises OSError, such as NotRegular."""
    # Check before opening: even opening a named pipe or a device has an effect at its other end.
    _require_regular(path, path.stat())
    descriptor = os.open(path, _FLAGS)
    try:
        _require_regular(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """Read a regular file of at most `most_bytes`. Raises OSError, such as NotRegular or FileTooLarge."""
    with open_regular(path) as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        message = f"it is larger than {size_text(most_bytes)}, which is the most that is read"
        raise FileTooLarge(errno.EFBIG, message, str(path))
    return data


def read_toml(path: Path, most_bytes: int) -> dict[str, Any]:
    """Read a TOML file. Raises OSError as `read_bounded` does, and ValueError if it is not valid TOML."""
    # Editors on Windows write a byte order mark first, which TOML does not allow.
    text = read_bounded(path, most_bytes).decode("utf-8-sig").replace("\r\n", "\n")
    outside = _TOML_TEXTS.sub("", text)
    if (marks := sum(map(outside.count, ".=[{"))) > MOST_TOML_MARKS:
        raise ValueError(f"it has {marks:,} keys, dots, tables and lists; {MOST_TOML_MARKS:,} are the most")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def is_regular(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a regular file or a link to one; False if the file system raises."""
    try:
        return entry.is_file()
    except OSError:  # a symlink loop, or permission denied
        return False


def cause(error: OSError) -> str:
    """Return why a file cannot be read, in words and without its path."""
    return "it is a link that leads nowhere" if _dangles(error) else error.strerror or str(error)


def shown(text: object) -> str:
    r"""Return a text, such as a path, in printable characters; a byte that is not UTF-8 becomes `\xNN`."""
    plain = str(text)
    return plain if plain.isprintable() else "".join(map(_shown_character, plain))


def size_text(size: int) -> str:
    """Return a number of bytes in readable units, as in `2 MiB`."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:g} {unit}"
        size /= 1024  # type: ignore[assignment]
    return f"{size:g} GiB"


def _require_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise NotRegular(errno.EINVAL, f"it is {kind}, not a regular file", str(path))


def _dangles(error: OSError) -> bool:
    return error.errno == errno.ENOENT and error.filename is not None and os.path.islink(error.filename)  # noqa: PTH114


def _shown_character(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # surrogateescape: Python's form of a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
