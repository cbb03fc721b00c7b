"""The middleware in front of every HTTP surface. It refuses pages of other sites and checks the token."""

import asyncio
import json
from collections.abc import Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, quote

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emulator.api.auth import SESSION_S, Auth
from emulator.api.errors import error_response, plain_error
from emulator.api.guard_pages import link_page, sign_in_page
from emulator.api.hints import MAX_HEAD, head_too_large, not_ascii
from emulator.api.origin import ForeignPage, OriginGuard
from emulator.gcs.addressing import is_virtual_host
from emulator.http import read_body
from emulator.vertex.errors import ApiError, InvalidArgument, Unauthenticated

Grants = Callable[[Scope, str], Mapping[str, str] | None]
"""Returns the CORS headers that a surface grants a foreign origin for a request; None if it grants none."""
OpenTo = Callable[[Scope], bool]
"""Returns whether a request itself proves that it needs no token, as a signed URL does."""

HEALTH = "/_emulator/health"
SESSION = "/_emulator/session"
TOKEN = "/token"
_WANTED = {
    name.encode(): name
    for name in (
        "host",
        "origin",
        "sec-fetch-site",
        "sec-fetch-mode",
        "authorization",
        "cookie",
        "accept",
        "access-control-request-method",
        "access-control-request-headers",
    )
}
# If one of these came twice, the guard might check one value and the surface use the other.
_SINGLE = (b"host", b"origin", b"sec-fetch-site", b"authorization")
# Paths without a token: the liveness probe and the token endpoint.
_OPEN = {HEALTH: ("GET", "HEAD"), TOKEN: ("POST",)}
_PREFLIGHT_S = 600


