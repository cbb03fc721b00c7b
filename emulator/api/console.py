"""The web console: its page, its static files, and redirects from the console links that clients print.

The files are in `console/` and need no build step. docs/console.md describes the console.
"""

import secrets
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from emulator.vertex.names import CONSOLE

_FOLDER = Path(__file__).with_name("console")
_STATIC = f"{CONSOLE}/static/"
_STATIC_MARK = b"{{static}}"
_NONCE_MARK = b"{{nonce}}"
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}
_POLICY = "content-security-policy"
HEADERS = {
    _POLICY: "; ".join(
        (
            "default-src 'none'",
            # Not 'self', because objects of buckets have the same origin. The page's script has a nonce,
            # which the modules that it imports inherit.
            "script-src 'none'",
            "style-src 'self'",
            "img-src 'self' blob:",
            "media-src 'self' blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        )
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_PAGE_CACHING = {"cache-control": "no-cache"}
_FILE_CACHING = {"cache-control": "public, max-age=31536000, immutable"}


def mount(app: Any) -> None:
    """Add the console to an application."""
    app.router.routes.extend(_routes())


def _routes() -> list[BaseRoute]:
    table: list[tuple[str, Any]] = [
        (_STATIC + "{version}/{name:path}", _static),
        (_STATIC + "{name:path}", _nothing),
        (CONSOLE, _page),
        (CONSOLE + "/{page:path}", _page),
        # Vertex: the SDK prints the first two of these links, Airflow the others.
        ("/agent-platform/locations/{location}/batch-predictions/{job}", _job_link),
        ("/ai/platform/locations/{location}/batch-predictions/{job}", _job_link),
        ("/vertex-ai/locations/{location}/batch-predictions/{job}", _job_link),
        ("/vertex-ai/batch-predictions", _list_link),
    ]
    return [_BrowserRoute("/", _home), *(Route(path, endpoint) for path, endpoint in table)]


class _BrowserRoute(Route):
    """A route for browsers only. For other clients the path behaves as if there were no console."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is Match.FULL and "text/html" not in _accept(scope):
            return Match.NONE, {}
        return match, child


def _accept(scope: Scope) -> str:
    return b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")


async def _home(_request: Request) -> Response:
    return _redirect(CONSOLE)


async def _page(_request: Request) -> Response:
    nonce = secrets.token_urlsafe(16)
    page = (_FOLDER / "index.html").read_bytes().replace(_STATIC_MARK, f"{_STATIC}{_version()}".encode())
    policy = HEADERS[_POLICY].replace("script-src 'none'", f"script-src 'nonce-{nonce}'")
    return Response(
        page.replace(_NONCE_MARK, nonce.encode()),
        media_type="text/html",
        headers={**HEADERS, _POLICY: policy, **_PAGE_CACHING},
    )


async def _nothing(_request: Request) -> Response:
    raise HTTPException(404)


async def _static(request: Request) -> Response:
    path = _FOLDER / request.path_params["name"]
    kind = _TYPES.get(path.suffix)
    if kind is None or ".." in path.parts or not path.is_file():
        raise HTTPException(404)
    # A page loaded before an update requests the old version: send the new files, but forbid caching.
    caching = _FILE_CACHING if request.path_params["version"] == _version() else _PAGE_CACHING
    return FileResponse(path, media_type=kind, headers={**HEADERS, **caching})


def _version() -> str:
    """Return a text that changes whenever a file of the console does."""
    found = sorted((str(path), path.stat()) for path in _FOLDER.rglob("*") if path.is_file())
    shown = repr([(name, entry.st_mtime_ns, entry.st_size) for name, entry in found])
    return f"{zlib.crc32(shown.encode()):08x}"


async def _job_link(request: Request) -> Response:
    location, job = (quote(request.path_params[name], safe="") for name in ("location", "job"))
    return _redirect(f"{_place(request, location)}/{job}")


async def _list_link(request: Request) -> Response:
    return _redirect(_place(request, "-"))


def _place(request: Request, location: str) -> str:
    """Return the path of a project's job list. `-`: all locations, or the project viewed last."""
    project = quote(request.query_params.get("project", ""), safe="") or "-"
    return f"{CONSOLE}/projects/{project}/locations/{location}/batch-predictions"


def _redirect(path: str) -> Response:
    return RedirectResponse(path, 307, headers={**HEADERS, **_PAGE_CACHING})
