"""The REST surface: Vertex's URLs, generated from the HTTP bindings of the contract, on FastAPI.

Contract: `google.api.http`, AIP-193 (errors), protobuf's JSON mapping. One function answers every RPC. It
runs in a thread, so that a slow disk never blocks the event loop. Only a call that is faster than handing it
to a thread runs in the loop.
"""

import asyncio
import difflib
import logging
import re
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from emulator import __version__
from emulator.api import leads, openapi
from emulator.api.calls import Answer, Calls, ServiceMethods, not_emulated
from emulator.api.routing import Match, Route, RouteTable
from emulator.api.transcoding import (
    MAX_BODY,
    Query,
    ResponseOptions,
    bind_query,
    dump_json,
    parse_body,
    parse_query,
    too_large,
    unknown_parameter,
)
from emulator.config import Settings
from emulator.gcs.addressing import bucket_of_host
from emulator.http import reset_connection
from emulator.service import HasToWait
from emulator.service.control import ConnectionReset, Incoming
from emulator.vertex.errors import ApiError, Internal
from emulator.vertex.messages import from_json, load, to_json

_log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

_PREFIXES = ("/v1/", "/v1beta1/", "/ui/")
#: The first segments of paths below `/_emulator/`, for the error message of an unknown one.
OWN_ROUTES = (
    "canned", "check-input", "events", "example", "faults", "health", "info", "jobs", "metrics", "now",
    "pace", "projects", "ready", "requests", "reset", "scopes", "session", "snapshot",
)  # fmt: skip
_THREADS = 16
# About four times the size of a usual request for a job. Parsing a longer body takes too long for the loop.
_BRIEF_BODY = 8 * 1024
_COLLECTION = re.compile(r"/v1(?:beta1)?/projects/[^/]+/locations/[^/]+/([A-Za-z]+)(?![^/:])")
# The custom verb of WaitOperation, the only call that takes long by design.
_WAIT = (":wait", "%3Await", "%3await")
# Vertex: the documentation shows these in a job's JSON, but the message has no such fields.
_JOB_EXTRAS = ("modelDisplayName", "modelObjective", "model_display_name", "model_objective")
_FORM = "application/x-www-form-urlencoded"
_HEADERS = {
    "content-type": "application/json; charset=UTF-8",
    # Vertex: recorded headers of the front end.
    "vary": "Origin, X-Origin, Referer",
    "x-content-type-options": "nosniff",
}
# The google.rpc names of HTTP statuses; any other status has its HTTP name.
_STATUS_NAMES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 405: "UNIMPLEMENTED"}


@dataclass(frozen=True)
class HttpRequest:
    """A request as it was received. `path` is percent-encoded; `headers` are by lower-case name."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes | None  # None if it exceeds MAX_BODY

    def as_meant(self) -> "HttpRequest":
        """Apply X-HTTP-Method-Override. Google's API clients POST with this header if their HTTP library does
        not support the method, or if the URL of a GET would be too long: its parameters are then a form."""
        override = self.headers.get("x-http-method-override")
        if override is None or self.method != "POST":
            return self
        meant = replace(self, method=override.strip().upper())
        is_form = self.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM
        if meant.method != "GET" or not is_form or self.body is None:
            return meant
        query = "&".join(filter(None, (self.query, self.body.decode(errors="replace"))))
        return replace(meant, query=query, body=b"")


@dataclass(frozen=True)
class HttpResponse:
    """A response with a JSON body."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: _HEADERS)


