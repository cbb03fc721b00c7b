"""Our trackers on clips with truth; `test_tracker_beside_bytetrack.py` has another's beside them."""

from __future__ import annotations

import itertools
import json

import pytest

from emulator.inference.objectives.object_tracking import TRACKERS
from emulator.inference.sections import TrackerSection
from emulator.vertex.predictions import prediction_line
from tests.accuracy.tracking_runs import Update, predictions, score
from tests.accuracy.tracking_scenes import PERFECT, SCENES, degraded, detect, looks

#: Where objects no longer overlap themselves, or are not to be seen for a while.
MOTION_MATTERS = {"blur", "occluded"}


def tracker(kind: str) -> Update:
    return TRACKERS[kind](TrackerSection(kind=kind)).update


@pytest.mark.parametrize("scene", SCENES)
def test_perfect_detections_keep_their_identity(scene: str) -> None:
    found = score(lambda: tracker("bytetrack"), scene, PERFECT, seeds=[1])
    assert found.idf1 >= 0.9
    assert found.hota >= 0.88
    if scene not in MOTION_MATTERS:
        assert score(lambda: tracker("iou"), scene, PERFECT, seeds=[1]).idf1 >= 0.9


@pytest.mark.parametrize("kind", TRACKERS)
@pytest.mark.parametrize("scene", ["easy", "occluded", "5 fps"])
def test_a_prediction_is_one_uninterrupted_track(scene: str, kind: str) -> None:
    """Whatever is missed: a frame at every tenth of a second, from a sighting to a sighting."""
    seen = looks(scene, 1)
    found = detect(seen, degraded(scene), 1)
    sighted = {
        point
        for look, detections in zip(seen, found, strict=True)
        if len(detections)
        for point in range(look.first, look.last + 1)
    }
    tracks = json.loads(prediction_line("{}", predictions(tracker(kind), seen, found)))["prediction"]
    assert tracks
    for track in tracks:
        points = [round(float(frame["timeOffset"].removesuffix("s")) * 10) for frame in track["frames"]]
        assert points == list(range(points[0], points[-1] + 1))
        assert track["timeSegmentStart"] == track["frames"][0]["timeOffset"]
        assert track["timeSegmentEnd"] == track["frames"][-1]["timeOffset"]
        assert {points[0], points[-1]} <= sighted
        assert 0 < track["confidence"] <= 1
    confidences = [track["confidence"] for track in tracks]
    assert all(one >= other for one, other in itertools.pairwise(confidences))
