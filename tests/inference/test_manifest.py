"""model.toml: what is read, what is refused and in which words."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from emulator.inference.manifest import ManifestError, ModelUnusable, load_manifest
from emulator.inference.sections import SECTIONS
from emulator.vertex.objectives import Objective
from emulator.vertex.predictions import Label
from tests.inference.tiny_models import CLASSIFICATION_TOML

DETECTOR = """
[model]
objective = "object_tracking"
[input]
width = 416
height = 416
[output]
head = "yolox"
"""


def folder_with(tmp_path: Path, toml: str, labels: str = "cat\ndog\n") -> Path:
    folder = tmp_path / "my-model"
    folder.mkdir(exist_ok=True)
    (folder / "model.toml").write_text(toml)
    (folder / "labels.txt").write_text(labels)
    return folder


def test_a_short_manifest_has_all_the_defaults(tmp_path: Path) -> None:
    manifest = load_manifest(folder_with(tmp_path, DETECTOR))
    assert manifest.id == manifest.display_name == "my-model"
    assert manifest.objective is Objective.OBJECT_TRACKING
    assert manifest.labels == (Label("1", "cat"), Label("2", "dog"))
    assert manifest.graph == tmp_path / "my-model" / "model.onnx"
    assert manifest.interval_us == 100_000
    assert manifest.input.layout == "NCHW"
    assert manifest.background is None
    assert manifest.tracker.buffer == 1.0


def test_a_clip_model_has_its_own_layout_and_background(tmp_path: Path) -> None:
    toml = (
        '[model]\nobjective = "action_recognition"\n[labels]\nbackground = "none"\nids = [30, "20"]\n'
        '[input]\nwidth = 112\nheight = 96\nframes = 16\n[output]\nhead = "clip"\nactivation = "softmax"\n'
        "[sampling]\nrate = 15\n"
    )
    manifest = load_manifest(folder_with(tmp_path, toml, "\ufeffswing\r\nnone\r\n\r\n"))
    assert manifest.labels == (Label("30", "swing"), Label("20", "none"))
    assert manifest.background == 1
    assert manifest.input.layout == "NCTHW"
    assert manifest.interval_us == 66_667


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ('"object_tracking"', '"tracking"'),
            r"\[model\] objective is 'tracking'; it must be one of object_tr",
        ),
        (('"object_tracking"', '"detection"'), "one of object_tracking, action_recognition, classification"),
        (
            ('"object_tracking"', '"classification"'),
            "head 'yolox' is not for classification; these are: scores",
        ),
        (
            ('"object_tracking"', f'"object_tracking"\ndisplay_name = "{"x" * 129}"'),
            "it has 129 characters; it may have 128",
        ),
        (
            ('"object_tracking"', '"object_tracking"\ndisplay_name = "a\\u0000b"'),
            r"display_name is 'a\\x00b'; .*no control characters",
        ),
        (("width = 416", ""), r"\[input\] width is missing. Width of the input"),
        (
            ("width = 416", 'width = "416"'),
            r"\[input\] width is '416'; it must be a whole number from 8 to 8192",
        ),
        (("width = 416", "widht = 416"), r"unknown key in \[input\] 'widht'; did you mean 'width'\?"),
        (("[output]", "[outputs]"), "unknown section 'outputs'; did you mean 'output'"),
        (("[output]", "output = 3\n[other]"), "unknown"),
        (
            ('"yolox"', '"clip"'),
            "head 'clip' is not for object_tracking; these are: yolox, yolov5, .*, center",
        ),
        (('"yolox"', '"yolov9"'), "must be one of yolox, yolov5, .*, clip"),
        (("width = 416", 'width = 416\nlayout = "NCTHW"'), "for this objective it is NCHW or NHWC"),
        (("width = 416", "width = 416\nmean = [1, 2]"), "must be a list of 1 or 3 values"),
        (('"yolox"', '"yolox"\nstrides = []'), r"strides is \[\]; it must be a list of at least 1 value"),
        (("width = 416", f"width = 416\nscale = 1{'0' * 400}"), "must be a number from 1e-06 to 1e\\+06"),
        (("width = 416", f"width = 1{'0' * 5000}"), "cannot be read as TOML"),
        (
            ("[output]", '[labels]\nfile = "a\\u0000b"\n[output]'),
            "must name a file inside the model's folder",
        ),
        (
            ("width = 416", 'width = 416\ncolor = "GRAY"\nmean = [1, 2, 3]'),
            "mean has 3 values, color GRAY has 1",
        ),
        (("width = 416", "width = 416\nstd = [0]"), "must be a number from 1e-06"),
        (("width = 416", "width = true"), "must be a whole number"),
        (("width = 416", "width = 416\nframes = 8"), "a detector takes 1 frame"),
        (('"yolox"', '"yolox"\nmin_score = 2'), "must be a number from 0 to 1"),
        (('"yolox"', '"yolox"\nmin_score = nan'), "must be a number from 0 to 1"),
        (('"yolox"', '"yolox"\nactivation = "softmax"'), "is for clip classifiers"),
        (('"yolox"', '"yolox"\n[tracker]\nlow = 0.7'), "low <= high <= new"),
        (('"yolox"', '"yolox"\n[actions]\nsmooth = 2'), "smooth is 2; it must be odd"),
        (
            ('"yolox"', '"yolox"\n[labels]\nids = ["1"]'),
            "has 1 different values, but labels.txt has 2 labels",
        ),
        (('"yolox"', '"yolox"\n[labels]\nids = ["a", "b"]'), "must be whole numbers"),
        (('"yolox"', '"yolox"\n[labels]\nbackground = "sky"'), "background 'sky' is not a line of"),
        (('"yolox"', '"yolox"\n[labels]\nfile = "../x"'), "must name a file inside the model's folder"),
        (('"yolox"', '"yolox"\n[labels]\nfile = "names.txt"'), "names.txt cannot be read.*one label a line"),
        (("[model]", '[model]\nid = "My Model"'), "must be 1 to 63 of a-z"),
        (("[model]", "[model"), "cannot be read as TOML"),
    ],
)
def test_a_mistake_is_named_with_file_and_remedy(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    assert change[0] in DETECTOR
    folder = folder_with(tmp_path, DETECTOR.replace(*change))
    with pytest.raises(ManifestError, match=message) as caught:
        load_manifest(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "message"), [("", "is empty"), ("\n\n", "is empty"), ("cat\n\ndog\n", "has an empty line 2")]
)
def test_labels_without_names_are_refused(tmp_path: Path, labels: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        load_manifest(folder_with(tmp_path, DETECTOR, labels))


def test_a_folder_without_manifest_says_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match="vertex-emulator models add"):
        load_manifest(tmp_path)


def test_the_page_lists_every_key_with_its_default_and_meaning() -> None:
    page = (Path(__file__).parents[2] / "docs" / "models" / "manifest.md").read_text("utf-8")
    documented = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", page, re.MULTILINE)
    declared = []
    for section in SECTIONS.values():
        for key in fields(section):
            default = key.default
            if default is MISSING:
                shown = "required"
            elif default in ("", (), None):
                shown = "\N{EN DASH}"
            else:
                value = list(default) if isinstance(default, tuple) else default
                shown = f"`{value!r}`".replace("'", '"')
            declared.append((key.name, shown, key.metadata["help"]))
    assert documented == declared


def test_the_server_can_read_manifests_without_the_heavy_libraries() -> None:
    heavy = {"numpy", "cv2", "onnxruntime", "lap"}
    code = f"import sys, emulator.inference.predictor; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("width = 16", "width = 16\nframes = 8"), "frames is 8, but layout NCHW holds one picture"),
        (("rate = 5", "rate = 5\n[classification]\nstep = 6"), "each second must be looked at once at least"),
        (("rate = 5", "rate = 5\n[classification]\nemphasis = 0.5"), "must be a number from 1 to 64"),
        (('"scores"', '"clip"'), "head 'clip' is not for classification; these are: scores"),
    ],
)
def test_a_mistake_in_a_classifier_s_manifest_is_named(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    assert change[0] in CLASSIFICATION_TOML
    folder = folder_with(tmp_path, CLASSIFICATION_TOML.replace('background = "grey"', "").replace(*change))
    with pytest.raises(ManifestError, match=message):
        load_manifest(folder)
