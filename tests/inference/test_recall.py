"""With the prediction cache every answer is the same as without, and only what is missing is decoded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from emulator.inference import loaded, recall
from emulator.inference.heads import Detections
from emulator.inference.manifest import load_manifest
from emulator.inference.objectives import open_predictor
from emulator.inference.prediction_cache import CachePlace, PredictionCache
from emulator.inference.predictor import Predictor, Segment
from emulator.inference.recall import DetectionsCodec, Recall
from emulator.inference.video import FrameSource, Sample, quiet_decoder
from emulator.vertex.instances import InstanceFailure
from emulator.vertex.parameters import ModelParameters
from emulator.vertex.predictions import Prediction
from tests.inference.corpus import irregular
from tests.inference.tiny_models import (
    CLASSIFICATION_TOML,
    GREEN,
    RED,
    TRACKING_TOML,
    WHITE,
    Picture,
    Watch,
    actions_folder,
    classification_folder,
    squares,
    tracking_folder,
)

WHOLE = Segment(0, None)
Folder = Callable[..., Path]
Outcomes = dict[int, list[Prediction] | InstanceFailure]
MODELS: dict[str, Folder] = {
    "tracking": tracking_folder,
    "actions": actions_folder,
    "classification": classification_folder,
}


def scene(seconds: float) -> Picture:
    """Something for each model: squares that walk, and a whole picture that flashes now and then."""
    step = round(seconds * 10)
    if step % 11 == 5:
        return squares() + np.array(WHITE, np.uint8)
    return squares((RED, step // 6 % 8, 2), (GREEN, 0, step // 9 % 8))


def encode(path: Path, times_ms: Sequence[int]) -> Path:
    """H.264 with B-frames and a key frame now and then."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=30, options={"crf": "20"})
        video.width = video.height = 128
        video.pix_fmt, video.gop_size, video.max_b_frames = "yuv420p", 12, 2
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        video.codec_context.thread_count = 1
        for time_ms in times_ms:
            picture = cv2.resize(scene(time_ms / 1000), (128, 128), interpolation=cv2.INTER_NEAREST)
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


CLIPS: dict[str, Sequence[int]] = {
    "30 a second.mp4": range(0, 3960, 33),
    "7 a second.mp4": range(0, 4000, 143),
    "irregular.mp4": irregular(70, seed=5, gaps=(20, 45)),
    "7 a second.ts": range(0, 4000, 143),
}


@pytest.fixture(scope="module", autouse=True)
def _quiet(no_shared_cache: None) -> None:
    quiet_decoder()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for name, times_ms in CLIPS.items():
        encode(folder / name, times_ms)
    return folder


@pytest.fixture
def place(tmp_path: Path) -> CachePlace:
    return CachePlace(tmp_path / "cache", 100_000_000)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "BLOCK", 7)


def opened(folder: Path, place: CachePlace | None = None, **options: Any) -> Predictor:
    """As in a worker that has just started: it knows nothing but what the folder holds."""
    return open_predictor(load_manifest(folder), cache=PredictionCache(place) if place else None, **options)


def answers(
    predictor: Predictor, video: Path, segments: Sequence[Segment] = (WHOLE,), **given: Any
) -> tuple[Outcomes, Watch]:
    watch = Watch()
    return dict(predictor.predict(video, segments, ModelParameters(**given), watch)), watch


def kept_of(watch: Watch) -> tuple[int, int]:
    assert watch.decoding is not None
    return watch.decoding.kept, watch.decoding.of


class CountingSource(FrameSource):
    """Counts the frames that are sampled of all videos, and the videos that are opened."""

    sampled = videos = 0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        CountingSource.videos += 1
        super().__init__(*arguments, **named)

    def sample_frames(self, *arguments: Any, **named: Any) -> Iterator[Any]:  # type: ignore[override]
        for sample in super().sample_frames(*arguments, **named):
            CountingSource.sampled += 1
            yield sample


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> type[CountingSource]:
    monkeypatch.setattr(loaded, "FrameSource", CountingSource)
    CountingSource.sampled = CountingSource.videos = 0
    return CountingSource


