"""The guard, against Python's sockets, asyncio, HTTP libraries and gRPC; nothing leaves the machine."""

import asyncio
import http.client
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from emulator.testing.guard import Guard, RealGoogle, is_google

HOST = "us-central1-aiplatform.googleapis.com"


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def guard(heard: list[str]) -> Iterator[Guard]:
    with Guard(heard.append).active() as guard:
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
    connection = http.client.HTTPSConnection(HOST, timeout=5)
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
        socket.create_connection(("localhost", listener.getsockname()[1]), timeout=5),
    ):
        assert guard.refused == []


_GRPC = """
import sys

import grpc

with grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials()) as channel:
    try:
        channel.unary_unary("/a.B/C")(b"", timeout=20)
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


def test_what_google_auth_asks_in_the_background_is_refused_in_silence(
    guard: Guard, heard: list[str]
) -> None:
    with pytest.raises(RealGoogle):
        socket.getaddrinfo("iamcredentials.googleapis.com", 443)
    assert guard.refused == heard == []


def test_nothing_stays_behind() -> None:
    before = socket.getaddrinfo, socket.socket.connect, socket.socket.connect_ex, dict(os.environ)
    threads = threading.active_count()
    with Guard(lambda _: None).active():
        assert socket.getaddrinfo is not before[0]
        assert dict(os.environ) != before[3]
    assert before == (socket.getaddrinfo, socket.socket.connect, socket.socket.connect_ex, dict(os.environ))
    assert threading.active_count() == threads
