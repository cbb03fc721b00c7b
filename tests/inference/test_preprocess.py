"""From frame to tensor: sizes, borders, channels, numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from emulator.inference.manifest import ModelUnusable, load_manifest
from emulator.inference.onnx_model import OnnxModel
from emulator.inference.preprocess import Geometry, ModelInput, Preprocessor
from emulator.inference.sections import InputSection
from tests.inference.tiny_models import TRACKING_TOML, actions_folder, recorded, tracking_folder


def frame(width: int, height: int, color: tuple[int, int, int] = (10, 20, 30)) -> NDArray[np.uint8]:
    return np.full((height, width, 3), color, np.uint8)


def tensor_of(spec: InputSection, picture: NDArray[np.uint8], dtype: Any = np.float32) -> NDArray[Any]:
    preprocessor = Preprocessor(spec, dtype)
    out = np.zeros(preprocessor.frame_shape, dtype)
    preprocessor.write(preprocessor.fit(picture), out)
    return out


@pytest.mark.parametrize(
    ("fit", "size", "geometry"),
    [
        ("letterbox-top-left", (128, 64), Geometry(0, 0, 64, 32)),
        ("letterbox-center", (128, 64), Geometry(0, 16, 64, 32)),
        ("letterbox-center", (32, 64), Geometry(16, 0, 32, 64)),
        ("stretch", (128, 64), Geometry(0, 0, 64, 64)),
        ("crop-center", (128, 64), Geometry(-32, 0, 128, 64)),
        ("letterbox-top-left", (1, 1), Geometry(0, 0, 64, 64)),
        ("letterbox-top-left", (10_000, 2), Geometry(0, 0, 64, 1)),
    ],
)
def test_frames_are_fitted_in(fit: str, size: tuple[int, int], geometry: Geometry) -> None:
    preprocessor = Preprocessor(InputSection(width=64, height=64, layout="NCHW", fit=fit, pad=114))
    picture = preprocessor.fit(frame(*size))
    assert picture.geometry == geometry
    assert picture.pixels.shape == (64, 64, 3)
    inside = np.zeros((64, 64), bool)
    inside[max(0, geometry.top) :, max(0, geometry.left) :] = True
    inside[geometry.top + geometry.height :] = False
    inside[:, geometry.left + geometry.width :] = False
    assert (picture.pixels[inside] == (10, 20, 30)).all()
    assert (picture.pixels[~inside] == 114).all()


@pytest.mark.parametrize(("color", "expected"), [("BGR", [10, 20, 30]), ("RGB", [30, 20, 10])])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_channels_come_in_the_order_asked_for(color: str, expected: list[float], layout: str) -> None:
    tensor = tensor_of(InputSection(width=16, height=8, layout=layout, color=color), frame(32, 16))
    assert tensor.shape == ((3, 8, 16) if layout == "NCHW" else (8, 16, 3))
    pixel = tensor[:, 0, 0] if layout == "NCHW" else tensor[0, 0]
    assert pixel.tolist() == expected


def test_grey_has_one_channel() -> None:
    tensor = tensor_of(
        InputSection(width=8, height=8, layout="NCHW", color="GRAY"), frame(8, 8, (50, 50, 50))
    )
    assert tensor.shape == (1, 8, 8)
    assert (tensor == 50).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_pixels_are_scaled_shifted_and_divided(dtype: Any) -> None:
    spec = InputSection(
        width=8, height=8, layout="NCHW", color="RGB", scale=0.5, mean=(1, 2, 3), std=(1, 2, 4)
    )
    pixel = tensor_of(spec, frame(8, 8), dtype)[:, 0, 0]
    assert pixel.dtype == dtype
    assert pixel.tolist() == [30 * 0.5 - 1, (20 * 0.5 - 2) / 2, (10 * 0.5 - 3) / 4]


def test_uint8_graphs_take_pixels_as_they_are() -> None:
    spec = InputSection(width=8, height=8, layout="NHWC", color="RGB")
    assert tensor_of(spec, frame(8, 8), np.uint8)[0, 0].tolist() == [30, 20, 10]
    with pytest.raises(ModelUnusable, match="leave \\[input\\] scale, mean and std out"):
        Preprocessor(InputSection(width=8, height=8, layout="NHWC", scale=0.5), np.uint8)


def test_a_large_frame_is_averaged_rather_than_skipped() -> None:
    fine = frame(640, 640, (0, 0, 0))
    fine[:, ::4] = 240  # lines that linear interpolation at a tenth of the size would hit or miss
    picture = Preprocessor(InputSection(width=64, height=64, layout="NCHW", fit="stretch")).fit(fine)
    assert abs(int(picture.pixels.mean()) - 60) <= 2
    assert picture.pixels.std() < 35


def test_clip_frames_are_written_in_order(tmp_path: Path) -> None:
    for layout in ("NCTHW", "NTCHW"):
        folder = actions_folder(tmp_path / layout, layout=layout)
        toml = (folder / "model.toml").read_text().replace("NCTHW", layout)
        (folder / "model.toml").write_text(toml)
        model_input = ModelInput(load_manifest(folder).input, OnnxModel(folder / "model.onnx"))
        pictures = [model_input.fit(frame(16, 16, (51 * k, 0, 0))) for k in range(5)]
        tensor = model_input.feed(pictures)["clip"]
        blue = tensor[0, 2, :, 0, 0] if layout == "NCTHW" else tensor[0, :, 2, 0, 0]
        assert blue.tolist() == pytest.approx([0.2 * k for k in range(5)], abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("width = 64", "width = 32"),
            r"takes images \[1, 3, 64, 64\], but model.toml says NCHW \[1, 3, 64, 32\]",
        ),
        (("[output]", 'layout = "NHWC"\n[output]'), r"NHWC \[1, 64, 64, 3\]"),
        (("[output]", 'color = "GRAY"\n[output]'), r"\[1, 1, 64, 64\]; correct \[input\]"),
        (("[output]", 'name = "pixels"\n[output]'), "no input 'pixels'; .* one of images"),
    ],
)
def test_a_size_that_is_not_the_graphs_is_refused(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    folder = tracking_folder(tmp_path, TRACKING_TOML.replace(*change))
    with pytest.raises(ModelUnusable, match=message):
        ModelInput(load_manifest(folder).input, OnnxModel(folder / "model.onnx"))


def test_axes_that_are_one_long_may_be_missing_or_more(tmp_path: Path) -> None:
    for layout, shape in (("CHW", (3, 8, 16)), ("HWC", (8, 16, 3)), ("NMCTHW", (1, 1, 3, 2, 8, 16))):
        path = recorded(tmp_path / f"{layout}.onnx", {"o": np.zeros((1, 2), np.float32)}, shape=shape)
        spec = InputSection(width=16, height=8, layout=layout, frames=2 if "T" in layout else 1)
        fed = ModelInput(spec, OnnxModel(path))
        tensor = fed.feed([fed.fit(frame(32, 16))] * spec.frames)["images"]
        assert tensor.shape == shape
        pixel = np.moveaxis(tensor, layout.index("C"), -1).reshape(-1, 3)
        assert (pixel == [30, 20, 10]).all()


def test_the_slow_pathway_takes_frames_evenly_spread(tmp_path: Path) -> None:
    path = recorded(
        tmp_path / "net.onnx",
        {"o": np.zeros((1, 2), np.float32)},
        shape=(1, 3, 8, 8, 8),
        others={"fast": ((1, 3, 32, 8, 8), np.float32)},
    )
    spec = InputSection(
        width=8, height=8, layout="NCTHW", frames=32, name="fast", slow_name="images", slow_frames=8
    )
    fed = ModelInput(spec, OnnxModel(path))
    tensors = fed.feed([fed.fit(frame(8, 8, (k, k, k))) for k in range(32)])
    assert tensors["fast"][0, 0, :, 0, 0].tolist() == list(range(32))
    # As torch.linspace(0, 31, 8).long() has them.
    assert tensors["images"][0, 0, :, 0, 0].tolist() == [0, 4, 8, 13, 17, 22, 26, 31]
    with pytest.raises(ModelUnusable, match="slow_frames is 40, more than the 32 frames"):
        ModelInput(replace(spec, slow_frames=40), OnnxModel(path))


def test_further_inputs_get_sizes_and_ones(tmp_path: Path) -> None:
    others: dict[str, tuple[Any, Any]] = {
        "orig_target_sizes": (("n", 2), np.int64),
        "im_shape": ((1, 2), np.float32),
        "pixel_mask": (("n", "h", "w"), np.int64),
    }
    path = recorded(
        tmp_path / "net.onnx", {"o": np.zeros((1, 2), np.float32)}, shape=(1, 3, 8, 16), others=others
    )
    given = (("orig_target_sizes", "width-height"), ("im_shape", "height-width"), ("pixel_mask", "ones"))
    spec = InputSection(width=16, height=8, layout="NCHW", name="images", others=given)
    fed = ModelInput(spec, OnnxModel(path))
    tensors = fed.feed([fed.fit(frame(16, 8))])
    assert tensors["orig_target_sizes"].tolist() == [[16, 8]]
    assert tensors["im_shape"].tolist() == [[8, 16]]
    assert tensors["pixel_mask"].shape == (1, 8, 16)
    assert tensors["pixel_mask"].all()
    with pytest.raises(ModelUnusable, match=r"also wants the inputs .*; say in \[input\] others"):
        ModelInput(replace(spec, others=()), OnnxModel(path))


def test_int8_graphs_take_pixels_from_minus_128(tmp_path: Path) -> None:
    spec = InputSection(width=8, height=8, layout="NHWC", color="RGB", mean=(128.0,))
    assert tensor_of(spec, frame(8, 8, (0, 128, 255)), np.int8)[0, 0].tolist() == [127, 0, -128]
    with pytest.raises(ModelUnusable, match="set \\[input\\] mean to \\[128\\]"):
        Preprocessor(InputSection(width=8, height=8, layout="NHWC"), np.int8)
