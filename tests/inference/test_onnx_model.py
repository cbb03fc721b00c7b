"""Loading graphs: files that are none, providers that are not there, and predictors that do not fit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from emulator.inference.manifest import ModelUnusable, load_manifest
from emulator.inference.onnx_model import OnnxModel
from emulator.inference.predictor import open_predictor
from tests.inference.tiny_models import (
    TRACKING_TOML,
    actions_folder,
    center_detector,
    tracking_folder,
    yolox_detector,
)

HAS_CUDA = "CUDAExecutionProvider" in ort.get_available_providers()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read .*must name the ONNX graph"),
        (b"", "is empty"),
        (b"this is no model" * 100, "cannot be loaded as an ONNX model"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
    ],
)
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelUnusable, match=message) as caught:
        OnnxModel(path)
    assert str(path) in str(caught.value)


def test_a_truncated_model_is_refused(tmp_path: Path) -> None:
    path = center_detector(tmp_path / "model.onnx")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelUnusable, match="cannot be loaded as an ONNX model"):
        OnnxModel(path)


@pytest.mark.skipif(HAS_CUDA, reason="onnxruntime offers CUDA here")
def test_cuda_that_is_not_there_is_an_error_and_auto_is_not(tmp_path: Path) -> None:
    path = center_detector(tmp_path / "model.onnx")
    with pytest.raises(ModelUnusable, match=r"cuda was asked for.* offers cpu; install onnxruntime-gpu"):
        OnnxModel(path, provider="cuda")
    assert OnnxModel(path, provider="auto").provider == "cpu"


def test_an_unknown_provider_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match="unknown provider 'tpu'; it must be auto, cuda or cpu"):
        OnnxModel(center_detector(tmp_path / "model.onnx"), provider="tpu")


def test_running_with_the_wrong_input_is_refused(tmp_path: Path) -> None:
    model = OnnxModel(center_detector(tmp_path / "model.onnx"))
    with pytest.raises(ModelUnusable, match="failed while running"):
        model.run(["heatmap"], {"images": np.zeros((1, 3, 8, 8), np.float32)})


def test_outputs_are_asked_for_by_name(tmp_path: Path) -> None:
    model = OnnxModel(center_detector(tmp_path / "model.onnx"))
    assert model.output_names(["boxes"]) == ["boxes"]
    assert sorted(model.output_names([])) == ["boxes", "heatmap"]
    with pytest.raises(ModelUnusable, match=r"no output 'box'; .* must be of"):
        model.output_names(["box"])


def test_predictors_tell_the_provider_they_use(tmp_path: Path) -> None:
    for folder in (tracking_folder(tmp_path / "objects"), actions_folder(tmp_path / "actions")):
        assert open_predictor(load_manifest(folder), provider="cpu").provider == "cpu"


def test_a_graph_of_another_head_is_refused_on_opening(tmp_path: Path) -> None:
    folder = tracking_folder(tmp_path, TRACKING_TOML.replace('"center"', '"yolox"'))
    with pytest.raises(ModelUnusable, match="a yolox head with strides"):
        open_predictor(load_manifest(folder))


def test_labels_of_another_number_are_refused_on_opening(tmp_path: Path) -> None:
    folder = tracking_folder(tmp_path / "center")
    (folder / "labels.txt").write_text("red\n")
    with pytest.raises(ModelUnusable, match=r"heatmap \[1, 1, h, w\]"):
        open_predictor(load_manifest(folder))
    folder = tracking_folder(tmp_path / "yolox", TRACKING_TOML.replace('"center"', '"yolox"'))
    yolox_detector(folder / "model.onnx")
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    with pytest.raises(ModelUnusable, match="3 labels needs"):
        open_predictor(load_manifest(folder))


def test_onnxruntime_reports_nothing_to_its_maker(tmp_path: Path) -> None:
    """Its telemetry leaves a session file in the temporary folder, which is how one notices it."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run(
        [sys.executable, "-c", "import emulator.inference.onnx_model"],
        env=environment | {"TMPDIR": str(tmp_path)},
        cwd=Path(__file__).parents[2],
        check=True,
    )
    assert list(tmp_path.iterdir()) == []


def test_installation_without_inference_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = load_manifest(tracking_folder(tmp_path / "tracker"))
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ModelUnusable, match="lacks opencv-python-headless and serves canned models only"):
        open_predictor(manifest)
