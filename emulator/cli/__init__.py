"""The `vertex-emulator` command: a module per sub-command, each importing what it needs when run."""

import logging
import sys

import typer

from emulator.cli import demo, env, jobs, models, predict, serve, wait


def build() -> typer.Typer:
    """Put the command line together."""
    cli = typer.Typer(
        name="vertex-emulator",
        help="A local emulator of Vertex AI batch prediction for video models.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for module in (serve, demo, predict, env, wait):
        module.register(cli)
    cli.add_typer(models.cli, name="models")
    cli.add_typer(jobs.cli, name="jobs")
    return cli


def main() -> None:
    """Run the command line."""
    # The log is for the server, which sets it up; the other commands say themselves what is worth saying.
    logging.getLogger("emulator").addHandler(logging.NullHandler())
    try:
        build()()
    except KeyboardInterrupt:
        sys.exit(130)