class Guard:
    """ASGI middleware that passes a request on or refuses it.

    grants: called for pages whose origin is neither the emulator's nor an allowed one; may block.
    is_open_to: called for requests without a bearer token or session; may block.
    """

    def __init__(
        self, app: ASGIApp, origins: OriginGuard, auth: Auth, *, grants: Grants, is_open_to: OpenTo
    ) -> None:
        self._app = app
        self._origins = origins
        self._auth = auth
        self._grants = grants
        self._is_open_to = is_open_to

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, then pass it on. The guard is the first to look at it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _head_size(scope) > MAX_HEAD:
            error = plain_error(431, head_too_large())
            await Response(error.body, 431, {**error.headers, "connection": "close"})(scope, receive, send)
            return
        if not (scope.get("raw_path") or b"").isascii() or not scope["query_string"].isascii():
            error = plain_error(400, not_ascii())
            await Response(error.body, 400, error.headers)(scope, receive, send)
            return
        headers = {
            _WANTED[name]: value.decode("latin-1") for name, value in scope["headers"] if name in _WANTED
        }
        try:
            _check_single(scope)
            cors = await self._cors(scope, headers)
        except ApiError as refused:
            await _refusal(refused, scope, headers)(scope, receive, send)
            return
        answer: ASGIApp
        if cors is not None and _is_preflight(scope, headers):
            answer = Response(status_code=204)
        else:
            answer = await self._answer(scope, headers, receive)
        await answer(scope, receive, send if cors is None else _with_headers(send, cors))

    async def _answer(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> ASGIApp:
        """Check the token and return the application that answers. No foreign page has sent the request."""
        try:
            if scope["path"] == SESSION and not is_virtual_host(scope):
                return await self._session(scope, headers, receive)
            await self._check_token(scope, headers)
        except ApiError as error:
            return _refusal(error, scope, headers)
        return self._app

    async def _cors(self, scope: Scope, headers: Mapping[str, str]) -> Mapping[str, str] | None:
        """Return the CORS headers for a permitted page of another origin; None for programs and own pages.

        Raises:
            ForeignPage: the page's origin is not permitted.
            PermissionDenied: the Host is not a name of the emulator.
        """
        try:
            origin = self._origins.check(scope["scheme"], headers)
        except ForeignPage as error:
            if not error.origin:
                raise
            granted = await asyncio.to_thread(self._grants, scope, error.origin)
            if granted is None:
                raise
            return granted
        return None if origin is None else _listed_origin(origin, headers)

    async def _check_token(self, scope: Scope, headers: Mapping[str, str]) -> None:
        if self._auth.token is None or _is_open(scope):
            return
        if "authorization" not in headers:
            if self._auth.has_session(_cookie(scope, headers)):
                return
            if await asyncio.to_thread(self._is_open_to, scope):
                return
        self._auth.check(headers.get("authorization", ""))

    async def _session(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> Response:
        """Answer `/_emulator/session`: GET says if a token is required, POST logs in, DELETE logs out."""
        signed_in = self._auth.token is None or self._auth.has_session(_cookie(scope, headers))
        if scope["method"] == "GET":
            answer = JSONResponse({"required": self._auth.token is not None, "signedIn": signed_in})
            answer.headers["cache-control"] = "no-store"
            return answer
        if scope["method"] == "DELETE":
            answer = JSONResponse({})
            answer.delete_cookie(_cookie_name(scope), httponly=True, samesite="strict")
            return answer
        if scope["method"] != "POST":
            return Response(status_code=405, headers={"allow": "GET, POST, DELETE"})
        return await self._log_in(scope, receive)

    async def _log_in(self, scope: Scope, receive: Receive) -> Response:
        """Log in with the token from JSON, `{"token": "…"}`, or from the form of the login page."""
        body = await read_body(receive) or b""
        is_form = (
            Request(scope).headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
        )
        fields = _form(body) if is_form else _json(body)
        target = _own_path(str(fields.get("next", "/")))
        try:
            value = self._auth.open_session(str(fields.get("token", "")))
        except Unauthenticated:
            if not is_form:
                raise
            return sign_in_page(SESSION, target, "That token is not this emulator's.")
        answer: Response = RedirectResponse(target, 303) if is_form else JSONResponse({})
        answer.set_cookie(
            _cookie_name(scope),
            value,
            max_age=SESSION_S,
            httponly=True,
            samesite="strict",
            secure=scope["scheme"] == "https",
        )
        return answer


def _head_size(scope: Scope) -> int:
    """Return the size of path, query and headers in bytes, as HTTP/1.1 writes them."""
    size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
    for name, value in scope["headers"]:
        size += len(name) + len(value) + 4
    return size


def _check_single(scope: Scope) -> None:
    """Raise InvalidArgument if a header of _SINGLE is repeated (for Host: RFC 9112, section 3.2)."""
    names = [name for name, _ in scope["headers"]]
    for name in _SINGLE:
        if names.count(name) > 1:
            raise InvalidArgument(
                f"The request has the header {name.decode()} {names.count(name)} times; send it once."
            )


def _is_open(scope: Scope) -> bool:
    """Return whether a request needs no token. If the Host names a bucket, every path names an object."""
    return scope["method"] in _OPEN.get(scope["path"], ()) and not is_virtual_host(scope)


def _listed_origin(origin: str, headers: Mapping[str, str]) -> Mapping[str, str]:
    cors = {"access-control-allow-origin": origin, "vary": "Origin"}
    if "access-control-request-method" not in headers:
        return {**cors, "access-control-expose-headers": "*"}
    return {
        **cors,
        "access-control-allow-methods": headers["access-control-request-method"],
        "access-control-allow-headers": headers.get("access-control-request-headers", ""),
        "access-control-max-age": str(_PREFLIGHT_S),
    }


def _is_preflight(scope: Scope, headers: Mapping[str, str]) -> bool:
    return scope["method"] == "OPTIONS" and "access-control-request-method" in headers


def _with_headers(send: Send, added: Mapping[str, str]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in added.items():
                if name == "vary":
                    headers.add_vary_header(value)
                else:
                    headers[name] = value
        await send(message)

    return sending


def _refusal(error: ApiError, scope: Scope, headers: Mapping[str, str]) -> Response:
    """Return the error as JSON, or as a page for a person who followed a link."""
    is_visit = scope["method"] == "GET" and "text/html" in headers.get("accept", "")
    if is_visit and isinstance(error, Unauthenticated):
        return sign_in_page(SESSION, _path_of(scope))
    if is_visit and isinstance(error, ForeignPage) and headers.get("sec-fetch-mode") == "navigate":
        return link_page(error.http_status, _path_of(scope))
    answer = error_response(error)
    challenge = {"www-authenticate": "Bearer"} if isinstance(error, Unauthenticated) else {}
    shown = b"" if scope["method"] == "HEAD" else answer.body
    return Response(shown, answer.status, {**answer.headers, **challenge})


def _path_of(scope: Scope) -> str:
    query = scope["query_string"].decode("latin-1")
    # Exactly one leading slash: two would make it a URL of another host.
    path = "/" + quote(scope["path"].lstrip("/"), safe="/:@!$&'()*+,;=~")
    return path + (f"?{query}" if query else "")


def _own_path(path: str) -> str:
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/"


def _cookie_name(scope: Scope) -> str:
    # Browsers share cookies between the ports of a host: two emulators on one machine need two names.
    return f"vertex-emulator-{(scope.get('server') or ('', 0))[1]}"


def _cookie(scope: Scope, headers: Mapping[str, str]) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(_cookie_name(scope))
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _form(body: bytes) -> Mapping[str, Any]:
    return {name: values[-1] for name, values in parse_qs(body.decode(errors="replace")).items()}


def _json(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument('The body must be {"token": "…"} as JSON.') from error
    return value if isinstance(value, dict) else {}
