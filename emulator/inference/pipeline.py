"""Runs a slow step on several threads between a decoder and a consumer, in order and with bounded memory.

One thread pulls items from the source. `threads` threads work on them, one or a batch at a time. The consumer
gets the results in the source's order. numpy, OpenCV and onnxruntime release the GIL, so threads are enough.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from types import TracebackType
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

#: Seconds after which a waiting consumer checks for cancellation, and takes the results there are.
POLL_S = 0.05
#: The consumer is woken only for this many results: each wake-up costs a context switch and cold caches, as
#: the decoder has evicted its code and data.
WORTH_WAKING = 4


def core_count() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Pipeline(Generic[T, R]):
    """`with Pipeline(source, work, threads=2) as results: for result in results: …`

    `work` gets `batch` items at a time, fewer only at the end, and returns as many results. Which items are
    together depends only on their numbers. If a batch fails, its items are tried one by one.

    At most `depth` items exist between source and consumer. An exception of the source or the work is raised
    in the consumer, after the results before it. A result waits for others, but not longer than POLL_S.
    Leaving the block calls `interrupt`, which lets a source that is busy between two items give up, and then
    stops and joins every thread. The iteration ends early when `cancelled()` returns true.
    """

    def __init__(
        self,
        source: Generator[T, None, None],
        work: Callable[[Sequence[T]], Sequence[R]],
        *,
        threads: int,
        batch: int = 1,
        depth: int | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        interrupt: Callable[[], None] = lambda: None,
    ) -> None:
        self._source, self._work = source, work
        self._cancelled, self._interrupt = cancelled, interrupt
        self._batch = batch
        # A batch for each thread, and as much again for items that are being read or consumed meanwhile.
        self._depth = max(batch, depth or (threads + 6 + WORTH_WAKING if batch == 1 else 2 * threads * batch))
        # One condition for each kind of waiting thread, so that none is woken for another's event.
        self._lock = threading.Lock()
        self._room, self._work_there, self._ripe = (threading.Condition(self._lock) for _ in range(3))
        self._waiting: deque[tuple[int, T]] = deque()
        self._done: dict[int, R | BaseException] = {}
        # Numbers of items: read; finished without a gap from the first on; of these, those that the consumer
        # has used up; and those that it holds.
        self._read = self._ready = self._consumed = self._taken = 0
        self._exhausted = self._stopped = False
        self._threads = [threading.Thread(target=self._pull, name="decode", daemon=True)]
        for number in range(threads):
            self._threads.append(threading.Thread(target=self._serve, name=f"infer-{number}", daemon=True))

    def __enter__(self) -> Iterator[R]:
        for thread in self._threads:
            thread.start()
        return self._results()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._interrupt()
        with self._lock:
            self._stopped = True
            self._room.notify()
            self._work_there.notify_all()
        for thread in self._threads:
            thread.join()

    def _results(self) -> Iterator[R]:
        while results := self._take():
            for result in results:
                if isinstance(result, BaseException):
                    raise result
                if self._cancelled():
                    return
                yield result

    def _take(self) -> list[R | BaseException]:
        """Wait for the next results; none at the end or if cancelled. Counts the previous ones as used up."""
        with self._lock:
            self._consumed += self._taken
            self._taken = 0
            self._room.notify()
            while not self._worth_waking():
                woken = self._ripe.wait(POLL_S)
                if self._cancelled():
                    return []
                if not woken and self._ready > self._consumed:
                    break
            self._taken = self._ready - self._consumed
            return [self._done.pop(position) for position in range(self._consumed, self._ready)]

    def _worth_waking(self) -> bool:
        over = self._exhausted and self._ready == self._read
        return over or self._ready - self._consumed >= min(WORTH_WAKING, self._depth)

    def _pull(self) -> None:
        try:
            with closing(self._source):
                for item in self._source:
                    if not self._offer(item):
                        break
        except BaseException as error:
            with self._lock:
                self._read += 1
                self._finish(self._read - 1, error)
        finally:
            with self._lock:
                self._exhausted = True
                self._work_there.notify_all()
                self._ripe.notify()

    def _offer(self, item: T) -> bool:
        with self._lock:
            while self._read - self._consumed >= self._depth and not self._stopped:
                self._room.wait()
            if self._stopped:
                return False
            self._waiting.append((self._read, item))
            self._read += 1
            if len(self._waiting) >= self._batch:
                self._work_there.notify()
            return True

    def _serve(self) -> None:
        while batch := self._next_batch():
            results = self._results_of([item for _, item in batch])
            with self._lock:
                for (position, _), result in zip(batch, results, strict=True):
                    self._finish(position, result)

    def _next_batch(self) -> list[tuple[int, T]]:
        """Wait for a whole batch, or for the rest at the end; empty if there is no more."""
        with self._lock:
            while len(self._waiting) < self._batch and not self._exhausted and not self._stopped:
                self._work_there.wait()
            count = 0 if self._stopped else min(self._batch, len(self._waiting))
            return [self._waiting.popleft() for _ in range(count)]

    def _results_of(self, items: Sequence[T]) -> Sequence[R | BaseException]:
        try:
            return self._work(items)
        except BaseException as error:
            if len(items) == 1:
                return [error]
            single = [result for item in items for result in self._results_of([item])]
            if not any(isinstance(result, BaseException) for result in single):
                # The batch size was the cause: a GPU may lack the memory for it, or the graph refuses it.
                log.warning("Goes on one by one, as a batch of %d failed: %s", len(items), error)
                with self._lock:
                    self._batch = 1
                    self._work_there.notify_all()
            return single

    def _finish(self, position: int, result: R | BaseException) -> None:
        self._done[position] = result
        while self._ready in self._done:
            self._ready += 1
        if self._worth_waking():
            self._ripe.notify()
