"""The emulator as it is served, with a tiny real model, for the official SDK to talk to over REST."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.cloud.aiplatform import jobs as sdk_jobs

from emulator.app import Emulator
from emulator.config import Settings
from tests.execution.workplace import write_tiny_model, write_video
from tests.inference.tiny_models import GREEN, RED, classification_folder, write_clip

PROJECT, LOCATION = "my-project", "us-central1"


def write_model(folder: Path) -> Path:
    """Write a model folder whose ONNX sees a cat in the middle of every frame, with confidence 0.9."""
    return write_tiny_model(folder, label="cat", display_name="Pets")


def write_input(bucket: Path, name: str, seconds: float) -> None:
    """Put a clip and the JSON Lines file that asks for it into a bucket."""
    write_video(bucket / f"{name}.mp4", seconds)
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
    grpc_address: str


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An emulator with the model `pets`, a short input and one that keeps it busy for long."""
    folder = tmp_path_factory.mktemp("sdk")
    write_model(folder / "models" / "pets")
    classification_folder(folder / "models" / "colours")
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
    write_input(bucket, "colours", seconds=1)
    write_clip(
        bucket / "colours.mp4",
        lambda seconds: np.full((16, 16, 3), RED if seconds < 1.29 else GREEN, np.uint8),
        seconds=2.5,
    )
    with Emulator(settings) as emulator:
        yield Server(emulator.url, settings.buckets, emulator.grpc_address or "")


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
