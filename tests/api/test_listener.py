"""The ports in front of the servers, over real sockets: who gets through, who is told what to change."""

import asyncio
import gc
import json
import logging
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from google.cloud import aiplatform_v1
from google.cloud.aiplatform_v1.services.job_service.transports import JobServiceGrpcTransport

from emulator.api.hints import Addresses
from emulator.api.listener import GrpcListener, TlsListener
from emulator.app import CannotStart, Emulator
from emulator.config import Settings
from emulator.trust import prepare, server_context

PARENT = "projects/my-project/locations/us-central1"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HTTP_REQUEST = f"GET /v1/{PARENT}/models HTTP/1.1\r\nHost: x\r\n\r\n".encode()
ADDRESSES = Addresses("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    settings = Settings(
        port=0,
        tls=True,
        tls_names=["vertex.test"],
        data_dir=tmp_path_factory.mktemp("data"),
        bundled_models=False,
        workers=1,
    )
    with Emulator(settings) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def ca(emulator: Emulator) -> Path:
    return emulator.settings.tls_folder / "ca.pem"


def address(emulator: Emulator, port: str) -> tuple[str, int]:
    texts = {"http": emulator.url[7:], "grpc": emulator.grpc_address, "tls": emulator.tls_address}
    host, _, number = str(texts[port]).partition(":")
    return host, int(number)


def exchange(emulator: Emulator, port: str, data: bytes) -> str:
    """Send bytes and read what comes until the server closes."""
    with socket.create_connection(address(emulator, port), timeout=60) as connection:
        connection.sendall(data)
        answer = b""
        with suppress(ConnectionResetError):
            while received := connection.recv(65536):
                answer += received
        return answer.decode("latin-1")


