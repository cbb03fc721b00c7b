"""Cuts between shots, in films whose cuts are known: found where they are, and nowhere else."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from emulator.factory import BACKGROUNDS, Camera, Clip, Figure, Film, Light, Object, Shape, random_clip
from emulator.inference.shots import COLUMNS, ROWS, Change, CutFinder, Thumbnail, thumbnail

SIZE = (128, 72)


def found_cuts(frames: Iterable[tuple[int, Thumbnail]]) -> list[int]:
    change, finder = Change(), CutFinder()
    for time_us, small in frames:
        finder.add(time_us, time_us, small, change.of(small))
    finder.finish()
    return [cut.time_us for cut in finder.found]


def shown(film: Film | Clip) -> Iterable[tuple[int, Thumbnail]]:
    stage = film.stage()
    for number in range(stage.schedule.frame_count):
        frame = stage.frame(number)
        yield round(frame.time_s * 1e6), thumbnail(frame.picture)


def random_film(seed: int) -> Film:
    """Two to four takes with moving things, cameras and flashes."""
    rng = np.random.default_rng((seed, 9))
    fps = float(rng.choice([5, 10, 25, 30]))
    takes = []
    for number in range(int(rng.integers(2, 5))):
        take = random_clip(
            seed * 10 + number, size=SIZE, fps=fps, duration=float(rng.choice([1.0, 1.6, 2.4]))
        )
        if rng.random() < 0.35:
            flash = float(rng.uniform(0.2, take.duration - 0.4))
            gain, length = float(rng.uniform(1.5, 4)), float(rng.choice([0.04, 0.1, 0.2]))
            light = replace(take.light, flashes=(flash,), flash_gain=gain, flash_s=length)
            take = replace(take, light=light)
        if rng.random() < 0.25:
            take = replace(take, camera=Camera(pan=(float(rng.uniform(-0.8, 0.8)), 0.1)))
        takes.append(take)
    return Film(takes)


def counted(seeds: Iterable[int]) -> tuple[int, int, int]:
    """Cuts found, found wrongly, and missed."""
    right = wrong = missed = 0
    for seed in seeds:
        film = random_film(seed)
        found, there = set(found_cuts(shown(film))), set(film.stage().cuts_us)
        right += len(found & there)
        wrong += len(found - there)
        missed += len(there - found)
    return right, wrong, missed


def test_cuts_of_random_films_are_found() -> None:
    right, wrong, missed = counted(range(16))
    assert right >= 24
    assert wrong <= 1
    assert missed <= 1


@pytest.mark.slow
def test_cuts_of_many_random_films_are_found() -> None:
    right, wrong, missed = counted(range(1000, 1150))
    precision, recall = right / (right + wrong), right / (right + missed)
    assert precision >= 0.96, (right, wrong, missed)
    assert recall >= 0.96, (right, wrong, missed)


def take(background: str = "patches", seed: int = 1, **changes: object) -> Clip:
    clip = Clip(size=SIZE, fps=25, duration=1.6, seed=seed, background=background)
    return replace(clip, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_the_cut_between_two_takes_of_one_kind_is_at_its_frame(background: str) -> None:
    film = Film([take(background, seed=3), take(background, seed=4)])
    assert found_cuts(shown(film)) == [1_600_000]


@pytest.mark.parametrize("fps", [5, 10, 25, 60])
def test_a_moving_camera_is_no_cut(fps: float) -> None:
    for background in ("patches", "texture", "landscape"):
        for pan in (0.15, 0.6):
            clip = take(background, fps=fps, camera=Camera(pan=(pan, 0.05), shake=0.02))
            assert found_cuts(shown(clip)) == [], (background, pan)


@pytest.mark.parametrize("length_s", [0.03, 0.1, 0.25])
def test_a_flash_is_no_cut(length_s: float) -> None:
    light = Light(flashes=(0.6,), flash_gain=4.0, flash_s=length_s)
    assert found_cuts(shown(take(light=light))) == []


def test_a_fast_object_is_no_cut() -> None:
    car = Object(
        "car", start=0, end=1.6, path=[(-1.0, 0.1, 0.0, 0.9), (1.0, 0.1, 2.0, 0.9)], colour=(20, 20, 220)
    )
    bar = Shape("box", 0, 1.6, [(-0.6, 0.0, -0.1, 1.0), (1.6, 0.0, 2.1, 1.0)], colour=(240, 240, 240))
    runner = Figure(activity="walk", height=0.9, pace=1.5, position=(0.0, 1.0))
    for one in (car, bar, runner):
        assert found_cuts(shown(take("gradient", objects=[one]))) == []


def test_a_cut_under_a_moving_camera_is_found() -> None:
    takes = [take("texture", seed=seed, camera=Camera(pan=(0.5, 0.0))) for seed in (5, 6, 7)]
    assert found_cuts(shown(Film(takes))) == [1_600_000, 3_200_000]


def test_a_dissolve_is_no_cut() -> None:
    film = Film([take(seed=8), take(seed=9)], dissolve=0.8)
    assert found_cuts(shown(film)) == []


def test_the_first_frame_of_a_run_has_no_change_of_its_own() -> None:
    frames = list(shown(Film([take(seed=1), take(seed=2)])))
    finder, change = CutFinder(), Change()
    for time_us, small in frames:
        difference = change.of(small)
        if time_us >= 1_600_000:
            finder.add(time_us, time_us, small, difference)
    finder.finish()
    assert list(finder.found) == []


def test_memory_does_not_grow_with_the_frames() -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (4, ROWS, COLUMNS, 3), dtype=np.uint8)
    finder, change = CutFinder(), Change()
    tracemalloc.start()
    try:
        for number in range(6000):
            if number == 1000:
                before = tracemalloc.get_traced_memory()[0]
            picture = small[number // 500 % 4].copy()
            finder.add(number * 40_000, number * 40_000, picture, change.of(picture))
            if finder.found:
                finder.found.clear()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 100_000
    assert finder.settled_us > 5900 * 40_000
