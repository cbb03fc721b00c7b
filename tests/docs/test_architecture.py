"""The state diagram and the walk of a job in docs/architecture.md against the code."""

import re
from pathlib import Path

from emulator.vertex.job_state import FORCED, TRANSITIONS, JobState

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"


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


def test_the_walk_of_a_job_and_its_objects_name_what_is_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    section = text[text.index("## Follow a job") : text.index("### The lease is a fence")]
    walk = section.split("```")[1]
    named = {f"{name}.py": "" for name in re.findall(r"^ +(\w+) ", walk, re.MULTILINE)}
    objects = re.findall(r"^\| `(\w+)` \| `(\w+\.py)` \|", section, re.MULTILINE)
    assert len(named) > 5
    assert len(objects) > 3
    for module, name in [*named.items(), *((module, name) for name, module in objects)]:
        code = (ROOT / "emulator" / "execution" / module).read_text(encoding="utf-8")
        assert not name or f"\nclass {name}" in code, f"{module} has no class {name}"
