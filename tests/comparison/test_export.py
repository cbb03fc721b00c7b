"""`vertex-emulator export`: round trips change nothing, and frames have the times that the video has."""

import csv
import io
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner, Result

from emulator.cli import build
from emulator.cli.local_videos import read_footage
from emulator.comparison.formats.frame_numbers import Footage
from emulator.comparison.lines import boxes_of
from emulator.comparison.sides import read_side
from tests.comparison.made import (
    Prediction,
    action,
    classified,
    counts,
    figures,
    line,
    refusal,
    track,
    write,
)
from tests.inference.corpus import Clip as Encoded
from tests.inference.corpus import constant, irregular

VIDEO = "gs://bucket/videos/a.mp4"
FORMATS = ("coco", "mot", "cvat")

#: Frames at constant rates, of which 8 a second answer several points of the grid, and at no rate at all.
CLIPS = {
    "30": Encoded("a.mp4", constant(60), Fraction(1, 30)),
    "25": Encoded("a.mp4", constant(50), Fraction(1, 25), rate=Fraction(25)),
    "ntsc": Encoded("a.mp4", constant(60, 1001), Fraction(1, 30000)),
    "8": Encoded("a.mp4", constant(16), Fraction(1, 8), rate=Fraction(8)),
    "irregular": Encoded("a.mp4", irregular(50, 3), Fraction(1, 1000)),
}


