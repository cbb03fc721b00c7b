"""Jobs whose input, videos and output lie at an endpoint, seen through the emulator's own API."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.app import Emulator
from emulator.config import Settings
from emulator.instructions.header import HEADER
from tests.execution.workplace import line, write_tiny_model, write_video
from tests.gcs_endpoint.servers import (
    Answer,
    Request,
    client_at,
    fake_gcs_server,
    free_port,
    proxy_to,
)

PARENT = "/v1/projects/p/locations/us-central1"
ENDED = ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED")


class Bucket:
    """A bucket at an endpoint, through Google's client."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.client = client_at(url)
        self.client.create_bucket(name)

    def uri(self, name: str) -> str:
        return f"gs://{self.name}/{name}"

    def put(self, name: str, data: bytes | str) -> str:
        self.client.bucket(self.name).blob(name).upload_from_string(data)
        return self.uri(name)

    def video(self, folder: Path, name: str, seconds: float = 1.0) -> str:
        return self.put(name, write_video(folder / name, seconds).read_bytes())

    def files(self, directory: str) -> dict[str, bytes]:
        prefix = directory.removeprefix(f"gs://{self.name}/") + "/"
        blobs = self.client.list_blobs(self.name, prefix=prefix)
        return {blob.name.removeprefix(prefix): blob.download_as_bytes() for blob in blobs}


@pytest.fixture
def bucket(endpoint: str) -> Bucket:
    return Bucket(endpoint, f"bucket-{uuid.uuid4().hex[:12]}")


@contextmanager
def emulator_at(folder: Path, models: Path, **settings: Any) -> Iterator[httpx.Client]:
    """An emulator in this process, and a client of its API."""
    values: dict[str, Any] = {
        "port": 0,
        "grpc": False,
        "data_dir": folder / "data",
        "models_dirs": [models],
        "workers": 1,
    }
    with (
        Emulator(Settings(**values, bundled_models=False, provider="cpu", **settings)) as emulator,
        httpx.Client(base_url=emulator.url, trust_env=False, timeout=30) as api,
    ):
        yield api


def create(api: httpx.Client, uri: str, prefix: str, instructions: str = "") -> str:
    """Create a job; returns its name."""
    body = {
        "displayName": "job",
        "model": f"{PARENT.removeprefix('/v1/')}/models/tiny",
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": [uri]}},
        "outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": prefix}},
    }
    answer = api.post(f"{PARENT}/batchPredictionJobs", json=body, headers={HEADER: instructions})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["name"])


