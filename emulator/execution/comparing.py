"""Compares the results of a job with an expected file, another job, or the truth of its videos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from emulator.comparison.counts import Counts, counts_json
from emulator.comparison.lines import (
    TRUTH,
    TRUTH_SUFFIX,
    Expectations,
    Prediction,
    Segment,
    Tolerance,
    expected_of,
    found_of,
    predictions_of,
    segment_of,
    stretches_of,
)
from emulator.comparison.outcome import Outcome
from emulator.database import JobRow
from emulator.execution.results import PAGE_SIZE, Line, Results
from emulator.storage import GcsUri, InvalidUri, ObjectNotFound, ObjectStore, StorageError
from emulator.vertex import contract
from emulator.vertex.errors import FailedPrecondition, InvalidArgument, NotFound, Violations
from emulator.vertex.objectives import Objective, parse_parameters
from emulator.vertex.objectives.classification import types_of

_MAX_BYTES = 64 << 20
"""Size limit of an expected file and of one result, in bytes: they are read into memory."""
_MAX_SHOWN_PROBLEMS = 10


class Question(Protocol):
    """A request to compare.

    Attributes:
        job: the job to compare with, or None.
        other: `truth` or a gs:// path, if `job` is None.
        within: tolerance for times, in seconds.
        iou: least overlap of boxes.
        least: least confidence of the predictions that are compared.
        thresholds: further least confidences, for a table of counts.
    """

    @property
    def job(self) -> JobRow | None: ...
    @property
    def other(self) -> str: ...
    @property
    def within(self) -> float: ...
    @property
    def iou(self) -> float: ...
    @property
    def least(self) -> float: ...
    @property
    def thresholds(self) -> Sequence[float]: ...


class _Side(Protocol):
    """One side of a comparison: the expected predictions of each line, and those found that it can judge.

    Raises:
        NotFound: the side does not have the line.
    """

    @property
    def notes(self) -> Sequence[str]: ...
    def of(
        self, result: _Result, found: Sequence[Prediction]
    ) -> tuple[Sequence[Prediction], Sequence[Prediction]]: ...


class Comparing:
    """Compares the output of jobs. Thread-safe."""

    def __init__(self, results: Results, store: ObjectStore) -> None:
        self._results = results
        self._store = store

    def page(self, row: JobRow, question: Question, page: int) -> dict[str, Any]:
        """A page of 100 results with the counts of predictions that match, are missing, and are extra."""
        shown = self._results.page(row, page)
        side = self._side(row, question)
        first = (page - 1) * PAGE_SIZE + 1
        located = self._results.located(row, first, first + PAGE_SIZE - 1)
        table = [Counts() for _ in question.thresholds]
        lines = [self._line(_Result(row, *one), side, question, table) for one in located]
        counts = {name: sum(line.get(name, 0) for line in lines) for name in ("matched", "missed", "extra")}
        whole = {name: shown[name] for name in ("page", "pages", "total")}
        notes = [*shown["notes"], *side.notes]
        return {**whole, **counts, "notes": notes, "lines": lines, **_thresholds(question, table)}

    def line(self, row: JobRow, number: int, question: Question) -> dict[str, Any]:
        """One result: the expected predictions and which found prediction matches which. Raises ApiError."""
        side = self._side(row, question)
        located = self._results.located(row, number, number)
        if not located:
            raise NotFound(f"The job has no result {number}; they count from 1.")
        expected, outcome = self._compare(_Result(row, *located[0]), side, question)
        table = [outcome.counts_at(least) for least in question.thresholds]
        return {
            "expected": expected,
            **outcome.in_full(),
            "notes": side.notes,
            **_thresholds(question, table),
        }

    def _side(self, row: JobRow, question: Question) -> _Side:
        if question.job is not None:
            return _JobSide(self._results, row, question.job)
        if question.other == TRUTH:
            return _TruthSide(self._store, row)
        return _FileSide(_read_expected(self._store, GcsUri.parse(question.other)), row)

    def _line(self, result: _Result, side: _Side, question: Question, table: list[Counts]) -> dict[str, Any]:
        """The counts of one line. Adds its counts at each threshold to the table."""
        names = ("number", "video", "timeSegmentStart", "timeSegmentEnd")
        line = {name: result.shown.get(name, "") for name in names}
        try:
            outcome = self._compare(result, side, question)[1]
        except (NotFound, FailedPrecondition) as error:
            return {**line, "problem": error.message}
        except (StorageError, InvalidUri) as error:
            return {**line, "problem": str(error)}
        for place, least in enumerate(question.thresholds):
            table[place] += outcome.counts_at(least)
        return {**line, **outcome.in_short()}

    def _compare(
        self, result: _Result, side: _Side, question: Question
    ) -> tuple[Sequence[Prediction], Outcome]:
        try:
            expected, found = side.of(result, result.predictions(self._results))
            tolerance = Tolerance(question.within, question.iou)
            wanted = [expected_of(one, tolerance) for one in expected]
            seen = [found_of(one) for one in found]
        except InvalidUri:
            raise
        except ValueError as error:
            raise FailedPrecondition(f"Line {result.number} cannot be compared: {error}") from None
        return expected, Outcome.of(wanted, seen, question.least)


@dataclass(frozen=True)
class _Result:
    """A line of a job's input: its summary, and the location of its result."""

    row: JobRow
    shown: Mapping[str, Any]
    line: Line | None

    @property
    def number(self) -> int:
        return int(self.shown["number"])

    @property
    def video(self) -> str:
        return str(self.shown.get("video") or "")

    @property
    def segment(self) -> Segment:
        try:
            return segment_of(self.shown.get("timeSegmentStart"), self.shown.get("timeSegmentEnd"))
        except ValueError:  # the job refused the line
            return segment_of(None, None)

    def predictions(self, results: Results) -> list[Prediction]:
        """The job's predictions; empty if the line failed. Raises NotFound, FailedPrecondition."""
        if "error" in self.shown:
            return []
        if self.line is None:
            raise NotFound(f"Line {self.number} of job {self.row.id} is not predicted yet.")
        if self.line.length > _MAX_BYTES:
            raise FailedPrecondition(
                f"Line {self.number} of job {self.row.id} has {self.line.length >> 20} MB; results of up to"
                f" {_MAX_BYTES >> 20} MB are compared."
            )
        try:
            return predictions_of(b"".join(results.read(self.line)))
        except (ValueError, RecursionError) as error:
            raise FailedPrecondition(
                f"Line {self.number} of job {self.row.id} cannot be read: {error}. Somebody may have edited"
                f" {self.line.uri}."
            ) from None


