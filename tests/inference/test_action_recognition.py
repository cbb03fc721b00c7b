"""Actions from an encoded video to predictions, with a real clip classifier written by hand."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from emulator.inference.manifest import load_manifest
from emulator.inference.objectives import open_predictor
from emulator.inference.predictor import Predictor, Segment
from emulator.vertex.instances import InstanceFailure
from emulator.vertex.objectives.action_recognition import ActionPrediction
from emulator.vertex.parameters import ModelParameters
from emulator.vertex.predictions import Prediction
from tests.inference.tiny_models import ACTIONS_TOML, WHITE, Picture, Watch, actions_folder, write_clip

WHOLE = Segment(0, None)
WHITE_FLASHES, RED_FLASHES = (0.8, 2.0, 2.6, 4.9), (1.4,)
Outcome = list[Prediction] | InstanceFailure


def flashes(seconds: float) -> Picture:
    """A black picture, white or red for one frame at certain times."""
    picture = np.zeros((16, 16, 3), np.uint8)
    if any(abs(seconds - at) < 0.01 for at in WHITE_FLASHES):
        picture[:] = WHITE
    if any(abs(seconds - at) < 0.01 for at in RED_FLASHES):
        picture[:] = (0, 0, 255)
    return picture


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "flashes.mp4", flashes, seconds=5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return open_predictor(load_manifest(actions_folder(tmp_path_factory.mktemp("model"))))


def predict(
    predictor: Predictor, video: Path, segments: Sequence[Segment] = (WHOLE,), **parameters: float
) -> dict[int, Outcome]:
    found = predictor.predict(video, segments, ModelParameters(**parameters), Watch())  # type: ignore[arg-type]
    return dict(found)


def actions(outcome: Outcome) -> list[tuple[str, float]]:
    assert isinstance(outcome, list)
    found = []
    for action in outcome:
        assert isinstance(action, ActionPrediction)
        found.append((action.label.display_name, action.time_us / 1e6))
    return sorted(found, key=lambda action: action[1])


EXPECTED = [("white", 0.8), ("red", 1.4), ("white", 2.0), ("white", 2.6), ("white", 4.9)]


def test_each_action_is_predicted_once_at_its_moment(model: Predictor, clip: Path) -> None:
    assert actions(predict(model, clip)[0]) == EXPECTED


def test_nothing_is_predicted_where_nothing_happens(model: Predictor, tmp_path: Path) -> None:
    video = write_clip(tmp_path / "dark.mp4", lambda _: np.zeros((16, 16, 3), np.uint8), seconds=2)
    assert predict(model, video, confidence_threshold=0.0)[0] == []


def test_the_background_is_never_predicted(model: Predictor, clip: Path) -> None:
    assert all(label != "none" for label, _ in actions(predict(model, clip)[0]))


def test_only_moments_in_the_half_open_segment_are_predicted(model: Predictor, clip: Path) -> None:
    found = predict(
        model, clip, [Segment(800_000, 1_400_000), Segment(800_001, 1_400_001), Segment(1_500_000, 1_900_000)]
    )
    assert actions(found[0]) == [("white", 0.8)]
    assert actions(found[1]) == [("red", 1.4)]
    assert actions(found[2]) == []


def test_a_segment_sees_the_frames_around_it(model: Predictor, clip: Path) -> None:
    whole = predict(model, clip)[0]
    assert isinstance(whole, list)
    narrow = predict(model, clip, [Segment(1_950_000, 2_050_000)])[0]
    assert narrow == [
        action for action in whole if isinstance(action, ActionPrediction) and action.time_us == 2_000_000
    ]


def test_predictions_do_not_depend_on_the_other_segments(model: Predictor, clip: Path) -> None:
    segments = [
        Segment(700_000, 900_000),
        WHOLE,
        Segment(700_000, 900_000),
        Segment(2_500_000, None),
        Segment(0, 1),
        Segment(4_800_000, 9_000_000),
    ]
    together = predict(model, clip, segments)
    assert sorted(together) == list(range(len(segments)))
    for index, segment in enumerate(segments):
        assert together[index] == predict(model, clip, [segment])[0]


def test_segments_are_finished_as_the_video_passes_them(model: Predictor, clip: Path) -> None:
    watch = Watch()
    seen = {}
    for index, _ in model.predict(clip, [WHOLE, Segment(0, 1_000_000)], ModelParameters(), watch):
        seen[index] = watch.times[-1]
    assert list(seen) == [1, 0]
    assert seen[1] < 2_000_000


def test_a_segment_past_the_end_fails_alone(model: Predictor, clip: Path) -> None:
    found = predict(model, clip, [Segment(5_000_000, None), Segment(60_000_000, 61_000_000), WHOLE])
    for index in (0, 1):
        failure = found[index]
        assert isinstance(failure, InstanceFailure)
        assert failure.code == 11
    assert actions(found[2]) == EXPECTED


def test_confidence_threshold_and_max_predictions(model: Predictor, clip: Path) -> None:
    found = predict(model, clip)[0]
    assert isinstance(found, list)
    confidences = [action.confidence for action in found]
    assert confidences == sorted(confidences, reverse=True)
    assert predict(model, clip, confidence_threshold=confidences[0])[0] == found[:1]
    # The limit is per frame, and no two of these are at one frame.
    assert predict(model, clip, max_predictions=1)[0] == found


def test_near_repeats_are_one_within_the_window_only(tmp_path: Path, clip: Path) -> None:
    toml = ACTIONS_TOML.replace("window = 0.3", "window = 0.7")
    found = predict(open_predictor(load_manifest(actions_folder(tmp_path, toml))), clip)[0]
    # The two at 2.0 and 2.6 s are equally strong to within rounding: one of them stays.
    assert len(actions(found)) == 4


@pytest.mark.parametrize(
    ("layout", "frames", "softmax", "step"),
    [("NTCHW", 5, False, 1), ("NCTHW", 4, False, 1), ("NCTHW", 5, True, 1), ("NCTHW", 9, False, 2)],
)
def test_other_shapes_find_the_same(
    tmp_path: Path, clip: Path, layout: str, frames: int, softmax: bool, step: int
) -> None:
    toml = ACTIONS_TOML.replace("NCTHW", layout).replace("frames = 5", f"frames = {frames}")
    toml = toml.replace("[actions]", f"[actions]\nstep = {step}")
    toml = toml.replace('"softmax"', '"none"') if softmax else toml
    folder = actions_folder(tmp_path, toml, layout=layout, frames=frames, softmax=softmax)
    found = actions(predict(open_predictor(load_manifest(folder)), clip)[0])
    assert [label for label, _ in found] == [label for label, _ in EXPECTED]
    assert [at for _, at in found] == pytest.approx([at for _, at in EXPECTED], abs=0.051 * step)


def test_a_video_shorter_than_a_clip_is_padded_with_its_edges(model: Predictor, tmp_path: Path) -> None:
    video = write_clip(
        tmp_path / "short.mp4",
        lambda seconds: np.full((16, 16, 3), 255 if seconds == pytest.approx(0.1) else 0, np.uint8),
        seconds=0.3,
    )
    assert actions(predict(model, video)[0]) == [("white", 0.1)]


def test_the_same_bytes_with_any_number_of_threads(tmp_path: Path, clip: Path) -> None:
    manifest = load_manifest(actions_folder(tmp_path))
    outcomes = [predict(open_predictor(manifest, threads=threads), clip) for threads in (1, 3)]
    assert outcomes[0] == outcomes[1]


def test_cancelling_ends_early_and_leaves_no_thread(model: Predictor, clip: Path) -> None:
    before = threading.active_count()
    watch = Watch(cancel_after=4)
    assert list(model.predict(clip, [WHOLE], ModelParameters(), watch)) == []
    assert len(watch.times) <= 5
    assert threading.active_count() == before


LONG_S = 240
#: Moments of a long video, some of them in close succession: (seconds, whether red).
LONG = tuple(
    (round(at, 2), number % 5 == 0)
    for number, at in enumerate(np.cumsum(np.random.default_rng(8).choice([0.6, 0.68, 1.4, 3.32], 200)))
    if at < LONG_S - 1
)


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = {round(at * 25): (0, 0, 255) if red else WHITE for at, red in LONG}

    def draw(seconds: float) -> Picture:
        # Three frames, the moment in the middle: the grid of 0.1 s has one of them at least.
        near = [pictures.get(round(seconds * 25) + beside) for beside in (-1, 0, 1)]
        return np.full((16, 16, 3), next((one for one in near if one), (0, 0, 0)), np.uint8)

    return write_clip(tmp_path_factory.mktemp("long") / "long.mp4", draw, seconds=LONG_S, fps=25)


def test_a_long_video_has_each_action_once_within_a_tenth_of_a_second(
    model: Predictor, long_clip: Path
) -> None:
    found = actions(predict(model, long_clip)[0])
    assert [label for label, _ in found] == ["red" if red else "white" for _, red in LONG]
    assert max(abs(at - moment) for (_, at), (moment, _) in zip(found, LONG, strict=True)) <= 0.1


def test_neighbouring_segments_share_the_actions_of_the_whole(model: Predictor, long_clip: Path) -> None:
    cuts_us = sorted({0, *np.random.default_rng(9).integers(1, LONG_S * 1_000_000, 40).tolist()})
    # Some cuts go through the very middle of an action.
    cuts_us = sorted({*cuts_us, *(round(at * 1e6) for at, _ in LONG[10:20])})
    ends_us: list[int | None] = [*cuts_us[1:], None]
    segments = [Segment(start, end) for start, end in zip(cuts_us, ends_us, strict=True)]
    found = predict(model, long_clip, [*segments, WHOLE])
    whole = found.pop(len(segments))
    assert sorted(action for outcome in found.values() for action in actions(outcome)) == sorted(
        actions(whole)
    )


def test_each_clip_is_looked_at_once_however_many_segments_overlap(model: Predictor, long_clip: Path) -> None:
    segments = [Segment(start * 1_000_000, (start + 60) * 1_000_000) for start in range(0, 180, 6)]
    watch = Watch()
    assert len(list(model.predict(long_clip, segments, ModelParameters(), watch))) == len(segments)
    assert len(watch.times) == len(set(watch.times)) <= 10 * LONG_S
