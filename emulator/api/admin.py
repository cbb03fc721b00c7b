"""The control surface, `/_emulator/`: JSON in, JSON out. docs/control.md describes it."""

import asyncio
import json
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from emulator.api.rest import HttpResponse, error_response, in_own_thread, read_body
from emulator.api.results import Reading, ResultRoutes
from emulator.api.transcoding import dump_json, parse_body, too_large
from emulator.database import DATABASE_OUTAGES, JobRow, StepRow
from emulator.service import Service
from emulator.service.context import id_number
from emulator.service.control.seed import SeedError
from emulator.vertex.errors import ApiError, FailedPrecondition, Internal, InvalidArgument, NotFound
from emulator.vertex.job_state import TERMINAL, JobState
from emulator.vertex.moments import microseconds
from emulator.vertex.names import check_project

_log = logging.getLogger(__name__)

PREFIX = "/_emulator"
_THREADS = 4
_LONGEST_WAIT_S = 60.0
_USUAL_WAIT_S = 20.0
_ENDED = "ENDED"
# The longest silence of an event stream, in seconds: proxies drop idle connections.
_SILENCE_S = 15.0


@dataclass(frozen=True)
class Probe:
    """What the surface needs from `app`, which builds the server.

    `ready` returns whether a job can run now, with details. `info` describes the server. The details and the
    description are JSON objects. `gauges` returns numbers for the metrics, by name. `check_input` reads the
    input of a planned job, given its URIs.
    """

    ready: Callable[[], tuple[bool, Mapping[str, Any]]]
    info: Callable[[], Mapping[str, Any]]
    gauges: Callable[[], Mapping[str, float]]
    check_input: Callable[[Sequence[str]], Mapping[str, Any]]


