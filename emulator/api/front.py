"""Listeners that look at the first bytes of a connection and pass it to the right server.

Plain-text gRPC and TLS each have a port. HTTP/2 is proxied to the gRPC server, which starts with the first
such connection. TLS connections that negotiate HTTP/1.1 are served by uvicorn's protocol directly, so client
address and scheme are correct. A client that uses the wrong protocol gets an error that says what to change.
All of this runs in the HTTP server's event loop.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import socket
import ssl
import struct
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from emulator.api.auth import Auth
from emulator.api.calls import ServiceMethods
from emulator.http import RESET

if TYPE_CHECKING:
    from emulator.api.grpc_server import GrpcServer

_log = logging.getLogger(__name__)

_TLS_HELLO = b"\x16\x03"
_HTTP_2 = b"PRI"
_NO_HTTP_1 = (_TLS_HELLO, b"PRI * HTTP/2")
# The TLS alerts of a client that does not trust the CA.
_DISTRUST = ("TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_UNKNOWN")
#: The maximum size of a request line with its headers, in bytes.
MAX_HEAD = 64 * 1024
_HEAD_TOO_LARGE = 431
_LONGEST_URL = 65535  # the limit of httptools
_UPGRADE = re.compile(rb"\r\nupgrade:[^\r]*", re.IGNORECASE)
_PATIENCE_S = 10.0
_PARTIAL_PAUSE_S = 0.02
_ACCEPT_PAUSE_S = 0.5
# The bytes of a refused request that are still read: otherwise the client would see a reset, not the answer.
_DRAIN_BYTES = 1024 * 1024
_DRAIN_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Addresses:
    """The address of each surface (`host:port`, None if off), and hints for clients at the wrong one."""

    http: str
    grpc: str | None = None
    tls: str | None = None

    @property
    def tls_on_grpc(self) -> str:
        """The text for a TLS hello on the plain-text gRPC port."""
        return (
            f"A client opened the plain-text gRPC port {self.grpc} with TLS. Make its channel plain text"
            f' (Python: grpc.insecure_channel("{self.grpc}"); Java: usePlaintext(); Go:'
            f" insecure.NewCredentials(); Node: credentials.createInsecure()), or {self._use_tls}."
        )

    @property
    def tls_on_http(self) -> str:
        """The text for a TLS hello on the plain-text REST port."""
        return (
            f"A client opened the plain-text port {self.http} with TLS. Give it the address with its scheme,"
            f' http://{self.http} (Python: api_transport="rest", too), or {self._use_tls}.'
        )

    @property
    def grpc_on_http(self) -> str:
        """The text for plain-text HTTP/2 on the REST port."""
        plain = f"in plain text at {self.grpc}" if self.grpc else "off in plain text: leave out --no-grpc"
        over_tls = f", over TLS at {self.tls}" if self.tls else ""
        return (
            f"A client opened the REST port {self.http} with gRPC (HTTP/2), which is {plain}{over_tls}."
            f" REST is HTTP/1.1 at http://{self.http}."
        )

    @property
    def http_on_grpc(self) -> str:
        """The text for an HTTP/1 request on the gRPC port."""
        return f"This port speaks gRPC only. REST is at http://{self.http}."

    @property
    def plain_on_tls(self) -> str:
        """The text for plain text on the TLS port."""
        plain = f"http://{self.http}" + (f" (gRPC: {self.grpc})" if self.grpc else "")
        return f"This port speaks TLS: use https://{self.tls}, or in plain text {plain}."

    @property
    def _use_tls(self) -> str:
        if self.tls:
            return f"use the TLS port, {self.tls}"
        return "start the emulator with --tls and use the TLS port"


class LazyGrpc:
    """The gRPC server behind the listeners, on a Unix socket. It is imported and started at first use."""

    def __init__(self, service: ServiceMethods, auth: Auth) -> None:
        self._service = service
        self._auth = auth
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._server: GrpcServer | None = None
        self._stopped = False

    def path(self) -> str:
        """Return the path of the Unix socket. The first call starts the server, which takes some 0.2 s.

        Raises:
            OSError: the server has been stopped, or its socket cannot be created.
        """
        with self._lock:
            if self._stopped:
                raise ConnectionAbortedError("The emulator is stopping.")
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="vertex-emulator-"))
            path = self._folder / "grpc"
            if self._server is None:
                from emulator.api.grpc_server import GrpcServer

                server = GrpcServer(self._service, self._auth)
                server.listen(f"unix:{path}")
                server.start()
                self._server = server
            return str(path)

    def stop(self, grace_s: float) -> None:
        """Refuse new calls, give open ones `grace_s` seconds, and remove the socket."""
        with self._lock:
            self._stopped = True
            if self._server is not None:
                self._server.stop(grace_s)
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)


class Front:
    """A listener that reads the first bytes of each connection. Subclasses decide where it goes.

    grpc_path: returns the gRPC server's socket path; called for each gRPC connection, may block.
    patience_s: the timeout for a client's first bytes, and again for its TLS handshake.
    """

    def __init__(
        self,
        listener: socket.socket,
        grpc_path: Callable[[], str],
        addresses: Addresses,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self.addresses = addresses
        self.patience_s = patience_s
        self._listener = listener
        self._grpc_path = grpc_path
        self._tasks: set[asyncio.Task[None]] = set()
        self._relays: set[_Relay] = set()

    def start(self) -> None:
        """Start accepting. Call it in the event loop that will serve."""
        self._listener.setblocking(False)
        self._spawn(self._accept())

    def close(self) -> None:
        """Stop accepting and drop every proxied connection. Call it in the same loop."""
        for task in list(self._tasks):
            task.cancel()
        for relay in list(self._relays):
            relay.abort()

    async def answer(self, connection: socket.socket, first: bytes) -> None:
        """Serve a connection. Its first bytes were peeked at and are still to be read."""
        raise NotImplementedError

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self) -> None:
        while True:
            # Not loop.sock_accept: if this task is cancelled, the connection it has accepted would be lost.
            await _readable(self._listener)
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                continue  # the client is gone again
            except OSError as error:
                # Usually the process is out of file descriptors: wait until some are closed.
                _log.warning("A connection cannot be accepted: %s.", error.strerror or error)
                await asyncio.sleep(_ACCEPT_PAUSE_S)
                continue
            serving = self._spawn(self._serve(connection))
            # Here, because a task that is cancelled before it has begun never runs.
            serving.add_done_callback(partial(_close_if_cancelled, connection))

    async def _serve(self, connection: socket.socket) -> None:
        try:
            connection.setblocking(False)
            async with asyncio.timeout(self.patience_s):
                first = await _first_bytes(connection)
            await self.answer(connection, first)
        except (OSError, TimeoutError) as error:
            # Expected and harmless: port scans, clients that give up, slow handshakes.
            _log.debug("A connection ended before it was served: %r", error)
            connection.close()
        except Exception:
            _log.exception("A connection could not be served.")
            connection.close()

    async def _hand_on(self, outside: _Relay) -> None:
        """Proxy a connection to the gRPC server."""
        loop = asyncio.get_running_loop()
        try:
            path = await loop.run_in_executor(None, self._grpc_path)
            inside = _Relay(self._relays)
            await loop.create_unix_connection(lambda: inside, path)
        except BaseException as error:
            outside.abort()
            if isinstance(error, Exception):
                _log.error("The gRPC server cannot be reached: %s", error)
                return
            raise
        inside.join(outside)


class GrpcFront(Front):
    """The plain-text gRPC port."""

    async def answer(self, connection: socket.socket, first: bytes) -> None:
        """Proxy HTTP/2; answer any other protocol with a hint."""
        if first.startswith(_HTTP_2):
            outside = _Relay(self._relays)
            await asyncio.get_running_loop().connect_accepted_socket(lambda: outside, connection)
            await self._hand_on(outside)
            return
        is_tls = first.startswith(_TLS_HELLO)
        if is_tls:
            _log.warning(self.addresses.tls_on_grpc)
        await _refuse(connection, self.addresses.tls_on_grpc if is_tls else self.addresses.http_on_grpc)


class TlsFront(Front):
    """The TLS port: REST and gRPC, told apart by the protocol that the client negotiates (ALPN).

    context: prefers `http/1.1` to `h2`.
    http_protocol: returns a new protocol of the HTTP server for one connection.
    """

    def __init__(
        self,
        listener: socket.socket,
        grpc_path: Callable[[], str],
        addresses: Addresses,
        context: ssl.SSLContext,
        http_protocol: Callable[[], asyncio.Protocol],
        patience_s: float = _PATIENCE_S,
    ) -> None:
        super().__init__(listener, grpc_path, addresses, patience_s)
        self._context = context
        self._http_protocol = http_protocol

    async def answer(self, connection: socket.socket, first: bytes) -> None:
        """Complete the TLS handshake, then serve the negotiated protocol."""
        if not first.startswith(_TLS_HELLO):
            if first.startswith(_HTTP_2):
                _log.warning(
                    "A client spoke plain-text gRPC on the TLS port. %s", self.addresses.plain_on_tls
                )
            await _refuse(connection, self.addresses.plain_on_tls)
            return
        outside = _Relay(self._relays)
        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: outside,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self.patience_s,
            )
        except ssl.SSLError as error:
            if error.reason in _DISTRUST:
                _log.warning(
                    "A client does not trust the certificate at %s; `vertex-emulator env` says what to set.",
                    self.addresses.tls,
                )
            raise
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
            await self._hand_on(outside)
        else:
            outside.give_to(self._http_protocol())


class _Relay(asyncio.Protocol):
    """One side of a proxied connection: it writes what the other side reads, with backpressure."""

    def __init__(self, all_relays: set[_Relay]) -> None:
        self._all = all_relays
        self._transport: Any = None
        self._other: _Relay | None = None
        self._early: list[bytes] = []
        self._ended = False
        self._lost = False

    def join(self, other: _Relay) -> None:
        """Start passing bytes in both directions."""
        self._other, other._other = other, self
        if self._lost or other._lost:
            self._transport.close()
            other._transport.close()
            return
        for side in (self, other):
            side._catch_up()

    def give_to(self, protocol: asyncio.Protocol) -> None:
        """Hand the connection to another protocol, from its first byte."""
        if self._lost:
            return
        self._all.discard(self)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        for data in self._early:
            protocol.data_received(data)
        self._transport.resume_reading()

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pause reading until the other side is connected."""
        self._all.add(self)
        self._transport = transport
        self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Write the bytes to the other side, or keep them until there is one."""
        if self._other is None:
            self._early.append(data)
        else:
            self._other._transport.write(data)

    def eof_received(self) -> bool:
        """Pass on the end of the stream. Without TLS the opposite direction stays open."""
        self._ended = True
        if self._other is not None:
            self._other._finish()
        return self._can_half_close()

    def pause_writing(self) -> None:
        """Pause reading from the other side."""
        if self._other is not None and not self._other._transport.is_closing():
            self._other._transport.pause_reading()

    def resume_writing(self) -> None:
        """Resume reading from the other side."""
        if self._other is not None and not self._other._transport.is_closing():
            self._other._transport.resume_reading()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Close the other side once it has written its buffer."""
        self._lost = True
        self._all.discard(self)
        if self._other is not None:
            self._other._transport.close()

    def _catch_up(self) -> None:
        assert self._other is not None
        early, self._early = self._early, []
        for data in early:
            self._other._transport.write(data)
        if self._ended:
            self._other._finish()
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _finish(self) -> None:
        if self._transport.is_closing():
            return
        if self._can_half_close():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _can_half_close(self) -> bool:
        return bool(self._transport.can_write_eof())


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
                self.transport.write(_bad_request(not_ascii()))
                self.transport.close()
            else:
                super().send_400_response(msg)

        def _refuse_head(self) -> None:
            self.transport.write(_plain_answer(_HEAD_TOO_LARGE, head_too_large()))
            self.transport.close()

        def _refuse(self, data: bytes) -> None:
            hint = addresses.tls_on_http if data.startswith(_TLS_HELLO) else addresses.grpc_on_http
            _log.warning(hint)
            # HTTP/1.1 even for gRPC: the client then fails with "Trying to connect an http1.x server". It
            # would not show the hint in a GOAWAY, and would retry many times a second.
            self.transport.write(_bad_request(hint))
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


