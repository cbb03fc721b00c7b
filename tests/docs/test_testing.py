"""Every Python block of docs/testing.md runs as it stands, in a folder outside the repository."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"^### (\d+)\. .*?\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)


def blocks(text: str = PAGE) -> dict[str, str]:
    """The Python blocks by the file name that their first line gives."""
    found = re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(found) == len(re.findall(r"^```python$", text, re.MULTILINE))
    return dict(found)


def run_page(
    python: str | Path, folder: Path, environment: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Run the page's tests and script with an interpreter; gives how many tests passed by file."""
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
        name = f"{case.attrib['classname']}.py"
        passed[name] = passed.get(name, 0) + 1
    return passed


@pytest.mark.slow
def test_page_runs(tmp_path: Path) -> None:
    passed = run_page(sys.executable, tmp_path)
    for name, text in blocks().items():
        assert passed.get(name, 0) >= len(re.findall(r"^def test_", text, re.MULTILINE))


def test_page_has_ten_recipes_with_a_test_each() -> None:
    assert [int(number) for number, _ in RECIPES] == list(range(1, 11))
    for _, text in RECIPES:
        ((_, block),) = blocks(text).items()
        assert "def test_" in block


def test_every_fixture_that_is_named_exists() -> None:
    plugin = (ROOT / "emulator" / "testing" / "plugin.py").read_text(encoding="utf-8")
    fixtures = set(re.findall(r"@pytest\.fixture.*\ndef ([a-z]\w+)\(", plugin))
    named = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert fixtures <= named


def test_linked_files_exist() -> None:
    linked = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert linked
    assert [link for link in linked if not (ROOT / "docs" / link).exists()] == []
