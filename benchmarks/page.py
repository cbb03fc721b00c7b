"""Puts the figures of benchmarks/results into docs/performance.md, and draws its plot: `page.py [FOLDER]`.

Between `<!-- table: NAME -->` and `<!-- end -->` the page holds the table of NAME.json; what was not measured
stays as it is. The table `goals` is made of all of them.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plot import draw

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = Path(__file__).parent / "results"

Row = Mapping[str, Any]
Figure = Callable[[Sequence[Row]], float]


def worst(column: str, **where: str) -> Figure:
    """The largest figure of the rows whose columns begin so."""
    return lambda rows: max(_figures(rows, column, where))


def best(column: str, **where: str) -> Figure:
    """The smallest one."""
    return lambda rows: min(_figures(rows, column, where))


def _figures(rows: Sequence[Row], column: str, where: Mapping[str, str]) -> list[float]:
    picked = [row for row in rows if all(str(row[key]).startswith(text) for key, text in where.items())]
    return [float(row[column]) for row in picked]


@dataclass(frozen=True)
class Goal:
    """A figure of a benchmark, and what it must not exceed, or must reach."""

    what: str
    benchmark: str
    figure: Figure
    bound: float
    unit: str = ""
    at_least: bool = False

    def row(self, results: Mapping[str, Sequence[Row]]) -> Row:
        try:
            figure = self.figure(results[self.benchmark])
        except (KeyError, ValueError):  # no file, or none of these rows
            figure = None
        reached = figure is not None and (figure >= self.bound if self.at_least else figure <= self.bound)
        return {
            "what": self.what,
            "by": f"`bench_{self.benchmark}.py`",
            "figure": "-" if figure is None else f"{_text(figure)} {self.unit}".strip(),
            "goal": f"{'≥' if self.at_least else '≤'} {self.bound:g} {self.unit}".strip(),
            "reached": "not measured" if figure is None else "yes" if reached else "**no**",
        }


GOALS = (
    Goal("tracking / hard limit, worst cell", "pipeline", worst("job / limit", cell="tracking"), 1.20),
    Goal("tracking / hard limit, best cell", "pipeline", best("job / limit", cell="tracking"), 1.12),
    Goal("action recognition / hard limit", "pipeline", worst("job / limit", cell="actions"), 1.12),
    Goal("CPU time / the limit's, worst cell", "pipeline", worst("CPU job / limit"), 1.12),
    Goal("PyAV, tracking / hard limit, worst cell", "pipeline", worst("job / limit", cell="PyAV, t"), 1.12),
    Goal("PyAV, CPU time / the limit's, worst cell", "pipeline", worst("CPU job / limit", cell="PyAV"), 1.12),
    Goal(
        "times as fast as the naive loop, worst cell",
        "peers",
        best("/ emulator", what="naive"),
        1.7,
        at_least=True,
    ),
    Goal(
        "times as fast as ultralytics, worst cell",
        "peers",
        best("/ emulator", what="ultralytics"),
        2,
        at_least=True,
    ),
    Goal("a frame of 9,000 / of 900", "scaling", worst("ratio", what="length: 9,000"), 1.05),
    Goal("an instance of 1,000 / of 10", "scaling", worst("ratio", what="instances: 1,000"), 1.05),
    Goal("an instance of 1,000,000 / of 1,000", "instances", worst("ratio", instances="1,000,000"), 1.2),
    Goal("server's memory, 1,000,000 instances", "instances", worst("peak MB"), 300, "MB"),
    Goal("p99 of a list meanwhile", "instances", worst("list p99 ms"), 250, "ms"),
    Goal("30 overlapping segments / one", "scaling", worst("ratio", what="overlap: 30 segments"), 1.2),
    Goal("tracking / hard limit, worst size of picture", "scaling", worst("ratio", what="picture"), 1.20),
    Goal("first job with the cache / without", "cache", worst("ratio", what="the first"), 1.02),
    Goal("the same job again / the first", "cache", worst("ratio", what="the same"), 0.05),
    Goal("another threshold / the first job", "cache", worst("ratio", what="another"), 0.05),
    Goal("memory, 3 hours over 1 minute", "memory", worst("MB more", video="3 hours"), 10, "MB"),
    Goal("peak memory, 1080p", "memory", worst("peak MB", video="1080p"), 300, "MB"),
    Goal("peak memory, 2160p", "memory", worst("peak MB", video="2160p"), 450, "MB"),
    Goal("tracker, 100 objects", "tracker", worst("ms a frame", tracker="bytetrack", objects="100"), 1, "ms"),
    Goal("start-up / imports alone", "startup", worst("ratio", what="start to first"), 1.4),
    Goal("server's memory at idle", "startup", worst("median", what="server's memory"), 85, "MB"),
    Goal("overhead of a job", "fixture", worst("figure", what="overhead of a job"), 15, "ms"),
    Goal("first job / steady job", "fixture", worst("figure", what="first job"), 1.5),
    Goal("fixture start to first success", "fixture", worst("figure", what="fixture start"), 2, "s"),
    Goal(
        "100 tests, canned model",
        "fixture",
        worst("figure", what="100 tests over a canned model, -n"),
        15,
        "s",
    ),
    Goal("100 tests, ONNX model / canned", "fixture", worst("figure", what="ONNX / canned"), 1.15),
    Goal("create / moto's", "api", worst("ratio", what="create, 1 client, REST"), 0.35),
    Goal("get / moto's", "api", worst("ratio", what="get, 1 client, REST"), 0.35),
    Goal("list / moto's", "api", worst("ratio", what="list, 1 client, REST"), 0.35),
    Goal("list of 10, 20,000 jobs / 10 jobs", "api", worst("ratio", what="list of 10, 20000"), 1.5),
    Goal("p99 of a get while a job runs", "api", worst("p99 ms", what="get while"), 25, "ms"),
)


def fill(page: str, results: Mapping[str, Sequence[Row]]) -> str:
    """The page with the tables of the results."""
    tables = {name: table(rows) for name, rows in results.items()}
    tables["goals"] = table([goal.row(results) for goal in GOALS])

    def replaced(found: re.Match[str]) -> str:
        name = found["name"]
        return f"<!-- table: {name} -->\n{tables[name]}<!-- end -->" if name in tables else found[0]

    return re.sub(r"<!-- table: (?P<name>\w+) -->\n.*?<!-- end -->", replaced, page, flags=re.DOTALL)


def table(rows: Sequence[Row]) -> str:
    """Rows of equal keys in Markdown."""
    lines = [
        list(rows[0]),
        ["---"] * len(rows[0]),
        *([_text(value) for value in row.values()] for row in rows),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _text(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def read(folder: Path) -> dict[str, Sequence[Row]]:
    """What benchmarks wrote there: name -> rows."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8"))["rows"] for path in folder.glob("*.json")}


def main(folder: Path = RESULTS) -> None:
    results = read(folder)
    page = DOCS / "performance.md"
    page.write_text(fill(page.read_text(encoding="utf-8"), results), encoding="utf-8")
    if "peers" in results:
        (DOCS / "performance.svg").write_text(
            draw(results["peers"], results.get("memory", ())), encoding="utf-8"
        )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
