"""docs/control.md says what the control surface has: its routes, paces, kinds of faults and examples."""

import json
import re
from pathlib import Path

import pytest

from emulator.api.admin import PREFIX, Admin, AdminSurface, Probe
from emulator.api.origin import OriginGuard
from emulator.database import Database
from emulator.instructions.faults import KINDS, parse_plan
from emulator.instructions.header import parse_instructions
from emulator.instructions.pace import parse_pace
from emulator.registry import Registry
from emulator.service import Context, Service
from emulator.storage import LocalStore

TEXT = (Path(__file__).parents[2] / "docs" / "control.md").read_text(encoding="utf-8")


def first_column(title: str) -> list[str]:
    """The first cells of the table below a heading, or of the page's first table."""
    body = TEXT.partition(f"\n## {title}\n")[2] if title else TEXT
    rows = re.findall(r"^\| (`.+?`) \|", body.partition("\n## ")[0], re.MULTILINE)
    return [cell.strip("`") for cell in rows]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_page_lists_every_route_and_no_other(tmp_path: Path) -> None:
    database = Database("sqlite://")
    service = Service(Context(database, Registry([], tmp_path), LocalStore(tmp_path)))
    probe = Probe(ready=lambda: (True, {}), info=dict, gauges=dict)
    admin = Admin(AdminSurface(service, probe), OriginGuard([]))
    admin.close()
    service.close()
    database.close()
    there = {
        (method, PREFIX + route.path.replace(":path", "").replace("{fault}", "{id}"))
        for route in admin.routes
        for method in (route.methods or set()) - {"HEAD"}
    }
    listed = set()
    for cell in first_column(""):
        methods, _, path = cell.rpartition(" ")
        listed |= {(method, path) for method in methods.split(", ")}
    assert listed == there


@pytest.mark.parametrize("pace", first_column("Pace"))
def test_pace_of_the_table_is_one(pace: str) -> None:
    parse_pace(pace)


def test_page_lists_every_kind_of_fault_with_its_members() -> None:
    section = TEXT.partition("\n## Faults\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+?) \|", section, re.MULTILINE)
    assert {kind: tuple(re.findall(r"`(\w+)`", members)) for kind, members in rows} == dict(KINDS)


def test_examples_of_faults_are_plans() -> None:
    lines = [line for block in blocks("json") for line in block.splitlines() if line.startswith('{"on"')]
    assert len(lines) == 2
    for line in lines:
        parse_plan(json.loads(line))


def test_examples_of_the_header_can_be_read() -> None:
    lines = [line for line in TEXT.splitlines() if line.startswith("x-goog-emulator-instructions: ")]
    assert len(lines) == 5
    for line in lines:
        parse_instructions(line.partition(": ")[2])
