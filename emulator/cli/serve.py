"""`vertex-emulator serve`: the server in the foreground."""

import logging

import typer

from emulator.cli.options import with_settings
from emulator.cli.terminal import fail
from emulator.config import LoadedSettings


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(with_settings(serve))


def serve(*, loaded: LoadedSettings) -> None:
    """Start the server and its workers; Ctrl-C or SIGTERM stops them.

    Each option is also an environment variable, as VERTEX_EMULATOR_PORT is for --port, and a key of the
    configuration file. docs/settings.md lists them.
    """
    from emulator.app import CannotStart, Emulator

    logging.basicConfig(
        level=loaded.settings.log_level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    try:
        emulator = Emulator(loaded.settings)
        emulator.run(on_ready=lambda: _announce(emulator.url))
    except CannotStart as error:
        fail(str(error))


def _announce(url: str) -> None:
    # The first line is for programs that start the server and wait for it; flushed, since that is a pipe.
    typer.echo(f"Vertex emulator ready at {url}")
    typer.echo(f"API documentation: {url}/docs", nl=True)
