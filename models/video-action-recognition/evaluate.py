"""Measures the model on clips it was not trained on: `python models/video-action-recognition/evaluate.py`.

The clips are encoded, decoded and predicted by the emulator's own code. Ends with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import cv2
from scenes import LABELS, random_clip

from emulator.factory import Clip, action_documentation_clip, render
from emulator.factory.action_scoring import ActionScore, score_actions
from emulator.inference.manifest import load_manifest
from emulator.inference.objectives import open_predictor
from emulator.inference.predictor import Predictor, Segment, Unwatched
from emulator.vertex.instances import InstanceFailure
from emulator.vertex.objectives.action_recognition import ActionPrediction
from emulator.vertex.parameters import ModelParameters

FOLDER = Path(__file__).parent
ACTING_SEEDS = range(900_000, 900_100)
CALM_SEEDS = range(910_000, 910_040)
TOLERANCES = (0.02, 0.05, 0.1, 0.2)
SUFFIXES = (".mp4", ".mp4", ".mov", ".avi")


@dataclass(frozen=True)
class Result:
    """One clip's outcome."""

    seed: int
    fps: float
    duration: float
    score: ActionScore
    truth: list[tuple[str, float]]
    found: list[tuple[str, float, float]]


@cache
def predictor(folder: Path) -> Predictor:
    """The model, loaded once in each process."""
    return open_predictor(load_manifest(folder), provider="cpu", threads=1)


def recognised(folder: Path, clip: Clip, suffix: str) -> tuple[ActionScore, list[tuple[str, float, float]]]:
    """Renders, encodes, decodes and predicts a clip: its score and (label, seconds, confidence) as found."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / f"clip{suffix}"
        truth = render(clip, path)
        (outcome,) = predictor(folder).predict(path, [Segment(0, None)], ModelParameters(), Unwatched())
    assert not isinstance(outcome[1], InstanceFailure)
    found = [one for one in outcome[1] if isinstance(one, ActionPrediction)]
    rows = [(one.label.display_name, one.time_us / 1e6, one.confidence) for one in found]
    lines = [{"displayName": label, "timeSegmentStart": f"{time}s"} for label, time, _ in rows]
    return score_actions(truth, lines), sorted(rows, key=lambda row: row[1])


def evaluated(folder: Path, acting: bool, seed: int) -> Result:
    """One random clip."""
    cv2.setNumThreads(1)
    clip = random_clip(seed, acting=acting)
    score, found = recognised(folder, clip, SUFFIXES[seed % len(SUFFIXES)])
    truth = sorted((m.label, m.time) for actor in clip.objects for m in actor.moments)
    return Result(seed, clip.fps, clip.duration, score, truth, found)


def total(results: list[Result], chosen: Callable[[Result], bool] = lambda _: True) -> ActionScore:
    """The sum over the chosen clips."""
    return sum((result.score for result in results if chosen(result)), ActionScore())


def counts(score: ActionScore) -> str:
    """F1 and what it is made of."""
    return f"F1 {score.f1:.3f} ({score.right} right, {score.false} false, {score.missed} missed)"


def report(results: list[Result]) -> None:
    """Figures over all acting clips, by frame rate and by label."""
    whole = total(results)
    late = sorted(whole.errors)[int(0.95 * len(whole.errors))] if whole.errors else 0.0
    print(f"{len(results)} clips: {counts(whole)}")
    print(f"  moments off by {whole.mean_error:.3f} s on average, 95 % within {late:.3f} s")
    curve = ", ".join(f"{whole.f1_within(tolerance):.3f} within ±{tolerance} s" for tolerance in TOLERANCES)
    print(f"  F1 over the tolerance: {curve}")
    for name, low, high in (("5 fps", 0, 7), ("10 to 15 fps", 7, 16), ("23.976 to 60 fps", 16, 99)):
        part = total(results, lambda result, low=low, high=high: low <= result.fps < high)  # type: ignore[misc]
        print(f"  {name}: {counts(part)}, {part.mean_error:.3f} s off")
    for label in LABELS:
        expected = sum(name == label for result in results for name, _ in result.truth)
        predicted = sum(name == label for result in results for name, _, _ in result.found)
        print(f"  {label}: {expected} there, {predicted} predicted")


def demonstrated(folder: Path) -> bool:
    """Whether the documentation's clip is answered as it should be."""
    _, found = recognised(folder, action_documentation_clip(), ".mp4")
    print(
        "documentation clip:",
        ", ".join(f"{label} at {time:.3f} s ({sure:.2f})" for label, time, sure in found),
    )
    sure = [(label, time) for label, time, confidence in found if confidence > 0.5]
    wanted = [("swing", 1.2), ("jump", 3.4)]
    return len(sure) == 2 and all(
        label == name and abs(time - at) <= 0.1
        for (label, time), (name, at) in zip(sure, wanted, strict=True)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=FOLDER)
    parser.add_argument("--clips", type=int, default=len(ACTING_SEEDS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--verbose", action="store_true", help="print every clip that is not perfect")
    options = parser.parse_args()
    calm_seeds = CALM_SEEDS[: max(1, len(CALM_SEEDS) * options.clips // len(ACTING_SEEDS))]
    with ProcessPoolExecutor(options.workers) as pool:
        results = list(pool.map(partial(evaluated, options.model, True), ACTING_SEEDS[: options.clips]))
        calm = list(pool.map(partial(evaluated, options.model, False), calm_seeds))
    report(results)
    minutes = sum(result.duration for result in calm) / 60
    false = total(calm).false
    print(f"{len(calm)} clips without actions: {false} false actions in {minutes:.1f} minutes")
    if options.verbose:
        for result in (*results, *calm):
            if result.score.false or result.score.missed:
                print(result.seed, f"{result.fps:g} fps", result.truth, result.found)
    shown = demonstrated(options.model)
    return 0 if total(results).f1 >= 0.95 and false <= minutes and shown else 1


if __name__ == "__main__":
    raise SystemExit(main())
