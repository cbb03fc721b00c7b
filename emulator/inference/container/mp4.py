"""Reads the index of an MP4 or QuickTime file: whether it is complete, its video tracks, their ends."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import BinaryIO

from emulator.inference.container.video_tracks import Hide, VideoTrack, is_wide

BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof", b"sidx", b"pnot"})

_MOST_SAMPLES = 1_000_000
_MOST_BOXES = 100_000
#: Codecs reorder at most this many frames.
_REORDERED = 64
_ENCRYPTED = frozenset({b"encv", b"drmi"})
_CODECS = {b"av01": "av1", b"dav1": "av1", b"hvc1": "hevc", b"hev1": "hevc", b"avc1": "h264", b"avc3": "h264"}
#: Profiles of H.264 with 8 bits a sample.
_EIGHT_BIT = frozenset({66, 77, 88, 100})


@dataclass
class Index:
    """The facts of the top-level boxes. `promised` is where the last known box should end."""

    kinds: set[bytes] = field(default_factory=set)
    promised: int = 0
    tracks: tuple[VideoTrack, ...] | None = None


@dataclass(frozen=True)
class _Box:
    kind: bytes
    start: int
    content: int
    end: int


@dataclass(frozen=True)
class _Sample:
    """Presentation time and duration in the track's time scale; samples come in decoding order."""

    time: int
    duration: int


@dataclass
class _Trak:
    """The boxes of a track that matter here, as numbers."""

    box: _Box
    id: int = 0
    enabled: bool = True
    handler: bytes = b""
    scale: int = 0
    edits: list[tuple[int, int]] = field(default_factory=list)  # duration, media time
    stts: bytes = b""
    ctts: bytes = b""
    entries: list[bytes] = field(default_factory=list)


def read_index(file: BinaryIO, size: int) -> Index:
    """Walk the file. Never raises: damaged parts are left out."""
    index, last = Index(), b""
    movie: _Box | None = None
    fragments: list[_Box] = []
    for box in _boxes(file, 0, size):
        index.kinds.add(box.kind)
        # Cameras append data that is not a box.
        if box.kind in BOXES:
            index.promised, last = box.end, box.kind
        if box.kind == b"moov":
            movie = box
        elif box.kind == b"moof":
            fragments.append(box)
    if movie is not None and movie.end <= size:
        try:
            index.tracks = _read_movie(file, movie, fragments)
        except (struct.error, IndexError, ValueError, ZeroDivisionError):
            index.tracks = None
    if index.tracks and index.promised > size and last == b"moof":
        index.tracks = tuple(replace(track, last_us=None, end_us=None) for track in index.tracks)
    return index


def _boxes(file: BinaryIO, position: int, end: int) -> Iterator[_Box]:
    for _ in range(_MOST_BOXES):
        if position + 8 > end:
            return
        file.seek(position)
        head = file.read(16)
        length, kind, content = int.from_bytes(head[:4], "big"), head[4:8], position + 8
        if length == 1:
            length, content = int.from_bytes(head[8:16], "big"), position + 16
        elif length == 0:
            length = end - position
        if length < 8:
            return
        yield _Box(kind, position, content, position + length)
        position += length


def _read_movie(file: BinaryIO, movie: _Box, fragments: list[_Box]) -> tuple[VideoTrack, ...] | None:
    movie_scale, traks, defaults = 0, list[_Trak](), dict[int, int]()
    for box in _boxes(file, movie.content, movie.end):
        if box.kind == b"mvhd":
            content = _content(file, box)
            movie_scale = _number(content, 20 if content[0] else 12, 4)
        elif box.kind == b"trak":
            traks.append(_read_trak(file, box))
        elif box.kind == b"mvex":
            for inner in _boxes(file, box.content, box.end):
                if inner.kind == b"trex":
                    content = _content(file, inner)
                    defaults[_number(content, 4, 4)] = _number(content, 12, 4)
    if not traks or not all(trak.handler for trak in traks):
        return None
    videos = [trak for trak in traks if trak.handler == b"vide" and trak.entries]
    return tuple(_track(trak, movie_scale, _in_fragments(file, trak, fragments, defaults)) for trak in videos)


