"""An HTTP server that receives notifications, and answers as a test says."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from emulator.app import Emulator
from tests.control.project import Project, client_of, make_settings
from tests.execution.servers import wait_for

PATIENCE_S = 60

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Receiver:
    """What was received so far. `answers` answer the first requests; later ones are answered with 204."""

    url: str
    answers: list[Answer] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    closing: threading.Event = field(default_factory=threading.Event)

    def wait(self, count: int = 1) -> Sequence[Received]:
        """The requests, once there are at least so many."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.received) >= count, PATIENCE_S), self.received
            return list(self.received)

    def hang(self, _handler: BaseHTTPRequestHandler) -> None:
        """An answer that never comes."""
        self.closing.wait()

    def drip(self, handler: BaseHTTPRequestHandler) -> None:
        """An answer of which a byte comes now and then."""
        handler.wfile.write(b"HTTP/1.1 204 No Content\r\n")
        while not self.closing.wait(0.1):
            handler.wfile.write(b"x")


def status(code: int, **headers: str) -> Answer:
    """An answer with that status."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@contextmanager
def receiving(*answers: Answer, port: int = 0) -> Iterator[Receiver]:
    """A receiver on a free port, or on that one."""
    receiver = Receiver("", list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with receiver.changed:
                receiver.received.append(Received("POST", self.path, dict(self.headers), body))
                answer = receiver.answers.pop(0) if receiver.answers else status(204)
                receiver.changed.notify_all()
            answer(self)

        def do_GET(self) -> None:
            with receiver.changed:
                receiver.received.append(Received("GET", self.path, dict(self.headers), None))
            status(200)(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # The sender cuts some connections.

    server = Server(("127.0.0.1", port), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def notifying(folder: Path, *urls: str, **changes: Any) -> Iterator[Project]:
    """A project on an emulator that notifies these URLs."""
    with (
        Emulator(make_settings(folder, notify_url=list(urls), **changes)) as emulator,
        client_of(emulator) as http,
    ):
        yield Project(emulator, http, emulator.settings.buckets)


def notes(project: Project, job: str) -> list[str]:
    """The steps of a job that tell of notifications, once none is due any more."""
    url = f"{project.emulator.url}/_emulator/jobs/{job}/explain"
    explained = wait_for(url, lambda told: "notificationsWaiting" not in told)
    return [step["text"] for step in explained["steps"] if step["step"] == "notification"]
