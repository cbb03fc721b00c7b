"""A server in its own process, on free ports, with its own data folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.testing.children import REPORT, TARGET
from emulator.testing.control import Control
from emulator.testing.environment import LOCAL, no_proxy

if TYPE_CHECKING:
    from emulator.config import Settings

_STOP_TIMEOUT_S = 30
_SHOWN_LOG_CHARACTERS = 2000


class ServerDied(Exception):
    """The server did not start; the message holds the end of its log."""


@dataclass(frozen=True)
class Server:
    """A running server.

    url: of REST and Cloud Storage, `http://127.0.0.1:40001`. grpc_address: of plain-text gRPC,
    `127.0.0.1:40002`, None if it is off. tls_address: of both over TLS, None unless `tls` is set.
    """

    url: str
    grpc_address: str | None
    tls_address: str | None
    settings: Settings
    log: Path
    control: Control
    process_id: int
    #: The buckets of the corners that tests have opened on this server.
    corner_buckets: set[str] = field(default_factory=set)


@contextmanager
def serve(settings: Mapping[str, Any] | None = None, *, folder: Path | None = None) -> Iterator[Server]:
    """Run a server as long as the context lasts.

    Args:
        settings: by key, as in docs/settings.md. By default ports are free ones, the data lies in `folder`,
            and the pace is `immediate`. Environment variables are ignored.
        folder: for data and log; by default a temporary folder that is deleted with the server.

    Raises:
        ServerDied: it could not start.
        emulator.config.SettingError: a setting does not exist, or its value does not fit.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="vertex-emulator-") as made:
            with serve(settings, folder=Path(made)) as server:
                yield server
            return
    from emulator.config import load_settings

    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "emulator.toml"
    config.write_text(_toml(_with_defaults(settings or {}, folder)), encoding="utf-8")
    loaded = load_settings(environ={}, config_file=config)
    log = folder / "emulator.log"
    with log.open("w", encoding="utf-8") as stderr, _process(config, stderr) as process:
        addresses = _addresses(process, log)
        yield Server(
            addresses["url"],
            addresses["grpc"],
            addresses["tls"],
            loaded.settings,
            log,
            Control(addresses["url"], loaded.settings.auth_token),
            process.pid,
        )


def _with_defaults(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    return {"port": 0, "data_dir": folder / "data", "pace": "immediate", **settings}


@contextmanager
def _process(config: Path, stderr: Any) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "emulator.testing", str(config)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=_environment(),
        start_new_session=True,  # Ctrl-C must reach the tests alone, which then stop the server
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _environment() -> dict[str, str]:
    """The tests' environment and import path, without variables that would misdirect the server's clients."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    misleading = ("STORAGE_EMULATOR_HOST", "grpc_proxy", TARGET, REPORT)
    kept = {name: value for name, value in os.environ.items() if name not in misleading}
    return {**kept, **no_proxy(LOCAL), "PYTHONPATH": path}


def _addresses(process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait(_STOP_TIMEOUT_S)
        text = log.read_text(encoding="utf-8", errors="replace")[-_SHOWN_LOG_CHARACTERS:]
        raise ServerDied(f"The emulator did not start; the end of {log}:\n{text}")
    addresses: dict[str, Any] = json.loads(line)
    return addresses


def _toml(values: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in values.items() if value is not None)


def _toml_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(k))} = {_toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    if isinstance(value, Path):
        value = str(value.absolute())
    # JSON and TOML write numbers, strings and booleans alike.
    return json.dumps(value, ensure_ascii=False)
