"""The file format of snapshots: a zip of `rows.json`, `snapshot.json` and files, with size limits.

Rows are written and read one at a time, so memory does not grow with their number.
"""

import codecs
import errno
import json
import os
import re
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from emulator.files import size_text
from emulator.members import is_integer
from emulator.service.control.replacement import HIDDEN
from emulator.storage.confined import ConfinedPath
from emulator.vertex.errors import FailedPrecondition

ROWS, HEAD = "rows.json", "snapshot.json"
#: Limit of the unpacked size: this many bytes plus this multiple of the file's size.
MOST_UNPACKED_BYTES = 1 << 30
MOST_UNPACKED_TIMES = 16
#: Limit of the zip directory, which is read into memory: about 250,000 entries.
MOST_LIST_BYTES = 32 << 20
MOST_HEAD_BYTES = 16 << 20
MOST_ROW_BYTES = 16 << 20
_MOST_NAME_BYTES, _MOST_PATH_BYTES = 255, 3_000
# Larger files are stored, not compressed: videos and weights are compressed already. A stored entry cannot
# look like a zip bomb.
_STORED_FROM_BYTES = 1 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_PIECE = 1 << 16
_BLANKS = re.compile(r"[ \t\r\n]*")
_LATEST_NS = (1 << 62) - 1


class SnapshotRefused(ValueError):
    """The file is no snapshot, is damaged, or exceeds a limit; the message says which."""


@dataclass(frozen=True)
class Head:
    """The content of `snapshot.json`: what wrote the file, and the times of its files."""

    format: object
    emulator: object
    schema: object
    times: Mapping[str, int]


class Writer:
    """Writes a snapshot file."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._times: dict[str, int] = {}

    def write_rows(self, tables: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
        """Write every row as JSON. Raises SnapshotRefused if a row is too large."""
        with self._archive.open(ROWS, "w", force_zip64=True) as out:
            for number, (name, rows) in enumerate(tables.items()):
                out.write(f"{',' if number else '{'}\n{json.dumps(name)}: [".encode())
                for index, row in enumerate(rows):
                    text = json.dumps(row).encode()
                    if len(text) > MOST_ROW_BYTES:
                        raise SnapshotRefused(f"A row of {name} is larger than {size_text(MOST_ROW_BYTES)}")
                    out.write((b",\n" if index else b"\n") + text)
                out.write(b"]")
            out.write(b"}\n")

    def write_folder(self, name: str) -> None:
        """Write an entry for a folder, which may be empty."""
        self._archive.writestr(f"{name}/", b"")

    def write_file(self, file: IO[bytes], name: str) -> None:
        """Write an open file and its time. Raises OSError; UnicodeEncodeError if the name is not UTF-8."""
        status = os.fstat(file.fileno())
        info, is_large = zipfile.ZipInfo(name), status.st_size >= _STORED_FROM_BYTES
        info.compress_type = zipfile.ZIP_STORED if is_large else zipfile.ZIP_DEFLATED
        with self._archive.open(info, "w", force_zip64=is_large) as out:
            shutil.copyfileobj(file, out, _PIECE)
        self._times[name] = status.st_mtime_ns

    def finish(self, **head: object) -> None:
        """Write `snapshot.json`, and check that the snapshot can be loaded. Raises SnapshotRefused."""
        text = json.dumps({**head, "times": self._times}).encode()
        if len(text) > MOST_HEAD_BYTES:
            raise SnapshotRefused(f"There are too many files ({len(self._times):,})")
        self._archive.writestr(HEAD, text)
        packed = sum(info.compress_size for info in self._archive.infolist())
        _check_size(self._archive.infolist(), packed)


class Reader:
    """Reads a snapshot file. The constructor checks all entries.

    Raises:
        SnapshotRefused: the file is no valid snapshot.
        Exception: whatever zipfile raises for a damaged file.
    """

    def __init__(self, file: IO[bytes], is_place: Callable[[str], bool]) -> None:
        """`is_place` tells whether a folder of that name belongs in a snapshot."""
        size = _check_list(file)
        self._archive = zipfile.ZipFile(file)
        infos = self._archive.infolist()
        _check_size(infos, size)
        self._entries = [info for info in infos if info.filename not in (ROWS, HEAD)]
        names = [info.filename for info in infos]
        if len(set(names)) != len(names):
            raise SnapshotRefused("it has an entry twice")
        for info in infos:
            if info.compress_type not in _METHODS or info.flag_bits & 1:
                raise SnapshotRefused(f"its entry {info.filename[:100]!r} is encrypted or packed otherwise")
        for info in self._entries:
            _check_name(info.filename, is_place)
        self.head = self._read_head()

    def rows(self) -> Iterator[tuple[str, Any]]:
        """Yield each row with its table's name. Each table begins with one pair of its name and None."""
        with self._archive.open(ROWS) as file:
            yield from _read_tables(_JsonText(file))

    def unpack(self, place: str, into: Path) -> None:
        """Write the files of one folder into `into`. Raises OSError."""
        for info in self._entries:
            top, _, relative = info.filename.partition("/")
            if top != place or not relative:
                continue
            target = into / relative
            if info.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with self._archive.open(info) as origin, target.open("xb") as copy:
                shutil.copyfileobj(origin, copy, _PIECE)
            time_ns = self.head.times[info.filename]
            os.utime(target, ns=(time_ns, time_ns))

    def _read_head(self) -> Head:
        with self._archive.open(HEAD) as file:
            text = file.read(MOST_HEAD_BYTES + 1)
        if len(text) > MOST_HEAD_BYTES:
            raise SnapshotRefused(f"{HEAD} is larger than {size_text(MOST_HEAD_BYTES)}")
        value = json.loads(text)
        times = value.get("times") if isinstance(value, dict) else None
        if not isinstance(times, dict) or not all(map(_is_time, times.values())):
            raise SnapshotRefused(f"{HEAD} has no times of files")
        if set(times) != {info.filename for info in self._entries if not info.is_dir()}:
            raise SnapshotRefused(f"{HEAD} tells of other files than there are")
        return Head(value.get("format"), value.get("emulator"), value.get("schema"), times)


