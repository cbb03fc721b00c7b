"""Looks at a video file before any decoder may: what container it is, and whether it is whole.

Only files that start like a video container reach FFmpeg, which would also take playlists and scripts that
name other files or hosts.
"""

from __future__ import annotations

import codecs
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MP4_BOXES = frozenset(
    {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof", b"sidx", b"pnot"}
)
_REMEDY = "Convert it, for example with: ffmpeg -i INPUT -c:v libx264 OUTPUT.mp4"


class VideoUnreadable(Exception):
    """The file cannot be read as video. The message names cause and remedy, but never the file's path."""


@dataclass(frozen=True)
class Container:
    """`can_seek`: whether checked seeks are exact in it. `cut_short`: how it is known to be incomplete."""

    name: str
    can_seek: bool
    cut_short: str | None = None


def identify(path: Path) -> Container:
    """Tells the container of a local file; raises `VideoUnreadable` for whatever is none."""
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
    with path.open("rb") as file:
        head = file.read(400)
        if len(head) >= 8 and head[4:8] in _MP4_BOXES:
            return Container("mp4", can_seek=True, cut_short=_mp4_shortage(file, size))
        if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
            length = int.from_bytes(head[4:8], "little")
            # All bits are set where the writer could not go back to fill it in.
            shortage = _shortage(8 + length, size) if length != 0xFFFFFFFF else None
            return Container("avi", can_seek=True, cut_short=shortage)
        if head.startswith(b"\x1a\x45\xdf\xa3"):
            return Container("matroska", can_seek=True, cut_short=_matroska_shortage(file, size))
    if _is_transport_stream(head):
        return Container("mpegts", can_seek=False)
    for start, name in (
        (b"\x00\x00\x01\xba", "mpeg"),
        (b"FLV\x01", "flv"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    ):
        if head.startswith(start):
            return Container(name, can_seek=False)
    raise VideoUnreadable(f"The file is not a video: {_describe(head)}. {_REMEDY}")


def _is_transport_stream(head: bytes) -> bool:
    """Packets of 188 bytes that start with 0x47; M2TS puts four bytes before each."""
    plain = head[0:1] == b"\x47" and (len(head) <= 188 or head[188] == 0x47)
    return plain or (head[4:5] == b"\x47" and len(head) > 196 and head[196] == 0x47)


def _describe(head: bytes) -> str:
    if head.startswith(b"#EXTM3U"):
        return "it is a playlist, which only names the video"
    if head.startswith((b"\x00\x00\x00\x01", b"\x00\x00\x01\xb3")):
        return "it is a bare video stream without the timestamps of a container"
    if head.startswith((b"ID3", b"fLaC", b"OggS")) or head[8:12] == b"WAVE":
        return "it is audio"
    if head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8")):
        return "it is a picture"
    try:
        # Incremental, because the last character may be cut in two.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return f"it starts with {head[:8].hex(' ')}, like no video container known here"
    return f"it is text that starts with {text[:20]!r}"


def _shortage(promised: int, size: int) -> str | None:
    if promised <= size:
        return None
    return f"the file is cut short: it has {size:,} of at least {promised:,} bytes"


def _mp4_shortage(file: BinaryIO, size: int) -> str | None:
    """Walks the top-level boxes. Without `moov` nothing can be decoded, so that is an error at once."""
    position, boxes, shortage = 0, set[bytes](), None
    while position + 8 <= size:
        file.seek(position)
        length = int.from_bytes(file.read(4), "big")
        kind = file.read(4)
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        elif length == 0:
            length = size - position
        if length < 8:
            break
        boxes.add(kind)
        position += length
        # Cameras append data that is no box.
        if kind in _MP4_BOXES:
            shortage = _shortage(position, size)
    if b"moov" not in boxes:
        cause = shortage or "its recording was probably interrupted"
        raise VideoUnreadable(
            f"The mp4 has no index (moov box): {cause}. Upload the whole file again, or repair it before."
        )
    return shortage


def _matroska_shortage(file: BinaryIO, size: int) -> str | None:
    """Compares the length of the one segment after the header; a live recording does not state it."""
    file.seek(4)
    header = _ebml_length(file)
    file.seek(header or 0, os.SEEK_CUR)
    if header is None or file.read(4) != b"\x18\x53\x80\x67":
        return None
    length = _ebml_length(file)
    return None if length is None else _shortage(file.tell() + length, size)


def _ebml_length(file: BinaryIO) -> int | None:
    """A variable-length integer of EBML (RFC 8794); all bits set means unknown."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    width = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(width - 1), "big") & ((1 << 7 * width) - 1)
    return None if value == (1 << 7 * width) - 1 else value
