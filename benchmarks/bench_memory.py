"""The peak memory of a job: with the video's length, and with the size of its picture.

Each video is predicted in a process of its own, which reports its peak resident memory: the bundled detector
on one minute to three hours of small pictures, and every frame of 1080p and 2160p (YOLOX-nano where it is at
hand), the largest of all rounds. Goals: three hours take at most 10 MB more than one minute; 1080p at most
300 MB, 2160p at most 450 MB.
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from measure import arguments, report

from emulator.execution.local import LocalRun
from emulator.execution.shards import ModelUse
from emulator.registry import bundled_models
from emulator.storage import LocalStore
from emulator.vertex.parameters import ModelParameters

FPS = 5
SIZE = (160, 120)
LENGTHS_S = {"1 minute": 60, "30 minutes": 1800, "3 hours": 10_800}
#: Size of the picture, and frames: memory is at its peak once the decoder's threads and the queue are full.
PICTURES = {"1080p": ((1920, 1080), 600), "2160p": ((3840, 2160), 150)}
GOALS = {"3 hours": "<= 10 MB more", "1080p": "<= 300 MB", "2160p": "<= 450 MB"}


def write_clip(path: Path, seconds: int) -> None:
    """A bright square that wanders over noise, so that neither the codec nor the model has nothing to do."""
    from emulator.factory import Encoder  # here, as `clips` below

    noise = np.random.default_rng(1).integers(0, 80, (SIZE[1], SIZE[0] + 64, 3), dtype=np.uint8)
    with Encoder(path, size=SIZE, fps=FPS) as encoder:
        for number in range(seconds * FPS):
            picture = noise[:, number % 64 : number % 64 + SIZE[0]].copy()
            left = number * 3 % (SIZE[0] - 30)
            picture[40:70, left : left + 30] = 230
            encoder.write(picture)


def predict(clip: Path, model_folder: Path) -> None:
    """Predict in this process, and print its peak memory in MB."""
    model = ModelUse(model_folder, "cpu", 0)
    (outcome,) = LocalRun(model, ModelParameters(), LocalStore(clip.parent)).predict(str(clip))
    if outcome.failure is not None:
        raise SystemExit(outcome.failure.message)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


def peak_mb(clip: Path, model_folder: Path) -> float:
    command = [sys.executable, __file__, "--predict", str(clip), str(model_folder)]
    return float(subprocess.check_output(command))


def main() -> None:
    import clips  # here, since the processes that are measured would carry PyAV and onnx along

    options = arguments(__doc__)
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for length, seconds in LENGTHS_S.items():
            clip = folder / f"{seconds}.mp4"
            write_clip(clip, seconds)
            peaks[length] = peak_mb(clip, bundled_models() / "video-object-tracking")
        detector = clips.detector(folder, clips.FPS).folder
        for picture, (size, frames) in PICTURES.items():
            clip = clips.cached_clip(size, frames)
            peaks[picture] = max(peak_mb(clip, detector) for _ in range(options.rounds))
    shortest = peaks[next(iter(LENGTHS_S))]
    rows = [
        {
            "video": video,
            "peak MB": peak,
            "MB more": peak - shortest if video in LENGTHS_S else "-",
            "goal": GOALS.get(video, "-"),
        }
        for video, peak in peaks.items()
    ]
    report("Memory of a job", rows, options.json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--predict"]:
        predict(*map(Path, sys.argv[2:]))
    else:
        main()
