"""The output of a job, line by line, in input order.

A small SQLite file per job indexes the lines. Each output file is read once, in pieces, and again only after
it has changed. So neither a line of 200 MB nor ten thousand lines take memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sqlite3
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from emulator.database import JobRow
from emulator.execution.inputs import InputError, JobInput
from emulator.storage import GcsUri, InvalidUri, ObjectInfo, ObjectStore, StorageError
from emulator.vertex import contract
from emulator.vertex.errors import FailedPrecondition, NotFound
from emulator.vertex.job_state import TERMINAL

PAGE_SIZE = 100

_VERSION = "1"
_PIECE_BYTES = 2 << 20
_SENT_BYTES = 1 << 20
_MEMBER_BYTES = 4096  # Longer members of a prediction are ignored.
_SPANS = 40
_MAX_INDEXES = 200
_FILE = re.compile(r"(?:predictions|errors)_\d{5,}\.jsonl")
_HEAD = re.compile(r'\s*\{\s*"instance"\s*:\s*')
_MEMBER = re.compile(
    rb'"(displayName|timeSegmentStart|timeSegmentEnd|confidence)"\s*:\s*("(?:[^"\\]|\\.)*"|[-+.\deE]+)'
)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY, size INTEGER, updated INTEGER);
CREATE TABLE IF NOT EXISTS lines (file TEXT, start INTEGER, length INTEGER, key BLOB, shown TEXT);
CREATE TABLE IF NOT EXISTS inputs (number INTEGER PRIMARY KEY, key BLOB, shown TEXT);
CREATE TABLE IF NOT EXISTS results (number INTEGER PRIMARY KEY, file TEXT, start INTEGER, length INTEGER,
  input TEXT, shown TEXT);
"""
# Several lines of the same instance are matched with its input lines in order.
_MATCH = """
INSERT INTO results
SELECT i.number, l.file, l.start, l.length, i.shown, l.shown
FROM (SELECT *, row_number() OVER (PARTITION BY key ORDER BY number) AS turn FROM inputs) AS i
LEFT JOIN (SELECT *, row_number() OVER (PARTITION BY key ORDER BY file, start) AS turn FROM lines) AS l
  ON l.key = i.key AND l.turn = i.turn
"""
_MATCH_REST = """
INSERT INTO results (file, start, length, shown)
SELECT l.file, l.start, l.length, l.shown FROM lines AS l
LEFT JOIN results AS r ON r.file = l.file AND r.start = l.start
WHERE r.number IS NULL ORDER BY l.file LIKE 'errors%', l.file, l.start
"""


@dataclass(frozen=True)
class Line:
    """The location of one result: object, byte offset and length."""

    uri: GcsUri
    start: int
    length: int


