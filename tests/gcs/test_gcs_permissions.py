"""Folders that the server's user may not enter, on the wire: clients and jobs hear that, at once."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.storage.permissions import unprivileged

PLACE = "/v1/projects/p/locations/us-central1"
PROGRAM = """
import sys
from pathlib import Path
from emulator.app import Emulator
from emulator.config import Settings

settings = Settings(port=0, data_dir=Path(sys.argv[1]), bundled_models=False, workers=1, grpc=False)
with Emulator(settings) as emulator:
    print(emulator.url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bucket with a closed folder, and a closed bucket."""
    buckets = tmp_path_factory.mktemp("data") / "buckets"
    (buckets / "bucket" / "lost+found").mkdir(parents=True)
    line = {"content": "gs://bucket/a.mp4", "mimeType": "video/mp4"}
    line |= {"timeSegmentStart": "0s", "timeSegmentEnd": "1s"}
    (buckets / "bucket" / "in.jsonl").write_text(json.dumps(line))
    (buckets / "bucket" / "lost+found" / "in.jsonl").write_text(json.dumps(line))
    (buckets / "bucket" / "lost+found").chmod(0)
    (buckets / "closed").mkdir(mode=0)
    return buckets


@pytest.fixture(scope="module")
def http(buckets: Path) -> Iterator[httpx.Client]:
    """A client of a server whose user permissions stop, with one canned model."""
    process = subprocess.Popen(
        unprivileged(PROGRAM, str(buckets.parent)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    try:
        url = process.stdout.readline().strip()
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            model = {"parent": PLACE[4:], "modelId": "pets", "objective": "object_tracking"}
            answers = [{"video": "*", "prediction": []}]
            client.post("/_emulator/canned", json={**model, "lines": answers}).raise_for_status()
            yield client
    finally:
        process.stdin.close()
        assert process.wait(60) == 0
        process.stdout.close()


def run_job(http: httpx.Client, source: str, prefix: str) -> Any:
    """Run a job to its end."""
    body = {
        "displayName": "job",
        "model": f"{PLACE[4:]}/models/pets",
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": [source]}},
        "outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": prefix}},
    }
    job = http.post(f"{PLACE}/batchPredictionJobs", json=body).raise_for_status().json()
    deadline = time.monotonic() + 30
    while job["state"] not in ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED"):
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
        job = http.get(f"/v1/{job['name']}").json()
    return job


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/storage/v1/b/closed/o"),
        ("GET", "/storage/v1/b/closed/o/x"),
        ("GET", "/storage/v1/b/closed/o/x?alt=media"),
        ("GET", "/storage/v1/b/bucket/o?prefix=lost%2Bfound/"),
        ("GET", "/closed/x"),
        ("DELETE", "/storage/v1/b/closed"),
        ("POST", "/upload/storage/v1/b/closed/o?uploadType=media&name=x"),
        ("POST", "/upload/storage/v1/b/closed/o?uploadType=resumable&name=x"),
    ],
)
def test_closed_folder_is_403_and_not_an_error_to_try_again(
    http: httpx.Client, method: str, path: str
) -> None:
    response = http.request(method, path)
    assert (response.status_code, "permission is denied" in response.text) == (403, True)


def test_bucket_with_a_closed_folder_is_listed(http: httpx.Client) -> None:
    listed = http.get("/storage/v1/b/bucket/o").json()["items"]
    assert [item["name"] for item in listed] == ["in.jsonl"]
    assert [bucket["name"] for bucket in http.get("/storage/v1/b").json()["items"]] == ["bucket", "closed"]


def test_job_reads_beside_a_closed_folder(http: httpx.Client) -> None:
    job = run_job(http, "gs://bucket/*.jsonl", "gs://results/out")
    assert (job["state"], job["completionStats"]["successfulCount"]) == ("JOB_STATE_SUCCEEDED", "1")


@pytest.mark.parametrize(
    ("source", "prefix", "named"),
    [
        ("gs://closed/in.jsonl", "gs://results/out", "closed"),
        ("gs://bucket/lost+found/*", "gs://results/out", "lost+found"),
        ("gs://bucket/in.jsonl", "gs://closed/out", "closed"),
    ],
)
def test_job_that_needs_a_closed_folder_fails_with_its_name(
    http: httpx.Client, source: str, prefix: str, named: str
) -> None:
    error = run_job(http, source, prefix)["error"]
    assert error["code"] == 7  # PERMISSION_DENIED
    assert "permission is denied" in error["message"]
    assert named in error["message"]
