"""Where people and probes knock first: each of these paths leads on to what they look for.

They are no routes: whatever else has the path, a bucket of that name for one, comes before.
"""

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from emulator import __version__

CONTROL = "/_emulator"
_READS = ("GET", "HEAD")
# Paths that Kubernetes, Prometheus and habit try.
_ELSEWHERE = {
    "/health": f"{CONTROL}/health",
    "/healthz": f"{CONTROL}/health",
    "/livez": f"{CONTROL}/health",
    "/ready": f"{CONTROL}/ready",
    "/readyz": f"{CONTROL}/ready",
    "/metrics": f"{CONTROL}/metrics",
}
_PLACES = {
    "console": "/console",
    "documentation": "/docs",
    "openapi": "/openapi.json",
    "control": CONTROL,
    "health": f"{CONTROL}/health",
    "ready": f"{CONTROL}/ready",
    "metrics": f"{CONTROL}/metrics",
}


def follow(request: Request) -> Response | None:
    """The answer to a request that nothing else has answered, where its path leads on."""
    path = request.url.path.rstrip("/")
    if request.method not in _READS:
        return None
    if path in _ELSEWHERE:
        return RedirectResponse(_ELSEWHERE[path], 307)
    if path not in ("", CONTROL):
        return None
    base = str(request.base_url).rstrip("/")
    places = {name: base + place for name, place in _PLACES.items() if _is_there(request, name, place)}
    content = {"emulator": "Vertex AI batch prediction", "version": __version__, "places": places}
    if path == CONTROL:
        content["routes"] = {
            f"{method} {place}": text for method, place, text in control_routes(request.app.routes)
        }
    return JSONResponse(content)


def control_routes(routes: list[BaseRoute]) -> list[tuple[str, str, str]]:
    """The routes of the control surface: method, path, and what it does in a line."""
    mounted = next((one for one in routes if isinstance(one, Mount) and one.path == CONTROL), None)
    return [
        (method, CONTROL + route.path.replace(":path", ""), _text(route))
        for route in (mounted.routes if mounted else ())
        if isinstance(route, Route)
        for method in sorted((route.methods or set()) - {"HEAD"})
    ]


def _text(route: Route) -> str:
    return (route.endpoint.__doc__ or route.path).strip().partition("\n")[0].rstrip(".")


def _is_there(request: Request, name: str, place: str) -> bool:
    """The console and the control surface may be missing."""
    if name in ("documentation", "openapi"):
        return True
    paths = {getattr(route, "path", "") for route in request.app.routes}
    return place in paths or (place.startswith(CONTROL) and CONTROL in paths)