class _FileSide:
    """An expected file."""

    def __init__(self, expected: Expectations, row: JobRow) -> None:
        self._expected = expected
        self._objective, self._types = _objective(row)
        self.notes = expected.problems[:_MAX_SHOWN_PROBLEMS]
        if more := len(expected.problems) - len(self.notes):
            self.notes.append(f"And {more} more lines of {expected.name} cannot be used.")

    def of(
        self, result: _Result, found: Sequence[Prediction]
    ) -> tuple[Sequence[Prediction], Sequence[Prediction]]:
        line = self._expected.find(result.video, result.segment)
        if line is None:
            raise NotFound(f"{self._expected.name} has no line for this video and segment.")
        stretches = stretches_of(found)
        wanted = line.predictions(self._objective, result.segment, self._types, stretches)
        return wanted, line.judge(found)


class _TruthSide:
    """The truth that the video factory wrote next to each video."""

    def __init__(self, store: ObjectStore, row: JobRow) -> None:
        self._store = store
        self._row = row
        self._known: dict[str, _FileSide] = {}
        self.notes: Sequence[str] = ()

    def of(
        self, result: _Result, found: Sequence[Prediction]
    ) -> tuple[Sequence[Prediction], Sequence[Prediction]]:
        video = result.video
        if video not in self._known:
            uri = GcsUri.parse(video + TRUTH_SUFFIX)
            try:
                read = _read_expected(self._store, uri)
            except ObjectNotFound:
                raise NotFound(
                    f"Nobody knows the truth of this video: there is no {uri}. The video factory writes it."
                ) from None
            self._known[video] = _FileSide(read, self._row)
        side = self._known[video]
        if side.notes:
            raise FailedPrecondition(side.notes[0])
        return side.of(result, found)


class _JobSide:
    """The predictions of another job for the same segments of the same videos."""

    notes: Sequence[str] = ()

    def __init__(self, results: Results, row: JobRow, other: JobRow) -> None:
        if other.model_objective != row.model_objective:
            words = [Objective[one.model_objective].display_text.lower() for one in (other, row)]
            raise FailedPrecondition(f"Job {other.id} is about {words[0]}, this one about {words[1]}.")
        self._results, self._other = results, other
        self._theirs = dict(_turns(results, other))
        self._turns = {result.number: turn for turn, result in _turns(results, row)}

    def of(
        self, result: _Result, found: Sequence[Prediction]
    ) -> tuple[Sequence[Prediction], Sequence[Prediction]]:
        theirs = self._theirs.get(self._turns[result.number])
        if theirs is None:
            raise NotFound(f"Job {self._other.id} has no line for this video and segment.")
        return theirs.predictions(self._results), found


_Turn = tuple[str, Segment, int]
"""Video, segment, and how many earlier lines have the same video and segment."""


def _turns(results: Results, row: JobRow) -> Iterator[tuple[_Turn, _Result]]:
    """The lines of a job, each with its key."""
    before: Counter[tuple[str, Segment]] = Counter()
    for shown, line in results.located(row):
        result = _Result(row, shown, line)
        key = result.video, result.segment
        yield (*key, before[key]), result
        before[key] += 1


def _thresholds(question: Question, table: Sequence[Counts]) -> dict[str, Any]:
    """The table as JSON, if thresholds were asked for."""
    if not question.thresholds:
        return {}
    both = zip(question.thresholds, table, strict=True)
    return {"thresholds": [{"threshold": least, **counts_json(counts)} for least, counts in both]}


def _read_expected(store: ObjectStore, uri: GcsUri) -> Expectations:
    info = store.stat(uri)
    if info.size > _MAX_BYTES:
        raise InvalidArgument(
            f"{uri} has {info.size >> 20} MB; files of up to {_MAX_BYTES >> 20} MB are compared."
        )
    expected = Expectations(str(uri))
    with store.open_read(uri) as file:
        text = file.read().decode("utf-8-sig", "replace")
    if uri.object.endswith(".csv"):
        expected.add_csv(text)
    else:
        for number, raw in enumerate(text.split("\n"), start=1):
            expected.add(raw, number)
    if not expected and not str(uri).endswith(TRUTH_SUFFIX):
        first = f" {expected.problems[0]}." if expected.problems else " It is empty."
        raise InvalidArgument(f"{uri} holds no line that says what is expected.{first}")
    return expected


def _objective(row: JobRow) -> tuple[str, Sequence[str]]:
    """A job's objective; for a classification also the types that its parameters ask for."""
    objective = Objective[row.model_objective]
    document = contract.load().v1.BatchPredictionJob.FromString(row.document)
    asked = parse_parameters(objective, document.model_parameters, Violations())
    return objective.value, types_of(asked)
