"""Still pictures of videos for the console, from a process separate from the server and the workers."""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any

from emulator.config import DecoderChoice
from emulator.execution.processes import ending, start_process
from emulator.execution.stills import Look, Seen, Still, Unseen
from emulator.storage import GcsUri, ObjectStore
from emulator.vertex.errors import CATALOGUE, DeadlineExceeded, Internal

log = logging.getLogger(__name__)


@dataclass
class _Process:
    """The process and the server's end of its channel."""

    process: subprocess.Popen[bytes]
    socket: socket.socket
    connection: Connection

    def end(self) -> int:
        """Kill the process; returns its exit status."""
        self.connection.close()
        self.socket.close()
        self.process.kill()
        return self.process.wait()


class Looker:
    """Decodes pictures in a process that starts with the first request and ends when idle.

    Thread-safe; requests run one at a time.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        decoder: DecoderChoice = "auto",
        log_level: str = "INFO",
        idle_s: float = 30.0,
        timeout_s: float = 10.0,
    ) -> None:
        """Prepare; starts no process yet.

        Args:
            store: of the videos.
            decoder: to use.
            log_level: of the process.
            idle_s: the process ends after this time without a request.
            timeout_s: the process is killed if a request takes longer.
        """
        self._store, self._decoder = store, decoder
        self._log_level = log_level.upper()
        self._idle_s, self._timeout_s = idle_s, timeout_s
        self._lock = threading.Lock()
        self._running: _Process | None = None
        self._timer: threading.Timer | None = None
        self._turn = 0

    @property
    def process_id(self) -> int | None:
        """The process id, or None if there is no process."""
        running = self._running
        return running.process.pid if running else None

    def pictures(self, video: GcsUri, from_us: int, to_us: int, width: int) -> list[Still]:
        """The decoded pictures between two times (µs). Raises ApiError."""
        return self._look(Look(video, self._store, from_us, to_us, width, self._decoder))[0]

    def facts(self, video: GcsUri) -> Seen:
        """Size, codec and length of the video. Raises ApiError."""
        return self._look(Look(video, self._store, decoder=self._decoder))[1]

    def close(self) -> None:
        """Kill the process."""
        running = self._running
        if running is not None:
            running.process.kill()  # a running request ends with it
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._stop()

    def _end_if_idle(self, turn: int) -> None:
        with self._lock:
            if turn == self._turn:
                self._stop()

    def _look(self, look: Look) -> tuple[list[Still], Seen]:
        with self._lock:
            self._turn += 1
            if self._timer is not None:
                self._timer.cancel()
            try:
                return self._ask(self._started(), look)
            finally:
                self._timer = threading.Timer(self._idle_s, self._end_if_idle, [self._turn])
                self._timer.daemon = True
                self._timer.start()

    def _started(self) -> _Process:
        if self._running is None or self._running.process.poll() is not None:
            self._stop()
            self._running = _Process(*start_process(self._log_level, "look"))
        return self._running

    def _ask(self, running: _Process, look: Look) -> tuple[list[Still], Seen]:
        stills: list[Still] = []
        deadline = monotonic() + self._timeout_s
        try:
            running.connection.send(look)
            while True:
                answer = self._receive(running, deadline, look)
                if isinstance(answer, Still):
                    stills.append(answer)
                elif isinstance(answer, Seen):
                    return stills, answer
                elif isinstance(answer, Unseen):
                    raise CATALOGUE[answer.code](answer.message)
        except (EOFError, OSError):
            self._running = None
            cause = ending(running.end())
            message = (
                f"{look.video}: the process that looks at the video {cause}. Other videos can be looked at."
            )
            log.warning("%s", message)
            raise Internal(message) from None

    def _receive(self, running: _Process, deadline: float, look: Look) -> Any:
        if running.connection.poll(max(0.0, deadline - monotonic())):
            return running.connection.recv()
        self._stop()
        raise DeadlineExceeded(
            f"{look.video}: no pictures came within {self._timeout_s:g} s. Ask for a shorter stretch; in a"
            " container without an index, such as MPEG-TS, late parts take long: convert it to MP4."
        )

    def _stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            with contextlib.suppress(OSError):
                running.end()
