"""`vertex-emulator wait`: waits until a server is ready, as a health check or in a script."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

import typer

from emulator.cli.remote import Refused, Server, ServerOption, Unreachable, url_of_settings
from emulator.cli.terminal import fail, progress

_PAUSE_S = 0.1
_TIMEOUT_S = 10.0


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(wait)


def wait(
    server: ServerOption = None,
    port: Annotated[
        int | None, typer.Option(help="The server's port, as in `serve`, in place of --server.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="How many seconds to wait; 0 asks once.", min=0)] = 60.0,
) -> None:
    """Wait until the server is ready.

    It is ready once a worker can take a job.
    """
    if server is not None and port is not None:
        fail(f"--server {server} and --port {port} are two addresses; give one of them.", 2)
    emulator = Server(server if port is None else url_of_settings(port))
    deadline = time.monotonic() + timeout
    with progress("Waiting for the server") as shown:
        while (problem := _problem(emulator)) and not problem.stays and time.monotonic() < deadline:
            shown.update(detail=problem.text)
            time.sleep(_PAUSE_S)
    if problem is not None:
        fail(f"The server is not ready: {problem.text}.")
    typer.echo("Ready.")


@dataclass(frozen=True)
class _Problem:
    """Why a server is not ready. `stays`: waiting does not help."""

    text: str
    stays: bool = False


def _problem(emulator: Server) -> _Problem | None:
    try:
        emulator.ask("GET", "_emulator/ready", timeout_s=_TIMEOUT_S)
    except Refused as error:
        if isinstance(error.answer, dict) and "modelsLoaded" in error.answer:
            return _of_answer(error.answer)
        return _Problem(_within_a_sentence(error), stays=error.status == HTTPStatus.UNAUTHORIZED)
    except Unreachable as error:
        return _Problem(_within_a_sentence(error))
    return None


def _of_answer(answer: Mapping[str, Any]) -> _Problem:
    """Return the problem in a server's answer: its models are still loading, or it cannot work."""
    models = answer.get("models", ())
    if answer.get("problem"):
        unusable = bool(models) and all(model.get("problem") for model in models)
        return _Problem(str(answer["problem"]).rstrip("."), unusable and bool(answer["modelsLoaded"]))
    loading = "the models are being loaded" if answer.get("workers") else "no worker is up yet"
    return _Problem(loading)


def _within_a_sentence(error: Exception) -> str:
    text = str(error).rstrip(".")
    return text[:1].lower() + text[1:]
