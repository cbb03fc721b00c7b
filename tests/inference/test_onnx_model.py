"""Loading graphs: files that are none, providers that are not there, and predictors that do not fit."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from emulator.inference.manifest import ModelUnusable, load_manifest
from emulator.inference.model_files import external_files
from emulator.inference.objectives import open_predictor
from emulator.inference.onnx_model import OnnxModel
from emulator.onboarding import recognise, write_folder
from emulator.onboarding.check import check
from emulator.vertex.objectives.object_tracking import ObjectTrack
from tests.inference.tiny_models import (
    GREEN,
    RED,
    TRACKING_TOML,
    Watch,
    actions_folder,
    cell_box,
    center_detector,
    squares,
    tracking_folder,
    write_clip,
    yolox_detector,
)


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


def test_running_with_the_wrong_input_is_refused(tmp_path: Path) -> None:
    model = OnnxModel(center_detector(tmp_path / "model.onnx"))
    with pytest.raises(ModelUnusable, match="failed while running"):
        model.run(["heatmap"], {"images": np.zeros((1, 3, 8, 8), np.float32)})


def test_a_node_that_fails_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    four = numpy_helper.from_array(np.array([4]), "four")
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "four"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [four],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
        tmp_path / "model.onnx",
    )
    model = OnnxModel(tmp_path / "model.onnx")
    with pytest.raises(ModelUnusable, match="Reshape"):
        model.run(["y"], {"x": np.zeros(5, np.float32)})
    assert capfd.readouterr() == ("", "")


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
    def not_there(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    manifest = load_manifest(tracking_folder(tmp_path / "tracker"))
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setattr(importlib.metadata, "version", not_there)
    with pytest.raises(ModelUnusable, match="lacks opencv-python-headless and serves canned models only"):
        open_predictor(manifest)


def test_module_that_a_twin_took_along_is_told_with_what_brings_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip still knows opencv-python-headless, but uninstalling opencv-python has deleted its files."""
    manifest = load_manifest(tracking_folder(tmp_path / "tracker"))
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ModelUnusable) as refused:
        open_predictor(manifest)
    message = str(refused.value)
    version = importlib.metadata.version("opencv-python-headless")
    assert f"pip takes opencv-python-headless {version} for installed, but its files are gone" in message
    assert "Run `pip uninstall --yes opencv-python opencv-python-headless" in message
    assert message.endswith("then `pip install opencv-python-headless`")


def external_detector(folder: Path, location: str = "weights.bin") -> Path:
    """The `center` detector with all its constants in a file beside it."""
    path = center_detector(folder / "plain.onnx")
    model = onnx.load(path)
    onnx.save(
        model,
        str(folder / "net.onnx"),
        save_as_external_data=True,
        location=location,
        size_threshold=0,
        convert_attribute=False,
    )
    return folder / "net.onnx"


@pytest.mark.parametrize("location", ["weights.bin", "w" * 150 + ".bin"])
def test_external_data_comes_along_and_is_missed_by_name(tmp_path: Path, location: str) -> None:
    path = external_detector(tmp_path, location)
    assert external_files(path) == [location]
    folder = tmp_path / "model"
    open_predictor(write_folder(recognise(path, labels=["red", "green"]), path, folder))
    (folder / location).unlink()
    message = f"its weights are in {location}, which must lie beside it; copy that file too"
    with pytest.raises(ModelUnusable, match=message):
        open_predictor(load_manifest(folder))
    (tmp_path / location).unlink()
    with pytest.raises(ModelUnusable, match=message):
        recognise(path)


@pytest.mark.parametrize("location", ["labels.txt", "model.onnx"])
def test_external_data_that_would_be_written_over_is_refused(tmp_path: Path, location: str) -> None:
    path = external_detector(tmp_path, location)
    with pytest.raises(ModelUnusable, match=f"keeps weights in {location}; save it .* under another name"):
        write_folder(recognise(path), path, tmp_path / "model")