def history(seed: int) -> list[list[Segment]]:
    """Jobs of some segments each, anywhere in a video of about four seconds and behind it."""
    random = np.random.default_rng(seed)
    jobs = []
    for _ in range(4):
        segments = []
        for _ in range(int(random.integers(1, 4))):
            start = int(random.integers(0, 4_600_000))
            length = int(random.choice([1, 40_000, 400_000, 1_500_000]))
            segments.append(Segment(start, None if random.integers(5) == 0 else start + length))
        jobs.append(segments)
    return [*jobs, [WHOLE], [WHOLE, *jobs[0]]]


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.usefixtures("small_blocks")
def test_whatever_was_asked_before_the_answers_are_the_same(
    tmp_path: Path, clips: Path, place: CachePlace, kind: str, clip: str
) -> None:
    folder = MODELS[kind](tmp_path / "model")
    plain = opened(folder)
    for seed in range(3):
        shutil.rmtree(place.folder, ignore_errors=True)
        predictor = opened(folder, place)
        for segments in history(seed):
            expected, bare = answers(plain, clips / clip, segments)
            found, watch = answers(predictor, clips / clip, segments)
            assert found == expected
            assert watch.times == bare.times
            if kind != "actions":  # where no more is said once the last clip is there
                assert watch.frames[0] == bare.frames[0]
            assert watch.decoding is not None
            assert bare.decoding is not None
            assert watch.decoding.decoder == bare.decoding.decoder
            assert watch.decoding.warnings == bare.decoding.warnings
        assert kept_of(watch)[0] == kept_of(watch)[1] >= 20


@pytest.mark.parametrize("kind", MODELS)
def test_what_is_known_is_neither_decoded_nor_inferred(
    tmp_path: Path, clips: Path, place: CachePlace, counting: type[CountingSource], kind: str
) -> None:
    video, folder = clips / "30 a second.mp4", MODELS[kind](tmp_path / "model")
    first, _ = answers(opened(folder, place), video)
    assert counting.videos == 1
    again = opened(folder, place)
    second, watch = answers(again, video)
    assert second == first
    inside, _ = answers(again, video, [Segment(1_000_000, 2_000_000), Segment(1_500_000, 1_700_000)])
    assert counting.videos == 1
    assert (
        inside
        == answers(opened(folder), video, [Segment(1_000_000, 2_000_000), Segment(1_500_000, 1_700_000)])[0]
    )
    kept, of = kept_of(watch)
    assert kept == of == (20 if kind == "classification" else 40)
    assert watch.frames == (of, of)


@pytest.mark.parametrize("kind", MODELS)
def test_of_a_longer_segment_the_rest_is_decoded(
    tmp_path: Path, clips: Path, place: CachePlace, counting: type[CountingSource], kind: str
) -> None:
    video, folder = clips / "30 a second.mp4", MODELS[kind](tmp_path / "model")
    predictor = opened(folder, place)
    answers(predictor, video, [Segment(0, 2_000_000)])
    counting.sampled = 0
    found, watch = answers(predictor, video)
    assert counting.sampled <= 28
    kept, of = kept_of(watch)
    assert 0.4 < kept / of < 0.7
    assert found == answers(opened(folder), video)[0]


def test_thresholds_and_the_tracker_are_free_to_change(
    tmp_path: Path, clips: Path, place: CachePlace, counting: type[CountingSource]
) -> None:
    video = clips / "30 a second.mp4"
    answers(opened(tracking_folder(tmp_path / "model"), place), video)
    toml = TRACKING_TOML.replace("[tracker]", '[tracker]\nkind = "iou"\nbuffer = 0.3')
    assert toml != TRACKING_TOML
    other = tracking_folder(tmp_path / "other", toml)
    (other / "labels.txt").write_text("rouge\nvert\n")
    counting.videos = 0
    for given in ({}, {"confidence_threshold": 0.95}, {"min_bounding_box_size": 0.1}, {"max_predictions": 1}):
        found, _ = answers(opened(other, place), video, **given)
        assert counting.videos == 0
        assert found == answers(opened(other), video, **given)[0]
        counting.videos = 0


