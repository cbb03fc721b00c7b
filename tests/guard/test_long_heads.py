"""A request whose line and headers are too long is told so, and ends, whatever parser reads it."""

import socket
import ssl
from collections.abc import Iterator

import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from emulator.api import http_protocol
from emulator.app import Emulator
from emulator.config import Settings

FITS = 60_000
TOO_LONG = 70_000
HEAD = b"GET /_emulator/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


@pytest.fixture(scope="module", params=[HttpToolsProtocol, H11Protocol])
def emulator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator on each of uvicorn's parsers."""
    settings = Settings(
        port=0, tls=True, data_dir=tmp_path_factory.mktemp("heads"), bundled_models=False, workers=1
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_protocol, "AutoHTTPProtocol", request.param)
        with Emulator(settings) as emulator:
            yield emulator


@pytest.fixture(params=["plain", "tls"])
def connection(emulator: Emulator, request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    address = emulator.tls_address if request.param == "tls" else emulator.url.removeprefix("http://")
    assert address
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as plain:
        if request.param == "plain":
            yield plain
            return
        context = ssl.create_default_context(cafile=str(emulator.settings.tls_folder / "ca.pem"))
        with context.wrap_socket(plain, server_hostname="localhost") as encrypted:
            yield encrypted


def status_of(connection: socket.socket, *pieces: bytes) -> tuple[int, bytes]:
    """What a server answers to a request that is sent piece by piece."""
    answer = b""
    try:
        for piece in pieces:
            connection.sendall(piece)
        while data := connection.recv(65536):
            answer += data
    except OSError:  # closed while the rest was on its way; what came before counts
        while not answer and (data := connection.recv(65536)):
            answer += data
    return int(answer.split()[1]), answer


def headers(size: int) -> bytes:
    return b"".join(b"X-%05d: %b\r\n" % (number, b"v" * 987) for number in range(size // 1000))


def test_long_head_that_fits_is_read(connection: socket.socket) -> None:
    assert status_of(connection, HEAD + headers(FITS) + b"\r\n")[0] == 200


@pytest.mark.parametrize(
    "pieces",
    [
        [HEAD + headers(TOO_LONG) + b"\r\n"],
        [HEAD + b"X-Long: " + b"v" * TOO_LONG + b"\r\n\r\n"],
        [b"GET /" + b"p" * TOO_LONG + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"],
        # Without an end: it is not collected for ever.
        [HEAD, *[headers(1000)] * 200],
        [HEAD, b"X-Long: ", *[b"v" * 1000] * 200],
        [b"GET /", *[b"p" * 1000] * 200],
    ],
    ids=["many", "one", "path", "endless many", "endless one", "endless path"],
)
def test_too_long_head_is_431(connection: socket.socket, pieces: list[bytes]) -> None:
    status, answer = status_of(connection, *pieces)
    assert status == 431
    assert b"65536 bytes" in answer


def test_long_bodies_and_many_requests_are_none_of_it(connection: socket.socket) -> None:
    """The count begins anew with each message, and a body does not count."""
    body = b"x" * 300_000
    request = b"PUT /_emulator/pace HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
    kept = request % (len(body), body)
    first = kept + HEAD.replace(b"Connection: close\r\n", b"") + headers(FITS)
    pieces = [first[at : at + 50_000] for at in range(0, len(first), 50_000)]
    status, answer = status_of(connection, *pieces, b"\r\n", HEAD + headers(FITS) + b"\r\n")
    assert status == 400
    assert answer.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("target", ["/storage/v1/b/bucket/o/é", "/v1/projects/p/locations/l/models?filter=é"])
def test_raw_utf8_in_the_request_line_is_refused_with_the_remedy(emulator: Emulator, target: str) -> None:
    """By the parser where it is a new one, or else by the guard."""
    host, _, port = emulator.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"percent-encode them as UTF-8" in answer
