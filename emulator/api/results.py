"""The console's routes for a job's results: output lines, comparisons, videos and frames.

A request names a video by a job and a line of its results, never by a URI: a page must not make the server
read arbitrary objects.
"""

from __future__ import annotations

import csv
import io
import mimetypes
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from emulator.api.errors import error_response
from emulator.api.transcoding import dump_json
from emulator.comparison.axis import MOST_ROWS, Axis, AxisUnusable
from emulator.comparison.lines import TRUTH
from emulator.comparison.matching import IOU, WITHIN_S
from emulator.database import JobRow
from emulator.http import in_own_thread
from emulator.service.context import id_number
from emulator.storage import GcsUri, InvalidUri, ObjectNotFound, StorageError
from emulator.storage.uri import SCHEME
from emulator.vertex.errors import ApiError, FailedPrecondition, InvalidArgument, NotFound

MOST_PICTURES_US = 5_000_000
"""The longest time span of one request for frames, in microseconds: 50 frames."""
_USUAL_WIDTH, _WIDEST = 960, 3840
_EXPORTS = {"jsonl": "application/jsonl", "csv": "text/csv; charset=utf-8"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
# Only pages of the console may embed these responses, and no script in them runs.
_HEADERS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


class Still(Protocol):
    """A frame as JPEG, and the time at which it is first shown."""

    @property
    def time_us(self) -> int: ...
    @property
    def jpeg(self) -> bytes: ...


class Results(Protocol):
    """Reads the output of jobs."""

    def page(self, row: JobRow, page: int) -> Mapping[str, Any]: ...
    def located(self, row: JobRow) -> Iterable[tuple[Mapping[str, Any], Any]]: ...
    def line(self, row: JobRow, number: int) -> Any: ...
    def read(self, line: Any) -> Iterator[bytes]: ...
    def video(self, row: JobRow, number: int) -> GcsUri: ...


class Looker(Protocol):
    """Decodes videos in another process."""

    def pictures(self, video: GcsUri, from_us: int, to_us: int, width: int) -> Sequence[Still]: ...
    def facts(self, video: GcsUri) -> Any: ...


class Videos(Protocol):
    """Provides videos as local files."""

    def local_path(self, uri: GcsUri) -> AbstractContextManager[Path]: ...


@dataclass(frozen=True)
class Question:
    """The other side of a comparison, and its options.

    `other` is a job, `truth` or a gs:// path; `job` is the row if it is a job. `within`: the tolerance of
    times in seconds. `iou`: the least overlap of boxes. `least`: the least confidence of predictions that
    count. `thresholds`: least confidences for a table of results, if one is requested.
    """

    other: str
    job: JobRow | None
    within: float
    iou: float
    least: float
    thresholds: tuple[float, ...] = ()


class Comparing(Protocol):
    """Compares the output of jobs with what was expected."""

    def page(self, row: JobRow, question: Question, page: int) -> Mapping[str, Any]: ...
    def line(self, row: JobRow, number: int, question: Question) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Reading:
    """The readers of a job's results: output files, comparisons, frames and videos."""

    results: Results
    comparing: Comparing
    looker: Looker
    videos: Videos


class ResultRoutes:
    """The routes below `/jobs/{job}/results`. They read in threads."""

    def __init__(self, find_job: Callable[[str], JobRow], reading: Reading) -> None:
        self._find_job = find_job
        self._results = reading.results
        self._comparing = reading.comparing
        self._looker = reading.looker
        self._videos = reading.videos
        prefix = "/jobs/{job:path}/results"
        table: list[tuple[str, Callable[[Request], Response]]] = [
            (prefix, self.page),
            (prefix + "/{number}", self.line),
            (prefix + "/{number}/compare", self.compare_line),
            ("/jobs/{job:path}/compare", self.compare),
            ("/jobs/{job:path}/export", self.export),
            (prefix + "/{number}/video", self.video),
            (prefix + "/{number}/video/info", self.facts),
            (prefix + "/{number}/frames", self.frames),
        ]
        self.routes = [Route(path, _endpoint(handler), methods=["GET"]) for path, handler in table]

    def page(self, request: Request) -> Response:
        """A page of a job's results."""
        return _json(
            self._results.page(self._job(request), _number(request.query_params, "page", 1, least=1))
        )

    def line(self, request: Request) -> Response:
        """One result, as in its output file."""
        line = self._results.line(self._job(request), self._line_number(request))
        headers = {**_HEADERS, "content-length": str(line.length)}
        return StreamingResponse(self._results.read(line), media_type="application/json", headers=headers)

    def compare(self, request: Request) -> Response:
        """A page of a job's results compared with what was expected."""
        page = _number(request.query_params, "page", 1, least=1)
        return _json(self._comparing.page(self._job(request), self._question(request), page))

    def compare_line(self, request: Request) -> Response:
        """One result compared with what was expected."""
        number = self._line_number(request)
        return _json(self._comparing.line(self._job(request), number, self._question(request)))

    def export(self, request: Request) -> Response:
        """All results in one file: the lines as in the output files, or a table of what the console shows."""
        row = self._job(request)
        form = request.query_params.get("format", "jsonl")
        if form not in _EXPORTS:
            raise InvalidArgument(f"format is {form[:100]!r}; give {' or '.join(_EXPORTS)}.")
        located = self._results.located(row)
        pieces = self._json_lines(located) if form == "jsonl" else _table(located)
        disposition = f'attachment; filename="results-{row.id}.{form}"'
        headers = {**_HEADERS, "content-disposition": disposition}
        return StreamingResponse(pieces, media_type=_EXPORTS[form], headers=headers)

    def _json_lines(self, located: Iterable[tuple[Mapping[str, Any], Any]]) -> Iterator[bytes]:
        for _, line in located:
            last = b"\n"
            for piece in self._results.read(line) if line is not None else ():
                yield piece
                last = piece
            if not last.endswith(b"\n"):
                yield b"\n"

    def video(self, request: Request) -> Response:
        """The bytes of a result's video, or the requested range."""
        uri = self._video_uri(request)
        with ExitStack() as opened:
            path = opened.enter_context(self._videos.local_path(uri))
            kind = mimetypes.guess_type(uri.object)[0] or "video/mp4"
            return _FileResponse(path, opened.pop_all(), media_type=kind, headers=_HEADERS)

    def facts(self, request: Request) -> Response:
        """Codec, size, rotation, frame rate and duration of a result's video."""
        uri = self._video_uri(request)
        seen = self._looker.facts(uri)
        return _json(
            {
                "uri": str(uri),
                "codec": seen.codec,
                "width": seen.width,
                "height": seen.height,
                "rotation": seen.rotation,
                "fps": seen.fps,
                "durationUs": seen.duration_us,
            }
        )

    def frames(self, request: Request) -> Response:
        """Frames of a time span of the video: for each its time in microseconds, its length and its JPEG."""
        query = request.query_params
        start = _number(query, "from", 0)
        end = _number(query, "to", start + MOST_PICTURES_US)
        if not start < end <= start + MOST_PICTURES_US:
            raise InvalidArgument(
                f"from is {start} and to is {end}: give microseconds, to behind from and at most"
                f" {MOST_PICTURES_US} behind it."
            )
        width = _number(query, "width", _USUAL_WIDTH, least=16, most=_WIDEST)
        stills = self._looker.pictures(self._video_uri(request), start, end, width)
        body = b"".join(struct.pack(">QI", one.time_us, len(one.jpeg)) + one.jpeg for one in stills)
        return Response(body, media_type="application/octet-stream", headers=_HEADERS)

    def _job(self, request: Request) -> JobRow:
        return self._find_job(request.path_params["job"])

    def _question(self, request: Request) -> Question:
        query = request.query_params
        other = query.get("with", "").strip()
        if not other:
            raise InvalidArgument(
                "with is missing; give truth, the gs:// path of an expected file, or a job."
            )
        is_job = other != TRUTH and not other.startswith(SCHEME)
        return Question(
            other,
            self._find_job(other) if is_job else None,
            _real(query, "within", WITHIN_S, most=3600),
            _real(query, "iou", IOU, most=1),
            _real(query, "min", 0.0, most=1),
            _thresholds(query),
        )

    def _line_number(self, request: Request) -> int:
        text = request.path_params["number"]
        number = id_number(text)
        if not number:
            raise NotFound(f"{text[:100]!r} is no number of a result; they count from 1.")
        return number

    def _video_uri(self, request: Request) -> GcsUri:
        return self._results.video(self._job(request), self._line_number(request))


def _table(located: Iterable[tuple[Mapping[str, Any], Any]]) -> Iterator[bytes]:
    """Yield the CSV rows of the results, header first."""
    yield _csv(["line", "video", "start", "end", "predictions", "labels", "best confidence", "error"])
    for shown, _ in located:
        labels = sorted(shown.get("labels", {}).items(), key=lambda one: -one[1])
        yield _csv(
            [
                shown["number"],
                shown.get("video") or shown.get("input", ""),
                shown.get("timeSegmentStart", ""),
                shown.get("timeSegmentEnd", ""),
                sum(count for _, count in labels) if "labels" in shown else "",
                "; ".join(f"{label} {count}" for label, count in labels),
                shown.get("confidence") or "",
                shown.get("error", {}).get("message", ""),
            ]
        )


def _csv(cells: Sequence[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow([_cell(cell) for cell in cells])
    return text.getvalue().encode(errors="backslashreplace")


def _cell(value: Any) -> Any:
    """Prefix a text with an apostrophe if a spreadsheet would read it as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


class _FileResponse(FileResponse):
    """Sends a file and keeps it open until it is sent or the client is gone."""

    def __init__(self, path: Path, opened: ExitStack, **options: Any) -> None:
        super().__init__(path, **options)
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._opened.close()


def _endpoint(handler: Callable[[Request], Response]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        try:
            return await in_own_thread(handler, request)
        except (ApiError, StorageError, InvalidUri) as error:
            answer = error_response(_as_api_error(error))
            return Response(answer.body, answer.status, answer.headers)

    endpoint.__doc__ = handler.__doc__
    return endpoint


def _as_api_error(error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    return (NotFound if isinstance(error, ObjectNotFound) else FailedPrecondition)(str(error))


def _json(value: Any) -> Response:
    return Response(
        dump_json(value, pretty=False), media_type="application/json", headers={"cache-control": "no-store"}
    )


def _real(query: Mapping[str, str], name: str, usual: float, *, most: float) -> float:
    text = query.get(name, "") or str(usual)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise InvalidArgument(f"{name} is {text[:100]!r}; give a number from 0 to {most:g}.")
    return value


def _thresholds(query: Mapping[str, str]) -> tuple[float, ...]:
    """Return the thresholds of a table, given as FROM:TO:STEP or VALUE,VALUE; empty if none is requested."""
    text = query.get("thresholds", "")
    if not text:
        return ()
    try:
        values = [float(value) for value in Axis.parse(f"thresholds={text[:1000]}").values]
    except AxisUnusable as error:
        raise InvalidArgument(f"{error}.") from None
    except ValueError:
        values = []
    if not values or len(values) > MOST_ROWS or not all(0 <= value <= 1 for value in values):
        raise InvalidArgument(
            f"thresholds is {text[:100]!r}; give numbers from 0 to 1, FROM:TO:STEP or VALUE,VALUE."
        )
    return tuple(values)


def _number(query: Mapping[str, str], name: str, usual: int, *, least: int = 0, most: int = 2**53) -> int:
    text = query.get(name, str(usual))
    number = id_number(text)
    if number is None or not least <= number <= most:
        raise InvalidArgument(f"{name} is {text[:100]!r}; give a whole number from {least} to {most}.")
    return number
