"""How much of the disk each part of a data folder takes."""

import os
from collections.abc import Mapping
from pathlib import Path

from emulator.config import Settings

_BLOCK = 512
#: The folders below the data folder, by what they are called in a report.
FOLDERS: Mapping[str, str] = {
    "models": "models",
    "uploads": "uploads",
    "prediction cache": "cache",
    "video cache": "gcs-cache",
    "result indexes": "results",
    "certificates": "tls",
}


def sizes(settings: Settings) -> dict[str, int]:
    """The bytes that the folders take on the disk, by part. A part without a folder takes none."""
    found = {"buckets": size_of(settings.buckets)}
    return found | {part: size_of(settings.data_dir / folder) for part, folder in FOLDERS.items()}


def size_of(folder: Path) -> int:
    """The bytes that the files below a folder take on the disk; links are not followed."""
    total, waiting = 0, [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += _size(entry)
        except OSError:  # gone meanwhile, or another user's
            continue
    return total


def _size(entry: os.DirEntry[str]) -> int:
    status = entry.stat(follow_symlinks=False)
    # Windows does not tell the blocks.
    return getattr(status, "st_blocks", -(-status.st_size // _BLOCK)) * _BLOCK
