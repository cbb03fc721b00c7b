"""Measures the model on films it was not trained on: `python models/video-classification/evaluate.py`.

The films are encoded, decoded and predicted by the emulator's own code. Ends with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
from scenes import LABELS, random_film

from emulator.factory import LabelScore, Truth, documentation_clip, render, score_labels
from emulator.factory.scene import Scene
from emulator.inference.manifest import load_manifest
from emulator.inference.objectives import open_predictor
from emulator.inference.predictor import Predictor, Segment, Unwatched
from emulator.vertex.instances import InstanceFailure
from emulator.vertex.parameters import ModelParameters
from emulator.vertex.predictions import prediction_line

FOLDER = Path(__file__).parent
SEEDS = range(300_000, 300_100)
SUFFIXES = (".mp4", ".mp4", ".mov", ".avi")
SEGMENT, SHOT, SECOND = "segment-classification", "shot-classification", "one-sec-interval-classification"
EVERYTHING = ModelParameters(
    max_predictions=10_000, shot_classification=True, one_sec_interval_classification=True
)
GOAL = 0.95


@dataclass(frozen=True)
class Result:
    """One film's outcome. cuts: found, found wrongly, missed."""

    seed: int
    scores: Mapping[str, LabelScore]
    labels: Mapping[str, LabelScore]
    cuts: tuple[int, int, int]


@cache
def predictor(folder: Path) -> Predictor:
    """The model, loaded once in each process."""
    return open_predictor(load_manifest(folder), provider="cpu", threads=1)


def classified(folder: Path, scene: Scene, suffix: str) -> tuple[Truth, list[dict[str, Any]]]:
    """Renders, encodes, decodes and predicts: the truth, and the items of the output line."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / f"film{suffix}"
        truth = render(scene, path)
        ((_, found),) = predictor(folder).predict(path, [Segment(0, None)], EVERYTHING, Unwatched())
    assert not isinstance(found, InstanceFailure)
    return truth, json.loads(prediction_line("{}", found))["prediction"]


def evaluated(folder: Path, seed: int) -> Result:
    """One random film."""
    cv2.setNumThreads(1)
    truth, items = classified(folder, random_film(seed), SUFFIXES[seed % len(SUFFIXES)])
    scores = {kind: score_labels(truth, items, kind) for kind in (SEGMENT, SHOT, SECOND)}
    labels = {
        label: score_labels(truth, [one for one in items if one["displayName"] == label], SEGMENT)
        for label in LABELS
    }
    shots = {round(float(one["timeSegmentStart"][:-1]), 2) for one in items if one["type"] == SHOT} - {0.0}
    there = {round(cut / 1e6, 2) for cut in truth.cuts_us}
    return Result(seed, scores, labels, (len(shots & there), len(shots - there), len(there - shots)))


def counts(score: LabelScore) -> str:
    """F1 and what it is made of."""
    return f"F1 {score.f1:.3f} ({score.right} right, {score.false} false, {score.missed} missed)"


def demonstrated(folder: Path) -> bool:
    """Whether the documentation's clip is answered as it should be: a cat and a dog, and nothing else."""
    _, items = classified(folder, documentation_clip(), ".mp4")
    found = {one["displayName"]: one["confidence"] for one in items if one["type"] == SEGMENT}
    print("documentation clip:", ", ".join(f"{label} {sure:.3f}" for label, sure in found.items()))
    return {label for label, sure in found.items() if sure >= 0.5} == {"cat", "dog"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=FOLDER)
    parser.add_argument("--films", type=int, default=len(SEEDS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--verbose", action="store_true", help="print every film that is not perfect")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.workers) as pool:
        results = list(pool.map(partial(evaluated, options.model), SEEDS[: options.films]))
    totals = {
        kind: sum((one.scores[kind] for one in results), LabelScore()) for kind in (SEGMENT, SHOT, SECOND)
    }
    print(f"{len(results)} films")
    for kind, total in totals.items():
        print(f"  {kind}: {counts(total)}")
    for label in LABELS:
        print(f"  {label}, segments: {counts(sum((one.labels[label] for one in results), LabelScore()))}")
    right, wrong, missed = (sum(one.cuts[place] for one in results) for place in range(3))
    print(f"  cuts: {right} found, {wrong} found wrongly, {missed} missed")
    if options.verbose:
        for one in results:
            if one.scores[SEGMENT].false or one.scores[SEGMENT].missed or any(one.cuts[1:]):
                print(one.seed, {label: counts(score) for label, score in one.labels.items()}, one.cuts)
    shown = demonstrated(options.model)
    return 0 if totals[SEGMENT].f1 >= GOAL and shown else 1


if __name__ == "__main__":
    raise SystemExit(main())
