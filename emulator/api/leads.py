"""Redirects and an index for the paths that people and probes try first.

They are not routes, so that anything else at the path takes precedence, such as a bucket of that name.
"""

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from emulator import __version__

CONTROL = "/_emulator"
_READS = ("GET", "HEAD")
# The usual paths of Kubernetes probes, Prometheus and other tools.
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
    """Return a redirect or the index for a request that no route answers; None for any other path."""
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
    """Return the routes of the control surface: method, path, and a one-line description."""
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
    """Return whether the application has this place: it may lack the console or the control surface."""
    if name in ("documentation", "openapi"):
        return True
    paths = {getattr(route, "path", "") for route in request.app.routes}
    return place in paths or (place.startswith(CONTROL) and CONTROL in paths)
