"""Writes a report as one self-contained HTML page: figures, thresholds, frames of the worst mismatches."""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from emulator.comparison.counts import Counts
from emulator.comparison.matching import Box, Expected, Found, when
from emulator.comparison.report import Compared, Report

if TYPE_CHECKING:
    from emulator.comparison.metrics.measure import Metrics

MOST_MISMATCHES = 24
_WITH_PICTURES = 12
_HALF_GRID_S = 0.05

Still = Callable[[str, float], bytes | None]
"""Returns the frame of a video at a time in seconds as JPEG; None if the video is missing."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
th, td { padding: .2rem .8rem .2rem 0; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
figure { margin: 0 0 1.5rem; padding: .8rem; border: 1px solid #ddd; border-radius: .4rem }
.picture { position: relative; max-width: 40rem } .picture img { width: 100%; display: block }
.picture svg { position: absolute; inset: 0; width: 100%; height: 100% }
rect { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke }
.expected { stroke: #fff; stroke-dasharray: 5 4 } .found { stroke: #ff8c1a }
.curve { background: #f6f7f9 } .curve polyline { fill: none; stroke: #1a66d9; stroke-width: 2 }
.note { color: #8a4b00 }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Mismatch:
    """A missed expectation or an extra prediction, and the time of the frame to show."""

    video: str
    moment: float
    title: str
    text: str
    weight: float
    expected: Sequence[Box] = field(default_factory=list)
    found: Sequence[Box] = field(default_factory=list)


def page(report: Report, metrics: Metrics, names: tuple[str, str], still: Still) -> str:
    """Return the HTML. `names`: the names of the expected and of the found side."""
    title = f"{names[1]} compared with {names[0]}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(report.objective.replace('_', ' '))}, {len(report.segments)} segments.</p>",
        *(f'<p class="note">{escape(note)}</p>' for note in report.notes),
        _labels(report, metrics),
        _figures(metrics),
        _thresholds(metrics.tables.get("thresholds", [])),
        _confusion(metrics.tables.get("confusion", {})),
        *_mismatches(report, still),
    ]
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{"".join(parts)}\n</body></html>\n'


def worst(report: Report) -> list[Mismatch]:
    """Return the worst mismatches: alternately the longest missed and the most confident extra."""
    missed = sorted(_missed(report), key=lambda one: -one.weight)
    extra = sorted(_extra(report), key=lambda one: -one.weight)
    half = MOST_MISMATCHES // 2
    missed = missed[: max(half, MOST_MISMATCHES - len(extra))]
    extra = extra[: MOST_MISMATCHES - len(missed)]
    turns = itertools.zip_longest(missed, extra)
    return [one for one in itertools.chain.from_iterable(turns) if one is not None]


def _missed(report: Report) -> Iterator[Mismatch]:
    for segment in report.segments:
        why = {one["expected"] - 1: one.get("nearest", "") for one in segment.outcome.in_full()["missed"]}
        for place, nearest in why.items():
            one = segment.wanted[place]
            text = f"The nearest prediction: {nearest}" if nearest else "No prediction has this label."
            yield _mismatch(segment, one, f"Missed: {one}", text, one.end - one.start)


def _extra(report: Report) -> Iterator[Mismatch]:
    for segment in report.segments:
        for place in segment.outcome.extra:
            one = segment.found[place]
            yield _mismatch(segment, one, f"Extra: {one}", "Nothing like it is expected.", one.confidence)


def _mismatch(segment: Compared, one: Expected | Found, title: str, text: str, weight: float) -> Mismatch:
    times = sorted(_boxes_of(one))
    middle = one.start if math.isinf(one.end) else (one.start + one.end) / 2
    moment = times[len(times) // 2] if times else middle
    expected, found = (_boxes_at(some, moment) for some in (segment.wanted, segment.found))
    return Mismatch(segment.video, moment, title, text, weight, expected, found)


def _boxes_of(one: Expected | Found) -> Mapping[float, Box]:
    return getattr(one, "boxes", {})


def _boxes_at(some: Sequence[Expected | Found], moment: float) -> list[Box]:
    return [box for one in some for time, box in _boxes_of(one).items() if abs(time - moment) < _HALF_GRID_S]


def _mismatches(report: Report, still: Still) -> Iterator[str]:
    some = worst(report)
    if not some:
        yield "<p>There is no mismatch.</p>"
        return
    counts = report.in_all()
    yield (
        f"<h2>Mismatches</h2><p>{len(some)} of {counts.missed + counts.extra}: the longest that are missed,"
        " the surest that are extra. Dashed white boxes are expected, orange ones were found.</p>"
    )
    for number, one in enumerate(some):
        jpeg = still(one.video, one.moment) if number < _WITH_PICTURES else None
        place = f"{one.video} {when(one.moment, one.moment)}"
        caption = "<br>".join((f"<b>{escape(one.title)}</b>", escape(one.text), escape(place)))
        yield f"<figure>{_picture(one, jpeg) if jpeg else ''}<figcaption>{caption}</figcaption></figure>"


def _picture(one: Mismatch, jpeg: bytes) -> str:
    data = base64.b64encode(jpeg).decode("ascii")
    kinds = (("expected", one.expected), ("found", one.found))
    rects = "".join(
        f'<rect class="{kind}" x="{box[0]:.5f}" y="{box[1]:.5f}" width="{max(box[2] - box[0], 0):.5f}"'
        f' height="{max(box[3] - box[1], 0):.5f}"/>'
        for kind, boxes in kinds
        for box in boxes
    )
    return (
        f'<div class="picture"><img alt="" src="data:image/jpeg;base64,{data}">'
        f'<svg viewBox="0 0 1 1" preserveAspectRatio="none">{rects}</svg></div>'
    )


def _labels(report: Report, metrics: Metrics) -> str:
    more = list(dict.fromkeys(name for figures in metrics.labels.values() for name in figures))
    heads = ["label", "matched", "missed", "extra", "precision", "recall", "F1", *more]
    rows = [
        [label, *_cells(counts), *(_number(metrics.labels.get(label, {}).get(name)) for name in more)]
        for label, counts in report.by_label().items()
    ]
    last = ["all", *_cells(report.in_all()), *(_number(metrics.figures.get(name)) for name in more)]
    return f"<h2>Labels</h2>{_table(heads, [*rows, last])}"


def _cells(counts: Counts) -> list[str]:
    shares = (counts.precision, counts.recall, counts.f1)
    return [*map(str, (counts.matched, counts.missed, counts.extra)), *map(_number, shares)]


def _figures(metrics: Metrics) -> str:
    rows = [[name, _number(figure)] for name, figure in metrics.figures.items()]
    return f"<h2>Figures</h2>{_table(['figure', 'value'], rows)}" if rows else ""


def _thresholds(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    heads = ["confidence", "matched", "missed", "extra", "precision", "recall", "F1"]
    names = ("threshold", "matched", "missed", "extra", "precision", "recall", "f1")
    cells = [[_number(row[name]) for name in names] for row in rows]
    points = " ".join(f"{300 * row['recall']:.1f},{150 - 150 * row['precision']:.1f}" for row in rows)
    curve = (
        '<svg class="curve" width="300" height="150" role="img" aria-label="precision over recall">'
        f'<polyline points="{points}"/></svg><p>Precision (up) over recall (right).</p>'
    )
    return f"<h2>Thresholds</h2>{curve}{_table(heads, cells)}"


def _confusion(confusion: Mapping[str, Mapping[str, int]]) -> str:
    if not confusion:
        return ""
    found = sorted({name for row in confusion.values() for name in row})
    rows = [[name, *(str(row.get(other, 0)) for other in found)] for name, row in confusion.items()]
    return f"<h2>Expected classes, and what each was taken for</h2>{_table(['', *found], rows)}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3f}"
