"""`vertex-emulator env`: prints the variables with which Google's clients find and trust the emulator."""

import json
import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emulator.cli.options import with_settings
from emulator.cli.terminal import fail
from emulator.config import CLIENT_VARIABLE, STORAGE_VARIABLE, LoadedSettings, Settings

if TYPE_CHECKING:
    from emulator.trust import ClientFiles

_JAVA_OPTIONS = "JAVA_TOOL_OPTIONS"
_LOOPBACK = ("127.0.0.1", "localhost")
_SETTINGS = ("host", "port", "tls_names", "data_dir", "auth_token")


class Shell(StrEnum):
    """The formats in which variables are printed."""

    BASH = "bash"
    FISH = "fish"
    POWERSHELL = "powershell"
    DOTENV = "dotenv"
    JSON = "json"


@dataclass(frozen=True)
class Variable:
    """An environment variable with a comment on its purpose."""

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
    alias: Annotated[
        bool,
        typer.Option(
            "--alias",
            help="For alias mode, where Google's own host names lead to the emulator: no endpoint is set.",
        ),
    ] = False,
    copy_to: Annotated[
        Path | None,
        typer.Option(
            help="Folder to copy the files to that the variables name, for clients that cannot read the data"
            " folder. The CA's key stays where it is."
        ),
    ] = None,
) -> None:
    """Print variables that point Google's clients here.

    These are environment variables.
    Use it as `eval "$(vertex-emulator env)"`, in fish as `vertex-emulator env --shell fish | source`, in
    PowerShell as `vertex-emulator env --shell powershell | Out-String | Invoke-Expression`. Give it the
    settings that the server has. The certificates and the fake account are made if they are missing.
    """
    settings = loaded.settings
    if settings.port == 0 and not alias:
        fail("With port 0 the server takes a free port, which nobody knows beforehand. Name one with --port.")
    files = _files(settings, copy_to, alias=alias)
    if settings.auth_token:
        _write_token(files, settings.auth_token)
    variables = [
        *_trust(files),
        _java_trust(files),
        *_account(files, project),
        *_gcloud_account(files, project),
    ]
    if alias:
        variables.append(_gcloud_trust(files))
    else:
        variables += [*_endpoints(settings), *_around_proxies(settings)]
    typer.echo(_WRITERS[shell](variables))


def _write_token(files: "ClientFiles", token: str) -> None:
    from emulator.trust import write_private

    try:
        write_private(files.token, f"{token}\n".encode())
    except OSError as error:
        fail(f"The token cannot be written to {files.token}: {error}. Name another folder with --data-dir.")


def _files(settings: Settings, copy_to: Path | None, *, alias: bool) -> "ClientFiles":
    from emulator.trust import CertificateError, prepare

    try:
        url = f"http://{settings.client_host}:{settings.port}"
        made = prepare(settings.tls_folder, settings.certified_names, os.environ, token_uri=f"{url}/token")
        files = replace(made, alias=alias)
    except CertificateError as error:
        fail(str(error))
    except OSError as error:
        fail(f"The folder {settings.tls_folder} cannot be used: {error}. Name another with --data-dir.")
    try:
        return files.copy_for_clients(copy_to) if copy_to else files
    except OSError as error:
        fail(f"The folder {copy_to} cannot be used: {error}. Name another with --copy-to.")


def _trust(files: "ClientFiles") -> list[Variable]:
    roots = "the emulator's CA and the public roots"
    bundle = str(files.bundle)
    return [
        Variable(
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
            bundle,
            f"gRPC over TLS in Python and Node (needs serve --tls): {roots}",
        ),
        Variable("REQUESTS_CA_BUNDLE", bundle, f"https in Python's requests: {roots}"),
        Variable("SSL_CERT_FILE", bundle, f"whatever uses OpenSSL's or Go's defaults: {roots}"),
        Variable("CURL_CA_BUNDLE", bundle, f"https in curl: {roots}"),
        Variable("NODE_EXTRA_CA_CERTS", bundle, f"https in Node, beside its own roots: {roots}"),
    ]


