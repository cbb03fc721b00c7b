"""An HTTP proxy on this machine for gRPC: it opens tunnels (CONNECT) to all hosts but those it refuses."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_HEAD_BYTES = 65_536
_CHUNK_BYTES = 65_536
_TIMEOUT_S = 20.0
_END_OF_HEAD = b"\r\n\r\n"
_OPEN = b"HTTP/1.1 200 Connection established" + _END_OF_HEAD
_LAST_PORT = 65_535


@contextmanager
def tunnels(refuses: Callable[[str], bool], beyond: str | None = None) -> Iterator[str]:
    """Serve as long as the context lasts; yields the proxy's URL.

    Tunnels that are open at the end stay open, so that a client that outlives the context is not cut off.

    Args:
        refuses: whether to refuse a host; called in the thread of its tunnel.
        beyond: the URL of an upstream proxy, `http://proxy:3128`; None for direct connections.
    """
    following = urllib.parse.urlsplit(beyond or "")
    # Clients take name and password from the URL; they are for the upstream proxy.
    user = "".join(following.netloc.rpartition("@")[:2])
    address = (following.hostname, following.port or 80) if following.hostname else None
    closing = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = _Door(refuses, address).open
        thread = threading.Thread(target=target, args=(listener, closing), name="tunnels", daemon=True)
        thread.start()
        try:
            yield f"http://{user}127.0.0.1:{listener.getsockname()[1]}"
        finally:
            closing.set()
            # A connection wakes the thread; on some systems `close` alone would leave it waiting.
            with contextlib.suppress(OSError):
                socket.create_connection(listener.getsockname(), timeout=_TIMEOUT_S).close()
            thread.join()


@dataclass(frozen=True)
class _Door:
    refuses: Callable[[str], bool]
    beyond: tuple[str, int] | None

    def open(self, listener: socket.socket, closing: threading.Event) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            if closing.is_set():
                client.close()
                return
            threading.Thread(target=self._serve, args=(client,), name="tunnel", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(_TIMEOUT_S)
            head, rest = _head(client)
            target = _target(head)
            if target is None:
                client.sendall(_refusal("400 Only CONNECT host:port is understood here"))
            elif self.refuses(target[0]):
                client.sendall(_refusal("403 This test uses the emulator"))
            else:
                self._tunnel(client, target, head, rest)

    def _tunnel(self, client: socket.socket, target: tuple[str, int], head: bytes, rest: bytes) -> None:
        try:
            server = socket.create_connection(self.beyond or target, timeout=_TIMEOUT_S)
        except (OSError, UnicodeError) as error:
            host, port = self.beyond or target
            client.sendall(_refusal(f"502 {host}:{port} cannot be reached: {error}"))
            return
        with server:
            if self.beyond:
                server.sendall(head)
            else:
                client.sendall(_OPEN)
            server.sendall(rest)
            _relay(client, server)


def _head(client: socket.socket) -> tuple[bytes, bytes]:
    """A request's line and headers, and the bytes after them that have arrived already."""
    read = b""
    while _END_OF_HEAD not in read and len(read) < _HEAD_BYTES:
        chunk = client.recv(_CHUNK_BYTES)
        if not chunk:
            break
        read += chunk
    head, end, rest = read.partition(_END_OF_HEAD)
    return head + end, rest


def _target(head: bytes) -> tuple[str, int] | None:
    method, target, *_ = [*head.decode(errors="replace").split(), "", ""]
    host, _, port = target.rpartition(":")
    if method != "CONNECT" or not host or not port.isdecimal() or int(port) > _LAST_PORT:
        return None
    return host.strip("[]"), int(port)


def _refusal(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until either side has ended."""
    with selectors.DefaultSelector() as ready:
        for source, sink in ((one, other), (other, one)):
            source.settimeout(None)
            ready.register(source, selectors.EVENT_READ, sink)
        while True:
            for key, _ in ready.select():
                source, sink = key.fileobj, key.data  # type: ignore[assignment]
                data = source.recv(_CHUNK_BYTES)
                if not data:
                    return
                sink.sendall(data)
