"""The emulator as it is served, with a tiny real model, for the official SDK to talk to over REST."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.cloud.aiplatform import jobs as sdk_jobs
from onnx import TensorProto, helper

from emulator.app import Emulator
from emulator.config import Settings

PROJECT, LOCATION = "my-project", "us-central1"
SIZE = 32
MANIFEST = """\
[model]
objective = "object_tracking"
display_name = "Pets"
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


def write_model(folder: Path) -> Path:
    """Write a model folder whose ONNX sees a cat in the middle of every frame, with confidence 0.9."""
    folder.mkdir(parents=True)
    (folder / "model.toml").write_text(MANIFEST)
    (folder / "labels.txt").write_text("cat\n")
    box = [0.5, 0.5, math.log(0.5), math.log(0.5), 1.0, 0.9]
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["box", "nothing"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1, 6])],
        [
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
            helper.make_tensor("box", TensorProto.FLOAT, [1, 1, 6], box),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    return folder


def write_input(bucket: Path, name: str, seconds: int) -> None:
    """Put a clip and the JSON Lines file that asks for it into a bucket."""
    writer = cv2.VideoWriter(str(bucket / f"{name}.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for number in range(seconds * 10):
        writer.write(np.full((48, 64, 3), number % 200 + 20, np.uint8))
    writer.release()
    instance = {
        "content": f"gs://bucket/{name}.mp4",
        "mimeType": "video/mp4",
        "timeSegmentStart": "0.0s",
        "timeSegmentEnd": "Infinity",
    }
    (bucket / f"{name}.jsonl").write_text(json.dumps(instance) + "\n")


@dataclass(frozen=True)
class Server:
    """Where the emulator listens, and the folder that holds its buckets."""

    url: str
    buckets: Path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An emulator with the model `pets`, a short input and one that keeps it busy for long."""
    folder = tmp_path_factory.mktemp("sdk")
    write_model(folder / "models" / "pets")
    settings = Settings(
        port=0,
        data_dir=folder / "data",
        models_dirs=[folder / "models"],
        bundled_models=False,
        provider="cpu",
        workers=1,
        worker_threads=1,
    )
    bucket = settings.buckets / "bucket"
    bucket.mkdir(parents=True)
    write_input(bucket, "short", seconds=1)
    write_input(bucket, "long", seconds=1800)
    with Emulator(settings) as emulator:
        yield Server(emulator.url, settings.buckets)


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
