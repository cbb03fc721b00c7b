"""Refuses connections to real Google hosts while a test uses the emulator, and reports them.

Python's own sockets are watched where names are resolved and connections are made. A proxy would bypass both,
so Google's hosts are set to be reached without one. gRPC's sockets are not Python's: gRPC is told to use a
proxy of ours, which records the requested hosts, refuses Google and forwards all others. This holds for the
whole process; programs that a test starts inherit the environment.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.testing.children import REPORT, python_path
from emulator.testing.environment import LOCAL, NO_GRPC_PROXY, changed, joined, listed, no_proxy
from emulator.testing.threads import Threads
from emulator.testing.tunnels import tunnels

_DOMAINS = ("googleapis.com", "google.com", "googleusercontent.com", "cloud.goog", "google.internal")
_METADATA = ("169.254.169.254", "fd20:ce::254")
# google-auth calls it in the background for any service account, and ignores that it is not reachable.
_SILENT = ("iamcredentials.googleapis.com",)
# gRPC takes the first one that is set, in lower case only.
_GRPC_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")

REMEDY = (
    "A client was made that does not point at the emulator. The SDK does by itself as long as the code under"
    " test leaves `api_endpoint` alone; other clients are `vertex_emulator.jobs`, `.jobs_grpc`, `.storage`"
    " and `.client(...)`."
)


class RealGoogle(ConnectionRefusedError):
    """A connection to a real Google host was refused."""


def is_google(host: object) -> bool:
    """Whether a host name or address is one of Google's, or the metadata server, which has credentials."""
    name = host.decode(errors="replace") if isinstance(host, bytes) else str(host or "")
    name = name.lower().rstrip(".")
    return name in _METADATA or any(name == domain or name.endswith(f".{domain}") for domain in _DOMAINS)


@dataclass(frozen=True)
class Refusal:
    """A refused host, the thread that asked for it, and the thread's stack at that time."""

    host: str
    thread: str = ""
    stack: str = ""

    def __str__(self) -> str:
        thread = f" in {self.thread}" if self.thread else ""
        return f"{self.host}{thread}" + (f":\n{self.stack}\n" if self.stack else "")


class Guard:
    """Records refusals; calls `on_refusal` for each one at once, in the thread that asked.

    A thread that an earlier test started is refused, too, but this test is not blamed: see `strays`. Refusals
    in child processes come through the file `report`.
    """

    def __init__(self, on_refusal: Callable[[Refusal], None], *, report: Path | None = None) -> None:
        self._on_refusal = on_refusal
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._refused: list[Refusal] = []
        self._strays: list[Refusal] = []
        self._threads = Threads()
        # A process that only reports keeps no refusals itself.
        self._reports_all = report is not None
        self._report = report
        self._read = 0
        self._staying = ExitStack()

    @property
    def refusals(self) -> list[Refusal]:
        """The refusals of this test and its children, each host once."""
        with self._lock:
            self._read_report()
            return list({one.host: one for one in reversed(self._refused)}.values())[::-1]

    @property
    def refused(self) -> list[str]:
        """The refused hosts, each once."""
        return [one.host for one in self.refusals]

    @property
    def strays(self) -> list[Refusal]:
        """The refusals of threads of earlier tests."""
        with self._lock:
            return list(self._strays)

    def forget(self) -> None:
        """Discard the refusals so far: they were expected."""
        with self._lock:
            self._read_report()
            self._refused.clear()
            self._strays.clear()

    def begin_test(self) -> None:
        """Begin a test in this thread. All other threads that exist belong to earlier tests."""
        self._threads.begin_test()

    def note(self, host: str, thread: str = "", stack: str = "") -> None:
        """Record a refused host."""
        if host in _SILENT:
            return
        refusal = Refusal(host, thread, stack)
        if self._report and (self._reports_all or os.getpid() != self._process):
            _write_report(self._report, refusal)
            return
        with self._lock:
            (self._refused if self._threads.is_of_this_test() else self._strays).append(refusal)

    def refuses(self, host: str) -> bool:
        """Whether a host is one of Google's; if so, record it. For gRPC, whose threads Python does not
        know."""
        if is_google(host):
            if host not in _SILENT:
                with self._lock:
                    self._refused.append(Refusal(host, "gRPC"))
            return True
        return False

    def check(self, host: object) -> None:
        """Raise RealGoogle if a host is one of Google's."""
        if not is_google(host):
            return
        name = host.decode() if isinstance(host, bytes) else str(host)
        thread = f"thread {threading.current_thread().name!r}"
        self.note(name, thread, _stack())
        if name not in _SILENT and self._threads.is_of_this_test():
            self._on_refusal(Refusal(name))
        raise RealGoogle(f"{name} is a real Google host, and this test uses the emulator. {REMEDY}")

    @contextmanager
    def active(self) -> Iterator[Guard]:
        """Refuse as long as the context lasts. The test begins with it."""
        with tempfile.TemporaryDirectory(prefix="vertex-emulator-guard-") as folder:
            self._report = Path(folder) / "refused.jsonl"
            self.begin_test()
            children = {REPORT: str(self._report), "PYTHONPATH": python_path()}
            with self._threads.watched(), _watched_sockets(self), _watched_proxies(self), changed(children):
                yield self
            with self._lock:
                self._read_report()

    def stay(self) -> None:
        """Refuse as long as this process runs. For a child, whose environment its parent has set."""
        self._staying.enter_context(_watched_sockets(self))

    def _read_report(self) -> None:
        if self._reports_all or self._report is None or not self._report.exists():
            return
        with self._report.open(encoding="utf-8") as file:
            file.seek(self._read)
            self._refused += [Refusal(**json.loads(line)) for line in file]
            self._read = file.seek(0, os.SEEK_END)


