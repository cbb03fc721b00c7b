"""The metrics of `compare` beside pycocotools, TrackEval and scikit-learn, on the same files."""

from __future__ import annotations

import contextlib
import importlib
import io
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator.comparison.formats.export import export
from emulator.comparison.formats.frame_numbers import Footage
from emulator.comparison.lines import Tolerance, boxes_of
from emulator.comparison.metrics.detection import overlaps
from emulator.comparison.metrics.measure import Metrics, measure
from emulator.comparison.report import Options, compare
from emulator.comparison.sides import read_side
from tests.comparison.made import Prediction, classified, line, track, write

pytestmark = pytest.mark.accuracy

SIZE = 1000.0  # what a picture's edge is in the oracles' pixels
VIDEOS = ("gs://b/a.mp4", "gs://b/b.mp4")
LABELS = ("car", "dog")
EXACT = 1e-6

Scene = dict[str, list[Prediction]]


def scene(seed: int) -> tuple[Scene, Scene]:
    """Objects that walk about in two videos, and a tracker that misses, splits, swaps and invents some."""
    chance = random.Random(seed)
    true: Scene = {video: [] for video in VIDEOS}
    seen: Scene = {video: [] for video in VIDEOS}
    for video in VIDEOS:
        for _ in range(6):
            label, boxes = chance.choice(LABELS), walk(chance)
            true[video].append(track(label, boxes))
            parts = [dict(list(boxes.items())[:9]), dict(list(boxes.items())[7:])]
            for part in parts if chance.random() < 0.5 else [boxes]:
                found = {time: shaken(chance, box) for time, box in part.items() if chance.random() < 0.85}
                if found:
                    other = chance.choice(LABELS) if chance.random() < 0.2 else label
                    seen[video].append(track(other, found, round(chance.uniform(0.1, 1), 2)))
        seen[video].append(track("car", walk(chance), 0.3))
    return true, seen


def walk(chance: random.Random) -> dict[float, tuple[float, float, float, float]]:
    x, y = chance.uniform(0, 0.6), chance.uniform(0, 0.6)
    width, height = chance.uniform(0.1, 0.35), chance.uniform(0.1, 0.35)
    dx, dy = chance.uniform(-0.01, 0.01), chance.uniform(-0.01, 0.01)
    first = chance.randrange(10)
    return {
        (first + n) / 10: (x + n * dx, y + n * dy, x + n * dx + width, y + n * dy + height) for n in range(20)
    }


def shaken(chance: random.Random, box: Sequence[float]) -> tuple[float, ...]:
    return tuple(edge + chance.gauss(0, 0.012) for edge in box)


