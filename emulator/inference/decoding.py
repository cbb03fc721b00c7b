"""How videos are to be decoded, and how one was. Imports no numpy: the server speaks of it, too."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from emulator.config import DecoderChoice

EXTRA = 'pip install "vertex-batch-emulator[av]"'


@dataclass(frozen=True)
class VideoOptions:
    """`decoder`: see the setting. `strict`: a video of which not all decodes is an error."""

    decoder: DecoderChoice = "auto"
    strict: bool = False


#: How videos are decoded where nobody says.
USUAL = VideoOptions()


@dataclass(frozen=True)
class Decoding:
    """The library that decoded a video, with its version, and what is worth knowing about the outcome.

    The results for `kept` of the `of` grid points came from the prediction cache; zeros where it is off.
    """

    decoder: str
    warnings: tuple[str, ...] = ()
    kept: int = 0
    of: int = 0

    def __str__(self) -> str:
        return "; ".join((f"decoded by {self.decoder}", *self.warnings))


def av_is_installed() -> bool:
    """Say whether the extra `av` is there."""
    return importlib.util.find_spec("av") is not None
