"""The console's page of the first prediction that is not as a test expects it to be."""

from __future__ import annotations

import hashlib
import io
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emulator.comparison.lines import as_line, segment_of
from emulator.comparison.matching import Expected, Found, nearest, pairs
from emulator.testing.control import ControlError, job_path
from emulator.vertex.names import console_path
from emulator.vertex.predictions import duration_text

if TYPE_CHECKING:
    from emulator.testing.vertex import VertexEmulator


@dataclass(frozen=True)
class Line:
    """A line of output: its instance, its predictions, and what is expected of it."""

    instance: Mapping[str, Any]
    found: Sequence[Found]
    wanted: list[Expected]

    @property
    def differences(self) -> list[float]:
        """The start of each prediction that is missing or not expected, in seconds."""
        given = pairs(self.wanted, self.found)
        taken = set(given.values())
        missed = [one.start for place, one in enumerate(self.wanted) if place not in given]
        return missed + [one.start for place, one in enumerate(self.found) if place not in taken]

    @property
    def text(self) -> str:
        """The line as it stands in a file of expected predictions."""
        start, end = (self.instance.get(name) for name in ("timeSegmentStart", "timeSegmentEnd"))
        return as_line(str(self.instance["content"]), segment_of(start, end), self.wanted)


def of_list(
    wanted: Sequence[Expected], lines: Sequence[tuple[Mapping[str, Any], Sequence[Found]]]
) -> list[Line]:
    """The lines of predictions that should match a list exactly. Each expectation is placed at its own
    prediction, or else at the nearest one."""
    placed = [Line(instance, found, []) for instance, found in lines]
    flat = [(line, one) for line in placed for one in line.found]
    given = pairs(wanted, [one for _, one in flat])
    for place, each in enumerate(wanted):
        at = given.get(place, _nearest_place(each, flat))
        (placed[0] if at is None else flat[at][0]).wanted.append(each)
    return placed


def of_one(wanted: Expected, lines: Sequence[tuple[Mapping[str, Any], Sequence[Found]]]) -> list[Line]:
    """The line with the prediction nearest to one expectation; the other predictions are left out."""
    flat = [(line, one) for line in (Line(*line, []) for line in lines) for one in line.found]
    at = _nearest_place(wanted, flat)
    if at is None:
        return [Line(*lines[0], [wanted])] if lines else []
    line, near = flat[at]
    return [Line(line.instance, [near], [wanted])]


def _nearest_place(wanted: Expected, flat: Sequence[tuple[Line, Found]]) -> int | None:
    near = nearest(wanted, [one for _, one in flat])
    return next((place for place, (_, one) in enumerate(flat) if one is near), None)


def link(emulator: VertexEmulator, job: str, lines: Sequence[Line]) -> str | None:
    """Write the expectations into the test's bucket. Returns the console's address of the first difference.

    None if there is no console, or no such page.
    """
    first = next((line for line in lines if line.differences), None)
    if first is None or not emulator.server.settings.console:
        return None
    text = "".join(line.text for line in lines)
    name = f"expected/{hashlib.sha256(text.encode()).hexdigest()[:12]}.jsonl"
    try:
        number = _number(emulator, job, first.instance)
        uri = emulator.put(name, io.BytesIO(text.encode()))
    except (ControlError, OSError, StopIteration, ValueError):
        return None
    query = {"with": uri, "t": duration_text(round(min(first.differences) * 1e6))}
    return f"{emulator.url}{console_path(job)}/results/{number}?{urllib.parse.urlencode(query)}"


def _number(emulator: VertexEmulator, job: str, instance: Mapping[str, Any]) -> int:
    """The number of an instance's line in the input. Raises StopIteration."""
    names = ("timeSegmentStart", "timeSegmentEnd")
    wanted = [instance["content"], *(instance.get(name) or "" for name in names)]
    rows = _rows(emulator, job)
    return next(
        int(row["number"])
        for row in rows
        if [row.get("video"), *(row.get(name) or "" for name in names)] == wanted
    )


def _rows(emulator: VertexEmulator, job: str) -> Iterator[Mapping[str, Any]]:
    page, pages = 1, 1
    while page <= pages:
        shown = emulator.control.get(f"{job_path(job)}/results", page=page)
        yield from shown["results"]
        page, pages = page + 1, int(shown["pages"])
