"""Execution providers: the one that was asked for or an error, the first that works with `auto`.

What needs a provider runs where onnxruntime has it: `make test-openvino` installs one with OpenVINO.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper

from emulator.config import Provider
from emulator.inference.manifest import ModelUnusable
from emulator.inference.onnx_model import OnnxModel
from emulator.inference.providers import AUTO, PROVIDERS
from tests.inference.tiny_models import center_detector, save_graph

BUNDLED = sorted((Path(__file__).parents[2] / "models").glob("*/model.onnx"))


def has(name: str) -> bool:
    return PROVIDERS[name].ep in ort.get_available_providers()


needs_openvino = pytest.mark.skipif(not has("openvino"), reason="this onnxruntime has no OpenVINO")


def offer(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make onnxruntime say what its GPU wheel says on a machine without a GPU: that these are there."""
    offered = [*(PROVIDERS[name].ep for name in names), "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: offered)


def test_the_setting_takes_every_provider() -> None:
    assert set(get_args(Provider)) == {AUTO, *PROVIDERS}


@pytest.mark.parametrize("name", [name for name in PROVIDERS if not has(name)])
def test_a_provider_that_is_not_installed_is_an_error_with_the_remedy(tmp_path: Path, name: str) -> None:
    path = center_detector(tmp_path / "model.onnx")
    message = (
        rf"provider {name} was asked for, but onnxruntime here offers .*cpu; put {PROVIDERS[name].wheel} in"
    )
    with pytest.raises(ModelUnusable, match=message):
        OnnxModel(path, provider=name)


def test_an_unknown_provider_is_refused(tmp_path: Path) -> None:
    message = "unknown provider 'tpu'; it must be one of auto, tensorrt, cuda, openvino, cpu"
    with pytest.raises(ModelUnusable, match=message):
        OnnxModel(center_detector(tmp_path / "model.onnx"), provider="tpu")


@pytest.mark.skipif(has("cuda"), reason="CUDA may start here")
@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_provider_that_does_not_start_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    offer(monkeypatch, "tensorrt", "cuda")
    with pytest.raises(ModelUnusable, match=f"provider {name} was asked for, but .* could not start it"):
        OnnxModel(center_detector(tmp_path / "model.onnx"), provider=name)


@pytest.mark.skipif(has("cuda"), reason="CUDA may start here")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_auto_takes_the_next_one_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    offer(monkeypatch, "tensorrt", "cuda")
    path = center_detector(tmp_path / "model.onnx")
    with caplog.at_level(logging.INFO):
        assert OnnxModel(path, provider=AUTO).provider == "cpu"
    assert "does not run on cuda, so the next provider is tried" in caplog.text
    assert f"{path} runs on cpu" in caplog.text
    # Its engines take minutes to build: only for those who ask for it.
    assert "tensorrt" not in caplog.text.lower()


def test_a_broken_model_is_no_matter_of_the_provider(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"this is no model" * 100)
    with pytest.raises(ModelUnusable, match="cannot be loaded as an ONNX model"):
        OnnxModel(path, provider=AUTO)


@needs_openvino
def test_a_graph_that_the_provider_cannot_compute_runs_elsewhere_only_with_auto(tmp_path: Path) -> None:
    nodes = [helper.make_node("Det", ["matrix"], ["number"])]
    path = save_graph(tmp_path / "model.onnx", nodes, {"matrix": (1, 4, 4)}, {"number": (1,)}, {})
    with pytest.raises(ModelUnusable, match="provider openvino was asked for, but can compute no node of"):
        OnnxModel(path, provider="openvino")
    assert OnnxModel(path, provider=AUTO).provider == "cpu"


@needs_openvino
def test_auto_prefers_openvino_to_the_cpu(tmp_path: Path) -> None:
    assert OnnxModel(center_detector(tmp_path / "model.onnx"), provider=AUTO).provider == "openvino"


@needs_openvino
@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.parent.name)
def test_openvino_computes_what_the_cpu_does_and_the_same_each_time(path: Path) -> None:
    models = [OnnxModel(path, provider=name, calls=2) for name in ("cpu", "openvino")]
    assert [model.provider for model in models] == ["cpu", "openvino"]
    tensor = models[0].inputs[0]
    shape = [size or 1 for size in tensor.shape]
    feed = {tensor.name: np.random.default_rng(0).random(shape, np.float32)}
    names = models[0].output_names([])
    expected, found, again = (model.run(names, feed) for model in (*models, models[1]))
    for one, other, third in zip(expected, found, again, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(third, other)


def test_a_provider_that_raises_is_not_blamed_on_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime-gpu does so where TensorRT's libraries are missing; other wheels only warn."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    offer(monkeypatch, "tensorrt", "cuda")
    real = ort.InferenceSession
    place = (
        "/onnxruntime_src/onnxruntime/python/state.cc:729 void onnxruntime::f(PySessionOptions&, const T&) "
    )

    def raising(path: str, options: Any, *, providers: list[Any], enable_fallback: int) -> Any:
        if providers[0] != "CPUExecutionProvider":
            raise RuntimeError(f"{place}Please install TensorRT libraries.\nTrail")
        return real(path, options, providers=providers, enable_fallback=enable_fallback)

    monkeypatch.setattr(ort, "InferenceSession", raising)
    with pytest.raises(ModelUnusable) as refused:
        OnnxModel(center_detector(tmp_path / "model.onnx"), provider="tensorrt")
    message = str(refused.value)
    assert message.startswith(
        "provider tensorrt was asked for, but onnxruntime could not start it: Please install TensorRT"
        " libraries. The model itself is sound."
    )
    assert "export it again" not in message
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"this is no model" * 100)
    with pytest.raises(ModelUnusable, match="cannot be loaded as an ONNX model"):
        OnnxModel(broken, provider="tensorrt")
