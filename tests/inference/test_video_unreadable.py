"""Files that are no video, or less than one: each is refused in words; none hangs or opens anything else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from emulator.config import DecoderChoice
from emulator.inference.decoding import USUAL, VideoOptions
from emulator.inference.video import FrameSource, Sample, VideoUnreadable, quiet_decoder
from tests.inference.corpus import Clip, constant, read_number, rotate_by_metadata, silence

TO_THE_END: list[tuple[int, int | None]] = [(0, None)]
RATE = Fraction(1, 30)
DECODERS: tuple[DecoderChoice, ...] = ("opencv", "av")


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> None:
    quiet_decoder()


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Ten seconds of 30 fps with the index in front, so that any part of the pictures may be missing."""
    clip = Clip(
        "whole.mp4", constant(300), RATE, b_frames=2, gop=15, container_options={"movflags": "faststart"}
    )
    return clip.write(tmp_path_factory.mktemp("whole")).read_bytes()


def samples(
    path: Path, spans: list[tuple[int, int | None]] = TO_THE_END, options: VideoOptions = USUAL
) -> list[Sample[int]]:
    with FrameSource(path, options=options) as source:
        return list(source.sample(100_000, spans, read_number))


def warnings(path: Path, options: VideoOptions = USUAL) -> str:
    """What is said about a video of which all frames that there are have been decoded."""
    with FrameSource(path, options=options) as source:
        assert list(source.sample(100_000, TO_THE_END, read_number))
    return "; ".join(source.decoding.warnings)


def refusal(path: Path, options: VideoOptions = USUAL) -> str:
    with pytest.raises(VideoUnreadable) as caught:
        samples(path, options=options)
    message = str(caught.value)
    assert str(path.parent) not in message, "the caller names the object"
    return message


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


OGG = b"OggS\0\2" + bytes(20) + b"\1\x1e"
NOT_VIDEO: dict[str, tuple[bytes, str]] = {
    "zero-bytes": (b"", "is empty"),
    "one-byte": (b"x", "text that starts with 'x'"),
    "text": ("Grüße\n".encode() * 100, "text that starts with 'Grüße"),
    "noise": (bytes(range(128, 256)), "starts with 80 81 82"),
    "playlist": (b"#EXTM3U\n#EXTINF:10,\nother.mp4\n", "a playlist"),
    "concat-script": (b"ffconcat version 1.0\nfile other.mp4\n", "text"),
    "session-description": (b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5000 RTP/AVP 96\n", "text"),
    "wave": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(24), "audio"),
    "mp3": (b"ID3\x04" + bytes(60), "audio"),
    "animated-picture": (b"GIF89a" + bytes(60), "a GIF, a picture that may be animated"),
    "ogg-of-sound": (OGG + b"\1\x1e\1vorbis" + bytes(60), "audio"),
    "heif": (b"\0\0\0\x18ftypheic" + bytes(12), "a picture (HEIF"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(60), "a picture"),
    "bare-h264": (b"\0\0\0\1\x67" + bytes(60), "without the timestamps"),
    "only-a-header": (b"\0\0\0\x18ftypisom" + bytes(12), "no index (moov box)"),
    "endless-boxes": (b"\0\0\0\x08free" * 5000, "no index (moov box)"),
    "boxes-of-no-length": (b"\0\0\0\x02free" * 5000, "no index (moov box)"),
    "matroska-header": (b"\x1a\x45\xdf\xa3" + bytes(60), "no video track that can be decoded"),
    "transport-stream-of-nothing": ((b"\x47" + bytes(187)) * 50, "no video track that can be decoded"),
}


@pytest.mark.parametrize("kind", NOT_VIDEO)
def test_what_is_no_video_is_named(tmp_path: Path, kind: str) -> None:
    content, said = NOT_VIDEO[kind]
    assert said in refusal(write(tmp_path / "clip.mp4", content))


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "clip.mp4")
    assert "is a folder" in refusal(tmp_path)
    assert "not a regular file" in refusal(Path("/dev/zero"))
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "not a regular file" in refusal(tmp_path / "pipe.mp4")