def complaint(refusals: Sequence[Refusal]) -> str:
    """A test's failure message for refusals."""
    return f"The test tried to reach {', '.join(map(str, refusals))}. {REMEDY}"


def _write_report(report: Path, refusal: Refusal) -> None:
    own = {"host": refusal.host, "thread": f"process {os.getpid()}, {refusal.thread}", "stack": refusal.stack}
    # The test may be over, and its folder deleted.
    with suppress(OSError), report.open("a", encoding="utf-8") as file:
        file.write(json.dumps(own) + "\n")


def _stack() -> str:
    """The stack of the calling thread, outermost first, without the frames of pytest and of this module."""
    frames = traceback.extract_stack()
    hidden = (f"{os.sep}_pytest{os.sep}", f"{os.sep}pluggy{os.sep}", __file__)
    shown = [frame for frame in frames if not any(part in frame.filename for part in hidden)]
    return "\n".join(f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in shown)


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
    """Make HTTP libraries bypass all proxies, so that their names are watched; send gRPC through ours."""
    with tunnels(guard.refuses, beyond=_grpc_proxy()) as proxy:
        past_proxies = no_proxy((*LOCAL, *_DOMAINS, *_METADATA))
        grpc = {_GRPC_PROXIES[0]: proxy, NO_GRPC_PROXY: _no_grpc_proxy()}
        with changed({**past_proxies, **grpc}):
            yield


def _grpc_proxy() -> str | None:
    """The proxy that gRPC would use without the guard."""
    return next(filter(None, map(os.environ.get, _GRPC_PROXIES)), None)


def _no_grpc_proxy() -> str:
    """The hosts that gRPC reaches without a proxy, less those that would let it bypass ours to Google."""
    given = listed(os.environ.get(NO_GRPC_PROXY, os.environ.get("no_proxy", "")))
    return joined([*(host for host in given if not _covers_google(host)), *LOCAL, "[::1]"])


def _covers_google(suffix: str) -> bool:
    """Whether names of Google's hosts end like this: `.google.com` as well as `.com`."""
    bare = suffix.lower().lstrip(".")
    return is_google(bare) or any(domain.endswith(bare) for domain in _DOMAINS)
