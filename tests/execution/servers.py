"""`vertex-emulator serve` as a process, and calls to it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

JOBS = "/v1/projects/p/locations/us-central1/batchPredictionJobs"


@contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process on a free port and its address; killed at the end."""
    command = [sys.executable, "-m", "emulator", "serve", *options(folder)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert server.stdout is not None
    with server:
        try:
            yield server, server.stdout.readline().split()[-1]
        finally:
            server.kill()


def options(folder: Path, data: str = "data") -> list[str]:
    """The command's options: a free port, data and models in a folder. Videos that are alike are predicted
    one by one, so that jobs last."""
    return [
        *("--port", "0", "--data-dir", str(folder / data), "--models-dirs", str(folder / "models")),
        *("--no-bundled-models", "--prediction-cache-mb", "0", "--log-level", "warning"),
    ]


def call(url: str, body: dict[str, Any] | None = None, headers: Mapping[str, str] | None = None) -> Any:
    """The JSON that a GET, or a POST of `body`, is answered with."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def job_body(prefix: str = "gs://bucket/out", source: str = "in.jsonl") -> dict[str, Any]:
    """A request for a job of the model `tiny` over an object of gs://bucket."""
    return {
        "displayName": "job",
        "model": "projects/p/locations/us-central1/models/tiny",
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": [f"gs://bucket/{source}"]}},
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": prefix},
        },
    }


def wait_for(url: str, holds: Callable[[Any], bool]) -> Any:
    """Get a resource until it is as wanted."""
    deadline = time.monotonic() + 60
    while not holds(job := call(url)):
        assert time.monotonic() < deadline, job
        time.sleep(0.02)
    return job
