"""A flat CSV table of predictions, with a row for each box of a track, each action and each class."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from emulator.comparison.truth import snake_too

_NAMES = ("displayName", "type", "timeSegmentStart", "timeSegmentEnd", "confidence")
_FRAME = ("timeOffset", "xMin", "yMin", "xMax", "yMax")
_PLACE = ("video", "segmentStart", "segmentEnd")
COLUMNS = (*_PLACE, "number", "id", *_NAMES, *_FRAME)

Row = Mapping[str, str]


def write(lines: Sequence[tuple[str, tuple[float, float], Sequence[Mapping[str, Any]]]]) -> str:
    """Return the text of the table. `lines`: video, segment in seconds, and predictions."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for video, (start, end), predictions in lines:
        place = [video, repr(start), "" if math.isinf(end) else repr(end)]
        if not predictions:
            rows.writerow([*place, *[""] * (len(COLUMNS) - len(place))])
        for number, one in enumerate(predictions, start=1):
            own = [str(number), one.get("id", ""), *(_cell(snake_too(one, name)) for name in _NAMES)]
            for frame in one.get("frames") or [{}]:
                rows.writerow([*place, *own, *(_cell(snake_too(frame, name)) for name in _FRAME)])
    return text.getvalue()


def is_table(text: str) -> bool:
    return text.startswith(",".join(COLUMNS))


def read(text: str) -> Iterator[tuple[str, tuple[float, float], list[dict[str, Any]]]]:
    """Yield video, segment and predictions from a table. Raises ValueError, which names the row."""
    lines: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = {}
    for number, row in enumerate(_rows(text), start=2):
        if None in row.values() or None in row:
            raise ValueError(f"line {number}: it has not the {len(COLUMNS)} cells of the first line")
        try:
            _add(lines, row)
        except ValueError:
            raise ValueError(f"line {number}: it has a cell that is no number") from None
    for (video, start, end), some in lines.items():
        yield video, (float(start), float(end or "inf")), list(some.values())


def _rows(text: str) -> Iterator[dict[str, str]]:
    try:
        yield from csv.DictReader(io.StringIO(text))
    except csv.Error as error:
        raise ValueError(f"it is no CSV: {error}") from None


def _add(lines: dict[tuple[str, str, str], dict[str, dict[str, Any]]], row: Row) -> None:
    video, start, end = (row[name] for name in _PLACE)
    float(start), float(end or "inf")
    known = lines.setdefault((video, start, end), {})
    if not row["number"]:
        return
    one = known.setdefault(row["number"], {name: row[name] for name in ("id", *_NAMES) if row[name]})
    if "confidence" in one:
        one["confidence"] = float(one["confidence"])
    if row["timeOffset"]:
        edges = {name: float(row[name]) for name in _FRAME[1:] if row[name]}
        one.setdefault("frames", []).append({"timeOffset": row["timeOffset"], **edges})


def _cell(value: object) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)
