"""Refuses connections to real Google hosts while a test uses the emulator, and says so.

Python's own sockets are watched where names are resolved and connections are made. gRPC's are not Python's:
it is told to use a proxy, a listener of ours that writes down who was asked for and refuses. Both hold for
the whole process; programs that a test starts inherit the proxy.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_DOMAINS = ("googleapis.com", "google.com", "googleusercontent.com", "cloud.goog", "google.internal")
_METADATA = ("169.254.169.254", "fd20:ce::254")
# google-auth asks it in the background on behalf of any service account, and shrugs when it is not there.
_SILENT = ("iamcredentials.googleapis.com",)
# gRPC reads them in lower case only.
_PROXY, _NO_PROXY = "grpc_proxy", "no_grpc_proxy"
_LOCAL = "localhost,127.0.0.1,::1,[::1]"
_HEAD_BYTES = 4096

REMEDY = (
    "A client was made that does not point at the emulator. The SDK does by itself when"
    " `google.cloud.aiplatform` is imported before the test begins (or taken as `vertex_emulator.aiplatform`)"
    " and the code under test leaves `api_endpoint` alone; other clients are `vertex_emulator.jobs`,"
    " `.jobs_grpc`, `.storage` and `.client(...)`. docs/testing.md says more."
)


class RealGoogle(ConnectionRefusedError):
    """A connection to a real Google host was refused."""


def is_google(host: object) -> bool:
    """Whether a host name or address is one of Google's (or the metadata server's, where credentials lie)."""
    name = host.decode(errors="replace") if isinstance(host, bytes) else str(host or "")
    name = name.lower().rstrip(".")
    return name in _METADATA or any(name == domain or name.endswith(f".{domain}") for domain in _DOMAINS)


class Guard:
    """What was refused; `on_refusal` hears each host as it happens, in the thread that asked."""

    def __init__(self, on_refusal: Callable[[str], None]) -> None:
        self._on_refusal = on_refusal
        self._lock = threading.Lock()
        self._refused: list[str] = []

    @property
    def refused(self) -> list[str]:
        """The hosts that were asked for, each once."""
        with self._lock:
            return list(dict.fromkeys(self._refused))

    def forget(self) -> None:
        """Begin anew: what was refused so far was expected."""
        with self._lock:
            self._refused.clear()

    def note(self, host: str) -> None:
        """Write down a refused host."""
        if host in _SILENT:
            return
        with self._lock:
            self._refused.append(host)

    def check(self, host: object) -> None:
        """Refuse a host of Google's."""
        if not is_google(host):
            return
        name = host.decode() if isinstance(host, bytes) else str(host)
        self.note(name)
        if name not in _SILENT:
            self._on_refusal(name)
        raise RealGoogle(f"{name} is a real Google host, and this test uses the emulator. {REMEDY}")

    @contextmanager
    def active(self) -> Iterator[Guard]:
        """Refuse as long as the context lasts."""
        with _watched_sockets(self), _proxied_grpc(self):
            yield self


@contextmanager
def _watched_sockets(guard: Guard) -> Iterator[None]:
    getaddrinfo, connect, connect_ex = socket.getaddrinfo, socket.socket.connect, socket.socket.connect_ex

    def checked_getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        guard.check(host)
        return getaddrinfo(host, *arguments, **options)

    def checked_connect(self: socket.socket, address: Any) -> None:
        guard.check(address[0] if isinstance(address, tuple) else None)
        connect(self, address)

    def checked_connect_ex(self: socket.socket, address: Any) -> int:
        guard.check(address[0] if isinstance(address, tuple) else None)
        return connect_ex(self, address)

    socket.getaddrinfo = checked_getaddrinfo
    socket.socket.connect = checked_connect  # type: ignore
    socket.socket.connect_ex = checked_connect_ex  # type: ignore
    try:
        yield
    finally:
        socket.getaddrinfo = getaddrinfo
        socket.socket.connect = connect  # type: ignore
        socket.socket.connect_ex = connect_ex  # type: ignore


@contextmanager
def _proxied_grpc(guard: Guard) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in (_PROXY, _NO_PROXY)}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(
            target=_refuse_all, args=(listener, guard), name="google-guard", daemon=True
        )
        thread.start()
        os.environ[_PROXY] = f"http://127.0.0.1:{listener.getsockname()[1]}"
        os.environ[_NO_PROXY] = _LOCAL
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
            # `close` alone would leave the thread waiting.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _refuse_all(listener: socket.socket, guard: Guard) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            words = connection.recv(_HEAD_BYTES).decode(errors="replace").split()
            host = words[1].rpartition(":")[0] if len(words) > 1 else ""
            if is_google(host):
                guard.note(host)
            connection.sendall(b"HTTP/1.1 403 This test uses the emulator\r\nContent-Length: 0\r\n\r\n")
