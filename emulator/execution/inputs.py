"""Reads a job's input: JSON Lines objects become instances, grouped by video.

The lines go to a temporary file, so memory grows only by a few numbers per line.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Self

from emulator.storage import GcsUri, InvalidUri, ObjectNotFound, ObjectStore
from emulator.vertex import errors
from emulator.vertex.instances import MAX_LINE_BYTES, InstanceError, InstanceFailure, parse_instance_line

log = logging.getLogger(__name__)

_BOM = b"\xef\xbb\xbf"
_MAX_SHOWN_BYTES = 1000
# Limit, because a file of 100,000 lines may have the same defect in each.
_MAX_WARNINGS = 20
_LINES_BETWEEN_CHECKS = 500
_NO_END = -1
_MAX_BYTES_IN_MEMORY = 1 << 20


class InputError(Exception):
    """The input as a whole is unusable; `code` is a google.rpc code, the message names the remedy."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Spool:
    """Byte strings by number, in memory or, once they are large, in a temporary file. Thread-safe."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_MAX_BYTES_IN_MEMORY)  # noqa: SIM115 - as long as the spool
        self._ends = array("q")
        self._lock = threading.Lock()

    def add(self, data: bytes) -> int:
        """Store `data`; returns its number."""
        with self._lock:
            start = self._ends[-1] if self._ends else 0
            self._file.seek(start)
            self._file.write(data)
            self._ends.append(start + len(data))
            return len(self._ends) - 1

    def get(self, number: int) -> bytes:
        """The bytes stored under that number."""
        with self._lock:
            start = self._ends[number - 1] if number else 0
            self._file.seek(start)
            return self._file.read(self._ends[number] - start)

    def close(self) -> None:
        """Delete the stored bytes."""
        self._file.close()


class JobInput:
    """The instances of a job, numbered from 0 in the order of the input; a context manager.

    `videos` lists each `content` with the numbers of its instances, in order of first appearance. `failures`
    has the lines that are no valid instances, by number. `empty` lists the objects without any line.
    """

    def __init__(self) -> None:
        self.videos: list[tuple[str, array[int]]] = []
        self.failures: dict[int, InstanceFailure] = {}
        self.empty: list[str] = []
        self.complete = False
        self._digest = hashlib.sha256()
        self._warnings = 0
        self._lines = Spool()
        self._starts = array("q")
        self._ends = array("q")
        self._sources: list[tuple[int, str]] = []  # first instance of each object, and its name
        self._line_numbers = array("q")
        self._by_content: dict[str, array[int]] = {}

    def __len__(self) -> int:
        return len(self._starts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete the temporary file."""
        self._lines.close()

    @property
    def digest(self) -> str:
        """A digest of the input: its lines in order, and which of them are valid instances."""
        return self._digest.hexdigest()

    @property
    def summary(self) -> str:
        """The counts of instances and videos, in words."""
        text = f"{len(self)} instances of {len(self.videos)} videos"
        return f"{text}; {len(self.failures)} lines are no instances" if self.failures else text

    def raw(self, instance: int) -> str:
        """The instance as compact JSON, or the original line if it is not readable."""
        return self._lines.get(instance).decode(errors="replace")

    def segment(self, instance: int) -> tuple[int, int | None]:
        """Start and end of the instance's time segment in microseconds; end None is the video's end."""
        end = self._ends[instance]
        return self._starts[instance], None if end == _NO_END else end

    def origin(self, instance: int) -> str:
        """The location of the instance: `gs://bucket/in.jsonl line 3`."""
        name = next(name for first, name in reversed(self._sources) if first <= instance)
        return f"{name} line {self._line_numbers[instance]}"

    def read(
        self,
        store: ObjectStore,
        uris: Sequence[GcsUri],
        *,
        strict: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Read each object that `uris` name, wildcards included, once. Sets `complete`.

        `check` is called regularly and may raise to stop.

        Raises:
            InputError: a URI matches nothing, or there is no instance.
            StorageError, InvalidUri: from the store.
        """
        found: dict[GcsUri, None] = {}
        for uri in uris:
            found.update(dict.fromkeys(_objects(store, uri)))
        for uri in found:
            with store.open_read(uri) as file:
                self.read_file(file, str(uri), strict=strict, check=check)
        self.require_instances()

    def read_file(
        self, file: BinaryIO, name: str, *, strict: bool = False, check: Callable[[], None] = lambda: None
    ) -> None:
        """Read one open file; messages call it `name`. Call `require_instances` after the last file."""
        before = len(self)
        self._sources.append((before, name))
        for number, line in _lines(file, check, self._digest.update):
            self._add(number, line, strict)
            # Another version of the emulator, or `strict`, may accept other lines.
            self._digest.update(b"\0" if len(self) - 1 in self.failures else b"\1")
            if len(self) % _LINES_BETWEEN_CHECKS == 0:
                check()
        if len(self) == before:
            self.empty.append(name)

    def require_instances(self) -> None:
        """Mark the input complete. Raises InputError if it has no instance."""
        if not len(self):
            raise InputError(errors.InvalidArgument.code, _nothing_in(self.empty))
        if self._warnings > _MAX_WARNINGS:
            log.warning("%d warnings more like these of %s", self._warnings - _MAX_WARNINGS, self.summary)
        self.complete = True

    def _add(self, number: int, line: bytes | _TooLong, strict: bool) -> None:
        instance = len(self)
        start, end, raw = 0, None, ""
        try:
            if isinstance(line, _TooLong):
                raise line.error(number)
            parsed = parse_instance_line(line, number, strict=strict)
            raw = parsed.raw
            group = self._group(parsed.content)
        except InstanceError as error:
            raw = error.raw
            self.failures[instance] = error.failure
        except InvalidUri as error:
            self.failures[instance] = InstanceFailure(errors.InvalidArgument.code, f"Line {number}: {error}")
        else:
            start, end = parsed.start_us, parsed.end_us
            for warning in parsed.warnings:
                self._warn(f"{self._sources[-1][1]} line {number}: {warning}")
            group.append(instance)
        self._lines.add(raw.encode(errors="replace"))
        self._starts.append(start)
        self._ends.append(_NO_END if end is None else end)
        self._line_numbers.append(number)

    def _warn(self, text: str) -> None:
        self._warnings += 1
        if self._warnings <= _MAX_WARNINGS:
            log.warning("%s", text)

    def _group(self, content: str) -> array[int]:
        """The instance numbers of a video. Raises InvalidUri."""
        group = self._by_content.get(content)
        if group is None:
            GcsUri.parse(content)
            group = self._by_content[content] = array("q")
            self.videos.append((content, group))
        return group


@dataclass(frozen=True)
class _TooLong:
    beginning: bytes

    def error(self, number: int) -> InstanceError:
        shown = self.beginning.decode(errors="replace") + "…"
        message = f"Line {number} is longer than {MAX_LINE_BYTES:,} bytes; write one instance a line."
        return InstanceError(errors.InvalidArgument.code, message, shown)


def _objects(store: ObjectStore, uri: GcsUri) -> list[GcsUri]:
    found = [info.uri for info in store.glob(uri)]
    if found:
        return found
    if not uri.has_wildcards:
        try:
            store.stat(uri)  # raises the store's error, which has the reason
        except ObjectNotFound as error:
            raise InputError(errors.NotFound.code, f"Input object {error}") from error
    raise InputError(errors.NotFound.code, f"No input object matches {uri}.")


def _nothing_in(names: Sequence[str]) -> str:
    named = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return (
        f"There is no instance in {named}: the input is empty. Write one JSON object a line, such as"
        ' {"content": "gs://bucket/video.mp4", "mimeType": "video/mp4",'
        ' "timeSegmentStart": "0.0s", "timeSegmentEnd": "inf"}.'
    )


def _lines(
    file: BinaryIO, check: Callable[[], None], hash_bytes: Callable[[bytes], None]
) -> Iterator[tuple[int, bytes | _TooLong]]:
    """Yield number and content, without line break, of each line that is not blank.

    At most one line is in memory. `hash_bytes` gets all bytes of the file.
    """
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 2):
        number += 1
        if number == 1:
            line = line.removeprefix(_BOM)
        content = line.removesuffix(b"\n").removesuffix(b"\r")
        if len(content) > MAX_LINE_BYTES:
            hash_bytes(line)
            yield number, _TooLong(content[:_MAX_SHOWN_BYTES])
            while line and not line.endswith(b"\n"):
                check()
                line = file.readline(1 << 16)
                hash_bytes(line)
        elif content.strip():
            hash_bytes(content + b"\n")
            yield number, content
