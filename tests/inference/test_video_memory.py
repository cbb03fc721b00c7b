"""Sampling a long video takes no more memory than a short one."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest

from tests.inference.corpus import draw_number

PROGRAM = """
import resource, sys
from pathlib import Path
from emulator.inference.video import FrameSource
with FrameSource(Path(sys.argv[1]), threads=4) as source:
    samples = sum(1 for _ in source.sample(100_000, [(0, None)], lambda picture: picture[::8, ::8].copy()))
print(samples, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write(path: Path, minutes: int) -> Path:
    """10 frames a second, 160x120."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.gop_size = 160, 120, 100
        stream.time_base = stream.codec_context.time_base = Fraction(1, 10)
        pictures = [
            av.VideoFrame.from_ndarray(draw_number(n * 37, 160, 120), format="bgr24") for n in range(8)
        ]
        pictures = [picture.reformat(format="yuv420p") for picture in pictures]
        for tick in range(minutes * 600):
            picture = pictures[tick % 8]
            picture.pts, picture.time_base = tick, Fraction(1, 10)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def sampled(path: Path) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=True
    )
    samples, peak = done.stdout.split()
    return int(samples), int(peak)


@pytest.mark.slow
def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    samples, peak = sampled(write(tmp_path / "minute.mp4", 1))
    long_samples, long_peak = sampled(write(tmp_path / "three-hours.mp4", 180))
    assert (samples, long_samples) == (600, 108_000)
    assert long_peak < 1.1 * peak, f"{peak} KiB for a minute, {long_peak} KiB for three hours"
