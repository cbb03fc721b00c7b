"""The access log: one line per call of any surface, with an id that the answer has too."""

import json
import logging
import random
import re
import time
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emulator.logs import FIELDS

_log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
"""The header in which a client may name its call; a call without it gets an id."""
ANSWERED_ID = "x-emulator-request-id"
"""The header (gRPC: trailing metadata) of the answer that has the id of the call."""

_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
# Pages, probes and the console's own reads would hide what programs call.
_QUIET = ("/_emulator", "/console", "/docs", "/openapi.json", "/favicon.ico")
_READS = ("GET", "HEAD", "OPTIONS")
# What is read of a refusal to find its message.
_LONGEST_ERROR = 16 * 1024
_XML_MESSAGE = re.compile(r"<(?:Details|Message)>(.*?)</", re.DOTALL)


class AccessLog:
    """An ASGI application that tells of each request that passes it.

    Reads of the emulator's own pages are told at level debug, all others at level info. At level debug it
    also tells why a request was refused.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and log it once it is answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(request_id(_sent_id(scope)), send)
        began = time.perf_counter()
        try:
            await self._app(scope, receive, answer.send)
        finally:
            quiet = scope["method"] in _READS and scope["path"].startswith(_QUIET)
            path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
            log_call(
                "http",
                f"{scope['method']} {path}",
                answer.status or "reset",
                time.perf_counter() - began,
                answer.id,
                reason=answer.reason,
                quiet=quiet,
                bytes_sent=answer.sent,
            )


class _Answer:
    """Watches an answer on its way out, and puts the id into it."""

    def __init__(self, call_id: str, send: Send) -> None:
        self.id = call_id
        self.status = 0
        self.sent = 0
        self._send = send
        self._error = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), (ANSWERED_ID.encode(), self.id.encode())]
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            self.sent += len(body)
            if self.status >= 400 and len(self._error) < _LONGEST_ERROR:
                self._error += body[:_LONGEST_ERROR]
        await self._send(message)

    @property
    def reason(self) -> str:
        """What a refusal says, in words; "" for other answers."""
        if not self._error:
            return ""
        text = self._error.decode(errors="replace")
        try:
            return str(json.loads(text)["error"]["message"])
        except (ValueError, KeyError, TypeError):
            found = _XML_MESSAGE.search(text)
            return found[1] if found else text


def request_id(sent: str) -> str:
    """The id of a call: the one that the client sent, if it is one, or a new one."""
    # No secret: from the generator, which costs no call of the system.
    return sent if sent and _ID.fullmatch(sent) else f"{random.getrandbits(48):012x}"


def log_call(
    surface: str,
    what: str,
    status: int | str,
    seconds: float,
    call_id: str,
    *,
    reason: str = "",
    quiet: bool = False,
    **others: Any,
) -> None:
    """Tell of one call, and at level debug why it was refused."""
    level = logging.DEBUG if quiet else logging.INFO
    if not _log.isEnabledFor(level):
        return
    refused = f" ({reason})" if reason and _log.isEnabledFor(logging.DEBUG) else ""
    fields: Mapping[str, Any] = {
        "surface": surface,
        "call": what,
        "status": status,
        "milliseconds": round(seconds * 1000, 2),
        "request_id": call_id,
        **({"reason": reason} if refused else {}),
        **others,
    }
    line = "%s %s in %.1f ms [%s]%s"
    _log.log(level, line, what, status, seconds * 1000, call_id, refused, extra={FIELDS: fields})


def _sent_id(scope: Scope) -> str:
    wanted = REQUEST_ID.encode()
    found: bytes = next((value for name, value in scope["headers"] if name == wanted), b"")
    return found.decode("latin-1")