def _read_trak(file: BinaryIO, box: _Box) -> _Trak:
    trak = _Trak(box)
    for inner in _descend(file, box, {b"edts", b"mdia", b"minf", b"stbl"}):
        content = _content(file, inner)
        match inner.kind:
            case b"tkhd":
                trak.enabled = bool(content[3] & 1)
                trak.id = _number(content, 20 if content[0] else 12, 4)
            case b"mdhd":
                trak.scale = _number(content, 20 if content[0] else 12, 4)
            case b"hdlr" if not trak.handler:
                trak.handler = content[8:12]
            case b"elst":
                trak.edits = _edits(content)
            case b"stts":
                trak.stts = content[8:]
            case b"ctts":
                trak.ctts = content[8:]
            case b"stsd":
                trak.entries = _entries(content)
    return trak


def _descend(file: BinaryIO, box: _Box, into: set[bytes]) -> Iterator[_Box]:
    for inner in _boxes(file, box.content, box.end):
        if inner.kind in into:
            yield from _descend(file, inner, into)
        elif inner.kind in (b"tkhd", b"mdhd", b"hdlr", b"elst", b"stts", b"ctts", b"stsd"):
            yield inner


def _edits(content: bytes) -> list[tuple[int, int]]:
    layout = struct.Struct(">QqI" if content[0] else ">IiI")
    count = min(_number(content, 4, 4), (len(content) - 8) // layout.size)
    found = (layout.unpack_from(content, 8 + number * layout.size) for number in range(count))
    return [(duration, time) for duration, time, _ in found]


def _entries(content: bytes) -> list[bytes]:
    found, position = list[bytes](), 8
    while position + 8 <= len(content):
        length = _number(content, position, 4)
        if length < 8:
            break
        found.append(content[position : position + length])
        position += length
    return found


def _track(trak: _Trak, movie_scale: int, in_fragments: list[_Sample]) -> VideoTrack:
    entry = trak.entries[0]
    kind = entry[4:8]
    encrypted = all(one[4:8] in _ENCRYPTED for one in trak.entries)
    last_us, end_us = _ends(trak, movie_scale, in_fragments)
    narrow, wide = _colours(kind, entry)
    return VideoTrack(
        codec=_CODECS.get(_original(entry) if encrypted else kind, kind.decode("latin-1")),
        width=_number(entry, 32, 2),
        height=_number(entry, 34, 2),
        is_default=trak.enabled,
        encryption="by its sample entry (Common Encryption or FairPlay)" if encrypted else "",
        last_us=last_us,
        end_us=end_us,
        wide_colours=wide,
        surely_narrow=narrow,
        # FFmpeg skips a box of this kind and everything in it.
        hide=Hide(trak.box.start + 4, b"free"),
    )


def _original(entry: bytes) -> bytes:
    """The codec that an encrypted sample entry names inside."""
    place = entry.find(b"frma")
    return entry[place + 4 : place + 8] if place > 0 else entry[4:8]


def _colours(kind: bytes, entry: bytes) -> tuple[bool, bool]:
    """Whether the colours are certainly those of ordinary video, and whether the headers declare others."""
    place, wide = entry.find(b"nclx"), False
    if place > 0 and entry[place - 4 : place] == b"colr":
        wide = is_wide(primaries=_number(entry, place + 4, 2), transfer=_number(entry, place + 6, 2))
    settings = entry.find(b"avcC")
    eight_bit = kind in (b"avc1", b"avc3") and settings > 0 and entry[settings + 5] in _EIGHT_BIT
    return (eight_bit or kind in (b"mp4v", b"jpeg", b"mjpa", b"mjpb", b"s263", b"vp08")) and not wide, wide


def _ends(trak: _Trak, movie_scale: int, in_fragments: list[_Sample]) -> tuple[int | None, int | None]:
    """Start and end of the last frame, in microseconds after the start of the first one that is shown."""
    if trak.scale == 0:
        return None, None
    head, tail = _samples(trak)
    head, tail = head or in_fragments, in_fragments or tail
    shown = [(duration, time) for duration, time in trak.edits if time >= 0]
    since = shown[0][1] if shown else min((sample.time for sample in head), default=0)
    first = min((sample.time for sample in head if sample.time >= since), default=None)
    if first is None or not tail or len(shown) > 1:
        return None, None
    last = max(tail, key=lambda sample: sample.time)
    # If frames are out of order, a frame's decoding duration does not tell how long it is shown.
    end = last.time + (last if last is tail[-1] else tail[-1]).duration
    if shown and shown[0][0] > 0 and movie_scale:
        media_end = max(sample.time + sample.duration for sample in tail)
        edit_end = since + round(shown[0][0] * trak.scale / movie_scale)
        if abs(edit_end - end) > trak.scale / movie_scale:
            end = min(edit_end, media_end)
    if end <= last.time:
        return None, None
    return (last.time - first) * 1_000_000 // trak.scale, round((end - first) * 1e6 / trak.scale)


def _samples(trak: _Trak) -> tuple[list[_Sample], list[_Sample]]:
    """The first samples, up to those that can be the first shown one, and the last samples."""
    durations, offsets = _runs(trak.stts, signed=False), _runs(trak.ctts, signed=True)
    count = sum(number for number, _ in durations)
    if not 0 < count <= _MOST_SAMPLES:
        return [], []
    since = next((time for _, time in trak.edits if time >= 0), 0)
    head: list[_Sample] = []
    late = 0
    for sample in islice(_timed(durations, offsets), count):
        head.append(sample)
        late += sample.time >= since
        if late > _REORDERED:
            break
    skipped = max(0, count - _REORDERED)
    return head, list(_timed(durations, offsets, skipped))


def _timed(
    durations: list[tuple[int, int]], offsets: list[tuple[int, int]], skip: int = 0
) -> Iterator[_Sample]:
    """The samples from number `skip` on."""
    time, number = 0, 0
    shifts = _expanded(offsets, skip)
    for count, duration in durations:
        passed = min(count, max(0, skip - number))
        time, number = time + passed * duration, number + passed
        for _ in range(count - passed):
            yield _Sample(time + next(shifts, 0), duration)
            time, number = time + duration, number + 1


def _expanded(runs: list[tuple[int, int]], skip: int) -> Iterator[int]:
    for count, value in runs:
        passed = min(count, skip)
        skip -= passed
        for _ in range(min(count - passed, _MOST_SAMPLES)):
            yield value


def _runs(table: bytes, *, signed: bool) -> list[tuple[int, int]]:
    whole = table[: len(table) // 8 * 8]
    return list(struct.iter_unpack(">Ii" if signed else ">II", whole))


def _in_fragments(
    file: BinaryIO, trak: _Trak, fragments: list[_Box], defaults: dict[int, int]
) -> list[_Sample]:
    """The samples of the track's first fragment and of its last."""
    wanted = [fragments, fragments[::-1]] if fragments else []
    found: list[_Sample] = []
    for order in wanted:
        found += next(filter(None, (_in_fragment(file, box, trak.id, defaults) for box in order)), [])
    return found


def _in_fragment(file: BinaryIO, fragment: _Box, track: int, defaults: dict[int, int]) -> list[_Sample]:
    found: list[_Sample] = []
    for box in _boxes(file, fragment.content, fragment.end):
        if box.kind != b"traf":
            continue
        time, default, is_ours = 0, defaults.get(track, 0), False
        for inner in _boxes(file, box.content, box.end):
            content = _content(file, inner)
            if inner.kind == b"tfhd":
                is_ours = _number(content, 4, 4) == track
                default = _default_duration(content, default)
            elif inner.kind == b"tfdt":
                time = _number(content, 4, 8 if content[0] else 4)
            elif inner.kind == b"trun" and is_ours:
                run = _run(content, time, default)
                time += sum(sample.duration for sample in run)
                found += run
    return found


def _default_duration(tfhd: bytes, otherwise: int) -> int:
    flags, place = _number(tfhd, 1, 3), 8
    place += 8 * bool(flags & 0x1) + 4 * bool(flags & 0x2)
    return _number(tfhd, place, 4) if flags & 0x8 else otherwise


def _run(trun: bytes, time: int, default: int) -> list[_Sample]:
    flags, count = _number(trun, 1, 3), _number(trun, 4, 4)
    place = 8 + 4 * bool(flags & 0x1) + 4 * bool(flags & 0x4)
    fields = [flag for flag in (0x100, 0x200, 0x400, 0x800) if flags & flag]
    if fields and place + 4 * len(fields) * count > len(trun):
        return []
    found: list[_Sample] = []
    for _ in range(min(count, _MOST_SAMPLES)):
        values = {flag: trun[place + 4 * n : place + 4 * n + 4] for n, flag in enumerate(fields)}
        place += 4 * len(fields)
        duration = int.from_bytes(values[0x100], "big") if 0x100 in values else default
        # Version 0 has no negative offsets, but some writers use them anyway.
        offset = int.from_bytes(values.get(0x800, b"\0"), "big", signed=True)
        found.append(_Sample(time + offset, duration))
        time += duration
    return found


def _content(file: BinaryIO, box: _Box) -> bytes:
    file.seek(box.content)
    return file.read(min(box.end - box.content, 32 << 20))


def _number(content: bytes, place: int, width: int) -> int:
    if len(content) < place + width:
        raise ValueError("a box is too short")
    return int.from_bytes(content[place : place + width], "big")
