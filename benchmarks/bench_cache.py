"""What the prediction cache saves, and what it costs a job that finds nothing in it.

A minute of 720p at the ten frames a second of Vertex, by the detector that `bench_pipeline.py` describes, as
a worker does it: the model is loaded, the first job has to read the video for its digest. All ratios are
taken inside one run. Goals: a first job costs at most 1.02 of one without the cache; the same job again, and
one with another confidenceThreshold, at most 0.05 of the first.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import clips
import cv2
from bench_pipeline import Cost, cost
from measure import arguments, interleaved, median, paired, report

from emulator.execution.shards import ModelUse, Predicted, Predictors, Shard, ShardItem, run
from emulator.inference.prediction_cache import CachePlace
from emulator.inference.predictor import Unwatched
from emulator.storage import LocalStore
from emulator.testing.videos import instance_of
from emulator.vertex.parameters import ModelParameters

RATE, SECONDS = 10, 60
#: The video is a piece of this length again and again, whose encoding would take longer than all else.
PIECE_S = 5
SIZE = (1280, 720)

WITHOUT, FIRST = "without the cache", "the first job, which finds nothing"
AGAIN, THRESHOLD = "the same job again", "another confidenceThreshold"
HALF = "a segment twice as long"


class Jobs:
    """Jobs on one video, over a cache that is empty or has what a first one left."""

    def __init__(self, folder: Path, seconds: int) -> None:
        self._model = ModelUse(clips.detector(folder, RATE).folder, "cpu")
        piece = clips.cached_clip(SIZE, PIECE_S * clips.FPS)
        self._video = clips.write_repeated(folder / "clip.mp4", piece, seconds // PIECE_S)
        self._us = seconds * 1_000_000
        self._places = {name: CachePlace(folder / name, 500_000_000) for name in ("new", "filled", "half")}
        # Once, so that the file lies in memory for all.
        predicted(Predictors(), self._model, self._video, self._us)
        self._full = self.with_cache("filled")
        self._full(self._us)
        surer = ModelParameters(confidence_threshold=0.7, asks_threshold=True)
        self._sure = self.with_cache("filled", surer)
        self._sure(self._us)

    def with_cache(self, name: str, parameters: ModelParameters | None = None) -> Callable[[int], None]:
        """A worker that has the model in memory."""
        use, predictors = replace(self._model, cache=self._places[name]), Predictors()
        predictors.get(use)
        return lambda us: predicted(predictors, use, self._video, us, parameters)

    def sample_without(self) -> Cost:
        predictors = Predictors()
        predictors.get(self._model)
        return cost(lambda: predicted(predictors, self._model, self._video, self._us))

    def sample_first(self) -> Cost:
        shutil.rmtree(self._places["new"].folder, ignore_errors=True)
        job = self.with_cache("new")
        return cost(lambda: job(self._us))

    def sample_again(self) -> Cost:
        return cost(lambda: self._full(self._us))

    def sample_threshold(self) -> Cost:
        return cost(lambda: self._sure(self._us))

    def sample_half(self) -> Cost:
        shutil.rmtree(self._places["half"].folder, ignore_errors=True)
        job = self.with_cache("half")
        job(self._us // 2)
        return cost(lambda: job(self._us))

    def size_mb(self) -> float:
        return sum(path.stat().st_size for path in self._places["filled"].folder.iterdir()) / 1e6


def predicted(
    predictors: Predictors,
    use: ModelUse,
    video: Path,
    end_us: int,
    parameters: ModelParameters | None = None,
) -> None:
    item = ShardItem(0, json.dumps(instance_of("gs://bucket/clip.mp4")), 0, end_us)
    given = parameters or ModelParameters()
    shard = Shard("benchmark", use, video, LocalStore(video.parent), (item,), given)
    (outcome,) = run(shard, predictors.get(use), Unwatched())
    if not isinstance(outcome, Predicted):
        raise SystemExit(f"The video could not be predicted: {outcome.failure.message}")


def measured(options: argparse.Namespace, jobs: Jobs) -> list[dict[str, object]]:
    samplers = {
        WITHOUT: jobs.sample_without,
        FIRST: jobs.sample_first,
        AGAIN: jobs.sample_again,
        THRESHOLD: jobs.sample_threshold,
        HALF: jobs.sample_half,
    }
    taken = interleaved(options.rounds, samplers, guard=not options.no_guard)
    goals = {FIRST: "<= 1.02", AGAIN: "<= 0.05", THRESHOLD: "<= 0.05"}
    rows: list[dict[str, object]] = []
    for name, costs in taken.items():
        base = taken[WITHOUT if name == FIRST else FIRST]
        rows.append(
            {
                "what": name,
                "ms": 1000 * median([one.wall_s for one in costs]),
                "ratio": paired([one.wall_s for one in costs], [one.wall_s for one in base]),
                "CPU ratio": paired([one.cpu_s for one in costs], [one.cpu_s for one in base]),
                "to": "without" if name == FIRST else "the first",
                "goal": goals.get(name, "-"),
            }
        )
    return rows


def main() -> None:
    options = arguments(__doc__, seconds=(SECONDS, "length of the video"))
    cv2.setNumThreads(1)  # as a worker does
    with tempfile.TemporaryDirectory() as name:
        jobs = Jobs(Path(name), options.seconds)
        rows = measured(options, jobs)
        print(f"  (the cache takes {jobs.size_mb():.3f} MB)")
    report("Never infer twice", rows, options.json)


if __name__ == "__main__":
    main()
