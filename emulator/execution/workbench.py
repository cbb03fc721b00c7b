"""How a worker predicts a shard, whatever the worker is: a process, a thread, or an actor elsewhere.

A `Workbench` keeps the loaded models of one process. It turns whatever may happen into what `executor.py`
allows a worker to say.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import Protocol

from emulator.execution.executor import Alive, Finished, Fired, Refused, Said, Warmed
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
from emulator.inference.decoding import Decoding
from emulator.inference.manifest import ModelUnusable, load_manifest
from emulator.inference.objectives import load_all, missing_packages
from emulator.storage import StorageUnavailable
from emulator.vertex import errors

log = logging.getLogger(__name__)

_ALIVE_INTERVAL_S = 0.5


class PackagesUnusable(Exception):
    """The packages that models need are installed, but cannot be imported."""


class Station(Protocol):
    """Where one shard is worked on: what the workbench needs of the worker around it."""

    def say(self, said: Said) -> None:
        """Hand on what happened. Called from any thread."""

    def is_cancelled(self) -> bool:
        """Whether the shard is to end now. Called at every frame, and ten times a second."""

    def crash(self) -> None:
        """Carry out the injected fault `kill-worker`. Does not return, unless the shard is cancelled."""

    def hang(self) -> None:
        """Carry out the injected fault `hang-worker`. Does not return, unless the shard is cancelled."""


class Workbench:
    """The loaded models of one process. Thread-safe: several shards may be worked on at once."""

    def __init__(self, alive_interval_s: float = _ALIVE_INTERVAL_S) -> None:
        """Load nothing yet. `alive_interval_s`: the least time between two `Alive` of a shard."""
        self._alive_interval_s = alive_interval_s
        self._predictors = Predictors()
        self._complaint = ""

    def prepare(self) -> None:
        """Import the packages that models need, if they are installed. Never raises."""
        try:
            _import_everything()
        except ImportError as error:
            # Canned predictions need no inference packages.
            self._complaint = f"The worker cannot run models: {type(error).__name__}: {error}"
            log.warning(self._complaint)

    def open(self, model: ModelUse, digest: str = "") -> Model:
        """The loaded model, see Predictors.get.

        Raises:
            ModelUnusable, PackagesUnusable
        """
        if self._complaint and not load_manifest(model.folder).is_canned:
            raise PackagesUnusable(self._complaint)
        return self._predictors.get(model, digest)

    def warm(self, model: ModelUse) -> Warmed:
        """Load a model; the answer says whether it can be."""
        try:
            return Warmed(model, provider=self.open(model).provider)
        except (ModelUnusable, PackagesUnusable) as error:
            log.debug("Not warmed up: %s", error)
            return Warmed(model, problem=str(error))

    def work(self, shard: Shard, station: Station) -> None:
        """Predict a shard and say what happens; the last word is `Finished` or `Refused`.

        Raises only what `station` raises and is no Exception.
        """
        try:
            station.say(self._predict(shard, station))
        except PackagesUnusable as error:
            station.say(Refused(errors.Internal.code, str(error)))
        except ModelUnusable as error:
            station.say(Refused(errors.FailedPrecondition.code, str(error)))
        except StorageUnavailable as error:
            station.say(Refused(storage_code(error), str(error)))
        except Exception as error:
            log.exception("%s: the worker failed.", shard.job)
            cause = f"{type(error).__name__}: {error}"
            message = f"The worker failed with {cause}. This is a defect; see the server's log."
            station.say(Refused(errors.Internal.code, message))

    def _predict(self, shard: Shard, station: Station) -> Finished:
        predictor = self.open(shard.model, shard.model_digest)
        progress = _Progress(shard, station, self._alive_interval_s)
        with contextlib.closing(run(shard, predictor, progress)) as outcomes:
            for outcome in outcomes:
                _misbehave(shard, outcome, station)
                station.say(outcome)
        frames, _ = progress.frames
        return Finished(
            predictor.provider, shard.model, batches_of(shard, predictor), frames, progress.decoding
        )


class _Progress:
    """The progress of one shard: reports it, and checks for cancellation."""

    def __init__(self, shard: Shard, station: Station, alive_interval_s: float) -> None:
        self._station = station
        self._slow = [fault for fault in shard.faults if fault.kind == "slow-model"]
        self._interval_s = alive_interval_s
        #: Sampled frames, and the number to sample (None if unknown).
        self.frames: tuple[int, int | None] = (0, None)
        # Guarded, because the decoding thread calls `alive` too.
        self._said_at = 0.0
        self._lock = threading.Lock()
        self.decoding: Decoding | None = None

    def cancelled(self) -> bool:
        return self._station.is_cancelled()

    def advance(self, time_us: int) -> None:  # noqa: ARG002
        for fault in self._slow:
            time.sleep(fault.delay_s)
        self.alive()

    def sampled(self, done: int, total: int | None) -> None:
        self.frames = (done, total)
        self.alive()

    def alive(self) -> None:
        with self._lock:
            now = time.monotonic()
            if now - self._said_at < self._interval_s:
                return
            self._said_at = now
        self._station.say(Alive(*self.frames))

    def decoded(self, decoding: Decoding) -> None:
        self.decoding = decoding


def _misbehave(shard: Shard, outcome: Outcome, station: Station) -> None:
    """Crash or hang just before this instance's outcome, if an injected fault says so."""
    for fault in shard.faults:
        if outcome.instance != fault.instance - 1 or shard.attempt > fault.attempts:
            continue
        if fault.kind not in ("kill-worker", "hang-worker"):
            continue
        if fault.plan is not None:
            station.say(Fired(fault.plan))
        if fault.kind == "kill-worker":
            station.crash()
        else:
            station.hang()


def _import_everything() -> None:
    if missing_packages():
        return  # canned models work; a job of another model names what is missing
    import cv2

    import emulator.inference.video

    load_all()
    # Pictures are small, and many threads already process them in parallel.
    cv2.setNumThreads(1)
    emulator.inference.video.quiet_decoder()
