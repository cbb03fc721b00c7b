"""Finds the RPC that is bound to an HTTP method and path.

Contract: the `google.api.http` options. The routes form a tree of path segments. A list of regular
expressions would be scanned for every request, and the two services have several hundred bindings.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from emulator.vertex.errors import InvalidArgument
from emulator.vertex.messages import Rpc

_VARIABLE = re.compile(r"\{([A-Za-z0-9_.]+)(?:=([^}]*))?\}")
_LONGEST_COMPARED = 300


@dataclass(frozen=True)
class Variable:
    """A request field that is read from the path's segments `first` to `last` (exclusive)."""

    field_path: tuple[str, ...]
    first: int
    last: int


@dataclass(frozen=True)
class Route:
    """One HTTP binding of an RPC. `segments` holds literals and `*`; `body` is `*`, a field or empty."""

    rpc: Rpc
    method: str
    segments: tuple[str, ...]
    verb: str
    variables: tuple[Variable, ...]
    body: str

    def __str__(self) -> str:
        return f"{self.method} {_path(self.segments, self.verb)}"


@dataclass(frozen=True)
class Match:
    """The routes of a path by HTTP method, and the path's decoded segments."""

    routes: Mapping[str, Route]
    segments: tuple[str, ...]

    def values(self, route: Route) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield each request field that the URL contains, as its field path and its value."""
        for variable in route.variables:
            yield variable.field_path, "/".join(self.segments[variable.first : variable.last])


@dataclass
class _Node:
    children: dict[str, "_Node"] = field(default_factory=dict)
    by_verb: dict[str, dict[str, Route]] = field(default_factory=dict)


class RouteTable:
    """All routes, as a tree of path segments."""

    def __init__(self, rpcs: Iterable[Rpc]) -> None:
        self.routes = [route for rpc in rpcs for route in _routes(rpc)]
        self._root = _Node()
        for route in self.routes:
            self._add(route)
        self._verbs = {route.verb for route in self.routes}

    def match(self, raw_path: str) -> Match | None:
        """Return the routes of a percent-encoded path; None if there are none.

        Raises:
            InvalidArgument: the path's percent-encoding is not UTF-8.
        """
        segments = [_decode(segment) for segment in raw_path.lstrip("/").split("/")]
        # Vertex: a colon starts a custom verb only when some route has that verb.
        last, colon, verb = segments[-1].rpartition(":")
        if colon and verb in self._verbs:
            segments[-1] = last
        else:
            verb = ""
        routes = _walk(self._root, segments, 0, verb)
        return Match(routes, tuple(segments)) if routes else None

    def nearest(self, method: str, path: str, candidates: Iterable[Route]) -> Route | None:
        """Return the candidate whose URL is most similar to the path; None if none is similar."""
        asked = path[:_LONGEST_COMPARED].rstrip("/")
        parts = asked.lstrip("/").partition(":")[0].split("/")
        by_url: dict[str, Route] = {}
        for route in candidates:
            url = f"{route.method} {_path(_fill(route.segments, parts), route.verb)}"
            by_url.setdefault(url, route)
        close = difflib.get_close_matches(f"{method} {asked}", by_url, n=1, cutoff=0.75)
        return by_url[close[0]] if close else None

    def _add(self, route: Route) -> None:
        node = self._root
        for segment in route.segments:
            node = node.children.setdefault(segment, _Node())
        # The contract never binds two RPCs to one URL.
        node.by_verb.setdefault(route.verb, {}).setdefault(route.method, route)


def _routes(rpc: Rpc) -> Iterator[Route]:
    for binding in rpc.bindings:
        segments, verb, variables = _parse_template(binding.path_template)
        yield Route(rpc, binding.method.upper(), segments, verb, variables, binding.body or "")


def _parse_template(template: str) -> tuple[tuple[str, ...], str, tuple[Variable, ...]]:
    variables = []
    path, verb = template, ""
    if ":" in template.rpartition("/")[2].rpartition("}")[2]:
        path, _, verb = template.rpartition(":")
    for found in _VARIABLE.finditer(path):
        before = _VARIABLE.sub(lambda other: other[2] or "*", path[: found.start()])
        first = before.count("/") - 1
        length = (found[2] or "*").count("/") + 1
        variables.append(Variable(tuple(found[1].split(".")), first, first + length))
    segments = tuple(_VARIABLE.sub(lambda other: other[2] or "*", path).lstrip("/").split("/"))
    if "**" in segments:
        raise ValueError(f"The path template {template} has a `**`, which this table does not walk.")
    return segments, verb, tuple(variables)


def _walk(node: _Node, segments: list[str], position: int, verb: str) -> dict[str, Route] | None:
    if position == len(segments):
        return node.by_verb.get(verb)
    segment = segments[position]
    for child in (node.children.get(segment), node.children.get("*") if segment else None):
        found = child and _walk(child, segments, position + 1, verb)
        if found:
            return found
    return None


def _decode(segment: str) -> str:
    if "%" not in segment:
        return segment
    # Vertex: a variable of several segments is decoded except for its slashes (google/api/http.proto).
    kept = re.sub("%2f", "%252F", segment, flags=re.IGNORECASE)
    try:
        return unquote_to_bytes(kept).decode()
    except UnicodeDecodeError:
        raise InvalidArgument(f"The path segment {segment!r} is not percent-encoded UTF-8.") from None


def _fill(segments: tuple[str, ...], values: list[str]) -> tuple[str, ...]:
    return tuple(
        values[index] if segment == "*" and index < len(values) else segment
        for index, segment in enumerate(segments)
    )


def _path(segments: Iterable[str], verb: str) -> str:
    return "/" + "/".join(segments) + (f":{verb}" if verb else "")
