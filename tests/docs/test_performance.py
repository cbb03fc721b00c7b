"""docs/performance.md against the benchmarks: each is named, and has a place for its table."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
BENCHMARKS = sorted(path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("bench_*.py"))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_page_names_the_benchmark_and_has_its_table(name: str) -> None:
    assert f"`bench_{name}.py`" in TEXT
    assert f"`benchmarks/run.py {name}`" in TEXT
    assert len(re.findall(rf"<!-- table: {name} -->\n\|.*?<!-- end -->", TEXT, re.DOTALL)) == 1


def test_page_has_no_table_of_anything_else() -> None:
    assert set(re.findall(r"<!-- table: (\w+) -->", TEXT)) == {*BENCHMARKS, "goals", "machine"}


def test_every_goal_is_on_the_page() -> None:
    from page import GOALS

    for goal in GOALS:
        assert f"| {goal.what} | `bench_{goal.benchmark}.py` |" in TEXT
        assert goal.benchmark in BENCHMARKS
