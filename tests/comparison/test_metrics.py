"""The metrics that `compare` prints, on answers short enough to be counted by hand."""

import math
from pathlib import Path
from typing import Any

import pytest

from tests.comparison.made import (
    Prediction,
    action,
    classified,
    compare,
    figures,
    line,
    track,
    write,
)

VIDEO = "gs://bucket/videos/a.mp4"
BOX = (0.1, 0.2, 0.3, 0.4)
FAR = (0.6, 0.6, 0.8, 0.8)
TIMES = [number / 10 for number in range(10)]


def metrics(folder: Path, expected: list[Prediction], found: list[Prediction], *more: object) -> Any:
    return figures(*sides(folder, expected, found), *more)["metrics"]


def sides(folder: Path, expected: list[Prediction], found: list[Prediction]) -> tuple[Path, Path]:
    return (
        write(folder / "expected.jsonl", line(VIDEO, *expected)),
        write(folder / "found.jsonl", line(VIDEO, *found)),
    )


def test_perfect_answer_has_ones(tmp_path: Path) -> None:
    tracks = [track("car", dict.fromkeys(TIMES, BOX)), track("dog", dict.fromkeys(TIMES, FAR))]
    found = metrics(tmp_path, tracks, tracks)
    assert found["figures"] == dict.fromkeys(("ap50", "ap", "hota", "idf1", "mota", "best_f1"), 1.0)
    assert found["byLabel"] == {label: {"ap50": 1.0, "ap": 1.0} for label in ("car", "dog")}


def test_false_box_costs_precision_as_far_as_it_is_surer(tmp_path: Path) -> None:
    """Ten true boxes. A false track of ten is surer: at every recall the best precision is 10/20."""
    right = track("car", dict.fromkeys(TIMES, BOX), 0.5)
    wrong = track("car", dict.fromkeys(TIMES, FAR), 0.9)
    expected = [track("car", dict.fromkeys(TIMES, BOX))]
    found = metrics(tmp_path, expected, [right, wrong])
    assert found["figures"]["ap50"] == pytest.approx(0.5)
    assert found["figures"]["mota"] == pytest.approx(0)
    assert found["figures"]["hota"] == pytest.approx(math.sqrt(0.5))
    sure = {**wrong, "confidence": 0.1}
    assert metrics(tmp_path, expected, [right, sure])["figures"]["ap50"] == pytest.approx(1)
    cut = metrics(tmp_path, expected, [right, sure], "--confidence", 0.4)["figures"]
    assert (cut["hota"], cut["mota"]) == (1, 1)


def test_overlap_decides_at_how_many_thresholds_a_box_is_right(tmp_path: Path) -> None:
    """A box of 0.2 that is off by 0.05 has an IoU of 3/5: right at 0.5, 0.55 and 0.6 of ten thresholds."""
    moved = (0.15, 0.2, 0.35, 0.4)
    expected = [track("car", dict.fromkeys(TIMES, BOX))]
    found = metrics(tmp_path, expected, [track("car", dict.fromkeys(TIMES, moved))])["figures"]
    assert found["ap50"] == pytest.approx(1)
    assert found["ap"] == pytest.approx(0.3, abs=0.1001)  # 0.6 itself is a matter of the last bit
    assert found["ap"] * 10 == pytest.approx(round(found["ap"] * 10))


def test_only_annotated_moments_are_measured(tmp_path: Path) -> None:
    expected = write(
        tmp_path / "import.csv", *(f"{VIDEO},car,1,{time},0.1,0.2,,,0.3,0.4,,\n" for time in (0.2, 0.7))
    )
    whole = track("car", dict.fromkeys(TIMES, BOX))
    found = write(tmp_path / "p.jsonl", line(VIDEO, whole, track("car", {0.5: FAR})))
    got = figures(expected, found)["metrics"]["figures"]
    assert (got["ap"], got["hota"], got["mota"], got["best_f1"]) == (1, 1, 1, 1)


