"""The recipes of docs/adding.md, applied to a copy of the project."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.docs.pages import ROOT, Block, blocks

PAGE = "docs/adding.md"
CHANGES = ("diff", "python")
RECIPES = list(dict.fromkeys(block.section for block in blocks(PAGE) if block.fence in CHANGES))

# With the compiled files, whose sources keep their times: only what a recipe changes is compiled again.
_COPIED = ("emulator", "tests", "docs", "pyproject.toml", "README.md", "CONTRIBUTING.md")
_LINKED = ("models", "examples", "benchmarks", "Makefile", ".ci")
_TIMEOUT_S = 540


def changes(recipe: str) -> list[Block]:
    """The blocks of a recipe that change or make a file, in order."""
    return [block for block in blocks(PAGE, section=recipe) if block.fence in CHANGES]


def commands(recipe: str) -> list[Block]:
    """The blocks of a recipe that prove the result."""
    return blocks(PAGE, "sh", recipe)


def target(block: Block) -> str:
    """The file that a block changes or makes, named by its first line."""
    found = re.match(r"(?:\+\+\+|#) (\S+)\n", block.text)
    assert found, f"{block}: its first line names no file"
    return found[1]


def copy_project(folder: Path) -> Path:
    """Copy what a change touches; what none does is linked."""
    for name in _COPIED:
        if (ROOT / name).is_dir():
            # Another process may just compile something, into a file that soon has another name.
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.pyc.*"))
        else:
            shutil.copy2(ROOT / name, folder)
    for name in _LINKED:
        (folder / name).symlink_to(ROOT / name)
    return folder


def apply(recipe: Iterable[Block], folder: Path) -> None:
    """Make the changes of some blocks in a copy, in order."""
    for block in recipe:
        path = folder / target(block)
        content = block.text.partition("\n")[2]
        if block.fence == "python":
            assert not path.exists(), f"{block}: {path.name} is there already"
            path.write_text(content, encoding="utf-8")
        else:
            path.write_text(_patched(path.read_text(encoding="utf-8"), content, block), encoding="utf-8")


def prove(recipe: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a recipe's commands in a copy, with the copy's package."""
    script = "\n".join(block.text for block in commands(recipe))
    # The installed command would do as well; the copy's is sure to be the copy's.
    script = script.replace("vertex-emulator ", "python -m emulator ")
    script = script.replace("-m pytest ", "-m pytest -q -p no:cacheprovider ")
    return run(["bash", "-euo", "pipefail", "-c", script], folder)


def run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a copy, with the copy's package."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
    }
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )


def _patched(text: str, content: str, block: Block) -> str:
    hunks = content.split("@@\n")
    assert hunks[0] == "", f"{block}: a change begins with @@"
    for hunk in hunks[1:]:
        lines = hunk.splitlines(keepends=True)
        assert {line[0] for line in lines} <= set(" +-\n"), f"{block}: a line begins with a space, + or -"
        before = "".join(line[1:] or "\n" for line in lines if line[0] != "+")
        after = "".join(line[1:] or "\n" for line in lines if line[0] != "-")
        # At the start of a line: what is shown of the place is whole lines.
        found = f"\n{text}".count(f"\n{before}")
        assert found == 1, f"{block}: its place is there {found} times in {target(block)}:\n{before}"
        text = f"\n{text}".replace(f"\n{before}", f"\n{after}")[1:]
    return text
