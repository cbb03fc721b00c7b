"""A service that records what the REST surface hands it, the surface without sockets, and a real server."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from emulator.api.application import create_app
from emulator.api.calls import ServiceMethods
from emulator.api.rest import RestSurface
from emulator.config import Settings
from emulator.database import Database
from emulator.http import HttpRequest, HttpResponse
from emulator.registry import Registry
from emulator.service import Call, Context, Reply, Service
from emulator.storage import LocalStore
from emulator.vertex.errors import NotFound
from emulator.vertex.messages import load


class RecordingService:
    """Answers a few methods with what it was asked, and keeps the last request and call."""

    def __init__(self) -> None:
        self.request: Any = None
        self.call: Call | None = None
        self.listed_state = 0
        self.over = threading.Event()
        self._database = Database("sqlite://")
        context = Context(self._database, Registry([], Path("nowhere")), LocalStore(Path("nowhere")))
        self._service = Service(context)
        self.gate = self._service.gate
        self._v1 = load().v1

    def close(self) -> None:
        self._service.close()
        self._database.close()

    def methods(self) -> Mapping[str, Callable[[Any, Call], Any]]:
        answers = {
            "JobService/CreateBatchPredictionJob": self._create,
            "JobService/GetBatchPredictionJob": self._get,
            "JobService/ListBatchPredictionJobs": self._list,
            "JobService/CancelBatchPredictionJob": lambda _: load().protobuf.Empty(),
            "ModelService/GetModel": lambda request: self._v1.Model(name=request.name),
            "ModelService/UpdateModel": lambda request: request.model,
            "ModelService/ListModels": self._broken,
            "Operations/GetOperation": self._operation,
            "Operations/WaitOperation": self._wait,
        }
        return {name: self._recording(answer) for name, answer in answers.items()}

    def is_brief(self, key: str, query: str, body: bytes) -> bool:  # noqa: ARG002
        return key == "JobService/CreateBatchPredictionJob"

    def _recording(self, answer: Callable[[Any], Any]) -> Callable[[Any, Call], Any]:
        def method(request: Any, call: Call) -> Any:
            self.request, self.call = request, call
            return answer(request)

        return method

    def _create(self, request: Any) -> Any:
        job = self._v1.BatchPredictionJob()
        job.CopyFrom(request.batch_prediction_job)
        job.name = f"{request.parent}/batchPredictionJobs/1"
        job.state = 2
        job.completion_stats.incomplete_count = -1
        job.create_time.FromJsonString("2026-01-02T03:04:05.123456Z")
        return Reply(job, self._extras(job))

    def _get(self, request: Any) -> Any:
        if request.name.endswith("/404"):
            raise NotFound("The BatchPredictionJob does not exist.")
        job = self._v1.BatchPredictionJob(name=request.name, state=4)
        return Reply(job, self._extras(job))

    def _extras(self, job: Any) -> dict[str, str]:
        return {"modelDisplayName": f"model of {job.name[-1:]}", "modelObjective": "OBJECT_TRACKING"}

    def _list(self, request: Any) -> Any:
        names = [f"{request.parent}/batchPredictionJobs/{number}" for number in (1, 2)]
        jobs = [self._v1.BatchPredictionJob(name=name, state=self.listed_state) for name in names]
        page = self._v1.ListBatchPredictionJobsResponse(batch_prediction_jobs=jobs, next_page_token="more")
        extras = [] if request.read_mask.paths else [self._extras(job) for job in jobs]
        return Reply(page, {"batchPredictionJobs": extras} if extras else {})

    def _broken(self, _: Any) -> Any:
        raise KeyError("no such key")

    def _wait(self, request: Any) -> Any:
        seconds = request.timeout.ToMilliseconds() / 1000
        self.over.wait(seconds)
        return self._operation(request)

    def _operation(self, request: Any) -> Any:
        operation = load().longrunning.Operation(name=request.name, done=True)
        operation.response.Pack(load().protobuf.Empty())
        return operation


@dataclass
class Surface:
    """Sends requests straight to the surface, without a socket."""

    service: RecordingService
    rest: RestSurface

    def send(
        self,
        method: str,
        url: str,
        value: object = None,
        *,
        body: bytes | None = b"",
        headers: Mapping[str, str] | None = None,
    ) -> HttpResponse:
        path, _, query = url.partition("?")
        content = body if value is None else json.dumps(value).encode()
        response = self.rest.answer(self.rest.route(HttpRequest(method, path, query, headers or {}, content)))
        assert response is not None
        return response

    def json(self, method: str, url: str, value: object = None, **options: Any) -> Any:
        response = self.send(method, url, value, **options)
        assert response.status == 200, response.body.decode()
        return json.loads(response.body)

    def error(self, method: str, url: str, value: object = None, **options: Any) -> Any:
        response = self.send(method, url, value, **options)
        error = json.loads(response.body)["error"]
        assert error["code"] == response.status != 200
        return error


@pytest.fixture
def surface() -> Iterator[Surface]:
    with closing(RecordingService()) as service:
        yield Surface(service, RestSurface(service))


@pytest.fixture
def strict_surface() -> Iterator[Surface]:
    with closing(RecordingService()) as service:
        yield Surface(service, RestSurface(service, strict=True))


@contextmanager
def serving(service: ServiceMethods) -> Iterator[httpx.Client]:
    """Run a real server on a free port; yields a client of it."""
    config = uvicorn.Config(create_app(service, Settings()), port=0, log_config=None, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(60)


@pytest.fixture(scope="module")
def recording() -> Iterator[RecordingService]:
    with closing(RecordingService()) as service:
        yield service


@pytest.fixture(scope="module")
def http(recording: RecordingService) -> Iterator[httpx.Client]:
    """A client of a real server with the recording service."""
    with serving(recording) as client:
        yield client


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


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a real server with the real service; there is one model and nothing runs the jobs."""
    folder = tmp_path_factory.mktemp("live")
    model = folder / "models" / "pets"
    model.mkdir(parents=True)
    (model / "model.toml").write_text(MANIFEST)
    (model / "model.onnx").write_bytes(b"never opened here")
    (model / "labels.txt").write_text("cat\ndog\n")
    database = Database(f"sqlite:///{folder / 'emulator.db'}")
    registry = Registry([folder / "models"], folder / "uploads")
    service = Service(Context(database, registry, LocalStore(folder / "buckets")))
    with serving(service) as client:
        yield client
    service.close()
    database.close()