class Results:
    """The results of jobs. Thread-safe."""

    def __init__(self, store: ObjectStore, folder: Path, *, strict: bool = False) -> None:
        """`folder` is created with the first index; its files may be deleted at any time."""
        self._store = store
        self._folder = folder
        self._strict = strict
        self._lock = threading.Lock()

    def page(self, row: JobRow, page: int) -> dict[str, Any]:
        """A page of 100 results (pages count from 1), and problems of the whole output."""
        with self._index(row) as (index, notes):
            (total,) = index.execute("SELECT count(*) FROM results").fetchone()
            pages = max(1, -(-total // PAGE_SIZE))
            found = index.execute(
                "SELECT number, file, length, input, shown FROM results"
                " WHERE number > ? ORDER BY number LIMIT ?",
                ((page - 1) * PAGE_SIZE, PAGE_SIZE),
            )
            results = [_result(row, *one) for one in found]
        return {"page": page, "pages": pages, "total": total, "notes": notes, "results": results}

    def located(
        self, row: JobRow, first: int = 1, last: int = 2**53
    ) -> list[tuple[dict[str, Any], Line | None]]:
        """The results with numbers from `first` to `last`: the summary of each, and its location or None."""
        with self._index(row) as (index, _):
            found = index.execute(
                "SELECT number, file, length, input, shown, start FROM results"
                " WHERE number BETWEEN ? AND ? ORDER BY number",
                (first, last),
            )
            return [(_result(row, *one), self._line_at(row, one[1], start, one[2])) for *one, start in found]

    def _line_at(self, row: JobRow, file: str | None, start: int, length: int) -> Line | None:
        return None if file is None else Line(_directory(row) / file, start, length)

    def line(self, row: JobRow, number: int) -> Line:
        """The location of an input line's result. Raises NotFound."""
        file, start, length, _ = self._get(row, number)
        if file is None:
            raise NotFound(f"Line {number} of the input has no result{_why_not(row)}.")
        return Line(_directory(row) / file, start, length)

    def read(self, line: Line) -> Iterator[bytes]:
        """The bytes of a result as in the file, in chunks."""
        with self._store.open_read(line.uri) as file:
            file.seek(line.start)
            left = line.length
            while left and (piece := file.read(min(left, _SENT_BYTES))):
                left -= len(piece)
                yield piece

    def video(self, row: JobRow, number: int) -> GcsUri:
        """The video of an input line. Raises NotFound, FailedPrecondition, StorageError."""
        content = self._get(row, number)[3].get("video", "")
        try:
            uri = GcsUri.parse(content)
            self._store.stat(uri)  # fail now, before a process starts for it
            return uri
        except InvalidUri as error:
            raise FailedPrecondition(f"Line {number} of the input names no video: {error}") from None

    def _get(self, row: JobRow, number: int) -> tuple[str | None, int, int, dict[str, Any]]:
        with self._index(row) as (index, _):
            found = index.execute(
                "SELECT file, start, length, input, shown FROM results WHERE number = ?", (number,)
            ).fetchone()
        if found is None:
            raise NotFound(f"The job has no result {number}; they count from 1.")
        file, start, length, given, shown = found
        return file, start, length, json.loads(given or "{}") or json.loads(shown or "{}")

    @contextlib.contextmanager
    def _index(self, row: JobRow) -> Iterator[tuple[sqlite3.Connection, list[str]]]:
        """The up-to-date index of a job, and problems of the whole output."""
        with self._lock:
            self._folder.mkdir(parents=True, exist_ok=True)
            # After a reset, ids may be used again.
            which = f"{row.create_time_us} {row.output_directory}"
            path = self._folder / f"{row.id}-{zlib.crc32(which.encode()):08x}.sqlite"
            if not path.exists():
                self._forget_oldest()
            with contextlib.closing(sqlite3.connect(path)) as index:
                index.executescript(_SCHEMA)
                notes = self._bring_up_to_date(index, row)
                yield index, notes

    def _forget_oldest(self) -> None:
        found = sorted(self._folder.glob("*.sqlite"), key=lambda path: path.stat().st_mtime)
        for path in found[: -_MAX_INDEXES + 1]:
            path.unlink(missing_ok=True)

    def _bring_up_to_date(self, index: sqlite3.Connection, row: JobRow) -> list[str]:
        notes: list[str] = []
        with index:
            changed = self._read_input(index, row, notes)
            changed |= self._read_output(index, row, notes)
            if changed:
                index.execute("DELETE FROM results")
                index.execute(_MATCH)
                index.execute(_MATCH_REST)
        return notes

    def _read_input(self, index: sqlite3.Connection, row: JobRow, notes: list[str]) -> bool:
        """Index the input again if it has changed; returns whether it had."""
        document = contract.load().v1.BatchPredictionJob.FromString(row.document)
        try:
            uris = [GcsUri.parse(uri) for uri in document.input_config.gcs_source.uris]
            found = {info.uri: info for uri in uris for info in self._store.glob(uri)}
        except (StorageError, InvalidUri) as error:
            uris, found = [], {}
            notes.append(f"The input cannot be read: {error}")
        stamp = repr([_VERSION, *((str(uri), one.size, one.updated_us) for uri, one in found.items())])
        digest, problem = _note(index, "digest"), _note(index, "problem")
        if changed := _note(index, "input") != stamp:
            digest, problem = self._index_input(index, uris)
            for name, value in (("input", stamp), ("digest", digest), ("problem", problem)):
                index.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))
        if problem:
            notes.append(
                f"The input cannot be read any more, so results are in the order of the output: {problem}"
            )
        elif row.input_digest and digest != row.input_digest:
            notes.append(
                "The input has changed since the job read it: results stand at the lines that are as before."
            )
        return changed

    def _index_input(self, index: sqlite3.Connection, uris: list[GcsUri]) -> tuple[str, str]:
        """Index the input; returns its digest and, if it cannot be read, the reason."""
        index.execute("DELETE FROM inputs")
        with JobInput() as job_input:
            try:
                job_input.read(self._store, uris, strict=self._strict)
            except (InputError, StorageError, InvalidUri) as error:
                return "", str(error)
            problems = {instance: failure.message for instance, failure in job_input.failures.items()}
            index.executemany(
                "INSERT INTO inputs VALUES (?, ?, ?)",
                (
                    (number + 1, _key(raw), json.dumps({**_instance(raw), "problem": problems.get(number)}))
                    for number in range(len(job_input))
                    for raw in (job_input.raw(number),)
                ),
            )
            return job_input.digest, ""

    def _read_output(self, index: sqlite3.Connection, row: JobRow, notes: list[str]) -> bool:
        """Index the output files that are new or have changed; returns whether there were any."""
        try:
            found = self._files(row)
        except (StorageError, InvalidUri) as error:
            notes.append(f"The output cannot be read: {error}")
            found = {}
        if row.output_directory and row.successful + row.failed and not found:
            notes.append(f"The output directory is no longer there ({_directory(row)}).")
        known = {name: stamp for name, *stamp in index.execute("SELECT * FROM files")}
        wanted = {name: [info.size, info.updated_us] for name, info in found.items()}
        changed = [name for name in {**known, **wanted} if known.get(name) != wanted.get(name)]
        for name in changed:
            index.execute("DELETE FROM lines WHERE file = ?", (name,))
            index.execute("DELETE FROM files WHERE name = ?", (name,))
            if name in wanted:
                self._index_file(index, found[name].uri, name)
                index.execute("INSERT INTO files VALUES (?, ?, ?)", (name, *wanted[name]))
        return bool(changed)

    def _files(self, row: JobRow) -> dict[str, ObjectInfo]:
        if not row.output_directory:
            return {}
        prefix = _directory(row)
        listed = self._store.list(prefix.bucket, prefix.object)
        names = ((info.uri.object.removeprefix(prefix.object), info) for info in listed)
        return {name: info for name, info in names if _FILE.fullmatch(name)}

    def _index_file(self, index: sqlite3.Connection, uri: GcsUri, name: str) -> None:
        with self._store.open_read(uri) as file:
            index.executemany("INSERT INTO lines VALUES (?, ?, ?, ?, ?)", _lines(file, name))


