"""The client of a running server for sub-commands: REST without a proxy, with the server's error messages."""

import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import typer

from emulator.cli.options import read_settings
from emulator.cli.terminal import fail
from emulator.config import CLIENT_VARIABLE

ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        help="Where the server listens. Default: what `vertex-emulator env` set, or else the settings.",
    ),
]

_SHOWN_CHARACTERS = 500
_TOKEN_FILE = "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"


class Refused(Exception):
    """The server answered with an error. The message is the server's; `answer` is its JSON, or None."""

    def __init__(self, error: urllib.error.HTTPError) -> None:
        self.status = error.code
        body = error.read(65536)
        try:
            self.answer: Any = json.loads(body)
        except ValueError:
            self.answer = None
        message = self._own_words() or _status_line(error, body)
        if self.status == HTTPStatus.UNAUTHORIZED:
            message += (
                " Set VERTEX_EMULATOR_AUTH_TOKEN to it, or VERTEX_EMULATOR_CONFIG to the server's file."
            )
        super().__init__(message)

    def _own_words(self) -> str:
        try:
            return str(self.answer["error"]["message"])
        except (KeyError, TypeError):
            return ""


class Unreachable(Exception):
    """No emulator answers; the message names the address."""


class Server:
    """The REST surface of a running emulator."""

    def __init__(self, url: str | None = None) -> None:
        self.url = (url or os.environ.get(CLIENT_VARIABLE) or url_of_settings()).rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            fail(f"{self.url} is no address of a server; write it as http://127.0.0.1:8080.")
        self._token = read_settings({}).settings.auth_token or _token_of_clients()
        # No proxy: for a proxy, 127.0.0.1 would be the proxy's own host.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def call(
        self,
        method: str,
        path: str,
        root: str = "v1",
        *,
        body: Mapping[str, Any] | None = None,
        **query: str,
    ) -> dict[str, Any]:
        """Make one call below a root path and return its JSON. On failure exit with the server's message."""
        target = f"{root}/{urllib.parse.quote(path, safe='/:@')}?{urllib.parse.urlencode(query)}"
        try:
            return self.ask(method, target, body)
        except Refused as error:
            fail(str(error))
        except Unreachable as error:
            fail(f"{error}. Start one with `vertex-emulator serve`, or name it with --server.")

    def ask(
        self, method: str, target: str, body: Mapping[str, Any] | None = None, timeout_s: float = 90.0
    ) -> dict[str, Any]:
        """Make one call and return its JSON. Raises Refused or Unreachable."""
        with self.open(method, target, body, timeout_s) as response:
            answer: dict[str, Any] = json.load(response)
            return answer

    @contextmanager
    def open(
        self, method: str, target: str, body: Mapping[str, Any] | None = None, timeout_s: float = 90.0
    ) -> Iterator[Any]:
        """Make one call and yield its answer as a file. Raises Refused or Unreachable."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/{target}", data, method=method)
        if body is not None:
            request.add_header("Content-Type", "application/json; charset=utf-8")
        if self._token:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        try:
            with self._opener.open(request, timeout=timeout_s) as response:
                yield response
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(error) from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise Unreachable(f"No emulator answers at {self.url} ({reason})") from error


def url_of_settings(port: int | None = None) -> str:
    """Return the URL of a server with this shell's settings. `port` overrides theirs."""
    settings = read_settings({"port": port}).settings
    return f"http://{settings.client_host}:{settings.port}"


def _token_of_clients() -> str | None:
    """Return the token for clients if this shell has the variables of `vertex-emulator env`, else None."""
    path = os.environ.get(_TOKEN_FILE)
    if not path or not os.environ.get(CLIENT_VARIABLE):
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _status_line(error: urllib.error.HTTPError, body: bytes) -> str:
    line = f"The server answered {error.code} {error.reason}"
    text = body.decode("utf-8", "replace").strip()
    is_text = error.headers.get_content_type() == "text/plain"
    return f"{line}: {text[:_SHOWN_CHARACTERS]}" if is_text and text else f"{line}."
