"""Runs the documentation's two examples in one call: clips, input files and jobs."""

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from emulator.service.context import Call, Context, Reply
from emulator.storage import GcsUri, ObjectNotFound
from emulator.vertex.errors import FailedPrecondition, Internal
from emulator.vertex.messages import from_json
from emulator.vertex.names import LocationName, ModelName

BUCKET = "documentation-example"
_EXAMPLES = ("object-tracking", "action-recognition")
_SUFFIX = ".webm"  # of the factory's examples, which browsers play
_SEGMENT = {"timeSegmentStart": "1s", "timeSegmentEnd": "5s"}
_THRESHOLD = 0.5
_POLL_S = 0.2
_SHOWN_OF_ERROR = 500


class Examples:
    """Renders the example clips once, in processes of their own, and creates a job for each."""

    def __init__(
        self, context: Context, create: Callable[[Any, Call], Reply], find_model: Callable[[ModelName], Any]
    ) -> None:
        self._context = context
        self._create = create
        self._find_model = find_model
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def run(self, parent: str) -> dict[str, Any]:
        """Create the two jobs in a location; returns their names. The first call also renders the clips."""
        place = LocationName.parse(parent)
        for name in _EXAMPLES:
            self._find_model(ModelName(place.project, place.location, f"video-{name}"))
        with self._lock:
            self._provide(_EXAMPLES)
        jobs = [self._create_job(parent, name) for name in _EXAMPLES]
        return {"jobs": [job.name for job in jobs]}

    def close(self) -> None:
        """Stop rendering."""
        self._closed.set()

    def _provide(self, names: Sequence[str]) -> None:
        missing = [name for name in names if not self._is_there(_object(f"{name}{_SUFFIX}"))]
        with tempfile.TemporaryDirectory(prefix="vertex-emulator-") as folder:
            self._render({name: Path(folder, f"{name}{_SUFFIX}") for name in missing})
            # Videos are copied last: if a video exists, its truth file does too.
            for path in sorted(Path(folder).iterdir(), key=lambda path: path.suffix == _SUFFIX):
                self._write(_object(path.name), path.read_bytes())
        for name in names:
            line = {"content": str(_object(f"{name}{_SUFFIX}")), "mimeType": "video/mp4", **_SEGMENT}
            self._write(_object(f"{name}.jsonl"), json.dumps(line).encode() + b"\n")

    def _render(self, paths: dict[str, Path]) -> None:
        command = [sys.executable, "-m", "emulator.factory.example"]
        processes = [
            subprocess.Popen([*command, name, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            for name, path in paths.items()
        ]
        try:
            for process in processes:
                self._wait_for(process)
        finally:
            for process in processes:
                process.kill()
                process.communicate()

    def _wait_for(self, process: subprocess.Popen[bytes]) -> None:
        while True:
            try:
                _, errors = process.communicate(timeout=_POLL_S)
                break
            except subprocess.TimeoutExpired:
                if self._closed.is_set():
                    raise FailedPrecondition("The server stops.") from None
        if process.returncode:
            said = errors.decode(errors="replace").strip()[-_SHOWN_OF_ERROR:]
            raise Internal(f"The example's clip could not be rendered: {said or process.returncode}")

    def _create_job(self, parent: str, name: str) -> Any:
        body = {
            "parent": parent,
            "batchPredictionJob": {
                "displayName": f"Documentation: {name.replace('-', ' ')}",
                "model": f"{parent}/models/video-{name}",
                "modelParameters": {"confidenceThreshold": _THRESHOLD},
                "inputConfig": {
                    "instancesFormat": "jsonl",
                    "gcsSource": {"uris": [str(_object(f"{name}.jsonl"))]},
                },
                "outputConfig": {
                    "predictionsFormat": "jsonl",
                    "gcsDestination": {"outputUriPrefix": str(_object("results"))},
                },
            },
        }
        return self._create(from_json(self._context.v1.CreateBatchPredictionJobRequest, body), Call()).message

    def _is_there(self, uri: GcsUri) -> bool:
        try:
            self._context.store.stat(uri)
        except ObjectNotFound:
            return False
        return True

    def _write(self, uri: GcsUri, data: bytes) -> None:
        with self._context.store.write(uri) as file:
            file.write(data)


def _object(name: str) -> GcsUri:
    return GcsUri(BUCKET, name)
