"""Pictures for the console come from a process of their own: it starts late, ends early, and harms nobody."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Timer

import pytest

from emulator.execution.looker import Looker
from emulator.storage import GcsUri, LocalStore
from emulator.vertex.errors import DeadlineExceeded, Internal, InvalidArgument, NotFound
from tests.execution.workplace import write_video

VIDEO = GcsUri.parse("gs://bucket/a.mp4")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    write_video(tmp_path / "bucket" / "a.mp4")
    return LocalStore(tmp_path)


@pytest.fixture
def looker(store: LocalStore) -> Iterator[Looker]:
    looker = Looker(store, timeout_s=60)
    yield looker
    looker.close()


def test_process_starts_with_the_first_request_and_stays(looker: Looker) -> None:
    assert looker.process_id is None
    assert looker.facts(VIDEO).width == 64
    first = looker.process_id
    stills = looker.pictures(VIDEO, 0, 500_000, 32)
    assert [still.time_us for still in stills] == [0, 100_000, 200_000, 300_000, 400_000]
    assert looker.process_id == first not in (None, os.getpid())


def test_process_ends_when_nobody_asks(store: LocalStore) -> None:
    looker = Looker(store, idle_s=0.1, timeout_s=60)
    looker.facts(VIDEO)
    wait_until_gone(looker)
    assert looker.facts(VIDEO).height == 48
    looker.close()


def wait_until_gone(looker: Looker) -> None:
    deadline = time.monotonic() + 30
    while looker.process_id is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_request_that_takes_too_long_ends_the_process(store: LocalStore) -> None:
    looker = Looker(store, timeout_s=0)
    with pytest.raises(DeadlineExceeded, match=r"gs://bucket/a\.mp4: no pictures came within 0 s"):
        looker.facts(VIDEO)
    assert looker.process_id is None
    looker.close()


def test_process_that_dies_is_replaced(looker: Looker) -> None:
    looker.facts(VIDEO)
    first = looker.process_id
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    # Stopped, it cannot read the request before it dies.
    with pytest.raises(Internal, match="was killed by signal 9"):
        kill_while(looker, first)
    assert looker.facts(VIDEO).width == 64
    assert looker.process_id != first


def kill_while(looker: Looker, process: int) -> None:
    """Ask for a picture of a video whose process dies meanwhile."""
    timer = Timer(0.5, lambda: os.kill(process, signal.SIGKILL))
    timer.start()
    try:
        looker.facts(VIDEO)
    finally:
        timer.join()


def test_nothing_is_left_after_close(looker: Looker) -> None:
    looker.facts(VIDEO)
    process = looker.process_id
    assert process is not None
    looker.close()
    with suppress(ProcessLookupError):
        os.kill(process, 0)
        raise AssertionError("the process is still there")


def test_mistakes_have_words(looker: Looker, tmp_path: Path) -> None:
    (tmp_path / "bucket" / "text.mp4").write_text("no video")
    with pytest.raises(InvalidArgument, match="The file is not a video"):
        looker.facts(GcsUri.parse("gs://bucket/text.mp4"))
    with pytest.raises(NotFound, match=r"none\.mp4"):
        looker.pictures(GcsUri.parse("gs://bucket/none.mp4"), 0, 1, 32)
