"""The guard, against Python's sockets, asyncio, HTTP libraries and gRPC; nothing leaves the machine."""

import asyncio
import http.client
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager

import grpc
import pytest
import requests
from grpc_health.v1 import health, health_pb2_grpc

from emulator.testing.environment import NO_GRPC_PROXY
from emulator.testing.google_guard import Guard, RealGoogle, is_google
from emulator.testing.tunnels import tunnels

HOST = "us-central1-aiplatform.googleapis.com"


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def guard(heard: list[str]) -> Iterator[Guard]:
    with Guard(lambda refusal: heard.append(refusal.host)).active() as guard:
        yield guard


@pytest.mark.parametrize("host", [HOST, "storage.googleapis.com.", b"www.google.com", "169.254.169.254"])
def test_google_is_known(host: object) -> None:
    assert is_google(host)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "notgoogle.com", "googleapis.com.example", "", None]
)
def test_others_are_not_google(host: object) -> None:
    assert not is_google(host)


def test_resolving_is_refused(guard: Guard, heard: list[str]) -> None:
    with pytest.raises(RealGoogle, match=HOST):
        socket.getaddrinfo(HOST, 443)
    assert guard.refused == heard == [HOST]


def test_connecting_by_name_or_address_is_refused(guard: Guard) -> None:
    with socket.socket() as plain:
        with pytest.raises(RealGoogle):
            plain.connect((HOST, 443))
        with pytest.raises(RealGoogle):
            plain.connect_ex(("169.254.169.254", 80))
    assert guard.refused == [HOST, "169.254.169.254"]


def test_http_libraries_are_refused(guard: Guard) -> None:
    connection = http.client.HTTPSConnection(HOST, timeout=60)
    with pytest.raises(RealGoogle):
        connection.request("GET", "/")


def test_asyncio_is_refused(guard: Guard) -> None:
    async def connect() -> None:
        await asyncio.open_connection(HOST, 443)

    with pytest.raises(RealGoogle):
        asyncio.run(connect())
    assert guard.refused == [HOST]


def test_other_hosts_are_reached(guard: Guard) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(("localhost", listener.getsockname()[1]), timeout=60),
    ):
        assert guard.refused == []


_GRPC = """
import sys

import grpc

with grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials()) as channel:
    try:
        channel.unary_unary("/a.B/C")(b"", timeout=60)
    except grpc.RpcError as error:
        print(error.code().name)
"""


def test_grpc_is_refused_in_this_process_and_others(guard: Guard) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _GRPC, f"{HOST}:443"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "UNAVAILABLE\n"
    assert guard.refused == [HOST]


def test_grpc_on_this_machine_is_not_led_astray(guard: Guard) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        client = threading.Thread(
            target=subprocess.run, args=([sys.executable, "-c", _GRPC, address],), kwargs={"timeout": 60}
        )
        client.start()
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1) == b"\x16"  # a TLS handshake, not CONNECT
        client.join()
    assert guard.refused == []


