"""What every head says of outputs that cannot be right, and that it survives none and thousands of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from emulator.inference.heads import DETECTION_HEADS, suppress
from emulator.inference.manifest import ManifestError, ModelUnusable, load_manifest
from emulator.inference.objectives import open_predictor
from emulator.inference.onnx_model import OnnxModel
from emulator.inference.preprocess import Geometry
from tests.inference.tiny_models import SIZE, recorded

MANY = 10_000
#: Cells of one pixel, so that a grid has thousands of them.
GRID = 64 * 64


@dataclass(frozen=True)
class Layout:
    """A head's keys, and the outputs it takes for two labels."""

    keys: str
    shapes: Mapping[str, tuple[int, ...]]
    scores: Mapping[str, Any]
    """Output -> index of the numbers that are scores."""


NAMES = 'names = ["boxes", "scores", "classes"]'
HEADS = {
    "yolox": Layout('head = "yolox"\nstrides = [1]', {"out": (1, GRID, 7)}, {"out": np.s_[..., 4:]}),
    "yolov5": Layout('head = "yolov5"', {"out": (1, MANY, 7)}, {"out": np.s_[..., 4:]}),
    "yolov8": Layout('head = "yolov8"', {"out": (1, 6, MANY)}, {"out": np.s_[:, 4:]}),
    "nanodet": Layout('head = "nanodet"\nstrides = [1]', {"out": (1, GRID, 34)}, {"out": np.s_[..., :2]}),
    "detr": Layout(
        'head = "detr"\nactivation = "none"',
        {"logits": (1, MANY, 2), "boxes": (1, MANY, 4)},
        {"logits": np.s_[:]},
    ),
    "detections": Layout(
        f'head = "detections"\n{NAMES}',
        {"boxes": (1, MANY, 4), "scores": (1, MANY), "classes": (1, MANY)},
        {"scores": np.s_[:]},
    ),
    "one tensor": Layout('head = "detections"', {"out": (1, MANY, 6)}, {"out": np.s_[..., 4]}),
    "center": Layout(
        'head = "center"', {"heatmap": (1, 2, 64, 64), "boxes": (1, 4, 64, 64)}, {"heatmap": np.s_[:]}
    ),
}


def outputs_of(layout: Layout, score: float) -> dict[str, NDArray[np.float32]]:
    outputs = {name: np.zeros(shape, np.float32) for name, shape in layout.shapes.items()}
    for name, where in layout.scores.items():
        outputs[name][where] = score
    return outputs


def folder_with(folder: Path, layout: Layout, outputs: Mapping[str, NDArray[Any]], labels: int = 2) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.txt").write_text("".join(f"label {n}\n" for n in range(labels)))
    (folder / "model.toml").write_text(
        '[model]\nobjective = "object_tracking"\nid = "m"\n[input]\n'
        f"width = {SIZE}\nheight = {SIZE}\n[output]\n{layout.keys}\n"
    )
    recorded(folder / "model.onnx", outputs)
    return folder


def open_recorded(folder: Path, layout: Layout, outputs: Mapping[str, NDArray[Any]], labels: int = 2) -> None:
    open_predictor(load_manifest(folder_with(folder, layout, outputs, labels)))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(tmp_path: Path, head: str, bad: float) -> None:
    with pytest.raises(ModelUnusable, match="NaN or infinite"):
        open_recorded(tmp_path, HEADS[head], outputs_of(HEADS[head], bad))


@pytest.mark.parametrize("head", HEADS)
def test_boxes_that_are_none_are_refused(tmp_path: Path, head: str) -> None:
    outputs = outputs_of(HEADS[head], 0.9)
    for name, where in HEADS[head].scores.items():
        kept = outputs[name][where].copy()
        outputs[name][:] = np.nan
        outputs[name][where] = kept
    if "boxes" in outputs:
        outputs["boxes"][:] = np.nan
    with pytest.raises(ModelUnusable, match="NaN or infinite"):
        open_recorded(tmp_path, HEADS[head], outputs)


@pytest.mark.parametrize("head", HEADS)
def test_logits_taken_for_probabilities_are_refused(tmp_path: Path, head: str) -> None:
    with pytest.raises(ModelUnusable, match=r"a score is 7, not between 0 and 1.*activation to sigmoid"):
        open_recorded(tmp_path, HEADS[head], outputs_of(HEADS[head], 7))


@pytest.mark.parametrize("head", HEADS)
def test_wrong_shapes_are_refused_with_both_shapes(tmp_path: Path, head: str) -> None:
    axis = 1 if head in ("yolov8", "center") else -1
    outputs = {name: np.delete(value, -1, axis) for name, value in outputs_of(HEADS[head], 0).items()}
    wrong = next(iter(outputs.values()))
    with pytest.raises(ModelUnusable, match="; correct") as caught:
        open_recorded(tmp_path, HEADS[head], outputs)
    assert str(list(wrong.shape)) in str(caught.value)


@pytest.mark.parametrize("head", [head for head in HEADS if head not in ("detections", "one tensor")])
def test_fewer_labels_than_classes_are_refused(tmp_path: Path, head: str) -> None:
    with pytest.raises(ModelUnusable, match="label"):
        open_recorded(tmp_path, HEADS[head], outputs_of(HEADS[head], 0), labels=1)


