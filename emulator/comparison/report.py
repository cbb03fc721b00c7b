"""Compares two sides: pairs their segments and counts how well one meets the other's expectations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from emulator.comparison.annotations import Annotated
from emulator.comparison.counts import Counts, counts_json
from emulator.comparison.lines import (
    Line,
    Prediction,
    Segment,
    Tolerance,
    expected_of,
    found_of,
    stretches_of,
)
from emulator.comparison.matching import Expected, Found
from emulator.comparison.outcome import Outcome
from emulator.comparison.sides import Side, SideUnusable
from emulator.comparison.truth import snake_too
from emulator.vertex import objectives
from emulator.vertex.objectives.classification import SEGMENT, TYPES

WHOLE_VIDEO: Segment = (0.0, math.inf)
TRACKING, ACTIONS, CLASSES = "object_tracking", "action_recognition", "classification"
OBJECTIVES = (TRACKING, ACTIONS, CLASSES)
_NAMED = 5


@dataclass(frozen=True)
class Options:
    """The options of a comparison.

    least, expected_least: the least confidence of predictions that count, on the found and the expected side.
    labels: new names by old label, on both sides.
    prefixes: new prefixes by old prefix of gs:// names, on both sides.
    objective: "" to derive it from the predictions.
    types: the classification types that were requested; empty to derive them from the predictions.
    """

    tolerance: Tolerance = field(default_factory=Tolerance)
    least: float = 0.0
    expected_least: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    prefixes: Mapping[str, str] = field(default_factory=dict)
    objective: str = ""
    types: Sequence[str] = ()


@dataclass(frozen=True)
class Compared:
    """A segment of a video that both sides have. `where`: the file and line of the found side."""

    video: str
    segment: Segment
    where: str
    wanted: Sequence[Expected]
    found: Sequence[Found]
    outcome: Outcome


@dataclass(frozen=True)
class Report:
    """The result of a comparison. `notes`: messages on what was left out and what looks wrong."""

    objective: str
    segments: Sequence[Compared]
    notes: Sequence[str]
    complete: bool
    """Whether each side has every video and segment of the other."""

    def by_label(self) -> dict[str, Counts]:
        """Return the counts of each label, sorted by label."""
        total: dict[str, Counts] = {}
        for segment in self.segments:
            for label, counts in segment.outcome.counts().items():
                total[label] = total.get(label, Counts()) + counts
        return dict(sorted(total.items()))

    def in_all(self) -> Counts:
        """Return the counts of all labels together."""
        return sum(self.by_label().values(), Counts())


def compare(expected: Side, found: Side, options: Options) -> Report:
    """Compare the found side with the expected side.

    Raises:
        SideUnusable: the sides have no segment in common, or their objectives differ.
    """
    return _Comparison(_renamed(expected, options), _renamed(found, options), options).report()


class _Comparison:
    """Pairs the lines of two sides and compares them."""

    def __init__(self, expected: Side, found: Side, options: Options) -> None:
        self._expected, self._found, self._options = expected, found, options
        self._objective = options.objective or _common_objective(expected, found)
        self._types = options.types or _types(found) or _types(expected) or [SEGMENT]
        self._partners = _partners(_videos(expected), _videos(found))
        self._by_video: dict[str, list[Line]] = {}
        for line in expected.lines:
            self._by_video.setdefault("" if line.is_pattern else line.video, []).append(line)
        self._used: set[int] = set()
        self._notes: list[str] = []
        self._alone: list[str] = []

    def report(self) -> Report:
        segments = list(self._compared())
        left = [one.video for one in self._expected.lines if not one.is_pattern and id(one) not in self._used]
        if not segments:
            raise SideUnusable(
                f"{self._found.name} and {self._expected.name} have no video and segment in common:"
                f" {_some(self._alone)}, and {_some(left)}. Map names that differ with --map gs://old=gs://new"
            )
        self._note_alone(self._alone, self._found, self._expected)
        self._note_alone(left, self._expected, self._found)
        if self._expected.failed:
            self._notes.append(
                f"{len(self._expected.failed)} instances failed in {self._expected.name}; they are left out."
            )
        self._note_labels(segments)
        complete = not (self._alone or left)
        return Report(
            self._objective, segments, [*self._expected.notes, *self._found.notes, *self._notes], complete
        )

    def _compared(self) -> Iterator[Compared]:
        turns: Counter[tuple[str, Segment]] = Counter()
        for line in self._found_lines():
            video = self._partners.get(line.video, line.video)
            for segment in self._segments(line, video):
                wanted = self._wanted(video, segment, turns[video, segment])
                turns[video, segment] += 1
                if wanted is None:
                    self._alone.append(line.video)
                else:
                    self._used.add(id(wanted))
                    yield self._compare(line, wanted, segment)

    def _found_lines(self) -> Iterator[Line]:
        for line in self._found.lines:
            if line.is_pattern:
                raise SideUnusable(
                    f"{line.where}: it is of any video like {line.video}, so it can only be what is expected."
                    f" Name it first: compare {self._found.name} {self._expected.name}"
                )
            yield line
        for video, segment in self._found.failed:
            yield Line(video, False, segment, (), "an errors file")

    def _segments(self, line: Line, video: str) -> Sequence[Segment]:
        """Return the segments in which a line of the found side is compared."""
        if line.segment is not None:
            return [line.segment]
        own = [one.segment for one in self._by_video.get(video, ()) if one.segment is not None]
        return list(dict.fromkeys(own)) or [WHOLE_VIDEO]

    def _wanted(self, video: str, segment: Segment, turn: int) -> Line | None:
        known = self._by_video.get(video, []) + self._by_video.get("", [])
        fitting = [line for line in known if line.fits(video, segment)]
        exact = [line for line in fitting if line.segment is not None]
        if exact:
            return exact[min(turn, len(exact) - 1)]
        return fitting[0] if fitting else None

    def _compare(self, line: Line, wanted: Line, segment: Segment) -> Compared:
        ours, theirs = self._predictions(wanted, line, segment), self._predictions(line, wanted, segment)
        try:
            asked = [
                expected_of(one, self._options.tolerance)
                for one in line.judge(list(self._sure(ours)))
                if one.get("judged") is not False
            ]
            seen = [found_of(one) for one in wanted.judge(theirs)]
        except ValueError as error:
            raise SideUnusable(f"{line.where or self._found.name}: {error}") from None
        outcome = Outcome.of(asked, seen, self._options.least)
        return Compared(line.video, segment, line.where, asked, seen, outcome)

    def _predictions(self, line: Line, other: Line, segment: Segment) -> Sequence[Prediction]:
        """Return a side's predictions for a segment, with labels renamed."""
        stretches = other.stretches
        if stretches is None:
            stretches = stretches_of(other.content) if isinstance(other.content, Sequence) else ()
        found = line.predictions(self._objective, segment, self._types, stretches)
        labels = self._options.labels
        if not labels:
            return found
        return [{**one, "displayName": labels.get(label_of(one), label_of(one))} for one in found]

    def _sure(self, predictions: Sequence[Prediction]) -> Iterator[Prediction]:
        least = self._options.expected_least
        for one in predictions:
            if not least or found_of(one).confidence >= least:
                yield one

    def _note_alone(self, videos: Sequence[str], side: Side, other: Side) -> None:
        if videos:
            self._notes.append(
                f"{side.name} has {len(videos)} lines whose video and segment {other.name} does not have;"
                f" they are left out: {_some(videos)}."
            )

    def _note_labels(self, segments: Sequence[Compared]) -> None:
        wanted = {one.label for segment in segments for one in segment.wanted}
        seen = {one.label for segment in segments for one in segment.found}
        for labels, side, other in (
            (wanted - seen, self._expected, self._found),
            (seen - wanted, self._found, self._expected),
        ):
            if labels and wanted and seen:
                self._notes.append(
                    f"Only {side.name} has the labels {_some(sorted(labels))}; {other.name} has none of them."
                    " If they are called otherwise there, give --map-label old=new."
                )