@pytest.fixture(scope="module", params=CLIPS)
def videos(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    CLIPS[request.param].write(folder)
    return folder


def footage(folder: Path) -> Footage:
    return read_footage(folder / "a.mp4")


def shot(known: Footage, first: int, last: int, dx: float) -> dict[float, Sequence[float]]:
    """A box that walks, at points of the grid; that of a frame if several points have the same one."""
    frames = {point: known.frame_at(point * 100_000) for point in range(first, last)}
    return {
        point / 10: (0.1 + dx * frame / 64, 0.2, 0.3 + dx * frame / 64, 0.55)
        for point, frame in frames.items()
    }


def predictions(known: Footage) -> list[Prediction]:
    gone = shot(known, 3, 15, 0.01)
    del gone[0.7], gone[0.8]
    return [
        track("cat", gone, 0.75),
        track("dog & co", shot(known, 0, 17, 0.2), 0.5),
        track("cat", shot(known, 9, 10, 0.0), 0.125),
    ]


def export(*arguments: object) -> Result:
    words = ["export", *map(str, arguments)]
    return CliRunner().invoke(build(), words, catch_exceptions=False)


def exported(*arguments: object) -> str:
    done = export(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*arguments: object) -> str:
    done = export(*arguments)
    assert done.exit_code, done.output
    assert not done.stdout
    return done.stderr


def boxes(path: Path, videos: Path | None = None) -> list[tuple[str, float, dict[float, Any]]]:
    """The objects that a side has: labels, confidences, and boxes to a millionth of the picture."""
    side = read_side(path, footage=lambda _: None if videos is None else footage(videos))
    (found,) = side.lines
    some = found.predictions("object_tracking", (0.0, float("inf")), ())
    return sorted(
        (
            one["displayName"],
            one["confidence"],
            {round(time, 6): tuple(round(edge, 6) for edge in box) for time, box in boxes_of(one).items()},
        )
        for one in some
    )


@pytest.mark.parametrize("form", FORMATS)
def test_round_trip_changes_nothing(tmp_path: Path, videos: Path, form: str, request: Any) -> None:
    known = footage(videos)
    before = write(tmp_path / "p.jsonl", line(VIDEO, *predictions(known)))
    after = tmp_path / {"coco": "p.json", "mot": "mot", "cvat": "cvat"}[form]
    exported(before, "--to", form, "-o", after, "--videos", videos)
    if form == "mot" and "8" in request.node.callspec.params["videos"]:
        assert [one[:2] for one in boxes(after, videos)] == [one[:2] for one in boxes(before)]
    else:  # MOT has no place for which points of the grid a frame answers
        assert boxes(after, videos) == boxes(before)
        report = figures(before, after, "--videos", videos)
        assert counts(report) == (3, 0, 0)
        assert {report["metrics"]["figures"][name] for name in ("ap", "hota", "idf1", "mota")} == {1.0}


@pytest.mark.parametrize("form", ["coco", "cvat"])
def test_file_of_ours_needs_no_video_to_be_read(tmp_path: Path, videos: Path, form: str) -> None:
    before = write(tmp_path / "p.jsonl", line(VIDEO, *predictions(footage(videos))))
    after = tmp_path / ("p.json" if form == "coco" else "cvat")
    exported(before, "--to", form, "-o", after, "--videos", videos)
    assert boxes(after) == boxes(before)


def test_frames_are_those_of_the_list_of_times(tmp_path: Path) -> None:
    """Frames at 0, 10, 20 … 90 ms and then from 1 s on: time x rate would say others."""
    ticks = (*range(0, 100, 10), *range(1000, 1100, 10))
    Encoded("a.mp4", ticks, Fraction(1, 1000)).write(tmp_path)
    assert list(footage(tmp_path).times_us) == [tick * 1000 for tick in ticks]
    box = dict.fromkeys((0.0, 1.0), (0.25, 0.25, 0.5, 0.5))
    before = write(tmp_path / "p.jsonl", line(VIDEO, track("cat", box)))
    found = json.loads(exported(before, "--to", "coco", "--videos", tmp_path))
    frames = {image["id"]: image["frame_id"] for image in found["images"]}
    assert [frames[one["image_id"]] for one in found["annotations"]] == [0, 10]
    exported(before, "--to", "mot", "-o", tmp_path / "mot", "--videos", tmp_path)
    rows = (tmp_path / "mot" / "a" / "gt" / "gt.txt").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["1", "11"]


def test_cvat_says_when_an_object_is_gone(tmp_path: Path) -> None:
    CLIPS["30"].write(tmp_path)
    before = write(tmp_path / "p.jsonl", line(VIDEO, *predictions(footage(tmp_path))))
    exported(before, "--to", "cvat", "-o", tmp_path / "cvat", "--videos", tmp_path)
    root = ET.parse(tmp_path / "cvat" / "a.xml").getroot()
    assert root.findtext("meta/task/source") == VIDEO
    cat = root.findall("track")[0]
    shown = [(int(box.get("frame", "")), box.get("outside")) for box in cat.findall("box")]
    assert shown[:6] == [(9, "0"), (12, "0"), (15, "0"), (18, "0"), (21, "1"), (27, "0")]
    assert shown[-1] == (45, "1")


def test_label_studio_has_tracks_and_time_lines(tmp_path: Path) -> None:
    CLIPS["30"].write(tmp_path)
    tracks = write(tmp_path / "p.jsonl", line(VIDEO, *predictions(footage(tmp_path))))
    (task,) = json.loads(exported(tracks, "--to", "label-studio", "--videos", tmp_path))
    assert task["data"] == {"video": VIDEO}
    first = task["predictions"][0]["result"][0]
    assert (first["type"], first["value"]["labels"]) == ("videorectangle", ["cat"])
    sequence = first["value"]["sequence"]
    assert [(one["frame"], one["enabled"]) for one in sequence[:5]] == [
        (10, True),
        (13, True),
        (16, True),
        (19, False),
        (28, True),
    ]
    assert sequence[0]["width"] == pytest.approx(20)
    classes = write(tmp_path / "c.jsonl", line(VIDEO, classified("cat", 0, 1.5)))
    (task,) = json.loads(exported(classes, "--to", "label-studio", "--videos", tmp_path))
    (result,) = task["predictions"][0]["result"]
    assert result["value"] == {"ranges": [{"start": 1, "end": 46}], "timelinelabels": ["cat"]}
    assert result["meta"] == {"text": ["segment-classification"]}


@pytest.mark.parametrize(
    "some",
    [
        [track("a", {0.1: (0, 0.2, 0.3, 0.4), 0.2: (0, 0.2, 1 / 3, 0.4)}), track("b", {0.1: (0, 0, 1, 1)})],
        [action("hit, twice", 1.5), action('say "hit"', 2)],
        [classified("cat", 0, 1), classified("cat", 1, 2, kind="shot-classification")],
    ],
)  # fmt: skip
def test_table_holds_everything(tmp_path: Path, some: list[Prediction]) -> None:
    before = write(
        tmp_path / "p.jsonl",
        line(VIDEO, *some, start="0.5s", end="7s"),
        line("gs://b/empty.mp4"),
        line(VIDEO),
    )
    text = exported(before, "--to", "csv")
    assert len(list(csv.DictReader(io.StringIO(text)))) == len(text.splitlines()) - 1
    after = write(tmp_path / "p.csv", text)
    lines = [read_side(path).lines for path in (before, after)]
    assert [(one.video, one.segment, one.content) for one in lines[0]] == [
        (one.video, one.segment, one.content) for one in lines[1]
    ]


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    CLIPS["30"].write(tmp_path)
    actions = write(tmp_path / "a.jsonl", line(VIDEO, action("hit", 1)))
    said = refused(actions, "--to", "coco", "--videos", tmp_path)
    assert "csv or label-studio" in said
    tracks = write(tmp_path / "t.jsonl", line(VIDEO, track("cat", {0.1: (0, 0, 1, 1)})))
    assert "give its folder with --videos" in refused(tracks, "--to", "coco")
    assert "takes csv, coco" in refused(tracks, "--to", "yolo")
    assert "name it with -o" in refused(tracks, "--to", "mot", "--videos", tmp_path)
    assert "is there already" in refused(tracks, "--to", "csv", "-o", tracks)
    late = write(tmp_path / "l.jsonl", line(VIDEO, track("cat", {9.0: (0, 0, 1, 1)})))
    assert "it has a box at 9 s" in refused(late, "--to", "coco", "--videos", tmp_path)
    assert "no folder" in refused(tracks, "--to", "coco", "--videos", tmp_path / "none")


def test_two_videos_of_one_name_are_not_mixed(tmp_path: Path) -> None:
    CLIPS["30"].write(tmp_path)
    box = track("cat", {0.1: (0, 0, 1, 1)})
    both = write(tmp_path / "t.jsonl", line("gs://b/x/a.mp4", box), line("gs://b/y/a.mp4", box))
    assert "would both be written as a" in refused(
        both, "--to", "mot", "-o", tmp_path / "m", "--videos", tmp_path
    )


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", "{", "it is no JSON"),
        ("a.json", "[]", "it is no COCO"),
        ("a.json", '{"images": []}', 'its "videos" is no list'),
        ("a.json", '{"videos": [], "images": [{"id": 1}], "categories": [], "annotations": []}', "no video"),
        ("a.txt", "1,1,10\n", "line 1: it has 3 columns"),
        ("a.txt", "1,1,0,0,10,10,1,-1,1\n900,1,0,0,10,10,1,-1,1\n", "line 2: it has frame 899 of a, which"),
        ("a.txt", "1,1,5000,0,10,10,1,-1,1\n", "is it of another size?"),
        ("a.xml", "<annotations>", "it is no XML"),
        ("a.xml", "<html/>", "no annotations of CVAT"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "it declares entities"),
        (
            "a.xml",
            '<annotations><track id="0" label="cat"><box frame="1" xtl="a"/></track></annotations>',
            "track 0, frame 1",
        ),
        (
            "a.xml",
            "<annotations><meta><task><source>a.mp4</source><original_size><width>100</width>"
            "<height>900</height></original_size></task></meta></annotations>",
            "it is for pictures of 100 x 900",
        ),
    ],
)  # fmt: skip
def test_bad_annotations_are_refused_in_words(tmp_path: Path, name: str, text: str, words: str) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    CLIPS["30"].write(videos)
    found = write(tmp_path / "p.jsonl", line(VIDEO, track("cat", {0.1: (0, 0, 1, 1)})))
    bad = write(tmp_path / name, text)
    said = refusal(bad, found, "--videos", videos)
    assert words in said
    assert str(bad) in said