CHANGES: dict[str, Callable[[Path], object]] = {
    "the input": lambda folder: edit(folder, "[input]", "[input]\npad = 3"),
    "min_score": lambda folder: edit(folder, "min_score = 0.3", "min_score = 0.2"),
    "the grid": lambda folder: edit(folder, "[tracker]", "[sampling]\nrate = 5\n[tracker]"),
    "the weights": lambda folder: (folder / "model.onnx").write_bytes(
        (folder / "model.onnx").read_bytes() + b"\x72\x06\x0a\x01a\x12\x01b"
    ),
}


def edit(folder: Path, old: str, new: str) -> None:
    text = (folder / "model.toml").read_text()
    assert old in text
    (folder / "model.toml").write_text(text.replace(old, new))


@pytest.mark.parametrize("what", [*CHANGES, "the video"])
def test_what_results_depend_on_makes_other_results(
    tmp_path: Path, clips: Path, place: CachePlace, what: str
) -> None:
    folder = tracking_folder(tmp_path / "model")
    video = tmp_path / "clip.mp4"
    shutil.copy(clips / "7 a second.mp4", video)
    answers(opened(folder, place), video)
    if what in CHANGES:
        CHANGES[what](folder)
    else:
        shutil.copy(clips / "30 a second.mp4", video)
    found, watch = answers(opened(folder, place), video)
    assert kept_of(watch)[0] == 0
    assert kept_of(watch)[1] >= 20
    assert found == answers(opened(folder), video)[0]


def test_a_video_is_known_by_its_content_wherever_it_lies(
    tmp_path: Path, clips: Path, place: CachePlace, counting: type[CountingSource]
) -> None:
    folder = tracking_folder(tmp_path / "model")
    answers(opened(folder, place), clips / "7 a second.mp4")
    shutil.copy(clips / "7 a second.mp4", tmp_path / "copy.mp4")
    answers(opened(folder, place), tmp_path / "copy.mp4")
    assert counting.videos == 1


def damage(path: Path, share: float) -> Path:
    """Overwrite a piece of the coded pictures."""
    data = bytearray(path.read_bytes())
    first = max(0, data.find(b"mdat"))
    until = data.find(b"moov", first) if first else len(data)
    begin = first + int((until - first) * share)
    data[begin : begin + 600] = np.random.default_rng(1).bytes(600)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("how", ["damaged", "cut short"])
