"""docs/observe.md on OpenTelemetry: the command exports the spans and attributes of the tables."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.control.collector import attributes, collecting, traced
from tests.docs.options import serve_options
from tests.docs.pages import ROOT, blocks, prose, runs

SECTION = "Export spans to OpenTelemetry"
(COMMANDS,) = blocks("docs/observe.md", "sh", SECTION)


def rows(heading: str) -> list[list[str]]:
    """The cells of the table of that heading."""
    table = prose("docs/observe.md").partition(f"\n| {heading} |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


@runs(COMMANDS)
def test_documented_spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install, export, _ = COMMANDS.text.splitlines()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert install.split()[2] == '".[otel]"'
    assert "otel" in extras
    assert [options["otel"] for options in serve_options(COMMANDS.text)] == [True]
    variable, _, _ = export.removeprefix("export ").partition("=")
    with collecting() as collector:
        monkeypatch.setenv(variable, collector.endpoint)
        with traced(tmp_path) as project:
            project.finish(project.create())
            assert project.http.get("/storage/v1/b/bucket/o/a.mp4").status_code == 200
    names = {span.name for span in collector.spans}
    documented = {re.findall("`([^`]+)`", row[0])[0] for row in rows("span")}
    assert documented <= names
    told = {name for row in rows("attribute") for name in re.findall("`([^`]+)`", row[0])}
    assert told == {name for span in collector.spans for name in attributes(span)}