def test_a_file_past_the_limit_of_onnx_is_refused_at_once(tmp_path: Path) -> None:
    path = center_detector(tmp_path / "model.onnx")
    os.truncate(path, 2**31)  # a hole: no disk is used
    with pytest.raises(
        ModelUnusable, match=r"has 2.0 GiB, but an ONNX file ends at 2 GiB; save it .*external"
    ):
        OnnxModel(path)


def test_an_operator_nobody_has_is_named(tmp_path: Path) -> None:
    node = helper.make_node("Shazam", ["images"], ["boxes"], domain="com.acme")
    graph = helper.make_graph(
        [node],
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 6, 4])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.acme", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(tmp_path / "net.onnx"))
    with pytest.raises(
        ModelUnusable, match=r"asks for the operator com\.acme:Shazam, which onnxruntime .* not"
    ):
        recognise(tmp_path / "net.onnx")


def test_a_future_opset_is_told_from_a_broken_file(tmp_path: Path) -> None:
    path = center_detector(tmp_path / "net.onnx")
    model = onnx.load(path)
    model.opset_import[0].version = 99
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelUnusable, match="export it with an older opset, or install a newer onnxruntime"):
        OnnxModel(path)


@pytest.mark.parametrize("kind", ["float16", "float16 inside", "uint8", "int8", "QDQ"])
def test_detectors_of_other_number_types_find_the_same(tmp_path: Path, kind: str) -> None:
    clip = write_clip(tmp_path / "clip.mp4", lambda _: squares((RED, 2, 5), (GREEN, 6, 1)), seconds=1)
    path = retyped(center_detector(tmp_path / "net.onnx"), kind)
    found = recognise(path, labels=["red", "green"], answers={"input.fit": "stretch"})
    manifest = write_folder(found, path, tmp_path / "model")
    report = check(manifest, clip, progress=Watch(), provider="cpu", drawings=0)
    assert report.found == {"red": 1, "green": 1}
    for track in report.predictions:
        assert isinstance(track, ObjectTrack)
        box = track.frames[0]
        cell = (2, 5) if track.label.display_name == "red" else (6, 1)
        assert (box.x_min, box.y_min, box.x_max, box.y_max) == pytest.approx(cell_box(*cell), abs=0.02)


def retyped(path: Path, kind: str) -> Path:
    """The graph with another type of input and outputs, or computing in other numbers."""
    model = onnx.load(path)
    graph = model.graph
    outside = {"float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8, "int8": TensorProto.INT8}.get(kind)
    first = {
        "float16": [helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT)],
        "float16 inside": [
            helper.make_node("Cast", ["images"], ["half"], to=TensorProto.FLOAT16),
            helper.make_node("Cast", ["half"], ["pixels"], to=TensorProto.FLOAT),
        ],
        "uint8": [
            helper.make_node("Cast", ["images"], ["shades"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["shades", "step"], ["pixels"]),
        ],
        "int8": [helper.make_node("DequantizeLinear", ["images", "step", "darkest"], ["pixels"])],
        "QDQ": [
            helper.make_node("QuantizeLinear", ["images", "step", "darkest"], ["bytes"]),
            helper.make_node("DequantizeLinear", ["bytes", "step", "darkest"], ["pixels"]),
        ],
    }[kind]
    for node in graph.node:
        node.input[:] = ["pixels" if name == "images" else name for name in node.input]
    nodes = [*first, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.append(numpy_helper.from_array(np.array(1 / 255, np.float32), "step"))
    graph.initializer.append(numpy_helper.from_array(np.array(-128, np.int8), "darkest"))
    if outside is not None:
        graph.input[0].type.tensor_type.elem_type = outside
    if kind == "float16":
        for output in graph.output:
            output.type.tensor_type.elem_type = TensorProto.FLOAT16
            graph.node.append(helper.make_node("Cast", [f"{output.name} in full"], [output.name], to=outside))
        for node in list(graph.node)[: -len(graph.output)]:
            names = {output.name for output in graph.output}
            node.output[:] = [f"{name} in full" if name in names else name for name in node.output]
    onnx.save(model, str(path))
    return path
