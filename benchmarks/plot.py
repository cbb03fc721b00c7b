"""Draws the bars of docs/performance.md as SVG, from the rows that benchmarks wrote."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from xml.sax.saxutils import escape

Row = Mapping[str, Any]

WIDTH, LABELS, FIGURES = 720, 190, 70
LINE, BAR = 24, 16
OURS, OTHERS, LIMIT = "#1a73e8", "#9aa0a6", "#34a853"
COLOURS = {"this emulator": OURS, "hard limit": LIMIT}


@dataclass(frozen=True)
class Bar:
    """One bar of a chart."""

    label: str
    value: float
    colour: str
    unit: str = ""


def draw(peers: Sequence[Row], memory: Sequence[Row]) -> str:
    """One chart a cell of bench_peers, and one of bench_memory where there is that."""
    charts = [
        (f"Tracking, {cell}: time / hard limit", [_peer(row) for row in rows])
        for cell, rows in groupby(peers, key=lambda row: str(row["cell"]))
    ]
    if memory:
        charts.append(
            ("Peak memory of a job", [Bar(row["video"], row["peak MB"], OURS, " MB") for row in memory])
        )
    parts: list[str] = []
    top = 0
    for title, bars in charts:
        parts += _chart(title, bars, top)
        top += (len(bars) + 2) * LINE
    return "\n".join([*_frame(top), *parts, "</svg>", ""])


def _peer(row: Row) -> Bar:
    name = str(row["what"])
    return Bar(name, row["/ limit"], COLOURS.get(name, OTHERS))


def _frame(height: int) -> Iterable[str]:
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">'
    yield f'<rect width="{WIDTH}" height="{height}" fill="white"/>'


def _chart(title: str, bars: Sequence[Bar], top: int) -> Iterable[str]:
    longest = max(bar.value for bar in bars)
    yield f'<text x="12" y="{top + LINE}" font-weight="bold">{escape(title)}</text>'
    for number, bar in enumerate(bars, start=1):
        y = top + number * LINE + 10
        width = bar.value / longest * (WIDTH - LABELS - FIGURES)
        text = y + BAR - 4
        yield f'<text x="{LABELS - 8}" y="{text}" text-anchor="end">{escape(bar.label)}</text>'
        yield f'<rect x="{LABELS}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{bar.colour}"/>'
        value = f"{bar.value:.0f}" if bar.value >= 100 else f"{bar.value:.2f}"
        yield f'<text x="{LABELS + width + 6:.1f}" y="{text}">{value}{bar.unit}</text>'
