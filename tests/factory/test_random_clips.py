"""Random clips and the documentation's clip are what they promise to be."""

from __future__ import annotations

import itertools

import pytest

from emulator.factory import Object, Stage, documentation_clip, random_clip, truth_of


def test_seed_decides_the_clip() -> None:
    assert random_clip(4) == random_clip(4)
    assert random_clip(4) != random_clip(5)


def test_what_is_asked_for_is_kept() -> None:
    clip = random_clip(1, size=(320, 180), fps=10, duration=2.0, labels=["dog"], count=2)
    objects = [actor for actor in clip.objects if isinstance(actor, Object)]
    assert (clip.size, clip.fps, clip.duration) == ((320, 180), 10, 2.0)
    assert [one.label for one in objects] == ["dog", "dog"]


@pytest.mark.parametrize("seed", range(5))
def test_objects_stay_recognisable(seed: int) -> None:
    clip = random_clip(seed, size=(320, 240), fps=10, duration=2.0)
    seen = list(itertools.chain.from_iterable(frame.sightings for frame in Stage(clip).frames()))
    assert all((one.y_max - one.y_min) * 240 >= 20 for one in seen)
    assert sum(one.visible >= 0.5 for one in seen) >= 0.9 * len(seen)


def test_random_clips_are_of_many_kinds() -> None:
    clips = [random_clip(seed) for seed in range(16)]
    labels = {actor.label for clip in clips for actor in clip.objects}
    assert {"cat", "dog", "car", "bird", None} <= labels
    assert len({clip.background for clip in clips}) >= 5
    assert len({clip.size for clip in clips}) >= 4
    assert any(not any(actor.label for actor in clip.objects) for clip in clips)


def test_documentation_clip_has_the_documented_segments() -> None:
    predictions = truth_of(documentation_clip()).object_tracking()
    segments = [(one["displayName"], one["timeSegmentStart"], one["timeSegmentEnd"]) for one in predictions]
    assert segments == [
        ("cat", "1.200s", "3.400s"),
        ("dog", "1.200s", "3.400s"),
        ("cat", "4.800s", "4.800s"),
    ]
    assert [one["id"] for one in predictions] == ["1", "2", "1"]
