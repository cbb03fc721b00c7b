"""Servers that speak Cloud Storage, for the emulator to use as its endpoint, and what can go wrong there."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from emulator.app import Emulator
from emulator.config import Settings
from emulator.storage.cache import FileCache
from emulator.storage.endpoint import Endpoint
from emulator.storage.gcs_client import GcsClient
from emulator.storage.gcs_store import GcsStore

PROGRAM_VARIABLE = "EMULATOR_FAKE_GCS_SERVER"
_START_TIMEOUT_S = 30
_NOT_PASSED_ON = ("host", "connection", "transfer-encoding", "content-length")


def store_at(url: str, folder: Path, limit: int = 1 << 30) -> GcsStore:
    """The store under test, with a cache in `folder`."""
    endpoint = Endpoint.parse(url)
    return GcsStore(endpoint, GcsClient(endpoint), FileCache(folder, limit))


def client_at(url: str) -> Any:
    """Google's own client, for what the tests put there and look at."""
    return storage.Client(
        project="any", credentials=AnonymousCredentials(), client_options={"api_endpoint": url}
    )


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def another_emulator(folder: Path) -> Iterator[str]:
    """The Cloud Storage surface of an emulator without models; its URL."""
    settings = Settings(port=0, data_dir=folder, bundled_models=False, workers=1, grpc=False)
    with Emulator(settings) as emulator:
        yield emulator.url


@contextmanager
def fake_gcs_server(folder: Path | None = None, port: int | None = None) -> Iterator[str]:
    """fake-gcs-server, keeping its objects in memory or in a folder; its URL. Skips where there is none."""
    program = os.environ.get(PROGRAM_VARIABLE)
    if program is None:
        pytest.skip(f"needs fake-gcs-server, named by {PROGRAM_VARIABLE}; `make test-gcs` sees to it")
    port = port or free_port()
    where = ["-backend", "memory"] if folder is None else ["-filesystem-root", str(folder)]
    command = [program, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-log-level", "error"]
    with subprocess.Popen([*command, *where]) as server:
        try:
            _wait_for(f"http://127.0.0.1:{port}", server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        assert server.poll() is None, "fake-gcs-server ended at once"
        try:
            with urllib.request.urlopen(f"{url}/storage/v1/b", timeout=60):
                return
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, "fake-gcs-server did not come up"
            time.sleep(0.05)


@dataclass
class Request:
    """A request that reached a proxy."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Answer:
    """An answer to a request, the endpoint's or another one; None as `status` drops the connection."""

    status: int | None
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


Disturb = Callable[[Request, Callable[[], Answer]], Answer]


@dataclass
class Proxy:
    """Stands between the emulator and an endpoint. `disturb` gets each request and a way to pass it on."""

    url: str
    requests: list[Request] = field(default_factory=list)
    disturb: Disturb = field(default=lambda _, pass_on: pass_on())

    def count(self, method: str, part: str) -> int:
        """How many requests of that method had `part` in their path."""
        return sum(request.method == method and part in request.path for request in self.requests)


@contextmanager
def proxy_to(target: str) -> Iterator[Proxy]:
    """A proxy in front of the endpoint `target`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, self.path, dict(self.headers), body)
            proxy.requests.append(request)
            answer = proxy.disturb(request, lambda: _forward(target, request))
            if answer.status is None:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                # Where to send an upload is this proxy, too.
                self.send_header(
                    name, value.replace(target, proxy.url) if name.lower() == "location" else value
                )
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that left is no news."""

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy = Proxy(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()


def _forward(target: str, request: Request) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(target).netloc, timeout=30)
    try:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _NOT_PASSED_ON}
        connection.request(request.method, request.path, request.body, headers)
        answer = connection.getresponse()
        kept = {k: v for k, v in answer.getheaders() if k.lower() not in _NOT_PASSED_ON}
        return Answer(answer.status, answer.read(), kept)
    finally:
        connection.close()
