"""A real server that the official SDK talks to over REST, and a runner that ends jobs as their names say."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
import uvicorn
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.cloud.aiplatform import jobs as sdk_jobs

from emulator.api.rest import create_app
from emulator.config import Settings
from emulator.database import Database, JobRow
from emulator.registry import Registry
from emulator.service import Context, Service
from emulator.storage import LocalStore
from emulator.vertex.job_state import JobState
from emulator.vertex.messages import load

PROJECT, LOCATION = "my-project", "us-central1"

MANIFEST = """\
[model]
objective = "object_tracking"
display_name = "Pets"
[input]
width = 64
height = 64
[output]
head = "yolox"
"""


def write_model(folder: Path) -> Path:
    """Write a model folder: manifest, labels and an ONNX graph."""
    folder.mkdir(parents=True)
    (folder / "model.toml").write_text(MANIFEST)
    (folder / "labels.txt").write_text("cat\ndog\n")
    image = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, 3, 64, 64])
    output = onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, [1, 3, 64, 64])
    node = onnx.helper.make_node("Identity", ["images"], ["output"])
    graph = onnx.helper.make_graph([node], "detector", [image], [output])
    onnx.save(onnx.helper.make_model(graph), folder / "model.onnx")
    return folder


class ScriptedRunner:
    """Stands in for the execution of jobs: each job ends as its display name says.

    "fail" fails, "hold" runs until it is cancelled, everything else succeeds with three instances.
    """

    _OWNER, _LEASE_US = "scripted", 3_600_000_000

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            job = self._database.claim_job(self._OWNER, self._LEASE_US)
            if job is not None and "hold" not in job.display_name:
                self._end(job)
            for job_id, state in self._database.heartbeat(self._OWNER, self._LEASE_US).items():
                if state is JobState.CANCELLING:
                    self._database.finish_job(job_id, self._OWNER, JobState.CANCELLED)

    def _end(self, job: JobRow) -> None:
        if "fail" in job.display_name:
            error = load().rpc.Status(code=9, message="The bucket is gone.").SerializeToString()
            self._database.finish_job(job.id, self._OWNER, JobState.FAILED, error=error)
            return
        self._database.start_output(job.id, self._OWNER, f"gs://bucket/out/prediction-Pets-{job.id}")
        self._database.finish_job(
            job.id, self._OWNER, JobState.SUCCEEDED, successful=3, failed=0, incomplete=0
        )


@dataclass(frozen=True)
class Server:
    """Where the emulator listens, and the folder that holds its buckets."""

    url: str
    buckets: Path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("sdk")
    write_model(folder / "models" / "pets")
    buckets = folder / "buckets"
    buckets.mkdir()
    database = Database(f"sqlite:///{folder / 'emulator.db'}")
    service = Service(
        Context(database, Registry([folder / "models"], folder / "uploads"), LocalStore(buckets))
    )
    runner = ScriptedRunner(database)
    app = create_app(service, Settings())
    http = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, ws="none", timeout_keep_alive=60))
    thread = threading.Thread(target=http.run)
    thread.start()
    runner.start()
    while not http.started and thread.is_alive():
        time.sleep(0.005)
    port = http.servers[0].sockets[0].getsockname()[1]
    yield Server(f"http://127.0.0.1:{port}", buckets)
    runner.stop()
    http.should_exit = True
    thread.join(10)
    service.close()
    database.close()


@pytest.fixture
def uploadable(server: Server) -> str:
    """A folder in a bucket that holds a model."""
    if not (server.buckets / "bucket" / "pets").exists():
        write_model(server.buckets / "bucket" / "pets")
    return "gs://bucket/pets"


@pytest.fixture
def vertex(server: Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The SDK's module, pointed at the emulator as the README says; polls faster than every 5 s."""
    monkeypatch.setattr(sdk_jobs, "_JOB_WAIT_TIME", 0.02)
    aiplatform.init(
        project=PROJECT,
        location=LOCATION,
        api_endpoint=server.url,
        api_transport="rest",
        credentials=AnonymousCredentials(),
    )
    return aiplatform


@pytest.fixture
def client(server: Server) -> Callable[[type[Any]], Any]:
    """Makes a GAPIC client of a class over REST."""

    def make(kind: type[Any]) -> Any:
        return kind(
            transport="rest",
            client_options={"api_endpoint": server.url},
            credentials=AnonymousCredentials(),
        )

    return make
