"""One test's own corner of a running emulator: a project, a bucket, clients, and words for jobs."""

from __future__ import annotations

import io
import json
import shutil
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from emulator.testing.control import Canned, ControlError, Faults, Pace, job_path
from emulator.testing.environment import LOCAL, changed, no_proxy
from emulator.testing.expectations import Predictions
from emulator.testing.videos import Video, Videos, as_instance

if TYPE_CHECKING:
    from emulator.factory import Clip, Film
    from emulator.testing.server import Server

# Vertex: the SDK knows the regions and refuses any other name.
LOCATION = "us-central1"
_WAIT_S = 60.0
# Longer than this a call to `wait` is not held by the server.
_LONGEST_CALL_S = 30.0
_DEADLINE_EXCEEDED = 504

_SDK = "google.cloud.aiplatform"

_RESULTS = {
    "object_tracking": "VideoObjectTrackingPredictionResult",
    "action_recognition": "VideoActionRecognitionPredictionResult",
    "classification": "VideoClassificationPredictionResult",
}


class VertexEmulator:
    """A project of its own on a server that may serve many tests at a time.

    Jobs, models, paces and faults of one project are nothing to another. Buckets are the server's, so take
    `bucket`, which has the project's name.
    """

    def __init__(self, server: Server, project: str, videos: Videos, *, location: str = LOCATION) -> None:
        self.server = server
        self.project = project
        self.location = location
        self.bucket = project
        self.buckets = server.settings.buckets
        self.control = server.control
        self._videos = videos
        (self.buckets / self.bucket).mkdir(parents=True, exist_ok=True)
        self.pace = Pace(server.control, project)
        self.faults = Faults(server.control, project)
        self.canned = Canned(server.control, self.parent)

    @property
    def url(self) -> str:
        """Of REST and Cloud Storage: `http://127.0.0.1:40001`."""
        return self.server.url

    @property
    def grpc_address(self) -> str | None:
        """Of gRPC in plain text: `127.0.0.1:40002`."""
        return self.server.grpc_address

    @property
    def parent(self) -> str:
        """`projects/…/locations/…`."""
        return f"projects/{self.project}/locations/{self.location}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables for programs that a test starts: where Cloud Storage is, which project is meant, and that
        no proxy leads here."""
        return {
            **no_proxy((*LOCAL, urllib.parse.urlsplit(self.url).hostname or "")),
            "STORAGE_EMULATOR_HOST": self.url,
            "GOOGLE_CLOUD_PROJECT": self.project,
            "NO_GCE_CHECK": "true",
        }

    @cached_property
    def aiplatform(self) -> Any:
        """The SDK's module, pointed here."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import aiplatform

        aiplatform.init(
            project=self.project,
            location=self.location,
            api_endpoint=self.url,
            api_transport="rest",
            credentials=AnonymousCredentials(),
        )
        return aiplatform

    @cached_property
    def jobs(self) -> Any:
        """A JobServiceClient over REST."""
        from google.cloud.aiplatform_v1 import JobServiceClient

        return self.client(JobServiceClient)

    @cached_property
    def jobs_grpc(self) -> Any:
        """A JobServiceClient over gRPC in plain text."""
        import grpc
        from google.cloud.aiplatform_v1 import JobServiceClient
        from google.cloud.aiplatform_v1.services.job_service.transports import JobServiceGrpcTransport

        if self.grpc_address is None:
            raise RuntimeError(
                "The emulator serves no gRPC; take `grpc: False` out of vertex_emulator_settings."
            )
        channel = grpc.insecure_channel(self.grpc_address, options=[("grpc.enable_http_proxy", 0)])
        return JobServiceClient(transport=JobServiceGrpcTransport(channel=channel))

    @cached_property
    def storage(self) -> Any:
        """A Cloud Storage client."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        made = storage.Client(
            project=self.project,
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": self.url},
        )
        # What the environment says of proxies is not for this machine.
        made._http.trust_env = False
        return made

    def client(self, kind: type[Any]) -> Any:
        """A client of any of the SDK's generated classes over REST: `client(ModelServiceClient)`."""
        from google.auth.credentials import AnonymousCredentials

        options = {"api_endpoint": self.url}
        made = kind(transport="rest", client_options=options, credentials=AnonymousCredentials())
        # What the environment says of proxies is not for this machine.
        made.transport._session.trust_env = False
        return made

    def upload_video(
        self,
        clip: Clip | Film | Path | None = None,
        name: str = "videos/clip.mp4",
        *,
        bucket: str | None = None,
    ) -> Video:
        """Put a video into the bucket. Raises ValueError when the name cannot be an object's.

        clip: what to render (by default the documentation's: a cat and a dog from 1.2 s to 3.4 s, a cat at
        4.8 s), or a file. Of a file nothing is known, so its truth is empty.
        """
        from emulator.factory import Truth, documentation_clip

        if isinstance(clip, Path):
            path, truth = clip, Truth(clip, 0, (), ())
        else:
            path, truth = self._videos.render(clip or documentation_clip(), Path(name).suffix or ".mp4")
        with path.open("rb") as video:
            uri, target = self._put(bucket, name, video)
        return Video(uri, target, truth)

    def write_instances(
        self,
        *instances: Video | str | Mapping[str, Any],
        name: str = "instances.jsonl",
        bucket: str | None = None,
    ) -> str:
        """Write an input file of videos, URIs or whole instances, one a line; gives its URI.

        Raises ValueError when the name cannot be an object's.
        """
        lines = "".join(json.dumps(as_instance(entry)) + "\n" for entry in instances)
        uri, _ = self._put(bucket, name, io.BytesIO(lines.encode()))
        return uri

    def wait(self, job: Any, state: str = "ended", *, timeout: float = _WAIT_S) -> Any:
        """Wait until a job is in a state, without the SDK's five seconds between two looks.

        Args:
            job: the SDK's BatchPredictionJob, a message of a generated client, or a resource name.
            state: `RUNNING`, several as in `PENDING,RUNNING`, or `ended` for any final one.

        Returns the SDK's job, refreshed, or else the job's message as it is now. Raises AssertionError when
        `timeout` seconds pass first.
        """
        self._wait(job, state, timeout)
        if hasattr(job, "_sync_gca_resource"):
            job._sync_gca_resource()
            return job
        return self.jobs.get_batch_prediction_job(name=job if isinstance(job, str) else job.name)

    def _wait(self, job: Any, state: str, timeout: float) -> None:
        left = timeout
        while True:
            span = min(left, _LONGEST_CALL_S)
            try:
                self.control.get(f"{job_path(job)}/wait", state=state, timeout=span)
                return
            except ControlError as error:
                left -= span
                if error.code != _DEADLINE_EXCEEDED:
                    raise
                if left <= 0:
                    raise AssertionError(f"{error}\n{self.story(job)}") from None

    def explain(self, job: Any) -> dict[str, Any]:
        """What the emulator did for a job: steps, what was not honoured and why; see docs/control.md."""
        explained: dict[str, Any] = self.control.get(f"{job_path(job)}/explain")
        return explained

    def story(self, job: Any) -> str:
        """The steps of a job, one a line."""
        return "\n".join(
            f"{step['time']}  {step['step']}: {step['text']}" for step in self.explain(job)["steps"]
        )

    def requests(self, method: str | None = None, **narrowing: object) -> list[dict[str, Any]]:
        """The calls of this project, oldest first: `requests("CreateBatchPredictionJob", status="OK")`."""
        found = self.control.get("requests", method=method, project=self.project, **narrowing)
        listed: list[dict[str, Any]] = found["requests"]
        return listed

    def predictions(self, job: Any) -> Predictions:
        """What a job predicted, in the SDK's own types. Raises ValueError while it has no output."""
        message = job if isinstance(job, str) else getattr(job, "_gca_resource", job)
        if isinstance(message, str):
            message = self.jobs.get_batch_prediction_job(name=message)
        directory = message.output_info.gcs_output_directory
        if not directory:
            reason = f" Its error: {message.error.message}" if message.error.message else ""
            raise ValueError(f"{message.name} has no output: it is {message.state.name}.{reason}")
        folder = self.buckets / directory.removeprefix("gs://")
        lines = [
            (line["instance"], [_parsed(one) for one in line["prediction"]])
            for line in _lines(folder, "predictions_*.jsonl")
        ]
        return Predictions(lines, list(_lines(folder, "errors_*.jsonl")))

    def close(self) -> None:
        """Leave nothing behind that runs: unfinished jobs are cancelled, and models, paces and faults go."""
        for client in ("jobs", "jobs_grpc"):
            if client in self.__dict__:
                self.__dict__[client].transport.close()
        self.control.call("POST", "reset", {"project": self.project, "to": "empty", "buckets": False})

    def _put(self, bucket: str | None, name: str, content: BinaryIO) -> tuple[str, Path]:
        """Write an object; its URI and its file."""
        from emulator.storage import GcsUri, InvalidUri, LocalStore

        uri = GcsUri(bucket or self.bucket, name)
        store = LocalStore(self.buckets)
        try:
            with store.write(uri) as file:
                shutil.copyfileobj(content, file)
        except InvalidUri as error:
            raise ValueError(
                f"The object {name!r} cannot be written: {error} Give a name such as 'videos/a.mp4'."
            ) from None
        with store.local_path(uri) as path:
            return str(uri), path


