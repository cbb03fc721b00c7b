"""A test runs every block of every page, or `NOT_RUN` says why none does."""

import importlib
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import PAGES, ROOT, Block, blocks, prose, read, runs

# Without a language: diagrams, layouts of folders, and HTTP requests that the prose explains.
NO_CODE = ""
DATA = ("json", "toml", "yaml")
# By page, language and, where only one section is meant, its heading.
NOT_RUN: dict[tuple[str, ...], str] = {
    ("docs/clients/data-tools.md", "python", "Airflow"): "Airflow is too large to install for a test",
    ("docs/clients/data-tools.md", "sh", "Airflow"): "Airflow is too large to install for a test",
    ("docs/clients/command-line.md", "powershell"): "PowerShell is not installed, as the page says",
    ("docs/models/export.md", "python"): "needs PyTorch or Transformers; tests/accuracy reads such graphs",
    ("docs/models/export.md", "sh"): "needs files that the frameworks export; tests/cli runs the commands",
    ("docs/models/providers.md", "sh"): "replaces a library of this environment; `make test-openvino` does",
    ("docs/observe.md", "text"): "a line of the log; tests/test_logs.py reads such lines",
    ("docs/deploy.md", "sh", "Run one server with systemd"): "needs systemd; tests/container reads the unit",
    ("docs/deploy.md", "sh", "Run it in Kubernetes"): "needs a cluster; tests/container reads the manifests",
    ("docs/deploy.md", "nginx"): "needs nginx; tests/container lets it read the block where it is installed",
    ("docs/docker.md", "sh"): "needs Docker; tests/container runs the images and reads the Compose file",
}
DATA_BLOCKS = [block for page in PAGES for block in blocks(page) if block.fence in DATA]
MAKE_BLOCKS = [block for page in PAGES for block in blocks(page, "sh") if block.text.startswith("make ")]
# Pages that lead to further ones.
_INDEXES = ("docs/clients.md", "docs/cloud-storage.md", "docs/models.md", "docs/testing.md")


def claimed() -> list[Block]:
    """The blocks that the tests of all folders say they run."""
    found: list[Block] = []
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        if "tests.docs.pages" not in file.read_text(encoding="utf-8"):
            continue
        module = importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
        for value in vars(module).values():
            found += getattr(value, "blocks_run", ())
    return found


def excused(block: Block) -> bool:
    return block.fence == NO_CODE or not NOT_RUN.keys().isdisjoint(_keys(block))


def _keys(block: Block) -> set[tuple[str, ...]]:
    return {(block.page, block.fence), (block.page, block.fence, block.section)}


def test_every_block_is_run_or_says_why_not() -> None:
    run = set(claimed())
    there = [block for page in PAGES for block in blocks(page)]
    assert [str(block) for block in there if block not in run and not excused(block)] == []
    assert [str(block) for block in run if excused(block)] == []


def test_every_excuse_is_needed() -> None:
    there = {key for page in PAGES for block in blocks(page) for key in _keys(block)}
    assert NOT_RUN.keys() - there == set()


@runs(*DATA_BLOCKS)
@pytest.mark.parametrize("block", DATA_BLOCKS, ids=str)
def test_data_can_be_read(block: Block) -> None:
    if block.fence == "toml":
        assert tomllib.loads(block.text)
    elif block.fence == "yaml":
        assert yaml.safe_load(block.text)
    else:
        assert all(isinstance(value, dict) for value in _json_values(block.text))


def _json_values(text: str) -> list[object]:
    decoder, found, text = json.JSONDecoder(), [], text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:].strip()
    return found


@runs(*MAKE_BLOCKS)
@pytest.mark.parametrize("block", MAKE_BLOCKS, ids=str)
def test_make_knows_its_targets(block: Block) -> None:
    for line in block.text.splitlines():
        targets = re.match(r"make ((?:[a-z-]+ ?)+)", line)
        assert targets, line
        known = ["make", "--dry-run", *targets[1].split()]
        done = subprocess.run(known, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / file).resolve() if file else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in _anchors(target), link


def _anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(str(page.relative_to(ROOT))), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_prose_is_wrapped(page: str) -> None:
    long = [
        line for line in prose(page).splitlines() if len(line) > 100 and not line.lstrip().startswith("|")
    ]
    assert [line for line in long if " " in line.strip()] == []


def test_readme_names_every_page() -> None:
    linked = set(re.findall(r"\]\((docs/[^)#]+\.md)", read("README.md")))
    for page in _INDEXES:
        linked |= {f"docs/{link}" for link in re.findall(r"\]\(([^)#:]+\.md)", read(page))}
    assert {page for page in PAGES if page.startswith("docs/")} <= linked
