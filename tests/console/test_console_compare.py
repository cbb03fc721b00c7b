"""A job beside what is expected of it, over the wire: files, other jobs, truth, and problems."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.control.project import Project, job_id

BOXES = {"0s": (0.1, 0.1, 0.3, 0.3), "0.100s": (0.1, 0.1, 0.3, 0.3)}


def track(label: str, end: str = "0.100s", confidence: float = 0.9, shift: float = 0.0, **more: Any) -> Any:
    """A predicted track of two boxes."""
    frames = [
        {"timeOffset": time, "xMin": box[0] + shift, "yMin": box[1], "xMax": box[2] + shift, "yMax": box[3]}
        for time, box in BOXES.items()
    ]
    times = {"timeSegmentStart": "0s", "timeSegmentEnd": end}
    return {"id": "1", "displayName": label, **times, "confidence": confidence, "frames": frames, **more}


def job_that_finds(project: Project, predictions: list[Any], *videos: str, model: str = "finds") -> str:
    """A job of a canned model that has ended."""
    lines = [{"video": "*", "prediction": predictions}]
    body = {"parent": project.parent, "modelId": model, "objective": "object_tracking", "lines": lines}
    project.control("POST", "canned", body)
    name = project.create(*videos, model=model)
    project.finish(name)
    return name


def write(project: Project, name: str, *lines: Any) -> str:
    """Write an expected file; its gs:// path."""
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (project.buckets / "bucket" / f"{project.id}-{name}").write_text(text)
    return f"gs://bucket/{project.id}-{name}"


def compare(project: Project, name: str, other: str, line: int = 0, **query: Any) -> Any:
    path = f"results/{line}/compare" if line else "compare"
    return project.control("GET", f"jobs/{job_id(name)}/{path}", params={"with": other, **query})


def error(project: Project, name: str, other: str, line: int = 0, **query: Any) -> Any:
    path = f"results/{line}/compare" if line else "compare"
    params = {"with": other, **query}
    return project.error("GET", f"/_emulator/jobs/{job_id(name)}/{path}", params=params)


def test_expected_file_tells_what_is_matched_missed_and_extra(project: Project) -> None:
    name = job_that_finds(project, [track("cat"), track("dog"), track("bird")], "a.mp4", "b.mp4")
    wanted = {"video": "*a.mp4", "prediction": [track("dog"), track("cat", shift=0.2), track("fox")]}
    path = write(project, "expected.jsonl", wanted)
    page = compare(project, name, path)
    assert (page["matched"], page["missed"], page["extra"]) == (1, 2, 2)
    first, second = page["lines"]
    assert (first["number"], first["matched"], first["missed"], first["extra"]) == (1, 1, 2, 2)
    assert first["first"] == 0
    assert second["problem"] == f"{path} has no line for this video and segment."
    line = compare(project, name, path, 1)
    assert line["pairs"] == [{"expected": 1, "found": 2, "iou": 1.0}]
    assert line["missed"] == [
        {"expected": 2, "nearest": "cat from 0 s to 0.1 s, confidence 0.90: it has IoU 0.00, not 0.8"},
        {"expected": 3},
    ]
    assert line["extra"] == [1, 3]
    assert line["expected"] == wanted["prediction"]


def test_tolerance_and_confidence_decide(project: Project) -> None:
    name = job_that_finds(project, [track("cat", shift=0.16, confidence=0.4), track("cat", shift=0.02)])
    path = write(project, "expected.jsonl", {"video": "*", "prediction": [track("cat", shift=0.01)]})
    assert compare(project, name, path)["extra"] == 1
    assert compare(project, name, path, min=0.5)["extra"] == 0
    assert compare(project, name, path, iou=0.95)["missed"] == 1
    assert compare(project, name, path, iou=0.95, within=1)["missed"] == 1
    assert compare(project, name, path, iou=0.5)["missed"] == 0
    own = {"video": "*", "prediction": [track("cat", within=0.2, iou=0.3, minConfidence=0.95)]}
    assert compare(project, name, write(project, "own.jsonl", own))["missed"] == 1


