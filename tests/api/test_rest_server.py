"""The application behind a real socket: connections, long bodies, HEAD, paths outside Vertex's."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi import Request, Response

from emulator.api.application import create_app
from emulator.config import Settings
from emulator.http import MAX_BODY

JOBS = "/v1/projects/p/locations/us-central1/batchPredictionJobs"


def test_connection_is_kept_alive(http: httpx.Client) -> None:
    connections = set()
    for _ in range(3):
        response = http.get(f"{JOBS}/1")
        assert response.status_code == 200
        connections.add(response.extensions["network_stream"].get_extra_info("client_addr"))
    assert len(connections) == 1


def test_chunked_body_is_read(http: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for byte in b'{"displayName":"slowly"}':
            yield bytes([byte])

    response = http.post(JOBS, content=chunks())
    assert response.request.headers["transfer-encoding"] == "chunked"
    assert response.json()["displayName"] == "slowly"


def test_long_body_is_refused_and_the_connection_stays_usable(http: httpx.Client) -> None:
    response = http.post(JOBS, content=b" " * (MAX_BODY + 1))
    assert response.status_code == 400
    assert "exceeds the limit" in response.json()["error"]["message"]
    assert http.get(f"{JOBS}/1").status_code == 200


def test_many_calls_that_wait_hold_up_no_other(http: httpx.Client, recording: Any) -> None:
    wait = f"{http.base_url}/v1/projects/p/locations/us-central1/operations/1:wait?timeout=60s"
    with ThreadPoolExecutor(40) as waiters:
        waiting = [waiters.submit(httpx.post, wait, timeout=60, trust_env=False) for _ in range(40)]
        try:
            assert http.get(f"{JOBS}/1", timeout=30).status_code == 200
            assert not any(answer.done() for answer in waiting)
        finally:
            recording.over.set()
        assert {answer.result().status_code for answer in waiting} == {200}


def test_head_has_the_headers_of_get_and_no_body(http: httpx.Client) -> None:
    got, head = http.get(f"{JOBS}/1"), http.head(f"{JOBS}/1")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(got.content))
    assert head.headers["content-type"] == "application/json; charset=UTF-8"


def test_encoded_path_reaches_the_surface_as_sent(http: httpx.Client) -> None:
    assert http.get(f"{JOBS}/a%2Fb%3Ac").json()["name"].endswith("/a%2Fb:c")


@pytest.mark.parametrize("path", [f"/{JOBS}", JOBS.replace("v1", "v2")])
def test_path_that_only_looks_like_vertex_s_gets_a_hint(http: httpx.Client, path: str) -> None:
    message = http.get(f"{str(http.base_url).rstrip('/')}{path}").json()["error"]["message"]
    assert "Did you mean GET /v1" in message
    assert "batchPredictionJobs?" in message


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v2/x", 404), ("POST", "/docs", 405)])
def test_paths_outside_vertex_get_the_same_error_shape(
    http: httpx.Client, method: str, path: str, status: int
) -> None:
    response = http.request(method, path)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, status)
    assert response.headers["content-type"] == "application/json; charset=UTF-8"


def test_middleware_of_the_application_sees_calls_of_vertex(recording: Any) -> None:
    app = create_app(recording, Settings())
    seen = []

    @app.middleware("http")
    async def watch(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        seen.append(request.url.path)
        return await call_next(request)

    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.get(f"{JOBS}/1")

    assert asyncio.run(call()).json()["name"].endswith("/1")
    assert seen == [f"{JOBS}/1"]
