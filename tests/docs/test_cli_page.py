"""docs/cli.md says what the command line has."""

import re
from pathlib import Path

from typer.main import get_command

from emulator.cli import build, jobs
from tests.docs.conftest import Place
from tests.docs.pages import blocks, runs

TEXT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")

(FIRST,) = blocks("docs/cli.md", "sh")


@runs(FIRST)
def test_first_commands_run(own_place: Place) -> None:
    printed = own_place.bash(FIRST)
    assert "/batchPredictionJobs/" in printed
    assert "JOB_STATE_SUCCEEDED" in printed or "SUCCEEDED" in printed


def test_page_lists_every_command() -> None:
    listed = set()
    for cell in re.findall(r"^\| (`.+?`) \| \D", TEXT, re.MULTILINE):
        group, *others = re.findall(r"`([a-z ]+?)(?: [A-Z]+)*`", cell)
        listed |= {group, *(f"{group.partition(' ')[0]} {other}" for other in others)}
    there = set()
    for name, command in get_command(build()).commands.items():  # type: ignore[attr-defined]
        subs = getattr(command, "commands", {})
        there |= {f"{name} {sub}" for sub in subs} or {name}
    assert listed == there


def test_page_lists_the_exit_statuses() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| (.+?) \|", TEXT, re.MULTILINE))
    for state, status in jobs.EXIT_STATUSES.items():
        assert state.removeprefix("JOB_STATE_").lower() in rows[str(status)]
    assert {int(status) for status in rows} == {
        0, 1, 2, *jobs.EXIT_STATUSES.values(), jobs.OTHER_STATE, jobs.TIMED_OUT
    }  # fmt: skip