class FolderWriter(Protocol):
    """What `save_folder` writes to."""

    def write_folder(self, name: str) -> None:
        """Write an entry for a folder, which may be empty."""
        ...

    def write_file(self, file: IO[bytes], name: str) -> None:
        """Write an open file under a name with slashes."""
        ...


def save_folder(writer: FolderWriter, name: str, folder: Path) -> None:
    """Write the content of a folder, below `name`, without symbolic links.

    A link swapped in meanwhile cannot lead out.

    A folder is listed only after everything before it has been written, and hidden entries come first.
    So a file that is renamed from a hidden folder to its place meanwhile is found in one of the two.

    Raises:
        FailedPrecondition: a file cannot be read.
        SnapshotRefused: the snapshot would exceed a limit.
    """
    waiting = [ConfinedPath(folder)]
    while waiting:
        path = waiting.pop()
        # Files may vanish while they are read; those of unfinished writes do.
        with suppress(FileNotFoundError), _unreadable_is_said(path):
            mode = path.lstat().st_mode if path.parts else stat.S_IFDIR
            entry = "/".join((name, *path.parts))
            if stat.S_ISDIR(mode):
                if path.parts:
                    writer.write_folder(entry)
                waiting += _to_save(path)
            elif stat.S_ISREG(mode):
                with _open_to_save(path) as file:
                    writer.write_file(file, entry)


def _to_save(folder: ConfinedPath) -> list[ConfinedPath]:
    """The content of a folder, in reverse order."""
    names = sorted(folder.names(), key=lambda name: (not name.startswith("."), name), reverse=True)
    return [
        ConfinedPath(folder.root, (*folder.parts, name))
        for name in names
        if folder.parts or not name.startswith(HIDDEN)
    ]


