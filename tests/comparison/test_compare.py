"""`vertex-emulator compare`: files, output directories, recordings and truths against each other."""

import shutil
from pathlib import Path

import pytest

from emulator.factory import Clip, Object, truth_of
from tests.cli.test_record import OBJECTIVES, make
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
BOX = (0.1, 0.2, 0.3, 0.4)


def test_counts_and_figures_are_those_of_a_count_by_hand(tmp_path: Path) -> None:
    expected = write(
        tmp_path / "a.jsonl", line(VIDEO, action("swing", 1), action("swing", 3), action("hit", 5))
    )
    found = write(
        tmp_path / "b.jsonl",
        line(VIDEO, action("swing", 1.05), action("swing", 3.2), action("hit", 5), action("run", 9)),
    )
    report = figures(expected, found)
    assert counts(report, "swing") == (1, 1, 1)
    assert counts(report, "hit") == (1, 0, 0)
    assert counts(report, "run") == (0, 0, 1)
    assert counts(report) == (2, 1, 2)
    assert report["all"]["precision"] == 2 / 4
    assert report["all"]["recall"] == 2 / 3
    assert report["all"]["f1"] == pytest.approx(4 / 7)
    (segment,) = report["segments"]
    assert "too late" in segment["missed"][0]["nearest"]
    assert counts(figures(expected, found, "--within", 0.25)) == (3, 0, 1)


def test_table_has_a_row_for_each_label_and_all(tmp_path: Path) -> None:
    side = write(tmp_path / "a.jsonl", line(VIDEO, action("swing", 1), action("hit", 2)))
    done = compare(side, side)
    rows = [row.split() for row in done.stdout.splitlines()]
    assert rows[0] == ["label", "matched", "missed", "extra", "precision", "recall", "F1"]
    assert rows[1] == ["hit", "1", "0", "0", "1.000", "1.000", "1.000"]
    assert [row[0] for row in rows[1:4]] == ["hit", "swing", "all"]
    assert "1 segment compared" in done.stdout


def test_exit_status_says_whether_it_is_good_enough(tmp_path: Path) -> None:
    expected = write(tmp_path / "a.jsonl", line(VIDEO, action("swing", 1), action("swing", 3)))
    found = write(tmp_path / "b.jsonl", line(VIDEO, action("swing", 1)))
    assert compare(expected, found, "--at-least", "precision=1", "--at-least", "recall=0.5").exit_code == 0
    done = compare(expected, found, "--at-least", "f1=0.9")
    assert done.exit_code == 1
    assert "f1 is 0.6667, less than 0.9" in done.stderr
    assert "swing" in done.stdout  # the table is there all the same
    assert compare(expected, found, "--at-least", "f2=0.9").exit_code == 2
    assert compare(expected, found, "--at-least", "f1").exit_code == 2


def test_confidence_of_either_side_counts(tmp_path: Path) -> None:
    expected = write(tmp_path / "a.jsonl", line(VIDEO, action("swing", 1, 0.9), action("swing", 3, 0.1)))
    found = write(tmp_path / "b.jsonl", line(VIDEO, action("swing", 1, 0.8), action("swing", 7, 0.2)))
    assert counts(figures(expected, found)) == (1, 1, 1)
    assert counts(figures(expected, found, "--confidence", 0.5)) == (1, 1, 0)
    assert counts(figures(expected, found, "--confidence", 0.5, "--expected-confidence", 0.5)) == (1, 0, 0)


def test_boxes_count_as_in_the_console(tmp_path: Path) -> None:
    still = {0.1 * number: BOX for number in range(10)}
    moved = dict.fromkeys(still, (0.2, 0.2, 0.4, 0.4))
    expected = write(tmp_path / "a.jsonl", line(VIDEO, track("car", still)))
    found = write(tmp_path / "b.jsonl", line(VIDEO, track("car", moved)))
    assert counts(figures(expected, found)) == (0, 1, 1)
    assert counts(figures(expected, found, "--iou", 0.3)) == (1, 0, 0)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_recording_and_its_output_directory_are_the_same(tmp_path: Path, objective: str) -> None:
    old = make(tmp_path, objective)
    assert old.record().exit_code == 0
    report = figures(old.output, old.recorded())
    assert counts(report) == (2, 0, 0)
    assert report["objective"] == objective
    (failed,) = [note for note in report["notes"] if "failed" in note]
    assert "1 instances failed" in failed


