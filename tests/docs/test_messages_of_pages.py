"""No text that a user of the package sees sends him to a page that only the repository has."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

_PAGE = re.compile(r"docs/[\w-]+\.md|\b[\w-]+\.md\b")
# A file that the emulator writes itself.
_OWN_FILES = {"RECORDING.md"}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# The command line shows the docstrings of its commands as help.
_SHOWS_DOCSTRINGS = ROOT / "emulator" / "cli"
SOURCES = sorted((ROOT / "emulator").rglob("*.py"))
OF_CONSOLE = [path for path in (ROOT / "emulator/api/console").rglob("*") if path.suffix in (".html", ".js")]


def texts(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    described = set() if path.is_relative_to(_SHOWS_DOCSTRINGS) else set(_docstrings(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in described:
            yield node.value


def _docstrings(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and node.body and isinstance(node.body[0], ast.Expr):
            yield node.body[0].value


def test_no_message_names_a_page() -> None:
    found = {
        path.name: [text for text in texts(path) if set(_PAGE.findall(text)) - _OWN_FILES] for path in SOURCES
    }
    assert {name: named for name, named in found.items() if named} == {}


@pytest.mark.parametrize("path", OF_CONSOLE, ids=lambda path: path.name)
def test_the_console_names_no_page(path: Path) -> None:
    shown = re.sub(r"/\*.*?\*/|^\s*//.*$", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert _PAGE.findall(shown) == []
