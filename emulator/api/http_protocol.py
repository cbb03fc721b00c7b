"""The HTTP server's protocol: uvicorn's, with limits and hints for clients that speak another protocol."""

import asyncio
import logging
import re
import socket
import struct
import sys
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from emulator.api.hints import MAX_HEAD, Addresses, bad_request, head_too_large, not_ascii, plain_answer
from emulator.http import RESET

_log = logging.getLogger(__name__)

#: The first bytes of a TLS connection.
TLS_HELLO = b"\x16\x03"
#: The first bytes of a connection with HTTP/2 in plain text.
HTTP_2 = b"PRI"
_NO_HTTP_1 = (TLS_HELLO, b"PRI * HTTP/2")
_HEAD_TOO_LARGE = 431
_LONGEST_URL = 65535  # the limit of httptools
_UPGRADE = re.compile(rb"\r\nupgrade:[^\r]*", re.IGNORECASE)


def http_protocol_of(addresses: Addresses) -> type[asyncio.Protocol]:
    """Return the HTTP server's protocol class. It answers TLS and gRPC on its port with a hint.

    Each request's scope has the extension RESET: a function that resets the connection.
    """

    class HttpProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        _is_new = True
        # The number of heads so far; whether the last one is incomplete; how many bytes of it have arrived.
        _heads = 0
        _in_head = False
        _head_bytes = 0
        _is_idle = True
        _data = b""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            app: Any = self.app  # type: ignore[has-type]

            async def with_reset(scope: Any, receive: Any, send: Any) -> None:
                scope.setdefault("extensions", {})[RESET] = lambda: _reset(transport)
                await app(scope, receive, send)

            self.app = with_reset

        def data_received(self, data: bytes) -> None:
            if self._is_new:
                self._is_new = False
                if data.startswith(_NO_HTTP_1):
                    self._refuse(data)
                    return
            if self._is_idle:
                data = _without_upgrade(data)
            heads, was_idle, self._data = self._heads, self._is_idle, data
            super().data_received(data)
            # If a head follows another message in the same data, counting starts with the next data.
            if self._in_head and (was_idle or heads == self._heads):
                self._head_bytes += len(data)
                # httptools, unlike h11, has no limit.
                if self._head_bytes > MAX_HEAD and not self.transport.is_closing():
                    self._refuse_head()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._heads, self._head_bytes = self._heads + 1, 0
            self._in_head, self._is_idle = True, False

        def on_headers_complete(self) -> None:
            self._in_head = False
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            super().on_message_complete()
            self._is_idle = True

        def send_400_response(self, msg: str) -> None:
            """Answer a request that the parser refused: h11 refuses a long head, httptools a long URL."""
            hint = getattr(sys.exc_info()[1], "error_status_hint", 400)
            if hint == _HEAD_TOO_LARGE or len(getattr(self, "url", b"")) >= _LONGEST_URL:
                self._refuse_head()
            elif not self._data.partition(b"\r\n")[0].isascii():
                # Newer parsers refuse bytes outside ASCII; the guard refuses them after older parsers.
                self.transport.write(bad_request(not_ascii()))
                self.transport.close()
            else:
                super().send_400_response(msg)

        def _refuse_head(self) -> None:
            self.transport.write(plain_answer(_HEAD_TOO_LARGE, head_too_large()))
            self.transport.close()

        def _refuse(self, data: bytes) -> None:
            hint = addresses.tls_on_http if data.startswith(TLS_HELLO) else addresses.grpc_on_http
            _log.warning(hint)
            # HTTP/1.1 even for gRPC: the client then fails with "Trying to connect an http1.x server". It
            # would not show the hint in a GOAWAY, and would retry many times a second.
            self.transport.write(bad_request(hint))
            self.transport.close()

    return HttpProtocol


def _without_upgrade(data: bytes) -> bytes:
    """Remove `Upgrade` from the head: no surface supports it, and httptools would drop the body.

    Java's HttpClient requests HTTP/2 with this header.
    """
    end = data.find(b"\r\n\r\n")
    head = data if end < 0 else data[:end]
    if b"\r\nupgrade:" not in head.lower():
        return data
    return _UPGRADE.sub(b"", head) + data[len(head) :]


def _reset(transport: Any) -> None:
    """Close a connection with a TCP reset instead of an orderly close."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