def test_audio_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        container.mux(silence(stream, 2))
    assert "only audio" in refusal(path)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_an_mp4_without_its_index_is_cut_short(tmp_path: Path, share: float) -> None:
    whole = Clip("clip.mp4", constant(60), RATE).write(tmp_path).read_bytes()
    message = refusal(write(tmp_path / "cut.mp4", whole[: int(len(whole) * share)]))
    assert "no index (moov box)" in message
    assert "cut short" in message


def cut_mp4(mp4: bytes, folder: Path) -> Path:
    return write(folder / "cut.mp4", mp4[: len(mp4) * 6 // 10])


def cut_mkv(_: bytes, folder: Path) -> Path:
    whole = Clip("whole.mkv", constant(300), RATE, b_frames=2).write(folder).read_bytes()
    return write(folder / "cut.mkv", whole[: len(whole) * 6 // 10])


def cut_avi(_: bytes, folder: Path) -> Path:
    clip = Clip("whole.avi", constant(300), RATE, codec="mjpeg", pixel_format="yuvj420p")
    whole = clip.write(folder).read_bytes()
    return write(folder / "cut.avi", whole[: len(whole) * 6 // 10])


def fragments_cut(_: bytes, folder: Path) -> Path:
    options = {"movflags": "frag_keyframe+empty_moov"}
    whole = (
        Clip("whole.mp4", constant(300), RATE, b_frames=2, container_options=options)
        .write(folder)
        .read_bytes()
    )
    return write(folder / "cut.mp4", whole[: len(whole) * 6 // 10 + 9])


CUTS = [cut_mp4, cut_mkv, cut_avi, fragments_cut]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_file_serves_what_it_has_and_then_says_so(
    mp4: bytes, tmp_path: Path, cut: Callable[[bytes, Path], Path], decoder: DecoderChoice
) -> None:
    path = cut(mp4, tmp_path)
    before = samples(path, [(0, 2_000_000)], VideoOptions(decoder, strict=True))
    assert [sample.first for sample in before] == list(range(20))
    assert len(samples(path, options=VideoOptions(decoder))) > 30
    said = warnings(path, VideoOptions(decoder))
    assert re.search(r"ends early, at \d\.\d+ s: .*cut short", said), said


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("cut", CUTS)
def test_with_strict_a_cut_file_is_an_error_after_what_it_has(
    mp4: bytes, tmp_path: Path, cut: Callable[[bytes, Path], Path], decoder: DecoderChoice
) -> None:
    path = cut(mp4, tmp_path)
    found: list[int | None] = []
    with FrameSource(path, options=VideoOptions(decoder, strict=True)) as source:
        generator = source.sample(100_000, TO_THE_END, read_number)
        with pytest.raises(VideoUnreadable, match=r"ends early, at \d\.\d+ s: .*cut short"):
            found.extend(iter(lambda: next(generator).first, None))
    assert len(found) > 30


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_box_that_claims_a_few_bytes_too_many_costs_nothing(
    mp4: bytes, tmp_path: Path, decoder: DecoderChoice, strict: bool
) -> None:
    box = mp4.index(b"mdat") - 4
    longer = (int.from_bytes(mp4[box : box + 4], "big") + 7).to_bytes(4, "big")
    path = write(tmp_path / "clip.mp4", mp4[:box] + longer + mp4[box + 4 :])
    assert len(samples(path, options=VideoOptions(decoder, strict))) == 100
    assert "All frames were decoded" in warnings(path, VideoOptions(decoder))


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_damaged_last_unit_costs_its_frame_alone(
    mp4: bytes, tmp_path: Path, decoder: DecoderChoice
) -> None:
    path = write(tmp_path / "clip.mp4", mp4[:-40] + bytes(40))
    assert len(samples(path, options=VideoOptions(decoder))) >= 99


def damaged(mp4: bytes, start: float, stop: float) -> bytes:
    content = bytearray(mp4)
    pictures = mp4.index(b"mdat") + 4
    first, last = (pictures + int(share * (len(mp4) - pictures)) for share in (start, stop))
    content[first:last] = np.random.default_rng(7).bytes(last - first)
    return bytes(content)


def test_damage_in_the_middle_does_not_end_the_video(mp4: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", damaged(mp4, 0.4, 0.5))
    after = [sample for sample in samples(path) if sample.time_us > 6_000_000]
    assert [sample.first for sample in after] == list(range(after[0].first, 100))
    assert all(abs(sample.data * 1e6 / 30 - sample.time_us) < 2 for sample in after)


def test_damage_up_to_the_end_is_reported(mp4: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", damaged(mp4, 0.5, 1.0))
    assert len(samples(path, [(0, 3_000_000)])) == 30
    assert "the rest of the file is damaged" in warnings(path)
    assert "the rest of the file is damaged" in refusal(path, VideoOptions(strict=True))


def test_damage_everywhere_leaves_no_frame(mp4: bytes, tmp_path: Path) -> None:
    message = refusal(write(tmp_path / "clip.mp4", damaged(mp4, 0.0, 1.0)))
    assert "No frame of the video can be decoded" in message
    assert "h264" in message


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", ["frame%03d.jpg", "frame*.png"])
def test_a_name_is_never_read_as_a_pattern(
    mp4: bytes, tmp_path: Path, name: str, decoder: DecoderChoice
) -> None:
    for index in range(3):
        for ending in ("jpg", "png"):
            cv2.imwrite(str(tmp_path / f"frame{index:03d}.{ending}"), np.zeros((8, 8, 3), np.uint8))
    assert len(samples(write(tmp_path / name, mp4), options=VideoOptions(decoder))) == 100


@pytest.mark.parametrize(
    "name", ["frame%03d.mp4", "clip*.mp4", "clip.m3u8", "clip", "ü 猫\n.mp4", "clip.jpg"]
)
def test_names_do_not_matter_otherwise(mp4: bytes, tmp_path: Path, name: str) -> None:
    assert len(samples(write(tmp_path / name, mp4))) == 100


def test_a_relative_path_is_never_a_protocol(
    mp4: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("concat:").mkdir()
    assert len(samples(write(Path("concat:/clip.mp4"), mp4))) == 100


PIXELS: dict[str, dict[str, Any]] = {
    "one-pixel.mp4": {"pixel_format": "yuv444p", "size": (1, 1)},
    "one-pixel.avi": {"codec": "mjpeg", "pixel_format": "yuvj444p", "size": (1, 1)},
    "odd.mp4": {"pixel_format": "yuv444p", "size": (129, 97)},
    "odd.webm": {"codec": "libvpx-vp9", "size": (129, 97)},
    "gray8.mkv": {"codec": "ffv1", "pixel_format": "gray"},
    "gray16.mkv": {"codec": "ffv1", "pixel_format": "gray16le"},
    "yuv16.mkv": {"codec": "ffv1", "pixel_format": "yuv420p16le"},
    "rgb16.mkv": {"codec": "ffv1", "pixel_format": "gbrp16le"},
    "rgb48.mov": {"codec": "png", "pixel_format": "rgb48be"},
    "h264-10-bit.mp4": {"pixel_format": "yuv420p10le"},
    "prores.mov": {"codec": "prores_ks", "pixel_format": "yuv422p10le"},
    "alpha.webm": {"codec": "libvpx-vp9", "pixel_format": "yuva420p"},
}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", PIXELS)
def test_any_depth_and_size_becomes_8_bit_colour(tmp_path: Path, name: str, decoder: DecoderChoice) -> None:
    clip = Clip(name, constant(30), RATE, **PIXELS[name])
    width, height = clip.size
    with FrameSource(clip.write(tmp_path), options=VideoOptions(decoder)) as source:
        assert (source.info.width, source.info.height) == (width, height)
        pictures = list(source.sample(300_000, TO_THE_END, lambda picture: picture))
    assert all(sample.data.shape == (height, width, 3) for sample in pictures)
    assert all(sample.data.dtype == np.uint8 for sample in pictures)
    if width > 1:
        assert [read_number(sample.data) for sample in pictures] == [0, 9, 18, 27]
        black, white = (int(np.percentile(pictures[3].data, share)) for share in (5, 95))
        assert black < 30
        assert white > 220


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_pictures_are_upright(tmp_path: Path, degrees: int, decoder: DecoderChoice) -> None:
    path = rotate_by_metadata(Clip("clip.mp4", constant(30), RATE).write(tmp_path), degrees)
    with FrameSource(path, options=VideoOptions(decoder)) as source:
        info = source.info
        pictures = [sample.data for sample in source.sample(100_000, TO_THE_END, lambda picture: picture)]
    assert info.rotation == degrees
    assert (info.width, info.height) == ((128, 96) if degrees == 180 else (96, 128))
    assert all(picture.shape == (info.height, info.width, 3) for picture in pictures)
    # What was drawn is found by turning the upright picture back, counter-clockwise.
    assert [read_number(np.rot90(picture, degrees // 90)) for picture in pictures] == list(range(0, 30, 3))


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_change_of_size_is_scaled_to_the_first(tmp_path: Path, decoder: DecoderChoice) -> None:
    small = Clip("small.ts", constant(30, 3000), Fraction(1, 90000)).write(tmp_path)
    large = Clip("large.ts", constant(30, 3000, 90000), Fraction(1, 90000), size=(256, 192)).write(tmp_path)
    path = write(tmp_path / "both.ts", small.read_bytes() + large.read_bytes())
    with FrameSource(path, options=VideoOptions(decoder)) as source:
        found = [
            (sample.data.shape, read_number(sample.data))
            for sample in source.sample(500_000, TO_THE_END, lambda picture: picture)
        ]
    assert found == [((96, 128, 3), number) for number in (0, 15, 0, 15)]


@pytest.mark.parametrize("decoder", DECODERS)
def test_joined_transport_streams_go_on(tmp_path: Path, decoder: DecoderChoice) -> None:
    part = Clip("part.ts", constant(90, 3000, 126000), Fraction(1, 90000), b_frames=2, gop=15).write(tmp_path)
    path = write(tmp_path / "joined.ts", part.read_bytes() * 2)
    joined = samples(path, options=VideoOptions(decoder))
    found = {point: sample.data for sample in joined for point in range(sample.first, sample.last + 1)}
    assert list(found) == list(range(60))
    late = {point: number for point, number in found.items() if point >= 37}
    assert late == {point: 3 * point - 90 for point in late}


@pytest.mark.parametrize("side", [60_000, 16_000])
def test_a_huge_claim_is_refused(tmp_path: Path, side: int) -> None:
    whole = bytearray(
        Clip("raw.avi", constant(2), RATE, codec="rawvideo", pixel_format="bgr24")
        .write(tmp_path)
        .read_bytes()
    )
    header = whole.index(b"strf") + 12
    whole[header : header + 8] = side.to_bytes(4, "little") * 2
    assert refusal(write(tmp_path / "huge.avi", bytes(whole)))


def test_a_quiet_decoder_writes_nothing(tmp_path: Path, mp4: bytes) -> None:
    bad = write(tmp_path / "bad.mp4", damaged(mp4, 0.2, 0.9))
    program = (
        "import sys; from pathlib import Path; from emulator.inference.video import *\n"
        "quiet_decoder()\n"
        "with FrameSource(Path(sys.argv[1])) as source:\n"
        "    list(source.sample(100_000, [(0, 1_000_000)], lambda picture: None))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(bad)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_pictures_may_begin_long_after_the_sound_but_not_a_minute(tmp_path: Path) -> None:
    """A stream has no table of what is in it: the size is known once the first picture is reached."""

    def stream(seconds: int) -> Path:
        # All the sound comes first.
        clip = Clip(
            "late.ts", constant(seconds, 90000), Fraction(1, 90000), rate=Fraction(1), audio=True, gop=4
        )
        return clip.write(tmp_path)

    with FrameSource(stream(30)) as source:
        found = [sample.data for sample in source.sample(1_000_000, TO_THE_END, read_number)]
    assert found == list(range(30))
    with pytest.raises(VideoUnreadable, match=r"No size of the pictures is found at the start.* ffmpeg"):
        FrameSource(stream(80))