def _directory(row: JobRow) -> GcsUri:
    return GcsUri.parse_prefix(f"{(row.output_directory or '').removesuffix('/')}/")


def _note(index: sqlite3.Connection, name: str) -> str:
    found = index.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
    return str(found[0]) if found else ""


def _result(
    row: JobRow, number: int, file: str | None, length: int | None, given: str | None, shown: str | None
) -> dict[str, Any]:
    """The JSON of one result on a page."""
    result = {"number": number, **json.loads(given or "{}"), **json.loads(shown or "{}")}
    problem = result.pop("problem", None)
    if file is None:
        error = problem or (f"There is no line{_why_not(row)}." if row.state in TERMINAL else "")
        return {**result, **({"error": {"message": error}} if error else {})}
    return {**result, "file": file, "bytes": length}


def _why_not(row: JobRow) -> str:
    if row.state not in TERMINAL:
        return " yet"
    if row.successful + row.failed:
        return ": the output files lack it; somebody may have edited or removed them"
    return f": the job ended {row.state.name} before"


@dataclass
class _Summary:
    """The summary of a line, collected while the line is read in chunks."""

    labels: Counter[str] = field(default_factory=Counter)
    confidence: float | None = None
    spans: list[list[Any]] = field(default_factory=list)
    _rest: bytes = b""

    def add(self, piece: bytes, *, last: bool) -> None:
        """Read the next chunk. A member may be split between two chunks."""
        text = self._rest + piece
        done = 0
        for found in _MEMBER.finditer(text):
            if found.end() == len(text) and not last:
                break
            done = found.end()
            self._take(found[1].decode(), found[2].decode(errors="replace"))
        self._rest = text[max(done, len(text) - _MEMBER_BYTES) :]

    def _take(self, name: str, text: str) -> None:
        value = _read(text)
        if name == "displayName":
            self.labels[str(value)] += 1
            if sum(self.labels.values()) <= _SPANS:
                self.spans.append([value, "", ""])
        elif name == "confidence" and isinstance(value, int | float):
            self.confidence = max(self.confidence or 0.0, value)
        elif self.spans and sum(self.labels.values()) <= _SPANS:
            self.spans[-1][1 if name == "timeSegmentStart" else 2] = value

    def shown(self) -> dict[str, Any]:
        return {"labels": dict(self.labels), "confidence": self.confidence, "spans": self.spans}


