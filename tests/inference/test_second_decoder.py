"""PyAV, the extra `av`: what it is taken for, and that its pictures are those that FFmpeg makes."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from emulator.config import DecoderChoice
from emulator.inference.decoding import Decoding, VideoOptions
from emulator.inference.video import FrameSource, VideoUnreadable, quiet_decoder
from tests.inference.corpus import Clip, Picture, constant, draw_number, read_number

EVERYTHING: list[tuple[int, int | None]] = [(0, None)]
PQ, HLG = 16, 18
BT709, BT601, BT2020, P3 = 1, 6, 9, 12


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> None:
    quiet_decoder()


def scene(width: int = 160, height: int = 120) -> Picture:
    """Smooth colours in all directions."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    blue, green, red = x / width, y / height, (1 + np.sin(x / 17) * np.cos(y / 13)) / 2
    return np.asarray(np.stack([blue, green, red], axis=2) * 200 + 30, np.uint8)


def clip(
    path: Path,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    matrix: int = BT709,
    transfer: int = 1,
    primaries: int = 1,
    color_range: int = 1,
    size: tuple[int, int] = (160, 120),
    frames: int = 4,
    options: dict[str, str] | None = None,
) -> Path:
    """A scene with those colours, written in its header, at a quality that changes next to nothing."""
    with av.open(str(path), "w") as container:
        usual = {"crf": "2"} if codec == "libx264" else {"x265-params": "log-level=none:crf=2"}
        stream = container.add_stream(codec, rate=10, options=options or usual)
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        context = stream.codec_context
        context.colorspace, context.color_trc, context.color_primaries = matrix, transfer, primaries
        context.color_range = color_range
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(scene(*size), format="bgr24").reformat(
                format=pixels,
                dst_colorspace=matrix if matrix in (1, 5, 6) else None,
                dst_color_range=color_range,
            )
            frame.colorspace, frame.color_trc, frame.color_primaries = matrix, transfer, primaries
            frame.color_range = color_range
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def decoded(path: Path, decoder: DecoderChoice = "auto") -> tuple[list[Picture], Decoding]:
    with FrameSource(path, options=VideoOptions(decoder)) as source:
        pictures = [sample.data for sample in source.sample(100_000, EVERYTHING, np.copy)]
    return pictures, source.decoding


def usual_conversion(path: Path) -> list[Picture]:
    """FFmpeg's, by PyAV's own call."""
    with av.open(str(path)) as container:
        return [np.asarray(f.to_ndarray(format="bgr24"), np.uint8) for f in container.decode(video=0)]


def difference(one: Picture, other: Picture) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


#: Mean difference in grey levels: swscale rounds down, and repeats chroma where we interpolate.
CLOSE = 2.0


HDR: dict[str, dict[str, Any]] = {
    "pq": {"transfer": PQ, "primaries": BT2020, "matrix": BT2020},
    "hlg": {"transfer": HLG, "primaries": BT2020, "matrix": BT2020},
    "wide-gamut": {"transfer": 14, "primaries": BT2020, "matrix": BT2020},
    "display-p3": {"transfer": 13, "primaries": P3, "matrix": BT709},
}


@pytest.mark.parametrize("name", HDR)
@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
def test_hdr_is_what_ffmpeg_makes_of_it(tmp_path: Path, name: str, container: str) -> None:
    path = clip(tmp_path / f"clip.{container}", codec="libx265", pixels="yuv420p10le", **HDR[name])
    pictures, decoding = decoded(path)
    assert decoding.decoder.startswith("PyAV")
    expected = usual_conversion(path)
    assert len(pictures) == len(expected)
    for mine, theirs in zip(pictures, expected, strict=True):
        assert difference(mine, theirs) < CLOSE
        assert np.mean(mine.max(axis=2) >= 254) < 0.01, "burnt out"


