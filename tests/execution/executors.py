"""The executors that the contract suite runs over, and what a test does with one."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from emulator.execution.executor import Ending, Event, Executor, JobQueue
from emulator.execution.inline import InlineExecutor
from emulator.execution.processes import ProcessExecutor
from emulator.execution.shards import Failed, ModelUse, Predicted, Shard, ShardItem
from emulator.instructions.faults import JobFault
from emulator.storage import GcsUri, LocalStore, StorageUnavailable
from emulator.vertex.parameters import ModelParameters

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Kind:
    """An executor under test. `make` takes a size, `timeout_s` and `warm`.

    `kill` ends all workers from outside, where that is possible. `marks` are those of its tests.
    """

    name: str
    make: Callable[..., Executor]
    kill: Callable[[Executor], None] | None = None
    marks: Sequence[pytest.MarkDecorator] = ()


def _kill_processes(executor: Executor) -> None:
    for process in executor.status().process_ids:
        os.kill(process, signal.SIGKILL)


PROCESSES = Kind("processes", ProcessExecutor, _kill_processes)
INLINE = Kind("inline", InlineExecutor)
KINDS = (PROCESSES, INLINE)


def as_parameters(kinds: Iterable[Kind]) -> list[Any]:
    """The parameters of a test over these kinds."""
    return [pytest.param(kind, marks=kind.marks, id=kind.name) for kind in kinds]


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@dataclass
class Job:
    """A job as an executor sees it: its tasks are the names of shards. It keeps all that it hears."""

    executor: Executor
    shards: dict[str, Shard]
    heard: list[tuple[str | None, Event]] = field(default_factory=list)
    built: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self.queue: JobQueue[str] = self.executor.open_queue(self._build, self._deliver)

    def _build(self, task: str) -> Shard:
        self.built.append(task)
        return self.shards[task]

    def _deliver(self, task: str | None, event: Event) -> None:
        with self._changed:
            self.heard.append((task, event))
            self._changed.notify_all()

    def wait_for(self, holds: Callable[[], bool]) -> None:
        """Wait until what was heard makes a condition true."""
        with self._changed:
            assert self._changed.wait_for(holds, PATIENCE_S), self.heard

    def of(self, task: str) -> list[Event]:
        """All events of a task."""
        return [event for about, event in self.heard if about == task]

    def said(self, task: str, kind: type[Event]) -> bool:
        """Whether there was an event of that kind."""
        return any(isinstance(event, kind) for event in self.of(task))

    def ending(self, task: str) -> Event:
        """Wait for the task's ending; nothing has followed it."""
        self.wait_for(lambda: any(isinstance(event, Ending) for event in self.of(task)))
        assert [isinstance(event, Ending) for event in self.of(task)].index(True) == len(self.of(task)) - 1
        return self.of(task)[-1]

    def ended(self) -> list[str | None]:
        """The tasks in the order in which they ended."""
        return [task for task, event in self.heard if isinstance(event, Ending)]

    def run(self, *tasks: str) -> list[Event]:
        """Add tasks, wait until all have ended, and return their endings."""
        self.queue.add(tasks)
        return [self.ending(task) for task in tasks]

    def outcomes(self, task: str) -> list[Predicted | Failed]:
        """The outcomes of a task."""
        return [event for event in self.of(task) if isinstance(event, Predicted | Failed)]


@dataclass(frozen=True)
class Bench:
    """A place with a bucket and models, from which a test takes shards."""

    store: LocalStore
    model: Path

    def shard(
        self,
        video: str = "a.mp4",
        segments: Sequence[tuple[int, int | None]] = ((0, None),),
        *,
        model: ModelUse | None = None,
        fault: JobFault | None = None,
        attempt: int = 1,
        digest: str = "",
        store: LocalStore | None = None,
    ) -> Shard:
        """A shard with an instance for each segment (µs); its model is the tiny one."""
        return Shard(
            "job",
            model or ModelUse(self.model, "cpu", 1),
            GcsUri("bucket", video),
            store or self.store,
            tuple(
                ShardItem(number, f'{{"content":"gs://bucket/{video}"}}', *segment)
                for number, segment in enumerate(segments)
            ),
            ModelParameters(),
            attempt,
            (fault,) if fault else (),
            model_digest=digest,
        )

    def endless(self) -> Shard:
        """A shard that ends only if it is cancelled, or its worker is given up."""
        return self.shard(fault=JobFault("hang-worker", instance=1))


class GoneStore(LocalStore):
    """A store whose endpoint does not answer. In a module of its own, so that workers can unpickle it."""

    @contextmanager
    def local_path(self, uri: GcsUri) -> Iterator[Path]:
        raise StorageUnavailable(f"{uri}: the endpoint does not answer")

    def interruptible(self, check: Callable[[], None]) -> GoneStore:  # noqa: ARG002
        return self
