"""A place to run jobs in: real SQLite, a real folder of buckets, real worker processes, a tiny real model."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper

from emulator.database import Database, JobRow, NewJob, now_us
from emulator.execution.dispatcher import Dispatcher
from emulator.execution.executor import Executor
from emulator.execution.processes import ProcessExecutor
from emulator.execution.runner import RunnerSettings
from emulator.execution.shards import ModelUse
from emulator.inference.prediction_cache import CachePlace
from emulator.instructions.faults import JobFault, dump_faults
from emulator.storage import GcsUri, LocalStore
from emulator.vertex import contract
from emulator.vertex.job_state import TERMINAL
from tests.conftest import shared_place

SIZE = 32
MANIFEST = """
[model]
objective = "object_tracking"
display_name = "{display_name}"
[input]
width = 32
height = 32
fit = "stretch"
[output]
head = "yolox"
strides = [32]
[tracker]
min_frames = 1
"""


@contextmanager
def warm_pool(model: Path) -> Iterator[Executor]:
    """Two workers that have the model loaded."""
    pool = ProcessExecutor(2, timeout_s=60, warm=[ModelUse(model, "cpu", 1)], log_level="warning")
    pool.start()
    yield pool
    pool.stop()


def write_tiny_model(folder: Path, label: str = "thing", display_name: str = "tiny") -> Path:
    """A detector that sees the same centred box in every frame, with a confidence of 0.9."""
    folder.mkdir(parents=True)
    box = [0.5, 0.5, float(np.log(0.5)), float(np.log(0.5)), 1.0, 0.9]
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["box", "nothing"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1, 6])],
        [
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
            helper.make_tensor("box", TensorProto.FLOAT, [1, 1, 6], box),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    (folder / "model.toml").write_text(MANIFEST.format(display_name=display_name))
    (folder / "labels.txt").write_text(f"{label}\n")
    return folder


def write_video(path: Path, seconds: float = 1.0, fps: int = 10) -> Path:
    """A small grey clip whose brightness wanders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (64, 48))
    for number in range(round(seconds * fps)):
        writer.write(np.full((48, 64, 3), number % 200 + 20, np.uint8))
    writer.release()
    return path


def line(video: str, start: str = "0s", end: str = "inf", **others: object) -> str:
    """An input line for a video of the test's bucket."""
    content = video if "://" in video else f"gs://bucket/{video}"
    instance = {"content": content, "mimeType": "video/mp4", "timeSegmentStart": start, "timeSegmentEnd": end}
    return json.dumps(instance | others)