def _open_to_save(path: ConfinedPath) -> IO[bytes]:
    file = path.open("rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # another file has replaced it
        file.close()
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return file


@contextmanager
def _unreadable_is_said(path: ConfinedPath) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, UnicodeEncodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "its name is not UTF-8"
        raise FailedPrecondition(
            f"{os.fsencode(path.path)!r} cannot be saved ({cause}), so there is no snapshot; mend or remove"
            " it."
        ) from error


def _is_time(value: object) -> bool:
    return is_integer(value, -_LATEST_NS, _LATEST_NS)


def _check_size(infos: Iterable[zipfile.ZipInfo], packed: int) -> None:
    unpacked = sum(info.file_size for info in infos)
    most = MOST_UNPACKED_BYTES + MOST_UNPACKED_TIMES * packed
    if unpacked > most:
        raise SnapshotRefused(
            f"it unpacks to {unpacked:,} bytes; from {packed:,} bytes, {most:,} are the most"
        )


def _check_list(file: IO[bytes]) -> int:
    """Refuse a zip directory that would fill the memory; returns the file's size."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - (1 << 16) - 98))
    tail = file.read()
    file.seek(0)
    # The end record (zip specification, 4.3.16) and the 64-bit one (4.3.14) before it. Searched as zipfile
    # does: at the very end first, so that no field of the record itself is mistaken for one.
    is_last = tail[-22:-18] == b"PK\5\6" and tail[-2:] == b"\0\0"
    at = len(tail) - 22 if is_last else tail.rfind(b"PK\5\6")
    length = struct.unpack_from("<I", tail, at + 12)[0] if 0 <= at <= len(tail) - 22 else 0
    if at >= 76 and tail[at - 76 : at - 72] == b"PK\6\6":
        length = max(struct.unpack_from("<Q", tail, at - 36)[0], length % 0xFFFFFFFF)
    if length > MOST_LIST_BYTES:
        raise SnapshotRefused(f"the list of its entries is larger than {size_text(MOST_LIST_BYTES)}")
    return size


def _check_name(name: str, is_place: Callable[[str], bool]) -> None:
    path = PurePosixPath(name)
    top, *rest = path.parts or ("",)
    fits = all(len(part.encode()) <= _MOST_NAME_BYTES for part in rest)
    plain = name.rstrip("/") == str(path) and ".." not in rest and "\0" not in name
    if not is_place(top) or not rest or not fits or not plain or rest[0].startswith(HIDDEN):
        raise SnapshotRefused(f"it has an entry {name[:100]!r} that no folder could hold")
    if len(name.encode()) > _MOST_PATH_BYTES:
        raise SnapshotRefused(f"it has an entry {name[:100]!r} of over {_MOST_PATH_BYTES} bytes")


def _read_tables(text: "_JsonText") -> Iterator[tuple[str, Any]]:
    """Parse `{"table": [{…}, …], …}`, one row at a time."""
    text.expect("{")
    if text.take("}"):
        return
    while True:
        name = text.value()
        if not isinstance(name, str):
            raise SnapshotRefused(f"{ROWS} is no object of tables")
        text.expect(":")
        text.expect("[")
        yield name, None
        while not text.take("]"):
            yield name, text.value()
            if not text.take(","):
                text.expect("]")
                break
        if text.take("}"):
            return
        text.expect(",")


class _JsonText:
    """The text of a JSON file, of which only a part is in memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._decoder = json.JSONDecoder()
        self._text, self._at, self._ended = "", 0, False

    def value(self) -> Any:
        """Read the next value, which must be an object, a list or a text."""
        self._next()
        wanted = _PIECE
        while True:
            try:
                value, self._at = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if len(self._text) - self._at > MOST_ROW_BYTES:
                    raise SnapshotRefused(f"{ROWS} has a row over {size_text(MOST_ROW_BYTES)}") from None
                if not self._read(wanted):
                    raise SnapshotRefused(f"{ROWS} is no JSON: {error.msg}") from None
                wanted *= 2  # so that a long value is not parsed from its start too often
            except RecursionError:
                raise SnapshotRefused(f"{ROWS} is nested too deeply") from None
            else:
                return value

    def take(self, character: str) -> bool:
        """Whether this character is next; skips it if so."""
        if self._next() != character:
            return False
        self._at += 1
        return True

    def expect(self, character: str) -> None:
        """Skip this character. Raises SnapshotRefused if it is not next."""
        if not self.take(character):
            raise SnapshotRefused(f"{ROWS} lacks a {character!r}")

    def _next(self) -> str:
        """The next character that is not blank; "" at the end."""
        while True:
            blanks = _BLANKS.match(self._text, self._at)
            self._at = blanks.end() if blanks else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read(_PIECE):
                return ""

    def _read(self, size: int) -> bool:
        if self._ended:
            return False
        data = self._file.read(size)
        self._ended = len(data) < size
        self._text = self._text[self._at :] + self._decode(data, self._ended)
        self._at = 0
        return True
