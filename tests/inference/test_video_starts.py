"""The first frames of a segment are right wherever it starts: 80 starts in every kind of container."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from emulator.config import DecoderChoice
from emulator.inference.decoding import VideoOptions
from emulator.inference.video import FrameSource, quiet_decoder
from tests.inference.corpus import LONG, Shown, nearest, read_number, truth

pytestmark = pytest.mark.slow

STARTS = 80
INTERVAL_US = 100_000
#: The first lets nearly every start be sought, the second is what predictors use.
WALKS_US = (500_000, 8_000_000)
#: Four points of the grid, so that what follows a seek is looked at as well.
LENGTH_US = 4 * INTERVAL_US


@dataclass(frozen=True)
class Miss:
    start_us: int
    walk_us: int
    point: int
    found: Shown | None
    wanted: Shown


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> None:
    quiet_decoder()


@pytest.mark.parametrize("decoder", ["opencv", "av"])
@pytest.mark.parametrize("name", LONG)
def test_every_start_gives_the_nearest_frames(tmp_path: Path, name: str, decoder: DecoderChoice) -> None:
    path = LONG[name](tmp_path)
    frames = truth(path)
    # Behind the last frame but one, how long the last one lasts decides; other tests look at that.
    end_us = frames[-2].time_us
    rng = random.Random(name)
    starts = [rng.randrange(end_us) for _ in range(STARTS)]
    wrong = [
        miss
        for start_us in starts
        for walk_us in WALKS_US
        for miss in misses(path, frames, start_us, walk_us, decoder)
    ]
    assert not wrong


def misses(
    path: Path, frames: Sequence[Shown], start_us: int, walk_us: int, decoder: DecoderChoice
) -> Iterator[Miss]:
    """The points of a segment that starts there for which not the nearest frame comes."""
    with FrameSource(path, walk_us=walk_us, options=VideoOptions(decoder)) as source:
        found = sampled(source, start_us, start_us + LENGTH_US)
    end_us = min(start_us + LENGTH_US, frames[-2].time_us)
    for point in range(-(-start_us // INTERVAL_US), -(-end_us // INTERVAL_US)):
        wanted = nearest(frames, point * INTERVAL_US)
        got = found.get(point)
        # A frame without a timestamp of its own is placed by a rate that is rounded to microseconds.
        if got is None or got.number != wanted.number or abs(got.time_us - wanted.time_us) > 1:
            yield Miss(start_us, walk_us, point, got, wanted)


def sampled(source: FrameSource, start_us: int, end_us: int) -> dict[int, Shown]:
    """What the source yields for each point of the grid."""
    return {
        point: Shown(sample.time_us, sample.data)
        for sample in source.sample(INTERVAL_US, [(start_us, end_us)], read_number)
        for point in range(sample.first, sample.last + 1)
    }
