"""`vertex-emulator wait`: until a server is ready, as a health check or in a script."""

import json
import time
import urllib.error
import urllib.request
from typing import Annotated

import typer

from emulator.cli.jobs import Server, ServerOption
from emulator.cli.terminal import fail

_PAUSE_S = 0.1


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(wait)


def wait(
    server: ServerOption = None,
    timeout: Annotated[float, typer.Option(help="How many seconds to wait; 0 asks once.", min=0)] = 60.0,
) -> None:
    """Wait until the server is ready: a worker is up and the models are loaded."""
    url = f"{Server(server).url}/_emulator/ready"
    if not url.startswith(("http://", "https://")):
        fail(f"{url} is no address of a server; write it as http://127.0.0.1:8080.")
    deadline = time.monotonic() + timeout
    while (problem := _problem(url)) is not None:
        if time.monotonic() >= deadline:
            fail(f"The server is not ready: {problem}.")
        time.sleep(_PAUSE_S)
    typer.echo("Ready.")


def _problem(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=10):
            return None
    except urllib.error.HTTPError as error:
        try:
            details = json.load(error)
            return (
                f"{details['workers']} workers are up, models loaded: {str(details['modelsLoaded']).lower()}"
            )
        except (ValueError, KeyError, TypeError):
            return f"it answered {error.code} {error.reason}"
    except (OSError, ValueError) as error:
        return f"no emulator answers at {url} ({getattr(error, 'reason', error)})"
