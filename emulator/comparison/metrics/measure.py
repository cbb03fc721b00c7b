"""Computes the metrics of a report, by objective."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.comparison.counts import Counts, counts_json
from emulator.comparison.matching import Action, Box, Found, Label, pairs
from emulator.comparison.metrics import classes, detection, tracking
from emulator.comparison.report import ACTIONS, CLASSES, TRACKING, Compared, Report

TOLERANCES_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_MOST_THRESHOLDS = 50
_EPSILON = 1e-9

Floats = NDArray[np.float64]
Places = tuple[list[str], list[int], list[Box], list[float]]
"""The objects in a frame: labels, track numbers, boxes and confidences."""


@dataclass(frozen=True)
class Metrics:
    """Figures by name, as --at-least takes them; figures of each label; and tables.

    A figure is left out if there is nothing to compute it from.
    """

    figures: Mapping[str, float]
    labels: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    tables: Mapping[str, Any] = field(default_factory=dict)


def measure(report: Report, within: float, least: float) -> Metrics:
    """Return a report's metrics. `within` (seconds) and `least` (confidence): as in its options."""
    measured = {
        TRACKING: lambda: _of_tracks(report, least),
        ACTIONS: lambda: _of_actions(report, within, least),
        CLASSES: lambda: _of_classes(report, within, least),
    }[report.objective]()
    sweep = thresholds(report)
    if not sweep:
        return measured
    best = max(sweep, key=lambda row: (row["f1"], row["threshold"]))
    figures = {**measured.figures, "best_f1": best["f1"]}
    return replace(measured, figures=figures, tables={**measured.tables, "thresholds": sweep, "best": best})


def thresholds(report: Report) -> list[dict[str, Any]]:
    """Return counts and figures for each confidence threshold."""
    rows = []
    for least in _steps(report):
        counts = sum((segment.outcome.counts_at(least) for segment in report.segments), Counts())
        rows.append({"threshold": least, **counts_json(counts)})
    return rows


def _steps(report: Report) -> list[float]:
    """Return the distinct confidences as thresholds, at most _MOST_THRESHOLDS of them."""
    there = sorted({one.confidence for segment in report.segments for one in segment.found if one.judged})
    if len(there) <= _MOST_THRESHOLDS:
        return there
    places = np.linspace(0, len(there) - 1, _MOST_THRESHOLDS).round().astype(int)
    return [there[place] for place in places]


def _of_tracks(report: Report, least: float) -> Metrics:
    moments, pictures = _boxes(report, least)
    aps = {label: detection.average_precisions(some) for label, some in sorted(pictures.items())}
    known = {label: found for label, found in aps.items() if found is not None}
    labels = {label: {"ap50": float(found[0]), "ap": float(found.mean())} for label, found in known.items()}
    figures: dict[str, float] = {}
    if known:
        figures = {name: float(np.mean([one[name] for one in labels.values()])) for name in ("ap50", "ap")}
        whole = tracking.figures(moments)
        figures |= {"hota": whole.hota, "idf1": whole.idf1, "mota": whole.mota}
    return Metrics(figures, labels)


def _boxes(report: Report, least: float) -> tuple[list[tracking.Moment], dict[str, list[detection.Picture]]]:
    """Return the frames for the metrics of tracks, and by label the frames for those of boxes."""
    moments: list[tracking.Moment] = []
    pictures: dict[str, list[detection.Picture]] = {}
    first = 0
    for segment in report.segments:
        judged = [one for one in segment.found if one.judged]
        true = _by_time([(one.label, getattr(one, "boxes", {}), 1.0) for one in segment.wanted], first)
        seen = _by_time([(one.label, one.boxes, one.confidence) for one in judged], first)
        first += max(len(segment.wanted), len(judged))
        for time in sorted(true.keys() | seen.keys()):
            there, found = true.get(time, _nothing()), seen.get(time, _nothing())
            shares = detection.overlaps(there[2], found[2])
            moments.append(_moment(there, found, shares, least))
            _add_pictures(pictures, there[0], found, shares)
    return moments, pictures


def _nothing() -> Places:
    return [], [], [], []


def _by_time(tracks: Sequence[tuple[str, Mapping[float, Box], float]], first: int) -> dict[int, Places]:
    """Return the objects at each time in microseconds. Tracks are numbered from `first`."""
    moments: dict[int, Places] = {}
    for number, (label, boxes, confidence) in enumerate(tracks, start=first):
        for time, box in boxes.items():
            place = moments.setdefault(round(time * 1e6), _nothing())
            for column, value in zip(place, (label, number, box, confidence), strict=True):
                column.append(value)  # type: ignore[attr-defined]
    return moments


