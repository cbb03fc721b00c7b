"""The FastAPI application: Vertex's route, the OpenAPI document, and the answer to unknown paths.

`app` mounts the other surfaces on it. Cloud Storage comes last.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from emulator import __version__
from emulator.api import leads, openapi
from emulator.api.calls import ServiceMethods
from emulator.api.errors import error_response, plain_error
from emulator.api.rest import RestSurface
from emulator.api.vertex_route import VertexRoute
from emulator.config import Settings
from emulator.http import HttpResponse
from emulator.vertex.errors import Internal

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(service: ServiceMethods, settings: Settings, lifespan: Lifespan | None = None) -> FastAPI:
    """Build the application. `lifespan` starts and stops the parts behind the service."""
    surface = RestSurface(service, strict=settings.strict)
    route = VertexRoute(surface)

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[None]:
        async with lifespan(app) if lifespan else nullcontext():
            yield
            route.close()

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == HTTPStatus.NOT_FOUND:
            if (lead := leads.follow(request)) is not None:
                return lead
            return _response(surface.not_found(request.method, request.url.path), None)
        return _response(plain_error(error.status_code, str(error.detail)), error.headers)

    app = FastAPI(
        title="Vertex AI batch prediction emulator",
        version=__version__,
        lifespan=run,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: http_error, Exception: _unexpected},
    )
    app.router.routes.insert(0, route)
    openapi.install(app, surface.emulated)
    return app


async def _unexpected(_request: Request, error: Exception) -> Response:
    message = f"{type(error).__name__}: {error}. The log has the traceback."
    return _response(error_response(Internal(message)), None)


def _response(answer: HttpResponse, headers: Mapping[str, str] | None) -> Response:
    return Response(answer.body, answer.status, {**answer.headers, **(headers or {})})
