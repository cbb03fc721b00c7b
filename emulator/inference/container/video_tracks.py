"""The facts that containers state about their video tracks, and the choice of the track to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Colour primaries (ITU-T H.273) with about the gamut of ordinary video.
_ORDINARY_PRIMARIES = frozenset({0, 1, 2, 3, 4, 5, 6, 7})
#: Transfer characteristics PQ and HLG.
_HDR_TRANSFERS = frozenset({16, 18})
# FFmpeg: the pixels that `ffmpeg` adds to a stream's own if the container marks the stream as default.
_DEFAULT_SCORE = 5_000_000


@dataclass(frozen=True)
class Hide:
    """Bytes that make FFmpeg skip a track, and their position in the file."""

    position: int
    content: bytes


@dataclass(frozen=True)
class VideoTrack:
    """A video track as its container describes it.

    last_us, end_us: start and end of its last frame, in microseconds after the start of its first frame;
    None if the container does not say. encryption: how it is encrypted, or "". surely_narrow: HDR is
    excluded without a look at the pictures.
    """

    codec: str = ""
    width: int = 0
    height: int = 0
    is_default: bool = True
    encryption: str = ""
    last_us: int | None = None
    end_us: int | None = None
    wide_colours: bool = False
    surely_narrow: bool = False
    hide: Hide | None = None

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {self.codec}".rstrip()


def is_wide(*, primaries: int, transfer: int) -> bool:
    """Whether a video's colours or brightness exceed those of ordinary video."""
    return primaries not in _ORDINARY_PRIMARIES or transfer in _HDR_TRANSFERS


def best(tracks: Sequence[VideoTrack]) -> int:
    """The number of the track to read: the one that `ffmpeg` selects, by default mark and size."""
    scores = [one.width * one.height + _DEFAULT_SCORE * one.is_default for one in tracks]
    return scores.index(max(scores)) if scores else 0
