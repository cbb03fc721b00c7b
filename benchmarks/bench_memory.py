"""Whether a job's memory grows with the video's length: the same model on one minute and on three hours.

Each length runs in a process of its own, which reports its peak resident memory. Goal: within 10 percent.
"""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from measure import arguments, report

from emulator.execution.local import LocalRun
from emulator.execution.shards import ModelUse
from emulator.factory import Encoder
from emulator.registry import bundled_models
from emulator.storage import LocalStore
from emulator.vertex.parameters import ModelParameters

FPS = 5
SIZE = (160, 120)
LENGTHS_S = {"1 minute": 60, "30 minutes": 1800, "3 hours": 10_800}


def write_clip(path: Path, seconds: int) -> None:
    """A bright square that wanders over noise, so that neither the codec nor the model has nothing to do."""
    noise = np.random.default_rng(1).integers(0, 80, (SIZE[1], SIZE[0] + 64, 3), dtype=np.uint8)
    with Encoder(path, size=SIZE, fps=FPS) as encoder:
        for number in range(seconds * FPS):
            picture = noise[:, number % 64 : number % 64 + SIZE[0]].copy()
            left = number * 3 % (SIZE[0] - 30)
            picture[40:70, left : left + 30] = 230
            encoder.write(picture)


def predict(clip: Path) -> None:
    """Predict in this process, and print its peak memory in MB and the length of the line."""
    model = ModelUse(bundled_models() / "video-object-tracking", "cpu", 0)
    outcomes = list(LocalRun(model, ModelParameters(), LocalStore(clip.parent)).predict(str(clip)))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps({"peak_mb": peak_mb, "bytes": len(outcomes[0].line)}))


def main() -> None:
    options = arguments(__doc__)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, seconds in LENGTHS_S.items():
            clip = Path(folder) / f"{seconds}.mp4"
            write_clip(clip, seconds)
            answer = json.loads(subprocess.check_output([sys.executable, __file__, "--predict", str(clip)]))
            first = rows[0]["peak MB"] if rows else answer["peak_mb"]
            assert isinstance(first, float)
            rows.append({"video": name, "peak MB": answer["peak_mb"], "ratio": answer["peak_mb"] / first})
    report("Memory of a job", rows, options.json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--predict"]:
        predict(Path(sys.argv[2]))
    else:
        main()