@contextmanager
def proxy() -> Iterator[tuple[str, list[str]]]:
    """A proxy that is not ours: its URL, and the first lines that it was sent."""
    seen: list[str] = []

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                seen.append(client.recv(4096).decode().partition("\r\n\r\n")[0])
                client.sendall(b"HTTP/1.1 502 Nobody there\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://user:word@127.0.0.1:{listener.getsockname()[1]}", seen
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("spelling", ["HTTPS_PROXY", "https_proxy"])
def test_google_is_refused_behind_a_proxy(monkeypatch: pytest.MonkeyPatch, spelling: str) -> None:
    with proxy() as (url, seen):
        monkeypatch.setenv(spelling, url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("NO_PROXY", "intranet.example")
        with Guard(lambda _: None).active() as guard:
            assert os.environ["no_proxy"].startswith("intranet.example,localhost,")
            assert os.environ["NO_PROXY"] == os.environ["no_proxy"]
            with pytest.raises(requests.ConnectionError, match="real Google host"):
                requests.get(f"https://{HOST}/v1", timeout=60)
            assert guard.refused == [HOST]
            assert seen == []
            with pytest.raises(requests.exceptions.ProxyError):
                requests.get("https://elsewhere.example/", timeout=60)
    assert [line.split()[:2] for line in seen] == [["CONNECT", "elsewhere.example:443"]]
    assert "no_proxy" not in os.environ


def test_no_proxy_for_all_hosts_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with Guard(lambda _: None).active():
        assert os.environ["no_proxy"] == "*"


@pytest.fixture(scope="module")
def other_service() -> Iterator[str]:
    """A gRPC service at an address of this machine that gRPC is not told to reach without a proxy."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.2:0")
    server.start()
    yield f"127.0.0.2:{port}"
    server.stop(0).wait()


_HEALTH = """
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

with grpc.insecure_channel(sys.argv[1]) as channel:
    for service in ("", "x" * 300_000):
        try:
            request = health_pb2.HealthCheckRequest(service=service)
            print(health_pb2_grpc.HealthStub(channel).Check(request, timeout=60).status)
        except grpc.RpcError as error:
            print(error.code().name, error.details())
"""


def ask(address: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _HEALTH, address], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.splitlines()


def test_grpc_to_others_works(guard: Guard, other_service: str) -> None:
    status, unknown = ask(other_service)
    assert status == "1"
    assert unknown.startswith("NOT_FOUND")
    assert guard.refused == []


def test_grpc_to_nobody_is_said_to_be_unreachable(guard: Guard) -> None:
    with socket.create_server(("127.0.0.2", 0)) as listener:
        port = listener.getsockname()[1]
    assert ask(f"127.0.0.2:{port}")[0].startswith("UNAVAILABLE")
    assert guard.refused == []


def test_grpc_to_others_goes_through_the_proxy_that_is_set(
    monkeypatch: pytest.MonkeyPatch, other_service: str
) -> None:
    with proxy() as (url, seen):
        monkeypatch.setenv("https_proxy", url)
        with Guard(lambda _: None).active() as guard:
            assert ask(other_service)[0].startswith("UNAVAILABLE")
            sent = len(seen)
            assert ask(f"{HOST}:443")[0].startswith("UNAVAILABLE")
        assert guard.refused == [HOST]
    assert len(seen) == sent > 0
    assert seen[0].startswith(f"CONNECT {other_service} ")
    assert "Proxy-Authorization: Basic dXNlcjp3b3Jk" in seen[0]


def test_hosts_that_grpc_reaches_without_a_proxy_stay_so_but_for_google(
    monkeypatch: pytest.MonkeyPatch, other_service: str
) -> None:
    monkeypatch.setenv("no_grpc_proxy", f"127.0.0.2,.googleapis.com,{HOST},com")
    with proxy() as (url, seen):
        monkeypatch.setenv("grpc_proxy", url)
        with Guard(lambda _: None).active() as guard:
            assert os.environ[NO_GRPC_PROXY].startswith("127.0.0.2,localhost,")
            assert ask(other_service)[0] == "1"
            assert ask(f"{HOST}:443")[0].startswith("UNAVAILABLE")
        assert guard.refused == [HOST]
    assert seen == []


@pytest.mark.parametrize(
    "line", ["GET / HTTP/1.1", "CONNECT elsewhere HTTP/1.1", "CONNECT elsewhere:99999 HTTP/1.1", ""]
)
def test_what_is_no_connect_is_refused(line: str) -> None:
    with tunnels(lambda _: False) as url:
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            client.sendall(f"{line}\r\n\r\n".encode())
            assert client.recv(100).startswith(b"HTTP/1.1 400 ")


def test_tunnel_outlives_the_guard() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with tunnels(lambda _: False) as url:
            client = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=60)
            client.sendall(f"CONNECT 127.0.0.1:{listener.getsockname()[1]} HTTP/1.0\r\n\r\nearly ".encode())
            server, _ = listener.accept()
            assert client.recv(100) == b"HTTP/1.1 200 Connection established\r\n\r\n"
        with client, server:
            client.sendall(b"late")
            client.shutdown(socket.SHUT_WR)
            assert b"".join(iter(lambda: server.recv(100), b"")) == b"early late"


def test_what_google_auth_asks_in_the_background_is_refused_in_silence(
    guard: Guard, heard: list[str]
) -> None:
    with pytest.raises(RealGoogle):
        socket.getaddrinfo("iamcredentials.googleapis.com", 443)
    assert guard.refused == heard == []


def test_nothing_stays_behind() -> None:
    before = socket.getaddrinfo, socket.socket.connect, socket.socket.connect_ex, dict(os.environ)
    with Guard(lambda _: None).active():
        assert socket.getaddrinfo is not before[0]
        assert dict(os.environ) != before[3]
    assert before == (socket.getaddrinfo, socket.socket.connect, socket.socket.connect_ex, dict(os.environ))
    assert "tunnels" not in [thread.name for thread in threading.enumerate()]
