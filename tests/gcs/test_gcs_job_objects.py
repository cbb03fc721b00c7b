"""A job reads gzipped objects and names that no folder can hold, and writes below such a name."""

import gzip
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from emulator.app import Emulator
from emulator.config import Settings
from tests.execution.workplace import line, write_tiny_model, write_video

PARENT = "/v1/projects/p/locations/us-central1"


def put(http: httpx.Client, name: str, data: bytes, encoding: str = "") -> None:
    url = f"/upload/storage/v1/b/bucket/o?uploadType=media&name={quote(name, safe='')}"
    http.post(f"{url}&contentEncoding={encoding}", content=data).raise_for_status()


def run_job(http: httpx.Client, source: str, prefix: str) -> Any:
    body = {
        "displayName": "job",
        "model": f"{PARENT.removeprefix('/v1/')}/models/tiny",
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": [source]}},
        "outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": prefix}},
    }
    job = http.post(f"{PARENT}/batchPredictionJobs", json=body).raise_for_status().json()
    deadline = time.monotonic() + 90
    while "endTime" not in job:
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
        job = http.get(f"/v1/{job['name']}").json()
    return job


def test_job_reads_and_writes_objects_of_all_kinds(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "models" / "tiny")
    video = write_video(tmp_path / "a.mp4", 1.0).read_bytes()
    settings = Settings(
        port=0, grpc=False, data_dir=tmp_path / "data", models_dirs=[tmp_path / "models"], workers=1,
        bundled_models=False, provider="cpu",
    )  # fmt: skip
    videos = ["videos/a.mp4", "videos/a.mp4/b.mp4", "videos//c.mp4", "videos/gzipped.mp4"]
    with Emulator(settings) as emulator, httpx.Client(base_url=emulator.url, trust_env=False) as http:
        http.post("/storage/v1/b?project=p", json={"name": "bucket"})
        put(http, "in/", b"")
        for name in videos[:-1]:
            put(http, name, video)
        put(http, videos[-1], gzip.compress(video), "gzip")
        lines = [line(f"gs://bucket/{name}") for name in videos]
        put(http, "in/1.jsonl", gzip.compress("\n".join(lines).encode()), "gzip")
        job = run_job(http, "gs://bucket/in/**", "gs://bucket/videos/a.mp4/out//x")
        assert (job["state"], job["completionStats"]["successfulCount"]) == ("JOB_STATE_SUCCEEDED", "4")
        folder = job["outputInfo"]["gcsOutputDirectory"].removeprefix("gs://bucket/")
        assert folder.startswith("videos/a.mp4/out//x/prediction-")
        listed = http.get("/storage/v1/b/bucket/o", params={"prefix": f"{folder}/"}).json()["items"]
        found = [
            json.loads(text)["instance"]["content"]
            for item in listed
            for text in http.get(f"/bucket/{quote(item['name'])}").text.splitlines()
        ]
    assert sorted(found) == sorted(f"gs://bucket/{name}" for name in videos)
