"""The worker process: `python -m emulator.execution.worker FD LOG_LEVEL LOG_FORMAT`.

`processes.py` starts it. It runs one shard at a time on its main thread; another thread receives messages.
With the fourth argument `look` it decodes pictures for `looker.py` instead, and imports no inference packages
but the decoder.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import queue
import signal
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection

from emulator import logs
from emulator.execution.channel import Cancel, FromWorker, Ready, Warm, Work
from emulator.execution.executor import Said
from emulator.execution.shards import ModelUse
from emulator.execution.stills import look_at
from emulator.execution.workbench import Workbench


class Worker:
    """The process's state: its channel, the current shard, and the loaded models."""

    def __init__(self, connection: Connection) -> None:
        self.cancelled_ticket = 0
        self._connection = connection
        self._sending = threading.Lock()
        self._inbox: queue.SimpleQueue[Work | Warm] = queue.SimpleQueue()
        self._cold: deque[ModelUse] = deque()
        self._workbench = Workbench()

    def serve(self) -> None:
        """Work until the server closes the channel; does not return."""
        threading.Thread(target=self._listen, name="listen", daemon=True).start()
        self._workbench.prepare()
        self.say(Ready())
        while True:
            work = self._next()
            self._workbench.work(work.shard, _Station(self, work.ticket))

    def say(self, message: FromWorker) -> None:
        """Send a message, from any thread; if the server is gone, the process exits."""
        try:
            with self._sending:
                self._connection.send(message)
        except OSError:
            os._exit(0)

    def _listen(self) -> None:
        try:
            while True:
                message = self._connection.recv()
                if isinstance(message, Cancel):
                    self.cancelled_ticket = message.ticket
                else:
                    self._inbox.put(message)
        except (EOFError, OSError):
            os._exit(0)

    def _next(self) -> Work:
        """The next work; models are warmed up only while there is none."""
        while True:
            try:
                message = self._inbox.get(block=not self._cold)
            except queue.Empty:
                self.say(self._workbench.warm(self._cold.popleft()))
                continue
            if isinstance(message, Work):
                return message
            self._cold.extend(message.models)


@dataclass(frozen=True)
class _Station:
    """See workbench.Station: one shard in this process."""

    worker: Worker
    ticket: int

    def say(self, said: Said) -> None:
        self.worker.say(said)

    def is_cancelled(self) -> bool:
        return self.worker.cancelled_ticket >= self.ticket

    def crash(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(3600)  # the signal may come a moment later

    def hang(self) -> None:
        time.sleep(3600)


def main() -> None:
    """Run the worker on the inherited socket."""
    descriptor, level, form = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    faulthandler.enable()
    # Ctrl-C, and a service manager's SIGTERM, reach all processes. The server decides when a worker ends.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    logs.set_up(
        level,
        "%(asctime)s %(levelname)s worker[%(process)d] %(message)s",
        "json" if form == "json" else "text",
    )
    if sys.argv[4:] == ["look"]:
        _take_pictures(Connection(descriptor))
    else:
        Worker(Connection(descriptor)).serve()


def _take_pictures(connection: Connection) -> None:
    """Answer Look requests until the server closes the channel."""
    import emulator.inference.video

    emulator.inference.video.quiet_decoder()
    with contextlib.suppress(EOFError, OSError):
        while True:
            for answer in look_at(connection.recv()):
                connection.send(answer)


if __name__ == "__main__":
    main()
