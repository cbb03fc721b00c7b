"""Vertex's routes: filters, paths, queries and bodies that are nearly right."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.execution.servers import job_body
from tests.fuzz.fuzzing import ODD_TEXTS, encoded, examples, mostly, nearly, queries, written
from tests.fuzz.wire import Wire

pytestmark = pytest.mark.fuzz

PARENT = "/v1/projects/p/locations/us-central1"
_FILTER_PIECES = st.one_of(
    st.sampled_from(
        [
            "display_name", "displayName", "state", "create_time", "labels", "labels.env", 'labels."a b"',
            "model", "version_aliases", "name", "done", "=", "!=", ":", "<", ">=", "AND", "OR", "NOT", "-",
            "(", ")", ".", "*", '"job"', '"job*"', "JOB_STATE_PENDING", '"2026-01-01T00:00:00Z"', "prod", "'",
            '"', "\\", ",", "true",
        ]
    ),
    ODD_TEXTS,
)  # fmt: skip
_RESTRICTIONS = st.tuples(
    mostly(
        st.sampled_from(["display_name", "state", "create_time", "labels", "labels.env", "done"]),
        _FILTER_PIECES,
    ),
    st.sampled_from(["=", "!=", ":", "<", ">="]),
    mostly(
        st.sampled_from(['"job*"', "JOB_STATE_PENDING", '"2026-01-01T00:00:00Z"', "env", "*", "true"]),
        _FILTER_PIECES,
    ),
).map("".join)
_JOINTS = st.sampled_from([" ", " AND ", " OR ", " AND NOT ", " OR (", ") AND "])
_FILTERS = st.one_of(
    st.lists(_FILTER_PIECES, max_size=12).map(" ".join),
    st.lists(_FILTER_PIECES, max_size=12).map("".join),
    st.tuples(_JOINTS, st.lists(_RESTRICTIONS, max_size=4)).map(lambda pair: pair[0].join(pair[1])),
    st.tuples(_JOINTS, st.lists(_RESTRICTIONS, max_size=2)).map(lambda pair: pair[0].join(pair[1])),
)
_HEADERS = st.dictionaries(
    st.sampled_from(["Content-Type", "Content-Encoding", "X-Goog-FieldMask", "x-goog-emulator-instructions"]),
    st.sampled_from(
        [
            "", "application/json", "application/json; charset=utf-16", "text/plain; charset=no-such", "gzip",
            "br", "application/x-www-form-urlencoded", "pace=steps", "pace=never", "return-404", "{",
            '{"faults": 1}', "*",
        ]
    ),
    max_size=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def document(wire: Wire) -> Any:
    body = json.dumps(job_body()).encode()
    assert wire.ask("POST", f"{PARENT}/batchPredictionJobs", {}, body).status == 200
    return json.loads(wire.ask("GET", "/openapi.json").body)


@examples(60)
@given(
    collection=st.sampled_from(["batchPredictionJobs", "models", "models/tiny/operations", "operations"]),
    text=_FILTERS,
)
def test_filters(wire: Wire, document: Any, collection: str, text: str) -> None:
    target = f"{PARENT}/{collection}?filter={quote(text, safe='', errors='surrogatepass')}"
    answer = wire.ask("GET", target)
    wire.check(answer, "GET")
    assert answer.status in (200, 400, 404, 501)


def _operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    vertex = {path: one for path, one in document["paths"].items() if not path.startswith("/_emulator")}
    for path, operations in sorted(vertex.items()):
        for method, operation in sorted(operations.items()):
            yield method.upper(), path, operation


def _property_names(document: Any) -> list[str]:
    names: set[str] = set()
    for schema in document["components"]["schemas"].values():
        for name in schema.get("properties", {}):
            names |= {name, re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name)}
    return sorted(names)


@st.composite
def _requests(draw: st.DrawFn, document: Any) -> tuple[str, str, bytes]:
    method, path, operation = draw(st.sampled_from(list(_operations(document))))
    good = {"project": "p", "location": "us-central1", "model": "tiny"}
    for name, value in good.items() if draw(st.integers(0, 2)) else ():
        path = path.replace("{" + name + "}", value)
    known = st.sampled_from(["p", "us-central1", "tiny", "1", "tiny@1", "-"])
    target = re.sub(r"\{\w+\}", lambda _: draw(mostly(known, encoded(ODD_TEXTS))), path)
    names = [parameter["name"] for parameter in operation.get("parameters", ())]
    query = draw(queries([*names, "alt", "$alt", "prettyPrint", "fields", "updateMask", "a.b.c"]))
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    bases = [entry["value"] for entry in content.get("examples", {}).values()] or [{}]
    body = draw(written(nearly([*bases, job_body()], _property_names(document))))
    return method, f"{target}?{query}" if query else target, body


@examples(80)
@given(data=st.data(), headers=_HEADERS)
def test_transcoding(wire: Wire, document: Any, data: st.DataObject, headers: dict[str, str]) -> None:
    method, target, body = data.draw(_requests(document))
    wire.check(wire.ask(method, target, headers, body), method)