def label_of(prediction: Prediction) -> str:
    """Return the label of a prediction given as JSON."""
    return str(snake_too(prediction, "displayName") or "")


def objective_of(side: Side) -> str:
    """Return the objective of a side's predictions, "" if unclear. Raises SideUnusable for a mixture."""
    known: dict[str, str] = {}
    for line in side.lines:
        for objective in _objectives_of(line):
            known.setdefault(objective, line.where)
    if len(known) > 1:
        said = " and ".join(f"{objective} ({where or 'in it'})" for objective, where in sorted(known.items()))
        raise SideUnusable(f"{side.name} mixes predictions of several jobs: {said}. Give the files of one")
    return next(iter(known), "")


def _objectives_of(line: Line) -> Iterator[str]:
    if isinstance(line.content, Annotated) and (about := line.content.about()):
        yield about
    elif isinstance(line.content, Sequence):
        yield from (objectives.objective_of(one).value for one in line.content)


def _common_objective(expected: Side, found: Side) -> str:
    objectives = [objective for objective in map(objective_of, (expected, found)) if objective]
    if len(set(objectives)) > 1:
        raise SideUnusable(
            f"{expected.name} is about {objectives[0]}, {found.name} about {objectives[1]}. Compare sides of"
            " one objective"
        )
    if objectives:
        return objectives[0]
    if any(not isinstance(line.content, Sequence) for line in [*expected.lines, *found.lines]):
        raise SideUnusable(f"Neither side tells what it is about. Say --objective: {', '.join(OBJECTIVES)}")
    return TRACKING  # without predictions the objective makes no difference


