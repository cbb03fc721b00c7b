"""Inspects a video file before any decoder does: its container, its tracks, whether it is complete.

Only files that start like a video container reach FFmpeg, which would also take playlists and scripts that
name other files or hosts.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from emulator.files import open_regular
from emulator.inference.container import matroska, mp4, unindexed
from emulator.inference.container.video_tracks import VideoTrack, best

__all__ = ["Container", "VideoTrack", "VideoUnreadable", "identify"]

_REMEDY = "Convert it, for example with: ffmpeg -i INPUT -c:v libx264 OUTPUT.mp4"
_SECOND_DECODER = "have it decoded by PyAV: install the extra av and set decoder to av"
#: Brands (ISO/IEC 23008-12) of files that hold pictures, not videos.
_PICTURE_BRANDS = (b"heic", b"heix", b"mif1", b"avif")


class VideoUnreadable(Exception):
    """The file cannot be read as video. The message names cause and remedy, but never the file's path."""


@dataclass(frozen=True)
class Container:
    """A container and its video tracks.

    can_seek: whether checked seeks are exact in it. cut_short: the evidence that it is incomplete, or None.
    tracks: in the file's order, or None if only a decoder can tell. opencv: whether OpenCV may read it.
    asked: why the second decoder reads it only if it was asked for by name; "" if it always may.
    """

    name: str
    can_seek: bool
    cut_short: str | None = None
    tracks: tuple[VideoTrack, ...] | None = None
    opencv: bool = True
    asked: str = ""

    @property
    def chosen(self) -> int:
        """The number of the video track that is read."""
        return best(self.tracks or ())

    @property
    def track(self) -> VideoTrack:
        """The video track that is read; one without any facts if only a decoder can tell."""
        return self.tracks[self.chosen] if self.tracks else VideoTrack()


def identify(path: Path) -> Container:
    """Identify the container of a local file. Raises `VideoUnreadable` if it is not a video container."""
    # A FIFO or a device would block or never end.
    if not path.is_file():
        cause = (
            "is a folder"
            if path.is_dir()
            else "does not exist"
            if not path.exists()
            else "is not a regular file"
        )
        raise VideoUnreadable(f"The video {cause}: name the file or object that holds the video itself.")
    size = path.stat().st_size
    if size == 0:
        raise VideoUnreadable("The video is empty (0 bytes): upload it again.")
    with open_regular(path) as file:
        container = _look(file, size)
    if container.tracks == ():
        raise VideoUnreadable(f"The file has no video track: it holds only audio or text. {_REMEDY}")
    if container.track.encryption:
        raise VideoUnreadable(
            f"The video is encrypted, {container.track.encryption}: decrypt it with its key first, or upload "
            "a copy that is not protected."
        )
    return container


def _look(file: BinaryIO, size: int) -> Container:
    head = file.read(400)
    if len(head) >= 8 and head[4:8] in mp4.BOXES:
        return _mp4(file, size, head)
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        length = int.from_bytes(head[4:8], "little")
        # All bits are set if the writer could not seek back to fill it in.
        shortage = _shortage(8 + length, size) if length != 0xFFFFFFFF else None
        return Container("avi", can_seek=True, cut_short=shortage)
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        segment = matroska.read_segment(file, size)
        shortage = None if segment.promised is None else _shortage(segment.promised, size)
        return Container("matroska", can_seek=True, cut_short=shortage, tracks=segment.tracks)
    # A GIF begins with a G, and so does a packet of a transport stream.
    if unindexed.is_transport_stream(head) and not head.startswith(b"GIF8"):
        return Container("mpegts", can_seek=False, tracks=unindexed.encrypted_track(file))
    for start, name in ((b"\x00\x00\x01\xba", "mpeg"), (b"FLV\x01", "flv")):
        if head.startswith(start):
            return Container(name, can_seek=False)
    if head.startswith(unindexed.ASF):
        return Container("asf", can_seek=False, tracks=unindexed.protected_track(file))
    return _for_second_decoder(head)


def _for_second_decoder(head: bytes) -> Container:
    """Containers that only PyAV reads. Some have no times of their own, or are seldom meant as videos."""
    if head.startswith(b"OggS") and (codec := unindexed.ogg_video(head)):
        return Container("ogg", can_seek=False, opencv=False, tracks=(VideoTrack(codec=codec),))
    if head.startswith(b"GIF8"):
        return Container("gif", can_seek=False, opencv=False, asked=_describe(head))
    if head.startswith((b"\x00\x00\x00\x01\x67", b"\x00\x00\x00\x01\x09", b"\x00\x00\x01\x67")):
        return Container("h264", can_seek=False, opencv=False, asked=_describe(head))
    raise VideoUnreadable(f"The file is not a video: {_describe(head)}. {_REMEDY}")


def _mp4(file: BinaryIO, size: int, head: bytes) -> Container:
    """Read an mp4. Without `moov` nothing can be decoded, so that is an error at once."""
    index = mp4.read_index(file, size)
    shortage = _shortage(index.promised, size)
    if b"moov" not in index.kinds:
        if head[4:8] == b"ftyp" and head[8:12] in _PICTURE_BRANDS:
            raise VideoUnreadable(f"The file is not a video: it is a picture (HEIF or AVIF). {_REMEDY}")
        cause = shortage or "its recording was probably interrupted"
        raise VideoUnreadable(
            f"The mp4 has no index (moov box): {cause}. Upload the whole file again, or repair it before."
        )
    return Container("mp4", can_seek=True, cut_short=shortage, tracks=index.tracks)


def _describe(head: bytes) -> str:
    if head.startswith(b"#EXTM3U"):
        return "it is a playlist, which only names the video"
    if head.startswith((b"\x00\x00\x00\x01", b"\x00\x00\x01\x67", b"\x00\x00\x01\xb3")):
        return "it is a bare video stream without the timestamps of a container"
    if head.startswith((b"ID3", b"fLaC", b"OggS")) or head[8:12] == b"WAVE":
        return "it is audio"
    if head.startswith(b"GIF8"):
        return "it is a GIF, a picture that may be animated"
    if head.startswith((b"\x89PNG", b"\xff\xd8\xff")) or head[8:12] == b"WEBP":
        return "it is a picture"
    try:
        # Incremental, because the last character may be cut in two.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return f"it starts with {head[:8].hex(' ')}, like no video container known here"
    return f"it is text that starts with {text[:20]!r}"


def refusal_without(container: Container) -> str:
    """Why OpenCV cannot read a container that the second decoder reads, and the remedy."""
    if container.asked:
        return f"The file is not a video: {container.asked}. {_REMEDY}. Or {_SECOND_DECODER}."
    return (
        f"The video is {container.track.codec} in Ogg, which OpenCV does not read here. {_REMEDY}. Or "
        f"{_SECOND_DECODER}."
    )


def _shortage(promised: int, size: int) -> str | None:
    if promised <= size:
        return None
    return f"the file is cut short: it has {size:,} of at least {promised:,} bytes"