def test_cvat_of_others_is_read_by_the_times_of_its_frames(tmp_path: Path) -> None:
    CLIPS["ntsc"].write(tmp_path)
    every = "".join(
        f'<box frame="{frame}" outside="{int(frame > 30)}" xtl="16" ytl="8" xbr="32" ybr="24"/>'
        for frame in range(60)
    )
    theirs = write(
        tmp_path / "task.xml",
        "<annotations><meta><task><source>a.mp4</source></task></meta>"
        f'<track id="0" label="cat">{every}</track></annotations>',
    )
    known = footage(tmp_path)
    edges = (16 / known.width, 8 / known.height, 32 / known.width, 24 / known.height)
    ours = track("cat", {point / 10: edges for point in range(11)})
    found = write(tmp_path / "p.jsonl", line(VIDEO, ours))
    assert counts(figures(theirs, found, "--videos", tmp_path)) == (1, 0, 0)
    assert "give its folder with --videos" in refusal(theirs, found)


def test_annotations_past_the_end_are_said(tmp_path: Path) -> None:
    CLIPS["30"].write(tmp_path)
    rows = [f"{VIDEO},cat,1,{time},0.1,0.2,,,0.3,0.4,,\n" for time in (0.1, 75)]
    expected = write(tmp_path / "import.csv", *rows)
    found = write(tmp_path / "p.jsonl", line(VIDEO, track("cat", {0.1: (0.1, 0.2, 0.3, 0.4)})))
    report = figures(expected, found, "--videos", tmp_path)
    assert "annotations at 75 s" in report["notes"][0]