def _moment(there: Places, found: Places, shares: Floats, least: float) -> tracking.Moment:
    sure = np.array(found[3]) >= least - _EPSILON if found[3] else np.zeros(0, bool)
    same = np.array([[one == other for other in found[0]] for one in there[0]], bool).reshape(shares.shape)
    ids = np.array(found[1], np.int64)
    return tracking.Moment(np.array(there[1], np.int64), ids[sure], (shares * same)[:, sure])


def _add_pictures(
    pictures: dict[str, list[detection.Picture]], labels: Sequence[str], found: Places, shares: Floats
) -> None:
    for label in {*labels, *found[0]}:
        true = [place for place, one in enumerate(labels) if one == label]
        seen = [place for place, one in enumerate(found[0]) if one == label]
        scores = np.array([found[3][place] for place in seen], np.float64)
        picture = detection.Picture(scores, shares[np.ix_(true, seen)].T)
        pictures.setdefault(label, []).append(picture)


def _of_actions(report: Report, within: float, least: float) -> Metrics:
    rows = {}
    for tolerance in sorted({*TOLERANCES_S, within}):
        counts = Counts()
        for segment in report.segments:
            wanted = [
                replace(one, within=one.within - within + tolerance)
                for one in segment.wanted
                if isinstance(one, Action)
            ]
            found = [one for one in segment.found if one.judged and one.confidence >= least - _EPSILON]
            matched = len(pairs(wanted, found))
            counts += Counts(matched, len(wanted) - matched, len(found) - matched)
        rows[tolerance] = counts.f1
    figures = {f"f1@{tolerance:g}": f1 for tolerance, f1 in rows.items()}
    return Metrics(figures)


def _of_classes(report: Report, within: float, least: float) -> Metrics:
    stretches = list(itertools.chain.from_iterable(_stretches(one, within) for one in report.segments))
    names = {label for stretch in stretches for label in (*stretch.expected, *stretch.scores)}
    labels = {}
    for label in sorted(names):
        true = np.array([label in one.expected for one in stretches], bool)
        scores = np.array([one.scores.get(label, 0.0) for one in stretches], np.float64)
        found = classes.average_precision(true, scores)
        if found is not None:
            labels[label] = {"ap": found}
    figures = {"map": float(np.mean([one["ap"] for one in labels.values()]))} if labels else {}
    taken = [pair for one in stretches for pair in one.taken(least)]
    return Metrics(figures, labels, {"confusion": classes.confusion(taken)})


@dataclass
class _Stretch:
    """The expected labels of an interval of a video, and the confidence of each label found there."""

    start: float
    end: float
    expected: set[str] = field(default_factory=set)
    scores: dict[str, float] = field(default_factory=dict)

    def taken(self, least: float) -> Iterator[tuple[str, str]]:
        """Yield each expected label with the found label of the highest confidence."""
        sure = {label: score for label, score in self.scores.items() if score >= least - _EPSILON}
        best = max(sure, key=lambda label: (sure[label], label), default=classes.NOTHING)
        for label in sorted(self.expected) or [classes.NOTHING]:
            if (label, best) != (classes.NOTHING, classes.NOTHING):
                yield label, best


def _stretches(segment: Compared, within: float) -> list[_Stretch]:
    """Return the intervals of a segment. Two whose starts and ends differ by at most `within` are merged."""
    known: dict[str, list[_Stretch]] = {}
    exact: dict[tuple[str, float, float], _Stretch] = {}

    def at(one: Label | Found) -> _Stretch:
        key = (one.type, one.start, one.end)
        if key not in exact:
            others = known.setdefault(one.type, [])
            near = (
                other
                for other in others
                if abs(other.start - one.start) <= within + 1e-6 and abs(other.end - one.end) <= within + 1e-6
            )
            exact[key] = next(near, None) or _Stretch(one.start, one.end)
            others.append(exact[key])
        return exact[key]

    for wanted in segment.wanted:
        if isinstance(wanted, Label):
            at(wanted).expected.add(wanted.label)
    for found in segment.found:
        if found.judged:
            scores = at(found).scores
            scores[found.label] = max(found.confidence, scores.get(found.label, 0.0))
    return list({id(one): one for one in exact.values()}.values())
