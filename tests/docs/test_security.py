"""The commands of docs/security.md."""

import os
import subprocess
import tomllib
from pathlib import Path

import httpx

from emulator.app import Emulator
from emulator.config import Settings
from tests.docs.conftest import BIN, Place
from tests.docs.options import serve_options
from tests.docs.pages import blocks, ports, runs

PAGE = "docs/security.md"
SERVE, TEAM, CLIENT, CORS = blocks(PAGE, "sh")
(FILE,) = blocks(PAGE, "toml")
# For this program alone, the name that the page gives the server leads to it.
PIPELINE = """
import socket

resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *more, **named: resolve(
    "127.0.0.1" if host == "emulator.internal" else host, *more, **named
)

from google.cloud import aiplatform

aiplatform.init(
    project="p",
    location="us-central1",
    api_endpoint="https://emulator.internal:8443",
    api_transport="rest",
)
print([model.display_name for model in aiplatform.Model.list()])
"""


@runs(SERVE)
def test_token_is_a_setting() -> None:
    (options,) = serve_options(SERVE.text)
    assert (options["host"], options["auth_token"]) == ("0.0.0.0", "$TOKEN")


@runs(FILE, TEAM, CLIENT)
def test_another_machine_gets_in_with_the_files_that_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "emulator.toml").write_text(FILE.text)
    clients = tmp_path / "vertex-client"
    (options,) = serve_options(TEAM.text.partition("\n")[0])
    assert options["config"] == "emulator.toml"
    settings = Settings(
        **tomllib.loads(FILE.text),
        port=0,
        data_dir=tmp_path / "vertex-emulator-data",
        workers=1,
        worker_threads=1,
    )
    with Emulator(settings) as emulator:
        real = ports(emulator.url, str(emulator.grpc_address), str(emulator.tls_address))
        env = TEAM.text[TEAM.text.index("vertex-emulator env") :].replace("/opt/", f"{tmp_path}/")
        _bash(env.replace("--host", f"--port {real['8080']} --host"), tmp_path)
        assert sorted(path.name for path in clients.iterdir()) == [
            "access-token",
            "ca-bundle.p12",
            "ca-bundle.pem",
            "ca.pem",
            "service-account.json",
        ]
        (tmp_path / "my_pipeline.py").write_text(PIPELINE.replace("8443", real["8443"]))
        assert "video-object-tracking" in _bash(CLIENT.text, tmp_path)


def _bash(text: str, folder: Path) -> str:
    environment = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}
    done = subprocess.run(
        ["bash", "-euc", text], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@runs(CORS)
def test_bucket_lets_pages_of_an_origin_read(place: Place) -> None:
    assert '"cors"' in place.bash(CORS)
    address = f"{place.emulator.url}/my-bucket/input.jsonl"
    for origin, allowed in (("http://localhost:3000", True), ("http://localhost:3001", False)):
        answer = httpx.get(address, headers={"Origin": origin}, trust_env=False)
        assert (answer.headers.get("access-control-allow-origin") == origin) is allowed
