"""Films: takes joined by hard cuts or dissolves, and the truth of the whole."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from emulator.factory import (
    Action,
    Clip,
    FactoryError,
    Figure,
    Film,
    LabelScore,
    Light,
    Object,
    Stage,
    render,
    score_labels,
    truth_of,
)

SIZE = (128, 96)
CAT = Object("cat", start=0.5, end=1.0, path=[(0.2, 0.2, 0.8, 0.8)])
FIRST = Clip(size=SIZE, fps=10, duration=1.5, seed=1, background="plain", objects=[CAT])
SECOND = Clip(
    size=SIZE, fps=10, duration=2.0, seed=2, background="stripes",
    objects=[Figure(actions=[Action("jump", at=1.0)], label="person")],
)  # fmt: skip
FILM = Film([FIRST, SECOND])


def test_takes_follow_each_other() -> None:
    stage = FILM.stage()
    assert stage.schedule.frame_count == 35
    for number, (clip, within) in {0: (FIRST, 0), 14: (FIRST, 14), 15: (SECOND, 0), 34: (SECOND, 19)}.items():
        assert np.array_equal(stage.frame(number).picture, Stage(clip).frame(within).picture)
    assert np.array_equal(stage.frame(3).picture, Stage(FIRST).frame(3).picture)


def test_truth_is_that_of_the_takes_moved_to_their_place(tmp_path: Path) -> None:
    truth = render(FILM, tmp_path / "film.mp4")
    assert truth == truth_of(FILM).__class__(
        tmp_path / "film.mp4", truth.duration_us, truth.tracks, truth.actions, truth.cuts_us
    )
    assert truth.duration_us == 3_500_000
    assert truth.shots == [(0, 1_500_000), (1_500_000, 3_500_000)]
    cat, person = truth.tracks
    assert (cat.label, cat.frames[0].time_us, cat.frames[-1].time_us) == ("cat", 500_000, 1_000_000)
    assert (person.label, person.frames[0].time_us, person.frames[-1].time_us) == (
        "person", 1_500_000, 3_400_000
    )  # fmt: skip
    assert [(one.label, one.time) for one in truth.actions] == [("jump", 2.5)]
    video = cv2.VideoCapture(str(tmp_path / "film.mp4"))
    frames = 0
    while video.read()[0]:
        frames += 1
    assert frames == 35


def test_what_is_seen_in_a_stretch() -> None:
    truth = truth_of(FILM)
    assert truth.seen("cat", 0, 1_000_000) == 0.5
    assert truth.seen("cat", 1_500_000, 3_500_000) == 0
    assert truth.seen("person", 1_500_000, 9_000_000) == 1
    assert truth.seen("cat", 500_000, 1_000_000, visible=0.99) == 1
    assert truth.seen("dog", 0, 3_500_000) == 0


def test_a_dissolve_mixes_the_takes() -> None:
    stage = Film([FIRST, SECOND], dissolve=0.3).stage()
    before, after = Stage(FIRST).frame(14).picture, Stage(SECOND)
    for within, part in ((0, 0.25), (1, 0.5), (2, 0.75), (3, 1.0)):
        mixed = after.frame(within).picture * part + before * (1 - part)
        assert np.abs(stage.frame(15 + within).picture - mixed).max() <= 1


def test_a_flash_lights_its_moment_alone() -> None:
    flashing = Clip(
        size=SIZE, fps=10, duration=1.0, seed=1, background="plain", light=Light(flashes=(0.5,), flash_s=0.15)
    )
    brightness = [int(frame.picture.mean()) for frame in Stage(flashing).frames()]
    usual = brightness[0]
    assert [number for number, light in enumerate(brightness) if light > usual] == [5, 6]


@pytest.mark.parametrize(
    ("takes", "dissolve", "words"),
    [
        ([], 0.0, "no take"),
        ([FIRST, Clip(size=(64, 48), fps=10)], 0.0, "Take 2"),
        ([FIRST, Clip(size=SIZE, fps=25)], 0.0, "Take 2"),
        ([FIRST, SECOND], 1.6, "dissolve"),
    ],
)
def test_what_cannot_be_joined_is_said(takes: list[Clip], dissolve: float, words: str) -> None:
    with pytest.raises(FactoryError, match=words):
        Film(takes, dissolve)


def test_labels_are_scored_by_what_is_seen() -> None:
    truth = truth_of(FILM)

    def row(kind: str, label: str, start: str, end: str, confidence: float) -> dict[str, object]:
        return {
            "displayName": label, "type": kind, "timeSegmentStart": start, "timeSegmentEnd": end,
            "confidence": confidence,
        }  # fmt: skip

    shots = [
        row("shot-classification", "cat", "0s", "1.500s", 0.9),  # right
        row("shot-classification", "cat", "1.500s", "3.500s", 0.6),  # false
        row("shot-classification", "person", "1.500s", "3.500s", 0.4),  # missed
        row("shot-classification", "dog", "0s", "1.500s", 0.1),  # neither there nor said
        row("segment-classification", "cat", "0s", "3.500s", 0.9),
    ]
    assert score_labels(truth, shots, "shot-classification") == LabelScore(1, 1, 1)
    assert score_labels(truth, shots, "segment-classification") == LabelScore(
        right=0
    )  # seen too short a time
    seconds = [row("one-sec-interval-classification", "cat", "0.500s", "0.500s", 0.9)]
    assert score_labels(truth, seconds, "one-sec-interval-classification") == LabelScore(right=1)
    assert LabelScore(3, 1, 2).f1 == pytest.approx(6 / 9)
    assert (LabelScore(3, 1, 2).precision, LabelScore(3, 1, 2).recall) == (0.75, 0.6)
