"""Clips in many containers and codecs whose frames carry a machine-readable number.

The number is drawn as twelve black or white squares (one bit each), which survives any compression. `truth`
reads a clip back with PyAV, a decoder path of its own, and so knows which number is shown at which time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

COLUMNS, ROWS, SQUARE = 4, 3, 32
WIDTH, HEIGHT = COLUMNS * SQUARE, ROWS * SQUARE


def draw_number(number: int, width: int = WIDTH, height: int = HEIGHT) -> Picture:
    """A BGR picture of twelve squares; white ones are the bits of `number` (below 4096)."""
    bits = np.array([number >> bit & 1 for bit in range(COLUMNS * ROWS)], np.uint8).reshape(ROWS, COLUMNS)
    rows = np.arange(height) * ROWS // height
    columns = np.arange(width) * COLUMNS // width
    plane = np.where(bits[rows[:, None], columns[None, :]] == 1, 235, 16).astype(np.uint8)
    return np.repeat(plane[:, :, None], 3, axis=2)


def read_number(picture: Picture) -> int:
    """The number drawn into an upright picture of any size."""
    height, width = picture.shape[:2]
    number = 0
    for bit in range(COLUMNS * ROWS):
        row, column = divmod(bit, COLUMNS)
        y, x = (2 * row + 1) * height // (2 * ROWS), (2 * column + 1) * width // (2 * COLUMNS)
        reach_y, reach_x = max(1, height // (4 * ROWS)), max(1, width // (4 * COLUMNS))
        square = picture[y - reach_y : y + reach_y, x - reach_x : x + reach_x]
        number |= int(square.mean() > 125) << bit
    return number


@dataclass(frozen=True)
class Clip:
    """What to encode. `ticks` are the frames' timestamps in units of `time_base` seconds."""

    name: str
    ticks: tuple[int, ...]
    time_base: Fraction
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    rate: Fraction = Fraction(30)
    options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    audio: bool = False
    size: tuple[int, int] = (WIDTH, HEIGHT)
    gop: int = 12
    b_frames: int = 0
    format: str | None = None

    def write(self, folder: Path) -> Path:
        path = folder / self.name
        with av.open(str(path), "w", format=self.format, options=dict(self.container_options)) as container:
            video = container.add_stream(self.codec, rate=self.rate, options=dict(self.options))
            video.width, video.height = self.size
            video.pix_fmt = self.pixel_format
            video.gop_size = self.gop
            video.max_b_frames = self.b_frames
            video.time_base = video.codec_context.time_base = self.time_base
            video.codec_context.thread_count = 1
            sound = container.add_stream("aac", rate=8000, layout="mono") if self.audio else None
            if sound is not None:
                seconds = int(self.ticks[-1] * self.time_base) + 1
                container.mux(silence(sound, seconds))
            for number, tick in enumerate(self.ticks):
                frame = av.VideoFrame.from_ndarray(draw_number(number, *self.size), format="bgr24")
                frame = frame.reformat(format=self.pixel_format)
                frame.pts, frame.time_base = tick, self.time_base
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        return path


