"""Every Python block of the pages about pytest runs as it stands, in a folder outside the repository."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.docs import pages
from tests.docs.pages import ROOT, read, runs

PAGES = ("docs/testing.md", "docs/testing/recipes.md", "docs/testing/scopes.md")
FIXTURES, RECIPES, _ = map(read, PAGES)
ALL = "\n".join(map(read, PAGES))
BLOCKS = [block for page in PAGES for block in pages.blocks(page, "python")]


def blocks(text: str = ALL) -> dict[str, str]:
    """The Python blocks by the file name that their first line gives."""
    found = re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(found) == len(re.findall(r"^```python$", text, re.MULTILINE))
    return dict(found)


def run_page(
    python: str | Path, folder: Path, environment: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Run the pages' tests and script with an interpreter; gives how many tests passed by file."""
    for name, text in blocks().items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n")
    options = ["-p", "no:schemathesis", "-p", "no:cacheprovider", "--junitxml", "report.xml"]
    for command in ([python, "-m", "pytest", "-q", *options], [python, "without_pytest.py"]):
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=540, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    passed: dict[str, int] = {}
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        module, *_ = case.attrib["classname"].split(".")  # then the class
        name = f"{module}.py"
        passed[name] = passed.get(name, 0) + 1
    return passed


@runs(*BLOCKS)
@pytest.mark.slow
def test_pages_run(tmp_path: Path) -> None:
    passed = run_page(sys.executable, tmp_path)
    for name, text in blocks().items():
        assert passed.get(name, 0) >= len(re.findall(r"^def test_", text, re.MULTILINE))


def test_page_has_ten_recipes_with_a_test_each() -> None:
    recipes = re.findall(r"^### (\d+)\. .*?\n(.*?)(?=^##|\Z)", RECIPES, re.MULTILINE | re.DOTALL)
    assert [int(number) for number, _ in recipes] == list(range(1, 11))
    for _, text in recipes:
        ((_, block),) = blocks(text).items()
        assert "def test_" in block


def test_every_fixture_that_is_named_exists() -> None:
    plugin = (ROOT / "emulator" / "testing" / "plugin.py").read_text(encoding="utf-8")
    fixtures = set(re.findall(r"@pytest\.fixture.*\ndef ([a-z]\w+)\(", plugin))
    named = set(re.findall(r"^\| `(\w+)` \|", FIXTURES, re.MULTILINE))
    assert fixtures <= named


def test_every_key_of_the_configuration_is_listed() -> None:
    plugin = (ROOT / "emulator" / "testing" / "plugin.py").read_text(encoding="utf-8")
    keys = set(re.findall(r'^_\w+_OPTION = "(\w+)"$', plugin, re.MULTILINE))
    listed = FIXTURES.partition("pytest's configuration:")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", listed, re.MULTILINE)) == keys != set()