@dataclass(frozen=True)
class AdminRequest:
    """A request to the control surface. `body`: its JSON object, empty if the request has no body."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """A response with an HTTP status of its own."""

    value: Any
    status: int = 200


_EMPTY = AdminRequest({}, {}, {})


class AdminSurface:
    """Answers requests to the control surface. It is synchronous and uses no socket."""

    def __init__(self, service: Service, probe: Probe) -> None:
        self._service = service
        self._probe = probe

    def health(self, _request: AdminRequest) -> Any:
        """The process is up."""
        return {"status": "ok"}

    def ready(self, _request: AdminRequest) -> Any:
        """Whether a job can run now."""
        ready, details = self._probe.ready()
        return Answer({"ready": ready, **details}, 200 if ready else 503)

    def info(self, _request: AdminRequest) -> Any:
        """Version, addresses, models, workers and settings of this server."""
        return self._probe.info()

    def get_pace(self, request: AdminRequest) -> Any:
        """The pace of the server or of a project."""
        return self._service.paces.get(request.path.get("project"))

    def set_pace(self, request: AdminRequest) -> Any:
        """Set the pace of the server or of a project."""
        return self._service.paces.set(_text(request.body, "pace"), request.path.get("project"))

    def remove_pace(self, request: AdminRequest) -> Any:
        """Remove the pace: the server's applies again, or the setting."""
        return self._service.paces.set(None, request.path.get("project"))

    def get_job_pace(self, request: AdminRequest) -> Any:
        """A job's pace, and whether the job is held."""
        return self._service.paces.describe(self._job(request))

    def set_job_pace(self, request: AdminRequest) -> Any:
        """Give a job another pace."""
        return self._service.paces.set_of_job(self._job(request), _text(request.body, "pace"))

    def release(self, request: AdminRequest) -> Any:
        """Release a held job."""
        return self._service.paces.release(self._job(request))

    def wait(self, request: AdminRequest) -> Any:
        """Wait until a job is in one of the given states."""
        states = _states(request.query.get("state", _ENDED))
        held = request.query.get("held", "false").lower() == "true"
        return self._service.paces.wait(self._job(request), states, held, _timeout(request.query))

    def explain(self, request: AdminRequest) -> Any:
        """Every step of a job."""
        row = self._job(request)
        return {**self._service.history.explain(row), "pace": self._service.paces.describe(row)}

    def add_fault(self, request: AdminRequest) -> Any:
        """Add a fault."""
        return self._service.faults.add(request.body)

    def list_faults(self, _request: AdminRequest) -> Any:
        """All faults, with what they have done."""
        return {"faults": self._service.faults.list()}

    def get_fault(self, request: AdminRequest) -> Any:
        """One fault, with what it has done."""
        return self._service.faults.get(request.path["fault"])

    def remove_faults(self, request: AdminRequest) -> Any:
        """Remove one fault or all."""
        return {"removed": self._service.faults.remove(request.path.get("fault"))}

    def add_canned(self, request: AdminRequest) -> Any:
        """Make a canned model."""
        return self._service.canned.add(request.body)

    def check_input(self, request: AdminRequest) -> Any:
        """Check the input of a planned job."""
        uris = request.body.get("uris")
        if not isinstance(uris, list) or not uris or not all(isinstance(uri, str) for uri in uris):
            raise InvalidArgument('The body must say {"uris": ["gs://…"]}.')
        return self._probe.check_input(uris)

    def run_example(self, request: AdminRequest) -> Any:
        """Run the documentation's two examples."""
        return self._service.examples.run(_text(request.body, "parent"))

    def requests(self, request: AdminRequest) -> Any:
        """The recorded calls that match a query."""
        wanted = dict(request.query)
        known = ("method", "project", "status", "surface", "contains", "after")
        if unknown := [name for name in wanted if name not in known]:
            raise InvalidArgument(f"{unknown[0]!r} is not known here; requests take {', '.join(known)}.")
        return self._service.find_requests(**wanted)

    def scopes(self, _request: AdminRequest) -> Any:
        """The projects and locations that have resources."""
        return {"scopes": self._service.scopes.list()}

    def forget_requests(self, _request: AdminRequest) -> Any:
        """Empty the journal."""
        self._service.journal.clear()
        return {}

    def now(self, _request: AdminRequest) -> Any:
        """The time that new resources get, and the number of the newest call."""
        return self._service.now()

    def reset(self, request: AdminRequest) -> Any:
        """Reset to the seed, to nothing, or to the state at a given time."""
        body = request.body
        if unknown := [name for name in body if name not in ("project", "to", "buckets", "after")]:
            raise InvalidArgument(
                f"{unknown[0]!r} is not known here; there are project, to, buckets and after."
            )
        if "after" in body:
            return self._reset_after(body)
        to, buckets = body.get("to", "seed"), body.get("buckets")
        if to not in ("seed", "empty") or not isinstance(buckets, bool | None):
            raise InvalidArgument('"to" must be seed or empty, "buckets" true or false.')
        project = check_project(_text(body, "project")) if body.get("project") is not None else None
        return self._service.state.reset(project, to_seed=to == "seed", buckets=buckets)

    def _reset_after(self, body: Mapping[str, Any]) -> Any:
        if "to" in body or body.get("buckets"):
            raise InvalidArgument('With "after" nothing is seeded and no bucket is emptied; leave out "to".')
        try:
            moment_us = microseconds(_text(body, "after"))
        except ValueError as error:
            raise InvalidArgument(
                f"after is {body['after']!r}; {error}, as GET /_emulator/now says."
            ) from None
        project = check_project(_text(body, "project")) if body.get("project") is not None else None
        return self._service.state.reset_after(moment_us, project)

    def metrics(self, _request: AdminRequest) -> Any:
        """Prometheus metrics."""
        text, content_type = self._service.metrics.text(self._probe.gauges())
        return HttpResponse(200, text, {"content-type": content_type})

    def save(self, _request: AdminRequest) -> Path:
        """Write a snapshot of everything to a temporary file and return its path."""
        with tempfile.NamedTemporaryFile(prefix="vertex-emulator-", suffix=".zip", delete=False) as file:
            try:
                self._service.state.save(file)
            except BaseException:
                Path(file.name).unlink()
                raise
        return Path(file.name)

    def load(self, file: IO[bytes]) -> Any:
        """Put a saved file in place of everything."""
        return self._service.state.load(file)

    def steps_after(self, number: int) -> tuple[list[dict[str, Any]], int, bool]:
        """The events behind a number as soon as there are any, the number that they reach to, and whether
        more may come."""
        steps = self._service.history.after(number, _SILENCE_S)
        events = [{"id": step.number, "project": step.project, **self._event(step)} for step in steps]
        return events, steps[-1].number if steps else number, not self._service.watch.closed

    def last_step(self, _request: object = None) -> int:
        """The number of the newest event."""
        return self._service.history.last()

    def number_of(self, project: str) -> str:
        """The number of a project, given its id or number."""
        return self._service.number_of(project)

    def _event(self, step: StepRow) -> dict[str, Any]:
        return self._service.history.event(step)

    def _job(self, request: AdminRequest) -> JobRow:
        return self.find_job(request.path["job"])

    def find_job(self, name: str) -> JobRow:
        """A job by its resource name or the id at its end. Raises NotFound."""
        text = name.rpartition("/")[2]
        number = id_number(text)
        if number is None:
            raise NotFound(f"{text[:100]!r} is no job id; give the last part of the job's resource name.")
        return self._service.paces.row(number)


