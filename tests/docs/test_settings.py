"""docs/settings.md has a row for every setting, saying what the code says."""

import dataclasses
from pathlib import Path
from typing import Any, get_args

import pytest

from emulator.config import Settings, flag_name, load_settings, variable_name
from tests.docs.options import serve_options
from tests.docs.pages import blocks, runs

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
(COMMANDS,) = blocks("docs/settings.md", "sh")
(FILE,) = blocks("docs/settings.md", "toml")


def row(setting: dataclasses.Field[Any]) -> str:
    default = setting.default if setting.default is not dataclasses.MISSING else None
    shown = "" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    names = f"`{setting.name}` | `{flag_name(setting.name)}` | `{variable_name(setting.name)}`"
    return f"| {names} | {shown} | {setting.metadata['help']} |"


@pytest.mark.parametrize("setting", dataclasses.fields(Settings), ids=lambda setting: setting.name)
def test_setting_has_its_row(setting: dataclasses.Field[Any]) -> None:
    assert row(setting) in PAGE.read_text(encoding="utf-8").splitlines(), (
        f"Put this row into {PAGE}:\n{row(setting)}"
    )


def test_page_has_no_row_for_a_setting_that_is_gone() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if "| `VERTEX_EMULATOR_" in line]
    assert len(rows) == len(dataclasses.fields(Settings))


@pytest.mark.parametrize("setting", dataclasses.fields(Settings), ids=lambda setting: setting.name)
def test_help_names_every_choice(setting: dataclasses.Field[Any]) -> None:
    choices = [choice for choice in get_args(setting.type) if isinstance(choice, str)]
    assert all(choice in setting.metadata["help"] for choice in choices)


@runs(COMMANDS)
def test_three_ways_to_give_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "emulator.toml").write_text(FILE.text)
    by_flag, by_variable, by_file = serve_options(COMMANDS.text)
    variable, _, value = COMMANDS.text.splitlines()[1].split()[0].partition("=")
    loaded = [
        load_settings({"port": by_flag["port"]}, {}),
        load_settings({}, {variable: value}),
        load_settings({}, {}, Path(by_file["config"])),
    ]
    assert by_variable["port"] is None
    assert [(each.settings.port, each.sources["port"]) for each in loaded] == [
        (9000, "--port"),
        (9000, "VERTEX_EMULATOR_PORT"),
        (9000, "emulator.toml"),
    ]