def wait_until(api: httpx.Client, name: str, holds: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + 90
    while not holds(job := api.get(f"/v1/{name}").json()):
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
    return job


def finish(api: httpx.Client, name: str) -> Any:
    return wait_until(api, name, lambda job: job["state"] in ENDED)


def predictions(files: dict[str, bytes]) -> list[Any]:
    return [
        json.loads(text)
        for name in sorted(files)
        if name.startswith("predictions_")
        for text in files[name].splitlines()
    ]


def test_job_reads_and_writes_at_the_endpoint(
    endpoint: str, bucket: Bucket, models: Path, tmp_path: Path
) -> None:
    video = bucket.video(tmp_path, "videos/a.mp4")
    lines = [line(video), line(video, "0s", "0.5s"), line(bucket.uri("missing.mp4"))]
    source = bucket.put("in/1.jsonl", "\n".join(lines))
    with emulator_at(tmp_path, models, gcs_endpoint=endpoint) as api:
        job = finish(api, create(api, bucket.uri("in/*.jsonl"), bucket.uri("out")))
    assert job["state"] == "JOB_STATE_SUCCEEDED", job
    assert job["completionStats"] == {"successfulCount": "2", "failedCount": "1"}
    assert source
    files = bucket.files(job["outputInfo"]["gcsOutputDirectory"])
    assert sorted(files) == ["errors_00001.jsonl", "predictions_00001.jsonl"]
    assert [entry["instance"] for entry in predictions(files)] == [json.loads(text) for text in lines[:2]]
    assert all(entry["prediction"] for entry in predictions(files))
    error = json.loads(files["errors_00001.jsonl"])["error"]
    assert error["code"] == 5
    assert f"missing.mp4 does not exist at {endpoint}" in error["message"]
    assert list((tmp_path / "data" / "buckets").iterdir()) == [], "the local folder has nothing to do with it"


def test_job_reads_from_an_endpoint_and_writes_to_a_folder(
    endpoint: str, bucket: Bucket, models: Path, tmp_path: Path
) -> None:
    source = bucket.put("in.jsonl", line(bucket.video(tmp_path, "a.mp4")))
    with emulator_at(tmp_path, models, gcs_buckets={"bucket-*": endpoint}) as api:
        job = finish(api, create(api, source, "gs://results/out"))
    assert job["state"] == "JOB_STATE_SUCCEEDED", job
    directory = job["outputInfo"]["gcsOutputDirectory"].removeprefix("gs://")
    (file,) = (tmp_path / "data" / "buckets" / directory).iterdir()
    assert json.loads(file.read_text())["prediction"]


@pytest.mark.slow
def test_videos_are_kept_within_the_limit_and_replaced_ones_are_seen(
    endpoint: str, bucket: Bucket, models: Path, tmp_path: Path
) -> None:
    with (
        proxy_to(endpoint) as proxy,
        emulator_at(tmp_path, models, gcs_endpoint=proxy.url, gcs_cache_mb=1) as api,
    ):

        def run() -> list[int]:
            """Run the job; returns how many frames were seen of each video."""
            job = finish(api, create(api, bucket.uri("in.jsonl"), bucket.uri("out")))
            assert job["state"] == "JOB_STATE_SUCCEEDED", job
            found = predictions(bucket.files(job["outputInfo"]["gcsOutputDirectory"]))
            return [len(entry["prediction"][0]["frames"]) for entry in found]

        def downloads() -> int:
            return sum("a.mp4" in request.path and "alt=media" in request.path for request in proxy.requests)

        cache = tmp_path / "data" / "gcs-cache"
        bucket.put("in.jsonl", line(bucket.video(tmp_path, "a.mp4", 1.0)))
        first = run()
        assert run() == first
        assert downloads() == 1, "the second job found it in the cache"
        bucket.video(tmp_path, "a.mp4", 2.0)
        assert run()[0] > first[0], "a replaced video is a new video"
        assert downloads() == 2
        large = write_video(tmp_path / "large.mp4").read_bytes() + b"\0" * 1_000_000
        bucket.put("in.jsonl", line(bucket.put("large.mp4", large)))
        assert run() == first, "a video larger than the cache works"
        kept = sum(path.stat().st_size for path in cache.iterdir())
        assert kept <= 1_000_000


def test_model_is_uploaded_from_the_endpoint(
    endpoint: str, bucket: Bucket, models: Path, tmp_path: Path
) -> None:
    for path in write_tiny_model(tmp_path / "artifacts", label="other").iterdir():
        bucket.put(f"artifacts/{path.name}", path.read_bytes())
    with emulator_at(tmp_path, models, gcs_endpoint=endpoint) as api:
        model = {"displayName": "mine", "artifactUri": bucket.uri("artifacts")}
        operation = api.post(f"{PARENT}/models:upload", json={"modelId": "mine", "model": model}).json()
        deadline = time.monotonic() + 60
        while not operation.get("done"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
            operation = api.get(f"/v1/{operation['name']}").json()
        assert operation["response"]["model"].endswith("/models/mine"), operation
        assert api.get(f"{PARENT}/models/mine").json()["artifactUri"] == bucket.uri("artifacts")


def test_endpoint_that_is_down_fails_the_job_in_words(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emulator.storage.gcs_client._RETRY_S", 0.5)
    url = f"http://127.0.0.1:{free_port()}"
    with emulator_at(tmp_path, models, gcs_endpoint=url) as api:
        job = finish(api, create(api, "gs://bucket/in.jsonl", "gs://bucket/out"))
    assert job["state"] == "JOB_STATE_FAILED"
    assert job["error"]["code"] == 14
    assert (
        f"gs://bucket/in.jsonl: the Cloud Storage endpoint {url} does not answer" in job["error"]["message"]
    )
    assert "Start it, or name another" in job["error"]["message"]


@pytest.mark.slow
def test_endpoint_that_goes_down_fails_the_job_once(
    endpoint: str, bucket: Bucket, models: Path, tmp_path: Path
) -> None:
    """And not each of its videos, one after the other."""
    video = bucket.video(tmp_path, "a.mp4")
    lines = [line(video), *(line(bucket.uri(f"{number}.mp4")) for number in range(50))]
    bucket.put("in.jsonl", "\n".join(lines))

    def break_down(request: Request, pass_on: Callable[[], Answer]) -> Answer:
        return Answer(None) if ".mp4" in request.path and "a.mp4" not in request.path else pass_on()

    with proxy_to(endpoint) as proxy, emulator_at(tmp_path, models, gcs_endpoint=proxy.url) as api:
        proxy.disturb = break_down
        job = finish(api, create(api, bucket.uri("in.jsonl"), bucket.uri("out")))
    assert (job["state"], job["error"]["code"]) == ("JOB_STATE_FAILED", 14)
    assert proxy.url in job["error"]["message"]
    assert job["completionStats"]["successfulCount"] == "1"
    assert len(predictions(bucket.files(job["outputInfo"]["gcsOutputDirectory"]))) == 1


def test_job_that_waits_for_an_endpoint_can_be_cancelled(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emulator.storage.gcs_client._RETRY_S", 600)
    url = f"http://127.0.0.1:{free_port()}"
    with emulator_at(tmp_path, models, gcs_endpoint=url) as api:
        name = create(api, "gs://bucket/in.jsonl", "gs://bucket/out")
        wait_until(api, name, lambda job: job["state"] == "JOB_STATE_RUNNING")
        assert api.post(f"/v1/{name}:cancel").status_code == 200
        assert finish(api, name)["state"] == "JOB_STATE_CANCELLED"


def test_job_can_be_cancelled_during_a_download(
    endpoint: str, bucket: Bucket, models: Path, tmp_path: Path
) -> None:
    video = bucket.put("a.mp4", b"\0" * (12 << 20))
    bucket.put("in.jsonl", line(video))

    began, end = threading.Event(), threading.Event()

    def hold(request: Request, pass_on: Callable[[], Answer]) -> Answer:
        if "alt=media" in request.path and "a.mp4" in request.path:
            began.set()
            end.wait(60)
        return pass_on()

    with proxy_to(endpoint) as proxy, emulator_at(tmp_path, models, gcs_endpoint=proxy.url) as api:
        proxy.disturb = hold
        name = create(api, bucket.uri("in.jsonl"), bucket.uri("out"))
        assert began.wait(60)
        api.post(f"/v1/{name}:cancel")
        assert finish(api, name)["state"] == "JOB_STATE_CANCELLED"
        end.set()


@contextmanager
def serving(folder: Path, models: Path, storage: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """A server process that learns of the endpoint as clients do; killed at the end."""
    command = [sys.executable, "-m", "emulator", "serve", "--port", "0", "--data-dir", str(folder / "data")]
    command += ["--models-dirs", str(models), "--no-bundled-models", "--log-level", "warning", "--no-grpc"]
    server = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "STORAGE_EMULATOR_HOST": storage},
    )
    assert server.stdout is not None
    with server:
        try:
            url = server.stdout.readline().split()[-1]
            assert f"Buckets of jobs at {storage} (STORAGE_EMULATOR_HOST)" in server.stdout.readline()
            with httpx.Client(base_url=url, trust_env=False, timeout=30) as api:
                yield server, api
        finally:
            server.kill()


@pytest.mark.slow
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM])
def test_jobs_survive_their_server(
    endpoint: str, bucket: Bucket, models: Path, tmp_path: Path, blow: signal.Signals
) -> None:
    videos = [bucket.video(tmp_path, f"{number}.mp4", 10) for number in range(5)]
    lines = [line(video, start) for video in videos for start in ("0s", "5s")]
    bucket.put("in.jsonl", "\n".join(lines))
    # So that it is not through with the other videos by the time the server has stopped.
    slowly = json.dumps({"faults": [{"kind": "slow-model", "delay": 0.02}]})
    with serving(tmp_path, models, endpoint) as (server, api):
        name = create(api, bucket.uri("in.jsonl"), bucket.uri("out"), slowly)
        before = wait_until(api, name, lambda job: "successfulCount" in job.get("completionStats", {}))
        assert before["state"] == "JOB_STATE_RUNNING"
        os.kill(server.pid, blow)
        server.wait(30)
    # What a server leaves that dies between writing a file and recording it:
    directory = before["outputInfo"]["gcsOutputDirectory"]
    for number in range(1, 6):
        if f"predictions_{number:05d}.jsonl" not in bucket.files(directory):
            bucket.put(f"{directory.removeprefix(bucket.uri(''))}/predictions_{number:05d}.jsonl", "half")
    bucket.put(f"{directory.removeprefix(bucket.uri(''))}/predictions_00099.jsonl", "unrecorded")
    with serving(tmp_path, models, endpoint) as (_, api):
        job = finish(api, name)
    assert job["state"] == "JOB_STATE_SUCCEEDED", job
    assert job["completionStats"] == {"successfulCount": "10"}
    files = bucket.files(directory)
    assert sorted(files) == [f"predictions_{number:05d}.jsonl" for number in range(1, 6)]
    found = [entry["instance"] for entry in predictions(files)]
    assert sorted(map(json.dumps, found)) == sorted(lines)


@pytest.mark.gcs_server
def test_endpoint_that_comes_back_is_used_again(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fake-gcs-server with its objects in a folder, stopped and started while a job runs."""
    monkeypatch.setattr("emulator.storage.gcs_client._RETRY_S", 60)
    folder, port = tmp_path / "objects", free_port()
    with fake_gcs_server(folder, port) as url:
        bucket = Bucket(url, "bucket")
        bucket.put("in.jsonl", line(bucket.video(tmp_path, "a.mp4")))
        bucket.put("big.jsonl", b"\n" * (9 << 20) + line(bucket.uri("a.mp4")).encode())
    with emulator_at(tmp_path, models, gcs_endpoint=url) as api:
        name = create(api, "gs://bucket/*.jsonl", "gs://bucket/out")
        wait_until(api, name, lambda job: job["state"] == "JOB_STATE_RUNNING")
        with fake_gcs_server(folder, port):
            job = finish(api, name)
            assert job["state"] == "JOB_STATE_SUCCEEDED", job
            assert job["completionStats"] == {"successfulCount": "2"}
            assert len(predictions(bucket.files(job["outputInfo"]["gcsOutputDirectory"]))) == 2
