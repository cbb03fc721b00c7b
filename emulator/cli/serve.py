"""`vertex-emulator serve`: runs the server in the foreground."""

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

import typer

from emulator import logs
from emulator.cli.options import with_settings
from emulator.cli.terminal import fail
from emulator.config import LOCAL, LoadedSettings

if TYPE_CHECKING:
    from emulator.app import Emulator


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(with_settings(serve))


def serve(*, loaded: LoadedSettings) -> None:
    """Start the server and its workers.

    Ctrl-C or SIGTERM stops them.

    Each option is also an environment variable, as VERTEX_EMULATOR_PORT is for --port, and a key of the
    configuration file, as `port` is.
    """
    from emulator.app import CannotStart, Emulator

    settings = loaded.settings
    layout = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    logs.set_up(settings.log_level, layout, settings.log_format, gathered=True)
    # The emulator logs its start and stop itself, so of uvicorn's messages only warnings are shown.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    try:
        emulator = Emulator(loaded.settings, loaded.sources)
        emulator.run(on_ready=lambda: _announce(emulator, loaded))
    except CannotStart as error:
        fail(str(error))


def _is_news(record: logging.LogRecord) -> bool:
    """Drop the traceback of each request that the shutdown cancels: uvicorn also logs their number."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def _announce(emulator: "Emulator", loaded: LoadedSettings) -> None:
    # Programs that start the server wait for this first line.
    typer.echo(f"Vertex emulator listening at {emulator.url}")
    if emulator.grpc_address:
        typer.echo(f"gRPC (plain text) at {emulator.grpc_address}")
    if emulator.tls_address:
        typer.echo(
            f"REST and gRPC over TLS at {emulator.tls_address}; `vertex-emulator env` says what clients need"
        )
    if (endpoint := loaded.settings.gcs_endpoint) != LOCAL:
        typer.echo(f"Buckets of jobs at {endpoint} ({loaded.sources['gcs_endpoint']})")
    if loaded.settings.console:
        typer.echo(f"Console at {emulator.url}/console")
    typer.echo(f"API documentation at {emulator.url}/docs")
    threading.Thread(target=_tell_readiness, args=(emulator,), name="readiness", daemon=True).start()


def _tell_readiness(emulator: "Emulator") -> None:
    if problem := emulator.wait_until_ready():
        typer.echo(f"Not ready: {problem}", err=True)
    elif problem is not None:
        typer.echo("Ready: a worker can take a job.")
