"""`vertex-emulator health`: whether a server is up and its models are loaded; for containers and scripts."""

import http.client
import time
from typing import Annotated

import typer

from emulator.cli.options import with_settings
from emulator.cli.terminal import fail
from emulator.config import LoadedSettings

_ANSWER_TIMEOUT_S = 4.0
_INTERVAL_S = 0.1


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(with_settings(health, ("host", "port")))


def health(
    *,
    loaded: LoadedSettings,
    wait: Annotated[float, typer.Option(help="Seconds to wait for a server that is starting.")] = 0.0,
) -> None:
    """Exit with 0 when the server is ready for jobs, with 1 and the reason when it is not."""
    settings = loaded.settings
    deadline = time.monotonic() + wait
    while (problem := _problem(settings.client_host.strip("[]"), settings.port)) is not None:
        if time.monotonic() >= deadline:
            fail(f"{settings.client_host}:{settings.port} is not ready: {problem}")
        time.sleep(_INTERVAL_S)
    typer.echo(f"{settings.client_host}:{settings.port} is ready.")


def _problem(host: str, port: int) -> str | None:
    """What is in the way of running jobs, or None."""
    connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_TIMEOUT_S)
    try:
        connection.request("GET", "/_emulator/ready")
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"{getattr(error, 'strerror', None) or error or type(error).__name__}."
    finally:
        connection.close()
    return None if answer.status == 200 else f"HTTP {answer.status}: {text}"
