"""What a test costs with the pytest plugin, and what the emulator adds to the work of a job.

Goals: 100 tests, each with its own job, over gRPC, under 15 s over a canned model and at most 1.15 times that
over the bundled ONNX model, with -n 2 on 2 cores; at most 2 s from the start of the fixture to the first job
that has SUCCEEDED; at most 15 ms of overhead a job when warm (created until its output is read, less the same
pipeline called directly); the first job after the start at most 1.5 times a steady one.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measure import arguments, interleaved, median, paired, report

from emulator.execution.shards import ModelUse, Predicted, Shard, ShardItem, run
from emulator.factory import Clip, Object, render
from emulator.inference.manifest import load_manifest
from emulator.inference.objectives import open_predictor
from emulator.inference.predictor import Predictor, Unwatched
from emulator.registry import bundled_models
from emulator.storage import LocalStore
from emulator.testing import Server, serve
from emulator.testing.videos import instance_of
from emulator.vertex.parameters import ModelParameters

PARENT = "projects/my-project/locations/us-central1"
MODEL = "video-object-tracking"
CLIP = Clip(
    size=(320, 180),
    fps=10,
    duration=2.0,
    background="landscape",
    objects=[Object("cat", start=0.4, end=1.6, path=[(0.1, 0.4, 0.4, 0.8), (0.4, 0.4, 0.7, 0.8)])],
)
STEADY_JOBS = 10
PAIRS = 20

MODULE = """
import pytest
from google.cloud import aiplatform

from bench_fixture import CLIP


@pytest.mark.parametrize("number", range(100))
def test_job(vertex_emulator, canned, number):
    video = vertex_emulator.upload_video(CLIP)
    job = aiplatform.BatchPredictionJob.submit(
        job_display_name=f"job {number}",
        model_name=MODEL,
        gcs_source=vertex_emulator.write_instances(video),
        gcs_destination_prefix=f"gs://{vertex_emulator.bucket}/output",
    )
    assert len(vertex_emulator.predictions(vertex_emulator.wait(job)).lines) == 1
"""


def module_of_tests(model: str) -> tuple[float, float]:
    """Seconds for a run of pytest over 100 tests with a job each: by the clock, and of all cores' time."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_jobs.py").write_text(MODULE.replace("MODEL", model), encoding="utf-8")
        # Without the plugins that only this project's own tests need.
        others = [f"-pno:{name}" for name in ("hypothesispytest", "schemathesis", "cacheprovider")]
        options = ["-q", "-n", "2", *others]
        command = [sys.executable, "-m", "pytest", *options, "-o", f"pythonpath={Path(__file__).parent}"]
        started, used = time.perf_counter(), _children_seconds()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        taken, used = time.perf_counter() - started, _children_seconds() - used
    if "100 passed" not in done.stdout:
        raise SystemExit(done.stdout + done.stderr)
    return taken, used


def _children_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system


@contextmanager
def prepared_server(folder: Path, clip: Path) -> Iterator[tuple[Server, float]]:
    """A server whose bucket holds the clip and the input; and the moment before it was started."""
    bucket = folder / "data" / "buckets" / "my-bucket"
    bucket.mkdir(parents=True)
    (bucket / "clip.mp4").write_bytes(clip.read_bytes())
    line = json.dumps(instance_of("gs://my-bucket/clip.mp4"))
    (bucket / "instances.jsonl").write_text(f"{line}\n", encoding="utf-8")
    started = time.perf_counter()
    # What a job costs is measured, not what the cache saves.
    settings = {"workers": 1, "provider": "cpu", "worker_threads": 2, "prediction_cache_mb": 0}
    with serve(settings, folder=folder) as server:
        yield server, started