def test_instance_that_failed_misses_all(tmp_path: Path) -> None:
    old = make(tmp_path, "action_recognition")
    expected = write(tmp_path / "e.jsonl", line("gs://acme-prod-data/videos/c.mp4", action("swing", 1)))
    report = figures(expected, old.output)
    assert counts(report) == (0, 1, 0)


def test_recording_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    old = make(tmp_path, "action_recognition")
    assert old.record().exit_code == 0
    note = old.recorded() / "RECORDING.md"
    assert "\nFormat 1. " in note.read_text()
    note.write_text(note.read_text().replace("Format 1.", "Format 7."))
    said = refusal(old.recorded(), old.output)
    assert "newer version" in said
    assert "format 7" in said


def test_recording_of_two_jobs_is_refused(tmp_path: Path) -> None:
    old = make(tmp_path, "action_recognition")
    assert old.record().exit_code == 0
    jobs = old.recorded() / "jobs.jsonl"
    jobs.write_text(jobs.read_text() * 2)
    assert "names 2 output directories" in refusal(old.recorded(), old.output)


def test_truth_of_a_rendered_video_is_cut_to_the_segments(tmp_path: Path) -> None:
    clip = Clip(
        size=(64, 48), fps=10, duration=2.0, background="plain", objects=[Object("cat", 0.2, 1.5, [BOX])]
    )
    truth = truth_of(clip)
    expected = truth.write(tmp_path / "a.mp4")
    (whole,) = truth.object_tracking()
    part = {**whole, "frames": [one for one in whole["frames"] if float(one["timeOffset"][:-1]) < 0.95]}
    part["timeSegmentEnd"] = part["frames"][-1]["timeOffset"]
    found = write(tmp_path / "b.jsonl", line(VIDEO, whole), line(VIDEO, part, end="1.0s"))
    for side in (expected, tmp_path):
        assert counts(figures(side, found)) == (2, 0, 0)
    assert "can only be what is expected" in refusal(found, expected)


def test_classification_says_of_what_a_label_is(tmp_path: Path) -> None:
    expected = write(
        tmp_path / "a.jsonl",
        line(VIDEO, classified("cat", 0, 5), classified("cat", 0, 2, kind="shot-classification")),
    )
    found = write(
        tmp_path / "b.jsonl",
        line(VIDEO, classified("cat", 0, 5), classified("cat", 2, 5, kind="shot-classification")),
    )
    assert counts(figures(expected, found)) == (1, 1, 1)


def test_missing_output_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for number in (1, 3):
        write(folder / f"predictions_0000{number}.jsonl", line(f"gs://b/{number}.mp4", action("a", 1)))
    said = refusal(folder, folder)
    assert "The file number 2 before predictions_00003.jsonl is missing" in said


def test_cut_line_is_named(tmp_path: Path) -> None:
    whole = line(VIDEO, action("a", 1))
    cut = write(tmp_path / "a.jsonl", whole, whole[:40])
    assert f"{cut} line 2: it is no JSON object" in refusal(cut, cut)
    shutil.copyfile(cut, write(tmp_path / "out" / "predictions_00001.jsonl"))
    assert "predictions_00001.jsonl line 2 is no JSON object" in refusal(tmp_path / "out", cut)


def test_two_jobs_in_one_folder_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write(folder / "predictions_00001.jsonl", line(VIDEO, action("a", 1)))
    write(folder / "predictions_00002.jsonl", line(VIDEO, action("a", 1)))
    assert "is in predictions_00001.jsonl and again in predictions_00002.jsonl" in refusal(folder, folder)
    write(folder / "predictions_00002.jsonl", line("gs://b/c.mp4", classified("a", 1, 2)))
    said = refusal(folder, folder)
    assert "mixes predictions of several jobs" in said
    assert "predictions_00002.jsonl line 1" in said


