"""`vertex-emulator serve`, killed and stopped in the middle of jobs, seen through its own API."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.execution.servers import JOBS, call, job_body, serving, wait_for
from tests.execution.workplace import line, write_tiny_model, write_video

VIDEOS = 8


def create(url: str, folder: Path) -> str:
    """Create a job over a few videos; returns its name."""
    bucket = folder / "data" / "buckets" / "bucket"
    lines = [line(f"{number}.mp4", start) for number in range(VIDEOS) for start in ("0s", "5s")]
    for number in range(VIDEOS):
        write_video(bucket / f"{number}.mp4", 100)
    (bucket / "in.jsonl").write_text("\n".join([*lines, "{"]))
    return str(call(url + JOBS, job_body())["name"])


@pytest.mark.slow
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM])
def test_jobs_survive_their_server(tmp_path: Path, blow: signal.Signals) -> None:
    write_tiny_model(tmp_path / "models" / "tiny")
    with serving(tmp_path) as (server, url):
        name = create(url, tmp_path)
        before = wait_for(f"{url}/v1/{name}", lambda job: "successfulCount" in job.get("completionStats", {}))
        assert before["state"] == "JOB_STATE_RUNNING"
        os.kill(server.pid, blow)
        server.wait(60)
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
