"""One emulator in a process of its own, over TLS too, with the buckets that every client's suite reads."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from emulator.factory import Clip, action_documentation_clip, documentation_clip, render
from tests.execution.workplace import write_tiny_model, write_video

# Programs in Python with libraries of their own: their `run` starts them.
collect_ignore = ["python"]

BUCKET = "clients"
_LONG_S = 3600


@dataclass(frozen=True)
class Served:
    """Where the emulator listens, and the files of its process."""

    http: str
    grpc: str
    tls: str
    data: Path
    log: Path

    def environment(self, suite: str) -> dict[str, str]:
        """A suite's environment: this process's, what `vertex-emulator env` prints, and the addresses."""
        command = [sys.executable, "-m", "emulator", "env", "--shell", "json", "--project", f"{suite}-suite"]
        port = self.http.rpartition(":")[2]
        printed = subprocess.run(
            [*command, "--port", port, "--data-dir", self.data],
            stdout=subprocess.PIPE,
            check=True,
            timeout=120,
        )
        around_proxies = ",".join(filter(None, (os.environ.get("no_proxy"), "127.0.0.1", "localhost")))
        return {
            **os.environ,
            **json.loads(printed.stdout),
            "EMULATOR_HTTP": f"http://{self.http}",
            "EMULATOR_GRPC": self.grpc,
            "EMULATOR_TLS": self.tls,
            "EMULATOR_PROJECT": f"{suite}-suite",
            "EMULATOR_BUCKET": BUCKET,
            "EMULATOR_UV": str(Path(sys.executable).with_name("uv")),
            "NO_PROXY": around_proxies,
            "no_proxy": around_proxies,
            "CLOUDSDK_CONFIG": str(self.data.parent / "gcloud"),
        }


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The emulator with its bundled models, as `vertex-emulator serve --tls` runs it."""
    folder = tmp_path_factory.mktemp("clients")
    data, log = folder / "data", folder / "server.log"
    _fill(data / "buckets")
    command = [sys.executable, "-m", "emulator", "serve", "--port", "0", "--tls", "--data-dir", str(data)]
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        http, grpc, tls = _announced(process, log)
        yield Served(http, grpc, tls, data, log)
    finally:
        process.terminate()
        process.communicate(timeout=60)


def _announced(process: subprocess.Popen[str], log: Path) -> list[str]:
    """Read the addresses that the server prints, in the order of `Served`; TLS under the name localhost."""
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    found = [re.search(r"at (?:http://)?(127\.0\.0\.1:\d+)", line) for line in lines]
    assert all(found), f"The server did not start:\n{lines}\n{log.read_text()}"
    http, grpc, tls = (match[1] for match in found if match)
    return [http, grpc, tls.replace("127.0.0.1", "localhost")]


def _fill(buckets: Path) -> None:
    bucket = buckets / BUCKET
    clips: dict[str, Clip] = {"pets": documentation_clip(), "figure": action_documentation_clip()}
    for name, clip in clips.items():
        (bucket / "clips").mkdir(parents=True, exist_ok=True)
        render(clip, bucket / "clips" / f"{name}.mp4")
    write_video(bucket / "clips" / "long.mp4", _LONG_S)
    _write_input(bucket / "object-tracking.jsonl", "pets")
    _write_input(bucket / "action-recognition.jsonl", "figure")
    _write_input(bucket / "long.jsonl", "long", end="Infinity")
    write_tiny_model(bucket / "model", label="thing")
    # The one that the documentation's snippets name.
    (buckets / "my-bucket").mkdir()
    _write_input(buckets / "my-bucket" / "input.jsonl", "pets")


def _write_input(path: Path, clip: str, end: str = "5s") -> None:
    instance = {
        "content": f"gs://{BUCKET}/clips/{clip}.mp4",
        "mimeType": "video/mp4",
        "timeSegmentStart": "1s",
        "timeSegmentEnd": end,
    }
    path.write_text(json.dumps(instance) + "\n")
