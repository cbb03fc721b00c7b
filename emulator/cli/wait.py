"""`vertex-emulator wait`: until a server is ready, as a health check or in a script."""

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from emulator.cli.remote import Refused, Server, ServerOption, Unreachable
from emulator.cli.terminal import fail

_PAUSE_S = 0.1
_TIMEOUT_S = 10.0


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(wait)


def wait(
    server: ServerOption = None,
    timeout: Annotated[float, typer.Option(help="How many seconds to wait; 0 asks once.", min=0)] = 60.0,
) -> None:
    """Wait until the server is ready: a worker is up and the models are loaded."""
    emulator = Server(server)
    deadline = time.monotonic() + timeout
    while (problem := _problem(emulator)) is not None:
        if time.monotonic() >= deadline:
            fail(f"The server is not ready: {problem}.")
        time.sleep(_PAUSE_S)
    typer.echo("Ready.")


def _problem(emulator: Server) -> str | None:
    try:
        emulator.ask("GET", "_emulator/ready", timeout_s=_TIMEOUT_S)
    except Refused as error:
        if isinstance(error.answer, dict) and "modelsLoaded" in error.answer:
            return _how_far(error.answer)
        return _within_a_sentence(error)
    except Unreachable as error:
        return _within_a_sentence(error)
    return None


def _how_far(answer: Mapping[str, Any]) -> str:
    return f"{answer.get('workers')} workers are up, models loaded: {str(answer['modelsLoaded']).lower()}"


def _within_a_sentence(error: Exception) -> str:
    text = str(error).rstrip(".")
    return text[:1].lower() + text[1:]
