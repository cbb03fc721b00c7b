"""What the truth says is what the pictures and the encoded file show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from emulator.factory import (
    BACKGROUNDS,
    CODECS,
    KINDS,
    Camera,
    Clip,
    Encoder,
    FactoryError,
    Light,
    Object,
    Shape,
    Stage,
    Truth,
    render,
    truth_of,
)
from emulator.factory.encode import Picture

BOX = (0.3, 0.25, 0.7, 0.85)
SMALL = Clip(size=(160, 120), fps=10, duration=1.0, background="plain", seed=3)
CAT = Object("cat", start=0.2, end=0.6, path=[BOX], colour=(20, 20, 250))
FORMATS = [(suffix, codec) for suffix, codecs in CODECS.items() for codec in codecs]


def decoded(path: Path) -> list[tuple[float, Picture]]:
    """The timestamps in seconds and the pictures of a video file."""
    video = cv2.VideoCapture(str(path))
    frames: list[tuple[float, Picture]] = []
    while True:
        more, picture = video.read()
        if not more:
            video.release()
            return frames
        frames.append((video.get(cv2.CAP_PROP_POS_MSEC) / 1000, np.asarray(picture, dtype=np.uint8)))


def changed(picture: Picture, other: Picture, least: int) -> np.ndarray:
    return np.asarray(cv2.absdiff(picture, other).max(axis=2) >= least)


@pytest.mark.parametrize("label", KINDS)
@pytest.mark.parametrize("facing", ["left", "right"])
def test_changed_pixels_lie_in_the_box_and_touch_its_edges(label: str, facing: str) -> None:
    path = [(-0.1, 0.1, 0.3, 0.5), (0.55, 0.45, 0.93, 0.97)]
    thing = Object(label, 0.0, 0.9, path, colour=(250, 20, 20), pattern="plain", facing=facing)
    clip = replace(SMALL, size=(320, 240), objects=[thing])
    stage, empty = Stage(clip), Stage(replace(clip, objects=[]))
    for number in range(clip.frame_count):
        frame = stage.frame(number)
        rows, columns = np.nonzero(changed(frame.picture, empty.frame(number).picture, 8))
        seen = frame.sightings[0]
        edges = np.array([seen.x_min * 320, seen.x_max * 320, seen.y_min * 240, seen.y_max * 240])
        found = np.array([columns.min(), columns.max() + 1, rows.min(), rows.max() + 1])
        assert np.abs(edges - found).max() <= 1.01, (number, edges, found)


@pytest.mark.parametrize("label", KINDS)
def test_object_fills_the_box_it_was_given(label: str) -> None:
    thing = Object(label, 0.0, 0.9, [BOX])
    (track,) = truth_of(replace(SMALL, size=(640, 480), objects=[thing])).tracks
    for frame in track.frames:
        box = (frame.x_min, frame.y_min, frame.x_max, frame.y_max)
        assert box == pytest.approx(BOX, abs=2.5 / 480)


@pytest.mark.parametrize("fps", [5, 10, 12, 15, 24, 25, 29.97, 30, 50, 60])
@pytest.mark.parametrize(("start", "end"), [(0.4, 1.2), (0.8, 0.8), (0.0, 1.5)])
def test_object_is_in_the_frame_nearest_to_each_grid_point_of_its_truth(
    tmp_path: Path, fps: float, start: float, end: float
) -> None:
    clip = Clip(
        size=(64, 48), fps=fps, duration=1.6, background="plain", objects=[replace(CAT, start=start, end=end)]
    )
    truth = render(clip, tmp_path / "clip.mp4")
    render(replace(clip, objects=[]), tmp_path / "empty.mp4")
    frames, empty = decoded(tmp_path / "clip.mp4"), decoded(tmp_path / "empty.mp4")
    times = np.array([time for time, _ in frames])
    seen = []
    for grid_point in range(16):
        nearest = int(np.argmin(np.round(np.abs(times - grid_point / 10), 6)))
        if changed(frames[nearest][1], empty[nearest][1], 60).sum() > 50:
            seen.append(grid_point * 100_000)
    assert seen == [frame.time_us for frame in truth.tracks[0].frames]
    if fps >= 10:
        assert (seen[0], seen[-1]) == (round(start * 1e6), round(end * 1e6))


def test_object_of_a_single_moment_is_on_the_frames_around_its_grid_point_only() -> None:
    stage = Stage(Clip(size=(64, 48), fps=30, duration=1.0, objects=[replace(CAT, start=0.5, end=0.5)]))
    shown = [frame.number for frame in stage.frames() if frame.sightings]
    assert shown == [14, 15, 16]


@pytest.mark.parametrize(("suffix", "codec"), FORMATS)
@pytest.mark.parametrize("size", [(160, 90), (90, 160)])
def test_every_format_decodes_to_the_rendered_pictures(
    tmp_path: Path, suffix: str, codec: str, size: tuple[int, int]
) -> None:
    clip = replace(SMALL, size=size, fps=12.5, objects=[CAT])
    path = tmp_path / f"clip{suffix}"
    render(clip, path, codec=codec)
    frames = decoded(path)
    assert [time for time, _ in frames] == pytest.approx(
        [n / 12.5 for n in range(clip.frame_count)], abs=0.001
    )
    for (_, picture), rendered in zip(frames, Stage(clip).frames(), strict=True):
        assert picture.shape == (size[1], size[0], 3)
        assert cv2.absdiff(picture, rendered.picture).mean() < 12


@pytest.mark.parametrize("fps", [5, 23.976, 29.97, 60])
def test_frame_rate_is_in_the_file(tmp_path: Path, fps: float) -> None:
    render(replace(SMALL, fps=fps), tmp_path / "clip.mp4")
    video = cv2.VideoCapture(str(tmp_path / "clip.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(fps, rel=1e-4)


def test_same_clip_gives_the_same_file(tmp_path: Path) -> None:
    clip = Clip(
        size=(160, 120),
        duration=0.5,
        seed=9,
        camera=Camera(pan=(0.2, 0.0), shake=0.02),
        light=Light(swing=0.2),
        noise=4.0,
        objects=[Object("dog", 0.0, 0.4, [BOX])],
    )
    assert render(clip, tmp_path / "a.mp4").tracks == render(clip, tmp_path / "b.mp4").tracks
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    render(replace(clip, seed=10), tmp_path / "c.mp4")
    assert (tmp_path / "a.mp4").read_bytes() != (tmp_path / "c.mp4").read_bytes()


def test_pictures_do_not_depend_on_the_order_they_are_asked_for() -> None:
    clip = replace(SMALL, noise=5.0, camera=Camera(shake=0.05), objects=[CAT])
    forwards = [frame.picture for frame in Stage(clip).frames()]
    backwards = [Stage(clip).frame(number).picture for number in reversed(range(clip.frame_count))]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_background_is_a_picture_of_its_own(background: str) -> None:
    first = Stage(replace(SMALL, background=background, seed=1)).frame(0).picture
    second = Stage(replace(SMALL, background=background, seed=2)).frame(0).picture
    assert first.shape == (120, 160, 3)
    assert not np.array_equal(first, second)


def test_moving_camera_moves_the_background_but_no_box() -> None:
    still = replace(SMALL, background="patches", objects=[CAT])
    moving = replace(still, camera=Camera(pan=(0.5, 0.1)))
    assert not np.array_equal(Stage(still).frame(3).picture, Stage(moving).frame(3).picture)
    assert truth_of(still).tracks == truth_of(moving).tracks


def test_light_dims_the_whole_picture() -> None:
    bright, dark = (Stage(replace(SMALL, light=Light(gain=gain))).frame(0).picture for gain in (1.0, 0.5))
    assert dark.mean() == pytest.approx(bright.mean() / 2, abs=1)


def test_occluder_cuts_the_box_to_what_is_visible() -> None:
    wall = Shape("box", 0.0, 1.0, [(0.5, 0.0, 1.1, 1.0)])
    (track,) = truth_of(replace(SMALL, objects=[CAT, wall])).tracks
    for frame in track.frames:
        assert frame.x_max == pytest.approx(0.5, abs=0.02)
        assert 0.3 < frame.visible < 0.7


def test_distractor_behind_an_object_leaves_its_box_whole() -> None:
    wall = Shape("box", 0.0, 1.0, [(0.5, 0.0, 1.1, 1.0)])
    assert (
        truth_of(replace(SMALL, objects=[wall, CAT])).tracks == truth_of(replace(SMALL, objects=[CAT])).tracks
    )


def test_hidden_object_is_not_in_the_truth() -> None:
    wall = Shape("box", 0.4, 0.4, [(0.0, 0.0, 1.0, 1.0)])
    (track,) = truth_of(replace(SMALL, objects=[CAT, wall])).tracks
    assert [frame.time_us for frame in track.frames] == [200_000, 300_000, 500_000, 600_000]


def test_object_of_which_hardly_anything_is_visible_is_not_in_the_truth() -> None:
    wall = Shape("box", 0.0, 1.0, [(0.0, 0.0, 0.63, 1.0)])
    picture = Stage(replace(SMALL, objects=[CAT, wall])).frame(4).picture
    assert changed(picture, Stage(replace(SMALL, objects=[wall])).frame(4).picture, 60).any()
    assert truth_of(replace(SMALL, objects=[CAT, wall])).tracks == ()


def test_truth_is_written_in_the_prediction_schema() -> None:
    dog = Object("dog", 0.1, 0.1, [BOX])
    truth: Truth = truth_of(replace(SMALL, objects=[CAT, dog]))
    cat_line, dog_line = truth.object_tracking({"cat": "17", "dog": "4"})
    assert list(cat_line) == [
        "id",
        "displayName",
        "timeSegmentStart",
        "timeSegmentEnd",
        "confidence",
        "frames",
    ]
    assert (cat_line["id"], cat_line["displayName"]) == ("17", "cat")
    assert (cat_line["timeSegmentStart"], cat_line["timeSegmentEnd"]) == ("0.200s", "0.600s")
    assert dog_line["timeSegmentStart"] == dog_line["timeSegmentEnd"] == "0.100s"
    assert list(cat_line["frames"][0]) == ["timeOffset", "xMin", "xMax", "yMin", "yMax"]
    assert truth.action_recognition() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": (161, 120)}, ["width is 161", "even"]),
        ({"size": (160, 8)}, ["height is 8", "16 to 4096"]),
        ({"fps": 0}, ["fps is 0", "1 to 120"]),
        ({"duration": 0}, ["duration is 0", "more than 0"]),
        ({"background": "jungle"}, ["'jungle'", "texture"]),
        ({"objects": [replace(CAT, start=0.7)]}, ["'cat'", "0.7", "start must lie"]),
        ({"objects": [replace(CAT, start=5, end=6)]}, ["'cat'", "5", "1.0 s"]),
    ],
)
def test_bad_clip_is_refused_with_value_and_remedy(
    tmp_path: Path, change: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(FactoryError) as caught:
        render(replace(SMALL, **change), tmp_path / "clip.mp4")  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"label": "unicorn"}, ["'unicorn'", "cat"]),
        ({"pattern": "tartan"}, ["'tartan'", "stripes"]),
        ({"facing": "up"}, ["'up'", "left"]),
        ({"path": []}, ["empty", "at least one box"]),
        ({"path": [(0.5, 0.1, 0.2, 0.9)]}, ["(0.5, 0.1, 0.2, 0.9)", "x_min < x_max"]),
        ({"path": [(0.1, 0.1, float("nan"), 0.9)]}, ["nan", "four numbers"]),
    ],
)
def test_bad_object_is_refused_with_value_and_remedy(arguments: dict[str, object], words: list[str]) -> None:
    with pytest.raises(FactoryError) as caught:
        replace(CAT, **arguments)  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in words), caught.value


def test_bad_shape_is_refused_with_value_and_remedy() -> None:
    with pytest.raises(FactoryError, match=r"'heart'; use one of .*star"):
        Shape("heart", 0, 1, [BOX])
    with pytest.raises(FactoryError, match=r"'tartan'; use one of .*spots"):
        Shape("disc", 0, 1, [BOX], pattern="tartan")


@pytest.mark.parametrize(
    ("name", "codec", "words"),
    [
        ("clip.mkv", None, ["'clip.mkv'", ".mp4"]),
        ("clip.mp4", "XVID", ["'XVID'", "mp4v"]),
        ("missing/clip.mp4", None, ["missing", "create it"]),
    ],
)
def test_file_that_cannot_be_written_is_refused_with_a_remedy(
    tmp_path: Path, name: str, codec: str | None, words: list[str]
) -> None:
    with pytest.raises(FactoryError) as caught:
        render(SMALL, tmp_path / name, codec=codec)
    assert all(word in str(caught.value) for word in words), caught.value


def test_encoder_refuses_a_picture_of_another_size(tmp_path: Path) -> None:
    with (
        Encoder(tmp_path / "clip.mp4", size=(64, 48), fps=10) as encoder,
        pytest.raises(FactoryError, match=r"\(48, 32, 3\)"),
    ):
        encoder.write(np.zeros((48, 32, 3), dtype=np.uint8))
