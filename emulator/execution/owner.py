"""Who holds a lease, and whether it is still alive: a locked file per server in a shared folder.

The lock goes when its process does, however it ends, so a restarted server knows at once that its
predecessor is dead and takes its jobs over; process ids would mislead it inside containers. Where files
cannot be locked, or the other server runs elsewhere, leases run out instead.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl


class Owner:
    """This server as a holder of leases; `token` is what its leases say. Lives until `close`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.token = f"{socket.gethostname()[:64]}-{os.getpid()}-{secrets.token_hex(8)}"
        self._path = folder / self.token
        folder.mkdir(parents=True, exist_ok=True)
        # Locked before it has its name: a file found unlocked belongs to a dead server.
        unnamed = folder / f"{self.token}.new"
        self._file = unnamed.open("wb")
        _try_lock(self._file)
        unnamed.rename(self._path)

    def the_dead(self) -> Iterator[str]:
        """Tokens of servers that are no more; each is forgotten after its turn."""
        for path in sorted(self._folder.iterdir()):
            if path == self._path or path.suffix == ".new":
                continue
            with contextlib.suppress(OSError), path.open("r+b") as file:
                if _try_lock(file):
                    yield path.name
                    path.unlink()

    def close(self) -> None:
        """Stop being an owner."""
        self._path.unlink(missing_ok=True)
        self._file.close()


def _try_lock(file: BinaryIO) -> bool:
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