def mount(app: Any, service: Service, probe: Probe, reading: Reading) -> "Admin":
    """Add the surface to an application. The caller closes the returned object."""
    admin = Admin(AdminSurface(service, probe), reading)
    app.router.routes.insert(0, Mount(PREFIX, routes=admin.routes))
    return admin


class Admin:
    """The surface on its routes: reads bodies, works in threads."""

    def __init__(self, surface: AdminSurface, reading: Reading) -> None:
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="admin")
        table: list[tuple[str, str, Callable[[AdminRequest], Any]]] = [
            ("GET", "/health", surface.health),
            ("GET", "/ready", surface.ready),
            ("GET", "/info", surface.info),
            ("GET", "/pace", surface.get_pace),
            ("PUT", "/pace", surface.set_pace),
            ("DELETE", "/pace", surface.remove_pace),
            ("GET", "/projects/{project}/pace", surface.get_pace),
            ("PUT", "/projects/{project}/pace", surface.set_pace),
            ("DELETE", "/projects/{project}/pace", surface.remove_pace),
            ("GET", "/jobs/{job:path}/pace", surface.get_job_pace),
            ("PUT", "/jobs/{job:path}/pace", surface.set_job_pace),
            ("POST", "/jobs/{job:path}/release", surface.release),
            ("GET", "/jobs/{job:path}/wait", surface.wait),
            ("GET", "/jobs/{job:path}/explain", surface.explain),
            ("POST", "/faults", surface.add_fault),
            ("GET", "/faults", surface.list_faults),
            ("DELETE", "/faults", surface.remove_faults),
            ("GET", "/faults/{fault}", surface.get_fault),
            ("DELETE", "/faults/{fault}", surface.remove_faults),
            ("POST", "/canned", surface.add_canned),
            ("GET", "/scopes", surface.scopes),
            ("POST", "/check-input", surface.check_input),
            ("POST", "/example", surface.run_example),
            ("GET", "/requests", surface.requests),
            ("DELETE", "/requests", surface.forget_requests),
            ("GET", "/now", surface.now),
            ("POST", "/reset", surface.reset),
            ("GET", "/metrics", surface.metrics),
        ]
        waiting = (surface.wait, surface.release, surface.reset, surface.check_input, surface.run_example)
        self._surface = surface
        self.routes = [
            Route(path, self._endpoint(handler, handler in waiting), methods=[method])
            for method, path, handler in table
        ]
        self.routes += [
            Route("/snapshot", self._save, methods=["GET"]),
            Route("/snapshot", self._load, methods=["PUT"]),
            Route("/events", self._events, methods=["GET"]),
            *ResultRoutes(surface.find_job, reading).routes,
        ]

    def close(self) -> None:
        """End the threads."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _save(self, _request: Request) -> Response:
        """A snapshot of everything, as a file."""
        try:
            path = await in_own_thread(self._surface.save, _EMPTY)
        except Exception as error:
            return _response(_failure(error))
        return FileResponse(
            path,
            media_type="application/zip",
            filename="vertex-emulator.zip",
            background=BackgroundTask(path.unlink),
        )

    async def _load(self, request: Request) -> Response:
        """Put a saved file in place of everything."""
        loop = asyncio.get_running_loop()
        with tempfile.TemporaryFile() as file:
            async for piece in request.stream():
                await loop.run_in_executor(self._executor, file.write, piece)
            file.seek(0)
            return _response(await in_own_thread(_answered, lambda: self._surface.load(file)))

    async def _events(self, request: Request) -> Response:
        """A stream of the events of jobs."""
        query = request.query_params
        after = request.headers.get("last-event-id") or query.get("after")
        number = None if after is None else id_number(after)
        if after is not None and number is None:
            return _response(error_response(InvalidArgument(f"after is {after!r}; give an event's number.")))
        project = self._surface.number_of(query["project"]) if query.get("project") else ""
        wanted = {"project": project, "job": query.get("job", "").rpartition("/")[2]}
        if number is None:
            try:
                number = await in_own_thread(self._surface.last_step, None)
            except DATABASE_OUTAGES as error:
                return _response(error_response(error))
        stream = self._stream(number, wanted)
        return StreamingResponse(
            stream, media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    async def _stream(self, number: int, wanted: Mapping[str, str]) -> AsyncIterator[str]:
        yield ": connected\n\n"
        more = True
        while more:
            try:
                events, number, more = await in_own_thread(self._surface.steps_after, number)
            except DATABASE_OUTAGES as error:
                yield f": {error.message}\n\n"  # the client connects again, from the last event on
                return
            if not events:
                yield ": nothing new\n\n"
            for event in events:
                of_project = wanted["project"] in ("", event["project"])
                if of_project and event["job"].endswith(f"/{wanted['job']}" if wanted["job"] else ""):
                    kind = "state" if event["step"] == "state" else "step"
                    yield f"id: {event['id']}\nevent: {kind}\ndata: {json.dumps(event)}\n\n"

    def _endpoint(self, handler: Callable[[AdminRequest], Any], waits: bool) -> Any:
        async def endpoint(request: Request) -> Response:
            body = await read_body(request.receive)
            call = _Call(handler, request, body)
            if waits:
                answer = await in_own_thread(_Call.answer, call)
            else:
                loop = asyncio.get_running_loop()
                answer = await loop.run_in_executor(self._executor, call.answer)
            return _response(answer)

        endpoint.__doc__ = handler.__doc__
        return endpoint


@dataclass(frozen=True)
class _Call:
    """One request on its way to its handler."""

    handler: Callable[[AdminRequest], Any]
    request: Request
    body: bytes | None

    def answer(self) -> HttpResponse:
        return _answered(self._handle)

    def _handle(self) -> Any:
        if self.body is None:
            raise too_large()
        # Whatever the content type says it is: curl calls it a form.
        value = parse_body(self.body, self.request.headers, strict=False)
        return self.handler(AdminRequest(self.request.path_params, self.request.query_params, value))


def _answered(handle: Callable[[], Any]) -> HttpResponse:
    """Return a handler's result, or its error, as a JSON response."""
    try:
        value = handle()
    except Exception as error:
        return _failure(error)
    if isinstance(value, HttpResponse):
        return value
    answer = value if isinstance(value, Answer) else Answer(value)
    return HttpResponse(answer.status, dump_json(answer.value, pretty=True))


