"""One test's own corner of a running emulator: a project, a bucket, clients, and helpers for jobs."""

from __future__ import annotations

import io
import json
import shutil
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from emulator.testing.children import TARGET, python_path
from emulator.testing.control import Canned, ControlError, Faults, Pace, job_path
from emulator.testing.environment import LOCAL, no_proxy
from emulator.testing.expectations import Predictions
from emulator.testing.pointing import Target, pointed_here
from emulator.testing.videos import Video, Videos, as_instance

if TYPE_CHECKING:
    from emulator.factory import Clip, Film
    from emulator.testing.server import Server

# Vertex: the SDK knows the regions and refuses any other name.
LOCATION = "us-central1"
_WAIT_S = 60.0
# The server holds a call of `wait` at most this long.
_LONGEST_CALL_S = 30.0
_DEADLINE_EXCEEDED = 504

_OBSERVER = "x-goog-emulator-observer"
_FINAL = tuple(
    f"JOB_STATE_{state}" for state in ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED")
)


class VertexEmulator:
    """A test's own corner of a server: a project, a bucket, and all that happens while it is open.

    Faults, paces and `requests()` cover every project that the code names, and `close` removes what was
    created in any of them. With `every_project=False` they cover `project` alone, and several corners can be
    open on one server at the same time.
    """

    def __init__(
        self,
        server: Server,
        project: str,
        videos: Videos,
        *,
        location: str = LOCATION,
        bucket: str | None = None,
        transport: str = "grpc",
        every_project: bool = True,
    ) -> None:
        """`bucket`: by default it has the project's name. `transport`: of the clients, `grpc` or `rest`."""
        token = server.settings.auth_token
        self.target = Target(project, location, server.url, server.grpc_address, transport, token)
        self.server = server
        self.project = project
        self.location = location
        self.bucket = bucket or project
        self.buckets = server.settings.buckets
        self.control = server.control
        self._videos = videos
        self._every_project = every_project
        self._began = server.control.get("now")
        self._buckets_before = set(self._bucket_names())
        server.corner_buckets.add(self.bucket)
        (self.buckets / self.bucket).mkdir(parents=True, exist_ok=True)
        self.pace = Pace(server.control, project, every_project=every_project)
        self.faults = Faults(server.control, project, every_project=every_project)
        self.canned = Canned(server.control, self.parent)
        self._parts = ExitStack()
        self._is_pointed = False

    def __repr__(self) -> str:
        return f"<VertexEmulator {self.parent} at {self.url}>"

    @property
    def url(self) -> str:
        """The address of REST and Cloud Storage: `http://127.0.0.1:40001`."""
        return self.server.url

    @property
    def grpc_address(self) -> str | None:
        """The address of plain-text gRPC: `127.0.0.1:40002`."""
        return self.server.grpc_address

    @property
    def parent(self) -> str:
        """`projects/…/locations/…`."""
        return f"projects/{self.project}/locations/{self.location}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for programs that a test starts.

        They name the address of Cloud Storage and the project, and keep proxies away from this server. Python
        programs are pointed here before their first line.
        """
        return {
            **no_proxy((*LOCAL, urllib.parse.urlsplit(self.url).hostname or "")),
            "STORAGE_EMULATOR_HOST": self.url,
            "GOOGLE_CLOUD_PROJECT": self.project,
            "NO_GCE_CHECK": "true",
            TARGET: self.target.as_json(),
            "PYTHONPATH": python_path(),
        }

    def point(self) -> None:
        """Point the environment and the SDK here until `close`."""
        if not self._is_pointed:
            self._is_pointed = True
            nowhere = str(self.server.log.parent / "no-gcloud")
            self._parts.enter_context(pointed_here(self.target, self.environment, nowhere))

    @property
    def aiplatform(self) -> Any:
        """The SDK's module, pointed here until `close`."""
        self.point()
        from google.cloud import aiplatform

        return aiplatform

    @cached_property
    def jobs(self) -> Any:
        """A JobServiceClient over the chosen transport."""
        from google.cloud.aiplatform_v1 import JobServiceClient

        return self.client(JobServiceClient)

    @cached_property
    def jobs_rest(self) -> Any:
        """A JobServiceClient over REST."""
        from google.cloud.aiplatform_v1 import JobServiceClient

        return self.client(JobServiceClient, transport="rest")

    @cached_property
    def jobs_grpc(self) -> Any:
        """A JobServiceClient over gRPC."""
        from google.cloud.aiplatform_v1 import JobServiceClient

        return self.client(JobServiceClient, transport="grpc")

    @cached_property
    def storage(self) -> Any:
        """A Cloud Storage client."""
        from google.cloud import storage

        made = storage.Client(
            project=self.project,
            credentials=self.target.credentials(),
            client_options={"api_endpoint": self.url},
        )
        # The proxies of the environment are not for this machine.
        made._http.trust_env = False
        return made

    def client(self, kind: type[Any], *, transport: str | None = None) -> Any:
        """A client of any of the SDK's generated classes: `client(ModelServiceAsyncClient)`.

        transport: `grpc` or `rest`, by default the chosen one.
        """
        target = replace(self.target, transport=transport or self.target.transport)
        if target.transport == "grpc":
            asynchronous = "Async" in kind.__name__
            name = "grpc_asyncio" if asynchronous else "grpc"
            channel = target.channel(asynchronous=asynchronous)
            made = kind(transport=kind.get_transport_class(name)(channel=channel))
        else:
            options = {"api_endpoint": self.url}
            made = kind(transport="rest", client_options=options, credentials=target.credentials())
            # The proxies of the environment are not for this machine.
            made.transport._session.trust_env = False
        if "Async" not in kind.__name__:
            self._parts.callback(made.transport.close)
        return made

    def upload_video(
        self,
        clip: Clip | Film | Path | None = None,
        name: str = "videos/clip.mp4",
        *,
        bucket: str | None = None,
    ) -> Video:
        """Put a video into the bucket. Raises ValueError if the name cannot be an object's.

        clip: a clip to render, or a file. By default the documentation's clip: a cat and a dog from 1.2 s to
        3.4 s, a cat at 4.8 s. Nothing is known of a file, so its truth is empty.
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
        """Write an input file of videos, URIs or whole instances, one a line; returns its URI.

        Raises ValueError if the name cannot be an object's.
        """
        lines = "".join(json.dumps(as_instance(entry)) + "\n" for entry in instances)
        uri, _ = self._put(bucket, name, io.BytesIO(lines.encode()))
        return uri

    def wait(self, job: Any, state: str = "ended", *, timeout: float = _WAIT_S) -> Any:
        """Wait until a job is in a state, without the SDK's polling interval of five seconds.

        Args:
            job: the SDK's BatchPredictionJob, a message of a generated client, or a resource name.
            state: `RUNNING`, several as in `PENDING,RUNNING`, or `ended` for any final one.

        Returns the SDK's job, refreshed, or else the job's current message. Raises AssertionError if
        `timeout` seconds pass first.
        """
        self._wait(job, state, timeout)
        message = self._message(job)
        if not hasattr(job, "_gca_resource"):
            return message
        job._gca_resource = message
        return job

    async def wait_async(self, job: Any, state: str = "ended", *, timeout: float = _WAIT_S) -> Any:
        """Like `wait`, in a coroutine, without blocking its event loop."""
        import asyncio

        return await asyncio.to_thread(self.wait, job, state, timeout=timeout)

    def _message(self, job: Any) -> Any:
        """The current message of a job. No fault acts on this call, and the journal leaves it out."""
        name = job if isinstance(job, str) else getattr(job, "resource_name", None) or job.name
        return self.jobs.get_batch_prediction_job(name=name, metadata=[(_OBSERVER, "fixture")])

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
        """The calls of this test, oldest first: `requests("CreateBatchPredictionJob", status="OK")`.

        Covers every project, and Cloud Storage (`surface="storage"`); `project` narrows. Raises ControlError
        for an unknown method, status or surface.
        """
        if not self._every_project:
            narrowing = {"project": self.project, **narrowing}
        narrowing = {"after": self._began["request"], **narrowing}
        found = self.control.get("requests", method=method, **narrowing)
        listed: list[dict[str, Any]] = found["requests"]
        return listed

    def predictions(self, job: Any) -> Predictions:
        """The predictions of a job, in the SDK's own types. Raises ValueError while it has no output."""
        message = job if isinstance(job, str) else getattr(job, "_gca_resource", job)
        if (
            isinstance(message, str)
            or not message.output_info.gcs_output_directory
            or not _has_ended(message)
        ):
            message = self._message(job)
        if not _has_ended(message):
            raise ValueError(
                f"{message.name} is {message.state.name} and has no output yet; wait for it first:"
                " vertex_emulator.predictions(vertex_emulator.wait(job))."
            )
        directory = message.output_info.gcs_output_directory
        if not directory:
            reason = f" Its error: {message.error.message}" if message.error.message else ""
            raise ValueError(f"{message.name} has no output: it is {message.state.name}.{reason}")
        folder = self.buckets / directory.removeprefix("gs://")
        lines = [
            (line["instance"], [_parsed(one) for one in line["prediction"]])
            for line in _lines(folder, "predictions_*.jsonl")
        ]
        return Predictions(lines, list(_lines(folder, "errors_*.jsonl")), (self, message.name))

    def close(self, *, keep: bool = False) -> None:
        """Restore everything: remove what was created meanwhile, cancel running jobs, and reset paces,
        faults, the environment and the SDK. The corner's own bucket stays, for inspection.

        With `keep`, jobs, models and buckets stay, too.
        """
        self._parts.close()
        self.faults.remove()
        self.pace.restore()
        if keep:
            return
        narrow = {} if self._every_project else {"project": self.project}
        self.control.call("POST", "reset", {"after": self._began["time"], **narrow})
        if self._every_project and self.server.settings.storage_dir is None:
            for name in set(self._bucket_names()) - self._buckets_before - self.server.corner_buckets:
                shutil.rmtree(self.buckets / name, ignore_errors=True)

    def _bucket_names(self) -> list[str]:
        return [path.name for path in self.buckets.iterdir()] if self.buckets.is_dir() else []

    def put(self, name: str, content: BinaryIO) -> str:
        """Write an object into the test's bucket; returns its URI. Raises ValueError for a bad name."""
        return self._put(None, name, content)[0]

    def _put(self, bucket: str | None, name: str, content: BinaryIO) -> tuple[str, Path]:
        """Write an object; returns its URI and its file."""
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
        return str(uri), store.path_of(uri).path


def _has_ended(message: Any) -> bool:
    return message.state.name in _FINAL


def _lines(folder: Path, pattern: str) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob(pattern)):
        for line in file.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def _parsed(prediction: Mapping[str, Any]) -> Any:
    from google.cloud.aiplatform.v1.schema.predict.prediction_v1 import types

    from emulator.vertex.objectives import objective_of

    result = getattr(types, f"{objective_of(prediction).schema_title}PredictionResult")
    # Vertex: members beside those of the schema do occur in recorded output.
    return result.from_json(json.dumps(prediction), ignore_unknown_fields=True)