def hello() -> bytes:
    """What a TLS client says first."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def handshake(emulator: Emulator, ca: Path, protocols: list[str], name: str = "localhost") -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(ca))
    if protocols:
        context.set_alpn_protocols(protocols)
    connection = socket.create_connection(address(emulator, "tls"), timeout=60)
    return context.wrap_socket(connection, server_hostname=name)


def still_serves(emulator: Emulator, ca: Path) -> None:
    """Use every surface once."""
    with grpc.insecure_channel(emulator.grpc_address) as channel:
        jobs = aiplatform_v1.JobServiceClient(transport=JobServiceGrpcTransport(channel=channel))
        assert list(jobs.list_batch_prediction_jobs(parent=PARENT, timeout=60)) == []
    for url in (emulator.url, f"https://{emulator.tls_address}"):
        assert requests.get(f"{url}/v1/{PARENT}/models", verify=str(ca), timeout=60).status_code == 200


@pytest.mark.parametrize(
    ("protocols", "agreed"),
    [(["h2"], "h2"), (["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1"), ([], None)],
    ids=["grpc", "rest", "both", "none"],
)
def test_tls_goes_by_what_the_client_offers(
    emulator: Emulator, ca: Path, protocols: list[str], agreed: str | None
) -> None:
    with handshake(emulator, ca, protocols) as connection:
        assert connection.selected_alpn_protocol() == agreed
        if agreed == "h2":
            connection.sendall(PREFACE + b"\0\0\0\4\0\0\0\0\0")  # an empty SETTINGS frame
            assert connection.recv(9)[3] == 4  # SETTINGS
        else:
            connection.sendall(HTTP_REQUEST)
            assert connection.recv(100).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    "name", ["localhost", "127.0.0.1", "us-central1-aiplatform.googleapis.com", "vertex.test"]
)
def test_certificate_holds_for_every_name_in_use(emulator: Emulator, ca: Path, name: str) -> None:
    with handshake(emulator, ca, [], name) as connection:
        assert connection.version() == "TLSv1.3"


def test_grpc_over_tls(emulator: Emulator, ca: Path) -> None:
    credentials = grpc.ssl_channel_credentials(ca.read_bytes())
    with grpc.secure_channel(f"localhost:{address(emulator, 'tls')[1]}", credentials) as channel:
        jobs = aiplatform_v1.JobServiceClient(transport=JobServiceGrpcTransport(channel=channel))
        assert list(jobs.list_batch_prediction_jobs(parent=PARENT)) == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_trusts_the_ca(emulator: Emulator, ca: Path) -> None:
    url = f"https://{emulator.tls_address}/v1/{PARENT}/models"
    done = subprocess.run(["curl", "-sS", "--cacert", ca, url], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {}


def test_urls_of_cloud_storage_have_the_scheme_the_client_used(emulator: Emulator, ca: Path) -> None:
    url = f"https://{emulator.tls_address}"
    bucket = requests.post(f"{url}/storage/v1/b", json={"name": "over-tls"}, verify=str(ca), timeout=60)
    assert bucket.json()["selfLink"].startswith(f"{url}/storage/v1/")
    upload = requests.post(
        f"{url}/upload/storage/v1/b/over-tls/o?uploadType=resumable&name=a", verify=str(ca), timeout=60
    )
    assert upload.headers["location"].startswith(f"{url}/upload/")


def test_large_body_passes_tls_both_ways(emulator: Emulator, ca: Path) -> None:
    url, body = f"https://{emulator.tls_address}", bytes(range(256)) * 80_000
    requests.post(f"{url}/storage/v1/b", json={"name": "large"}, verify=str(ca), timeout=60)
    requests.post(
        f"{url}/upload/storage/v1/b/large/o?uploadType=media&name=a", body, verify=str(ca), timeout=60
    ).raise_for_status()
    assert requests.get(f"{url}/storage/v1/b/large/o/a?alt=media", verify=str(ca), timeout=60).content == body


@pytest.mark.parametrize("padding", [0, 100_000])
def test_body_is_read_where_the_client_would_like_another_protocol(emulator: Emulator, padding: int) -> None:
    """As java.net.http.HttpClient asks by default, and `curl --http2`."""
    wishes = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    content = b"\r\nUpgrade: h2c\r\n" + b"x" * padding
    requests.post(f"{emulator.url}/storage/v1/b?project=my-project", json={"name": f"upgraded-{padding}"})
    objects = f"storage/v1/b/upgraded-{padding}/o"
    with requests.Session() as session:
        for name in ("first", "second"):
            sent = f"{emulator.url}/upload/{objects}?uploadType=media&name={name}"
            assert session.post(sent, content, headers=wishes, timeout=60).status_code == 200
            read = session.get(f"{emulator.url}/{objects}/{name}?alt=media", headers=wishes, timeout=60)
            assert read.content == content


def test_http_on_the_grpc_port_is_sent_to_rest(emulator: Emulator) -> None:
    answer = exchange(emulator, "grpc", HTTP_REQUEST)
    assert answer.startswith("HTTP/1.1 400 Bad Request\r\n")
    assert f"REST is at {emulator.url}." in answer


@pytest.mark.parametrize("data", [HTTP_REQUEST, PREFACE, b"\x00\xff\x00\xff"], ids=["http", "grpc", "noise"])
def test_plain_text_on_the_tls_port_is_sent_to_the_right_place(emulator: Emulator, data: bytes) -> None:
    answer = exchange(emulator, "tls", data)
    assert answer.startswith("HTTP/1.1 400 Bad Request\r\n")
    assert f"use https://{emulator.tls_address}, or in plain text {emulator.url}" in answer


@pytest.mark.parametrize(
    ("port", "remedy"),
    [("grpc", "grpc.insecure_channel("), ("http", "the address with its scheme, http://127.0.0.1:")],
)
def test_tls_on_a_plain_port_is_logged_with_what_to_change(
    emulator: Emulator, caplog: pytest.LogCaptureFixture, port: str, remedy: str
) -> None:
    answer = exchange(emulator, port, hello())
    (record,) = [record for record in caplog.records if record.name.startswith(("emulator", "uvicorn"))]
    assert remedy in record.message
    assert str(emulator.tls_address) in record.message
    assert record.message in answer


def test_grpc_on_the_rest_port_is_logged_with_what_to_change(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    with grpc.insecure_channel(emulator.url[7:]) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(GET_JOB)(b"", timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "Trying to connect an http1.x server (HTTP status 400)" in caught.value.details()
    record = next(record for record in caplog.records if record.name == "emulator.api.http_protocol")
    assert f"with gRPC (HTTP/2), which is in plain text at {emulator.grpc_address}, over" in record.message
    assert "Invalid HTTP request" not in caplog.text
    assert record.message in exchange(emulator, "http", PREFACE)


def test_grpc_that_is_off_is_said_to_be_off() -> None:
    assert "which is off in plain text: leave out --no-grpc." in Addresses("127.0.0.1:1").grpc_on_http


def test_client_that_does_not_trust_the_ca_is_told_of_env(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"https://{emulator.tls_address}/", timeout=60)
    deadline = time.monotonic() + 60
    while "`vertex-emulator env`" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "`vertex-emulator env`" in caplog.text


@pytest.mark.parametrize("port", ["http", "grpc", "tls"])
def test_half_open_connections_do_no_harm(emulator: Emulator, ca: Path, port: str) -> None:
    said = [b"", b"P", b"PRI * HTT", PREFACE, b"\x16", b"\x16\x03", hello()[:50], hello()]
    connections = []
    for number in range(200):
        connection = socket.create_connection(address(emulator, port))
        connection.sendall(said[number % len(said)])
        connections.append(connection)
    still_serves(emulator, ca)
    for number, connection in enumerate(connections):
        if number % 2:  # gone without a goodbye
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    still_serves(emulator, ca)


def frame(kind: int, payload: bytes, *, flags: int = 0, stream: int = 0, length: int | None = None) -> bytes:
    """An HTTP/2 frame, whose length may be a lie."""
    size = len(payload) if length is None else length
    return size.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def headers(path: str) -> bytes:
    """The HEADERS frame that begins a gRPC call: literal fields, no Huffman code."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    block = b"".join(
        b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in field) for field in fields.items()
    )
    return frame(1, block, flags=4, stream=1)