def test_table_of_thresholds_counts_what_each_would(project: Project) -> None:
    found = [track("cat"), track("dog", confidence=0.5), track("bird", confidence=0.3)]
    name = job_that_finds(project, found, "a.mp4", "b.mp4", "c.mp4")
    wanted = [
        {"video": f"*{video}", "prediction": [track("cat"), track("dog")]} for video in ("a.mp4", "b.mp4")
    ]
    path = write(project, "expected.jsonl", *wanted)
    assert "thresholds" not in compare(project, name, path)
    page = compare(project, name, path, thresholds="0.3:0.9:0.2")
    assert [row["threshold"] for row in page["thresholds"]] == [0.3, 0.5, 0.7, 0.9]
    for row in page["thresholds"]:
        alone = compare(project, name, path, min=row["threshold"])
        assert {kind: row[kind] for kind in ("matched", "missed", "extra")} == {
            kind: alone[kind] for kind in ("matched", "missed", "extra")
        }
    assert page["thresholds"][1] == {
        "threshold": 0.5, "matched": 4, "missed": 0, "extra": 0, "precision": 1, "recall": 1, "f1": 1
    }  # fmt: skip
    (row,) = compare(project, name, path, 1, thresholds="0.9", min=0.4)["thresholds"]
    assert (row["matched"], row["missed"], row["recall"]) == (1, 1, 0.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.1:0.9", "'thresholds=0.1:0.9' is no range of three numbers"),
        ("0.9:0.1:0.1", "ends at 0.1, before it starts at 0.9"),
        ("0:1:0.001", "has more than 200 values; take a larger step"),
        (",".join(map(str, range(201))), "give numbers from 0 to 1"),
        ("0.5,2", "thresholds is '0.5,2'; give numbers from 0 to 1, FROM:TO:STEP or VALUE,VALUE"),
        ("half", "thresholds is 'half'; give numbers from 0 to 1"),
        ("nan", "thresholds is 'nan'; give numbers from 0 to 1"),
    ],
)
def test_thresholds_that_are_none_are_refused_in_words(project: Project, text: str, said: str) -> None:
    name = job_that_finds(project, [track("cat")])
    path = write(project, "expected.jsonl", {"video": "*", "prediction": []})
    assert said in json.dumps(error(project, name, path, thresholds=text))


def test_another_job_over_the_same_videos(project: Project) -> None:
    name = job_that_finds(project, [track("cat")], "a.mp4", "b.mp4", "a.mp4")
    other = job_that_finds(project, [track("cat"), track("dog")], "a.mp4", "a.mp4", model="other")
    page = compare(project, name, job_id(other))
    assert [line.get("missed") for line in page["lines"]] == [1, None, 1]
    assert page["lines"][1]["problem"] == f"Job {job_id(other)} has no line for this video and segment."
    assert compare(project, name, other, 3)["missed"] == [{"expected": 2}]
    assert compare(project, name, name)["missed"] == 0


def test_failed_line_misses_everything(project: Project) -> None:
    name = job_that_finds(project, [], "missing.mp4", "a.mp4")
    project.finish(project.create("missing.mp4", "a.mp4"))
    failed = project.create("missing.mp4", "a.mp4")
    project.finish(failed)
    path = write(project, "expected.jsonl", {"video": "*", "prediction": [track("cat")]})
    assert [line["missed"] for line in compare(project, failed, path)["lines"]] == [1, 1]
    assert [line["missed"] for line in compare(project, name, path)["lines"]] == [1, 1]


def truth_file(project: Project, video: str, truth: Any) -> Path:
    path = project.buckets / "bucket" / f"{video}.truth.jsonl"
    path.write_text(json.dumps({"truth": truth}) + "\n")
    return path