@contextmanager
def pointed_here(emulator: VertexEmulator) -> Iterator[None]:
    """Set the process's environment, and the SDK if it has been imported; put both back afterwards.

    Real credentials are out of reach meanwhile, so that none can be sent anywhere.
    """
    hidden = {"GOOGLE_APPLICATION_CREDENTIALS": None, "GOOGLE_CLOUD_PROJECT": None, "GCLOUD_PROJECT": None}
    nowhere = str(emulator.server.log.parent / "no-gcloud")
    with changed({**hidden, "CLOUDSDK_CONFIG": nowhere, **emulator.environment}), _sdk(emulator):
        yield


@contextmanager
def _sdk(emulator: VertexEmulator) -> Iterator[None]:
    """The SDK keeps what `init` was told in one object of its module; that is what is put back."""
    imported = "google.cloud.aiplatform" in sys.modules
    before = (
        dict(sys.modules["google.cloud.aiplatform"].initializer.global_config.__dict__) if imported else None
    )
    try:
        if imported:
            _ = emulator.aiplatform
        yield
    finally:
        module = sys.modules.get("google.cloud.aiplatform")
        if module is not None:
            config = module.initializer.global_config
            config.__dict__.clear()
            config.__dict__.update(before if before is not None else type(config)().__dict__)


def _lines(folder: Path, pattern: str) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob(pattern)):
        for line in file.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def _parsed(prediction: Mapping[str, Any]) -> Any:
    from google.cloud.aiplatform.v1.schema.predict.prediction_v1 import types

    if "frames" in prediction:
        objective = "object_tracking"
    else:
        objective = "classification" if "type" in prediction else "action_recognition"
    result = getattr(types, _RESULTS[objective])
    # Vertex: members beside those of the schema do occur in recorded output.
    return result.from_json(json.dumps(prediction), ignore_unknown_fields=True)