def call(server: Server, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{server.url}/v1/{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def job(server: Server) -> float:
    """Seconds from creating a job until its output has been read."""
    started = time.perf_counter()
    done = ended(server, "gs://my-bucket/instances.jsonl", "gs://my-bucket/output")
    directory = done["outputInfo"]["gcsOutputDirectory"].removeprefix("gs://")
    (file,) = (server.settings.buckets / directory).glob("predictions_*.jsonl")
    assert len(file.read_text(encoding="utf-8").splitlines()) == 1
    return time.perf_counter() - started


def ended(server: Server, source: str, destination: str) -> Any:
    """Create a job and wait for its end; what a GET says of it then."""
    job = {
        "displayName": "benchmark",
        "model": f"{PARENT}/models/{MODEL}",
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": [source]}},
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": destination},
        },
    }
    name = call(server, f"{PARENT}/batchPredictionJobs", job)["name"]
    # The server holds each GET until the job has moved.
    while (done := call(server, name))["state"] in ("JOB_STATE_PENDING", "JOB_STATE_RUNNING"):
        pass
    return done


def direct(predictor: Predictor, clip: Path) -> float:
    """Seconds of the same pipeline without a server: decode, detect, track, the line of output."""
    started = time.perf_counter()
    item = ShardItem(0, json.dumps(instance_of("gs://my-bucket/clip.mp4")), 0, None)
    use = ModelUse(bundled_models() / MODEL)
    parameters = ModelParameters()
    shard = Shard("benchmark", use, clip, LocalStore(clip.parent), (item,), parameters)
    (outcome,) = run(shard, predictor, Unwatched())
    assert isinstance(outcome, Predicted)
    return time.perf_counter() - started


def first_success(clip: Path) -> tuple[float, float, float]:
    """Seconds from the fixture's start to the first success; of the first job once ready; of a steady one."""
    with tempfile.TemporaryDirectory() as folder, prepared_server(Path(folder), clip) as (server, started):
        job(server)
        to_success = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder, prepared_server(Path(folder), clip) as (server, _):
        while not ready(server):
            time.sleep(0.01)
        first = job(server)
        return to_success, first, median([job(server) for _ in range(STEADY_JOBS)])


def ready(server: Server) -> bool:
    try:
        with urllib.request.urlopen(f"{server.url}/_emulator/ready", timeout=10):
            return True
    except urllib.error.HTTPError:
        return False


def main() -> None:
    options = arguments(__doc__)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        render(CLIP, clip)

        starts = [first_success(clip) for _ in range(options.rounds)]
        rows.append(_row("fixture start to first success", median([start[0] for start in starts]), "<= 2 s"))
        ratio = median([first / steady for _, first, steady in starts])
        rows.append({"what": "first job / steady job", "figure": ratio, "unit": "times", "goal": "<= 1.5"})

        predictor = open_predictor(load_manifest(bundled_models() / MODEL), provider="cpu", threads=2)
        with prepared_server(Path(folder) / "server", clip) as (server, _):
            job(server)
            direct(predictor, clip)
            samplers = {"job": lambda: job(server), "direct": lambda: direct(predictor, clip)}
            taken = interleaved(PAIRS, samplers, guard=not options.no_guard)
        overhead = median([a - b for a, b in zip(taken["job"], taken["direct"], strict=True)])
        rows.append(_row("a warm job, created until read", median(taken["job"]), ""))
        rows.append(_row("the same pipeline called directly", median(taken["direct"]), ""))
        rows.append(_row("overhead of a job, median of pairs", overhead, "<= 15 ms"))

    models = {"a canned": "canned(video)", "the ONNX": repr(MODEL)}
    modules = {name: lambda model=model: module_of_tests(model) for name, model in models.items()}
    samples = interleaved(options.rounds, modules, guard=False)
    for name, goal in (("a canned", "< 15 s"), ("the ONNX", "")):
        rows.append(_row(f"100 tests over {name} model, -n 2", median([s for s, _ in samples[name]]), goal))
        # On a machine that others keep busy this says more than the clock.
        used = median([used_s for _, used_s in samples[name]])
        rows.append(_row(f"100 tests over {name} model: processor time", used, ""))
    ratio = paired([s for s, _ in samples["the ONNX"]], [s for s, _ in samples["a canned"]])
    rows.append({"what": "ONNX / canned", "figure": ratio, "unit": "times", "goal": "<= 1.15"})
    report("The fixture", rows, options.json)


def _row(what: str, seconds: float, goal: str) -> dict[str, object]:
    in_s = goal.endswith(" s") or (seconds >= 1 and not goal)
    figure, unit = (seconds, "s") if in_s else (1000 * seconds, "ms")
    return {"what": what, "figure": figure, "unit": unit, "goal": goal or "-"}


if __name__ == "__main__":
    main()
