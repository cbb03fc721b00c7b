"""The page of figures is made of what benchmarks write, mechanically."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from measure import report
from page import GOALS, Goal, best, fill, read, worst
from plot import draw

PAGE = "# Title\n<!-- table: memory -->\nold\n<!-- end -->\n<!-- table: peers -->\nkept\n<!-- end -->\n"
MEMORY = [{"video": "1 minute", "peak MB": 140.04}, {"video": "1080p", "peak MB": 1222.2}]
SVG = "{http://www.w3.org/2000/svg}"


def peer(what: str, ratio: float, cell: str = "720p, every frame") -> dict[str, object]:
    return {"cell": cell, "what": what, "/ limit": ratio}


def test_tables_are_replaced_and_what_was_not_measured_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report("Memory", MEMORY, tmp_path / "memory.json")
    assert "1 minute" in capsys.readouterr().out

    filled = fill(PAGE, read(tmp_path))

    table = "| video | peak MB |\n| --- | --- |\n| 1 minute | 140 |\n| 1080p | 1,222 |\n"
    assert filled == PAGE.replace("old\n", table)
    assert fill(filled, read(tmp_path)) == filled


def test_goals_say_what_is_reached_what_is_missed_and_what_was_not_measured() -> None:
    page = "<!-- table: goals -->\n<!-- end -->"
    results = {
        "pipeline": [
            {"cell": "tracking, 720p", "job / limit": 1.1, "CPU job / limit": 1.0},
            {"cell": "tracking, 1080p", "job / limit": 1.3, "CPU job / limit": 1.05},
        ],
        "peers": [
            {"cell": "a", "what": "naive loop", "/ emulator": 2.0},
            {"cell": "b", "what": "naive loop", "/ emulator": 1.6},
        ],
    }

    lines = fill(page, results).splitlines()

    assert "| tracking / hard limit, worst cell | `bench_pipeline.py` | 1.30 | ≤ 1.2 | **no** |" in lines
    assert "| tracking / hard limit, best cell | `bench_pipeline.py` | 1.10 | ≤ 1.12 | yes |" in lines
    assert (
        "| times as fast as the naive loop, worst cell | `bench_peers.py` | 1.60 | ≥ 1.7 | **no** |" in lines
    )
    assert "| times as fast as ultralytics, worst cell | `bench_peers.py` | - | ≥ 2 | not measured |" in lines
    assert len(lines) == len(GOALS) + 4


def test_figures_are_picked_by_the_beginning_of_columns() -> None:
    rows = [{"objects": 5, "ms": 1.0}, {"objects": 100, "ms": 3.0}, {"objects": 100, "ms": 2.0}]
    assert worst("ms", objects="100")(rows) == 3.0
    assert best("ms", objects="100")(rows) == 2.0
    assert Goal("x", "y", worst("ms", objects="7"), 1).row({"y": rows})["reached"] == "not measured"


def test_bars_are_as_long_as_their_figures() -> None:
    rows = [peer("hard limit", 1.0), peer("this emulator", 1.25), peer("ultralytics", 2.5)]

    picture = ElementTree.fromstring(draw([*rows, peer("a < b", 3.0, "1080p")], MEMORY))

    bars = [float(bar.attrib["width"]) for bar in picture.iter(f"{SVG}rect")][1:]
    assert bars[2] / bars[1] == pytest.approx(2, abs=0.01)
    assert bars[2] / bars[0] == pytest.approx(2.5, abs=0.01)
    texts = [text.text or "" for text in picture.iter(f"{SVG}text")]
    assert {"a < b", "1.25", "2.50", "1222 MB", "Tracking, 1080p: time / hard limit"} <= set(texts)
    lowest = max(float(bar.attrib["y"]) for bar in list(picture.iter(f"{SVG}rect"))[1:])
    assert lowest < float(picture.attrib["height"])


def test_every_picked_column_is_one_that_its_benchmark_writes() -> None:
    folder = Path(__file__).parents[2] / "benchmarks"
    picks = re.findall(
        r'"(\w+)",\s+(?:worst|best)\("([^"]+)"', (folder / "page.py").read_text(encoding="utf-8")
    )
    assert len(picks) == len(GOALS)
    for name, column in picks:
        assert f'"{column}":' in (folder / f"bench_{name}.py").read_text(encoding="utf-8")
