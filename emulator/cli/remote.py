"""A running server, as the sub-commands call it: REST, directly, with its own words where it refuses."""

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from emulator.cli.options import read_settings
from emulator.cli.terminal import fail

ServerOption = Annotated[
    str | None, typer.Option("--server", help="Where the server listens; by default what the settings say.")
]

_SHOWN_CHARACTERS = 500


class Refused(Exception):
    """The server answered with an error; the message is its own, `answer` what it is as JSON (or None)."""

    def __init__(self, error: urllib.error.HTTPError) -> None:
        body = error.read(65536)
        try:
            self.answer: Any = json.loads(body)
        except ValueError:
            self.answer = None
        super().__init__(self._own_words() or _status_line(error, body))

    def _own_words(self) -> str:
        try:
            return str(self.answer["error"]["message"])
        except (KeyError, TypeError):
            return ""


class Unreachable(Exception):
    """Nothing that could be the emulator answers; the message says where."""


class Server:
    """The REST surface of a running emulator."""

    def __init__(self, url: str | None = None) -> None:
        self.url = (url or _url_of_settings()).rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            fail(f"{self.url} is no address of a server; write it as http://127.0.0.1:8080.")
        # A proxy is for the internet: to it, 127.0.0.1 is itself.
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
        """Make one call below a root path; a failure ends the program with the server's own message."""
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
        """Make one call; raises Refused or Unreachable."""
        request = urllib.request.Request(
            f"{self.url}/{target}",
            None if body is None else json.dumps(body).encode(),
            {} if body is None else {"Content-Type": "application/json; charset=utf-8"},
            method=method,
        )
        try:
            with self._opener.open(request, timeout=timeout_s) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(error) from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise Unreachable(f"No emulator answers at {self.url} ({reason})") from error


def _url_of_settings() -> str:
    settings = read_settings({}).settings
    return f"http://{settings.client_host}:{settings.port}"


def _status_line(error: urllib.error.HTTPError, body: bytes) -> str:
    line = f"The server answered {error.code} {error.reason}"
    text = body.decode("utf-8", "replace").strip()
    is_text = error.headers.get_content_type() == "text/plain"
    return f"{line}: {text[:_SHOWN_CHARACTERS]}" if is_text and text else f"{line}."