def _close_if_cancelled(connection: socket.socket, serving: asyncio.Task[None]) -> None:
    if serving.cancelled():
        connection.close()


async def _first_bytes(connection: socket.socket) -> bytes:
    """Peek at the first bytes of a connection; they stay in its buffer."""
    while True:
        try:
            first = connection.recv(len(_HTTP_2), socket.MSG_PEEK)
        except BlockingIOError:
            await _readable(connection)
            continue
        if not first:
            raise ConnectionResetError("closed without a word")
        if len(first) >= len(_HTTP_2) or not (_HTTP_2.startswith(first) or _TLS_HELLO.startswith(first)):
            return first
        await asyncio.sleep(_PARTIAL_PAUSE_S)  # the socket stays readable, so wait a moment


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)


async def _refuse(connection: socket.socket, text: str) -> None:
    """Answer 400 with a plain text that every client shows, wait until the client has read it, close."""
    loop = asyncio.get_running_loop()
    with connection:
        await loop.sock_sendall(connection, _bad_request(text))
        connection.shutdown(socket.SHUT_WR)
        left = _DRAIN_BYTES
        async with asyncio.timeout(_DRAIN_TIMEOUT_S):
            while left > 0 and (data := await loop.sock_recv(connection, 65536)):
                left -= len(data)


def not_ascii() -> str:
    """Return the error text for a path that is not percent-encoded."""
    return (
        "The request line holds characters outside ASCII; percent-encode them as UTF-8, as in %C3%A9 for é"
        " (RFC 3986, section 2)."
    )


def head_too_large() -> str:
    """Return the error text for a request line and headers that are too long."""
    return f"The request line and the headers exceed {MAX_HEAD} bytes; send fewer or shorter headers."


def _bad_request(text: str) -> bytes:
    return _plain_answer(400, text)


def _plain_answer(status: int, text: str) -> bytes:
    body = f"{text}\n".encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
