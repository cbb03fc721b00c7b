"""The route of Vertex's REST surface in the application. It hands calls to threads.

A slow disk never blocks the event loop: only a call that is faster than handing it to a thread runs there.
"""

from starlette.routing import BaseRoute
from starlette.routing import Match as RouteMatch
from starlette.types import Receive, Scope, Send

from emulator.api.rest import RestSurface
from emulator.http import (
    HttpRequest,
    Threads,
    headers_of,
    in_own_thread,
    raw_path,
    read_body,
    reset_connection,
    send_response,
)
from emulator.service import HasToWait

_PREFIXES = ("/v1/", "/v1beta1/", "/ui/")
_THREADS = 16
# The custom verb of WaitOperation, the only call that takes long by design.
_WAIT = (":wait", "%3Await", "%3await")


class VertexRoute(BaseRoute):
    """The route of everything below `/v1/`, `/v1beta1/` and `/ui/`."""

    def __init__(self, surface: RestSurface) -> None:
        self._surface = surface
        self._threads = Threads(_THREADS, "rest")

    def close(self) -> None:
        """End the threads."""
        self._threads.close()

    def matches(self, scope: Scope) -> tuple[RouteMatch, Scope]:
        """Match Vertex's prefixes."""
        ours = scope["type"] == "http" and scope["path"].startswith(_PREFIXES)
        return (RouteMatch.FULL if ours else RouteMatch.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, answer in a thread or, if that is faster, in the event loop, and send."""
        routed = self._surface.route(await _request(scope, receive))
        waits = self._may_wait(routed.request)
        try:
            if not waits and self._surface.is_brief(routed):
                response = self._surface.answer(routed, may_wait=False)
            else:
                hand_off = in_own_thread if waits else self._threads.run
                response = await hand_off(self._surface.answer, routed)
        except HasToWait:
            response = await in_own_thread(self._surface.answer, routed)
        if response is None:
            await reset_connection(scope, receive)
        else:
            await send_response(send, response, head=scope["method"] == "HEAD")

    def _may_wait(self, request: HttpRequest) -> bool:
        return request.path.endswith(_WAIT) or self._surface.calls.gate.may_hold(request.headers)


async def _request(scope: Scope, receive: Receive) -> HttpRequest:
    return HttpRequest(
        method=scope["method"],
        path=raw_path(scope, "replace"),
        query=scope["query_string"].decode(errors="replace"),
        headers=headers_of(scope),
        body=await read_body(receive),
    ).as_meant()