def test_different_objectives_are_refused(tmp_path: Path) -> None:
    one = write(tmp_path / "a.jsonl", line(VIDEO, action("a", 1)))
    other = write(tmp_path / "b.jsonl", line(VIDEO, track("a", {0.1: BOX})))
    said = refusal(one, other)
    assert "action_recognition" in said
    assert "object_tracking" in said


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path / "none.jsonl", "No such file"),
        (lambda path: write(path / "a.jsonl"), "holds no line"),
        (lambda path: write(path / "b" / "readme.txt", "x").parent, "Name the output directory itself"),
        (lambda path: write(path / "c.jsonl", "[1]\n"), "it is no JSON object"),
        (lambda path: write(path / "d.jsonl", '{"prediction": []}\n'), "neither"),
        (lambda path: write(path / "e.jsonl", line(VIDEO, {"confidence": "high"})), "no number"),
    ],
)  # fmt: skip
def test_bad_sides_are_refused_in_words(tmp_path: Path, make: object, words: str) -> None:
    good = write(tmp_path / "good.jsonl", line(VIDEO, action("a", 1)))
    bad = make(tmp_path)  # type: ignore[operator]
    assert words in refusal(bad, good)
    assert words in refusal(good, bad)


def test_videos_are_the_same_by_name_where_buckets_differ(tmp_path: Path) -> None:
    expected = write(tmp_path / "a.jsonl", line("gs://old/x/a.mp4", action("a", 1)))
    found = write(tmp_path / "b.jsonl", line("gs://new/y/a.mp4", action("a", 1)))
    assert counts(figures(expected, found)) == (1, 0, 0)


def test_videos_of_one_name_are_not_confused(tmp_path: Path) -> None:
    expected = write(
        tmp_path / "a.jsonl",
        line("gs://old/x/a.mp4", action("a", 1)),
        line("gs://old/y/a.mp4", action("b", 1)),
    )
    found = write(tmp_path / "b.jsonl", line("gs://new/y/a.mp4", action("b", 1)))
    assert "--map" in refusal(expected, found)
    report = figures(expected, found, "--map", "gs://old=gs://new")
    assert counts(report) == (1, 0, 0)
    assert "gs://new/x/a.mp4" in report["notes"][0]


def test_what_only_one_side_has_is_left_out_and_said(tmp_path: Path) -> None:
    both = line(VIDEO, action("a", 1))
    expected = write(tmp_path / "a.jsonl", both, line("gs://b/only-old.mp4", action("a", 1)))
    found = write(tmp_path / "b.jsonl", both, line(VIDEO, action("a", 1), end="7s"))
    done = compare(expected, found)
    assert done.exit_code == 0
    assert "only-old.mp4" in done.stderr
    assert f"{found} has 1 lines" in done.stderr
    assert compare(expected, found, "--complete").exit_code == 1
    alone = write(tmp_path / "c.jsonl", line("gs://b/else.mp4", action("a", 1)))
    assert "no video and segment in common" in refusal(expected, alone)


def test_labels_can_be_mapped_and_unknown_ones_are_said(tmp_path: Path) -> None:
    expected = write(tmp_path / "a.jsonl", line(VIDEO, action("Swing", 1)))
    found = write(tmp_path / "b.jsonl", line(VIDEO, action("swing", 1)))
    report = figures(expected, found)
    assert counts(report) == (0, 1, 1)
    assert "--map-label" in report["notes"][0]
    report = figures(expected, found, "--map-label", "Swing=swing")
    assert counts(report) == (1, 0, 0)
    assert not report["notes"]
    assert compare(expected, found, "--map-label", "Swing").exit_code == 2


def test_same_instance_twice_is_compared_in_turn(tmp_path: Path) -> None:
    first, second = line(VIDEO, action("a", 1)), line(VIDEO, action("a", 2))
    expected = write(tmp_path / "a.jsonl", first, second)
    assert counts(figures(expected, write(tmp_path / "b.jsonl", first, second))) == (2, 0, 0)
    assert counts(figures(expected, write(tmp_path / "c.jsonl", second, first))) == (0, 2, 2)
