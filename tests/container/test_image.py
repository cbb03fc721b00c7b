"""The images, run for real; `make test-image` builds them and names them in EMULATOR_TEST_IMAGES."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from emulator import __version__

IMAGES = dict(
    pair.partition("=")[::2] for pair in os.environ.get("EMULATOR_TEST_IMAGES", "").split(",") if pair
)
PARENT = "projects/my-project/locations/us-central1"
USER = 10001
# Debian with Python, here of about 100 MB, is in both.
LIMIT_MB = {"slim": 200, "cpu": 450}
# Modules for tests need pytest, the second decoder an extra; those for inference need what slim leaves out.
# Of OpenTelemetry, FastAPI brings the API alone.
_EXTRAS = {"av", "opentelemetry", "pytest"}
MISSING = {"cpu": _EXTRAS, "slim": {*_EXTRAS, "cv2", "lap", "numpy", "onnxruntime"}}
PYTHON = "/opt/emulator/bin/python"
IMPORT_ALL = """
import importlib, json, pkgutil, emulator
failed = {}
for module in pkgutil.walk_packages(emulator.__path__, "emulator."):
    try:
        module.name.endswith("__main__") or importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        failed[module.name] = error.name.partition(".")[0]
print(json.dumps(failed))
"""

pytestmark = pytest.mark.skipif(not IMAGES, reason="needs the images of `make test-image`")


def buildah(*arguments: object) -> str:
    done = subprocess.run(
        ["buildah", *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Container:
    """A running server in a container, on this machine's network, with its data in a folder."""

    def __init__(self, image: str, data: Path, environment: Sequence[str] = ()) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.log = data.parent / "container.log"
        self.name = buildah("from", image)
        options = ["--isolation", "chroot", "--network", "host", "--user", f"{USER}:{USER}"]
        # buildah keeps what an image declares as a volume to itself; Docker does not.
        options += ["--volume", f"{data}:/vol", "--env", "VERTEX_EMULATOR_DATA_DIR=/vol"]
        for variable in (
            f"VERTEX_EMULATOR_PORT={self.port}",
            "VERTEX_EMULATOR_GRPC_PORT=0",
            *environment,
        ):
            options += ["--env", variable]
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
def running(target: str, data: Path, *environment: str) -> Iterator[Container]:
    container = Container(IMAGES[target], data, environment)
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


@pytest.mark.parametrize("target", sorted(LIMIT_MB))
def test_image_says_what_it_is_and_what_is_in_it(target: str) -> None:
    described = json.loads(buildah("inspect", "--type", "image", IMAGES[target]))["Docker"]
    labels = described["config"]["Labels"]
    for name in ("version", "created", "title", "licenses"):
        assert labels[f"org.opencontainers.image.{name}"], name
    assert labels["org.opencontainers.image.version"] == __version__
    container = buildah("from", IMAGES[target])
    try:
        run = ("run", "--isolation", "chroot", container, "--", "cat", "/opt/emulator/sbom.cdx.json")
        bill = json.loads(buildah(*run))
    finally:
        buildah("rm", container)
    names = {component["name"].lower() for component in bill["components"]}
    assert bill["metadata"]["component"]["name"] == "vertex-batch-emulator"
    assert {"fastapi", "sqlalchemy", "grpcio"} <= names
    assert ("onnxruntime" in names) == (target != "slim")


@pytest.mark.parametrize("target", sorted(LIMIT_MB))
def test_nothing_that_the_emulator_imports_was_taken_out(target: str) -> None:
    container = buildah("from", IMAGES[target])
    try:
        run = ("run", "--isolation", "chroot", "--user", f"{USER}:{USER}", container, "--")
        failed = json.loads(buildah(*run, PYTHON, "-c", IMPORT_ALL))
        # The default extra, and what the libraries import at their first use.
        buildah(
            *run,
            PYTHON,
            "-c",
            "import emulator.storage.gcs_store, google.cloud.storage, zoneinfo, encodings.idna",
        )
    finally:
        buildah("rm", container)
    assert set(failed.values()) <= MISSING[target], failed


@pytest.mark.parametrize("target", sorted(LIMIT_MB))
def test_every_surface_answers(target: str, data: Path) -> None:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with running(target, data, "VERTEX_EMULATOR_TLS=true", "VERTEX_EMULATOR_TLS_PORT=0") as container:
        log = container.log.read_text()
        (plain,) = re.findall(r"^gRPC \(plain text\) at .*:(\d+)$", log, re.MULTILINE)
        (encrypted,) = re.findall(r"^REST and gRPC over TLS at \S*:(\d+);", log, re.MULTILINE)
        with grpc.insecure_channel(f"127.0.0.1:{plain}") as channel:
            health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        context = ssl.create_default_context(cafile=str(data / "tls" / "ca.pem"))
        with urllib.request.urlopen(
            f"https://localhost:{encrypted}/_emulator/ready", context=context
        ) as response:
            assert json.load(response)["ready"] is True
        for path in ("docs", "console", "openapi.json", "_emulator/metrics"):
            with urllib.request.urlopen(f"http://127.0.0.1:{container.port}/{path}", timeout=60) as response:
                assert response.status == 200


@pytest.mark.parametrize(
    "model", ["video-object-tracking", "video-action-recognition", "video-classification"]
)
def test_bundled_models_run(model: str, data: Path) -> None:
    from emulator.factory import documentation_clip, render

    render(documentation_clip(), data / "clip.mp4")
    container = buildah("from", IMAGES["cpu"])
    try:
        run = (
            "run",
            "--isolation",
            "chroot",
            "--user",
            f"{USER}:{USER}",
            "--volume",
            f"{data}:/vol",
            container,
        )
        line = json.loads(
            buildah(*run, "--", "/opt/emulator/bin/vertex-emulator", "predict", model, "/vol/clip.mp4")
        )
    finally:
        buildah("rm", container)
    assert line["prediction"]


def test_stopped_container_hands_its_job_to_the_next_one_on_the_same_volume(data: Path) -> None:
    # The videos are all the same one: a cache would know each but the first.
    with running("cpu", data, "VERTEX_EMULATOR_PREDICTION_CACHE_MB=0") as container:
        assert container.run("id", "-u") == str(USER)
        assert "Ready" in container.run("/opt/emulator/bin/vertex-emulator", "wait", "--timeout", "0")
        container.run("/opt/emulator/bin/python", "-I", "-S", "/opt/emulator/healthcheck.py")
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
