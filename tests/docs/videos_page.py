"""Makes the table of docs/videos.md from clips: `python -m tests.docs.videos_page` writes it there."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from emulator.config import DecoderChoice
from emulator.inference.decoding import VideoOptions
from emulator.inference.video import FrameSource, VideoUnreadable, quiet_decoder
from tests.inference.corpus import Clip, constant, read_number

PAGE = Path(__file__).parents[2] / "docs" / "videos.md"
BEGIN, END = "<!-- table: containers and codecs -->\n", "<!-- end -->"
HEAD = "| container | codec | OpenCV | PyAV | `auto` takes |\n|---|---|---|---|---|\n"
DECODERS: tuple[DecoderChoice, ...] = ("opencv", "av", "auto")

_THIRTY = Fraction(1, 30)
_H264 = Clip("", constant(30), _THIRTY, b_frames=2)
_HEVC = replace(_H264, codec="libx265", options={"x265-params": "log-level=none:bframes=2"}, b_frames=0)
_TEN_BIT = replace(_HEVC, pixel_format="yuv420p10le")
_HDR = {"x265-params": "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"}
_VP8 = replace(_H264, codec="libvpx", options={"cpu-used": "8"}, b_frames=0)
_VP9 = replace(_VP8, codec="libvpx-vp9")
_AV1 = replace(
    _H264, codec="libsvtav1", options={"preset": "12", "svtav1-params": "pred-struct=1"}, b_frames=0
)
_MJPEG = replace(_H264, codec="mjpeg", pixel_format="yuvj420p", b_frames=0)
_MPEG4 = replace(_H264, codec="mpeg4")
_MPEG2 = replace(_H264, codec="mpeg2video")
_TICKS, _TICK = constant(30, 3000), Fraction(1, 90000)

#: Container, codec, and the clip that stands for both.
ROWS: Sequence[tuple[str, str, Clip]] = (
    ("MP4", "H.264", replace(_H264, name="clip.mp4")),
    ("MP4", "HEVC", replace(_HEVC, name="clip.mp4")),
    ("MP4", "HEVC, 10 bit, HDR", replace(_TEN_BIT, name="clip.mp4", options=_HDR)),
    ("MP4", "AV1", replace(_AV1, name="clip.mp4")),
    ("MP4", "VP9", replace(_VP9, name="clip.mp4")),
    ("MP4", "MPEG-4 Part 2", replace(_MPEG4, name="clip.mp4")),
    (
        "MP4, fragmented",
        "H.264",
        replace(_H264, name="clip.mp4", container_options={"movflags": "frag_keyframe+empty_moov"}),
    ),
    (
        "MP4, encrypted",
        "H.264",
        replace(
            _H264,
            name="clip.mp4",
            container_options={
                "encryption_scheme": "cenc-aes-ctr",
                "encryption_key": "0" * 32,
                "encryption_kid": "1" * 32,
            },
        ),
    ),
    ("QuickTime", "H.264", replace(_H264, name="clip.mov")),
    (
        "QuickTime",
        "ProRes",
        replace(_H264, name="clip.mov", codec="prores_ks", pixel_format="yuv422p10le", b_frames=0),
    ),
    ("QuickTime", "Motion JPEG", replace(_MJPEG, name="clip.mov")),
    ("Matroska", "H.264", replace(_H264, name="clip.mkv")),
    ("Matroska", "HEVC", replace(_HEVC, name="clip.mkv")),
    ("Matroska", "AV1", replace(_AV1, name="clip.mkv")),
    ("Matroska", "FFV1", replace(_H264, name="clip.mkv", codec="ffv1", b_frames=0)),
    ("WebM", "VP8", replace(_VP8, name="clip.webm")),
    ("WebM", "VP9", replace(_VP9, name="clip.webm")),
    ("WebM", "AV1", replace(_AV1, name="clip.webm")),
    ("AVI", "MPEG-4 Part 2", replace(_MPEG4, name="clip.avi")),
    ("AVI", "Motion JPEG", replace(_MJPEG, name="clip.avi")),
    ("MPEG-TS", "H.264", replace(_H264, name="clip.ts", ticks=_TICKS, time_base=_TICK)),
    ("MPEG-TS", "HEVC", replace(_HEVC, name="clip.ts", ticks=_TICKS, time_base=_TICK)),
    ("MPEG-TS", "MPEG-2", replace(_MPEG2, name="clip.ts")),
    ("MPEG-PS", "MPEG-2", replace(_MPEG2, name="clip.mpg")),
    ("FLV", "H.264", replace(_H264, name="clip.flv")),
    ("ASF", "WMV 8", replace(_H264, name="clip.wmv", codec="wmv2", b_frames=0)),
    ("Ogg", "VP8", replace(_VP8, name="clip.ogv", format="ogg")),
    (
        "none",
        "H.264",
        replace(
            _H264,
            name="clip.h264",
            format="h264",
            ticks=constant(25),
            time_base=Fraction(1, 25),
            rate=Fraction(25),
        ),
    ),
    (
        "GIF",
        "GIF",
        replace(
            _H264,
            name="clip.gif",
            codec="gif",
            pixel_format="rgb8",
            b_frames=0,
            ticks=constant(20, 10),
            time_base=Fraction(1, 100),
        ),
    ),
)


def outcome(path: Path, clip: Clip, decoder: DecoderChoice) -> str:
    """What becomes of a clip. Raises AssertionError for another frame than was written."""
    try:
        with FrameSource(path, options=VideoOptions(decoder)) as source:
            if any("colours" in warning for warning in source.decoding.warnings):
                return "read, wrong colours"  # the first picture would take seconds
            samples = list(source.sample(100_000, [(0, None)], read_number))
            name = source.info.decoder.split()[0]
    except VideoUnreadable:
        return "refused"
    second = clip.time_base
    for sample in samples:
        near = min(
            range(len(clip.ticks)), key=lambda n: abs(float(clip.ticks[n] * second) - sample.time_us / 1e6)
        )
        assert sample.data == near, f"{path.name}, {decoder}: frame {sample.data} at {sample.time_us} us"
    return name if decoder == "auto" else "read"


def table() -> str:
    quiet_decoder()
    lines = [HEAD]
    with tempfile.TemporaryDirectory() as folder:
        for number, (container, codec, clip) in enumerate(ROWS):
            place = Path(folder, str(number))
            place.mkdir()
            path = clip.write(place)
            cells = [container, codec, *(outcome(path, clip, decoder) for decoder in DECODERS)]
            lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
