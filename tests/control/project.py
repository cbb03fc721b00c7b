"""A project of a test's own on a real emulator with a tiny model, and what is done with it over REST."""

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from emulator.app import Emulator
from emulator.config import Settings
from tests.execution.workplace import write_tiny_model, write_video
from tests.postgresql import database_url, on_postgresql

LOCATION = "us-central1"
_numbers = itertools.count(1)


@dataclass
class Project:
    """A project of its own on a running emulator, and what a test does with it over REST."""

    emulator: Emulator
    http: httpx.Client
    buckets: Path
    id: str = field(default_factory=lambda: f"project-{next(_numbers)}")

    @property
    def parent(self) -> str:
        return f"projects/{self.id}/locations/{LOCATION}"

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """A call that succeeds; its JSON."""
        response = self.http.request(method, path, json=body, **options)
        assert response.status_code == 200, response.text
        return response.json()

    def error(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """A call that fails; its error."""
        response = self.http.request(method, path, json=body, **options)
        error = response.json()["error"]
        assert error["code"] == response.status_code != 200
        return error

    def control(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        return self.call(method, f"/_emulator/{path}", body, **options)

    def pace(self, text: str) -> None:
        self.control("PUT", f"projects/{self.id}/pace", {"pace": text})

    def body(self, *videos: str, model: str = "tiny", name: str = "job", **changes: Any) -> Any:
        """A request for a job over videos of the bucket, one instance each."""
        lines = [
            {"content": f"gs://bucket/{video}", "mimeType": "video/mp4"} for video in videos or ("a.mp4",)
        ]
        inputs = self.buckets / "bucket" / f"in-{next(_numbers)}.jsonl"
        inputs.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return {
            "displayName": name,
            "model": f"{self.parent}/models/{model}",
            "inputConfig": {
                "instancesFormat": "jsonl",
                "gcsSource": {"uris": [f"gs://bucket/{inputs.name}"]},
            },
            "outputConfig": {
                "predictionsFormat": "jsonl",
                "gcsDestination": {"outputUriPrefix": f"gs://bucket/{self.id}"},
            },
            **changes,
        }

    def create(self, *videos: str, headers: dict[str, str] | None = None, **options: Any) -> str:
        """Create a job; its resource name."""
        body = self.body(*videos, **options)
        return str(self.call("POST", f"/v1/{self.parent}/batchPredictionJobs", body, headers=headers)["name"])

    def get(self, name: str) -> Any:
        return self.call("GET", f"/v1/{name}")

    def state(self, name: str) -> str:
        return str(self.get(name)["state"]).removeprefix("JOB_STATE_")

    def wait(self, name: str, state: str = "ended", **query: Any) -> Any:
        """Wait over the control surface; what it answers."""
        query = {"state": state, "timeout": 30, **query}
        return self.control("GET", f"jobs/{job_id(name)}/wait", params=query)

    def finish(self, name: str) -> Any:
        """The job once it has ended."""
        self.wait(name)
        return self.get(name)

    def files(self, job: Any) -> dict[str, str]:
        """The output files of a job."""
        folder = self.buckets / job["outputInfo"]["gcsOutputDirectory"].removeprefix("gs://")
        return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def job_id(name: str) -> str:
    return name.rpartition("/")[2]


def make_settings(folder: Path, **changes: Any) -> Settings:
    """Settings of an emulator with the model `tiny` and a video gs://bucket/a.mp4."""
    if not (folder / "models").exists():
        write_tiny_model(folder / "models" / "tiny", label="cat", display_name="Tiny")
    settings = Settings(
        **{
            "port": 0,
            "data_dir": folder / "data",
            "models_dirs": [folder / "models"],
            "bundled_models": False,
            "provider": "cpu",
            "workers": 1,
            "worker_threads": 1,
            # On a busy machine a worker may need longer to start than clients would wait.
            "hold_timeout": 30,
            "database_url": database_url(folder) if on_postgresql() else None,
            **changes,
        }
    )
    if not (settings.buckets / "bucket" / "a.mp4").exists():
        write_video(settings.buckets / "bucket" / "a.mp4", 0.3)
        write_video(settings.buckets / "bucket" / "b.mp4", 0.5)
    return settings


def client_of(emulator: Emulator) -> httpx.Client:
    return httpx.Client(base_url=emulator.url, trust_env=False, timeout=60)