def _types(side: Side) -> list[str]:
    """Return the classification types on a side."""
    lists = [line.content for line in side.lines if isinstance(line.content, Sequence)]
    there = {kind for predictions in lists for kind, _, _ in stretches_of(predictions)}
    return [kind for kind in TYPES if kind in there]


def _renamed(side: Side, options: Options) -> Side:
    """Return the side with the prefixes of video names replaced."""
    if not options.prefixes:
        return side
    other = Side(side.name)
    other.lines = [replace(line, video=_mapped(line.video, options.prefixes)) for line in side.lines]
    other.notes = side.notes
    other.failed = [(_mapped(video, options.prefixes), segment) for video, segment in side.failed]
    return other


def _mapped(video: str, prefixes: Mapping[str, str]) -> str:
    for old, new in prefixes.items():
        if video.startswith(old):
            return new + video.removeprefix(old)
    return video


def _videos(side: Side) -> list[str]:
    named = [line.video for line in side.lines if not line.is_pattern]
    return list(dict.fromkeys([*named, *(video for video, _ in side.failed)]))


def _partners(expected: Collection[str], found: Collection[str]) -> dict[str, str]:
    """Return the expected side's video for each video of the found side.

    If names differ, their last parts are compared, then the last parts without suffix.
    """
    partners = {video: video for video in found if video in set(expected)}
    for part in (_file_name, _stem):
        taken = set(partners.values())
        left = _grouped(part, [video for video in expected if video not in taken])
        for name, others in _grouped(part, [video for video in found if video not in partners]).items():
            candidates = left.get(name, [])
            if len(candidates) == 1 and len(others) == 1:
                partners[others[0]] = candidates[0]
            elif candidates:
                raise SideUnusable(
                    f"{_some([*candidates, *others])} are all called {name}. Say which is which with"
                    " --map gs://old=gs://new"
                )
    return partners


def _grouped(part: Callable[[str], str], videos: Collection[str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for video in videos:
        grouped.setdefault(part(video), []).append(video)
    return grouped


def _file_name(video: str) -> str:
    return video.rpartition("/")[2]


def _stem(video: str) -> str:
    name = _file_name(video)
    return name.rpartition(".")[0] or name


def _some(names: Sequence[str]) -> str:
    """Return a few names in words, with the number of the others."""
    distinct = list(dict.fromkeys(names))
    more = len(distinct) - _NAMED
    shown = ", ".join(distinct[:_NAMED]) or "nothing"
    return f"{shown} and {more} more" if more > 0 else shown


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as JSON."""
    return {
        "objective": report.objective,
        "labels": {label: counts_json(counts) for label, counts in report.by_label().items()},
        "all": counts_json(report.in_all()),
        "segments": [_segment_json(segment) for segment in report.segments],
        "notes": list(report.notes),
    }


def _segment_json(segment: Compared) -> dict[str, Any]:
    start, end = segment.segment
    full = segment.outcome.in_full()
    for missed in full["missed"]:
        missed["what"] = str(segment.wanted[missed["expected"] - 1])
    extra = [{"found": place, "what": str(segment.found[place - 1])} for place in full["extra"]]
    return {
        "video": segment.video,
        "timeSegmentStart": start,
        "timeSegmentEnd": None if math.isinf(end) else end,
        **full,
        "extra": extra,
    }