def test_without_pyav_hdr_comes_with_a_warning(tmp_path: Path) -> None:
    """Chosen by name, OpenCV does not stand back; its first HDR picture takes seconds, so none is decoded."""
    path = clip(tmp_path / "clip.mp4", codec="libx265", pixels="yuv420p10le", **HDR["pq"])
    with FrameSource(path, options=VideoOptions("opencv")) as source:
        (warning,) = source.decoding.warnings
    assert 'pip install "vertex-batch-emulator[av]"' in warning
    assert "HDR" in warning


PIXELS: dict[str, dict[str, Any]] = {
    "420": {},
    "420-bt601": {"matrix": BT601, "primaries": BT601, "transfer": BT601},
    "420-unsaid": {"matrix": 2, "primaries": 2, "transfer": 2},
    "420-full-range": {"pixels": "yuvj420p", "color_range": 2},
    "420-odd": {"size": (161, 121), "codec": "libvpx-vp9", "options": {"crf": "4", "cpu-used": "8"}},
    "422": {"pixels": "yuv422p"},
    "444": {"pixels": "yuv444p"},
    "420-10": {"pixels": "yuv420p10le"},
    "422-10": {"pixels": "yuv422p10le"},
    "444-12": {"pixels": "yuv444p12le", "codec": "libx265"},
    "gray": {"pixels": "gray", "codec": "libx265"},
    "nv12": {"pixels": "nv12"},
}


@pytest.mark.parametrize("name", PIXELS)
def test_planes_become_the_colours_of_the_usual_conversion(tmp_path: Path, name: str) -> None:
    """At full size."""
    path = clip(tmp_path / "clip.mp4", **PIXELS[name])
    (mine, *_), _ = decoded(path, "av")
    theirs = usual_conversion(path)[0]
    assert mine.shape == theirs.shape
    assert difference(mine, theirs) < CLOSE


@pytest.mark.parametrize("name", PIXELS)
def test_a_frame_at_model_size_is_the_resized_picture(tmp_path: Path, name: str) -> None:
    path = clip(tmp_path / "clip.mp4", **PIXELS[name])
    sizes = [(64, 48), (50, 70)]
    with FrameSource(path, options=VideoOptions("av")) as source:
        sample = next(
            source.sample_frames(100_000, EVERYTHING, lambda frame: [frame.scaled(*size) for size in sizes])
        )
    for size, mine in zip(sizes, sample.data, strict=True):
        theirs = cv2.resize(usual_conversion(path)[0], size, interpolation=cv2.INTER_LINEAR)
        assert difference(mine, np.asarray(theirs, np.uint8)) < CLOSE


