"""The state diagram of docs/architecture.md against the table in code."""

import re
from pathlib import Path

from emulator.vertex.job_state import FORCED, TRANSITIONS, JobState

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"


def test_the_page_lists_every_transition_of_the_table_and_no_other() -> None:
    rows = re.findall(
        r"^\| ([a-z]) \| ([A-Z_]+) \| ([A-Z_]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {letter: (JobState[start], JobState[end]) for letter, start, end in rows} == {
        **TRANSITIONS,
        **FORCED,
    }


def test_the_diagram_draws_every_letter_once() -> None:
    text = PAGE.read_text(encoding="utf-8")
    diagram = text[text.index("### States") : text.index("| edge |")]
    assert sorted(re.findall(r"-([a-z])-", diagram)) == sorted(TRANSITIONS)
