"""The control surface: bodies, queries and snapshots that are nearly right."""

import io
import json
import zipfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.execution.servers import JOBS, job_body
from tests.fuzz.fuzzing import ODD_TEXTS, damaged, encoded, examples, mostly, nearly, queries, written
from tests.fuzz.wire import Wire

pytestmark = pytest.mark.fuzz

_ROUTES = [
    "GET ready", "GET info", "GET pace", "PUT pace", "DELETE pace", "GET projects/{}/pace",
    "PUT projects/{}/pace", "DELETE projects/{}/pace", "GET jobs/{}/pace", "PUT jobs/{}/pace",
    "POST jobs/{}/release", "GET jobs/{}/wait", "GET jobs/{}/explain", "POST faults", "POST faults",
    "GET faults", "DELETE faults", "GET faults/{}", "DELETE faults/{}", "POST canned", "POST canned",
    "GET requests", "DELETE requests", "POST reset", "GET metrics", "GET snapshot", "PUT snapshot",
    "POST nothing", "PATCH pace",
]  # fmt: skip
_BODIES: list[dict[str, Any]] = [
    {"pace": "steps"},
    {"pace": "pending=2s,running=3"},
    {"on": "rpc", "method": "Get*", "code": "UNAVAILABLE", "delay": "1ms", "skip": 1, "times": 1},
    {"on": "rpc", "project": "p", "reset": True},
    {"on": "job", "kind": "fail-instance", "instance": 2, "code": 3, "message": "m", "displayName": "n*"},
    {"on": "job", "kind": "slow-model", "delay": "10ms"},
    {"id": "fuzzed", "objective": "object_tracking", "lines": [{"video": "*", "prediction": []}]},
    {"model": "fuzzed", "lines": [{"instance": {"content": "gs://b/o"}, "prediction": []}]},
    {"project": "p", "to": "empty", "buckets": False},
    {},
]
_NAMES = sorted(
    {name for body in _BODIES for name in body} | {"canned", "displayName", "labels", "attempts", "video"}
)
_QUERY_NAMES = [
    "state",
    "timeout",
    "held",
    "method",
    "project",
    "status",
    "surface",
    "contains",
    "after",
    "limit",
]


@pytest.fixture(scope="module")
def job(wire: Wire) -> str:
    answer = wire.ask("POST", JOBS, {}, json.dumps(job_body()).encode())
    return str(json.loads(answer.body)["name"]).rpartition("/")[2]


@pytest.fixture(scope="module")
def good(wire: Wire, job: str) -> bytes:
    """One snapshot for all examples: the next one would differ in length, and so in what can be drawn."""
    return wire.ask("GET", "/_emulator/snapshot").body


@st.composite
def _requests(draw: st.DrawFn, job: str) -> tuple[str, str, bytes]:
    method, _, path = draw(st.sampled_from(_ROUTES)).partition(" ")
    target = "/_emulator/" + path.format(
        draw(mostly(st.sampled_from([job, job, "p", "1"]), encoded(ODD_TEXTS)))
    )
    if path.endswith("/wait"):
        return method, f"{target}?timeout=0.01&{draw(queries(_QUERY_NAMES[:1]))}", b""
    query = draw(queries(_QUERY_NAMES)) if path == "requests" else ""
    body = draw(written(nearly(_BODIES, _NAMES))) if method in ("PUT", "POST") else b""
    return method, f"{target}?{query}", body


@examples(90)
@given(data=st.data())
def test_control_bodies(wire: Wire, job: str, data: st.DataObject) -> None:
    method, target, body = data.draw(_requests(job))
    wire.check(wire.ask(method, target, {}, body), method)


@st.composite
def _snapshots(draw: st.DrawFn, good: bytes) -> bytes:
    """A snapshot in which one entry is damaged or has another name, or whose bytes are damaged."""
    if draw(st.booleans()):
        return draw(damaged(good))
    whole = zipfile.ZipFile(io.BytesIO(good))
    spoilt = draw(st.sampled_from(whole.namelist()))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as copy:
        for name in whole.namelist():
            data = whole.read(name)
            if name == spoilt:
                name = draw(
                    st.one_of(st.just(name), ODD_TEXTS.filter(lambda t: "\0" not in t and t.isprintable()))
                )
                data = draw(st.one_of(_lines(data), st.binary(max_size=20)))
            copy.writestr(name or "x", data)
    return buffer.getvalue()


def _lines(data: bytes) -> st.SearchStrategy[bytes]:
    """JSON lines, one of which is changed."""
    try:
        values = [json.loads(line) for line in data.splitlines() if line.strip()]
    except ValueError:
        values = []
    objects = [value for value in values if isinstance(value, dict)]
    if not objects:
        return st.just(data)
    changed = nearly(objects, sorted(objects[0])).map(lambda value: json.dumps(value).encode())
    return changed.map(lambda line: b"\n".join([*data.splitlines(), line]))


@examples(20)
@given(data=st.data())
def test_snapshots(wire: Wire, good: bytes, data: st.DataObject) -> None:
    answer = wire.ask("PUT", "/_emulator/snapshot", {}, data.draw(_snapshots(good)))
    wire.check(answer, "PUT")
