"""Finds the test that a thread works for: the test that started it, or that gave a pool its current work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

_BEFORE = -1


class Threads:
    """Tells the threads of the present test from those of earlier ones."""

    def __init__(self) -> None:
        self._test = _BEFORE
        self._begun_in: WeakKeyDictionary[threading.Thread, int] = WeakKeyDictionary()
        self._work = threading.local()

    def begin_test(self) -> None:
        """Begin a test in this thread. All other threads that exist belong to earlier tests."""
        for thread in threading.enumerate():
            self._begun_in.setdefault(thread, _BEFORE)
        self._test += 1
        for thread in (threading.main_thread(), threading.current_thread()):
            self._begun_in.pop(thread, None)

    def is_of_this_test(self) -> bool:
        """Whether the calling thread works for the present test."""
        return self._mine() == self._test

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Follow the start of threads, and the work that pools get, as long as the context lasts."""
        start, submit = threading.Thread.start, ThreadPoolExecutor.submit

        def watched_start(thread: threading.Thread) -> None:
            self._begun_in[thread] = self._mine()
            start(thread)

        def watched_submit(pool: ThreadPoolExecutor, call: Any, /, *arguments: Any, **options: Any) -> Any:
            return submit(pool, partial(self._do, self._mine(), call), *arguments, **options)

        threading.Thread.start = watched_start  # type: ignore
        ThreadPoolExecutor.submit = watched_submit  # type: ignore
        try:
            yield
        finally:
            threading.Thread.start = start  # type: ignore
            ThreadPoolExecutor.submit = submit  # type: ignore

    def _mine(self) -> int:
        """The test that the calling thread works for."""
        working: int | None = getattr(self._work, "test", None)
        return self._begun_in.get(threading.current_thread(), self._test) if working is None else working

    def _do(self, test: int, call: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
        before = getattr(self._work, "test", None)
        self._work.test = test
        try:
            return call(*arguments, **options)
        finally:
            self._work.test = before
