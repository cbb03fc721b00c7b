"""Refuses connections to real Google hosts while a test uses the emulator, and says so.

Python's own sockets are watched where names are resolved and connections are made. Through a proxy neither
would happen, so Google's hosts are set to be reached without one. gRPC's sockets are not Python's: it is told
to use a proxy of ours, which writes down who was asked for, refuses Google and lets everyone else through.
All this holds for the whole process; programs that a test starts inherit what the environment says.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from emulator.testing.environment import LOCAL, NO_GRPC_PROXY, changed, joined, listed, no_proxy
from emulator.testing.tunnels import tunnels

_DOMAINS = ("googleapis.com", "google.com", "googleusercontent.com", "cloud.goog", "google.internal")
_METADATA = ("169.254.169.254", "fd20:ce::254")
# google-auth asks it in the background on behalf of any service account, and shrugs when it is not there.
_SILENT = ("iamcredentials.googleapis.com",)
# gRPC takes the first that is set, in lower case only.
_GRPC_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")

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

    def refuses(self, host: str) -> bool:
        """Whether it is a host of Google's; if so, write it down."""
        if is_google(host):
            self.note(host)
            return True
        return False

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
        with _watched_sockets(self), _watched_proxies(self):
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
def _watched_proxies(guard: Guard) -> Iterator[None]:
    """HTTP libraries pass by any proxy, to where names are watched; gRPC goes through one of ours."""
    with tunnels(guard.refuses, beyond=_grpc_proxy()) as proxy:
        past_proxies = no_proxy((*LOCAL, *_DOMAINS, *_METADATA))
        grpc = {_GRPC_PROXIES[0]: proxy, NO_GRPC_PROXY: _no_grpc_proxy()}
        with changed({**past_proxies, **grpc}):
            yield


def _grpc_proxy() -> str | None:
    """The proxy that gRPC would take by itself."""
    return next(filter(None, map(os.environ.get, _GRPC_PROXIES)), None)


def _no_grpc_proxy() -> str:
    """What gRPC reaches without a proxy, less what would let it pass by ours to Google."""
    given = listed(os.environ.get(NO_GRPC_PROXY, os.environ.get("no_proxy", "")))
    return joined([*(host for host in given if not _covers_google(host)), *LOCAL, "[::1]"])


def _covers_google(suffix: str) -> bool:
    """Whether names of Google's end like this: `.google.com` as well as `.com`."""
    bare = suffix.lower().lstrip(".")
    return is_google(bare) or any(domain.endswith(bare) for domain in _DOMAINS)
