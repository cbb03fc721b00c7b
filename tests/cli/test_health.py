"""`vertex-emulator health`, against a server, and against none."""

import socket
from pathlib import Path

from typer.testing import CliRunner, Result

from emulator.app import Emulator
from emulator.cli import build
from emulator.config import Settings


def health(*arguments: object) -> Result:
    return CliRunner().invoke(build(), ["health", *map(str, arguments)], catch_exceptions=False)


def test_server_that_is_ready(tmp_path: Path) -> None:
    settings = Settings(port=0, data_dir=tmp_path, bundled_models=False, workers=1)
    with Emulator(settings) as emulator:
        port = emulator.url.rpartition(":")[2]
        result = health("--port", port, "--wait", 60)
        assert result.exit_code == 0, result.output
        assert result.stdout == f"127.0.0.1:{port} is ready.\n"
        # An address to listen on everywhere is asked at home.
        assert health("--host", "0.0.0.0", "--port", port).exit_code == 0


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result = health("--port", port)
    assert result.exit_code == 1
    assert f"127.0.0.1:{port} is not ready: Connection refused." in result.stderr


def test_another_program_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        result = health("--port", listener.getsockname()[1], "--wait", 0)
    assert result.exit_code == 1
    assert "is not ready: timed out." in result.stderr