def _lines(file: BinaryIO, name: str) -> Iterator[tuple[str, int, int, bytes, str]]:
    """Yield for each line that is not blank: location, key of its instance, and summary."""
    start = number = 0
    while piece := file.readline(_PIECE_BYTES):
        number += 1
        first, length, summary = piece, len(piece), _Summary()
        while not piece.endswith(b"\n"):
            summary.add(piece, last=False)
            piece = file.readline(_PIECE_BYTES)
            length += len(piece)
            if not piece:
                break
        summary.add(piece, last=True)
        if first.strip():
            key, shown = _describe(first, len(first) == length, summary, f"{name} line {number}")
            yield name, start, length, key, json.dumps(shown)
        start += length


def _describe(first: bytes, whole: bool, summary: _Summary, where: str) -> tuple[bytes, dict[str, Any]]:
    """The key of a line and its summary. `first` is the line's beginning, or all of it if `whole`."""
    text = first.decode(errors="replace")
    try:
        line = json.loads(text) if whole else {}
        if not isinstance(line, dict):
            raise ValueError("it is no object")
        if isinstance(line.get("error"), dict) and "prediction" not in line:
            return _describe_error(line)
        head = _HEAD.match(text)
        instance = json.JSONDecoder().raw_decode(text, head.end())[0] if head else line["instance"]
    except (ValueError, RecursionError, KeyError) as error:
        reason = "it has no instance" if isinstance(error, KeyError) else str(error)
        message = f"{where} is not as the emulator writes it: {reason}. Somebody may have edited the file."
        return b"", {"error": {"message": message}}
    return _key_of(instance), {**_shown(instance), **summary.shown()}


def _describe_error(line: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    error = line.pop("error")
    instance: Any = line
    if list(line) == ["instance"] and isinstance(line["instance"], str):
        instance = line["instance"]  # not a JSON object
    shown = {name: error[name] for name in ("code", "message") if name in error}
    return _key_of(instance), {**_shown(instance), "error": shown}


def _instance(raw: str) -> dict[str, Any]:
    return _shown(_read(raw))


def _shown(instance: Any) -> dict[str, Any]:
    """The members of an instance that a page shows."""
    if not isinstance(instance, dict):
        return {"video": "", "input": str(instance)[:200]}
    members = {name.replace("_", "").lower(): value for name, value in instance.items()}
    texts = {name: str(members.get(name.lower()) or "") for name in ("timeSegmentStart", "timeSegmentEnd")}
    return {"video": str(members.get("content") or ""), **texts}


def _read(text: str) -> Any:
    """The JSON value of a text, or the text itself if it is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _key(raw: str) -> bytes:
    return _key_of(_read(raw))


def _key_of(instance: Any) -> bytes:
    """A key for an instance that does not depend on its whitespace or the order of its members."""
    written = json.dumps(instance, sort_keys=True)
    return hashlib.blake2b(written.encode(errors="backslashreplace"), digest_size=16).digest()
