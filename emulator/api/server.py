"""The ports of the emulator, and the HTTP server with the listeners in its event loop."""

import asyncio
import socket
import threading
from contextlib import ExitStack
from typing import Any

import uvicorn

from emulator.api.hints import MAX_HEAD, Addresses
from emulator.api.http_protocol import http_protocol_of
from emulator.api.listener import Listener
from emulator.config import Settings

# Clients reuse idle connections: Node's client reports ECONNRESET if the server closes one after 5 s.
_KEEP_ALIVE_S = 75
_OPEN_REQUESTS_GRACE_S = 3
_TLS_GOODBYE_S = 0.3
_BACKLOG = 2048
_TLS_PORT = 8443


class PortUnusable(Exception):
    """A port cannot be opened, or has no use; the message names the cause and the remedy."""


class Ports:
    """Opens every port, before any other part starts. Raises PortUnusable."""

    def __init__(self, settings: Settings, parts: ExitStack) -> None:
        self._settings = settings
        self._parts = parts
        self.grpc: socket.socket | None = None
        self.tls: socket.socket | None = None
        _refuse_ports_without_use(settings)
        self.http = self._listen("Port", settings.port, "choose another with --port (0 takes a free one)")
        if settings.grpc:
            next_port = self.http.getsockname()[1] + 1 if settings.port else 0
            port = next_port if settings.grpc_port is None else settings.grpc_port
            self.grpc = self._listen("gRPC port", port, "choose another with --grpc-port, or use --no-grpc")
        if settings.tls:
            usual = _TLS_PORT if settings.port else 0
            port = usual if settings.tls_port is None else settings.tls_port
            self.tls = self._listen("TLS port", port, "choose another with --tls-port")
        self.addresses = Addresses(
            self._address(self.http),
            self._address(self.grpc) if self.grpc else None,
            self._address(self.tls) if self.tls else None,
        )

    def _listen(self, what: str, port: int, remedy: str) -> socket.socket:
        host = self._settings.host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        self._parts.callback(listener.close)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise PortUnusable(
                f"{what} {port} of {host} cannot be had ({reason}). Stop what uses it, {remedy}, or"
                " listen on another address with --host."
            ) from error
        return listener

    def _address(self, listener: socket.socket) -> str:
        return f"{self._settings.client_host}:{listener.getsockname()[1]}"


def _refuse_ports_without_use(settings: Settings) -> None:
    if settings.tls_port is not None and not settings.tls:
        raise PortUnusable(f"tls_port is {settings.tls_port}, but TLS is off. Add --tls, or leave it out.")
    if settings.grpc_port is not None and not settings.grpc:
        raise PortUnusable(f"grpc_port is {settings.grpc_port}, but gRPC is off. Leave one of the two out.")


class Server(uvicorn.Server):
    """uvicorn with the listeners in its loop. `is_up` is set once its socket is open."""

    def __init__(self, app: object, addresses: Addresses) -> None:
        #: How long open requests may still take when the server stops, in seconds.
        self.grace_s = _OPEN_REQUESTS_GRACE_S
        super().__init__(
            uvicorn.Config(
                app,  # type: ignore[arg-type]
                http=http_protocol_of(addresses),
                h11_max_incomplete_event_size=MAX_HEAD,
                log_config=None,
                access_log=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=self.grace_s,
                server_header=False,
            )
        )
        self.listeners: list[Listener] = []
        self.is_up = threading.Event()

    def protocol(self) -> asyncio.Protocol:
        """Return a new protocol for one HTTP connection. Call it once the server is up."""
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    def end(self, thread: threading.Thread) -> None:
        """Finish open requests and wait for the thread that runs the server."""
        self.should_exit = True
        thread.join()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        for listener in self.listeners:
            listener.start()
        self.is_up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in self.listeners:
            listener.close()
        asyncio.get_running_loop().call_later(_TLS_GOODBYE_S, self._drop_silent)
        await super().shutdown(sockets=sockets)

    def _drop_silent(self) -> None:
        """Abort closing connections that have sent everything: an idle TLS client may never confirm."""
        for connection in list(self.server_state.connections):
            transport: Any = connection.transport
            if transport.is_closing() and not transport.get_write_buffer_size():
                transport.abort()
