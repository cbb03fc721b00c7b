"""What the server process loads: models and pixels are the workers' business."""

import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import grpc
import httpx
from google.cloud import aiplatform_v1
from grpc_health.v1 import health_pb2, health_pb2_grpc

PARENT = "projects/p/locations/us-central1"

PROGRAM = """
import sys, urllib.request
from pathlib import Path
from emulator.app import Emulator
from emulator.config import Settings

settings = Settings(port=0, data_dir=Path(sys.argv[1]), bundled_models=False, workers=1)
with Emulator(settings) as emulator:
    for path in ("v1/projects/p/locations/us-central1/models", "openapi.json", "docs"):
        assert urllib.request.urlopen(f"{emulator.url}/{path}", timeout=30).status == 200
    print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_server_process_loads_neither_numpy_nor_decoder_nor_models(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    loaded = set(finished.stdout.split())
    assert "fastapi" in loaded
    assert not loaded & {"numpy", "cv2", "onnxruntime", "lap", "typer", "rich"}


BATCH = """\
--x\r
Content-Type: application/http\r
\r
GET /storage/v1/b/bucket HTTP/1.1\r
\r
\r
--x--\r
"""


def test_a_server_that_is_told_to_stop_ends_while_calls_are_held(tmp_path: Path) -> None:
    """Each call would be held for an hour, some in threads that the interpreter waits for at its end."""
    options = ("--port", "0", "--data-dir", str(tmp_path), "--no-bundled-models", "--workers", "1")
    command = [sys.executable, "-m", "emulator", "serve", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, ExitStack() as opened:
        opened.callback(server.kill)
        assert server.stdout is not None
        url = httpx.URL(server.stdout.readline().split()[-1])
        grpc_address = server.stdout.readline().split()[-1]
        http = opened.enter_context(httpx.Client(base_url=url, trust_env=False, timeout=60))
        for plan in (
            {"on": "rpc", "method": "ListModels"},
            {"on": "storage", "method": "storage.buckets.get"},
        ):
            http.post("/_emulator/faults", json={**plan, "delay": "3600s"}).raise_for_status()

        def send(head: str, body: str = "") -> None:
            connection = socket.create_connection((url.host, url.port or 0), timeout=60)
            opened.enter_context(connection)
            connection.sendall(f"{head} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n".encode())
            connection.sendall(f'Content-Type: multipart/mixed; boundary="x"\r\n\r\n{body}'.encode())

        send(f"GET /v1/{PARENT}/models")
        send("GET /storage/v1/b/bucket")
        send("POST /batch/storage/v1", BATCH)
        channel = opened.enter_context(grpc.insecure_channel(grpc_address))
        request = aiplatform_v1.ListModelsRequest.pb()(parent=PARENT)
        call = channel.unary_unary("/google.cloud.aiplatform.v1.ModelService/ListModels")
        _held = call.future(request.SerializeToString())
        _watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        deadline = time.monotonic() + 120
        while (fired := [plan["fired"] for plan in http.get("/_emulator/faults").json()["faults"]]) != [2, 2]:
            assert time.monotonic() < deadline, fired
            time.sleep(0.05)
        server.send_signal(signal.SIGTERM)
        assert server.wait(120) == 0
