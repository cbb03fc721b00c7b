"""Files to compare, made in a test, and the command run on them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from emulator.cli import build

Prediction = dict[str, Any]


def compare(*arguments: object) -> Result:
    words = ["compare", *map(str, arguments)]
    return CliRunner().invoke(build(), words, catch_exceptions=False)


def figures(*arguments: object) -> dict[str, Any]:
    """What the command prints as JSON."""
    done = compare(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def counts(found: Mapping[str, Any], label: str | None = None) -> tuple[int, int, int]:
    """Matched, missed and extra of a label, or in all."""
    one = found["all"] if label is None else found["labels"][label]
    return one["matched"], one["missed"], one["extra"]


def refusal(*arguments: object) -> str:
    done = compare(*arguments)
    assert done.exit_code == 1, done.output
    assert not done.stdout
    return done.stderr


def action(label: str, at: float, confidence: float = 0.9) -> Prediction:
    time = f"{at:.3f}s"
    return {
        "id": "1",
        "displayName": label,
        "timeSegmentStart": time,
        "timeSegmentEnd": time,
        "confidence": confidence,
    }


def track(label: str, boxes: Mapping[float, Sequence[float]], confidence: float = 0.9) -> Prediction:
    frames = [
        {"timeOffset": f"{time:.6f}s", "xMin": box[0], "yMin": box[1], "xMax": box[2], "yMax": box[3]}
        for time, box in sorted(boxes.items())
    ]
    return {
        "id": "1",
        "displayName": label,
        "timeSegmentStart": frames[0]["timeOffset"],
        "timeSegmentEnd": frames[-1]["timeOffset"],
        "confidence": confidence,
        "frames": frames,
    }


def classified(
    label: str, start: float, end: float, confidence: float = 0.9, kind: str = "segment-classification"
) -> Prediction:
    return {
        "id": "1",
        "displayName": label,
        "type": kind,
        "timeSegmentStart": f"{start:.3f}s",
        "timeSegmentEnd": f"{end:.3f}s",
        "confidence": confidence,
    }


def line(video: str, *found: Prediction, start: str = "0s", end: str = "Infinity") -> str:
    """A line as a job writes it."""
    instance = {
        "content": video,
        "mimeType": "video/mp4",
        "timeSegmentStart": start,
        "timeSegmentEnd": end,
    }
    return json.dumps({"instance": instance, "prediction": found}) + "\n"


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")
    return path
