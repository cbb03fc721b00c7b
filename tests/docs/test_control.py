"""The pages about the control surface say what it has, and their examples do what they say."""

import json
import os
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from emulator.api.admin import PREFIX, Admin, AdminSurface, Probe
from emulator.api.rest import OWN_ROUTES
from emulator.api.results import Reading
from emulator.database import Database
from emulator.execution.comparing import Comparing
from emulator.execution.looker import Looker
from emulator.execution.results import Results
from emulator.instructions.faults import KINDS, parse_plan
from emulator.instructions.header import parse_instructions
from emulator.instructions.pace import parse_pace
from emulator.registry import Registry
from emulator.service import Context, Service
from emulator.storage import LocalStore
from tests.docs.conftest import BIN, Place, job_of
from tests.docs.pages import blocks, read, runs

PAGE = "docs/control.md"
TEXT = read(PAGE)
CALLS, *_ = blocks(PAGE, "sh")
OBSERVE, *_ = blocks("docs/observe.md", "sh")
SNAPSHOT, *_ = blocks("docs/snapshots.md", "sh")
UPGRADE, SAVE = blocks("docs/upgrade.md", "sh")


def first_column(title: str) -> list[str]:
    """The first cells of the table below a heading, or of the page's first table."""
    body = TEXT.partition(f"\n## {title}\n")[2] if title else TEXT
    rows = re.findall(r"^\| (`.+?`) \|", body.partition("\n## ")[0], re.MULTILINE)
    return [cell.strip("`") for cell in rows]


def test_page_lists_every_route_and_no_other(tmp_path: Path) -> None:
    database = Database("sqlite://")
    service = Service(Context(database, Registry([], tmp_path), LocalStore(tmp_path)))
    probe = Probe(ready=lambda: (True, {}), info=dict, gauges=dict, check_input=lambda _: {})
    store = LocalStore(tmp_path)
    results = Results(store, tmp_path / "results")
    reading = Reading(results, Comparing(results, store), Looker(store), store)
    admin = Admin(AdminSurface(service, probe), reading)
    admin.close()
    service.close()
    database.close()
    there = {
        (method, PREFIX + route.path.replace(":path", "").replace("{fault}", "{id}"))
        for route in admin.routes
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert sorted({path.split("/")[2] for _, path in there} | {"session"}) == list(OWN_ROUTES)
    listed = set()
    for cell in first_column(""):
        methods, _, path = cell.rpartition(" ")
        listed |= {(method, path) for method in methods.split(", ")}
    assert listed == there


@pytest.mark.parametrize("pace", first_column("Pace"))
def test_pace_of_the_table_is_one(pace: str) -> None:
    parse_pace(pace)


def test_page_lists_every_kind_of_fault_with_its_members() -> None:
    section = TEXT.partition("\n### Make a job fail\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+?) \|", section, re.MULTILINE)
    assert {kind: tuple(re.findall(r"`(\w+)`", members)) for kind, members in rows} == dict(KINDS)


def test_examples_of_faults_are_plans() -> None:
    lines = [
        line for block in blocks(PAGE, "json") for line in block.text.splitlines() if line.startswith('{"on"')
    ]
    assert len(lines) == 3
    for line in lines:
        parse_plan(json.loads(line))


def test_examples_of_the_header_can_be_read() -> None:
    lines = [line for line in TEXT.splitlines() if line.startswith("x-goog-emulator-instructions: ")]
    assert len(lines) == 5
    for line in lines:
        parse_instructions(line.partition(": ")[2])


@runs(CALLS)
def test_pace_fault_and_journal(place: Place) -> None:
    printed = place.bash(CALLS)
    assert '"pace": "immediate"' in printed
    assert '"method": "GetBatchPredictionJob"' in printed
    assert '"forgotten": 0' in printed
    place.run_text("curl -s -X DELETE localhost:$VERTEX_EMULATOR_PORT/_emulator/faults", ["bash", "-euc"])


@runs(OBSERVE)
def test_journal_explanation_and_events(place: Place) -> None:
    create = blocks("docs/clients/command-line.md", "sh", "curl")[-1]
    job = job_of(place.run(create, ["bash", "-uc"]))
    text = OBSERVE.at(place.ports).replace("JOB", job).replace("curl -N", "curl -N --max-time 2")
    # The stream ends by the time limit, 28.
    printed = place.run_text(f"{text.rstrip()} || test $? = 28", ["bash", "-euc"])
    assert '"method": "JobService/CreateBatchPredictionJob"' in printed
    assert '"notHonoured": []' in printed


@runs(SNAPSHOT, SAVE)
def test_state_is_reset_saved_and_loaded(own_place: Place) -> None:
    for block in (SNAPSHOT, SAVE):
        assert '"files"' in own_place.bash(block)
        assert zipfile.is_zipfile(own_place.folder / "state.zip")


@runs(UPGRADE)
@pytest.mark.slow
def test_data_folder_is_copied_and_served_again(tmp_path: Path) -> None:
    stop, copy, install, serve = UPGRADE.text.splitlines()
    assert install.startswith("pip install --upgrade .")
    script = f"""
        ready() {{ until grep -q "^Ready:" "$1"; do kill -0 "$2"; sleep 0.2; done; }}
        {serve} > first & SERVER=$!
        ready first $SERVER
        {stop}
        wait $SERVER || true
        {copy}
        {serve} > second & SERVER=$!
        ready second $SERVER
        kill $SERVER
        wait $SERVER || true
    """
    environment = {
        **os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "VERTEX_EMULATOR_PORT": "0",
        "VERTEX_EMULATOR_BUNDLED_MODELS": "false",
    }  # fmt: skip
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, env=environment, timeout=540, check=True)
    assert (tmp_path / "backup-of-vertex-emulator-data" / "emulator.db").exists()
