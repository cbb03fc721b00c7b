"""Looks into containers without an index: MPEG transport streams, ASF and Ogg."""

from __future__ import annotations

from typing import BinaryIO

from emulator.inference.container.video_tracks import VideoTrack

ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"

_PACKET = 188
_LOOKED_AT = 4 << 20
#: This many video packets tell whether the video is scrambled.
_ENOUGH = 100
#: Stream types (ISO/IEC 13818-1, table 2-34) of video.
_VIDEO_TYPES = frozenset({0x01, 0x02, 0x10, 0x1B, 0x24, 0x33})
#: The objects of ASF that say how its content is encrypted.
_ASF_PROTECTION = (
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),
    bytes.fromhex("148ae6292226174cb935dae07ee9289c"),
)
_OGG_VIDEO = {b"\x80theora": "Theora", b"BBCD": "Dirac", b"OVP80": "VP8", b"\x01video": "video"}


def is_transport_stream(head: bytes) -> bool:
    """Packets of 188 bytes that start with 0x47; M2TS puts four bytes before each."""
    plain = head[0:1] == b"\x47" and (len(head) <= _PACKET or head[_PACKET] == 0x47)
    return plain or (head[4:5] == b"\x47" and len(head) > 196 and head[196] == 0x47)


def encrypted_track(file: BinaryIO) -> tuple[VideoTrack, ...] | None:
    """One encrypted track if all video at the start of the stream is scrambled, else None."""
    file.seek(0)
    data = file.read(_LOOKED_AT)
    lead = 0 if data[0:1] == b"\x47" else 4
    tables, video = set[int](), set[int]()
    clear = scrambled = 0
    for place in range(lead, len(data) - _PACKET + 1, _PACKET + lead):
        packet = data[place : place + _PACKET]
        pid = int.from_bytes(packet[1:3], "big") & 0x1FFF
        if clear + scrambled >= _ENOUGH:
            break
        if pid in video:
            scrambled += packet[3] >> 6 > 1
            clear += packet[3] >> 6 == 0
        elif pid == 0:
            tables |= _programs(_section(packet))
        elif pid in tables:
            video |= _video_pids(_section(packet))
    if scrambled and not clear:
        return (VideoTrack(encryption="as its packets are scrambled"),)
    return None


def _section(packet: bytes) -> bytes:
    """The table that begins in a packet; empty if none does."""
    if not packet[1] & 0x40:
        return b""
    start = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
    start += 1 + (packet[start] if start < _PACKET else 0)
    length = int.from_bytes(packet[start + 1 : start + 3], "big") & 0xFFF
    return packet[start : start + 3 + length - 4]


def _programs(section: bytes) -> set[int]:
    rows = (section[place : place + 4] for place in range(8, len(section) - 3, 4))
    return {int.from_bytes(row[2:], "big") & 0x1FFF for row in rows if row[:2] != b"\0\0"}


def _video_pids(section: bytes) -> set[int]:
    found = set[int]()
    if len(section) < 12 or section[0] != 2:
        return found
    place = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
    while place + 5 <= len(section):
        if section[place] in _VIDEO_TYPES:
            found.add(int.from_bytes(section[place + 1 : place + 3], "big") & 0x1FFF)
        place += 5 + (int.from_bytes(section[place + 3 : place + 5], "big") & 0xFFF)
    return found


def protected_track(file: BinaryIO) -> tuple[VideoTrack, ...] | None:
    """One encrypted track if the header of an ASF file declares protection, else None."""
    file.seek(16)
    length = int.from_bytes(file.read(8), "little")
    header = file.read(min(length, _LOOKED_AT))
    protected = any(guid in header for guid in _ASF_PROTECTION)
    return (VideoTrack(encryption="as its header says (DRM)"),) if protected else None


def ogg_video(head: bytes) -> str:
    """The codec of the first video stream of an Ogg file, "" if it has none.

    The heads of all streams come before all data (RFC 3533).
    """
    for page in head.split(b"OggS")[1:]:
        content = page[23 + page[22] :] if len(page) > 22 else b""
        for start, name in _OGG_VIDEO.items():
            if content.startswith(start):
                return name
    return ""
