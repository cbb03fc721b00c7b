"""The `vertex-emulator` command: one module for each sub-command, which imports the rest when it runs."""

import logging
from typing import Annotated

import typer

from emulator import __version__
from emulator.cli import compare, data, demo, env, export, jobs, models, predict, record, serve, wait
from emulator.cli.help import Cli


def build() -> typer.Typer:
    """Return the command line with all sub-commands."""
    cli = Cli(name="vertex-emulator", help="A local emulator of Vertex AI batch prediction for video models.")
    cli.callback()(_root)
    for module in (serve, demo, predict, record, compare, export, env, wait):
        module.register(cli)
    cli.add_typer(models.cli, name="models")
    cli.add_typer(jobs.cli, name="jobs")
    cli.add_typer(data.cli, name="data")
    return cli


def main() -> None:
    """Run the command line."""
    # Only the server logs, and sets that up itself; the other commands print their messages.
    logging.getLogger("emulator").addHandler(logging.NullHandler())
    build()()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vertex-emulator {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """A local emulator of Vertex AI batch prediction for video models."""
