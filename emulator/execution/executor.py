"""The contract of an executor: what runs shards, and what it says about them.

The runner of a job opens a queue of tasks. The executor builds the shard of a task once a worker is free,
has it predicted, and delivers events. It knows nothing of jobs, rows or retries: the caller decides what
follows an event. All executors share `queues.py`, `workbench.py` and `ModelStates`. docs/adding.md says how
to write another one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from emulator.execution.shards import Failed, ModelUse, Outcome, Predicted, Shard
from emulator.inference.decoding import Decoding

log = logging.getLogger(__name__)

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


@dataclass(frozen=True)
class Alive:
    """Heartbeat of a shard: frames of its video sampled so far, of how many.

    `of` is None if the video does not state its length.
    """

    frames: int = 0
    of: int | None = None


@dataclass(frozen=True)
class Fired:
    """An injected fault is about to fire in the worker; `plan` is the fault's number."""

    plan: int


@dataclass(frozen=True)
class Finished:
    """The shard is done: each of its instances has an outcome. A cancelled shard ends so, too.

    Attributes:
        provider: the execution provider that ran the model.
        model: the model that ran.
        batches: how the batch size that the job asks for was applied, in words; "" if it asks for none.
        frames: number of sampled frames.
        decoding: how the video was decoded, if it was.
    """

    provider: str
    model: ModelUse
    batches: str = ""
    frames: int = 0
    decoding: Decoding | None = None


@dataclass(frozen=True)
class Refused:
    """The shard cannot be run anywhere, which fails the whole job: a google.rpc code and a message."""

    code: int
    message: str


@dataclass(frozen=True)
class Died:
    """The worker died or was ended during the shard. `cause` says how: "was killed by signal 9 (SIGKILL)"."""

    cause: str


Event = Predicted | Failed | Fired | Alive | Finished | Refused | Died
Ending = Finished | Refused | Died
Said = Outcome | Fired | Alive | Finished | Refused
"""What a worker itself says of a shard; only the executor can tell that it has died."""


@dataclass(frozen=True)
class Warmed:
    """A model is loaded on `provider`, or cannot be loaded: `problem` is the reason."""

    model: ModelUse
    provider: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Status:
    """The state of an executor at one moment.

    Attributes:
        ready: number of workers that are up, busy ones included.
        is_warm: a worker is up, and the loading of every model of `warm` has been tried.
        problems: by model folder, why the model could not be loaded at the last attempt. A model that has
            been loaded since is not in it.
        providers: by model folder, the execution provider that the model was last loaded on.
        points_recalled: grid points whose result came from the prediction cache, since the start.
        points_computed: grid points of the same videos whose result was computed.
        process_ids: of the workers that are up and have a process of their own on this machine.
    """

    ready: int = 0
    is_warm: bool = False
    problems: Mapping[Path, str] = field(default_factory=dict)
    providers: Mapping[Path, str] = field(default_factory=dict)
    points_recalled: int = 0
    points_computed: int = 0
    process_ids: tuple[int, ...] = ()


class JobQueue(Protocol[T_contra]):
    """One job's queue of tasks. Its methods are thread-safe."""

    def add(self, tasks: Sequence[T_contra]) -> None:
        """Append tasks. They are begun in this order, but may end in another. Returns at once.

        A closed queue ignores them, and so does an executor that has been stopped.
        """

    def close(self) -> None:
        """Drop waiting tasks and cancel running ones. After the return, no event is delivered.

        Returns at once: a worker may still be busy with a cancelled shard for a moment. A second call does
        nothing. `deliver` may call it.
        """


class Executor(Protocol):
    """Runs shards in workers. All executors pass `tests/execution/test_executor_contract.py`.

    An executor has a fixed number of *slots*; each holds one worker, which has one shard at a time. The
    constructor starts nothing. It takes the number of slots, `timeout_s`, and `warm`: the models to load
    right after the start, before any job needs them. All methods are thread-safe, apart from `start` and
    `stop`, which one thread calls once each.

    Fairness: a free slot gets the first task of the job with the fewest running shards; among equals, of the
    job that has waited longest. `queues.Queues` decides that for every executor.
    """

    def start(self) -> None:
        """Start the workers, in the background. Returns at once and never raises.

        Queues may be opened and filled before.
        """

    def stop(self) -> None:
        """Drop all tasks and end every worker, busy ones too.

        Delivers no event after its return. Queues that are open or are opened later get nothing. Without a
        `start` before, it does nothing.
        """

    def open_queue(
        self, build: Callable[[T], Shard], deliver: Callable[[T | None, Event], None]
    ) -> JobQueue[T]:
        """Open a queue for a job. The caller closes it.

        `build` makes the shard of a task once a worker is free for it, so waiting tasks stay small. It is
        called once for each task that is begun. If it raises, the task ends with `Refused` (INTERNAL), and
        the executor goes on.

        `deliver` gets a task and what happened to it:

        - `Predicted` or `Failed` for each instance of the shard as soon as it is known, at most one each;
          between them, any number of `Alive`, and `Fired` before an injected fault acts in the worker;
        - then exactly one of
          `Finished`: every instance has its outcome;
          `Refused`: the model cannot be run, the storage is not available, or the shard could not be built;
          `Died`: the worker was lost. Outcomes delivered before stand. The executor replaces the worker
          and does not try the task again.
        - then nothing more, even if a worker that counts as lost still speaks.

        A task no longer counts as running when its ending is delivered. With None for the task comes a
        `Refused` that concerns the whole job: no worker can be started at present.

        Both are called from threads of the executor. Events of one queue are delivered one at a time. Both
        must return soon: a worker waits for them. `deliver` must not raise.
        """

    def status(self) -> Status:
        """Take stock now: nothing is remembered from the last call. Cheap, and never waits for a worker."""

    def wait_until_warm(self) -> bool:
        """Wait until `Status.is_warm`; False if the executor is stopped first. There is no timeout."""

    def reload(self, model: ModelUse) -> bool:
        """Have a worker load a model whose files have changed. Returns at once.

        `Status.problems` and `providers` follow when the load has ended. A running shard is not disturbed;
        one that starts later sees changed files anyway.

        Returns:
            False if no worker is up, so that the caller tries again.
        """


class ModelStates:
    """What workers have said about models and the prediction cache; `status` is made of it. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._problems: dict[Path, str] = {}
        self._providers: dict[Path, str] = {}
        self._recalled = self._points = 0

    def note(self, said: Warmed | Finished) -> None:
        """Remember whether a model can be loaded; the last word counts."""
        folder = said.model.folder
        with self._lock:
            if isinstance(said, Warmed) and said.problem:
                if self._problems.get(folder) != said.problem:
                    log.warning("The model in %s cannot be run: %s", folder, said.problem)
                self._problems[folder] = said.problem
            elif said.provider:
                self._problems.pop(folder, None)
                self._providers[folder] = said.provider
            if isinstance(said, Finished) and said.decoding is not None:
                self._recalled += said.decoding.kept
                self._points += said.decoding.of

    def status(self, *, ready: int, is_warm: bool, process_ids: Sequence[int] = ()) -> Status:
        """The status of an executor with these workers."""
        with self._lock:
            return Status(
                ready,
                is_warm,
                dict(self._problems),
                dict(self._providers),
                self._recalled,
                self._points - self._recalled,
                tuple(process_ids),
            )
