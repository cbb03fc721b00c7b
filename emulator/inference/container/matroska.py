"""Reads the head and the last clusters of a Matroska or WebM file (RFC 9559)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import BinaryIO

from emulator.inference.container.video_tracks import Hide, VideoTrack, is_wide

_SEGMENT, _INFO, _TRACKS, _CLUSTER, _TAGS = 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675, 0x1254C367
_LEVEL_1 = frozenset({_INFO, _TRACKS, _CLUSTER, _TAGS, 0x114D9B74, 0x1C53BB6B, 0x1941A469, 0x1043A770})
_MASTERS = frozenset({0xAE, 0xE0, 0x55B0, 0x6D80, 0x6240, 0x5035, 0xA0, 0x7373, 0x63C0, 0x67C8})
_MOST_ELEMENTS = 200_000
_VIDEO = 1
_ROUNDING_NS = 100_000_000
#: A track type that FFmpeg skips: control.
_CONTROL = b"\x20"
_CODECS = {"V_AV1": "av1", "V_MPEGH/ISO/HEVC": "hevc", "V_MPEG4/ISO/AVC": "h264", "V_VP9": "vp9"}
#: Codecs that have only 8 bits a sample.
_NARROW = frozenset({"V_VP8", "V_MJPEG", "V_MPEG1", "V_MPEG2", "V_MPEG4/ISO/ASP", "V_THEORA"})


@dataclass
class Segment:
    """`promised` is where the segment should end, None for a live recording; `tracks` None if unknown."""

    promised: int | None = None
    tracks: tuple[VideoTrack, ...] | None = None


@dataclass(frozen=True)
class _Element:
    id: int
    start: int
    content: int
    end: int


@dataclass
class _Found:
    scale_ns: int = 1_000_000
    duration: float = 0.0
    entries: list[dict[int, bytes]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # of each entry's track type
    tags: dict[bytes, str] = field(default_factory=dict)
    clusters: list[_Element] = field(default_factory=list)
    cut_short: bool = False


def read_segment(file: BinaryIO, size: int) -> Segment:
    """Walk the file. Never raises: damaged parts are left out."""
    segment = Segment()
    top = next((one for one in islice(_elements(file, 0, size), 4) if one.id == _SEGMENT), None)
    if top is None:
        return segment
    unknown = top.end == _UNKNOWN
    segment.promised = None if unknown else top.end
    try:
        found = _read(file, top.content, size if unknown else min(size, top.end))
        found.cut_short = not unknown and top.end > size
        if found.entries:
            segment.tracks = _tracks(file, found)
    except (struct.error, ValueError, UnicodeDecodeError):
        segment.tracks = None
    return segment


_UNKNOWN = 1 << 62


def _elements(file: BinaryIO, position: int, end: int) -> Iterator[_Element]:
    for _ in range(_MOST_ELEMENTS):
        if position >= end:
            return
        file.seek(position)
        head = file.read(12)
        width = _width(head[:1])
        if width > 4 or len(head) <= width:
            return
        length_width = _width(head[width : width + 1])
        if length_width > 8:
            return
        length = int.from_bytes(head[width : width + length_width], "big")
        length &= (1 << 7 * length_width) - 1
        content = position + width + length_width
        unknown = length == (1 << 7 * length_width) - 1
        start, position = position, _UNKNOWN if unknown else content + length
        yield _Element(int.from_bytes(head[:width], "big"), start, content, position)


def _level_1(file: BinaryIO, position: int, end: int) -> Iterator[_Element]:
    """The children of a segment. A live recording does not state the length of its clusters."""
    while True:
        unbounded = None
        for element in _elements(file, position, end):
            if element.end == _UNKNOWN:
                unbounded = element
            else:
                yield element
        if unbounded is None:
            return
        inside = _elements(file, unbounded.content, end)
        position = next((one.start for one in inside if one.id in _LEVEL_1), end)
        yield _Element(unbounded.id, unbounded.start, unbounded.content, position)


def _width(first: bytes) -> int:
    return 9 - first[0].bit_length() if first and first[0] else 9


def _read(file: BinaryIO, start: int, end: int) -> _Found:
    found = _Found()
    for element in _level_1(file, start, end):
        if element.id == _INFO:
            values = dict(_flat(file, element))
            found.scale_ns = _integer(values.get(0x2AD7B1, b"")) or found.scale_ns
            found.duration = _float(values.get(0x4489, b""))
        elif element.id == _TRACKS:
            for entry in _elements(file, element.content, element.end):
                if entry.id == 0xAE:
                    found.entries.append(dict(_flat(file, entry)))
                    found.places.append(_place(file, entry, 0x83))
        elif element.id == _TAGS:
            found.tags |= _durations(file, element)
        elif element.id == _CLUSTER:
            found.clusters.append(element)
    return found


def _flat(file: BinaryIO, parent: _Element) -> Iterator[tuple[int, bytes]]:
    """The values in an element and its descendants. Each master element inside yields an empty value."""
    for element in _elements(file, parent.content, parent.end):
        if element.id in _MASTERS:
            yield element.id, b""
            yield from _flat(file, element)
        elif element.end - element.content <= 4096:
            file.seek(element.content)
            yield element.id, file.read(element.end - element.content)


def _place(file: BinaryIO, parent: _Element, wanted: int) -> int:
    elements = _elements(file, parent.content, parent.end)
    return next((one.end - 1 for one in elements if one.id == wanted), 0)


def _durations(file: BinaryIO, tags: _Element) -> dict[bytes, str]:
    """The DURATION tags by the UID of their track, as mkvmerge and FFmpeg write them."""
    found: dict[bytes, str] = {}
    for tag in _elements(file, tags.content, tags.end):
        uid, name = b"", b""
        for key, value in _flat(file, tag):
            if key == 0x63C5:
                uid = value.lstrip(b"\0")
            elif key == 0x45A3:
                name = value.rstrip(b"\0")
            elif key == 0x4487 and name == b"DURATION":
                found[uid] = value.decode().rstrip("\0")
    return found


def _tracks(file: BinaryIO, found: _Found) -> tuple[VideoTrack, ...]:
    tracks: list[VideoTrack] = []
    for entry, place in zip(found.entries, found.places, strict=True):
        if _integer(entry.get(0x83, b"")) != _VIDEO:
            continue
        name = entry.get(0x86, b"").rstrip(b"\0").decode("latin-1")
        primaries, transfer = (_integer(entry.get(key, b"")) for key in (0x55BB, 0x55BA))
        last_us, end_us = _ends(file, found, entry)
        tracks.append(
            VideoTrack(
                codec=_CODECS.get(name, name.removeprefix("V_").lower()),
                width=_integer(entry.get(0xB0, b"")),
                height=_integer(entry.get(0xBA, b"")),
                is_default=_integer(entry.get(0x88, b"\1")) != 0,
                encryption="by its content encoding" if 0x5035 in entry else "",
                last_us=last_us,
                end_us=end_us,
                wide_colours=is_wide(primaries=primaries, transfer=transfer),
                surely_narrow=name in _NARROW,
                hide=Hide(place, _CONTROL),
            )
        )
    return tuple(tracks)


def _ends(file: BinaryIO, found: _Found, entry: dict[int, bytes]) -> tuple[int | None, int | None]:
    """Start and end of the track's last frame, in microseconds after the start of its first one."""
    number = _integer(entry.get(0xD7, b""))
    first = min((time for time, _ in _first_blocks(file, found.clusters, number)), default=None)
    last = max(_first_blocks(file, found.clusters[::-1], number), default=None)
    if first is None or last is None:
        return None, None
    tick = found.scale_ns
    each = _integer(entry.get(0x23E383, b""))
    tag = found.tags.get(entry.get(0x73C5, b"").lstrip(b"\0"), "")
    if last[1]:
        end_ns = (last[0] + last[1]) * tick
    elif each:
        end_ns = last[0] * tick + each
    elif tag:
        end_ns = _clock_ns(tag)
    elif len(found.entries) == 1:
        end_ns = round(found.duration * tick)
    else:
        end_ns = 0
    if found.cut_short and end_ns + max(each, _ROUNDING_NS) < found.duration * tick:
        return None, None
    last_us = (last[0] - first) * tick // 1000
    end_us = (end_ns - first * tick) // 1000
    return last_us, end_us if end_us > last_us else None


