"""The pipeline: order, bounds, errors, cancelling, and no thread left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import pytest

from emulator.inference.pipeline import Pipeline

R = TypeVar("R")


@contextmanager
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def each(work: Callable[[int], R]) -> Callable[[Sequence[int]], list[R]]:
    return lambda items: [work(item) for item in items]


def numbers(count: int, pulled: list[int] | None = None) -> Generator[int, None, None]:
    for number in range(count):
        if pulled is not None:
            pulled.append(number)
        yield number


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_results_come_in_the_order_of_the_source(threads: int) -> None:
    def work(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number * 10

    with no_thread_left(), Pipeline(numbers(40), each(work), threads=threads) as results:
        assert list(results) == [number * 10 for number in range(40)]


def test_an_empty_source_has_no_results() -> None:
    with no_thread_left(), Pipeline(numbers(0), each(str), threads=2) as results:
        assert list(results) == []


def test_as_many_items_are_worked_on_as_there_are_threads() -> None:
    together = threading.Barrier(3, timeout=60)
    with Pipeline(numbers(6), each(lambda _: together.wait()), threads=3) as results:
        assert len(list(results)) == 6


def test_the_source_is_never_far_ahead_of_the_consumer() -> None:
    pulled: list[int] = []
    with no_thread_left(), Pipeline(numbers(1000, pulled), each(str), threads=2, depth=5) as results:
        for position, _ in zip(range(20), results, strict=False):
            time.sleep(0.002)
            # One item may be in the hands of the reading thread, which waits to hand it over.
            assert len(pulled) <= position + 1 + 5 + 1


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_fewer_items_than_are_worth_waking_the_consumer_do_not_wait_for_more(
    monkeypatch: pytest.MonkeyPatch, depth: int
) -> None:
    monkeypatch.setattr("emulator.inference.pipeline.POLL_S", 60.0)
    began = time.monotonic()
    with no_thread_left(), Pipeline(numbers(100), each(str), threads=2, depth=depth) as results:
        assert list(results) == [str(number) for number in range(100)]
    assert time.monotonic() - began < 60


def test_a_result_does_not_wait_for_the_next_one() -> None:
    go_on = threading.Event()

    def source() -> Generator[int, None, None]:
        yield 1
        go_on.wait(60)
        yield 2

    with no_thread_left(), Pipeline(source(), each(str), threads=2) as results:
        assert next(results) == "1"
        go_on.set()
        assert next(results) == "2"


def test_what_the_work_raises_comes_after_the_results_before_it() -> None:
    def work(number: int) -> int:
        if number == 7:
            raise RuntimeError("seven")
        return number

    seen: list[object] = []
    with (
        no_thread_left(),
        pytest.raises(RuntimeError, match="seven"),
        Pipeline(numbers(100), each(work), threads=3) as results,
    ):
        seen.extend(results)
    assert seen == list(range(7))


def test_a_source_that_is_busy_between_two_items_is_interrupted() -> None:
    """It would never come to its next item; neither a failure nor a consumer that leaves waits for that."""

    def source(interrupted: threading.Event) -> Generator[int, None, None]:
        yield 1
        interrupted.wait()

    def fail(number: int) -> int:
        raise RuntimeError(str(number))

    failing, leaving = threading.Event(), threading.Event()
    with (
        no_thread_left(),
        pytest.raises(RuntimeError, match="1"),
        Pipeline(source(failing), each(fail), threads=1, interrupt=failing.set) as results,
    ):
        next(results)
    with (
        no_thread_left(),
        Pipeline(source(leaving), each(str), threads=1, interrupt=leaving.set) as texts,
    ):
        assert next(texts) == "1"


def test_batches_are_cut_by_number_and_the_rest_goes_at_the_end() -> None:
    seen: list[tuple[int, ...]] = []

    def work(items: Sequence[int]) -> list[int]:
        seen.append(tuple(items))
        time.sleep(0.002 * (items[0] % 3))
        return [item * 10 for item in items]

    with no_thread_left(), Pipeline(numbers(42), work, threads=2, batch=8) as results:
        assert list(results) == [number * 10 for number in range(42)]
    assert sorted(seen) == [tuple(range(start, min(42, start + 8))) for start in range(0, 42, 8)]


@pytest.mark.parametrize("depth", [1, 8, 9, None])
def test_the_source_is_at_most_a_few_batches_ahead(depth: int | None) -> None:
    pulled: list[int] = []
    with (
        no_thread_left(),
        Pipeline(numbers(1000, pulled), list, threads=2, batch=8, depth=depth) as results,
    ):
        for position, _ in zip(range(50), results, strict=False):
            time.sleep(0.002)
            assert len(pulled) <= position + 1 + max(8, depth or 32) + 1


def test_a_batch_fails_for_one_item_and_the_others_are_not_lost() -> None:
    def work(items: Sequence[int]) -> list[int]:
        if 13 in items:
            raise RuntimeError("thirteen")
        return list(items)

    seen: list[int] = []
    with (
        no_thread_left(),
        pytest.raises(RuntimeError, match="thirteen"),
        Pipeline(numbers(100), work, threads=2, batch=8) as results,
    ):
        seen.extend(results)
    assert seen == list(range(13))


def test_after_a_batch_that_is_too_large_items_go_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    sizes: list[int] = []

    def work(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        if len(items) > 1:
            raise MemoryError("no room")
        return list(items)

    with no_thread_left(), Pipeline(numbers(40), work, threads=1, batch=8) as results:
        assert list(results) == list(range(40))
    assert sizes == [8] + [1] * 40
    assert "Goes on one by one, as a batch of 8 failed: no room" in caplog.text


def test_what_the_source_raises_in_a_batch_comes_after_the_results_before_it() -> None:
    def source() -> Generator[int, None, None]:
        yield from range(11)
        raise OSError("torn")

    seen: list[int] = []
    with (
        no_thread_left(),
        pytest.raises(OSError, match="torn"),
        Pipeline(source(), list, threads=2, batch=8) as results,
    ):
        seen.extend(results)
    assert seen == list(range(11))


def test_cancelling_ends_a_batch_that_never_gets_full() -> None:
    cancel, stuck = threading.Event(), threading.Event()

    def source() -> Generator[int, None, None]:
        yield 1
        cancel.set()
        stuck.wait(60)

    with Pipeline(
        source(), list, threads=2, batch=8, cancelled=cancel.is_set, interrupt=stuck.set
    ) as results:
        assert list(results) == []


def test_what_the_source_raises_comes_after_the_results_before_it() -> None:
    def source() -> Generator[int, None, None]:
        yield 1
        yield 2
        raise OSError("torn")

    seen: list[object] = []
    with (
        no_thread_left(),
        pytest.raises(OSError, match="torn"),
        Pipeline(source(), each(str), threads=2) as results,
    ):
        seen.extend(results)
    assert seen == ["1", "2"]


def test_the_source_is_closed_in_the_thread_that_read_it() -> None:
    threads = []

    def source() -> Generator[int, None, None]:
        try:
            while True:
                yield threading.get_ident()
        finally:
            threads.append(threading.get_ident())

    with no_thread_left(), Pipeline(source(), each(int), threads=1) as results:
        reader = next(results)
    assert threads == [reader]


def test_cancelling_ends_the_results_while_the_work_is_slow() -> None:
    cancel = threading.Event()

    def endless() -> Generator[int, None, None]:
        while True:
            yield 0

    def work(_: int) -> None:
        cancel.set()
        time.sleep(0.3)

    with Pipeline(endless(), each(work), threads=2, cancelled=cancel.is_set) as results:
        assert len(list(results)) <= 2


def test_cancelling_is_noticed_while_nothing_is_decoded() -> None:
    cancel, stuck = threading.Event(), threading.Event()

    def source() -> Generator[int, None, None]:
        yield 1
        stuck.wait(60)

    threading.Timer(0.1, cancel.set).start()
    began = time.monotonic()
    with Pipeline(source(), each(str), threads=1, cancelled=cancel.is_set) as results:
        assert list(results) == ["1"]
        assert time.monotonic() - began < 30
        stuck.set()
