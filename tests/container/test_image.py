"""The images, run for real; `make test-image` builds them and names them in EMULATOR_TEST_IMAGES."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

IMAGES = dict(
    pair.partition("=")[::2] for pair in os.environ.get("EMULATOR_TEST_IMAGES", "").split(",") if pair
)
PARENT = "projects/my-project/locations/us-central1"
USER = 10001
# The base, here a Debian with Python of 128 MB, is in both.
LIMIT_MB = {"slim": 250, "cpu": 510}

pytestmark = pytest.mark.skipif(not IMAGES, reason="needs the images of `make test-image`")


def buildah(*arguments: object) -> str:
    done = subprocess.run(
        ["buildah", *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Container:
    """A running server in a container, on this machine's network, with its data in a folder."""

    def __init__(self, image: str, data: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.log = data.parent / "container.log"
        self.name = buildah("from", image)
        options = ["--isolation", "chroot", "--network", "host", "--user", f"{USER}:{USER}"]
        # buildah keeps what an image declares as a volume to itself; Docker does not.
        options += ["--volume", f"{data}:/vol", "--env", "VERTEX_EMULATOR_DATA_DIR=/vol"]
        options += ["--env", f"VERTEX_EMULATOR_PORT={self.port}", "--env", "VERTEX_EMULATOR_GRPC_PORT=0"]
        self._options = options
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["buildah", "run", *options, self.name, "--", "/opt/emulator/bin/vertex-emulator", "serve"],
                stdout=log,
                stderr=log,
            )

    def run(self, *command: str) -> str:
        """Run a command beside the server."""
        return buildah("run", *self._options, self.name, "--", *command)

    def call(self, path: str, body: Any = None, data: bytes | None = None) -> Any:
        content = data if data is not None else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/{path}", content, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def wait_until_ready(self) -> None:
        for _ in range(600):
            try:
                self.call("_emulator/ready")
                return
            except (urllib.error.URLError, ConnectionError):
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def server(self) -> int:
        """The process that Docker would send its signals to."""
        below = [self.process.pid]
        for pid in below:
            for status in Path("/proc").glob("[0-9]*/stat"):
                try:
                    fields = status.read_text().rpartition(")")[2].split()
                    words = (status.parent / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if int(fields[1]) != pid:
                    continue
                if words[0].endswith(b"python") and b"serve" in words:
                    return int(status.parent.name)
                below.append(int(status.parent.name))
        raise AssertionError("There is no server in the container.")

    def stop(self) -> float:
        """Send what STOPSIGNAL says; gives the seconds until the container has ended."""
        started = time.monotonic()
        os.kill(self.server(), signal.SIGTERM)
        self.process.wait(60)
        return time.monotonic() - started


@contextmanager
def running(target: str, data: Path) -> Iterator[Container]:
    container = Container(IMAGES[target], data)
    try:
        container.wait_until_ready()
        yield container
    finally:
        if container.process.poll() is None:
            container.stop()
        buildah("rm", container.name)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder that the image's user may write."""
    folder = tmp_path / "data"
    folder.mkdir()
    os.chown(folder, USER, USER)
    for above in folder.parents[:3]:
        above.chmod(0o755)
    return folder


def submit(container: Container, model: str) -> str:
    body = {
        "displayName": "in a container",
        "model": model,
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://my-bucket/in.jsonl"]}},
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": "gs://my-bucket/out"},
        },
    }
    name: str = container.call(f"v1/{PARENT}/batchPredictionJobs", body)["name"]
    return name


def upload(container: Container, videos: int) -> None:
    from emulator.factory import documentation_clip, render

    clip = Path(container.log.parent / "clip.mp4")
    render(documentation_clip(), clip)
    container.call("storage/v1/b?project=my-project", {"name": "my-bucket"})
    names = [f"{number}.mp4" for number in range(videos)]
    lines = [
        json.dumps(
            {
                "content": f"gs://my-bucket/{name}",
                "mimeType": "video/mp4",
                "timeSegmentStart": "0s",
                "timeSegmentEnd": "Infinity",
            }
        )
        for name in names
    ]
    files = {name: clip.read_bytes() for name in names} | {"in.jsonl": "\n".join(lines).encode()}
    for name, content in files.items():
        container.call(f"upload/storage/v1/b/my-bucket/o?uploadType=media&name={name}", data=content)


def finish(container: Container, name: str) -> Any:
    for _ in range(1200):
        job = container.call(f"v1/{name}")
        if job["state"] in ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED"):
            return job
        time.sleep(0.1)
    raise AssertionError(container.log.read_text())


@pytest.mark.parametrize("target", sorted(LIMIT_MB))
def test_image_is_no_larger_than_it_says(target: str) -> None:
    listed = json.loads(buildah("images", "--json", IMAGES[target]))
    number, unit = listed[0]["size"].split()
    assert unit == "MB"
    assert float(number) < LIMIT_MB[target]


def test_stopped_container_hands_its_job_to_the_next_one_on_the_same_volume(data: Path) -> None:
    with running("cpu", data) as container:
        assert container.run("id", "-u") == str(USER)
        assert "Ready" in container.run("/opt/emulator/bin/vertex-emulator", "wait", "--timeout", "0")
        upload(container, videos=12)
        name = submit(container, f"{PARENT}/models/video-object-tracking")
        while int(container.call(f"v1/{name}").get("completionStats", {}).get("successfulCount", 0)) < 2:
            time.sleep(0.05)
        assert container.stop() < 10  # what Docker waits before it kills
        assert "the next start resumes them" in container.log.read_text()
    with running("cpu", data) as container:
        job = finish(container, name)
    assert job["state"] == "JOB_STATE_SUCCEEDED"
    assert job["completionStats"] == {"successfulCount": "12"}
    written = (data / "buckets" / job["outputInfo"]["gcsOutputDirectory"].removeprefix("gs://")).iterdir()
    lines = [json.loads(line) for file in written for line in file.read_text().splitlines()]
    assert len({line["instance"]["content"] for line in lines}) == len(lines) == 12


def test_slim_image_answers_with_canned_predictions_and_says_what_it_cannot(data: Path) -> None:
    from emulator.registry import bundled_models

    with running("slim", data) as container:
        installed = container.run("ls", "/opt/emulator/lib")
        packages = container.run("ls", f"/opt/emulator/lib/{installed}/site-packages").split()
        assert not {"numpy", "cv2", "onnxruntime"} & set(packages)
        upload(container, videos=1)
        canned = container.call(
            "_emulator/canned",
            {
                "parent": PARENT,
                "modelId": "pets",
                "objective": "object_tracking",
                "lines": [{"video": "*", "prediction": []}],
            },
        )
        job = finish(container, submit(container, canned["model"]))
        assert job["state"] == "JOB_STATE_SUCCEEDED"
        model = container.call(f"v1/{PARENT}/models")["models"]
        assert [each["displayName"] for each in model] == ["pets"]

        for file in (bundled_models() / "video-object-tracking").glob("[ml]*.[tox]*"):
            name = f"model/{file.name}"
            container.call(
                f"upload/storage/v1/b/my-bucket/o?uploadType=media&name={name}", data=file.read_bytes()
            )
        container.call(
            f"v1/{PARENT}/models:upload",
            {"model": {"displayName": "real", "artifactUri": "gs://my-bucket/model"}, "modelId": "real"},
        )
        job = finish(container, submit(container, f"{PARENT}/models/real"))
    assert job["state"] == "JOB_STATE_FAILED"
    assert "serves canned models only" in job["error"]["message"]
