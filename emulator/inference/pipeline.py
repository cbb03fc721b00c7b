"""Runs a slow step on several threads between a decoder and a consumer, in order and with bounded memory.

One thread pulls items from the source, `threads` threads work on them, and whoever iterates gets the
results in the source's order. numpy, OpenCV and onnxruntime release the GIL, so threads are enough.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

#: How often a consumer that waits asks whether it is cancelled.
POLL_S = 0.05


def core_count() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Pipeline(Generic[T, R]):
    """`with Pipeline(source, work, threads=2) as results: for result in results: …`

    At most `depth` items exist between source and consumer. What the source or the work raises is raised
    in the consumer after the results before it. Leaving the block stops and joins every thread; before that
    it calls `interrupt`, which lets a source that is busy between two items give up. `cancelled()` turning
    true ends the iteration early.
    """

    def __init__(
        self,
        source: Generator[T, None, None],
        work: Callable[[T], R],
        *,
        threads: int,
        depth: int | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        interrupt: Callable[[], None] = lambda: None,
    ) -> None:
        self._source, self._work = source, work
        self._cancelled, self._interrupt = cancelled, interrupt
        self._depth = depth or threads + 6
        self._state = threading.Condition()
        self._waiting: deque[tuple[int, T]] = deque()
        self._done: dict[int, R | BaseException] = {}
        self._read = self._yielded = 0
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
        with self._state:
            self._stopped = True
            self._state.notify_all()
        for thread in self._threads:
            thread.join()

    def _results(self) -> Iterator[R]:
        while True:
            with self._state:
                while self._yielded not in self._done:
                    if self._exhausted and self._yielded == self._read:
                        return
                    self._state.wait(POLL_S)
                    if self._cancelled():
                        return
                result = self._done.pop(self._yielded)
                self._yielded += 1
                self._state.notify_all()
            if isinstance(result, BaseException):
                raise result
            if self._cancelled():
                return
            yield result

    def _pull(self) -> None:
        try:
            with closing(self._source):
                for item in self._source:
                    if not self._offer(item):
                        break
        except BaseException as error:
            with self._state:
                self._done[self._read] = error
                self._read += 1
        finally:
            with self._state:
                self._exhausted = True
                self._state.notify_all()

    def _offer(self, item: T) -> bool:
        with self._state:
            while self._read - self._yielded >= self._depth and not self._stopped:
                self._state.wait()
            if self._stopped:
                return False
            self._waiting.append((self._read, item))
            self._read += 1
            self._state.notify_all()
            return True

    def _serve(self) -> None:
        while True:
            with self._state:
                while not self._waiting and not self._exhausted and not self._stopped:
                    self._state.wait()
                if self._stopped or not self._waiting:
                    return
                position, item = self._waiting.popleft()
            result: R | BaseException
            try:
                result = self._work(item)
            except BaseException as error:
                result = error
            del item
            with self._state:
                self._done[position] = result
                self._state.notify_all()
