"""A client of the service that speaks JSON as a REST surface does, and the folders and bodies it sends."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from emulator.database import Database
from emulator.registry import Registry
from emulator.service import Call, Context, Method, Reply, Service
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


@cache
def request_types() -> Mapping[str, Any]:
    """The v1 request message of each RPC."""
    return {f"{rpc.service}/{rpc.name}": rpc.input for rpc in load().methods() if rpc.version == "v1"}


@dataclass
class Client:
    """Calls the service as a REST surface does: JSON in, JSON out."""

    service: Service
    context: Context
    database: Database
    registry: Registry
    models_folder: Path
    root: Path
    wake_ups: list[None] = field(default_factory=list)

    def call(
        self, rpc: str, request: Mapping[str, Any], version: str = "v1", *beta_only: str
    ) -> dict[str, Any]:
        return to_json(self.raw(rpc, request, version, *beta_only))

    def raw(self, rpc: str, request: Mapping[str, Any], version: str = "v1", *beta_only: str) -> Any:
        reply = self._reply(rpc, request, Call(version, tuple(beta_only)))
        return reply.message if isinstance(reply, Reply) else reply

    def extras(self, rpc: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        reply = self._reply(rpc, request, Call())
        return reply.extras if isinstance(reply, Reply) else {}

    def _reply(self, rpc: str, request: Mapping[str, Any], call: Call) -> Any:
        return self._methods[rpc](from_json(request_types()[rpc], request), call)

    @cached_property
    def _methods(self) -> Mapping[str, Method]:
        return self.service.methods()

    def status(self, **values: Any) -> bytes:
        return bytes(load().rpc.Status(**values).SerializeToString())

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
