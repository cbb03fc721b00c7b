"""The REST surface: Vertex's URLs, generated from the HTTP bindings of the contract.

Contract: `google.api.http`, AIP-193 (errors), protobuf's JSON mapping. One function answers every RPC.
"""

import difflib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import orjson

from emulator.api.calls import Answer, Calls, ServiceMethods, not_emulated
from emulator.api.errors import JSON_HEADERS, error_response, plain_error
from emulator.api.routing import Match, Route, RouteTable
from emulator.api.transcoding import (
    Query,
    bind_query,
    dump_items,
    dump_json,
    parse_body,
    parse_query,
    too_large,
    unknown_parameter,
    write_item,
)
from emulator.http import HttpRequest, HttpResponse
from emulator.service import HasToWait
from emulator.service.control import ConnectionReset, Incoming
from emulator.vertex.errors import ApiError, Internal
from emulator.vertex.messages import from_json, load, to_json

_log = logging.getLogger(__name__)

#: The first segments of paths below `/_emulator/`, for the error message of an unknown one.
OWN_ROUTES = (
    "canned", "check-input", "events", "example", "faults", "health", "info", "jobs", "metrics", "now",
    "pace", "projects", "ready", "requests", "reset", "scopes", "session", "snapshot",
)  # fmt: skip
# The number of cached JSON texts of listed jobs, about 2 KB each.
_REMEMBERED = 1000
# About four times the size of a usual request for a job. Parsing a longer body takes too long for the loop.
_BRIEF_BODY = 8 * 1024
_COLLECTION = re.compile(r"/v1(?:beta1)?/projects/[^/]+/locations/[^/]+/([A-Za-z]+)(?![^/:])")
# Vertex: the documentation shows these in a job's JSON, but the message has no such fields.
_JOB_EXTRAS = ("modelDisplayName", "modelObjective", "model_display_name", "model_objective")


@dataclass(frozen=True)
class Routed:
    """A request, and the routes of its path: None if there are none, or the error of a malformed path."""

    request: HttpRequest
    match: Match | ApiError | None

    @property
    def method(self) -> str:
        """The method, with HEAD as GET."""
        return "GET" if self.request.method == "HEAD" else self.request.method

    @property
    def route(self) -> Route | None:
        """The route of the method."""
        return self.match.routes.get(self.method) if isinstance(self.match, Match) else None


class RestSurface:
    """Answers Vertex's HTTP requests by calling the service. It is synchronous and uses no socket."""

    def __init__(self, service: ServiceMethods, *, strict: bool = False) -> None:
        contract = load()
        self.table = RouteTable(contract.methods())
        self.calls = Calls(contract, service)
        self._strict = strict
        self._collections = {route.segments[5] for route in self.table.routes if len(route.segments) > 5}
        # Clients poll lists that have mostly not changed.
        self._listed_item: Callable[..., orjson.Fragment] = lru_cache(_REMEMBERED)(_listed_item)

    @property
    def emulated(self) -> list[Route]:
        """The routes of the RPCs that the service implements."""
        return [route for route in self.table.routes if self.calls.emulated(route.rpc)]

    def route(self, request: HttpRequest) -> Routed:
        """Find the routes of a request's path."""
        try:
            return Routed(request, self.table.match(request.path))
        except ApiError as error:
            return Routed(request, error)

    def is_brief(self, routed: Routed) -> bool:
        """Return whether `answer` is faster than handing the request to a thread; see Service.is_brief."""
        route, body = routed.route, routed.request.body
        if route is None or body is None or len(body) > _BRIEF_BODY:
            return False
        return self.calls.is_brief(route.rpc, routed.request.query, body)

    def answer(self, routed: Routed, *, may_wait: bool = True) -> HttpResponse | None:
        """Answer one request. Every failure becomes an AIP-193 error. None: reset the connection instead.

        Raises HasToWait if the call must wait and `may_wait` is false.
        """
        request, match, route = routed.request, routed.match, routed.route
        try:
            if isinstance(match, ApiError):
                return error_response(match)
            if match is not None and route is not None:
                return self._call(route, match, request, may_wait)
            if match is None or ":" in match.segments[-1]:  # a misspelled custom verb
                return self.not_found(routed.method, request.path)
            return _other_method(request, match)
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
        return HttpResponse(200, self._write(answer, query), JSON_HEADERS)

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

    def _write(self, answer: Answer, query: Query) -> bytes:
        options = query.options
        if options.pretty and (items := answer.extras.get("batchPredictionJobs")):
            return self._write_jobs(answer.message, items, options.int_enums)
        value = to_json(answer.message, int_enums=options.int_enums)
        _add(value, answer.extras)
        return dump_json(value, pretty=options.pretty)

    def _write_jobs(self, page: Any, extras: list[Mapping[str, str]], int_enums: bool) -> bytes:
        jobs = zip(page.batch_prediction_jobs, extras, strict=True)
        value: dict[str, Any] = {
            "batchPredictionJobs": [
                self._listed_item(type(job), job.SerializeToString(), int_enums, *extra.items())
                for job, extra in jobs
            ]
        }
        if page.next_page_token:
            value["nextPageToken"] = page.next_page_token
        return dump_items(value)

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


def _add(value: dict[str, Any], extras: Mapping[str, Any]) -> None:
    """Add the extra members to a message's JSON; those of a list's items to each item."""
    for name, extra in extras.items():
        if isinstance(extra, list):
            for item, members in zip(value.get(name, []), extra, strict=True):
                item.update(members)
        else:
            value[name] = extra


def _listed_item(
    message_type: Any, serialized: bytes, int_enums: bool, *extras: tuple[str, str]
) -> orjson.Fragment:
    message = message_type.FromString(serialized)
    return write_item(to_json(message, int_enums=int_enums) | dict(extras))


def _other_method(request: HttpRequest, match: Match) -> HttpResponse:
    allowed = sorted({*match.routes, "OPTIONS", *(["HEAD"] if "GET" in match.routes else [])})
    allow = {"allow": ", ".join(allowed)}
    if request.method == "OPTIONS":
        return HttpResponse(204, b"", allow)
    # Emulator: Vertex answers 404 here too; 405 with Allow names the methods that work.
    response = plain_error(
        405, f"{request.method} is not possible here; use {' or '.join(sorted(match.routes))}."
    )
    return replace(response, headers={**response.headers, **allow})