def _java_trust(files: "ClientFiles") -> Variable:
    path = str(files.java_bundle)
    if any(character.isspace() for character in path):
        path = f'"{path}"'
    option = f"-Djavax.net.ssl.trustStore={path}"
    # Keep the options that are set, except any trust store, from an earlier call or another one.
    stores = r'\s*-Djavax\.net\.ssl\.trustStore\w*=("[^"]*"|\S*)'
    others = re.sub(stores, "", os.environ.get(_JAVA_OPTIONS, "")).strip()
    return Variable(
        _JAVA_OPTIONS,
        f"{others} {option}".strip(),
        "TLS in Java, whatever the client: the emulator's CA and the public roots in place of the JVM's own",
    )


def _account(files: "ClientFiles", project: str) -> list[Variable]:
    return [
        Variable(
            "GOOGLE_APPLICATION_CREDENTIALS",
            str(files.account),
            "a service account made up on this machine, which gets its tokens from the emulator",
        ),
        Variable("GOOGLE_CLOUD_PROJECT", project, "the project of clients that were given none; any will do"),
    ]


def _gcloud_account(files: "ClientFiles", project: str) -> list[Variable]:
    return [
        Variable(
            "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE",
            str(files.token),
            "a token that opens nothing: gcloud works without logging in, and so does print-access-token",
        ),
        Variable("CLOUDSDK_CORE_PROJECT", project, "gcloud's project"),
    ]


def _gcloud_trust(files: "ClientFiles") -> Variable:
    return Variable(
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", str(files.bundle), "https in gcloud, in place of its own roots"
    )


def _endpoints(settings: Settings) -> list[Variable]:
    url = f"http://{settings.client_host}:{settings.port}"
    return [
        Variable(STORAGE_VARIABLE, url, "Cloud Storage clients, and iter_outputs() of the Vertex SDK"),
        Variable(
            CLIENT_VARIABLE, url, "tells a server started in this shell that the line above is not for it"
        ),
        Variable("CLOUD_STORAGE_EMULATOR_ENDPOINT", url, "Cloud Storage in C++ and in PyArrow"),
        Variable(
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT",
            "false",
            "gcsfs and pandas: no search for zonal buckets, which is by gRPC over TLS and takes a minute",
        ),
        Variable(
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM",
            f"{url}/",
            "gcloud ai; the slash at the end is needed",
        ),
        Variable("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE", f"{url}/storage/v1/", "gcloud storage"),
    ]


def _around_proxies(settings: Settings) -> list[Variable]:
    # IPv6 addresses with and without brackets, because clients differ.
    hosts = [settings.client_host.strip("[]"), settings.client_host]
    if hosts[0] in (*_LOOPBACK, "::1"):
        hosts += _LOOPBACK
    comment = "the emulator is reached directly, not through the proxy that others need"
    return [Variable(name, _added_to(name, hosts), comment) for name in ("NO_PROXY", "no_proxy")]


def _added_to(name: str, hosts: Sequence[str]) -> str:
    """Return the variable's value, or its upper-case or lower-case twin's, with the missing hosts added."""
    own = os.environ.get(name) or os.environ.get(name.swapcase(), "")
    listed = [entry for entry in re.split(r"[\s,]+", own) if entry]
    if "*" in listed:
        return own  # `*` disables all proxies, but only as the single entry
    return ",".join([*listed, *(host for host in dict.fromkeys(hosts) if host not in listed)])


def _bash(variables: Sequence[Variable]) -> str:
    return _lines(variables, lambda name, value: f"export {name}={shlex.quote(value)}")


def _fish(variables: Sequence[Variable]) -> str:
    def line(name: str, value: str) -> str:
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"set -gx {name} '{escaped}'"

    return _lines(variables, line)


def _powershell(variables: Sequence[Variable]) -> str:
    def line(name: str, value: str) -> str:
        # PowerShell also treats typographic single quotes as quotes.
        escaped = re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", value)
        return f"$env:{name} = '{escaped}'"

    return _lines(variables, line)


def _dotenv(variables: Sequence[Variable]) -> str:
    def line(name: str, value: str) -> str:
        # Quote only if necessary: some readers of such files take quotes literally.
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
