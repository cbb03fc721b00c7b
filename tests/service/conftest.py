"""A service over a real database, model folders and a storage folder, with a client's way of calling it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from emulator.database import Database
from emulator.registry import Registry
from emulator.service import Call, Context, Service
from emulator.storage import LocalStore
from emulator.vertex.contract import load
from emulator.vertex.messages import from_json, to_json

PROJECT, LOCATION = "my-project", "us-central1"
NUMBER = "123456789012"
PARENT = f"projects/{PROJECT}/locations/{LOCATION}"
N = f"projects/{NUMBER}/locations/{LOCATION}"


def write_model(folder: Path, *, objective: str = "object_tracking", display_name: str = "Traffic") -> Path:
    """A model folder as far as the server reads it: the graph is not opened here."""
    folder.mkdir(parents=True, exist_ok=True)
    head = {"object_tracking": "yolox", "action_recognition": "clip"}[objective]
    frames = "" if objective == "object_tracking" else "frames = 8\n"
    (folder / "model.toml").write_text(
        f'[model]\nobjective = "{objective}"\ndisplay_name = "{display_name}"\n'
        f'[input]\nwidth = 64\nheight = 64\n{frames}[output]\nhead = "{head}"\n'
    )
    (folder / "labels.txt").write_text("cat\ndog\n")
    (folder / "model.onnx").write_bytes(b"\x08\x08")
    return folder


@dataclass
class Client:
    """Calls the service as a REST surface does: JSON in, JSON out."""

    service: Service
    database: Database
    root: Path
    wake_ups: list[None] = field(default_factory=list)

    def call(
        self, rpc: str, request: Mapping[str, Any], version: str = "v1", *beta_only: str
    ) -> dict[str, Any]:
        return to_json(self.raw(rpc, request, version, *beta_only))

    def raw(self, rpc: str, request: Mapping[str, Any], version: str = "v1", *beta_only: str) -> Any:
        inputs = {f"{m.service}/{m.name}": m.input for m in load().methods() if m.version == "v1"}
        method = self.service.methods()[rpc]
        return method(from_json(inputs[rpc], request), Call(version, tuple(beta_only)))

    def create(self, **changes: Any) -> dict[str, Any]:
        request = {"parent": PARENT, "batchPredictionJob": job_body(**changes)}
        return self.call("JobService/CreateBatchPredictionJob", request)

    def get(self, name: str) -> dict[str, Any]:
        return self.call("JobService/GetBatchPredictionJob", {"name": name})

    def put(self, bucket: str, name: str, data: bytes = b"x") -> None:
        path = self.root / "buckets" / bucket / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def put_model(self, bucket: str, folder: str, **options: Any) -> str:
        write_model(self.root / "buckets" / bucket / folder, **options)
        return f"gs://{bucket}/{folder}"


def job_body(**changes: Any) -> dict[str, Any]:
    """The documentation's request body, with top-level members replaced; None removes one."""
    body = {
        "displayName": "my job",
        "model": f"{PARENT}/models/tracker",
        "inputConfig": {
            "instancesFormat": "jsonl",
            "gcsSource": {"uris": ["gs://in-bucket/instances.jsonl"]},
        },
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": "gs://out-bucket"},
        },
        "modelParameters": {"confidenceThreshold": 0.5},
    }
    return {key: value for key, value in {**body, **changes}.items() if value is not None}


@pytest.fixture
def models_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    write_model(folder / "tracker")
    write_model(folder / "swings", objective="action_recognition", display_name="Swings")
    return folder


@pytest.fixture
def make_client(tmp_path: Path, models_folder: Path) -> Iterator[Callable[..., Client]]:
    opened: list[Client] = []

    def make(**options: Any) -> Client:
        database = Database(f"sqlite:///{tmp_path / 'emulator.db'}")
        wake_ups: list[None] = []
        context = Context(
            database=database,
            registry=Registry([models_folder], tmp_path / "uploads"),
            store=LocalStore(tmp_path / "buckets"),
            project_numbers={PROJECT: NUMBER},
            on_work=lambda: wake_ups.append(None),
            **options,
        )
        client = Client(Service(context), database, tmp_path, wake_ups)
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.service.close()
        client.database.close()


@pytest.fixture
def client(make_client: Callable[..., Client]) -> Client:
    return make_client()
