"""Derives command-line options from the table of settings, so that `config.py` declares each one once."""

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from emulator.cli.terminal import fail, warn
from emulator.config import (
    LoadedSettings,
    SettingError,
    Settings,
    flag_name,
    load_settings,
)

PATH = "PATH"
"""The metavar of options that take a path."""


def with_settings(command: Callable[..., None], only: tuple[str, ...] | None = None) -> Callable[..., None]:
    """Add an option for each setting to a command, which receives them as its argument `loaded`.

    only: the names of the settings that the command uses; all by default.
    """
    names = [setting.name for setting in dataclasses.fields(Settings) if only is None or setting.name in only]

    def run(**arguments: Any) -> None:
        flags = {name: arguments.pop(name) for name in names}
        command(loaded=read_settings(flags, arguments.pop("config")), **arguments)

    own = [
        parameter
        for name, parameter in inspect.signature(command, eval_str=True).parameters.items()
        if name != "loaded"
    ]
    options = [_option(setting) for setting in dataclasses.fields(Settings) if setting.name in names]
    parameters = sorted([*own, *options, _config_option()], key=lambda parameter: parameter.kind)
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    return run


def read_settings(flags: dict[str, Any], config: str | None = None) -> LoadedSettings:
    """Load the settings; exit with the error message if one is invalid."""
    try:
        loaded = load_settings(_given(flags), None, Path(config) if config else None)
    except SettingError as error:
        fail(str(error))
    for warning in loaded.warnings:
        warn(warning)
    return loaded


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    # False and 0 are values. Typer gives an empty list for an option that is not given.
    return {name: value for name, value in flags.items() if value is not None and value != []}


def _option(setting: dataclasses.Field[Any]) -> inspect.Parameter:
    if setting.default is not dataclasses.MISSING and setting.default is not None:
        default = str(setting.default).lower() if isinstance(setting.default, bool) else str(setting.default)
    else:
        default = ""
    names = [flag_name(setting.name)]
    if setting.type is bool:
        names = [f"{names[0]}/--no-{names[0].removeprefix('--')}"]
    option = typer.Option(
        *names,
        help=setting.metadata["help"],
        show_default=default or False,
        metavar=PATH if _is_path(setting.type) else None,
        rich_help_panel="Settings",
    )
    annotation: Any = Annotated[_command_line_type(setting.type), option]
    return inspect.Parameter(
        setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _command_line_type(kind: Any) -> Any:
    """Return the type that Typer parses: bool for a flag, else text, which `config` then converts.

    Paths are text, too: an empty `Path` would be the current folder.
    """
    if kind is bool:
        return bool | None
    if kind in (list[Path], list[str]):
        return list[str] | None
    if kind in (int, int | None):
        return int | None
    return str | None


def _is_path(kind: Any) -> bool:
    return Path in (kind, *get_args(kind))


def _config_option() -> inspect.Parameter:
    option = typer.Option(
        "--config",
        help="Configuration file (TOML) of settings.",
        metavar=PATH,
        rich_help_panel="Settings",
    )
    return inspect.Parameter(
        "config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
    )
