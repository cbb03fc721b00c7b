"""What `models add` makes of a graph, and what `models check` shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from onnx import helper

from emulator.inference.manifest import ModelUnusable, load_manifest
from emulator.inference.objectives import open_predictor
from emulator.inference.predictor import Segment
from emulator.onboarding import LABEL_SETS, named_labels, read_labels, recognise, write_folder
from emulator.onboarding.check import check
from tests.inference.tiny_models import (
    RED,
    SIZE,
    Watch,
    actions_folder,
    center_detector,
    f32,
    flash_classifier,
    save_graph,
    squares,
    tracking_folder,
    write_clip,
    yolox_detector,
)


@pytest.mark.parametrize(
    ("build", "head", "labels"),
    [
        (yolox_detector, "yolox", ["red", "green"]),
        (center_detector, "center", ["red", "green"]),
        (flash_classifier, "clip", ["none", "white", "red"]),
        (lambda path: flash_classifier(path, layout="NTCHW", softmax=True), "clip", ["none", "white", "red"]),
    ],
)
def test_a_known_graph_gets_a_manifest_that_opens(
    tmp_path: Path, build: Callable[[Path], Path], head: str, labels: list[str]
) -> None:
    path = build(tmp_path / "net.onnx")
    found = recognise(path, labels=labels, name='My "net"')
    assert found.head == head
    manifest = write_folder(found, path, tmp_path / "my-net")
    assert manifest.display_name == 'My "net"'
    assert [label.display_name for label in manifest.labels] == labels
    assert found.assumptions
    for line in (*found.findings, *found.assumptions):
        assert line in found.manifest
    open_predictor(manifest)


def test_the_layout_and_activation_are_told_from_the_graph(tmp_path: Path) -> None:
    logits = recognise(flash_classifier(tmp_path / "a.onnx"), labels=["a", "b", "c"]).manifest
    assert 'layout = "NCTHW"' in logits
    assert 'activation = "softmax"' in logits
    other = flash_classifier(tmp_path / "b.onnx", layout="NTCHW", softmax=True)
    probabilities = recognise(other, labels=["a", "b", "c"]).manifest
    assert 'layout = "NTCHW"' in probabilities
    assert 'activation = "none"' in probabilities
    assert 'activation = "sigmoid"' in recognise(yolox_detector(tmp_path / "c.onnx", logits=True)).manifest


def test_labels_that_nobody_gave_are_numbered_and_said_so(tmp_path: Path) -> None:
    found = recognise(yolox_detector(tmp_path / "net.onnx"))
    assert found.labels == ("class 1", "class 2")
    assert any("give --labels FILE" in line for line in found.assumptions)


def test_labels_come_from_the_metadata(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["clip"], ["mean"], axes=[2, 3, 4], keepdims=0),
        helper.make_node("Identity", ["mean"], ["scores"]),
    ]
    path = save_graph(
        tmp_path / "net.onnx",
        nodes,
        {"clip": ("n", 3, "t", "h", "w")},
        {"scores": ("n", 3)},
        {},
        {"names": "{0: 'run', 1: 'sit', 2: 'eat'}"},
    )
    found = recognise(path)
    assert found.labels == ("run", "sit", "eat")
    assert "frames = 16" in found.manifest
    assert any("frames 16: the graph leaves it free" in line for line in found.assumptions)


def test_labels_of_another_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match=r"80 labels were given, but .* has 2 classes"):
        recognise(yolox_detector(tmp_path / "net.onnx"), labels=named_labels("coco80"))


def test_label_sets_are_known_by_name() -> None:
    labels = named_labels("coco80")
    assert len(labels) == len(set(labels)) == 80
    assert (labels[0], labels[15], labels[79]) == ("person", "cat", "toothbrush")
    with pytest.raises(ModelUnusable, match=r"no label set is called 'voc'.*coco80"):
        named_labels("voc")


def test_labels_are_read_from_lines_and_from_json(tmp_path: Path) -> None:
    for name, text in (
        ("labels.txt", "\ufeffrun\r\nsit\n\n"),
        ("labels.json", '["run", "sit"]'),
        ("config.json", '{"model_type": "x", "id2label": {"1": "sit", "0": "run"}}'),
    ):
        (tmp_path / name).write_text(text, "utf-8")
        assert read_labels(tmp_path / name) == ("run", "sit")
    for text in (
        '{"id2label": {"1": "sit"}}',
        '{"a": "b"}',
        "[]",
        "7",
        '["run", null]',
        '[{"id": 1, "title": "run"}]',
        '["run\\nsit"]',
        '["run", ""]',
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ModelUnusable, match=r"holds no labels; a list of names .* or id2label"):
            read_labels(tmp_path / "config.json")
    for text, what in (("\n", "is empty"), ("run\n\nsit\n", "has an empty line 2")):
        (tmp_path / "labels.txt").write_text(text)
        with pytest.raises(ModelUnusable, match=f"{what}; it must hold one label a line"):
            read_labels(tmp_path / "labels.txt")
    (tmp_path / "config.json").write_bytes(b"\xff{")
    with pytest.raises(ModelUnusable, match="cannot be read"):
        read_labels(tmp_path / "config.json")


def test_every_label_set_has_its_number_of_names() -> None:
    assert {name: len(set(named_labels(name))) for name in LABEL_SETS} == {
        "coco80": 80,
        "coco90": 90,
        "kinetics400": 400,
    }
    coco90 = named_labels("coco90")
    assert [name for name in coco90 if name in named_labels("coco80")] == list(named_labels("coco80"))
    # Numbers of COCO's annotations, less one.
    assert (coco90[0], coco90[16], coco90[89]) == ("person", "cat", "toothbrush")


def test_an_unknown_graph_is_described_with_what_is_missing(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["images", "one"], ["out"])]
    path = save_graph(
        tmp_path / "net.onnx", nodes, {"images": (1, 3, 32, 32)}, {"out": (1, 3, 32, 32)}, {"one": f32(1)}
    )
    with pytest.raises(ModelUnusable) as caught:
        recognise(path)
    for part in ("images [1, 3, 32, 32]", "not yolox", "not center", "not clip", "--head and --set"):
        assert part in str(caught.value)
    with pytest.raises(ModelUnusable, match=r"unknown head 'ssd'; it must be one of yolox, .*, clip"):
        recognise(path, head="ssd")


def test_the_folder_must_not_exist(tmp_path: Path) -> None:
    path = yolox_detector(tmp_path / "net.onnx")
    with pytest.raises(FileExistsError):
        write_folder(recognise(path), path, tmp_path)


def test_check_finds_and_draws_objects(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", lambda _: squares((RED, 3, 3)), seconds=1)
    report = check(load_manifest(tracking_folder(tmp_path / "model")), clip, progress=Watch(), drawings=3)
    assert report.found == {"red": 1}
    assert report.provider == "cpu"
    assert not report.failure
    assert [drawing.time_us for drawing in report.drawings] == [0, 400_000, 900_000]
    for drawing in report.drawings:
        picture = cv2.imdecode(np.frombuffer(drawing.png, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.shape == (128, 128, 3)
        # The box is 12 of 64 pixels to every side of the cell's centre at (28, 28): its left edge is green.
        assert picture[56, 32, 1] > 150


def test_check_draws_actions_and_tells_why_nothing_was_found(tmp_path: Path) -> None:
    clip = write_clip(
        tmp_path / "clip.mp4",
        lambda seconds: np.full((SIZE, SIZE, 3), 255 if seconds == pytest.approx(0.5) else 0, np.uint8),
        seconds=1,
    )
    manifest = load_manifest(actions_folder(tmp_path / "model"))
    report = check(manifest, clip, progress=Watch())
    assert report.found == {"white": 1}
    assert [drawing.time_us for drawing in report.drawings] == [500_000]
    late = check(manifest, clip, progress=Watch(), segment=Segment(9_000_000, None))
    assert "past the end" in late.failure


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("detect.tflite", b"\x1c\0\0\0TFL3", r"a TFLite model, .*tf2onnx.convert --tflite \S+ --output"),
        ("best.pt", b"PK\x03\x04" + bytes(99), "a checkpoint of PyTorch or Keras"),
        ("model.h5", b"\x89HDF\r\n", "a checkpoint of PyTorch or Keras"),
        ("saved/saved_model.pb", b"\x08\x01", r"a TensorFlow SavedModel, .*tf2onnx.convert --saved-model"),
    ],
)
def test_other_formats_are_told_how_to_become_onnx(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    with pytest.raises(ModelUnusable, match=message):
        recognise(path.parent if path.name == "saved_model.pb" else path)
