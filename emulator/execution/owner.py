"""Leases and their owners; a locked file per server in a shared folder shows which servers are alive.

The operating system drops the lock when the process ends, however it ends. So a restarted server knows at
once that its predecessor is dead, and takes over its jobs. Process ids would be wrong inside containers.
Where files cannot be locked, or the other server runs on another machine, leases expire instead.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from emulator.files import open_regular

if sys.platform != "win32":
    import fcntl


def steady_s() -> float:
    """Seconds on a clock that is never set; on Linux it also runs during suspend."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


class Lease:
    """The lease of a claim, measured by its owner with a monotonic clock: the row's wall-clock time may jump.

    `begun_s` is the time just before the claim. Thread-safe.
    """

    def __init__(self, length_us: int, begun_s: float) -> None:
        self.length_us = length_us
        self._length_s = length_us / 1_000_000
        self._ends_s = begun_s + self._length_s
        self._lock = threading.Lock()

    @property
    def has_run_out(self) -> bool:
        """Whether the lease has expired, so that another server may have taken the job over."""
        return steady_s() >= self._ends_s

    def renew(self, asked_s: float) -> None:
        """Extend the lease by a renewal that was requested at `asked_s`."""
        with self._lock:
            self._ends_s = max(self._ends_s, asked_s + self._length_s)


class Owner:
    """This server as an owner of leases until `close`. Its leases carry `token`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.token = f"{socket.gethostname()[:64]}-{os.getpid()}-{secrets.token_hex(8)}"
        self._path = folder / self.token
        folder.mkdir(parents=True, exist_ok=True)
        # Lock before renaming: an unlocked file with a final name belongs to a dead server.
        unnamed = folder / f"{self.token}.new"
        self._file = unnamed.open("wb")
        _try_lock(self._file)
        unnamed.rename(self._path)

    def the_dead(self) -> Iterator[str]:
        """Yield the tokens of dead servers; each one's file is removed after its turn."""
        for path in sorted(self._folder.glob("*")):  # empty if the folder was deleted
            if path == self._path or path.suffix == ".new":
                continue
            with contextlib.suppress(OSError), path.open("r+b") as file:
                if _try_lock(file):
                    yield path.name
                    path.unlink()

    def close(self) -> None:
        """Remove this server's file and release its lock."""
        self._path.unlink(missing_ok=True)
        self._file.close()


def living_servers(folder: Path) -> list[str]:
    """Describe the servers that lock their file in the folder; none where files cannot be locked."""
    owners = (path for path in sorted(folder.glob("*-*-*")) if path.suffix != ".new")
    return [_title(path.name) for path in owners if _is_held(path)]


def dead_servers(folder: Path) -> list[str]:
    """Describe the servers that have ended and whose file is still in the folder: they were killed."""
    owners = (path for path in sorted(folder.glob("*-*-*")) if path.suffix != ".new")
    return [_title(path.name) for path in owners if not _is_held(path)]


def _title(token: str) -> str:
    host, process, _ = token.rsplit("-", 2)
    return f"process {process} of {host}"


def _is_held(path: Path) -> bool:
    if sys.platform == "win32":
        return False
    try:
        with open_regular(path) as file:
            # A shared lock: two checks at the same time must not take each other for the owner.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _try_lock(file: BinaryIO) -> bool:
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
