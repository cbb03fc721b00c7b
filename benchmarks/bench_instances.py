"""One job of a thousand to a million instances: time per instance, the server's memory, calls meanwhile.

A canned model answers, so the figures are those of reading the input, sharing it out, recording and writing.
A hundred instances share a video. While a job runs, another client lists jobs as the console does. Goals:
an instance of a million costs at most 1.2 times one of a thousand; the server stays under 300 MB; the 99th
percentile of a list is at most 250 ms.
"""

import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from bench_api import PARENT, emulator
from measure import arguments, report, resident_mb

SIZES = (1_000, 10_000, 100_000, 1_000_000)
#: A job before the one that is measured: it waits until the workers are up.
WARM_UP = 10
INSTANCES_PER_VIDEO = 100
BOX = {"timeOffset": "0.5s", "xMin": 0.1, "xMax": 0.2, "yMin": 0.3, "yMax": 0.4}
TRACK = {"id": "1", "displayName": "car", "confidence": 0.9, "frames": [BOX]}
GOALS = {"ratio": "<= 1.2", "peak MB": "<= 300", "list p99 ms": "<= 250"}


def write_input(path: Path, instances: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="ascii") as file:
        for number in range(instances):
            video, second = divmod(number, INSTANCES_PER_VIDEO)
            line = {
                "content": f"gs://bucket/videos/{video:06}.mp4",
                "mimeType": "video/mp4",
                "timeSegmentStart": f"{second}.0s",
                "timeSegmentEnd": f"{second + 1}.0s",
            }
            file.write(json.dumps(line) + "\n")


@dataclass
class Watched:
    """What another client sees while a job runs: the time of each list, and the server's largest memory."""

    lists_s: list[float] = field(default_factory=list)
    peak_mb: float = 0.0

    @property
    def p99_ms(self) -> float:
        return sorted(self.lists_s)[int(len(self.lists_s) * 0.99)] * 1000


@contextmanager
def watching(port: int, pid: int) -> Iterator[Watched]:
    """List jobs ten times a second until the end of the block."""
    watched, ended = Watched(), threading.Event()

    def watch() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as http:
            while not watched.lists_s or not ended.wait(0.1):
                began = time.perf_counter()
                http.get(f"/v1/{PARENT}/batchPredictionJobs?pageSize=50").raise_for_status()
                watched.lists_s.append(time.perf_counter() - began)
                watched.peak_mb = max(watched.peak_mb, resident_mb(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield watched
    finally:
        ended.set()
        thread.join()


def run(http: httpx.Client, instances: int) -> float:
    """Run a job over that many instances; seconds from its creation to its end."""
    job = {
        "displayName": f"{instances} instances",
        "model": f"{PARENT}/models/canned",
        "inputConfig": {
            "instancesFormat": "jsonl",
            "gcsSource": {"uris": [f"gs://bucket/{instances}.jsonl"]},
        },
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": f"gs://bucket/out-{instances}"},
        },
    }
    began = time.perf_counter()
    answer = http.post(f"/v1/{PARENT}/batchPredictionJobs", json=job).raise_for_status().json()
    while answer["state"] in ("JOB_STATE_PENDING", "JOB_STATE_QUEUED", "JOB_STATE_RUNNING"):
        time.sleep(min(0.5, instances / 100_000))
        answer = http.get(f"/v1/{answer['name']}").raise_for_status().json()
    took = time.perf_counter() - began
    if answer["completionStats"] != {"successfulCount": str(instances)}:
        raise SystemExit(f"The job of {instances} instances ended with {answer}")
    return took


def measure(folder: Path, instances: int) -> dict[str, float]:
    """One job on a server of its own."""
    for size in (WARM_UP, instances):
        write_input(folder / "buckets" / "bucket" / f"{size}.jsonl", size)
    with (
        emulator(folder, "--log-level", "warning", "--no-bundled-models") as (server, port, _),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as http,
    ):
        lines = [{"video": "*", "prediction": [TRACK]}]
        model = {"parent": PARENT, "modelId": "canned", "objective": "object_tracking", "lines": lines}
        http.post("/_emulator/canned", json=model).raise_for_status()
        run(http, WARM_UP)
        with watching(port, server.pid) as watched:
            took = run(http, instances)
    return {"us": took / instances * 1e6, "peak": watched.peak_mb, "list": watched.p99_ms}


def main() -> None:
    options = arguments(__doc__, instances=(SIZES[-1], "the largest job"))
    rows: list[dict[str, object]] = []
    for instances in (size for size in SIZES if size <= options.instances):
        with tempfile.TemporaryDirectory() as name:
            found = measure(Path(name), instances)
        first = float(str(rows[0]["us an instance"])) if rows else found["us"]
        rows.append(
            {
                "instances": f"{instances:,}",
                "us an instance": found["us"],
                "ratio": found["us"] / first,
                "peak MB": found["peak"],
                "list p99 ms": found["list"],
            }
        )
        print(rows[-1], flush=True)
    report("One job of many instances", rows, options.json)


if __name__ == "__main__":
    main()
