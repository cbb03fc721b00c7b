"""What following objects costs a frame: both trackers beside `trackers`' ByteTrack, on the same detections.

Goal: at 100 objects at most 1 ms a frame. The other tracker is in the environment of `bench_peers.py`, with
which `run.py tracker` runs this, and in that of `make test-accuracy`; without it only ours are measured.
"""

import importlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from measure import arguments, interleaved, median, paired, report

from emulator.inference.heads import Detections
from emulator.inference.objectives.object_tracking import TRACKERS
from emulator.inference.sections import TrackerSection

FRAMES = 200
COUNTS = (5, 20, 100)
STEP_US = 100_000
CLASSES = 4

Update = Callable[[Detections, int], object]


def walkers(count: int) -> list[Detections]:
    """Objects that walk to and fro, one in ten missed, one in five unsure, and one false box for ten."""
    rng = np.random.default_rng(count)
    phase, speed = rng.uniform(0, 2, (count, 2)), rng.uniform(-0.1, 0.1, (count, 2))
    size, classes = rng.uniform(0.02, 0.08, (count, 2)), rng.integers(0, CLASSES, count)
    frames = []
    for number in range(FRAMES):
        centre = np.abs((phase + speed * number / 10) % 2 - 1)
        seen = rng.random(count) >= 0.1
        false = rng.random((count // 10, 2))
        middle = np.concatenate([centre[seen], false])
        half = np.concatenate([size[seen], np.full_like(false, 0.05)]) / 2
        frames.append(
            Detections(
                np.concatenate([middle - half, middle + half], axis=1).astype(np.float32),
                np.where(rng.random(len(middle)) < 0.2, 0.3, 0.9).astype(np.float32),
                np.concatenate([classes[seen], rng.integers(0, CLASSES, len(false))]),
            )
        )
    return frames


def milliseconds(new: Callable[[], Update], frames: Sequence[Detections]) -> float:
    """CPU time a frame, of a tracker that begins anew."""
    update = new()
    began = time.process_time()
    for number, found in enumerate(frames):
        update(found, number * STEP_US)
    return 1000 * (time.process_time() - began) / len(frames)


def ours(kind: str) -> Update:
    return TRACKERS[kind](TrackerSection(kind=kind)).update


def theirs(trackers: Any, supervision: Any, frame_rate: int = 10) -> Callable[[Detections, int], Any]:
    """The tracker of `trackers`; gives what it says of a frame's detections."""
    tracker = trackers.ByteTrackTracker(frame_rate=frame_rate)

    def update(found: Detections, time_us: int) -> Any:
        boxes = found.boxes.astype(np.float64) * 1000
        there = supervision.Detections(xyxy=boxes, confidence=found.scores, class_id=found.classes)
        return tracker.update(there, timestamp=time_us / 1e6)

    return update


def contestants() -> dict[str, Callable[[], Update]]:
    """The trackers, the yardstick last."""
    found: dict[str, Callable[[], Update]] = {kind: partial(ours, kind) for kind in TRACKERS}
    try:
        trackers, supervision = map(importlib.import_module, ("trackers", "supervision"))
    except ImportError:
        print("`trackers` is not installed here: no yardstick.")
    else:
        found["trackers' ByteTrack"] = partial(theirs, trackers, supervision)
    return found


def main() -> None:
    options = arguments(__doc__)
    rows: list[dict[str, object]] = []
    others = contestants()
    for count in COUNTS:
        frames = walkers(count)
        samples = interleaved(
            options.rounds,
            {name: partial(milliseconds, new, frames) for name, new in others.items()},
            guard=not options.no_guard,
        )
        base = list(samples.values())[-1] if len(samples) > len(TRACKERS) else None
        rows += [
            {
                "objects": count,
                "tracker": name,
                "ms a frame": median(values),
                "ratio": paired(values, base) if base else "-",
            }
            for name, values in samples.items()
        ]
    report("Tracking", rows, options.json)


if __name__ == "__main__":
    main()