def test_both_decoders_give_the_same_picture(tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4")
    first, second = decoded(path, "opencv")[0][0], decoded(path, "av")[0][0]
    assert difference(first, second) < CLOSE


def av1(folder: Path) -> Path:
    options = {"preset": "12", "svtav1-params": "pred-struct=1"}
    return Clip("clip.mp4", constant(30), Fraction(1, 30), codec="libsvtav1", options=options).write(folder)


def test_av1_is_decoded_by_pyav(tmp_path: Path) -> None:
    path = av1(tmp_path)
    with FrameSource(path) as source:
        assert [sample.data for sample in source.sample(100_000, EVERYTHING, read_number)] == list(
            range(0, 30, 3)
        )
    assert source.decoding.decoder.startswith("PyAV")


def opencv_reads_av1(path: Path) -> bool:
    """OpenCV 4's wheels have a decoder of AV1, those of OpenCV 5 have none."""
    return bool(cv2.VideoCapture(str(path)).read()[0])


def test_opencv_names_the_remedy_for_av1(tmp_path: Path) -> None:
    if opencv_reads_av1(av1(tmp_path)):
        pytest.skip("this OpenCV reads AV1")
    with pytest.raises(VideoUnreadable, match=r"AV1.*vertex-batch-emulator\[av\]"):
        FrameSource(av1(tmp_path), options=VideoOptions("opencv"))


def gif(folder: Path) -> Path:
    ticks = constant(20, 10)
    return Clip("clip.gif", ticks, Fraction(1, 100), codec="gif", pixel_format="rgb8").write(folder)


def raw_h264(folder: Path) -> Path:
    return Clip("clip.h264", constant(50), Fraction(1, 25), rate=Fraction(25), format="h264").write(folder)


@pytest.mark.parametrize("write", [gif, raw_h264])
def test_what_is_seldom_a_video_is_read_only_if_asked(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path)
    with pytest.raises(VideoUnreadable, match="set decoder to av"):
        FrameSource(path)
    with FrameSource(path, options=VideoOptions("av")) as source:
        numbers = [sample.data for sample in source.sample(100_000, EVERYTHING, read_number)]
    assert numbers[:6] in ([0, 1, 2, 3, 4, 5], [0, 2, 5, 7, 10, 12])
    assert len(numbers) == 20


def test_ogg_video_is_read_by_pyav_and_called_a_video_by_opencv(tmp_path: Path) -> None:
    path = Clip("clip.ogv", constant(60), Fraction(1, 30), codec="libvpx", format="ogg").write(tmp_path)
    with FrameSource(path) as source:
        found = [sample.data for sample in source.sample(100_000, EVERYTHING, read_number)]
    assert found == list(range(0, 60, 3))
    with pytest.raises(VideoUnreadable, match="The video is VP8 in Ogg, which OpenCV does not read"):
        FrameSource(path, options=VideoOptions("opencv"))


WITHOUT_PYAV = """
import importlib.util, sys
from pathlib import Path
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "av" else find_spec(name, *more)
sys.modules["av"] = None
from emulator.inference.decoding import VideoOptions
from emulator.inference.video import FrameSource, VideoUnreadable, quiet_decoder
quiet_decoder()
for path in sys.argv[1:]:
    for choice in ("auto", "opencv", "av"):
        try:
            with FrameSource(Path(path), options=VideoOptions(choice)) as source:
                samples = list(source.sample(100_000, [(0, None)], lambda picture: None))
            print(choice, len(samples), source.info.decoder.split()[0])
        except VideoUnreadable as error:
            print(choice, error)
"""


def test_the_product_works_without_pyav(tmp_path: Path) -> None:
    plain = Clip("plain.mp4", constant(30), Fraction(1, 30), b_frames=2).write(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYAV, str(plain), str(av1(tmp_path))],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[:2] == ["auto 10 OpenCV", "opencv 10 OpenCV"]
    assert lines[2].startswith("av The decoder av was asked for, but PyAV is not installed")
    if opencv_reads_av1(av1(tmp_path)):
        assert lines[3] == "auto 10 OpenCV"
    else:
        assert "AV1" in lines[3]
        assert "vertex-batch-emulator[av]" in lines[3]


def test_numbers_survive_at_any_size_and_turn(tmp_path: Path) -> None:
    """The planes of a turned frame are turned with it."""
    path = Clip("clip.mp4", constant(10), Fraction(1, 10)).write(tmp_path)
    with FrameSource(path, options=VideoOptions("av")) as source:
        small = [
            read_number(sample.data)
            for sample in source.sample_frames(100_000, EVERYTHING, lambda frame: frame.scaled(64, 48))
        ]
    assert small == list(range(10))
    assert read_number(draw_number(5)) == 5


@pytest.mark.parametrize("decoder", ["opencv", "av"])
def test_reordered_h264_in_an_avi_comes_in_order(tmp_path: Path, decoder: DecoderChoice) -> None:
    """An avi holds no times of presentation; those that FFmpeg makes up are out of order with H.264."""
    path = Clip("clip.avi", constant(60), Fraction(1, 30), b_frames=2).write(tmp_path)
    with FrameSource(path, options=VideoOptions(decoder)) as source:
        numbers = [sample.data for sample in source.sample(1, EVERYTHING, read_number)]
    assert numbers == list(range(60))