SETTINGS = frame(4, b"")
GET_JOB = "/google.cloud.aiplatform.v1.JobService/GetBatchPredictionJob"


@pytest.mark.parametrize("over", ["grpc", "tls"])
@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 1000,
        SETTINGS + frame(0xEE, b"of no known kind", stream=3),
        SETTINGS + frame(4, b"five!"),
        SETTINGS + frame(8, b"\0\0\0\0"),
        SETTINGS + frame(1, b"\xff" * 20, flags=4, stream=1),
        SETTINGS + frame(0, b"data on a stream that is not open", stream=7),
        SETTINGS + headers(GET_JOB) + frame(0, b"\0\xff\xff\xff\xff", flags=1, stream=1),
        SETTINGS + headers(GET_JOB) + frame(0, b"\0\0\0\0\x09abc", flags=1, stream=1),
        SETTINGS + headers(GET_JOB) + frame(0, b"\1\0\0\0\3abc", flags=1, stream=1),
        SETTINGS + headers("no path") + frame(0, b"", flags=1, stream=1),
        SETTINGS + headers(GET_JOB) + frame(0, b"cut short", stream=1, length=10_000),
        SETTINGS + frame(0, b"", length=2**24 - 1),
    ],
    ids=[
        "noise",
        "unknown frame",
        "settings of a wrong size",
        "window of nothing",
        "headers that cannot be decoded",
        "data without a stream",
        "message longer than all memory",
        "message cut short",
        "compressed with nothing",
        "path that is none",
        "frame cut short",
        "frame over the limit",
    ],
)
def test_malformed_grpc_frames_do_no_harm(emulator: Emulator, ca: Path, over: str, data: bytes) -> None:
    if over == "tls":
        connection: socket.socket = handshake(emulator, ca, ["h2"])
    else:
        connection = socket.create_connection(address(emulator, "grpc"), timeout=60)
    with connection:
        connection.sendall(PREFACE + data)
        assert connection.recv(9)[3] == 4  # the server's SETTINGS: it was spoken to
    still_serves(emulator, ca)


