"""What containers say is heard: when the last frame ends, which track is read, that a video is encrypted."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

from emulator.config import DecoderChoice
from emulator.inference.container import VideoUnreadable, identify
from emulator.inference.decoding import Decoding, VideoOptions
from emulator.inference.video import FrameSource, quiet_decoder
from tests.inference.corpus import Clip, Picture, constant, draw_number, read_number, silence

MILLISECOND = Fraction(1, 1000)
EVERYTHING: list[tuple[int, int | None]] = [(0, None)]
#: A screen recorder's: a frame when something changes. The last one is shown for 40 ms.
SLOW = (0, 10_000, 20_300, 20_340, 31_000, 31_040, 31_080, 45_000)
DECODERS: tuple[DecoderChoice, ...] = ("opencv", "av")
KEY = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0" * 32, "encryption_kid": "1" * 32}
REMUXED = {"fragmented.mp4": {"movflags": "frag_keyframe+empty_moov+default_base_moof"}}


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> None:
    quiet_decoder()


def slow_clip(name: str, **changes: object) -> Clip:
    codec = "libvpx" if name.endswith("webm") else "libx264"
    clip = Clip(name, SLOW, MILLISECOND, codec=codec, rate=Fraction(25), b_frames=2 * (codec == "libx264"))
    return Clip(**{**vars(clip), "container_options": REMUXED.get(name, {}), **changes})


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", ["slow.mp4", "fragmented.mp4", "slow.mov", "slow.mkv", "slow.webm"])
def test_the_last_frame_lasts_as_long_as_its_container_says(
    tmp_path: Path, name: str, decoder: DecoderChoice
) -> None:
    path = slow_clip(name).write(tmp_path)
    with FrameSource(path, options=VideoOptions(decoder)) as source:
        points = [sample.last for sample in source.sample(100_000, EVERYTHING, read_number)]
        assert source.end_us == 45_040_000
    assert points[-1] == 450


@pytest.mark.parametrize("decoder", DECODERS)
def test_one_frame_a_second_ends_with_its_last_sample(tmp_path: Path, decoder: DecoderChoice) -> None:
    clip = Clip("1-fps.mp4", tuple(range(0, 12_000, 1000)), MILLISECOND, rate=Fraction(25), b_frames=2)
    with FrameSource(clip.write(tmp_path), options=VideoOptions(decoder)) as source:
        assert [sample.data for sample in source.sample(100_000, EVERYTHING, read_number)] == list(range(12))
        assert source.end_us == 11_040_000


def test_a_live_recording_without_lengths_is_read_to_its_end(tmp_path: Path) -> None:
    """As a browser's MediaRecorder writes: neither segment nor clusters have a length."""
    clip = slow_clip("live.webm", container_options={"live": "1"})
    track = identify(clip.write(tmp_path)).track
    assert (track.last_us, track.codec) == (45_000_000, "vp8")


def two_tracks(path: Path, *, first_is_default: bool = False) -> Path:
    """A small track with the numbers from 0, and a larger one with those from 1000."""
    with av.open(str(path), "w") as container:
        streams = []
        for size in ((64, 48), (128, 96)):
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            streams.append(stream)
        streams[0].disposition = av.stream.Disposition.default
        streams[1].disposition = av.stream.Disposition(0 if first_is_default else 1)
        for index in range(20):
            for number, stream in enumerate(streams):
                picture: Picture = draw_number(1000 * number + index, stream.width, stream.height)
                frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
                frame.pts, frame.time_base = index, Fraction(1, 10)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def decoded(path: Path, decoder: DecoderChoice) -> tuple[list[int], Decoding]:
    with FrameSource(path, options=VideoOptions(decoder)) as source:
        numbers = [sample.data for sample in source.sample(100_000, EVERYTHING, read_number)]
    return numbers, source.decoding


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", ["two.mp4", "two.mov", "two.mkv"])
def test_of_several_tracks_the_largest_is_read_and_the_others_are_named(
    tmp_path: Path, name: str, decoder: DecoderChoice
) -> None:
    numbers, decoding = decoded(two_tracks(tmp_path / name), decoder)
    assert numbers == list(range(1000, 1020))
    assert "2 video tracks: number 2 (128x96 h264) is read" in decoding.warnings[0]
    assert "not 1 (64x48 h264)" in decoding.warnings[0]


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_track_that_is_marked_as_default_comes_first(tmp_path: Path, decoder: DecoderChoice) -> None:
    numbers, decoding = decoded(two_tracks(tmp_path / "two.mkv", first_is_default=True), decoder)
    assert numbers == list(range(20))
    assert "number 1 (64x48 h264) is read" in decoding.warnings[0]


def encrypted_mp4(folder: Path) -> Path:
    return Clip("locked.mp4", constant(30), Fraction(1, 30), container_options=KEY).write(folder)


def element(identity: int, *content: bytes) -> bytes:
    """An element of EBML."""
    inside = b"".join(content)
    return (
        identity.to_bytes((identity.bit_length() + 7) // 8, "big")
        + (len(inside) | 1 << 28).to_bytes(4, "big")
        + inside
    )


def encrypted_webm(folder: Path) -> Path:
    encoding = element(0x6D80, element(0x6240, element(0x5035, element(0x47E1, b"\5"))))
    track = element(0xAE, element(0xD7, b"\1"), element(0x83, b"\1"), element(0x86, b"V_VP9"), encoding)
    path = folder / "locked.webm"
    path.write_bytes(element(0x1A45DFA3) + element(0x18538067, element(0x1654AE6B, track)))
    return path


def scrambled_ts(folder: Path) -> Path:
    """Each packet of the video has its scrambling bits set, as broadcasters do."""
    path = Clip("clear.ts", constant(90, 3000), Fraction(1, 90000), audio=True).write(folder)
    data = bytearray(path.read_bytes())
    for place in range(0, len(data), 188):
        if int.from_bytes(data[place + 1 : place + 3], "big") & 0x1FFF == 0x100:
            data[place + 3] |= 0x80
    path.write_bytes(data)
    return path


def protected_wmv(folder: Path) -> Path:
    path = Clip("clear.wmv", constant(60), Fraction(1, 30), codec="wmv2").write(folder)
    data = path.read_bytes()
    length = int.from_bytes(data[16:24], "little")
    drm = bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e") + (24).to_bytes(8, "little")
    head = data[:16] + (length + len(drm)).to_bytes(8, "little")
    path.write_bytes(head + data[24:length] + drm + data[length:])
    return path


@pytest.mark.parametrize("write", [encrypted_mp4, encrypted_webm, scrambled_ts, protected_wmv])
def test_an_encrypted_video_is_called_encrypted(tmp_path: Path, write: object) -> None:
    assert callable(write)
    with pytest.raises(VideoUnreadable, match=r"The video is encrypted, .* decrypt it"):
        FrameSource(write(tmp_path))


def test_cover_art_does_not_make_a_video_of_a_sound_file(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(draw_number(1, 64, 48), format="bgr24")
        picture.pts, picture.time_base = 0, Fraction(1, 1)
        for packet in [*silence(sound, 1), *cover.encode(picture), *cover.encode(None)]:
            container.mux(packet)
    with pytest.raises(VideoUnreadable, match="only audio"):
        FrameSource(path)
