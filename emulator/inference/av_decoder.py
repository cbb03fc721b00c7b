"""Decodes with PyAV, which reads AV1 and HDR and returns planes, which cost less to resize."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from emulator.inference.container import Container, VideoUnreadable
from emulator.inference.container.video_tracks import VideoTrack, best, is_wide
from emulator.inference.decoder import CONVERT, Decoder, VideoInfo, check_size
from emulator.inference.frames import Colours, Frame, PackedFrame, PlanarFrame, Plane

NAME = f"PyAV {av.__version__}"

#: FFmpeg's format names. Naming the format keeps FFmpeg from guessing and from reading a path as a pattern.
_FORMATS = {"mp4": "mov", "mpeg": "mpeg", "matroska": "matroska", "asf": "asf"}
#: As for OpenCV: the first picture may come long after the first sound.
_OPTIONS = {"analyzeduration": "60000000"}
#: Weights of red and blue in luma by matrix coefficients (ITU-T H.273); FFmpeg uses BT.601 for the others.
_MATRICES = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}
_BT601 = (0.299, 0.114)
_FULL_RANGE = 2
_MOST_READ_ERRORS = 10_000
#: Planar formats: chroma subsampling (width, height), bits a sample, padding bits below them.
_LAYOUTS = {"yuv420p": (2, 2), "yuv422p": (2, 1), "yuv444p": (1, 1), "yuv440p": (1, 2), "yuv411p": (4, 1)}
_PLANAR: dict[str, tuple[tuple[int, int], int, int]] = {
    **{name: (reduced, 8, 0) for name, reduced in _LAYOUTS.items()},
    **{name.replace("yuv", "yuvj"): (reduced, 8, 0) for name, reduced in _LAYOUTS.items()},
    **{name.replace("yuv", "yuva"): (reduced, 8, 0) for name, reduced in _LAYOUTS.items()},
    **{
        f"{name}{bits}le": (reduced, bits, 0)
        for name, reduced in _LAYOUTS.items()
        for bits in (9, 10, 12, 14, 16)
    },
    "gray": ((1, 1), 8, 0),
    **{f"gray{bits}le": ((1, 1), bits, 0) for bits in (9, 10, 12, 14, 16)},
    "nv12": ((2, 2), 8, 0),
    "p010le": ((2, 2), 10, 6),
}


def quiet_av() -> None:
    """Keeps FFmpeg from writing to stderr."""
    av.logging.set_level(None)


def has_wide_colours(path: Path, container: Container) -> bool:
    """Whether the video's own headers declare HDR or a wide gamut; the container may declare otherwise."""
    try:
        with _opened(path, container) as file:
            context = file.streams.video[_chosen(file, container)].codec_context
            return is_wide(primaries=int(context.color_primaries), transfer=int(context.color_trc))
    except (av.error.FFmpegError, IndexError, ValueError):
        return False