@dataclass
class Workplace:
    """Everything a job needs, and what a test wants to do with it."""

    folder: Path
    model: Path
    pool: Executor
    database: Database
    store: LocalStore
    dispatchers: list[Dispatcher] = field(default_factory=list)
    fault: JobFault | None = None
    cache: CachePlace | None = field(default_factory=shared_place)

    @property
    def bucket(self) -> Path:
        return self.store.root / "bucket"

    def start(
        self, *, fault: JobFault | None = None, max_running_jobs: int = 8, strict: bool = False
    ) -> Dispatcher:
        """Start a dispatcher (a server without its API); jobs submitted from now on take the fault along."""
        self.fault = fault
        dispatcher = Dispatcher(
            self.database,
            self.store,
            self.pool,
            owners=self.folder / "owners",
            max_running_jobs=max_running_jobs,
            settings=RunnerSettings(provider="cpu", threads=1, strict=strict, cache=self.cache),
        )
        dispatcher.start()
        self.dispatchers.append(dispatcher)
        return dispatcher

    def video(self, name: str, seconds: float = 1.0) -> str:
        """Put a clip into the bucket; returns its URI."""
        write_video(self.bucket / name, seconds)
        return f"gs://bucket/{name}"

    def put(self, name: str, data: str | bytes) -> str:
        """Put an object into the bucket; returns its URI."""
        path = self.bucket / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return f"gs://bucket/{name}"

    def submit(
        self,
        *uris: str,
        prefix: str = "gs://bucket/out",
        model: Path | None = None,
        model_display_name: str = "tiny",
        parameters: Any = None,
        pace: str = "",
        batch_size: int = 0,
    ) -> int:
        """Create a job over input objects; returns its id."""
        document = contract.load().v1.BatchPredictionJob(display_name="job")
        document.input_config.gcs_source.uris.extend(uris)
        document.output_config.gcs_destination.output_uri_prefix = prefix
        document.manual_batch_tuning_parameters.batch_size = batch_size
        if parameters is not None:
            document.model_parameters.struct_value.update(parameters)
        job_id = now_us() * 1000 + len(self.dispatchers)
        job = NewJob(
            id=job_id,
            project="123456789012",
            location="us-central1",
            display_name="job",
            model_id="tiny",
            model_version=1,
            model_display_name=model_display_name,
            model_objective="OBJECT_TRACKING",
            model_folder=str(model or self.model),
            labels={},
            document=document.SerializeToString(),
            create_time_us=now_us(),
            pace=pace,
            faults=dump_faults([self.fault] if self.fault else []),
        )
        self.database.insert_job(job)
        for dispatcher in self.dispatchers:
            dispatcher.wake()
        return job_id

    def submit_lines(self, lines: Sequence[str], **options: Any) -> int:
        """Create a job over one new input object that holds these lines."""
        name = f"in/{now_us()}.jsonl"
        return self.submit(self.put(name, "".join(f"{text}\n" for text in lines)), **options)

    def job(self, job_id: int) -> JobRow:
        row = self.database.get_job(job_id)
        assert row is not None
        return row

    def wait_until(self, job_id: int, holds: Callable[[JobRow], bool], timeout_s: float = 60) -> JobRow:
        deadline = time.monotonic() + timeout_s
        while not holds(row := self.job(job_id)):
            assert time.monotonic() < deadline, (
                f"still {row.state.name}, {row.successful} done, {row.failed} failed"
            )
            time.sleep(0.01)
        return row

    def finish(self, job_id: int, timeout_s: float = 60) -> JobRow:
        """Wait for the job's end."""
        return self.wait_until(job_id, lambda row: row.state in TERMINAL, timeout_s)

    def run(self, lines: Sequence[str], **options: Any) -> JobRow:
        """Create a job over these lines and wait for its end."""
        if not self.dispatchers:
            self.start()
        return self.finish(self.submit_lines(lines, **options))

    def files(self, row: JobRow) -> dict[str, bytes]:
        """The files in the job's output directory."""
        assert row.output_directory is not None
        uri = GcsUri.parse_prefix(row.output_directory)
        found = {}
        for info in self.store.list(uri.bucket, uri.object):
            with self.store.open_read(info.uri) as file:
                found[info.uri.object.removeprefix(uri.object)] = file.read()
        return found

    def predictions(self, row: JobRow) -> list[Any]:
        """All prediction lines, file by file."""
        files = self.files(row)
        names = sorted(name for name in files if name.startswith("predictions_"))
        assert names == [f"predictions_{number:05d}.jsonl" for number in range(1, len(names) + 1)]
        return [json.loads(text) for name in names for text in files[name].splitlines()]

    def errors(self, row: JobRow) -> list[Any]:
        """The lines of the errors file; empty when there is none."""
        return [json.loads(text) for text in self.files(row).get("errors_00001.jsonl", b"").splitlines()]


def error_of(row: JobRow) -> tuple[int, str]:
    """The job's error: code and message."""
    assert row.error is not None
    status = contract.load().rpc.Status.FromString(row.error)
    return status.code, status.message


def partial_failures_of(row: JobRow) -> list[tuple[int, str]]:
    statuses = [contract.load().rpc.Status.FromString(status) for status in row.partial_failures]
    return [(status.code, status.message) for status in statuses]
