"""Listeners that look at the first bytes of a connection and pass it to the right server.

Plain-text gRPC and TLS each have a port. HTTP/2 is proxied to the gRPC server, which starts with the first
such connection. TLS connections that negotiate HTTP/1.1 are served by uvicorn's protocol directly, so client
address and scheme are correct. A client that uses the wrong protocol gets an error that says what to change.
All of this runs in the HTTP server's event loop.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.api.auth import Auth
from emulator.api.calls import ServiceMethods
from emulator.api.hints import Addresses, bad_request
from emulator.api.http_protocol import HTTP_2, TLS_HELLO

if TYPE_CHECKING:
    from emulator.api.grpc_server import GrpcServer

_log = logging.getLogger(__name__)

# The TLS alerts of a client that does not trust the CA.
_DISTRUST = ("TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_UNKNOWN")
_PATIENCE_S = 10.0
_PARTIAL_PAUSE_S = 0.02
_ACCEPT_PAUSE_S = 0.5
# The bytes of a refused request that are still read: otherwise the client would see a reset, not the answer.
_DRAIN_BYTES = 1024 * 1024
_DRAIN_TIMEOUT_S = 2.0


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


class Listener:
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

    async def _proxy(self, outside: _Relay) -> None:
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


class GrpcListener(Listener):
    """The plain-text gRPC port."""

    async def answer(self, connection: socket.socket, first: bytes) -> None:
        """Proxy HTTP/2; answer any other protocol with a hint."""
        if first.startswith(HTTP_2):
            outside = _Relay(self._relays)
            await asyncio.get_running_loop().connect_accepted_socket(lambda: outside, connection)
            await self._proxy(outside)
            return
        is_tls = first.startswith(TLS_HELLO)
        if is_tls:
            _log.warning(self.addresses.tls_on_grpc)
        await _refuse(connection, self.addresses.tls_on_grpc if is_tls else self.addresses.http_on_grpc)


class TlsListener(Listener):
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
        if not first.startswith(TLS_HELLO):
            if first.startswith(HTTP_2):
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
            await self._proxy(outside)
        else:
            outside.switch_to(self._http_protocol())


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

    def switch_to(self, protocol: asyncio.Protocol) -> None:
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


def _close_if_cancelled(connection: socket.socket, serving: asyncio.Task[None]) -> None:
    if serving.cancelled():
        connection.close()


async def _first_bytes(connection: socket.socket) -> bytes:
    """Peek at the first bytes of a connection; they stay in its buffer."""
    while True:
        try:
            first = connection.recv(len(HTTP_2), socket.MSG_PEEK)
        except BlockingIOError:
            await _readable(connection)
            continue
        if not first:
            raise ConnectionResetError("closed without a word")
        if len(first) >= len(HTTP_2) or not (HTTP_2.startswith(first) or TLS_HELLO.startswith(first)):
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
        await loop.sock_sendall(connection, bad_request(text))
        connection.shutdown(socket.SHUT_WR)
        left = _DRAIN_BYTES
        async with asyncio.timeout(_DRAIN_TIMEOUT_S):
            while left > 0 and (data := await loop.sock_recv(connection, 65536)):
                left -= len(data)
