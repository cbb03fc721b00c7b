"""Files for objects whose names a folder cannot hold: `my-folder/`, `a` next to `a/b`, `a//b`, long segments.

Each is a file in a hidden folder of its bucket. The file's path is the object's name in hexadecimal digits.
So it is safe on every file system, can be decoded to the name, and sorts like the name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from emulator.storage.confined import ConfinedPath

FOLDER = ".vbe-names"

_LONGEST_SEGMENT_BYTES = 255
_DIGITS = 200  # per segment of the path
_SUFFIX = ".o"  # marks the file of a name; longer names are in a folder without it
_WINDOWS = '\\:*?"<>|'


def is_path(name: str, reserved: tuple[str, ...]) -> bool:
    """Whether a folder can hold an object's name, whatever else is in the folder."""
    return all(is_segment(segment, reserved) for segment in name.split("/"))


def is_segment(segment: str, reserved: tuple[str, ...]) -> bool:
    """Whether one segment of a name can be the name of a file or a folder."""
    if segment in ("", ".", "..", *reserved) or len(segment.encode()) > _LONGEST_SEGMENT_BYTES:
        return False
    return os.name != "nt" or not any(character in segment for character in _WINDOWS)


def path_of(bucket: ConfinedPath, name: str) -> ConfinedPath:
    """The file of the object `name` in the hidden folder."""
    digits = name.encode().hex()
    pieces = [digits[at : at + _DIGITS] for at in range(0, len(digits), _DIGITS)]
    return bucket / "/".join([FOLDER, *pieces[:-1], pieces[-1] + _SUFFIX])


def names(bucket: ConfinedPath, prefix: str, start: str) -> Iterator[str]:
    """Names of the objects in the hidden folder that begin with `prefix`, from `start` on, by UTF-8 bytes."""
    for digits in _walk(bucket / FOLDER, "", prefix.encode().hex(), start.encode().hex()):
        try:
            yield bytes.fromhex(digits).decode()
        except ValueError:  # not the emulator's file
            continue


def _walk(folder: ConfinedPath, above: str, prefix: str, start: str) -> Iterator[str]:
    try:
        entries = folder.names()
    except OSError:  # there is no hidden folder
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
