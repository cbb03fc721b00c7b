"""What a test may expect of predictions, on the SDK's own types, and what a mismatch says."""

import json
from typing import Any

from google.cloud.aiplatform.v1.schema.predict.prediction_v1 import types

from emulator.testing import Predictions, action, label, track
from emulator.testing.expectations import explain

BOX = (0.1, 0.2, 0.5, 0.6)
HALF_OF_IT = (0.1, 0.2, 0.3, 0.6)


def found(label: str, start: float, end: float, confidence: float = 0.9, box: Any = BOX) -> Any:
    """A predicted track with the same box at both ends."""
    frames = [
        {"timeOffset": f"{time}s", "xMin": box[0], "yMin": box[1], "xMax": box[2], "yMax": box[3]}
        for time in dict.fromkeys((start, end))
    ]
    members = {
        "id": "1",
        "displayName": label,
        "timeSegmentStart": f"{start}s",
        "timeSegmentEnd": f"{end}s",
        "confidence": confidence,
        "frames": frames,
    }
    return types.VideoObjectTrackingPredictionResult.from_json(json.dumps(members))


def predictions(*all_found: Any) -> Predictions:
    return Predictions([({"content": "gs://b/a.mp4"}, all_found)])


def test_track_is_in_predictions_within_its_tolerance() -> None:
    seen = predictions(found("dog", 0.5, 0.9), found("cat", 1.3, 3.3))
    assert track("cat", 1.2, 3.4) in seen
    assert track("cat", 1.2, 3.4, within=0.05) not in seen
    assert track("bird", 1.2, 3.4) not in seen


def test_confidence_is_the_least_that_will_do() -> None:
    seen = predictions(found("cat", 1, 2, confidence=0.6))
    assert track("cat", 1, 2, confidence=0.6 - 1e-6) in seen
    assert track("cat", 1, 2, confidence=0.7) not in seen


def test_boxes_have_to_overlap_over_the_moments_of_either() -> None:
    seen = predictions(found("cat", 1, 2))
    both = {1.0: BOX, 2.0: BOX}
    assert track("cat", 1, 2, boxes=both, iou=0.99) in seen
    assert track("cat", 1, 2, boxes={1.0: HALF_OF_IT, 2.0: HALF_OF_IT}, iou=0.49) in seen
    assert track("cat", 1, 2, boxes={1.0: HALF_OF_IT, 2.0: HALF_OF_IT}, iou=0.51) not in seen
    # A moment that the prediction lacks counts as no overlap: two of three.
    assert track("cat", 1, 2, boxes=both | {1.5: BOX}, iou=0.66) in seen
    assert track("cat", 1, 2, boxes=both | {1.5: BOX}, iou=0.67) not in seen


def test_each_expectation_needs_a_prediction_of_its_own() -> None:
    cat = track("cat", 1, 2)
    assert predictions(found("cat", 1, 2), found("cat", 1, 2)) == [cat, cat]
    assert predictions(found("cat", 1, 2)) != [cat, cat]
    assert predictions(found("cat", 1, 2), found("cat", 1, 2)) != [cat]
    assert predictions() == []


def test_a_loose_expectation_leaves_the_prediction_that_only_a_strict_one_fits() -> None:
    loose, strict = track("cat", 1, 2, within=0.5), track("cat", 1, 2, within=0.01)
    assert predictions(found("cat", 1, 2), found("cat", 1.4, 2)) == [loose, strict]
    assert predictions(found("cat", 1, 2), found("cat", 1.4, 2)) == [strict, loose]


def test_predictions_of_one_video() -> None:
    first, second = found("cat", 1, 2), found("dog", 1, 2)
    seen = Predictions([({"content": "gs://b/a.mp4"}, [first]), ({"content": "gs://b/b.mp4"}, [second])])
    assert list(seen.of("gs://b/b.mp4")) == [second]
    assert len(seen) == 2
    assert seen[0] == first


def test_mismatch_names_the_nearest_prediction_and_how_it_differs() -> None:
    seen = predictions(found("dog", 1.2, 3.4), found("cat", 1.2, 2.9, box=HALF_OF_IT))
    wanted = track("cat", 1.2, 3.4, boxes={1.2: BOX, 2.9: BOX})
    lines = explain("in", wanted, seen)
    assert lines is not None
    assert lines[1:] == [
        "expected cat from 1.2 s to 3.4 s (within 0.1 s, IoU 0.8)",
        "nearest: cat from 1.2 s to 2.9 s, confidence 0.90:"
        " it ends 0.5 s too early and has IoU 0.50, not 0.8",
        "also predicted: dog from 1.2 s to 3.4 s, confidence 0.90",
    ]


def test_mismatch_of_an_action() -> None:
    members = {"id": "1", "displayName": "swing", "timeSegmentStart": "1.5s", "timeSegmentEnd": "1.5s"}
    swing = types.VideoActionRecognitionPredictionResult.from_json(json.dumps(members | {"confidence": 0.5}))
    lines = explain("in", action("swing", 1.2, confidence=0.8), predictions(swing))
    assert lines is not None
    assert lines[-1] == (
        "nearest: swing at 1.5 s, confidence 0.50: it comes 0.3 s too late and has confidence 0.50, not 0.8"
    )


def test_mismatch_of_a_label() -> None:
    cat = {"id": "1", "displayName": "cat", "timeSegmentStart": "0s", "confidence": 0.75}
    shot, segment = (
        types.VideoClassificationPredictionResult.from_json(json.dumps(cat | members))
        for members in (
            {"type": "shot-classification", "timeSegmentEnd": "5s"},
            {"type": "segment-classification", "timeSegmentEnd": "4.5s"},
        )
    )
    assert label("cat", 0, 4.5, confidence=0.75) in predictions(shot, segment)
    lines = explain("in", label("cat", 0, 5, confidence=0.5), predictions(shot, segment))
    assert lines is not None
    assert lines[1:] == [
        "expected cat (segment-classification) from 0 s to 5 s (within 0.1 s, confidence 0.5 or more)",
        "nearest: cat (segment-classification) from 0 s to 4.5 s, confidence 0.75: it ends 0.5 s too early",
        "also predicted: cat (shot-classification) from 0 s to 5 s, confidence 0.75",
    ]
    lines = explain("in", label("cat", 0, 5), predictions(shot))
    assert lines is not None
    assert lines[-1].endswith("it is of type shot-classification, not segment-classification")
    lines = explain("in", label("cat", 1, 2), predictions(found("cat", 1, 2)))
    assert lines is not None
    assert lines[-1].endswith("it is of type (none), not segment-classification")


def test_mismatch_of_a_list_names_what_is_missing_and_what_is_too_much() -> None:
    lines = explain("==", predictions(found("dog", 1, 2)), [track("cat", 1, 2)])
    assert lines is not None
    assert lines[1:] == [
        "expected cat from 1 s to 2 s (within 0.1 s)",
        "nearest: dog from 1 s to 2 s, confidence 0.90: it is a dog, not a cat",
        "not expected: dog from 1 s to 2 s, confidence 0.90",
    ]
    assert explain("in", track("cat", 1, 2), predictions()) == [
        "it is among the predictions",
        "expected cat from 1 s to 2 s (within 0.1 s), but nothing was predicted",
    ]