class AvDecoder(Decoder):
    """See Decoder."""

    _file: Any = None
    _stream: Any = None
    _frame: Any = None

    def _open(self) -> None:
        try:
            self._file = _opened(self._path, self.container)
            self._stream = self._file.streams.video[_chosen(self._file, self.container)]
        except (av.error.FFmpegError, IndexError, ValueError) as error:
            raise VideoUnreadable(
                "The file has no video track that can be decoded: it holds only audio, is damaged, or uses "
                f"an unknown codec. {CONVERT}"
            ) from error
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.thread_count = self._threads
        start = self._stream.start_time
        self._start = start * self._stream.time_base if start is not None else Fraction(0)
        self._frames: deque[Any] = deque()
        self._packets = self._demuxed()

    def _release(self) -> None:
        self._frame, self._frames, self._packets = None, deque(), iter(())
        if self._file is not None:
            self._file.close()
            self._file = self._stream = None

    def _demuxed(self) -> Iterator[Any]:
        """The packets. Damage may stop FFmpeg's reading; the next attempt continues behind it."""
        file, stream = self._file, self._stream
        for _ in range(_MOST_READ_ERRORS):
            try:
                yield from file.demux(stream)
                return
            except av.error.FFmpegError:
                self._note_damage()

    def _decode(self) -> bool:
        while not self._frames:
            self._check()
            packet = next(self._packets, None)
            if packet is None:
                return False
            if packet.size == 0 and packet.pts is not None:
                continue  # Ogg and AVI: the previous frame is shown again
            try:
                self._frames.extend(packet.decode())
            except av.error.EOFError:
                return False
            except av.error.FFmpegError:
                self._note_damage()
        self._frame = self._frames.popleft()
        if self._frame.is_corrupt:
            self._note_damage()
        else:
            self.sound_frames += 1
        return True

    def _stated_end_us(self) -> int | None:
        """See Decoder. FFmpeg knows the length of these containers from their last page or delay."""
        if self.container.name in ("ogg", "gif"):
            return self.info.duration_us
        return super()._stated_end_us()

    def _note_damage(self) -> None:
        self.sound_frames = 0
        self.damaged += 1

    def _time_ms(self) -> float | None:
        # AVI has no presentation times. FFmpeg invents some, which are in order only for MPEG-4.
        ticks = self._frame.dts if self.container.name == "avi" else self._frame.pts
        if ticks is None:
            return None
        return float((ticks * self._frame.time_base - self._start) * 1000)

    def _is_seekable(self) -> bool:
        return True

    def _jump(self, moment_us: int) -> bool:
        target = (Fraction(moment_us, 1_000_000) + self._start) / self._stream.time_base
        self._frames.clear()
        try:
            self._file.seek(int(target), stream=self._stream, backward=True)
        except av.error.FFmpegError:
            return False
        self._packets = self._demuxed()
        return self._decode()

    def _lack(self) -> str:
        return f"it is damaged, or PyAV lacks its codec ({self.info.codec or 'unnamed'})"

    def _read_info(self) -> VideoInfo:
        context = self._stream.codec_context
        rotation = 0
        check_size(context.width, context.height)
        if self._decode():  # the first frame carries the rotation
            rotation = -round(self._frame.rotation / 90) * 90 % 360
            self._frames.appendleft(self._frame)
        self._turns = rotation // 90
        width, height = context.width, context.height
        if self._turns % 2:
            width, height = height, width
        rate = self._stream.average_rate
        duration = self._stream.duration
        return VideoInfo(
            width=width,
            height=height,
            fps=float(rate) if rate and 0 < rate < 1e5 else 25.0,
            duration_us=round(duration * self._stream.time_base * 1_000_000) if duration else None,
            rotation=rotation,
            codec=context.name,
            decoder=NAME,
        )

    def retrieve(self) -> Frame:
        """See Decoder."""
        frame = self._frame
        layout = _PLANAR.get(frame.format.name)
        size = (self.info.width, self.info.height)
        if layout is None:
            return self._packed(frame, size)
        reduced, bits, shift = layout
        planes = [_plane(plane, bits) for plane in frame.planes]
        luma = planes[0][:, : frame.width]
        chroma: tuple[Plane, ...] = tuple(planes[1:3])
        if len(planes) == 2:  # U and V lie side by side
            chroma = (planes[1][:, 0::2], planes[1][:, 1::2])
        width, height = -(-frame.width // reduced[0]), -(-frame.height // reduced[1])
        chroma = tuple(plane[:height, :width] for plane in chroma)
        return PlanarFrame(luma, chroma, reduced, _colours(frame, bits, shift), turns=self._turns, shown=size)

    def _packed(self, frame: Any, size: tuple[int, int]) -> PackedFrame:
        try:
            picture = frame.to_ndarray(format="bgr24")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise VideoUnreadable(
                f"The video's frames cannot be converted to 8-bit colour. {CONVERT}"
            ) from error
        picture = np.ascontiguousarray(np.rot90(picture, -self._turns))
        if picture.shape[1::-1] != size:
            picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        return PackedFrame(picture)


def _opened(path: Path, container: Container) -> Any:
    name = container.name
    return av.open(str(path), format=_FORMATS.get(name, name), container_options=_OPTIONS)


def _chosen(file: Any, container: Container) -> int:
    """The number of the stream to read. FFmpeg counts cover art as a stream, so it is ranked last."""
    if container.tracks:
        return container.chosen
    return best(
        [
            VideoTrack(
                width=0 if _is_picture(stream) else stream.codec_context.width,
                height=stream.codec_context.height,
                is_default=bool(stream.disposition & av.stream.Disposition.default)
                and not _is_picture(stream),
            )
            for stream in file.streams.video
        ]
    )


def _is_picture(stream: Any) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _plane(plane: Any, bits: int) -> Plane:
    """A plane without a copy; a line may be longer than the picture is wide."""
    samples: Plane = np.frombuffer(plane, np.uint8) if bits == 8 else np.frombuffer(plane, np.uint16)
    return samples.reshape(-1, plane.line_size // samples.itemsize)[: plane.height]


def _colours(frame: Any, bits: int, shift: int) -> Colours:
    red, blue = _MATRICES.get(int(frame.colorspace), _BT601)
    # FFmpeg treats grey as full range, whatever the header says; so OpenCV does, too.
    name = frame.format.name
    full = int(frame.color_range) == _FULL_RANGE or name.startswith(("yuvj", "gray"))
    return Colours(red, blue, full, bits, shift)