class RestSurface:
    """Answers Vertex's HTTP requests by calling the service. It is synchronous and uses no socket."""

    def __init__(self, service: ServiceMethods, *, strict: bool = False) -> None:
        contract = load()
        self.table = RouteTable(contract.methods())
        self.calls = Calls(contract, service)
        self._service = service
        self._strict = strict
        self._collections = {route.segments[5] for route in self.table.routes if len(route.segments) > 5}
        self._job_type = contract.v1.BatchPredictionJob
        self._job_list_type = contract.v1.ListBatchPredictionJobsResponse

    @property
    def emulated(self) -> list[Route]:
        """The routes of the RPCs that the service implements."""
        return [route for route in self.table.routes if self.calls.emulated(route.rpc)]

    def is_brief(self, request: HttpRequest) -> bool:
        """Return whether `answer` is faster than handing the request to a thread; see Service.is_brief."""
        try:
            match = self.table.match(request.path)
        except ApiError:
            return False  # `answer` reports the error
        route = match.routes.get(request.method) if match else None
        if route is None or request.body is None or len(request.body) > _BRIEF_BODY:
            return False
        return self.calls.is_brief(route.rpc, request.query, request.body)

    def answer(self, request: HttpRequest, *, may_wait: bool = True) -> HttpResponse | None:
        """Answer one request. Every failure becomes an AIP-193 error. None: reset the connection instead.

        Raises HasToWait if the call must wait and `may_wait` is false.
        """
        try:
            match = self.table.match(request.path)
            method = "GET" if request.method == "HEAD" else request.method
            if match is None:
                return self.not_found(method, request.path)
            route = match.routes.get(method)
            if route is None and ":" in match.segments[-1]:
                return self.not_found(method, request.path)  # a misspelled custom verb
            if route is None:
                return _other_method(request, match)
            return self._call(route, match, request, may_wait)
        except ConnectionReset:
            return None
        except HasToWait:
            raise
        except ApiError as error:
            return error_response(error)
        except Exception as error:
            _log.exception("%s %s failed", request.method, request.path)
            return error_response(Internal(f"{type(error).__name__}: {error}. The log has the traceback."))

    def _call(self, route: Route, match: Match, request: HttpRequest, may_wait: bool) -> HttpResponse:
        query = parse_query(request.query)
        version = "v1beta1" if route.segments[0] == "v1beta1" else "v1"
        answer = self.calls.call(
            route.rpc,
            lambda: self._request_message(route, match, request, query),
            version,
            Incoming("rest", request.headers, may_wait=may_wait),
        )
        masks = [mask for name in ("readMask", "read_mask") for mask in query.parameters.get(name, [])]
        if isinstance(answer.v1, self._job_list_type) and not any(mask not in ("", "*") for mask in masks):
            value = self._job_list(answer, query.options)
        else:
            value = to_json(answer.message, int_enums=query.options.int_enums)
            if isinstance(answer.v1, self._job_type):
                value.update(self._service.rest_extras(answer.v1))
        return HttpResponse(200, dump_json(value, pretty=query.options.pretty))

    def _request_message(self, route: Route, match: Match, request: HttpRequest, query: Query) -> Any:
        if not route.body and not query.parameters:
            # The usual read has nothing to parse. Only routes with a body have nested variables.
            return route.rpc.input(**{path[0]: text for path, text in match.values(route)})
        value: dict[str, Any] = {}
        if route.body:
            if request.body is None:
                raise too_large()
            body = parse_body(request.body, request.headers, strict=self._strict)
            if route.rpc.name == "CreateBatchPredictionJob":
                for name in _JOB_EXTRAS:
                    body.pop(name, None)
            value = body if route.body == "*" else {route.body: body}
        if route.body != "*":
            bind_query(value, route.rpc.input.DESCRIPTOR, query, strict=self._strict)
        elif self._strict and query.parameters:
            raise unknown_parameter(next(iter(query.parameters)))
        for path, text in match.values(route):
            _set(value, path, text)
        return from_json(route.rpc.input, value)

    def _job_list(self, answer: Answer, options: ResponseOptions) -> dict[str, Any]:
        message: Any = answer.message
        twins = zip(answer.v1.batch_prediction_jobs, message.batch_prediction_jobs, strict=True)
        jobs = [
            to_json(job, int_enums=options.int_enums) | self._service.rest_extras(v1) for v1, job in twins
        ]
        value: dict[str, Any] = {"batchPredictionJobs": jobs} if jobs else {}
        if message.next_page_token:
            value["nextPageToken"] = message.next_page_token
        return value

    def _other_collection(self, path: str) -> str:
        """Return the path's collection, such as `endpoints`, if no emulated one resembles it; else ""."""
        found = _COLLECTION.match(path)
        near = found and difflib.get_close_matches(found[1], self._collections, n=1, cutoff=0.75)
        return "" if found is None or near else found[1]

    def not_found(self, method: str, path: str) -> HttpResponse:
        """Answer an unknown path with 404 and a hint."""
        if path.startswith("/_emulator/"):
            return plain_error(
                404, f"There is nothing at {method} {path}. Below /_emulator/ are {', '.join(OWN_ROUTES)}."
            )
        if collection := self._other_collection(path):
            return error_response(not_emulated(f"{method} {path} ({collection} of Vertex AI)"))
        # Emulator: Vertex answers an unknown path with an HTML page; a hint helps developers more.
        nearest = self.table.nearest(method, path, self.emulated)
        hint = f" Did you mean {nearest}?" if nearest else " See /docs for what there is."
        return plain_error(404, f"There is nothing at {method} {path}.{hint}")


def _set(value: dict[str, Any], path: tuple[str, ...], text: str) -> None:
    for name in path[:-1]:
        value = value.setdefault(name, {})
    value[path[-1]] = text


def _other_method(request: HttpRequest, match: Match) -> HttpResponse:
    allowed = sorted({*match.routes, "OPTIONS", *(["HEAD"] if "GET" in match.routes else [])})
    allow = {"allow": ", ".join(allowed)}
    if request.method == "OPTIONS":
        return HttpResponse(204, b"", allow)
    # Emulator: Vertex answers 404 here too; 405 with Allow names the methods that work.
    response = plain_error(
        405, f"{request.method} is not possible here; use {' or '.join(sorted(match.routes))}."
    )
    return HttpResponse(response.status, response.body, {**_HEADERS, **allow})


def error_response(error: ApiError) -> HttpResponse:
    """Return an error as AIP-193 JSON: the HTTP status as code, then message, status and details."""
    details = to_json(error.to_status()).get("details", [])
    return _error(error.http_status, error.message, error.status, details)


