"""Measures the model on rendered clips it has never seen: `python models/video-object-tracking/evaluate.py`.

Needs no PyTorch: clips are encoded, decoded, detected and tracked by the emulator's own pipeline.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emulator.factory import (
    Clip,
    TrackingScore,
    Truth,
    documentation_clip,
    random_clip,
    render,
    score_tracking,
)
from emulator.inference.manifest import load_manifest
from emulator.inference.objectives import open_predictor
from emulator.inference.onnx_model import OnnxModel
from emulator.inference.predictor import Predictor, Segment, Unwatched
from emulator.vertex.instances import InstanceFailure
from emulator.vertex.parameters import ModelParameters
from emulator.vertex.predictions import prediction_line

FOLDER = Path(__file__).parent
THRESHOLD = 0.5
WANTED = {"precision": 0.95, "recall": 0.95, "track_f1": 0.95}


@dataclass(frozen=True)
class Outcome:
    """One clip's score at the threshold, without it, and the confidences of its tracks."""

    seed: int
    score: TrackingScore
    everything: TrackingScore
    confidences: tuple[float, ...]


def predict(predictor: Predictor, video: Path) -> list[dict[str, Any]]:
    """The `prediction` list of the output line for a whole video."""
    segments = [Segment(0, None)]
    ((_, found),) = predictor.predict(video, segments, ModelParameters(), Unwatched())
    if isinstance(found, InstanceFailure):
        raise RuntimeError(found.message)
    predictions: list[dict[str, Any]] = json.loads(prediction_line("{}", found))["prediction"]
    return predictions


def confident(predictions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [one for one in predictions if one["confidence"] >= THRESHOLD]


def run_clip(clip: Clip, predictor: Predictor) -> tuple[Truth, list[dict[str, Any]]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        return render(clip, path), predict(predictor, path)


def evaluate(seeds: Sequence[int], quick: bool = False) -> list[Outcome]:
    """Scores some random clips with a model opened once."""
    small: dict[str, Any] = {"size": (426, 240), "fps": 10, "duration": 3.0} if quick else {}
    predictor = open_predictor(load_manifest(FOLDER), threads=1)
    outcomes = []
    for seed in seeds:
        truth, found = run_clip(random_clip(seed, **small), predictor)
        confidences = tuple(one["confidence"] for one in found)
        score = score_tracking(truth, confident(found))
        outcomes.append(Outcome(seed, score, score_tracking(truth, found), confidences))
    return outcomes


def milliseconds_per_frame() -> float:
    """The model alone, on one core."""
    model = OnnxModel(load_manifest(FOLDER).graph)
    feed = {model.inputs[0].name: np.zeros([1, 3, 256, 256], np.float32)}
    names = [tensor.name for tensor in model.outputs]
    times = []
    for _ in range(50):
        began = time.perf_counter()
        model.run(names, feed)
        times.append(time.perf_counter() - began)
    return 1000 * min(times)


def _mistakes(score: TrackingScore) -> int:
    return score.predicted + score.expected - 2 * score.right


def report(outcomes: Sequence[Outcome]) -> bool:
    """Prints the figures; says whether all wanted ones are reached."""
    total = sum((one.score for one in outcomes), TrackingScore())
    everything = sum((one.everything for one in outcomes), TrackingScore())
    print(f"{len(outcomes)} clips, {total.expected} boxes, {total.tracks_expected} tracks")
    print(f"at confidence {THRESHOLD}:")
    reached = True
    for name, least in WANTED.items():
        value = getattr(total, name)
        reached &= value >= least
        print(f"  {name:<10} {value:.4f}  (wanted {least})")
    switches = 50 * total.id_switches / max(1, total.tracks_expected)
    reached &= switches <= 1
    print(f"  ID switches {total.id_switches}, {switches:.2f} per 50 tracks  (wanted 1)")
    print(f"  mean IoU of right boxes {total.mean_iou:.3f}")
    print(f"without a threshold: precision {everything.precision:.4f}, recall {everything.recall:.4f}")
    confidences = [value for one in outcomes for value in one.confidences]
    if confidences:
        print(f"confidence of a predicted track: median {statistics.median(confidences):.3f}")
    print("the clips with most mistakes:")
    for one in sorted(outcomes, key=lambda one: -_mistakes(one.score))[:8]:
        print(f"  seed {one.seed}: {one.score}")
    return reached


def report_documentation_clip() -> bool:
    """Prints how the documentation's clip is predicted; says whether it is right."""
    truth, found = run_clip(documentation_clip(), open_predictor(load_manifest(FOLDER), threads=1))
    wanted = truth.object_tracking()
    for one in found:
        segment = f"{one['timeSegmentStart']} to {one['timeSegmentEnd']}"
        print(f"  {one['displayName']} {segment} confidence {one['confidence']:.3f}")
    score = score_tracking(truth, confident(found))
    print(f"  mean IoU {score.mean_iou:.3f}")

    def spans(predictions: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
        return sorted(
            (one["displayName"], one["timeSegmentStart"], one["timeSegmentEnd"]) for one in predictions
        )

    return spans(wanted) == spans(confident(found)) and score.mean_iou >= 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description="Evaluate the object tracking model on held-out clips.")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=0, help="training uses seeds from 1,000,000")
    parser.add_argument("--quick", action="store_true", help="short clips of 426x240 at 10 frames a second")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    print("the documentation's clip:")
    reached = report_documentation_clip()
    seeds = [[seed] for seed in range(arguments.first_seed, arguments.first_seed + arguments.clips)]
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        outcomes = []
        for done in pool.imap_unordered(partial(evaluate, quick=arguments.quick), seeds):
            outcomes += done
            if len(outcomes) % 10 == 0:
                print(f"{len(outcomes)} of {arguments.clips} clips", flush=True)
    reached &= report(outcomes)
    print(f"model alone: {milliseconds_per_frame():.1f} ms a frame on one core")
    raise SystemExit(0 if reached else 1)


if __name__ == "__main__":
    main()
