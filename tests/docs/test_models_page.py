"""The commands of docs/models.md, on graphs of the kinds that the page adds."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from emulator.cli import build
from emulator.factory import documentation_clip, render
from tests.docs.options import serve_options
from tests.docs.pages import blocks, runs
from tests.inference.tiny_models import recorded
from tests.onboarding.test_recognise_layouts import (
    NAMES,
    SIZE,
    SSD_BOXES,
    SSD_CLASSES,
    SSD_SCORES,
    V8,
    rtdetr,
)

FIRST, ADD, CHECK = blocks("docs/models.md", "sh")
SCORES = np.array([[0.9, 0.1]], np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the page names."""
    monkeypatch.chdir(tmp_path)
    recorded(tmp_path / "yolo.onnx", {"output0": V8}, shape=(1, 3, SIZE, SIZE), metadata=NAMES)
    recorded(tmp_path / "detr.onnx", rtdetr(2), shape=(1, 3, SIZE, SIZE))
    recorded(tmp_path / "resnet.onnx", {"scores": SCORES}, shape=(1, 3, 224, 224))
    ssd = {"boxes": SSD_BOXES, "scores": SSD_SCORES, "classes": SSD_CLASSES}
    recorded(tmp_path / "ssd.onnx", ssd, shape=(1, "height", "width", 3), dtype=np.uint8)
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "cat", "1": "dog"}}))
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    render(documentation_clip(), tmp_path / "clip.mp4")
    return tmp_path


def command(line: str) -> str:
    name, *words = shlex.split(line, comments=True)
    assert name == "vertex-emulator"
    done = CliRunner().invoke(build(), words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@runs(FIRST, ADD, CHECK)
def test_models_are_added_and_checked(folder: Path) -> None:
    *commands, serve = FIRST.text.splitlines()
    assert serve_options(serve)
    for line in commands:
        command(line)
    models = folder / "vertex-emulator-data" / "models"
    assert {path.name for path in (models / "yolo").iterdir()} == {"model.toml", "model.onnx", "labels.txt"}
    assert (models / "yolo" / "labels.txt").read_text() == "cat\ndog\n"
    for line in (ADD.text + CHECK.text).splitlines():
        command(line)
    assert {path.name for path in models.iterdir()} >= {"yolo", "detr", "resnet", "ssd"}
    assert list((folder / "pictures").glob("*.png"))