def silence(stream: Any, seconds: int) -> list[Any]:
    packets = []
    for index in range(seconds * 8000 // 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, index * 1024, Fraction(1, 8000)
        packets += stream.encode(frame)
    return packets + list(stream.encode(None))


def constant(frames: int, step: int = 1, start: int = 0) -> tuple[int, ...]:
    return tuple(start + index * step for index in range(frames))


def irregular(frames: int, seed: int, gaps: Iterable[int] = (), gap_ms: int = 1730) -> tuple[int, ...]:
    """Milliseconds 8 to 90 apart, drawn from `seed`, with a long pause before each frame in `gaps`."""
    steps = np.random.default_rng(seed).integers(8, 90, frames)
    steps[list(gaps)] += gap_ms
    steps[0] = 0
    return tuple(int(tick) for tick in np.cumsum(steps))


@dataclass(frozen=True)
class Shown:
    """A frame as a player shows it: its time in microseconds after the first one, and its number."""

    time_us: int
    number: int


def truth(path: Path) -> list[Shown]:
    """Every frame of the first video track by PyAV, in the order of presentation."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = []
        for frame in container.decode(stream):
            frames.append((frame.pts * frame.time_base, read_number(frame.to_ndarray(format="bgr24"))))
    first = frames[0][0]
    assert first is not None
    assert all(seconds is not None for seconds, _ in frames), f"{path.name}: a frame without a timestamp"
    return [
        Shown(round((seconds - first) * 1_000_000), number)
        for seconds, number in frames
        if seconds is not None
    ]


#: Containers that say how long their last frame is shown.
STATES_ITS_END = (".mp4", ".mov", ".mkv", ".webm")


def shown_until_us(path: Path, frames: Sequence[Shown], rate: float) -> int:
    """When the last frame ceases to be shown, by what FFmpeg reads of the container; where that does not say,
    the last frame lasts as long as the one before it, at most the average."""
    last_us = frames[-1].time_us
    if path.suffix not in STATES_ITS_END:
        return last_us + min(last_us - frames[-2].time_us, round(1e6 / rate))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
        assert stream.time_base is not None
        # Where frames are out of order, how long one is decoded says nothing of how long it is shown.
        return last_us + int(packets[-1].duration * stream.time_base * 1_000_000 + Fraction(1, 2))


def nearest(frames: Sequence[Shown], point_us: int) -> Shown:
    """The frame nearest to a moment; of two equally near the earlier."""
    return min(frames, key=lambda frame: (abs(frame.time_us - point_us), frame.time_us))


def shift_into_edit_list(source: Path, target: Path, seconds: Fraction) -> Path:
    """Remux so that an edit list hides the first `seconds`, although the frames are in the file."""
    with (
        av.open(str(source)) as reader,
        av.open(str(target), "w", options={"avoid_negative_ts": "disabled"}) as writer,
    ):
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for packet in reader.demux(reader.streams.video[0]):
            if packet.dts is None:
                continue
            offset = int(seconds / packet.time_base)
            packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
            packet.stream = stream
            writer.mux(packet)
    return target


_MATRICES = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


def rotate_by_metadata(path: Path, degrees: int) -> Path:
    """Write a rotation (clockwise, as players turn the picture) into the track header of an mp4."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value * 0x10000 for value in _MATRICES[degrees])
    data[matrix : matrix + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(data)
    return path


_MILLISECOND = Fraction(1, 1000)
_OPEN_GOP = {"x264-params": "open-gop=1"}
_X265 = {"x265-params": "log-level=none:bframes=3:keyint=30"}
_FRAGMENTED = {"movflags": "frag_keyframe+empty_moov"}
_NTSC = Fraction(30000, 1001)
_CLIPS = (
    Clip("no-b.mp4", constant(100), Fraction(1, 30), options={"tune": "zerolatency"}),
    Clip("b-frames.mp4", constant(150), Fraction(1, 30), b_frames=3, gop=40),
    Clip("open-gop.mp4", constant(150), Fraction(1, 30), b_frames=3, gop=30, options=_OPEN_GOP),
    Clip("long-gop.mp4", constant(400), Fraction(1, 25), rate=Fraction(25), b_frames=2, gop=250),
    Clip("23.976.mp4", constant(120, 1001), Fraction(1, 24000), rate=Fraction(24000, 1001), b_frames=2),
    Clip("29.97.mp4", constant(150, 1001), Fraction(1, 30000), rate=_NTSC, b_frames=2),
    Clip("5-fps.mp4", constant(40), Fraction(1, 5), rate=Fraction(5), b_frames=2),
    Clip("60-fps.mp4", constant(240), Fraction(1, 60), rate=Fraction(60), b_frames=2),
    Clip("vfr.mp4", irregular(160, 1), _MILLISECOND, b_frames=2, gop=30),
    Clip("vfr-gaps.mp4", irregular(120, 2, gaps=(30, 31, 90)), _MILLISECOND, b_frames=2, gop=30),
    Clip("dense-end.mp4", constant(100, 4) + constant(120, start=400), Fraction(1, 120), b_frames=2),
    Clip("dropped-frames.mp4", constant(60) + constant(60, start=75), Fraction(1, 30), b_frames=2),
    Clip("late-start.mp4", constant(90, start=15), Fraction(1, 30), b_frames=2, audio=True),
    Clip("fragmented.mp4", constant(150), Fraction(1, 30), b_frames=2, gop=30, container_options=_FRAGMENTED),
    Clip("quicktime.mov", constant(90), Fraction(1, 30), b_frames=2),
    Clip("hevc.mp4", constant(120), Fraction(1, 30), codec="libx265", gop=30, options=_X265),
    Clip("vp9.webm", constant(100), Fraction(1, 30), codec="libvpx-vp9", options={"cpu-used": "8"}, gop=40),
    Clip("vfr.mkv", irregular(120, 3, gaps=(50,)), _MILLISECOND, b_frames=2),
    Clip("mjpeg.avi", constant(90), Fraction(1, 30), codec="mjpeg", pixel_format="yuvj420p"),
    Clip("mpeg4-b-frames.avi", constant(120), Fraction(1, 30), codec="mpeg4", b_frames=2, gop=24),
    Clip(
        "offset.ts",
        constant(120, 3003, 126000),
        Fraction(1, 90000),
        rate=_NTSC,
        b_frames=2,
        gop=30,
        audio=True,
    ),
    Clip("vfr.ts", irregular(120, 4, gaps=(60,)), _MILLISECOND, b_frames=2, gop=30),
)
WRITTEN: dict[str, Clip] = {clip.name: clip for clip in _CLIPS}
HIDDEN_BY_EDIT_LIST = 42
_WHOLE_MP4 = Clip("whole.mp4", constant(120), Fraction(1, 30), b_frames=2, gop=50)
_WHOLE_TS = Clip("whole.ts", constant(90, 3000), Fraction(1, 90000), b_frames=2, gop=30, audio=True)


def _edit_list(folder: Path, whole: Clip = _WHOLE_MP4) -> Path:
    path = whole.write(folder)
    return shift_into_edit_list(path, folder / "edit-list.mp4", Fraction(HIDDEN_BY_EDIT_LIST, 30))


def _cut_into_a_group(folder: Path, whole: Clip = _WHOLE_TS) -> Path:
    """A transport stream as a receiver gets it: its first pictures lack what they refer to."""
    path = folder / "cut-into.ts"
    path.write_bytes(whole.write(folder).read_bytes()[188 * 20 :])
    return path


CORPUS: dict[str, Callable[[Path], Path]] = {
    **{clip.name: clip.write for clip in _CLIPS},
    "edit-list.mp4": _edit_list,
    "cut-into.ts": _cut_into_a_group,
}


def lengthened(clip: Clip, seconds: int = 30) -> Clip:
    """The clip with its pattern of timestamps repeated, for about so long."""
    first, count = clip.ticks[0], len(clip.ticks)
    period = clip.ticks[-1] - first + clip.ticks[1] - first
    times = min(-(-seconds // float(period * clip.time_base)), 4096 // count)
    ticks = (tick + turn * period for turn in range(int(times)) for tick in clip.ticks)
    return replace(clip, ticks=tuple(ticks))


_MORE = (
    Clip("constant.mkv", constant(150), Fraction(1, 30), b_frames=3, gop=30),
    Clip("one-group.mp4", constant(150), Fraction(1, 30), b_frames=3, gop=4096),
    Clip("hevc.mkv", constant(120), Fraction(1, 30), codec="libx265", gop=30, options=_X265),
    Clip("hevc.ts", constant(120, 3000), Fraction(1, 90000), codec="libx265", gop=30, options=_X265),
    Clip("vp8.webm", irregular(120, 5), _MILLISECOND, codec="libvpx", options={"cpu-used": "8"}, gop=40),
    Clip("vp9.mp4", constant(100), Fraction(1, 30), codec="libvpx-vp9", options={"cpu-used": "8"}, gop=40),
    Clip("mpeg2.mpg", constant(120), Fraction(1, 30), codec="mpeg2video", b_frames=2, gop=15),
    Clip("mpeg2.ts", constant(120), Fraction(1, 30), codec="mpeg2video", b_frames=2, gop=15),
    Clip("mjpeg.mov", constant(90), Fraction(1, 30), codec="mjpeg", pixel_format="yuvj420p"),
    Clip("b-frames.flv", constant(150), Fraction(1, 30), b_frames=2, gop=30),
    Clip("wmv2.wmv", constant(120), Fraction(1, 30), codec="wmv2", gop=24),
    Clip("mpeg4.avi", constant(120), Fraction(1, 30), codec="mpeg4", gop=24),
)
LONG: dict[str, Callable[[Path], Path]] = {
    **{clip.name: lengthened(clip).write for clip in (*_CLIPS, *_MORE)},
    "edit-list.mp4": partial(_edit_list, whole=lengthened(_WHOLE_MP4)),
    "cut-into.ts": partial(_cut_into_a_group, whole=lengthened(_WHOLE_TS)),
}
"""The corpus and more kinds of container and codec, half a minute each."""
