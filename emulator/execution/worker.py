"""The worker process: `python -m emulator.execution.worker FD LOG_LEVEL LOG_FORMAT`, started by `workers.py`.

It runs one shard at a time on its main thread; another thread receives messages. With the fourth argument
`look` it decodes pictures for `looker.py` instead, and imports no inference packages but the decoder.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections import deque
from multiprocessing.connection import Connection

from emulator import logs
from emulator.execution.channel import (
    Alive,
    Cancel,
    Finished,
    Fired,
    FromWorker,
    Ready,
    Refused,
    Warm,
    Warmed,
    Work,
)
from emulator.execution.shards import (
    Model,
    ModelUse,
    Outcome,
    Predictors,
    Shard,
    batches_of,
    run,
    storage_code,
)
from emulator.execution.stills import look_at
from emulator.inference.decoding import Decoding
from emulator.inference.manifest import ModelUnusable, load_manifest
from emulator.inference.objectives import load_all, missing_packages
from emulator.storage import StorageUnavailable
from emulator.vertex import errors

log = logging.getLogger(__name__)

_ALIVE_INTERVAL_S = 0.5


class _Unfit(Exception):
    """The packages that models need are not installed."""


class _Progress:
    """The progress of one shard: reports it to the server, and checks for cancellation."""

    def __init__(self, worker: Worker, work: Work) -> None:
        self._worker = worker
        self._ticket = work.ticket
        self._slow = [fault for fault in work.shard.faults if fault.kind == "slow-model"]
        #: Sampled frames, and the number to sample (None if unknown).
        self.frames: tuple[int, int | None] = (0, None)
        # Guarded, because the decoding thread calls `alive` too.
        self._said_at = 0.0
        self._lock = threading.Lock()
        self.decoding: Decoding | None = None

    def cancelled(self) -> bool:
        return self._worker.cancelled_ticket >= self._ticket

    def advance(self, time_us: int) -> None:  # noqa: ARG002
        for fault in self._slow:
            time.sleep(fault.delay_s)
        self.alive()

    def sampled(self, done: int, total: int | None) -> None:
        self.frames = (done, total)

    def alive(self) -> None:
        with self._lock:
            now = time.monotonic()
            if now - self._said_at < _ALIVE_INTERVAL_S:
                return
            self._said_at = now
        self._worker.say(Alive(*self.frames))

    def decoded(self, decoding: Decoding) -> None:
        self.decoding = decoding


class Worker:
    """The process's state: its channel, the current shard, and the loaded models."""

    def __init__(self, connection: Connection) -> None:
        self.cancelled_ticket = 0
        self._connection = connection
        self._sending = threading.Lock()
        self._inbox: queue.SimpleQueue[Work | Warm] = queue.SimpleQueue()
        self._cold: deque[ModelUse] = deque()
        self._predictors = Predictors()
        self._complaint = ""

    def serve(self) -> None:
        """Work until the server closes the channel; does not return."""
        threading.Thread(target=self._listen, name="listen", daemon=True).start()
        try:
            _import_everything()
        except ImportError as error:
            # Canned predictions need no inference packages.
            self._complaint = f"The worker cannot run models: {type(error).__name__}: {error}"
            log.warning(self._complaint)
        self.say(Ready())
        while True:
            self._work(self._next())

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
                self._warm(self._cold.popleft())
                continue
            if isinstance(message, Work):
                return message
            self._cold.extend(message.models)

    def _warm(self, model: ModelUse) -> None:
        try:
            warmed = Warmed(model, provider=self._open(model).provider)
        except (ModelUnusable, _Unfit) as error:
            log.debug("Not warmed up: %s", error)
            warmed = Warmed(model, problem=str(error))
        self.say(warmed)

    def _work(self, work: Work) -> None:
        shard = work.shard
        try:
            predictor, progress = self._open(shard.model, shard.model_digest), _Progress(self, work)
            for outcome in run(shard, predictor, progress):
                self._misbehave(shard, outcome)
                self.say(outcome)
            batches, (frames, _) = batches_of(shard, predictor), progress.frames
            self.say(Finished(predictor.provider, shard.model, batches, frames, progress.decoding))
        except _Unfit as error:
            self.say(Refused(errors.Internal.code, str(error)))
        except ModelUnusable as error:
            self.say(Refused(errors.FailedPrecondition.code, str(error)))
        except StorageUnavailable as error:
            self.say(Refused(storage_code(error), str(error)))
        except Exception as error:
            log.exception("%s: the worker failed.", shard.job)
            cause = f"{type(error).__name__}: {error}"
            message = f"The worker failed with {cause}. This is a defect; see the server's log."
            self.say(Refused(errors.Internal.code, message))

    def _open(self, model: ModelUse, digest: str = "") -> Model:
        if self._complaint and not load_manifest(model.folder).is_canned:
            raise _Unfit(self._complaint)
        return self._predictors.get(model, digest)

    def _misbehave(self, shard: Shard, outcome: Outcome) -> None:
        """Crash or hang just before this instance's outcome, if an injected fault says so."""
        for fault in shard.faults:
            if outcome.instance != fault.instance - 1 or shard.attempt > fault.attempts:
                continue
            if fault.kind not in ("kill-worker", "hang-worker"):
                continue
            if fault.plan is not None:
                self.say(Fired(fault.plan))
            if fault.kind == "kill-worker":
                os.kill(os.getpid(), signal.SIGSEGV)
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


def _import_everything() -> None:
    if missing_packages():
        return  # canned models work; a job of another model names what is missing
    import cv2

    import emulator.inference.video

    load_all()
    # Pictures are small, and many threads already process them in parallel.
    cv2.setNumThreads(1)
    emulator.inference.video.quiet_decoder()


if __name__ == "__main__":
    main()