def measured(folder: Path, true: Scene, seen: Scene) -> Metrics:
    sides = [
        read_side(write(folder / name, *(line(video, *found) for video, found in some.items())))
        for name, some in (("true.jsonl", true), ("seen.jsonl", seen))
    ]
    return measure(compare(sides[0], sides[1], Options(Tolerance())), 0.1, 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_of_boxes_is_that_of_pycocotools(tmp_path: Path, seed: int) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    true, seen = scene(seed)
    found = measured(tmp_path, true, seen)
    # Of equally sure boxes, that of the earlier picture comes first.
    places = {place(video, time) for some in (true, seen) for video, _, time, _ in boxes(some)}
    images = {one: number for number, one in enumerate(sorted(places), start=1)}
    annotations, results = coco_boxes(true, images), coco_boxes(seen, images)
    truth = coco.COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": number} for number in images.values()],
        "annotations": annotations,
        "categories": [{"id": number} for number in range(len(LABELS))],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = cocoeval.COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert found.figures["ap"] == pytest.approx(evaluation.stats[0], abs=EXACT)
    assert found.figures["ap50"] == pytest.approx(evaluation.stats[1], abs=EXACT)
    precision = evaluation.eval["precision"]
    for number, label in enumerate(LABELS):
        assert found.labels[label]["ap"] == pytest.approx(precision[:, :, number, 0, -1].mean(), abs=EXACT)


def boxes(some: Scene) -> list[tuple[str, Prediction, float, Sequence[float]]]:
    return [
        (video, one, time, box)
        for video, predictions in some.items()
        for one in predictions
        for time, box in boxes_of(one).items()
    ]


def place(video: str, time: float) -> tuple[str, int]:
    return video, round(time * 10)


def coco_boxes(some: Scene, images: dict[tuple[str, int], int]) -> list[dict[str, Any]]:
    found = []
    for number, (video, one, time, box) in enumerate(boxes(some), start=1):
        x, y, right, bottom = (edge * SIZE for edge in box)
        found.append(
            {
                "id": number,
                "image_id": images[place(video, time)],
                "category_id": LABELS.index(one["displayName"]),
                "bbox": [x, y, right - x, bottom - y],
                "area": (right - x) * (bottom - y),
                "iscrowd": 0,
                "score": one["confidence"],
            }
        )
    return found


@pytest.mark.parametrize("seed", range(5))
def test_metrics_of_tracks_are_those_of_trackeval(tmp_path: Path, seed: int) -> None:
    pytest.importorskip("trackeval")
    true, seen = scene(seed)
    found = measured(tmp_path, true, seen)
    for module, name, figure in (
        ("hota", "HOTA", "hota"),
        ("identity", "Identity", "idf1"),
        ("clear", "CLEAR", "mota"),
    ):
        with contextlib.redirect_stdout(io.StringIO()):
            metric = getattr(importlib.import_module(f"trackeval.metrics.{module}"), name)()
            each = {
                (video, label): metric.eval_sequence(sequence(true[video], seen[video], label))
                for video in VIDEOS
                for label in LABELS
            }
            whole = metric.combine_sequences(each)
        value = whole[{"hota": "HOTA", "idf1": "IDF1", "mota": "MOTA"}[figure]]
        assert found.figures[figure] == pytest.approx(float(np.mean(value)), abs=EXACT), name


def sequence(true: Sequence[Prediction], seen: Sequence[Prediction], label: str) -> dict[str, Any]:
    """What TrackEval takes: the objects of one label in each frame."""
    there, found = ([boxes_of(one) for one in some if one["displayName"] == label] for some in (true, seen))
    times = sorted({time for boxes in (*there, *found) for time in boxes})
    ids = [
        [np.array([n for n, boxes in enumerate(some) if time in boxes], int) for time in times]
        for some in (there, found)
    ]
    shares = [
        overlaps(
            [boxes[time] for boxes in there if time in boxes],
            [boxes[time] for boxes in found if time in boxes],
        )
        for time in times
    ]
    return {
        "num_timesteps": len(times),
        "num_gt_ids": len(there),
        "num_tracker_ids": len(found),
        "num_gt_dets": sum(map(len, there)),
        "num_tracker_dets": sum(map(len, found)),
        "gt_ids": ids[0],
        "tracker_ids": ids[1],
        "similarity_scores": shares,
    }


@pytest.mark.parametrize("seed", range(5))
def test_metrics_of_classes_are_those_of_scikit_learn(tmp_path: Path, seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    chance = random.Random(seed)
    labels = ("cat", "dog", "fox")
    truth = [chance.choice(labels) for _ in range(60)]
    scores = [{label: round(chance.random(), 1) for label in labels} for _ in truth]
    true = [classified(label, n, n + 1, kind="shot-classification") for n, label in enumerate(truth)]
    seen = [
        classified(label, n, n + 1, score, kind="shot-classification")
        for n, one in enumerate(scores)
        for label, score in one.items()
    ]
    found = measured(tmp_path, {VIDEOS[0]: true}, {VIDEOS[0]: seen})
    for label in labels:
        expected = metrics.average_precision_score(
            [one == label for one in truth], [one[label] for one in scores]
        )
        assert found.labels[label]["ap"] == pytest.approx(expected, abs=EXACT)
    best = [max(one, key=lambda label: (one[label], label)) for one in scores]
    matrix = metrics.confusion_matrix(truth, best, labels=labels)
    confusion = found.tables["confusion"]
    assert [[confusion[a].get(b, 0) for b in labels] for a in labels] == matrix.tolist()


FOOTAGE = Footage([n * 40_000 for n in range(100)], 4_000_000, 640, 480)


def of_cars(seed: int) -> tuple[list[Prediction], list[Prediction]]:
    """The first video's tracks, all under one label."""
    true, seen = ([{**one, "displayName": "car"} for one in some[VIDEOS[0]]] for some in scene(seed))
    return [{**one, "confidence": 1.0} for one in true], seen  # TrackEval ignores what is less in a truth


def test_pycocotools_reads_the_export(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    _, seen = scene(1)
    side = read_side(write(tmp_path / "p.jsonl", *(line(video, *found) for video, found in seen.items())))
    text = export(side, "coco", lambda _: FOOTAGE)
    assert isinstance(text, str)
    path = write(tmp_path / "p.json", text)
    with contextlib.redirect_stdout(io.StringIO()):
        read = coco.COCO(str(path))
    assert {one["name"] for one in read.loadCats(read.getCatIds())} == set(LABELS)
    assert len(read.getAnnIds()) == len(boxes(seen))
    assert len(read.getImgIds()) == 2 * 40  # each point of the grid in each video


@pytest.mark.parametrize("seed", range(2))
def test_trackeval_reads_the_export(tmp_path: Path, seed: int) -> None:
    pytest.importorskip("trackeval")
    true, seen = of_cars(seed)
    for name, some in (("gt", true), ("tracker", seen)):
        side = read_side(write(tmp_path / f"{name}.jsonl", line("gs://b/a.mp4", *some)))
        files = export(side, "mot", lambda _: FOOTAGE)
        assert isinstance(files, dict)
        if name == "gt":
            write(tmp_path / "gt" / "a" / "gt" / "gt.txt", files["a/gt/gt.txt"])
        write(tmp_path / "trackers" / "ours" / "data" / "a.txt", files["a/gt/gt.txt"])
        write(tmp_path / "gt" / "a" / "seqinfo.ini", files["a/seqinfo.ini"])
    found = measured(tmp_path, {VIDEOS[0]: true}, {VIDEOS[0]: seen}).figures
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = importlib.import_module("trackeval.datasets").MotChallenge2DBox(
            {
                "GT_FOLDER": str(tmp_path / "gt"),
                "TRACKERS_FOLDER": str(tmp_path / "trackers"),
                "TRACKERS_TO_EVAL": ["ours"],
                "CLASSES_TO_EVAL": ["pedestrian"],  # TrackEval's word for class 1
                "SKIP_SPLIT_FOL": True,
                "SEQ_INFO": {"a": None},
                "DO_PREPROC": False,
                "PRINT_CONFIG": False,
            }
        )
        data = dataset.get_preprocessed_seq_data(dataset.get_raw_seq_data("ours", "a"), "pedestrian")
        metrics = importlib.import_module("trackeval.metrics")
        hota = metrics.HOTA().eval_sequence(data)["HOTA"].mean()
        mota = metrics.CLEAR({"PRINT_CONFIG": False}).eval_sequence(data)["MOTA"]
    assert found["hota"] == pytest.approx(float(hota), abs=EXACT)
    assert found["mota"] == pytest.approx(float(mota), abs=EXACT)
