"""`vertex-emulator env`: what to set so that Google's clients find the emulator and trust it."""

import json
import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from emulator.cli.options import with_settings
from emulator.cli.terminal import fail
from emulator.config import CLIENT_VARIABLE, STORAGE_VARIABLE, LoadedSettings, Settings

_SETTINGS = ("host", "port", "tls_names", "data_dir")


class Shell(StrEnum):
    """What the variables are written for."""

    BASH = "bash"
    FISH = "fish"
    POWERSHELL = "powershell"
    DOTENV = "dotenv"
    JSON = "json"


@dataclass(frozen=True)
class Variable:
    """An environment variable and what it is for."""

    name: str
    value: str
    comment: str


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(with_settings(env, _SETTINGS))


def env(
    *,
    loaded: LoadedSettings,
    shell: Annotated[Shell, typer.Option(help="What to write the variables for.")] = Shell.BASH,
    project: Annotated[
        str, typer.Option(help="Project id for clients that take it from here.")
    ] = "my-project",
) -> None:
    """Print the environment variables that point Google's clients here.

    Use it as `eval "$(vertex-emulator env)"`, in fish as `vertex-emulator env --shell fish | source`, in
    PowerShell as `vertex-emulator env --shell powershell | Out-String | Invoke-Expression`. Give it the
    settings that the server has. The certificates and the fake account are made if they are missing.
    """
    from emulator.certificates import CertificateError, prepare

    settings = loaded.settings
    if settings.port == 0:
        fail("With port 0 the server takes a free port, which nobody knows beforehand. Name one with --port.")
    try:
        files = prepare(settings.tls_folder, settings.certified_names, os.environ)
    except CertificateError as error:
        fail(str(error))
    except OSError as error:
        fail(f"The folder {settings.tls_folder} cannot be used: {error}. Name another with --data-dir.")
    paths = {
        "bundle": str(files.bundle),
        "account": str(files.account),
        "token": str(files.token),
    }
    typer.echo(_WRITERS[shell](_variables(settings, paths, project)))


def _variables(settings: Settings, paths: dict[str, str], project: str) -> list[Variable]:
    url = f"http://{settings.client_host}:{settings.port}"
    roots = "the emulator's CA and the public roots"
    return [
        Variable(
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
            paths["bundle"],
            f"gRPC over TLS in Python and Node (needs serve --tls): {roots}",
        ),
        Variable("REQUESTS_CA_BUNDLE", paths["bundle"], f"https in Python's requests: {roots}"),
        Variable("SSL_CERT_FILE", paths["bundle"], f"whatever uses OpenSSL's or Go's defaults: {roots}"),
        Variable("CURL_CA_BUNDLE", paths["bundle"], f"https in curl: {roots}"),
        Variable("NODE_EXTRA_CA_CERTS", paths["bundle"], f"https in Node, beside its own roots: {roots}"),
        Variable(
            "GOOGLE_APPLICATION_CREDENTIALS",
            paths["account"],
            "a service account made up on this machine, for clients that insist on one",
        ),
        Variable("GOOGLE_CLOUD_PROJECT", project, "the project of clients that were given none; any will do"),
        Variable(STORAGE_VARIABLE, url, "Cloud Storage clients, and iter_outputs() of the Vertex SDK"),
        Variable(
            CLIENT_VARIABLE, url, "tells a server started in this shell that the line above is not for it"
        ),
        Variable(
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM",
            f"{url}/",
            "gcloud ai; the slash at the end is needed",
        ),
        Variable("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE", f"{url}/storage/v1/", "gcloud storage"),
        Variable(
            "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE",
            paths["token"],
            "a token that opens nothing: gcloud works without logging in, and so does print-access-token",
        ),
        Variable("CLOUDSDK_CORE_PROJECT", project, "gcloud's project"),
    ]


def _bash(variables: Sequence[Variable]) -> str:
    return _lines(variables, lambda name, value: f"export {name}={shlex.quote(value)}")


def _fish(variables: Sequence[Variable]) -> str:
    def line(name: str, value: str) -> str:
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"set -gx {name} '{escaped}'"

    return _lines(variables, line)


def _powershell(variables: Sequence[Variable]) -> str:
    def line(name: str, value: str) -> str:
        # PowerShell takes typographic single quotes for quotes, too.
        escaped = re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", value)
        return f"$env:{name} = '{escaped}'"

    return _lines(variables, line)


def _dotenv(variables: Sequence[Variable]) -> str:
    def line(name: str, value: str) -> str:
        # Readers of such files differ: some take quotes literally, so they come only where they are needed.
        if re.fullmatch(r"[\w./:@%+,=-]*", value, re.ASCII):
            return f"{name}={value}"
        if "'" not in value and "\\" not in value:
            return f"{name}='{value}'"
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'{name}="{escaped}"'

    return _lines(variables, line)


def _json(variables: Sequence[Variable]) -> str:
    return json.dumps({variable.name: variable.value for variable in variables}, indent=2)


def _lines(variables: Sequence[Variable], line: Callable[[str, str], str]) -> str:
    return "\n".join(f"# {variable.comment}\n{line(variable.name, variable.value)}" for variable in variables)


_WRITERS = {
    Shell.BASH: _bash,
    Shell.FISH: _fish,
    Shell.POWERSHELL: _powershell,
    Shell.DOTENV: _dotenv,
    Shell.JSON: _json,
}
