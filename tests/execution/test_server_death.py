"""`vertex-emulator serve`, killed and stopped in the middle of jobs, seen through its own API."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.execution.workplace import line, write_tiny_model, write_video

JOBS = "/v1/projects/p/locations/us-central1/batchPredictionJobs"
VIDEOS = 8


@contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process on a free port and its address; killed at the end."""
    command = [sys.executable, "-m", "emulator", "serve", "--port", "0", "--data-dir", str(folder / "data")]
    command += ["--models-dirs", str(folder / "models"), "--no-bundled-models", "--log-level", "warning"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert server.stdout is not None
    with server:
        try:
            yield server, server.stdout.readline().split()[-1]
        finally:
            server.kill()


def call(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def wait_for(url: str, holds: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + 60
    while not holds(job := call(url)):
        assert time.monotonic() < deadline, job
        time.sleep(0.02)
    return job


def create(url: str, folder: Path) -> str:
    """Create a job over a few videos; returns its name."""
    bucket = folder / "data" / "buckets" / "bucket"
    lines = [line(f"{number}.mp4", start) for number in range(VIDEOS) for start in ("0s", "5s")]
    for number in range(VIDEOS):
        write_video(bucket / f"{number}.mp4", 100)
    (bucket / "in.jsonl").write_text("\n".join([*lines, "{"]))
    job = call(
        url + JOBS,
        {
            "displayName": "job",
            "model": "projects/p/locations/us-central1/models/tiny",
            "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://bucket/in.jsonl"]}},
            "outputConfig": {
                "predictionsFormat": "jsonl",
                "gcsDestination": {"outputUriPrefix": "gs://bucket/out"},
            },
        },
    )
    return str(job["name"])


@pytest.mark.slow
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM])
def test_jobs_survive_their_server(tmp_path: Path, blow: signal.Signals) -> None:
    write_tiny_model(tmp_path / "models" / "tiny")
    with serving(tmp_path) as (server, url):
        name = create(url, tmp_path)
        before = wait_for(f"{url}/v1/{name}", lambda job: "successfulCount" in job.get("completionStats", {}))
        assert before["state"] == "JOB_STATE_RUNNING"
        asked = time.monotonic()
        os.kill(server.pid, blow)
        server.wait(10)
        assert time.monotonic() - asked < 10
    with serving(tmp_path) as (_, url):
        assert call(f"{url}/v1/{name}")["state"] == "JOB_STATE_RUNNING"
        job = wait_for(f"{url}/v1/{name}", lambda job: "endTime" in job)
    assert job["state"] == "JOB_STATE_SUCCEEDED"
    assert job["startTime"] == before["startTime"]
    assert job["completionStats"] == {"successfulCount": str(2 * VIDEOS), "failedCount": "1"}
    output = tmp_path / "data" / "buckets" / job["outputInfo"]["gcsOutputDirectory"].removeprefix("gs://")
    names = sorted(path.name for path in output.iterdir())
    assert names == ["errors_00001.jsonl"] + [f"predictions_{n:05d}.jsonl" for n in range(1, VIDEOS + 1)]
    found = [
        (entry["instance"]["content"], entry["instance"]["timeSegmentStart"])
        for path in output.glob("predictions_*")
        for entry in map(json.loads, path.read_text().splitlines())
    ]
    assert sorted(found) == sorted(
        (f"gs://bucket/{number}.mp4", start) for number in range(VIDEOS) for start in ("0s", "5s")
    )
