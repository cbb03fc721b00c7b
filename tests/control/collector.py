"""A receiver of OpenTelemetry's spans, and a project on an emulator that exports them."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from emulator.app import Emulator
from tests.control.project import Project, client_of, make_settings
from tests.control.receiver import PATIENCE_S


@dataclass
class Collector:
    """The spans that were exported, and the resources that they came from."""

    endpoint: str = ""
    spans: list[Any] = field(default_factory=list)
    resources: list[dict[str, str]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, data: bytes) -> None:
        with self.changed:
            for resource in ExportTraceServiceRequest.FromString(data).resource_spans:
                self.resources.append(attributes(resource.resource))
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
            self.changed.notify_all()

    def wait(self, name: str, count: int = 1) -> Sequence[Any]:
        """The spans of that name, once there are so many."""

        def named() -> list[Any]:
            return [span for span in self.spans if span.name == name]

        with self.changed:
            assert self.changed.wait_for(lambda: len(named()) >= count, PATIENCE_S), self.spans
            return named()


def attributes(of: Any) -> dict[str, Any]:
    """The attributes of a span or a resource."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in of.attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A receiver of OTLP over HTTP on a free port."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            found.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    found.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def traced(folder: Path, **changes: Any) -> Iterator[Project]:
    """A project on an emulator that exports spans."""
    with Emulator(make_settings(folder, otel=True, **changes)) as emulator, client_of(emulator) as http:
        yield Project(emulator, http, emulator.settings.buckets)
