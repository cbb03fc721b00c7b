"""Each recipe of docs/adding.md works as it stands: its blocks change a copy, its commands prove it."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Block, blocks, read, runs
from tests.docs.recipes import PAGE, RECIPES, apply, changes, commands, copy_project, prove, run, target

STEPS = [block for recipe in RECIPES for block in changes(recipe)]
# A test proves the others, and needs no proof itself.
NEEDED = [block for block in STEPS if not target(block).startswith("tests/")]


def recipe_of(block: Block) -> str:
    return f"{block.section}, {Path(target(block)).name}"


def sources(recipe: str) -> list[str]:
    """The Python files that a recipe touches."""
    return [target(block) for block in changes(recipe) if target(block).endswith(".py")]


@runs(*(block for block in blocks(PAGE) if block.section in RECIPES))
@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_works_on_a_copy(tmp_path: Path, recipe: str) -> None:
    copy_project(tmp_path)
    apply(changes(recipe), tmp_path)
    done = prove(recipe, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for command in (("ruff", "format", "--check"), ("ruff", "check", "--no-cache")):
        linted = run([*command, *sources(recipe)], tmp_path)
        assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_keeps_types_and_layers(tmp_path: Path, recipe: str) -> None:
    copy_project(tmp_path)
    apply(changes(recipe), tmp_path)
    for command in (["mypy", *sources(recipe)], ["lint-imports", "--no-cache"]):
        checked = run(command, tmp_path)
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.slow
@pytest.mark.parametrize("step", NEEDED, ids=recipe_of)
def test_no_step_of_a_recipe_can_be_left_out(tmp_path: Path, step: Block) -> None:
    copy_project(tmp_path)
    apply([block for block in changes(step.section) if block != step], tmp_path)
    assert prove(step.section, tmp_path).returncode != 0


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_ends_with_a_test_that_its_commands_run(recipe: str) -> None:
    made = target(changes(recipe)[-1])
    assert made.startswith("tests/")
    assert not (ROOT / made).exists()
    assert any(made in block.text for block in commands(recipe))


# How code names the three objectives: the enumeration's members, the words of model.toml, of schemata and of
# parameters, and the classes of predictions.
OBJECTIVE = re.compile(
    r"(?-i:Objective\.[A-Z])|ObjectTrack\b|ActionPrediction|ClassificationPrediction"
    r"|object[_ -]?tracking|action[_ -]?recognition|video[_ -]?classification"
    r"|[\"'`]classification\b|^ *classification:|(?:segment|shot|interval)[_-]classification",
    re.IGNORECASE | re.MULTILINE,
)


def test_files_of_an_objective_are_those_that_mention_one() -> None:
    section = read(PAGE).partition("\n## An objective\n")[2]
    listed = re.findall(r"^\| `(emulator/\S+)` \|", section, re.MULTILINE)
    assert len(listed) == len(set(listed))
    sources = [path for kind in ("py", "js") for path in (ROOT / "emulator").rglob(f"*.{kind}")]
    mentioning = {
        str(path.relative_to(ROOT)) for path in sources if OBJECTIVE.search(path.read_text(encoding="utf-8"))
    }
    assert set(listed) == mentioning, (
        f"Give a row to {sorted(mentioning - set(listed))}; these have no objective any more: "
        f"{sorted(set(listed) - mentioning)}"
    )


def test_files_of_an_executor_have_what_the_page_names() -> None:
    section = read(PAGE).partition("\n## An executor\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([^`<]+)` \| (.+) \|$", section, re.MULTILINE)
    assert len(rows) > 3
    for path, needed in rows:
        text = read(path)
        assert [name for name in re.findall(r"`(\w+)`", needed) if name not in text] == []
