"""Where objects lie whose names a folder cannot hold: `my-folder/`, `a` beside `a/b`, `a//b`, long segments.

Each is a file in a hidden folder of its bucket. The file's path is the name in hexadecimal digits, so it is
safe on every file system, says the name, and sorts as the name does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from emulator.storage.confined import ConfinedPath

FOLDER = ".vbe-names"

_LONGEST_SEGMENT_BYTES = 255
_DIGITS = 200  # in one segment of the path
_SUFFIX = ".o"  # tells the file of a name that ends there from the folder of longer ones
_WINDOWS = '\\:*?"<>|'


def is_path(name: str, reserved: tuple[str, ...]) -> bool:
    """Whether a folder can hold an object's name, whatever else lies there."""
    return all(is_segment(segment, reserved) for segment in name.split("/"))


def is_segment(segment: str, reserved: tuple[str, ...]) -> bool:
    """Whether one segment of a name can be that of a file or a folder."""
    if segment in ("", ".", "..", *reserved) or len(segment.encode()) > _LONGEST_SEGMENT_BYTES:
        return False
    return os.name != "nt" or not any(character in segment for character in _WINDOWS)


def path_of(bucket: ConfinedPath, name: str) -> ConfinedPath:
    """The file that holds the object `name` aside."""
    digits = name.encode().hex()
    pieces = [digits[at : at + _DIGITS] for at in range(0, len(digits), _DIGITS)]
    return bucket / "/".join([FOLDER, *pieces[:-1], pieces[-1] + _SUFFIX])


def names(bucket: ConfinedPath, prefix: str, start: str) -> Iterator[str]:
    """Names of the objects aside that begin with `prefix`, from `start` on, by their UTF-8 bytes."""
    for digits in _walk(bucket / FOLDER, "", prefix.encode().hex(), start.encode().hex()):
        try:
            yield bytes.fromhex(digits).decode()
        except ValueError:  # a file of someone else
            continue


def _walk(folder: ConfinedPath, above: str, prefix: str, start: str) -> Iterator[str]:
    try:
        entries = folder.names()
    except OSError:  # there is nothing aside
        return
    for piece, goes_on in sorted(
        (name.removesuffix(_SUFFIX), not name.endswith(_SUFFIX)) for name in entries
    ):
        digits = above + piece
        if not (digits.startswith(prefix) or (goes_on and prefix.startswith(digits))):
            continue
        if not goes_on and digits >= start:
            yield digits
        elif goes_on and (digits >= start or start.startswith(digits)):
            yield from _walk(folder / piece, digits, prefix, start)
