"""Clips of a white box that moves evenly over a dark ground, in every kind of file, and where it is when."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

SIZE = WIDTH, HEIGHT = 320, 180
SECONDS = 2.0
LENGTH_US = 2_000_000
GRID_US = 100_000
_PART = Fraction(1, 90_000)
_STEADY = tuple(round(number / 25, 6) for number in range(50))
# Frames of 20 to 120 milliseconds.
_GAPS_MS = (20, 40, 120, 20, 40, 80, 80, 20, 120, 20, 80, 40, 120, 100, 20, 80)
_UNSTEADY = tuple(sum((_GAPS_MS * 2)[:number]) / 1000 for number in range(31))

# Long enough for two hundred steps: 8.4 s of 25 frames a second, and the uneven gaps over and over.
_LONG_STEADY = tuple(round(number / 25, 6) for number in range(205))
_LONG_UNSTEADY = tuple(sum((_GAPS_MS * 13)[:number]) / 1000 for number in range(205))
_LONG_STILLS = tuple(round(number / 25, 6) for number in range(520))

KINDS: dict[str, tuple[str, Sequence[float], float, dict[str, str]]] = {
    "steady.mp4": ("libvpx-vp9", _STEADY, 0.0, {}),
    "steady.webm": ("libvpx-vp9", _STEADY, 0.0, {}),
    "unsteady.mp4": ("libvpx-vp9", _UNSTEADY, 0.0, {}),
    "reordered.mp4": ("libx264", _UNSTEADY, 0.0, {"bf": "2"}),
    "late.mp4": ("libx264", _STEADY, 0.5, {"bf": "2"}),
    "late.mkv": ("libvpx-vp9", _STEADY, 1.5, {}),
    "old.mp4": ("mpeg4", _STEADY, 0.0, {}),
    "hevc.mp4": ("libx265", _STEADY, 0.0, {"x265-params": "log-level=none"}),
}
"""Codec, times of the frames in seconds, when the first of them comes, and options, by file name."""


LONG = {
    f"long-{name}": (codec, times, start, options)
    for name, times in (
        ("steady.mp4", _LONG_STEADY),
        ("steady.webm", _LONG_STEADY),
        ("unsteady.mp4", _LONG_UNSTEADY),
        ("reordered.mp4", _LONG_UNSTEADY),
        ("late.mp4", _LONG_STEADY),
        ("late.mkv", _LONG_STEADY),
        ("old.mp4", _LONG_STILLS),
        ("hevc.mp4", _LONG_STILLS),
    )
    for codec, _, start, options in (KINDS[name],)
}
"""The same, of more than two hundred frames; those shown as stills have more than two hundred of these."""


def write_clip(path: Path) -> None:
    """Write the clip of that name."""
    codec, times, start, options = {**KINDS, **LONG}[path.name]
    path.parent.mkdir(parents=True, exist_ok=True)
    fast = {"preset": "ultrafast", "deadline": "realtime", "cpu-used": "8"}
    with av.open(str(path), "w") as file:
        known = {
            name: value for name, value in fast.items() if (name == "preset") == codec.startswith("libx26")
        }
        stream: Any = file.add_stream(codec, rate=25, options={**known, **options} if "lib" in codec else {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = _PART if codec != "mpeg4" else Fraction(1, 25)
        stream.bit_rate = 1_500_000
        for time in times:
            frame = av.VideoFrame.from_ndarray(picture(time), format="rgb24")
            frame.time_base = stream.codec_context.time_base
            frame.pts = round((start + time) / frame.time_base)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def times_of(name: str) -> Sequence[float]:
    """When each frame of a clip begins to be shown."""
    return {**KINDS, **LONG}[name][1]


def picture(time: float) -> Any:
    """The picture of a moment."""
    left, top, right, bottom = box(time)
    shown = np.full((HEIGHT, WIDTH, 3), 24, np.uint8)
    shown[round(top) : round(bottom), round(left) : round(right)] = 235
    return shown


def box(time: float) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the box in pixels."""
    left = 20 + 110 * (time % SECONDS)
    return left, 60.0, left + 50, 110.0


def answer() -> dict[str, Any]:
    """What a model that sees everything says: boxes ten a second."""
    frames = []
    for time_us in range(0, LENGTH_US, GRID_US):
        left, top, right, bottom = box(time_us / 1e6)
        x, y = {"xMin": left / WIDTH, "xMax": right / WIDTH}, {"yMin": top / HEIGHT, "yMax": bottom / HEIGHT}
        frames.append({"timeOffset": f"{time_us / 1e6:g}s", **x, **y})
    return {
        "id": "1",
        "displayName": "box",
        "timeSegmentStart": "0s",
        "timeSegmentEnd": frames[-1]["timeOffset"],
        "confidence": 0.9,
        "frames": frames,
    }