@pytest.fixture
def truth(project: Project) -> Iterator[Any]:
    """The truth of a.mp4: a cat and a dog at 0 s and 0.1 s."""
    members = {"duration": "0.300s", "cuts": [], "actionRecognition": []}
    members["objectTracking"] = [track("cat"), track("dog")]
    path = truth_file(project, "a.mp4", members)
    yield members
    path.unlink()


def test_truth_lies_beside_the_video(project: Project, truth: Any) -> None:
    name = job_that_finds(project, [track("cat")], "a.mp4", "b.mp4")
    first, second = compare(project, name, "truth")["lines"]
    assert (first["matched"], first["missed"]) == (1, 1)
    assert "there is no gs://bucket/b.mp4.truth.jsonl" in second["problem"]
    assert "Nobody knows the truth of this video" in error(project, name, "truth", 2)["message"]


def test_what_cannot_be_compared_is_said(project: Project) -> None:
    name = job_that_finds(project, [track("cat")])
    assert "with is missing" in error(project, name, "")["message"]
    assert "gs://bucket/none.jsonl" in error(project, name, "gs://bucket/none.jsonl")["message"]
    assert "no job id" in error(project, name, "file.jsonl")["message"]
    assert "No job 1." in error(project, name, "1")["message"]
    assert "iou is '2'" in error(project, name, "truth", iou=2)["message"]
    assert "names a bucket but no object" in error(project, name, "gs://bucket")["message"]
    prose = write(project, "prose.jsonl", "hello", "", "[1]")
    message = error(project, name, prose)["message"]
    assert message.startswith(
        f"{prose} holds no line that says what is expected. {prose} line 1: it is no JSON"
    )
    half = json.dumps({"video": "*", "prediction": [track("cat")]})
    cut = write(project, "half.jsonl", half, half[:80])
    page = compare(project, name, cut)
    assert page["matched"] == 1
    assert page["notes"][0].startswith(f"{cut} line 2: it is no JSON object")
    odd = write(project, "odd.jsonl", half, {"video": "*", "prediction": [track("cat", end="late")]})
    assert compare(project, name, odd)["notes"] == [
        f"{odd} line 2: prediction 1: 'late' is no duration; write one as in \"1.200s\""
    ]


def test_edited_predictions_are_named(project: Project) -> None:
    name = job_that_finds(project, [track("cat")])
    path = write(project, "expected.jsonl", {"video": "*", "prediction": [track("cat")]})
    job = project.get(name)
    folder = project.buckets / job["outputInfo"]["gcsOutputDirectory"].removeprefix("gs://")
    (file,) = folder.glob("predictions_*")
    file.write_text(file.read_text().replace('"confidence":0.9', '"confidence":"high"'))
    (line,) = compare(project, name, path)["lines"]
    assert line["problem"] == "Line 1 cannot be compared: \"confidence\" is 'high', no number"


def test_annotations_are_compared_where_they_are(project: Project) -> None:
    """The import file of a dataset, as JSON Lines and as CSV: one of two moments is annotated."""
    name = job_that_finds(project, [track("dog"), track("cat")])
    frame = track("cat")["frames"][1]
    box = {"displayName": "cat", "instanceId": "1", **frame}
    annotated = {"videoGcsUri": "gs://bucket/a.mp4", "temporalBoundingBoxAnnotations": [box]}
    corners = f"{frame['xMin']},{frame['yMin']},,,{frame['xMax']},{frame['yMax']},,"
    lines = write(project, "import.jsonl", annotated)
    rows = write(project, "import.csv", f"gs://bucket/a.mp4,cat,1,0.1,{corners}")
    for path in (lines, rows):
        found = compare(project, name, path, 1)
        assert found["pairs"] == [{"expected": 1, "found": 2, "iou": 1.0}]
        assert (found["missed"], found["extra"]) == ([], [1])
