"""Runs another system's tracking in a process of its own, for `bench_peers.py`: `peers.py NAME JOB`.

JOB is JSON. Once everything is loaded it prints "ready" and the system's version; for each line on standard
input it runs the job and prints what that took, as JSON. What libraries print goes to standard error.
"""

import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

Run = Callable[[], int]
"""Tracks the video once; returns how many boxes have a track."""


@dataclass(frozen=True)
class PeerJob:
    """What to track, and with what: as a model folder of ours, and as a graph that ultralytics can read."""

    video: str
    every: int
    model_folder: str
    columns_graph: str
    image_size: int
    least_score: float
    nms_iou: float


@dataclass(frozen=True)
class Took:
    """Seconds on the clock and of all cores, and how many boxes got a track."""

    wall_s: float
    cpu_s: float
    boxes: int


def ultralytics(job: PeerJob) -> Run:
    """`YOLO.track` on the file."""
    os.environ["YOLO_CONFIG_DIR"] = tempfile.mkdtemp()
    library = importlib.import_module("ultralytics")
    library.settings.update({"sync": False})
    model = library.YOLO(job.columns_graph, task="detect")

    def results() -> Iterable[Any]:
        return model.track(  # type: ignore[no-any-return]
            job.video,
            stream=True,
            tracker="bytetrack.yaml",
            vid_stride=job.every,
            imgsz=job.image_size,
            conf=job.least_score,
            iou=job.nms_iou,
            device="cpu",
            verbose=False,
        )

    next(iter(results()))  # loads the graph
    return lambda: sum(len(result.boxes.id) for result in results() if result.boxes.id is not None)


def trackers(job: PeerJob) -> Run:
    """The naive loop with the ByteTrack of `trackers` in it."""
    from bench_pipeline import Tracking
    from bench_tracker import theirs
    from clips import FPS

    from emulator.inference.heads import Detections
    from emulator.inference.manifest import load_manifest

    library, supervision = importlib.import_module("trackers"), importlib.import_module("supervision")
    counts: list[int] = []

    class TutorialLoop(Tracking):
        def tracker(self) -> Callable[[Detections, int], object]:
            update = theirs(library, supervision, FPS // job.every)

            def counted(found: Detections, time_us: int) -> None:
                counts.append(int((update(found, time_us).tracker_id >= 0).sum()))

            return counted

    loop = TutorialLoop(Path(job.video), load_manifest(Path(job.model_folder)), job.every)

    def run() -> int:
        counts.clear()
        loop.loop()
        return sum(counts)

    return run


PEERS: Mapping[str, Callable[[PeerJob], Run]] = {"ultralytics": ultralytics, "trackers": trackers}


def timed(run: Run) -> Took:
    wall, cpu = time.perf_counter(), time.process_time()
    boxes = run()
    return Took(time.perf_counter() - wall, time.process_time() - cpu, boxes)


def main(name: str, job: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    run = PEERS[name](PeerJob(**json.loads(job)))
    print("ready", version(name), file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps(asdict(timed(run))), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