def test_nothing_is_kept_of_a_damaged_video(
    tmp_path: Path, clips: Path, place: CachePlace, kind: str, how: str
) -> None:
    """What comes out of it may depend on where one begins to read."""
    video = tmp_path / "7 a second.ts"
    shutil.copy(clips / video.name, video)
    if how == "damaged":
        damage(video, 0.6)
    else:
        os.truncate(video, video.stat().st_size * 2 // 3)
    folder = MODELS[kind](tmp_path / "model")
    plain = opened(folder)
    for segments in ([Segment(0, 800_000)], [WHOLE], [Segment(200_000, 3_000_000)], [WHOLE]):
        found, watch = answers(opened(folder, place), video, segments)
        expected, bare = answers(plain, video, segments)
        assert found == expected
        assert watch.decoding is not None
        assert bare.decoding is not None
        assert watch.decoding.warnings == bare.decoding.warnings


def test_damage_found_behind_what_is_known_begins_again(
    tmp_path: Path, clips: Path, place: CachePlace, counting: type[CountingSource]
) -> None:
    video = damage(Path(shutil.copy(clips / "30 a second.mp4", tmp_path / "clip.mp4")), 0.7)
    folder = tracking_folder(tmp_path / "model")
    bare = answers(opened(folder), video)
    assert bare[1].decoding is not None
    assert bare[1].decoding.warnings
    _, watch = answers(opened(folder, place), video, [Segment(0, 1_000_000)])
    assert kept_of(watch) == (0, 10)
    both = [Segment(0, 500_000), WHOLE]
    expected, _ = answers(opened(folder), video, both)
    counting.videos = 0
    for videos in (2, 3):  # once more, and from then on without a try
        found, watch = answers(opened(folder, place), video, both)
        assert found == expected
        assert kept_of(watch) == (0, 0)
        assert counting.videos == videos


@pytest.mark.usefixtures("small_blocks")
def test_what_vanishes_on_the_way_is_computed(
    tmp_path: Path, clips: Path, place: CachePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall, "HELD_BYTES", 0)
    video, folder = clips / "30 a second.mp4", tracking_folder(tmp_path / "model")
    segments = [Segment(0, 300_000), WHOLE]
    expected, _ = answers(opened(folder, place), video, segments)
    gone = recall.Recall.known

    def known(self: Recall[Any], wanted: Any) -> Iterator[Any]:
        shutil.rmtree(place.folder)
        yield from gone(self, wanted)

    monkeypatch.setattr(recall.Recall, "known", known)
    found, watch = answers(opened(folder, place), video, segments)
    assert found == expected
    assert kept_of(watch)[0] == 0


def test_a_cancelled_job_keeps_what_it_had(tmp_path: Path, clips: Path, place: CachePlace) -> None:
    video, folder = clips / "30 a second.mp4", tracking_folder(tmp_path / "model")
    watch = Watch(cancel_after=20)
    assert not list(opened(folder, place).predict(video, [WHOLE], ModelParameters(), watch))
    found, watch = answers(opened(folder, place), video)
    assert kept_of(watch)[0] >= 19
    assert found == answers(opened(folder), video)[0]


def test_shots_are_looked_for_in_the_video_itself(tmp_path: Path, clips: Path, place: CachePlace) -> None:
    video, folder = clips / "30 a second.mp4", classification_folder(tmp_path / "model")
    for _ in range(2):
        found, watch = answers(opened(folder, place), video, shot_classification=True)
        assert kept_of(watch) == (0, 0)
        assert found == answers(opened(folder), video, shot_classification=True)[0]


def test_clips_of_other_frames_are_other_clips(tmp_path: Path, clips: Path, place: CachePlace) -> None:
    video = clips / "30 a second.mp4"
    answers(opened(classification_folder(tmp_path / "model"), place), video)
    other = classification_folder(tmp_path / "other", CLASSIFICATION_TOML + "[classification]\nstep = 2\n")
    found, watch = answers(opened(other, place), video)
    assert kept_of(watch)[0] == 0
    assert found == answers(opened(other), video)[0]


def test_a_spoilt_folder_changes_no_answer(tmp_path: Path, clips: Path, place: CachePlace) -> None:
    video, folder = clips / "30 a second.mp4", tracking_folder(tmp_path / "model")
    expected, _ = answers(opened(folder, place), video)
    for path in place.folder.iterdir():
        path.write_bytes(path.read_bytes()[:-7])
    found, watch = answers(opened(folder, place), video)
    assert found == expected
    assert kept_of(watch)[0] == 0
    assert kept_of(answers(opened(folder, place), video)[1]) == (40, 40)


def test_a_video_that_changes_meanwhile_leaves_nothing(
    tmp_path: Path, clips: Path, place: CachePlace
) -> None:
    video, folder = tmp_path / "clip.mp4", tracking_folder(tmp_path / "model")
    shutil.copy(clips / "7 a second.mp4", video)
    results = opened(folder, place).predict(video, [Segment(0, 200_000), WHOLE], ModelParameters(), Watch())
    next(results)
    os.utime(video, (1, 1))
    list(results)
    assert not place.folder.exists()


def test_an_hour_with_twenty_objects_a_frame_takes_30_mb_at_most(tmp_path: Path) -> None:
    (tmp_path / "video").write_bytes(b"video")
    cache = PredictionCache(CachePlace(tmp_path / "cache", 500_000_000))
    identity = cache.videos.get(tmp_path / "video")
    random = np.random.default_rng(1)
    hour: Recall[Detections] = Recall(
        cache, tmp_path / "video", identity, DetectionsCodec(), decoding="", look=""
    )
    for point in range(36_000):
        found = Detections(
            random.random((20, 4), np.float32), random.random(20, np.float32), random.integers(0, 80, 20)
        )
        hour.learn(Sample(point, point, point * 100_000, found))
    hour.flush()
    assert sum(path.stat().st_size for path in (tmp_path / "cache").iterdir()) <= 30_000_000