@pytest.mark.parametrize("method", ["/google.cloud.aiplatform.v1.JobService/Nothing", "/no.Service/Get", "/"])
def test_unknown_method_is_unimplemented(emulator: Emulator, ca: Path, method: str) -> None:
    with grpc.insecure_channel(emulator.grpc_address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(method)(b"", timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    still_serves(emulator, ca)


@pytest.mark.parametrize(
    "token", [None, "", "Bearer", "Bearer wrong", "Basic eDp5", "Bearer \u00fc", "x" * 4000]
)
def test_tokens_are_not_looked_at(emulator: Emulator, token: str | None) -> None:
    credentials = {} if token is None else {"Authorization": token.encode()}
    answer = requests.get(f"{emulator.url}/v1/{PARENT}/models", headers=credentials, timeout=60)
    assert (answer.status_code, answer.json()) == (200, {})
    metadata = [] if token is None or not token.isascii() else [("authorization", token)]
    with grpc.insecure_channel(emulator.grpc_address) as channel:
        call = channel.unary_unary(
            GET_JOB.replace("JobService/GetBatchPredictionJob", "ModelService/ListModels")
        )
        request = aiplatform_v1.ListModelsRequest(parent=PARENT)
        answered = call(aiplatform_v1.ListModelsRequest.serialize(request), metadata=metadata, timeout=60)
    assert answered == b""


def test_authorization_reaches_no_log(emulator: Emulator, ca: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    headers = {"Authorization": "Bearer s3cret"}
    for url in (emulator.url, f"https://{emulator.tls_address}", f"http://{emulator.tls_address}"):
        requests.get(f"{url}/v1/{PARENT}/models", headers=headers, verify=str(ca), timeout=60)
        requests.get(f"{url}/nothing", headers=headers, verify=str(ca), timeout=60)
    exchange(emulator, "grpc", HTTP_REQUEST[:-2] + b"Authorization: Bearer s3cret\r\n\r\n")
    with grpc.insecure_channel(emulator.grpc_address) as channel:
        call = channel.unary_unary("/google.cloud.aiplatform.v1.JobService/GetBatchPredictionJob")
        with pytest.raises(grpc.RpcError):
            call(b"\xff", metadata=(("authorization", "Bearer s3cret"),))
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("setting", "words"), [("grpc_port", "--grpc-port, or use --no-grpc"), ("tls_port", "--tls-port")]
)
def test_port_in_use_is_one_clear_line(tmp_path: Path, setting: str, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings(port=0, tls=True, data_dir=tmp_path / "data", **{setting: port})
        with pytest.raises(CannotStart) as caught:
            Emulator(settings).start()
    assert f"port {port} of 127.0.0.1 cannot be had" in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_name_that_no_certificate_can_hold_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="'no name' is no host name or IP address"):
        Emulator(Settings(port=0, tls=True, tls_names=["no name"], data_dir=tmp_path)).start()


def test_idle_connections_do_not_delay_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a server waits for requests under way must pass for none of these.
    monkeypatch.setattr("emulator.api.server._OPEN_REQUESTS_GRACE_S", 120)
    emulator = Emulator(Settings(port=0, tls=True, data_dir=tmp_path, bundled_models=False, workers=1))
    emulator.start()
    ca = emulator.settings.tls_folder / "ca.pem"
    credentials = grpc.ssl_channel_credentials(ca.read_bytes())
    with (
        handshake(emulator, ca, ["http/1.1"]) as rest,
        grpc.secure_channel(emulator.tls_address, credentials) as over_tls,
        grpc.insecure_channel(emulator.grpc_address) as plain,
    ):
        rest.sendall(HTTP_REQUEST)
        assert rest.recv(10) == b"HTTP/1.1 2"
        for channel in (over_tls, plain):
            grpc.channel_ready_future(channel).result(timeout=60)
        began = time.monotonic()
        emulator.stop()
        assert time.monotonic() - began < 60


PROGRAM = """
import socket, sys, urllib.request
from pathlib import Path
from emulator.app import Emulator
from emulator.config import Settings

settings = Settings(port=0, data_dir=Path(sys.argv[1]), bundled_models=False, workers=1)
with Emulator(settings) as emulator:
    urllib.request.urlopen(f"{emulator.url}/v1/projects/p/locations/us-central1/models", timeout=30)
    before = {"grpc", "cryptography"} & set(sys.modules)
    host, _, port = emulator.grpc_address.partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n")
        assert connection.recv(9)[3] == 4
        print(sorted(before), "grpc" in sys.modules)
"""


def test_grpc_is_loaded_by_the_first_connection_and_ends_with_the_server(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "data")],
        env={"TMPDIR": str(tmp_path / "tmp"), "PATH": "", "GRPC_VERBOSITY": "NONE"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[] True\n"), done.stderr
    assert not list((tmp_path / "tmp").iterdir())


# The front alone, before a server of the test's own.


@pytest.fixture
def backend() -> Iterator[tuple[str, socket.socket]]:
    """A listening socket file in the place of the gRPC server."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/backend")
        listener.listen()
        listener.settimeout(20)
        yield f"{folder}/backend", listener


def through_front(
    path: str,
    client: Callable[[tuple[str, int]], Any],
    loop_factory: Any,
    patience_s: float = 20,
    start: Callable[[], None] = lambda: None,
) -> Any:
    """Run a front in a loop, and the client in a thread."""

    def grpc_path() -> str:
        start()
        return path

    async def run() -> Any:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            front = GrpcListener(listener, grpc_path, ADDRESSES, patience_s)
            front.start()
            result: Awaitable[Any] = asyncio.to_thread(client, listener.getsockname())
            try:
                return await result
            finally:
                front.close()
                await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(run())


def loops() -> list[Any]:
    import uvloop

    return [asyncio.new_event_loop, uvloop.new_event_loop]


each_loop = pytest.mark.parametrize("loop_factory", loops(), ids=["asyncio", "uvloop"])


@each_loop
def test_preface_may_come_byte_by_byte_and_half_closes_pass(
    backend: tuple[str, socket.socket], loop_factory: Any
) -> None:
    path, listener = backend

    def echo_at_the_end() -> None:
        connection, _ = listener.accept()
        with connection:
            received = b""
            while data := connection.recv(65536):
                received += data
            connection.sendall(received)

    def client(address: tuple[str, int]) -> bytes:
        with socket.create_connection(address, timeout=60) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in PREFACE[:4]:
                connection.sendall(bytes([byte]))
                time.sleep(0.01)
            connection.sendall(PREFACE[4:])
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while data := connection.recv(65536):
                answer += data
            return answer

    server = threading.Thread(target=echo_at_the_end)
    server.start()
    assert through_front(path, client, loop_factory) == PREFACE
    server.join()


@each_loop
def test_side_that_does_not_read_slows_the_other_down(
    backend: tuple[str, socket.socket], loop_factory: Any
) -> None:
    path, listener = backend

    def client(address: tuple[str, int]) -> tuple[int, int]:
        with socket.create_connection(address, timeout=0.5) as connection:
            connection.sendall(PREFACE)
            server, _ = listener.accept()
            sent = len(PREFACE)
            with server:
                with suppress(TimeoutError):
                    while sent < 100_000_000:
                        sent += connection.send(bytes(100_000))
                connection.shutdown(socket.SHUT_WR)
                received = 0
                while data := server.recv(1_000_000):
                    received += len(data)
            return sent, received

    sent, received = through_front(path, client, loop_factory)
    assert sent == received  # nothing is lost
    assert sent < 30_000_000  # what fits into the system's buffers, not all that the client would send


@each_loop
def test_end_of_the_server_ends_the_client(backend: tuple[str, socket.socket], loop_factory: Any) -> None:
    path, listener = backend

    def client(address: tuple[str, int]) -> bytes:
        with socket.create_connection(address, timeout=60) as connection:
            connection.sendall(PREFACE)
            server, _ = listener.accept()
            server.recv(100)
            server.sendall(b"last words")
            server.close()
            answer = b""
            while data := connection.recv(100):
                answer += data
            return answer

    assert through_front(path, client, loop_factory) == b"last words"


@each_loop
def test_client_that_is_gone_before_the_server_has_started_leaves_nothing(
    backend: tuple[str, socket.socket], loop_factory: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path, listener = backend
    starting, gone = threading.Event(), threading.Event()

    def start() -> None:
        starting.set()
        gone.wait(60)
        time.sleep(0.05)  # the loop has heard of it

    def client(address: tuple[str, int]) -> bytes:
        with socket.create_connection(address, timeout=60) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(PREFACE)
            starting.wait(60)
            time.sleep(0.05)
        gone.set()
        server, _ = listener.accept()
        with server:
            server.settimeout(20)
            while server.recv(65536):
                pass
        return b"ended"

    assert through_front(path, client, loop_factory, start=start) == b"ended"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@each_loop
def test_client_that_says_nothing_is_let_go(backend: tuple[str, socket.socket], loop_factory: Any) -> None:
    def client(address: tuple[str, int]) -> bytes:
        with socket.create_connection(address, timeout=60) as connection:
            return connection.recv(1)

    assert through_front(backend[0], client, loop_factory, patience_s=0.05) == b""


@each_loop
def test_handshake_that_does_not_go_on_is_given_up(loop_factory: Any, tmp_path: Path) -> None:
    context = server_context(prepare(tmp_path))

    async def run() -> bytes:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            front = TlsListener(listener, str, ADDRESSES, context, asyncio.Protocol, patience_s=0.1)
            front.start()
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(hello()[:50])
            answer = b""
            async with asyncio.timeout(20):
                with suppress(ConnectionResetError):  # closed with the unfinished hello unread
                    answer = await reader.read()
            writer.close()
            front.close()
            await asyncio.sleep(0)
            return answer

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(run()) == b""


@each_loop
def test_server_that_cannot_be_reached_closes_the_connection(
    loop_factory: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def client(address: tuple[str, int]) -> bytes:
        with socket.create_connection(address, timeout=60) as connection, suppress(ConnectionResetError):
            connection.sendall(PREFACE)
            return connection.recv(1)
        return b""

    assert through_front(str(tmp_path / "nothing"), client, loop_factory) == b""
    assert "The gRPC server cannot be reached" in caplog.text


@each_loop
@pytest.mark.parametrize("steps", range(8))
def test_connection_that_comes_as_the_front_closes_is_closed(loop_factory: Any, steps: int) -> None:
    """However far the front has got with it: in `steps` rounds of the event loop."""

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            front = GrpcListener(listener, lambda: "", ADDRESSES)
            front.start()
            await asyncio.sleep(0.01)  # it waits for connections
            client = socket.create_connection(listener.getsockname(), timeout=60)
            for _ in range(steps):
                await asyncio.sleep(0)
            front.close()
            await asyncio.sleep(0.01)
        with client, suppress(ConnectionResetError):
            assert client.recv(1) == b""

    with warnings.catch_warnings(record=True) as left:
        warnings.simplefilter("always")
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(run())
        gc.collect()
    assert [str(one.message) for one in left] == []
