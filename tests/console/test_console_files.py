"""The console's files: whole, ours or known, and of a bounded size."""

import hashlib
import json
import re
from pathlib import Path

import pytest

import emulator.api

FOLDER = Path(emulator.api.__file__).with_name("console")
THIRD_PARTY = FOLDER / "third_party"
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
OWN = [path for path in FILES if THIRD_PARTY not in path.parents]
# What a browser needs before it shows the list of jobs, and all there is; docs/console.md gives the reasons.
MAX_FIRST_BYTES, MAX_OWN_BYTES = 120_000, 250_000


def test_vendored_files_are_the_published_ones() -> None:
    versions = json.loads((THIRD_PARTY / "versions.json").read_text())
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in THIRD_PARTY.iterdir()}
    del found["versions.json"]
    assert found == {name: entry["sha256"] for name, entry in versions.items()}


def test_vendored_code_has_its_licences() -> None:
    versions = json.loads((THIRD_PARTY / "versions.json").read_text())
    assert all(
        (THIRD_PARTY / licence).is_file()
        for entry in versions.values()
        for licence in entry.get("licences", [])
    )
    assert "Apache License" in (THIRD_PARTY / "LICENSE-htm.txt").read_text()
    assert "MIT" in (THIRD_PARTY / "LICENSE-preact.txt").read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_loads_anything_from_elsewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".txt":  # a licence
        return
    urls = set(re.findall(r"https?://[\w.-]+", text)) - {"http://www.w3.org", "https://www.w3.org"}
    assert urls == set()


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_no_file_makes_markup_or_code_from_text(path: Path) -> None:
    forbidden = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function")
    text = path.read_text(encoding="utf-8")
    assert [word for word in (*forbidden, "dangerouslySetInnerHTML") if word in text] == []


def test_imports_name_files_that_are_there() -> None:
    for path in OWN:
        if path.suffix == ".js":
            for name in re.findall(r"""(?:from|import\()\s*["'](\.[^"']+)["']""", path.read_text("utf-8")):
                assert (path.parent / name).is_file(), f"{path.name} imports {name}"


def imported(name: str, known: frozenset[str] = frozenset()) -> frozenset[str]:
    """A module and what it imports before it runs."""
    known |= {name}
    for other in re.findall(r"""from "\./([\w-]+\.js)\"""", (FOLDER / name).read_text("utf-8")):
        known = known if other in known else imported(other, known)
    return known


def test_size_of_own_code() -> None:
    first = imported("main.js") | imported("jobs.js") | {"console.css"}
    assert {"api.js", "ui.js", "jobs.js"} <= first
    assert sum((FOLDER / name).stat().st_size for name in first) <= MAX_FIRST_BYTES
    assert sum(path.stat().st_size for path in OWN if path.suffix in (".js", ".css")) <= MAX_OWN_BYTES
