"""Every sampled frame is the one nearest to its grid point, in every container, however it is reached."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from emulator.config import DecoderChoice
from emulator.inference.decoding import VideoOptions
from emulator.inference.video import FrameSource, quiet_decoder
from tests.inference.corpus import (
    CORPUS,
    HIDDEN_BY_EDIT_LIST,
    WRITTEN,
    Clip,
    Shown,
    constant,
    nearest,
    read_number,
    shown_until_us,
    truth,
)

DECODERS: tuple[DecoderChoice, ...] = ("opencv", "av")
Span = tuple[int, int | None]
Clips = Callable[[str], tuple[Path, list[Shown]]]
EVERYTHING: list[Span] = [(0, None)]


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> None:
    quiet_decoder()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """Encodes a clip of the corpus when it is first asked for; gives its path and what it shows when."""
    folder = tmp_path_factory.mktemp("corpus")
    made: dict[str, tuple[Path, list[Shown]]] = {}

    def get(name: str) -> tuple[Path, list[Shown]]:
        if name not in made:
            path = CORPUS[name](folder)
            made[name] = path, truth(path)
        return made[name]

    return get


def end_us(path: Path, frames: Sequence[Shown], fps: float) -> int:
    """The end of the moments that the last frame answers for."""
    return max(frames[-1].time_us + 1, shown_until_us(path, frames, fps) - 1000)


def expected(frames: Sequence[Shown], end: int, interval_us: int, spans: Sequence[Span]) -> dict[int, Shown]:
    points = range(-(-end // interval_us))
    within = (
        point
        for point in points
        if any(
            start <= point * interval_us and (stop is None or point * interval_us < stop)
            for start, stop in spans
        )
    )
    return {point: nearest(frames, point * interval_us) for point in within}


def sampled(source: FrameSource, interval_us: int, spans: Sequence[Span]) -> dict[int, Shown]:
    """What the source yields for each wanted point; checks the order on the way."""
    found: dict[int, Shown] = {}
    before = -1
    for sample in source.sample(interval_us, spans, read_number):
        assert sample.time_us > before, "a frame came twice or too late"
        before = sample.time_us
        for point in range(sample.first, sample.last + 1):
            assert point not in found
            found[point] = Shown(sample.time_us, sample.data)
    return {
        point: shown
        for point, shown in found.items()
        if any(
            start <= point * interval_us and (stop is None or point * interval_us < stop)
            for start, stop in spans
        )
    }


def assert_same(found: dict[int, Shown], wanted: dict[int, Shown], about: object) -> None:
    wrong = {
        point: (found.get(point), wanted.get(point))
        for point in sorted(found.keys() | wanted.keys())
        # A frame without a timestamp of its own is placed by a rate that is rounded to microseconds.
        if point not in found
        or point not in wanted
        or found[point].number != wanted[point].number
        or abs(found[point].time_us - wanted[point].time_us) > 1
    }
    assert not wrong, f"{about}: (found, wanted) at {wrong}"


def random_spans(rng: random.Random, end: int) -> list[Span]:
    spans: list[Span] = []
    for _ in range(rng.choice([1, 1, 2, 8])):
        start = rng.randrange(end + 300_000)
        spans.append((start, None if rng.random() < 0.1 else start + rng.randrange(1_500_000)))
    return spans


@pytest.mark.parametrize("name", WRITTEN)
def test_the_corpus_shows_what_was_written(clips: Clips, name: str) -> None:
    clip = WRITTEN[name]
    times = [round((tick - clip.ticks[0]) * clip.time_base * 1_000_000) for tick in clip.ticks]
    rounding = 1000 if name.endswith((".mkv", ".webm")) else 1
    _, frames = clips(name)
    assert [frame.number for frame in frames] == list(range(len(times)))
    for frame, time_us in zip(frames, times, strict=True):
        assert abs(frame.time_us - time_us) <= rounding


def test_the_edit_list_hides_frames_and_the_cut_stream_starts_late(clips: Clips) -> None:
    assert clips("edit-list.mp4")[1][0] == Shown(0, HIDDEN_BY_EDIT_LIST)
    assert clips("cut-into.ts")[1][0].number > 0


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("interval_us", [100_000, 33_333])
@pytest.mark.parametrize("name", CORPUS)
def test_a_whole_video_gives_the_nearest_frames(
    clips: Clips, name: str, interval_us: int, decoder: DecoderChoice
) -> None:
    path, frames = clips(name)
    with FrameSource(path, options=VideoOptions(decoder)) as source:
        wanted = expected(frames, end_us(path, frames, source.info.fps), interval_us, EVERYTHING)
        assert_same(sampled(source, interval_us, EVERYTHING), wanted, name)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("walk_us", [400_000, 8_000_000], ids=["seek", "walk"])
@pytest.mark.parametrize("name", CORPUS)
def test_any_spans_give_the_nearest_frames(
    clips: Clips, name: str, walk_us: int, decoder: DecoderChoice
) -> None:
    path, frames = clips(name)
    rng = random.Random(f"{name} {walk_us}")
    with FrameSource(path, walk_us=walk_us, options=VideoOptions(decoder)) as source:
        end = end_us(path, frames, source.info.fps)
        for _ in range(5):
            interval_us, spans = rng.choice([100_000, 50_000, 80_000]), random_spans(rng, end)
            wanted = expected(frames, end, interval_us, spans)
            assert_same(sampled(source, interval_us, spans), wanted, (name, interval_us, spans))


@pytest.mark.parametrize("name", ["b-frames.mp4", "vfr-gaps.mp4", "offset.ts", "5-fps.mp4"])
def test_overlapping_spans_share_their_frames(clips: Clips, name: str) -> None:
    path, frames = clips(name)
    rng = random.Random(name)
    spans: list[Span] = [
        (start, start + 1_000_000) for start in (rng.randrange(4_000_000) for _ in range(40))
    ]
    transformed: list[int] = []
    with FrameSource(path) as source:
        samples = list(
            source.sample(100_000, spans, lambda picture: transformed.append(read_number(picture)))
        )
        wanted = expected(frames, end_us(path, frames, source.info.fps), 100_000, spans)
        assert_same(sampled(source, 100_000, spans), wanted, name)
    assert len(transformed) == len(samples) == len({frame.number for frame in wanted.values()})


@pytest.mark.parametrize("edge_us", [-1, 0, 1])
def test_spans_are_half_open(clips: Clips, edge_us: int) -> None:
    path, _ = clips("29.97.mp4")
    with FrameSource(path) as source:
        points = sampled(source, 100_000, [(1_200_000 + edge_us, 3_400_000 + edge_us)]).keys()
    assert (min(points), max(points)) == ((13, 34) if edge_us > 0 else (12, 33))


def test_of_two_equally_near_frames_the_earlier_is_taken(clips: Clips) -> None:
    path, _ = clips("5-fps.mp4")
    with FrameSource(path) as source:
        samples = [
            (sample.first, sample.last, sample.time_us, sample.data)
            for sample in source.sample(100_000, [(0, 600_000)], read_number)
        ]
    assert samples == [(0, 1, 0, 0), (2, 3, 200_000, 1), (4, 5, 400_000, 2)]


@pytest.mark.parametrize(
    "spans", [[(5_005_000, None)], [(90_000_000, None)], [(0, 0)], [(50_000, 99_999)], []]
)
def test_spans_without_points_yield_nothing(clips: Clips, spans: list[Span]) -> None:
    path, _ = clips("29.97.mp4")
    with FrameSource(path) as source:
        assert list(source.sample(100_000, spans, read_number)) == []


@pytest.mark.parametrize("name", ["two-seconds.mp4", "two-seconds.mkv", "two-seconds.webm"])
def test_a_video_of_two_seconds_has_twenty_points(tmp_path: Path, name: str) -> None:
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    rate = WRITTEN["b-frames.mp4"]
    path = Clip(
        name,
        constant(60),
        rate.time_base,
        codec=codec,
        options={"cpu-used": "8"} if codec != "libx264" else {},
    )
    with FrameSource(path.write(tmp_path)) as source:
        assert list(sampled(source, 100_000, EVERYTHING)) == list(range(20))


def test_a_source_can_be_sampled_again_and_given_up_early(clips: Clips) -> None:
    path, frames = clips("b-frames.mp4")
    with FrameSource(path) as source:
        for start in (3_000_000, 0, 4_000_000):
            generator = source.sample(100_000, [(start, None)], read_number)
            assert next(generator).data == nearest(frames, start).number
            generator.close()


def test_closing_the_generator_lets_go_of_the_file(clips: Clips) -> None:
    path, _ = clips("b-frames.mp4")
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("needs /proc")

    def held() -> int:
        return sum(1 for link in _links(descriptors) if link == path)

    with FrameSource(path) as source:
        generator = source.sample(100_000, EVERYTHING, read_number)
        next(generator)
        assert held() == 1
        generator.close()
        assert held() == 0


def _links(folder: Path) -> Iterator[Path]:
    for link in folder.iterdir():
        try:
            yield link.readlink()
        except FileNotFoundError:  # the descriptor that lists the folder
            continue


def test_an_interval_must_be_positive(clips: Clips) -> None:
    path, _ = clips("b-frames.mp4")
    with FrameSource(path) as source, pytest.raises(ValueError, match="interval_us must be positive, not 0"):
        next(source.sample(0, EVERYTHING, read_number))