def plain_error(http_status: int, message: str) -> HttpResponse:
    """Return the AIP-193 JSON of an error of HTTP itself, such as an unknown path."""
    name = _STATUS_NAMES.get(http_status, HTTPStatus(http_status).name)
    return _error(http_status, message, name, [])


def _error(http_status: int, message: str, status: str, details: list[Any]) -> HttpResponse:
    error = {"code": http_status, "message": message, "status": status}
    if details:
        error["details"] = details
    return HttpResponse(http_status, dump_json({"error": error}, pretty=True))


class VertexApp(FastAPI):
    """The FastAPI application, which also answers everything below `/v1/`, `/v1beta1/` and `/ui/`.

    These requests skip its middleware and routes, which do nothing for them.
    """

    def __init__(self, surface: RestSurface, executor: ThreadPoolExecutor, **options: Any) -> None:
        super().__init__(**options)
        self._surface = surface
        self._executor = executor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request whose path starts with one of Vertex's prefixes; pass others to FastAPI."""
        if scope["type"] == "http" and scope["path"].startswith(_PREFIXES):
            await self._answer(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, answer in a thread or, if that is faster, in the event loop, and send."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if bucket_of_host(headers.get("host", "")):
            await super().__call__(scope, receive, send)  # an object whose name begins like a path of Vertex
            return
        body = await read_body(receive)
        request = HttpRequest(
            method=scope["method"],
            path=(scope.get("raw_path") or scope["path"].encode()).decode(errors="replace"),
            query=scope["query_string"].decode(errors="replace"),
            headers=headers,
            body=body,
        ).as_meant()
        try:
            response = await self._response(request)
        except HasToWait:
            response = await in_own_thread(self._surface.answer, request)
        if response is None:
            await reset_connection(scope, receive)
            return
        length = (b"content-length", b"%d" % len(response.body))
        sent = [(name.encode(), value.encode()) for name, value in response.headers.items()]
        await send({"type": "http.response.start", "status": response.status, "headers": [*sent, length]})
        shown = b"" if scope["method"] == "HEAD" else response.body
        await send({"type": "http.response.body", "body": shown})

    async def _response(self, request: HttpRequest) -> HttpResponse | None:
        """Answer in the event loop or in a pool thread. Raises HasToWait if the call needs its own thread."""
        if request.path.endswith(_WAIT) or self._surface.calls.gate.may_hold(request.headers):
            raise HasToWait
        if self._surface.is_brief(request):
            return self._surface.answer(request, may_wait=False)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._surface.answer, request)


async def in_own_thread(answer: Callable[[T], R], request: T) -> R:
    """Answer in a new thread outside the pool, so that waiting calls block neither others nor the shutdown.

    Raises what `answer` raises.
    """
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[R] = loop.create_future()

    def settle(worked: Future[R]) -> None:
        if answered.done():  # the client may be gone
            return
        if (error := worked.exception()) is not None:
            answered.set_exception(error)
        else:
            answered.set_result(worked.result())

    def run() -> None:
        worked: Future[R] = Future()
        try:
            worked.set_result(answer(request))
        except BaseException as error:
            worked.set_exception(error)
        with suppress(RuntimeError):  # the loop may be closed
            loop.call_soon_threadsafe(settle, worked)

    threading.Thread(target=run, name="rest-wait", daemon=True).start()
    return await answered


async def read_body(receive: Receive) -> bytes | None:
    """Return the whole body; None if it exceeds MAX_BODY, after reading it to its end."""
    chunks: list[bytes] = []
    length = 0
    while True:
        event = await receive()
        chunk = event.get("body", b"")
        length += len(chunk)
        if length <= MAX_BODY:
            chunks.append(chunk)
        if event["type"] == "http.disconnect" or not event.get("more_body", False):
            break
    return b"".join(chunks) if length <= MAX_BODY else None


def create_app(service: ServiceMethods, settings: Settings, lifespan: Lifespan | None = None) -> FastAPI:
    """Build the application. `lifespan` starts and stops the parts behind the service."""
    executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="rest")

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[None]:
        async with lifespan(app) if lifespan else nullcontext():
            yield
            executor.shutdown(wait=False, cancel_futures=True)

    surface = RestSurface(service, strict=settings.strict)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == HTTPStatus.NOT_FOUND:
            if (lead := leads.follow(request)) is not None:
                return lead
            return _response(surface.not_found(request.method, request.url.path), None)
        return _response(plain_error(error.status_code, str(error.detail)), error.headers)

    app = VertexApp(
        surface,
        executor,
        title="Vertex AI batch prediction emulator",
        version=__version__,
        lifespan=run,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: http_error, Exception: _unexpected},
    )
    openapi.install(app, surface.emulated)
    return app


async def _unexpected(_request: Request, error: Exception) -> Response:
    message = f"{type(error).__name__}: {error}. The log has the traceback."
    return _response(error_response(Internal(message)), None)


def _response(answer: HttpResponse, headers: Mapping[str, str] | None) -> Response:
    return Response(answer.body, answer.status, {**answer.headers, **(headers or {})})
