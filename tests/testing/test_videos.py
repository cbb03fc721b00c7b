"""The truth of a video as a canned model answers it and as a test expects it, for each objective."""

import json
from typing import Any

import pytest

from emulator.factory import Action, Clip, Figure, Film, Object, documentation_clip
from emulator.testing import Predictions, VertexEmulator, Video, action, label, track
from emulator.vertex.objectives.classification import TYPES

CAT = Object("cat", start=0.5, end=1.4, path=[(0.1, 0.1, 0.4, 0.5), (0.4, 0.1, 0.7, 0.5)])
GOLFER = Figure(actions=[Action("swing", at=1.2)], position=(0.8, 0.93), height=0.5)


def clip(*objects: Any, duration: float = 2.5) -> Clip:
    return Clip(size=(320, 180), fps=10, duration=duration, objects=objects)


def predicted(emulator: VertexEmulator, model: str, video: Video, **parameters: Any) -> Predictions:
    job = emulator.aiplatform.BatchPredictionJob.submit(
        job_display_name="truth",
        model_name=model,
        gcs_source=emulator.write_instances(video),
        gcs_destination_prefix=f"gs://{emulator.bucket}/out",
        model_parameters=parameters or None,
    )
    return emulator.predictions(emulator.wait(job))


@pytest.mark.parametrize("objective", ["object_tracking", "action_recognition", "classification"])
def test_canned_answers_what_is_expected(vertex_emulator: VertexEmulator, objective: str) -> None:
    video = vertex_emulator.upload_video(clip(CAT, GOLFER))
    found = predicted(vertex_emulator, vertex_emulator.canned(video, objective=objective), video)
    assert len(found) == 1
    assert found == video.expected(objective)


def test_objective_of_a_video_is_that_of_its_truth(vertex_emulator: VertexEmulator) -> None:
    canned = vertex_emulator.canned
    mixed = vertex_emulator.upload_video(clip(CAT, GOLFER), "mixed.mp4")
    assert predicted(vertex_emulator, canned(mixed), mixed) == mixed.expected()
    assert [wanted.label for wanted in mixed.expected()] == ["cat"]
    golf = vertex_emulator.upload_video(clip(GOLFER), "golf.mp4")
    assert predicted(vertex_emulator, canned(golf), golf) == golf.expected() == [action("swing", 1.2)]
    nothing = vertex_emulator.upload_video(clip(), "nothing.mp4")
    assert predicted(vertex_emulator, canned(nothing), nothing) == nothing.expected() == []


def test_classification_of_the_documented_clip(vertex_emulator: VertexEmulator) -> None:
    video = vertex_emulator.upload_video()
    found = predicted(vertex_emulator, vertex_emulator.canned(video, objective="classification"), video)
    assert found == [label("cat", 0, 6), label("dog", 0, 6)]
    assert [one.type_ for one in found] == ["segment-classification"] * 2
    assert label("bird", 0, 6) not in found
    assert label("cat", 0, 6, type="shot-classification") not in found


def test_bundled_classifier_meets_the_truth(vertex_emulator: VertexEmulator) -> None:
    video = vertex_emulator.upload_video()
    found = predicted(
        vertex_emulator,
        "video-classification",
        video,
        confidenceThreshold=0.5,
        shotClassification=True,
    )
    types = ["segment-classification", "shot-classification"]
    assert found == video.expected("classification", types=types)


def test_labels_of_shots_and_seconds(vertex_emulator: VertexEmulator) -> None:
    dog = Object("dog", start=0.0, end=1.0, path=[(0.1, 0.1, 0.4, 0.5), (0.4, 0.1, 0.7, 0.5)])
    video = vertex_emulator.upload_video(Film([clip(CAT), clip(dog, duration=1.0)]))
    answer = video.answer("classification", types=TYPES)
    model = vertex_emulator.canned({video.uri: answer}, objective="classification")
    found = predicted(vertex_emulator, model, video)
    assert found == video.expected("classification", types=TYPES, within=0)
    shot: dict[str, Any] = {"type": "shot-classification", "within": 0}
    second: dict[str, Any] = {"type": "one-sec-interval-classification", "within": 0}
    assert found == [
        label("cat", 0, 3.5),
        label("dog", 0, 3.5),
        label("cat", 0, 2.5, **shot),
        label("dog", 2.5, 3.5, **shot),
        label("cat", 0.5, 0.5, **second),
        label("cat", 1.5, 1.5, **second),
        label("dog", 2.5, 2.5, **second),
        label("dog", 3.25, 3.25, **second),
    ]
    assert {(one["displayName"], one["id"]) for one in answer} == {("cat", "1"), ("dog", "2")}
    assert json.dumps(answer[2:3]) == (
        '[{"id": "1", "displayName": "cat", "type": "shot-classification", "timeSegmentStart": "0s",'
        ' "timeSegmentEnd": "2.500s", "confidence": 1.0}]'
    )


def test_objectives_and_types_that_are_none(vertex_emulator: VertexEmulator) -> None:
    video = vertex_emulator.upload_video(clip(CAT))
    with pytest.raises(ValueError, match="objective is 'tracking'; use one of object_tracking, action_"):
        video.expected("tracking")
    with pytest.raises(ValueError, match="objective is 'labels'; use one of object_tracking, action_"):
        vertex_emulator.canned(video, objective="labels")
    with pytest.raises(ValueError, match="'shots' is no type of classification; use segment-classification,"):
        video.expected("classification", types=["shots"])


def test_canned_models_do_not_replace_each_other(vertex_emulator: VertexEmulator) -> None:
    first = vertex_emulator.upload_video(documentation_clip(), "a.mp4")
    second = vertex_emulator.upload_video(clip(GOLFER), "b.mp4")
    models = [vertex_emulator.canned(first), vertex_emulator.canned(second)]
    assert [model.rpartition("/")[2] for model in models] == ["canned", "canned-2"]
    for model, video in zip(models, (first, second), strict=True):
        assert predicted(vertex_emulator, model, video) == video.expected()
    again = [
        vertex_emulator.canned({"*": []}, model_id="mine"),
        vertex_emulator.canned(first, model_id="mine"),
    ]
    assert again[0] == again[1]
    assert track("dog", 1.2, 3.4) in predicted(vertex_emulator, again[0], first)