def _first_blocks(file: BinaryIO, clusters: list[_Element], number: int) -> list[tuple[int, int]]:
    """Time and duration (0: not stated) of the track's blocks, from the first two clusters that have any."""
    found = filter(None, (list(_blocks(file, cluster, number)) for cluster in clusters))
    return [block for blocks in islice(found, 2) for block in blocks]


def _blocks(file: BinaryIO, cluster: _Element, number: int) -> Iterator[tuple[int, int]]:
    start = 0
    for element in _elements(file, cluster.content, cluster.end):
        if element.id == 0xE7:
            file.seek(element.content)
            start = _integer(file.read(min(8, element.end - element.content)))
        elif element.id == 0xA3:
            yield from _block(file, element, start, 0, number)
        elif element.id == 0xA0:
            inside = list(_elements(file, element.content, element.end))
            durations = [one for one in inside if one.id == 0x9B]
            for one in durations:
                file.seek(one.content)
            duration = _integer(file.read(durations[0].end - durations[0].content)) if durations else 0
            for block in (one for one in inside if one.id == 0xA1):
                yield from _block(file, block, start, duration, number)


def _block(
    file: BinaryIO, element: _Element, start: int, duration: int, number: int
) -> Iterator[tuple[int, int]]:
    file.seek(element.content)
    head = file.read(12)
    width = _width(head[:1])
    track = int.from_bytes(head[:width], "big") & ((1 << 7 * width) - 1)
    if width <= 8 and track == number and len(head) >= width + 2:
        yield start + int.from_bytes(head[width : width + 2], "big", signed=True), duration


def _clock_ns(text: str) -> int:
    hours, minutes, seconds = text.split(":")
    return round((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * 1e9)


def _integer(content: bytes) -> int:
    return int.from_bytes(content, "big")


def _float(content: bytes) -> float:
    layout = {4: ">f", 8: ">d"}.get(len(content))
    return float(struct.unpack(layout, content)[0]) if layout else 0.0
