"""Web sites of other people: small HTTP servers at other loopback addresses, and what their pages try."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ADDRESS = "127.0.0.7"
"""Where the foreign site listens: a loopback address that is not the emulator's."""

FOREIGN_NAMES = ("intranet", "evil.example", "x.googleapis.com")
"""Names that the browser resolves to the foreign site."""

REBOUND_NAME = "rebound.example"
"""A foreign name that the browser resolves to the emulator, as after DNS rebinding."""

RESOLVER_RULES = ", ".join(
    [*(f"MAP {name} {ADDRESS}" for name in FOREIGN_NAMES), f"MAP {REBOUND_NAME} 127.0.0.1"]
)


class Site:
    """A foreign site that serves the pages it is given; `requests` are the paths it was asked for."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {"/": "<!doctype html><title>A foreign page</title>", "/favicon.ico": ""}
        self.requests: list[str] = []
        self.port = 0

    def url(self, host: str = ADDRESS, path: str = "/") -> str:
        """The address of a page under one of the site's names."""
        return f"http://{host}:{self.port}{path}"


@contextmanager
def serve_site() -> Iterator[Site]:
    """Serve a foreign site until the block ends."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.requests.append(self.path)
            page = site.pages.get(self.path)
            body = (page or "").encode()
            self.send_response(200 if page is not None else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: Any) -> None:
            pass

    with ThreadingHTTPServer((ADDRESS, 0), Handler) as server:
        site.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield site
        server.shutdown()
        thread.join()
