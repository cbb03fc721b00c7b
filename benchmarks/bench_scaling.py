"""Whether the cost stays in proportion: to the video's length, the instances, their overlap, the picture.

All ratios are taken inside one run. Goals: a frame of a video of 9,000 frames costs at most 1.05 times one of
900; an instance of a job with 1,000 of them at most 1.05 times one of 10; 30 overlapping segments cost at
most 1.2 times the video as one segment; tracking takes at most 1.20 times its hard limit, which is that of
`bench_pipeline.py`, at every size of the picture. Where Ray is installed, `nodes.py` adds a table of its own.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import clips
import cv2
import numpy as np
from bench_fixture import ended
from bench_pipeline import WHOLE, Cost, Tracking, cost
from measure import arguments, interleaved, median, own_seconds, paired, report
from nodes import by_nodes

from emulator.factory import random_clip, render
from emulator.inference.manifest import ModelManifest
from emulator.inference.objectives import open_predictor
from emulator.inference.predictor import Predictor, Segment, Unwatched
from emulator.testing import Server, serve
from emulator.testing.videos import instance_of
from emulator.vertex.parameters import ModelParameters

EVERY = 3
SIZES = {
    "480p": ((854, 480), 900),
    "720p": ((1280, 720), 900),
    "1080p": ((1920, 1080), 600),
    "2160p": ((3840, 2160), 150),
}
REPEATS = 10
SEGMENTS, SEGMENT_S = 30, 10
INSTANCES, VIDEOS = (1, 10, 100, 1000), 10
INSTANCE_S = 0.5

Row = dict[str, object]


class Costs(NamedTuple):
    """What rounds took, a unit: seconds on the clock, and of all cores together."""

    wall_s: list[float]
    cpu_s: list[float]


def rounds(
    options: argparse.Namespace, samplers: Mapping[str, tuple[Callable[[], Cost], int]]
) -> dict[str, Costs]:
    """What each took for one of the so many units that it works through, in interleaved rounds."""
    works = {name: work for name, (work, _) in samplers.items()}
    samples = interleaved(options.rounds, works, guard=not options.no_guard)
    units = {name: count for name, (_, count) in samplers.items()}
    return {
        name: Costs([one.wall_s / units[name] for one in taken], [one.cpu_s / units[name] for one in taken])
        for name, taken in samples.items()
    }


def row(what: str, taken: Costs, unit: str, yardstick: tuple[str, Costs], goal: str = "-") -> Row:
    to, base = yardstick
    return {
        "what": what,
        "ms": 1000 * median(taken.wall_s),
        "a": unit,
        "ratio": paired(taken.wall_s, base.wall_s),
        "CPU ratio": paired(taken.cpu_s, base.cpu_s),
        "to": to,
        "goal": goal,
    }


def by_length(options: argparse.Namespace, manifest: ModelManifest, folder: Path) -> Iterator[Row]:
    """A video, and the same ten times in a row."""
    size, frames = SIZES["720p"]
    short = clips.cached_clip(size, frames)
    long = clips.write_repeated(folder / "long.mp4", short, REPEATS)
    taken = rounds(
        options,
        {
            "short": (Tracking(short, manifest, EVERY).product, frames),
            "long": (Tracking(long, manifest, EVERY).product, frames * REPEATS),
        },
    )
    yardstick = (f"{frames:,} frames", taken["short"])
    yield row(f"length: {frames:,} frames", taken["short"], "frame", yardstick)
    yield row(f"length: {frames * REPEATS:,} frames", taken["long"], "frame", yardstick, "<= 1.05")


def by_overlap(options: argparse.Namespace, manifest: ModelManifest, _folder: Path) -> Iterator[Row]:
    """Many segments anywhere in a video, and the video as a whole."""
    size, frames = SIZES["720p"]
    video, predictor = clips.cached_clip(size, frames), open_predictor(manifest)
    latest_us = (frames // clips.FPS - SEGMENT_S) * 1_000_000
    starts = np.random.default_rng(1).integers(0, latest_us, SEGMENTS).tolist()
    many = [Segment(start, start + SEGMENT_S * 1_000_000) for start in starts]
    taken = rounds(
        options,
        {
            "one": (partial(predicted, predictor, video, WHOLE), 1),
            "many": (partial(predicted, predictor, video, many), 1),
        },
    )
    yardstick = ("one segment", taken["one"])
    yield row(f"overlap: {frames // clips.FPS} s as one segment", taken["one"], "video", yardstick)
    what = f"overlap: {SEGMENTS} segments of {SEGMENT_S} s in it"
    yield row(what, taken["many"], "video", yardstick, "<= 1.2")


def predicted(predictor: Predictor, video: Path, segments: Sequence[Segment]) -> Cost:
    return cost(lambda: list(predictor.predict(video, segments, ModelParameters(), Unwatched())))


def by_size(options: argparse.Namespace, manifest: ModelManifest, _folder: Path) -> Iterator[Row]:
    """The same film at several sizes, each against its own hard limit."""
    for name, (size, frames) in SIZES.items():
        job = Tracking(clips.cached_clip(size, frames), manifest, EVERY)
        taken = rounds(options, {"limit": (job.limit, frames), "product": (job.product, frames)})
        yield row(f"picture: {name}", taken["product"], "frame", ("hard limit", taken["limit"]), "<= 1.20")


def by_instances(options: argparse.Namespace, _manifest: ModelManifest, folder: Path) -> Iterator[Row]:
    """Jobs of a server, from the call that creates them to the last state, over the bundled model."""
    bucket = folder / "server" / "data" / "buckets" / "bucket"
    bucket.mkdir(parents=True)
    seconds = INSTANCE_S * max(INSTANCES) / VIDEOS
    render(random_clip(3, size=(320, 180), fps=10, duration=seconds), bucket / "0.mp4")
    for number in range(1, VIDEOS):
        (bucket / f"{number}.mp4").hardlink_to(bucket / "0.mp4")
    for count in INSTANCES:
        lines = "".join(f"{json.dumps(instance(number))}\n" for number in range(count))
        (bucket / f"{count}.jsonl").write_text(lines, encoding="utf-8")
    with serve({"prediction_cache_mb": 0}, folder=folder / "server") as server:
        job(server, min(INSTANCES))  # warms it up
        each = rounds(options, {str(count): (partial(job, server, count), count) for count in INSTANCES})
    for count in INSTANCES:
        goal = "<= 1.05" if count == max(INSTANCES) else "-"
        yardstick = (f"{VIDEOS} instances", each[str(VIDEOS)])
        yield row(f"instances: {count:,}", each[str(count)], "instance", yardstick, goal)


def instance(number: int) -> dict[str, str]:
    """Segments of the videos in turn, one after the other."""
    start = number // VIDEOS * INSTANCE_S
    return instance_of(f"gs://bucket/{number % VIDEOS}.mp4", f"{start}s", f"{start + INSTANCE_S}s")


def job(server: Server, count: int) -> Cost:
    """Run a job of so many instances."""
    wall, cpu = time.perf_counter(), own_seconds()
    done = ended(server, f"gs://bucket/{count}.jsonl", "gs://bucket/output")
    taken = Cost(time.perf_counter() - wall, own_seconds() - cpu)
    if int(done["completionStats"].get("successfulCount", 0)) != count:
        raise SystemExit(f"Not every instance was predicted: {done}")
    return taken


def main() -> None:
    options = arguments(__doc__)
    cv2.setNumThreads(1)  # as a worker does
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        manifest = clips.detector(Path(name), clips.FPS // EVERY)
        for measure in (by_length, by_overlap, by_size, by_instances):
            rows += measure(options, manifest, Path(name))
    report("Cost in proportion", rows, options.json)
    with tempfile.TemporaryDirectory() as name:
        if nodes := list(by_nodes(Path(name))):
            report("Throughput by nodes", nodes)


if __name__ == "__main__":
    main()
