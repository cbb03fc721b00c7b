"""Options for decoding videos, and the report of how one was decoded. The server uses it: no numpy here."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from emulator.config import DecoderChoice

EXTRA = 'pip install "vertex-batch-emulator[av]"'


@dataclass(frozen=True)
class VideoOptions:
    """decoder: see the setting. strict: a video that is not completely decodable is an error."""

    decoder: DecoderChoice = "auto"
    strict: bool = False


#: The default options.
USUAL = VideoOptions()


@dataclass(frozen=True)
class Decoding:
    """The library that decoded a video, with its version, and warnings for the user.

    The prediction cache had the results for `kept` of the `of` grid points; both are 0 if it is off.
    """

    decoder: str
    warnings: tuple[str, ...] = ()
    kept: int = 0
    of: int = 0

    def __str__(self) -> str:
        return "; ".join((f"decoded by {self.decoder}", *self.warnings))


def av_is_installed() -> bool:
    """Whether the extra `av` is installed."""
    return importlib.util.find_spec("av") is not None