def _failure(error: Exception) -> HttpResponse:
    if isinstance(error, ApiError):
        return error_response(error)
    if isinstance(error, SeedError):
        return error_response(FailedPrecondition(str(error)))
    _log.error("A call to the control surface failed", exc_info=error)
    return error_response(Internal(f"{type(error).__name__}: {error}. The log has the traceback."))


def _response(answer: HttpResponse) -> Response:
    return Response(answer.body, answer.status, answer.headers)


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise InvalidArgument(f'The body must say {{"{name}": "…"}}.')
    return value


def _states(text: str) -> frozenset[JobState]:
    found: set[JobState] = set()
    for name in text.upper().replace("JOB_STATE_", "").split(","):
        if name == _ENDED:
            found |= TERMINAL
        elif name in JobState.__members__:
            found.add(JobState[name])
        else:
            raise InvalidArgument(f"{name[:80]!r} is not a state; use ended or states such as RUNNING.")
    return frozenset(found)


def _timeout(query: Mapping[str, str]) -> float:
    try:
        seconds = float(query.get("timeout", _USUAL_WAIT_S))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _LONGEST_WAIT_S:
        raise InvalidArgument(f"timeout is {query['timeout']!r}; give seconds from 0 to {_LONGEST_WAIT_S:g}.")
    return seconds
