"""A real server and a client that sends what it is told to, byte for byte, and judges every answer."""

from __future__ import annotations

import http.client
import json
import logging
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hypothesis import event

from emulator.app import Emulator
from emulator.config import Settings

_PATIENCE_S = 30
#: 501: not emulated. 503 and 504: not now. All else of 500 and above is a defect.
_SERVER_ERRORS = (501, 503, 504)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Complaints(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = logging.Formatter("%(levelname)s %(name)s: %(message)s").format(record)
        self.found.append(text)


@dataclass
class Wire:
    """A way to the server."""

    emulator: Emulator
    complaints: _Complaints = field(default_factory=_Complaints)

    def ask(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Send a request on a connection of its own."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._address}", "Connection: close"]
        lines += [
            f"{name}: {value}" for name, value in {"Content-Length": len(body), **(headers or {})}.items()
        ]
        host, _, port = self._address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=_PATIENCE_S) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogatepass") + body)
            response = http.client.HTTPResponse(connection, method=method)
            response.begin()
            return Answer(response.status, dict(response.headers.items()), response.read())

    @property
    def _address(self) -> str:
        return self.emulator.url.removeprefix("http://")

    def check(self, answer: Answer, method: str) -> None:
        """See that the answer is one that the emulator means to give, and that it goes on."""
        event(f"{method} answered {answer.status}")  # for --hypothesis-show-statistics
        said, self.complaints.found = self.complaints.found, []
        assert not said, said
        assert answer.status < 500 or answer.status in _SERVER_ERRORS, answer
        if answer.status >= 400 and method != "HEAD":
            assert _words(answer), answer
        assert self.ask("GET", "/_emulator/health").status == 200


def _words(answer: Answer) -> str:
    """The message of an error, in whichever form the surfaces have it."""
    kind = answer.headers.get("content-type", "")
    if kind.startswith("application/json"):
        value = json.loads(answer.body)
        if value.get("ready") is False:
            return "not ready"
        error: Any = value["error"]
        assert error["code"] == answer.status, error
        assert error.get("status") or error.get("errors"), error
        return str(error["message"])
    text = answer.body.decode()
    found = re.search("<Message>(.+)</Message>", text, re.DOTALL) if "xml" in kind else None
    return found[1] if found else text if "text/" in kind else ""


@contextmanager
def wire_to(settings: Settings) -> Iterator[Wire]:
    """Serve with these settings, with an ear on the log."""
    with Emulator(settings) as emulator:
        wire = Wire(emulator)
        logging.getLogger().addHandler(wire.complaints)
        try:
            yield wire
        finally:
            logging.getLogger().removeHandler(wire.complaints)
