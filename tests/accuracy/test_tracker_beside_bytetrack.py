"""Our tracker beside `trackers`' ByteTrack, on the same detections of the same clips.

`make test-accuracy` installs it in an environment of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from emulator.comparison.metrics.tracking import Moment, figures
from emulator.inference.bytetrack import ByteTrack
from emulator.inference.heads import Detections
from emulator.inference.sections import TrackerSection
from tests.accuracy.tracking_runs import Update, identified, predicted, score
from tests.accuracy.tracking_scenes import PERFECT, SCENES, SIZE, degraded

trackers = pytest.importorskip("trackers", reason="`make test-accuracy` installs it")
supervision = pytest.importorskip("supervision", reason="`make test-accuracy` installs it")

pytestmark = [pytest.mark.accuracy, pytest.mark.filterwarnings("ignore")]

#: As it comes, and with the thresholds that ours has.
SETTINGS: tuple[dict[str, float], ...] = (
    {},
    {"minimum_consecutive_frames": 1, "track_activation_threshold": 0.6, "high_conf_det_threshold": 0.5},
)


def theirs(settings: dict[str, float]) -> Callable[[], Update]:
    def new() -> Update:
        tracker = trackers.ByteTrackTracker(frame_rate=10, **settings)

        def update(found: Detections, time_us: int) -> NDArray[np.int64]:
            answer = tracker.update(
                supervision.Detections(
                    xyxy=found.boxes.astype(np.float64) * np.array(SIZE * 2),
                    confidence=found.scores,
                    class_id=found.classes,
                    data={"row": np.arange(len(found))},
                ),
                timestamp=time_us / 1e6,
            )
            ids = np.zeros(len(found), np.int64)
            if len(answer):
                ids[answer.data["row"]] = answer.tracker_id + 1  # it counts from 0, and -1 is none
            return ids

        return update

    return new


@pytest.mark.parametrize("quality", ["perfect", "degraded"])
@pytest.mark.parametrize("scene", SCENES)
def test_ours_is_as_good_in_every_scene(scene: str, quality: str) -> None:
    """Theirs as it answers, and with short tracks dropped and gaps filled as here; the best of it counts."""
    detector = PERFECT if quality == "perfect" else degraded(scene)
    ours = score(lambda: ByteTrack(TrackerSection()).update, scene, detector)
    other = [
        score(theirs(settings), scene, detector, answer)
        for settings in SETTINGS
        for answer in (identified, predicted)
    ]
    best_hota, best_idf1 = max(one.hota for one in other), max(one.idf1 for one in other)
    print(
        f"\n{scene:14} {quality:9} HOTA {100 * ours.hota:5.1f} ({100 * best_hota:5.1f})  "
        f"IDF1 {100 * ours.idf1:5.1f} ({100 * best_idf1:5.1f})  MOTA {100 * ours.mota:5.1f} "
        f"({100 * max(one.mota for one in other):5.1f})"
    )
    assert ours.hota >= best_hota - 0.005
    assert ours.idf1 >= best_idf1 - 0.005
    if quality == "perfect":
        assert ours.idf1 >= 0.9


@pytest.mark.parametrize("seed", range(20))
def test_the_figures_are_theirs(seed: int) -> None:
    """Our HOTA, IDF1 and MOTA beside theirs, on answers made up by chance."""
    rng = np.random.default_rng(seed)
    moments = []
    for _ in range(30):
        true, seen = rng.permutation(6)[: rng.integers(1, 7)], rng.permutation(8)[: rng.integers(1, 9)]
        moments.append(Moment(true, seen, rng.random((len(true), len(seen)))))
    rows = [[one.true for one in moments], [one.seen for one in moments], [one.overlap for one in moments]]
    found = figures(moments)
    assert found.hota == pytest.approx(trackers.eval.compute_hota_metrics(*rows)["HOTA"])
    assert found.idf1 == pytest.approx(trackers.eval.compute_identity_metrics(*rows)["IDF1"])
    assert found.mota == pytest.approx(trackers.eval.compute_clear_metrics(*rows)["MOTA"])
