"""Vertex's import files and AutoML's CSV as what is expected, and as what is judged."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.comparison.made import (
    action,
    classified,
    compare,
    counts,
    figures,
    line,
    refusal,
    track,
    write,
)

VIDEO = "gs://bucket/videos/a.mp4"
OTHER = "gs://bucket/videos/b.mp4"
BOX = (0.1, 0.2, 0.3, 0.4)


def imported(video: str, use: str = "test", **members: Any) -> str:
    labels = {"aiplatform.googleapis.com/ml_use": use}
    return json.dumps({"videoGcsUri": video, **members, "dataItemResourceLabels": labels}) + "\n"


def box(label: str, time: str, thing: str | None = "7", edges: Any = BOX) -> dict[str, Any]:
    """As the import schema has it: every value is text."""
    names = ("xMin", "yMin", "xMax", "yMax")
    members = {"displayName": label, "timeOffset": time, "instanceId": thing}
    found = members | {name: str(edge) for name, edge in zip(names, edges, strict=True)}
    return {name: value for name, value in found.items() if value is not None}


def span(label: str, start: str, end: str) -> dict[str, str]:
    return {"displayName": label, "startTime": start, "endTime": end}


GRID = {number / 10: BOX for number in range(2, 12)}


def test_tracks_are_compared_at_the_annotated_moments(tmp_path: Path) -> None:
    """Three moments are annotated, one off the grid. What is predicted elsewhere is not judged."""
    boxes = [box("car", time) for time in ("0.3s", "0.633333s", "1.000000s")]
    expected = write(tmp_path / "import.jsonl", imported(VIDEO, temporalBoundingBoxAnnotations=boxes))
    far = {1.4: BOX, 1.5: BOX}
    found = write(tmp_path / "p.jsonl", line(VIDEO, track("car", GRID), track("car", far)))
    assert counts(figures(expected, found)) == (1, 0, 0)
    assert counts(figures(found, expected)) == (1, 0, 0)
    short = write(tmp_path / "q.jsonl", line(VIDEO, track("car", {0.3: BOX, 0.4: BOX})))
    (segment,) = figures(expected, short)["segments"]
    assert "ends 0.7 s too early" in segment["missed"][0]["nearest"]


def test_track_is_cut_to_the_segment(tmp_path: Path) -> None:
    boxes = [box("car", time) for time in ("0.3s", "0.6s", "1.0s")]
    expected = write(tmp_path / "import.jsonl", imported(VIDEO, temporalBoundingBoxAnnotations=boxes))
    part = {time: place for time, place in GRID.items() if time < 0.8}
    found = write(tmp_path / "p.jsonl", line(VIDEO, track("car", part), end="0.8s"))
    assert counts(figures(expected, found)) == (1, 0, 0)


def test_members_may_be_written_as_in_the_documentation(tmp_path: Path) -> None:
    """Its example of an export has snake case, and objects without an instance: -1."""
    members = {
        "videoGcsUri": VIDEO,
        "temporal_bounding_box_annotations": [
            {
                "displayName": "horse",
                "instance_id": "-1",
                "time_offset": "4.000000s",
                "xMin": "0.668912",
                "yMin": "0.560642",
                "xMax": "1.000000",
                "yMax": "1.000000",
            }
        ]
        * 2,
    }
    expected = write(tmp_path / "a.jsonl", json.dumps(members) + "\n")
    place = (0.668912, 0.560642, 1.0, 1.0)
    found = write(tmp_path / "p.jsonl", line(VIDEO, track("horse", {4.0: place})))
    assert counts(figures(expected, found)) == (1, 1, 0)
    members["TemporalBoundingBoxAnnotations"] = members.pop("temporal_bounding_box_annotations")
    capital = write(tmp_path / "b.jsonl", json.dumps(members) + "\n")
    assert counts(figures(capital, found)) == (1, 1, 0)


def test_actions_lie_anywhere_in_their_stretch(tmp_path: Path) -> None:
    spans = [span("swing", "1.0s", "3.0s"), span("hit", "5s", "5s")]
    expected = write(tmp_path / "import.jsonl", imported(VIDEO, timeSegmentAnnotations=spans))
    found = write(tmp_path / "p.jsonl", line(VIDEO, action("swing", 3.05), action("hit", 5.5)))
    report = figures(expected, found)
    assert counts(report, "swing") == (1, 0, 0)
    assert counts(report, "hit") == (0, 1, 1)


def test_actions_outside_the_annotated_segments_are_not_judged(tmp_path: Path) -> None:
    expected = write(
        tmp_path / "import.jsonl",
        imported(
            VIDEO,
            timeSegments=[{"startTime": "0s", "endTime": "4s"}],
            timeSegmentAnnotations=[span("swing", "1s", "1s")],
        ),
    )
    found = write(
        tmp_path / "p.jsonl", line(VIDEO, action("swing", 1), action("swing", 3), action("swing", 9))
    )
    assert counts(figures(expected, found)) == (1, 0, 1)


def test_labels_are_expected_of_the_stretches_that_were_classified(tmp_path: Path) -> None:
    spans = [span("cat", "0s", "3s"), span("dog", "4s", "6s")]
    expected = write(tmp_path / "import.jsonl", imported(VIDEO, timeSegmentAnnotations=spans))
    shot, second = "shot-classification", "one-sec-interval-classification"
    found = write(
        tmp_path / "p.jsonl",
        line(
            VIDEO,
            classified("cat", 0, 6),
            classified("cat", 0, 3.5, kind=shot),
            classified("cat", 3.5, 6, kind=shot),
            classified("dog", 4.5, 4.5, kind=second),
        ),
    )
    report = figures(expected, found)
    assert counts(report, "cat") == (2, 0, 1)
    assert counts(report, "dog") == (1, 2, 0)


def test_sets_can_be_chosen(tmp_path: Path) -> None:
    expected = write(
        tmp_path / "import.jsonl",
        imported(VIDEO, "test", timeSegmentAnnotations=[span("hit", "1s", "1s")]),
        imported(OTHER, "train", timeSegmentAnnotations=[span("hit", "2s", "2s")]),
    )
    found = write(tmp_path / "p.jsonl", line(VIDEO, action("hit", 1)), line(OTHER, action("hit", 9)))
    assert counts(figures(expected, found)) == (1, 1, 1)
    assert counts(figures(expected, found, "--ml-use", "test")) == (1, 0, 0)
    assert counts(figures(expected, found, "--ml-use", "training")) == (0, 1, 1)
    assert "of the set validation" in refusal(expected, found, "--ml-use", "validation")


def test_lines_of_one_video_belong_together(tmp_path: Path) -> None:
    lines = [imported(VIDEO, timeSegmentAnnotations=[span("hit", f"{at}s", f"{at}s")]) for at in (1, 2)]
    expected = write(tmp_path / "import.jsonl", *lines)
    found = write(tmp_path / "p.jsonl", line(VIDEO, action("hit", 1), action("hit", 2)))
    assert counts(figures(expected, found)) == (2, 0, 0)


def test_csv_of_object_tracking(tmp_path: Path) -> None:
    """Corners: two or four, in any order; with and without an instance and the set."""
    expected = write(
        tmp_path / "import.csv",
        "video_uri,label,instance_id,time_offset,x_min,y_min,x_max,y_min,x_max,y_max,x_min,y_max\n",
        f"{VIDEO},car,1,0.3,0.1,0.2,,,0.3,0.4,,\n",
        f"TEST,{VIDEO},car,1,1.0s,0.3,0.4,0.1,0.4,0.1,0.2,0.3,0.2\n",
        f"{VIDEO},bike,,0.3,0.45,0.45,,,0.55,0.55,,\n",
        f"{VIDEO},bike,,0.3,0.65,0.45,,,0.75,0.55,,\n",
        f"{OTHER},,,,,,,,,,,\n",
    )
    found = write(
        tmp_path / "p.jsonl",
        line(
            VIDEO,
            track("car", GRID),
            track("bike", {0.3: (0.45, 0.45, 0.55, 0.55)}),
            track("bike", {0.3: (0.65, 0.45, 0.75, 0.55)}),
        ),
        line(OTHER),
    )
    report = figures(expected, found, "--complete")
    assert counts(report, "car") == (1, 0, 0)
    assert counts(report, "bike") == (2, 0, 0)


def test_csv_of_classification_and_actions(tmp_path: Path) -> None:
    labels = write(tmp_path / "c.csv", f"TRAIN,{VIDEO},cat,0,6\n", f"UNASSIGNED,{VIDEO},dog,6.5,inf\n")
    found = write(tmp_path / "p.jsonl", line(VIDEO, classified("cat", 0, 6), end="6s"))
    assert counts(figures(labels, found)) == (1, 0, 0)
    actions = write(
        tmp_path / "a.csv",
        f"{VIDEO},0,4,swing,1.5\n",
        f"{VIDEO},,,hit,5.0,6.0\n",
    )
    found = write(tmp_path / "q.jsonl", line(VIDEO, action("swing", 1.5), action("swing", 4.5)))
    report = figures(actions, found)
    assert counts(report, "swing") == (1, 0, 0)
    assert counts(report, "hit") == (0, 1, 0)


def test_video_without_annotations_expects_nothing(tmp_path: Path) -> None:
    expected = write(tmp_path / "a.csv", f"TEST,{VIDEO},hit,1,1\n", f"TEST,{OTHER},,\n")
    found = write(tmp_path / "p.jsonl", line(VIDEO, action("hit", 1)), line(OTHER, action("hit", 2)))
    assert counts(figures(expected, found)) == (1, 0, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            imported(VIDEO, temporalBoundingBoxAnnotations=[box("car", "4x")]),
            "line 1: box 1: '4x' is no duration",
        ),
        (
            imported(VIDEO, temporalBoundingBoxAnnotations=[box("car", "4s", edges=(10, 20, 30, 40))]),
            "boxes are parts of the picture, from 0 to 1, not pixels",
        ),
        (
            imported(VIDEO, temporalBoundingBoxAnnotations=[box("car", "4s", edges=(0.5, 0, 0.4, 1))]),
            "larger",
        ),
        (imported(VIDEO, temporalBoundingBoxAnnotations=[box("", "4s")]), "it has no label"),
        (imported(VIDEO, temporalBoundingBoxAnnotations=[box("car", "-4s")]), "before the video begins"),
        (imported(VIDEO, temporalBoundingBoxAnnotations={"a": 1}), "is no list of objects"),
        (imported(VIDEO, timeSegmentAnnotations=[span("a", "3s", "2s")]), "segment 1: it starts at 3 s"),
        (imported(VIDEO, timeSegmentAnnotations=[span("a", "soon", "2s")]), "'soon' is no duration"),
        (json.dumps({"videoGcsUri": 7}) + "\n", "no name of a video"),
        (imported(VIDEO, timeSegmentAnnotations=[])[:50], "line 1: it is no JSON object"),
    ],
)
def test_bad_import_lines_are_named(tmp_path: Path, text: str, words: str) -> None:
    found = write(tmp_path / "p.jsonl", line(VIDEO, action("hit", 1)))
    assert words in refusal(write(tmp_path / "import.jsonl", text), found)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a.mp4,car,1,2", "it names no video"),
        ("TRAIN,gs://b/train.csv", "it names another file, gs://b/train.csv"),
        (f"{VIDEO},car,1,soon,0.1,0.2,,,0.3,0.4,,", "'soon' is no duration"),
        (f"{VIDEO},car,1,2,0.1,0.2,,,wide,0.4,,", "'wide', no number"),
        (f"{VIDEO},car,1,2,0.1,0.2,,,,,0.3,", "fewer than two corners"),
        (f"{VIDEO},cat,5,2", "it starts at 5 s"),
        (f"{VIDEO},,1,2", "it has no label"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: str, words: str) -> None:
    found = write(tmp_path / "p.jsonl", line(VIDEO, action("hit", 1)))
    expected = write(tmp_path / "import.csv", f"{VIDEO},hit,1,1\n", f"{row}\n")
    said = refusal(expected, found)
    assert words in said
    assert "line 2" in said


def test_annotations_of_other_videos_are_said(tmp_path: Path) -> None:
    spans = [span("hit", "1s", "1s")]
    expected = write(
        tmp_path / "import.jsonl",
        imported(VIDEO, timeSegmentAnnotations=spans),
        imported("gs://b/gone.mp4", timeSegmentAnnotations=spans),
    )
    found = write(tmp_path / "p.jsonl", line(VIDEO, action("hit", 1)))
    done = compare(expected, found)
    assert done.exit_code == 0
    assert "gs://b/gone.mp4" in done.stderr


def test_what_annotations_are_about_must_be_clear(tmp_path: Path) -> None:
    spans = [span("hit", "1s", "3s")]
    expected = write(tmp_path / "import.jsonl", imported(VIDEO, timeSegmentAnnotations=spans))
    assert "Say --objective" in refusal(expected, expected)
    assert counts(figures(expected, expected, "--objective", "action_recognition")) == (1, 0, 0)
    assert "takes object_tracking" in refusal(expected, expected, "--objective", "tracking")
