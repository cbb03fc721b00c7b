"""The access log: one line per call of any surface, with the request id that the response carries."""

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
"""The request header with the client's own request id. Without it the emulator generates one."""
ANSWERED_ID = "x-emulator-request-id"
"""The response header (gRPC: trailing metadata) with the request id."""

_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
# Reads below these paths are logged at debug: pages, probes and the console's reads would hide the API calls.
_QUIET = ("/_emulator", "/console", "/docs", "/openapi.json", "/favicon.ico")
_READS = ("GET", "HEAD", "OPTIONS")
# Bytes of an error response that are kept to find its message.
_LONGEST_ERROR = 16 * 1024
_XML_MESSAGE = re.compile(r"<(?:Details|Message)>(.*?)</", re.DOTALL)


class AccessLog:
    """ASGI middleware that logs each request.

    Reads of the emulator's own pages are logged at level debug, all other requests at level info. At level
    debug each line of a refused request also has the reason.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and log it once it is answered."""
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
    """Adds the request id to a response, and records its status, size and error message."""

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
        """The message of an error response; "" for other responses."""
        if not self._error:
            return ""
        text = self._error.decode(errors="replace")
        try:
            return str(json.loads(text)["error"]["message"])
        except (ValueError, KeyError, TypeError):
            found = _XML_MESSAGE.search(text)
            return found[1] if found else text


def request_id(sent: str) -> str:
    """Return the request id that the client sent if it is valid, else a new one."""
    # The id is not a secret: Python's random generator suffices, which needs no system call.
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
    """Log one call, at level debug with the reason of a refusal.

    Args:
        surface: `http` or `grpc`.
        what: method and path, or the RPC.
        status: the HTTP status, the gRPC code, or `reset`.
        seconds: the duration.
        call_id: the request id.
        reason: the message of the error, "" if the call succeeded.
        quiet: log at level debug instead of info.
        others: more fields of the JSON log.
    """
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
