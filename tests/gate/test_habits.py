"""`make help`, the hooks before a commit, the example of a workflow and CONTRIBUTING.md fit the gate."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.gate.test_gate import tiers

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / "examples" / "ci" / "github-actions.yml"
# The groups of `make help` in their order, and targets that each has at least.
GROUPS = {
    "Use": {"help", "demo", "serve"},
    "Test": {"test", "check", "test-fast"},
    "Slower tiers, each by itself": {*tiers(), "test-fuzz", "test-accuracy", "test-all"} - {"test"},
    "Maintain": {"format", "lock", "clean"},
}


def make(*arguments: str) -> str:
    """What make prints; variables of a make that runs these tests are not for this one."""
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def targets() -> set[str]:
    """The targets that are commands."""
    line = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert line
    return set(line[1].split())


def help_groups() -> dict[str, dict[str, str]]:
    """What `make help` prints: the text of each target, by group."""
    groups: dict[str, dict[str, str]] = {}
    for line in make("help").splitlines():
        if line.startswith("  "):
            name, text = line.split(maxsplit=1)
            groups[list(groups)[-1]][name] = text
        elif line:
            groups[line] = {}
    return groups


def steps(workflow: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """The commands of a workflow, each with its job."""
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            if "run" in step:
                yield job, step["run"]


def made(job: dict[str, Any], command: str) -> set[str]:
    """The targets that a command makes, over the whole matrix of its job."""
    name = re.search(r"\bmake (.+)$", command)
    assert name, command
    matrix = job.get("strategy", {}).get("matrix", {})
    if placeholder := re.fullmatch(r"\$\{\{ matrix\.(\w+) \}\}", name[1]):
        return {target for entry in matrix[placeholder[1]] for target in entry.split()}
    return set(name[1].split())


def test_help_lists_every_target_in_a_group() -> None:
    groups = help_groups()
    listed = [name for group in groups.values() for name in group]
    assert sorted(listed) == sorted(targets())
    assert list(groups) == list(GROUPS)
    for group, names in GROUPS.items():
        assert names <= groups[group].keys(), group


def test_help_fits_80_columns() -> None:
    assert [line for line in make("help").splitlines() if len(line) > 80] == []


def test_make_alone_shows_the_help() -> None:
    assert make() == make("help")


def test_hooks_are_the_commands_of_make_check() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert repository["repo"] == "local"  # any other is downloaded
    # As if the environment were there: what is left are the commands of `check` itself.
    printed = make("--dry-run", "check", "VENV=.venv", "--old-file", ".venv/installed-dev")
    assert [hook["entry"] for hook in repository["hooks"]] == printed.splitlines()
    for hook in repository["hooks"]:
        # The whole project is checked, in its own environment: neither takes the names of files.
        assert (hook["language"], hook["pass_filenames"]) == ("system", False)


def test_workflow_makes_targets_that_exist_and_every_tier() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    every = set().union(*(made(job, command) for job, command in steps(workflow)))
    assert every <= targets()
    # The matrix of Pythons stands for test-newest, and `make check` is a job of its own.
    assert every == {*tiers(), "test", "check"} - {"test-newest"}


def test_workflow_tests_the_oldest_and_the_newest_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = [
        found[1]
        for line in project["classifiers"]
        if (found := re.fullmatch(r".* :: Python :: (3\.\d+)", line))
    ]
    ordered = sorted(versions, key=lambda version: int(version.partition(".")[2]))
    assert project["requires-python"] == f">={ordered[0]}"
    jobs = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == [ordered[0], ordered[-1]]


def test_contributing_lists_every_tier_and_those_of_the_gate() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition("\n## Run a tier by itself\n")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `make ([a-z-]+)` \| (yes)? ?\|", section, re.MULTILINE)
    assert sorted(name for name, _ in listed) == sorted(name for name in targets() if name.startswith("test"))
    assert {name for name, in_gate in listed if in_gate} == {*tiers(), "test"}