@pytest.mark.parametrize(
    ("classes", "keys", "message"),
    [
        (1, "", "finds class 1, but 1 labels from first_class 0 are 0 to 0; correct the labels file"),
        (-1, "", "finds class -1"),
        (0, "first_class = 1", r"finds class 0, but 1 labels from first_class 1 are 1 to 1"),
        (0.5, "", r"a class is 0.5, not a whole number; correct \[output\] names"),
    ],
)
def test_classes_without_a_label_are_refused(tmp_path: Path, classes: float, keys: str, message: str) -> None:
    layout = Layout(f"{HEADS['detections'].keys}\n{keys}", *_rest(HEADS["detections"]))
    outputs = outputs_of(layout, 0.9)
    outputs["classes"][:] = classes
    with pytest.raises(ModelUnusable, match=message):
        open_recorded(tmp_path, layout, outputs, labels=1)


def _rest(layout: Layout) -> tuple[Mapping[str, tuple[int, ...]], Mapping[str, Any]]:
    return layout.shapes, layout.scores


@pytest.mark.parametrize("count", [np.nan, 0.5, -1, MANY + 1])
def test_a_count_that_is_none_is_refused(tmp_path: Path, count: float) -> None:
    shapes, scores = _rest(HEADS["detections"])
    layout = Layout(
        'head = "detections"\nnames = ["boxes", "scores", "classes", "n"]', {**shapes, "n": (1,)}, scores
    )
    outputs = outputs_of(layout, 0.5)
    outputs["n"][:] = count
    with pytest.raises(ModelUnusable, match="output n is no count of up to 10000 detections"):
        open_recorded(tmp_path, layout, outputs)


def test_corners_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    outputs = outputs_of(HEADS["detections"], 0.9)
    outputs["boxes"][:] = [50, 50, 20, 10]  # a centre and a size
    with pytest.raises(ModelUnusable, match=r"a box ends before it begins, \[50.0, 50.0, 20.0, 10.0\]"):
        open_recorded(tmp_path, HEADS["detections"], outputs)


def test_boxes_in_pixels_that_are_said_to_be_relative_are_refused(tmp_path: Path) -> None:
    keys, shapes, scores = astuple(HEADS["one tensor"])
    layout = Layout(f'{keys}\nbox_unit = "relative"', shapes, scores)
    outputs = outputs_of(layout, 0.9)
    outputs["out"][0, :, :4] = [0.5, 0.5, 1.25, 1.5]
    open_recorded(tmp_path / "near", layout, outputs)
    outputs["out"][0, 5, :4] = [10, 20, 30, 40]
    with pytest.raises(ModelUnusable, match=r"a box is \[10.0, 20.0, 30.0, 40.0\], .* box_unit to pixels"):
        open_recorded(tmp_path / "far", layout, outputs)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("score", [0.0, 0.9])
def test_none_and_thousands_of_detections(tmp_path: Path, head: str, score: float) -> None:
    """With thousands, the best 300 that do not overlap stay."""
    outputs = outputs_of(HEADS[head], score)
    manifest = load_manifest(folder_with(tmp_path, HEADS[head], outputs))
    decoder = DETECTION_HEADS[manifest.output.head](manifest, OnnxModel(manifest.graph))
    found = decoder.decode([outputs[name] for name in decoder.names])
    # `detr` without softmax has a detection for each class of a query.
    each = 2 if head in ("detr", "center") else 1
    cells = GRID if manifest.output.head in ("yolox", "nanodet", "center") else MANY
    assert len(found) == (each * cells if score else 0)
    kept = suppress(found, manifest.output, Geometry(0, 0, SIZE, SIZE))
    assert (0 < len(kept) <= 300) if score else not len(kept)
    assert np.isfinite(kept.boxes).all()


def test_fillers_are_no_detections(tmp_path: Path) -> None:
    """Graphs fill up with scores of 0 or -1, classes of -1 and boxes of nothing."""
    outputs = outputs_of(HEADS["one tensor"], 0)
    outputs["out"][0, :, 4:] = [-1, -1]
    outputs["out"][0, 0] = [1, 2, 3, 4, 0.5, 1]
    manifest = load_manifest(folder_with(tmp_path, HEADS["one tensor"], outputs))
    head = DETECTION_HEADS["detections"](manifest, OnnxModel(manifest.graph))
    found = head.decode([outputs["out"]])
    assert found.boxes.tolist() == [[1, 2, 3, 4]]
    assert found.classes.tolist() == [1]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('head = "detections"\ncolumns = ["box", "score"]', "must have each of box, score, class once"),
        ('head = "detections"\nbox = "xywh"', "must be one of xyxy, yxyx, cxcywh"),
        ('head = "yolov8"\nactivation = "softmax"', "is for clip classifiers and detr"),
    ],
)
def test_keys_that_make_no_sense_are_refused(tmp_path: Path, keys: str, message: str) -> None:
    layout = Layout(keys, {"out": (1, 9, 6)}, {})
    with pytest.raises(ManifestError, match=message):
        load_manifest(folder_with(tmp_path, layout, outputs_of(layout, 0)))


def test_the_number_of_outputs_must_fit_the_head(tmp_path: Path) -> None:
    outputs = {name: np.zeros((1, 4, 4), np.float32) for name in "abcde"}
    for head, needed in (
        ("detr", "needs two"),
        ("detections", "needs one, or three"),
        ("nanodet", "needs one, or 6"),
    ):
        with pytest.raises(ModelUnusable, match=f"has the outputs a, b, c, d, e; a {head} head.* {needed}"):
            open_recorded(tmp_path / head, Layout(f'head = "{head}"', {}, {}), outputs)