def test_thresholds_find_the_best(tmp_path: Path) -> None:
    expected = [action("hit", at) for at in (1, 2, 3)]
    found = [
        action("hit", 1, 0.9),
        action("hit", 2, 0.6),
        action("hit", 3, 0.2),
        *(action("hit", at, 0.4) for at in (5, 6, 7)),
    ]
    got = metrics(tmp_path, expected, found)
    assert [(row["threshold"], row["matched"], row["extra"]) for row in got["thresholds"]] == [
        (0.2, 3, 3),
        (0.4, 2, 3),
        (0.6, 2, 0),
        (0.9, 1, 0),
    ]
    assert got["best"]["threshold"] == 0.6
    assert got["figures"]["best_f1"] == pytest.approx(4 / 5)
    printed = compare(*sides(tmp_path, expected, found)).stdout
    assert "The best F1 is 0.800, with --confidence 0.6." in printed


def test_many_confidences_are_thinned_out(tmp_path: Path) -> None:
    many = [action("hit", n, (n + 1) / 1000) for n in range(300)]
    steps = [row["threshold"] for row in metrics(tmp_path, many, many)["thresholds"]]
    assert len(steps) == 50
    assert (steps[0], steps[-1]) == (0.001, 0.3)


def test_actions_have_a_figure_for_each_tolerance(tmp_path: Path) -> None:
    expected = [action("hit", 1), action("hit", 5)]
    found = [action("hit", 1.15), action("hit", 5.9)]
    got = metrics(tmp_path, expected, found, "--within", 0.3)["figures"]
    assert {name: got[name] for name in got if "@" in name} == {
        "f1@0.1": 0,
        "f1@0.2": 0.5,
        "f1@0.3": 0.5,
        "f1@0.5": 0.5,
        "f1@1": 1,
        "f1@2": 1,
    }


def test_classes_have_average_precision_and_a_confusion(tmp_path: Path) -> None:
    kind = "shot-classification"
    expected = [classified("cat", 0, 1, kind=kind), classified("dog", 1, 2, kind=kind)]
    found = [
        classified("cat", 0, 1, 0.6, kind),
        classified("dog", 0, 1.05, 0.9, kind),
        classified("dog", 1, 2, 0.7, kind),
        classified("cat", 2, 3, 0.8, kind),
    ]
    got = metrics(tmp_path, expected, found)
    assert got["byLabel"] == {"cat": {"ap": 0.5}, "dog": {"ap": 0.5}}
    assert got["figures"]["map"] == 0.5
    assert got["confusion"] == {"(none)": {"cat": 1}, "cat": {"dog": 1}, "dog": {"dog": 1}}
    printed = compare(*sides(tmp_path, expected, found)).stdout
    assert "(none)  1    0" in printed


def test_any_figure_can_be_asked_for(tmp_path: Path) -> None:
    tracks = [track("car", dict.fromkeys(TIMES, BOX))]
    expected, found = sides(tmp_path, tracks, [track("car", dict.fromkeys(TIMES[:5], BOX))])
    done = compare(expected, found, "--at-least", "ap50=0.4", "--at-least", "hota=0.9")
    assert done.exit_code == 1
    assert "hota is" in done.stderr
    assert "ap50" not in done.stderr
    done = compare(expected, found, "--at-least", "map=0.4")
    assert done.exit_code == 2
    assert "f1, precision, recall, ap50, ap, hota, idf1, mota, best_f1" in done.stderr


def test_nothing_to_judge_is_no_figure(tmp_path: Path) -> None:
    """Tracks are expected whose boxes nobody knows."""
    expected = [{**track("car", {0.0: BOX, 0.9: BOX}), "frames": []}]
    found = metrics(tmp_path, expected, [track("car", dict.fromkeys(TIMES, BOX))])
    assert found["figures"] == {"best_f1": 1.0}
