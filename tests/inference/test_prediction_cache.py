"""The folder of the prediction cache: whatever happens to it, a wrong content never comes out."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.inference.prediction_cache import CachePlace, PredictionCache, VideoDigests
from tests.conftest import TEST_CACHE

LIMIT = 10_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "predictions"


@pytest.fixture
def cache(folder: Path) -> PredictionCache:
    return PredictionCache(CachePlace(folder, LIMIT))


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_was_put_comes_back_in_another_process_too(cache: PredictionCache, folder: Path) -> None:
    assert cache.get("key") is None
    cache.put("key", b"content")
    cache.put("other", b"")
    assert cache.get("key") == b"content"
    again = PredictionCache(CachePlace(folder, LIMIT))
    assert (again.get("key"), again.get("other")) == (b"content", b"")


@pytest.mark.skipif(TEST_CACHE != "", reason="all places are elsewhere")
def test_a_place_lies_in_the_data_folder_unless_nothing_is_kept(tmp_path: Path) -> None:
    place = CachePlace.below(tmp_path, 3)
    assert place == CachePlace(tmp_path / "cache" / "predictions", 3_000_000, tmp_path / "gcs-cache")
    assert CachePlace.below(tmp_path, 0) is None


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: data[:0],
    "cut": lambda data: data[:-1],
    "cut in its head": lambda data: data[:20],
    "longer": lambda data: data + b"x",
    "a bit turned": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "foreign": lambda data: b"PK\x03\x04" + data,
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_spoilt_file_is_missing_is_told_once_and_is_made_anew(
    cache: PredictionCache, folder: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    cache.put("key", b"content")
    path = only_file(folder)
    path.write_bytes(SPOILT[kind](path.read_bytes()))
    assert cache.get("key") is None
    assert cache.get("key") is None
    (warning,) = warnings(caplog)
    assert str(path) in warning
    cache.put("key", b"content")
    assert cache.get("key") == b"content"


def test_a_file_under_the_name_of_another_is_missing(cache: PredictionCache, folder: Path) -> None:
    cache.put("key", b"content")
    path = only_file(folder)
    cache.put("other", b"other content")
    other = next(one for one in folder.iterdir() if one != path)
    shutil.copy(other, path)
    assert cache.get("key") is None
    assert cache.get("other") == b"other content"


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_what_is_no_file_is_missing_and_nobody_waits_for_it(
    cache: PredictionCache, folder: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    cache.put("key", b"content")
    path = only_file(folder)
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path)
    assert cache.get("key") is None
    assert len(warnings(caplog)) == 1


def test_the_least_recently_used_goes_first(cache: PredictionCache) -> None:
    cache.put("first", bytes(3000))
    cache.put("second", bytes(3000))
    assert cache.get("first") is not None
    cache.put("third", bytes(3000))
    cache.put("fourth", bytes(3000))
    present = [key for key in ("first", "second", "third", "fourth") if cache.get(key) is not None]
    assert present == ["first", "third", "fourth"]


def test_more_than_the_limit_is_not_kept_and_nothing_goes_for_it(
    cache: PredictionCache, caplog: pytest.LogCaptureFixture
) -> None:
    cache.put("small", b"content")
    cache.put("large", bytes(LIMIT))
    assert cache.get("large") is None
    assert cache.get("small") == b"content"
    (warning,) = warnings(caplog)
    assert "prediction_cache_mb" in warning


def test_foreign_files_are_left_alone_and_told_of_once(
    cache: PredictionCache, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir(parents=True)
    (folder / "sub").mkdir()
    for name in ("holiday.jpg", "0" * 63):
        (folder / name).write_bytes(bytes(2 * LIMIT))
    cache.put("key", b"content")
    cache.put("other", b"content")
    assert cache.get("key") == b"content"
    assert (folder / "holiday.jpg").stat().st_size == 2 * LIMIT
    assert (folder / "sub").is_dir()
    (warning,) = warnings(caplog)
    assert "left alone" in warning


def test_what_killed_processes_left_is_removed_after_a_while(cache: PredictionCache, folder: Path) -> None:
    folder.mkdir(parents=True)
    name = "a" * 64
    left, under_way = (folder / f"{name}.{mark * 16}.part" for mark in "01")
    for part in (left, under_way):
        part.write_bytes(b"half")
    os.utime(left, (time.time() - 3600,) * 2)
    cache.put("key", b"content")
    assert not left.exists()
    assert under_way.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_read(
    cache: PredictionCache, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.put("key", b"content")
    folder.chmod(0o500)
    try:
        cache.put("other", b"content")
        cache.put("third", b"content")
        assert cache.get("key") == b"content"
        assert cache.get("other") is None
    finally:
        folder.chmod(0o700)
    (warning,) = warnings(caplog)
    assert "make it writable" in warning


def test_a_folder_that_cannot_be_there_costs_words_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = PredictionCache(CachePlace(tmp_path / "file" / "predictions", LIMIT))
    cache.put("key", b"content")
    cache.put("key", b"content")
    assert cache.get("key") is None
    assert any("can be kept" in warning for warning in warnings(caplog))
    assert len(warnings(caplog)) <= 2


def test_a_full_disk_costs_words_only(
    cache: PredictionCache, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put("key", b"old")

    def full(path: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        cache.put("key", b"new")
        cache.put("key", b"new")
    assert cache.get("key") == b"old"
    assert only_file(folder)  # nothing half-written stays
    (warning,) = warnings(caplog)
    assert "no space left" in warning


def _put_and_get(folder: Path) -> None:
    cache = PredictionCache(CachePlace(folder, LIMIT))
    for turn in range(60):
        key = f"key {turn % 5}"
        content = cache.get(key)
        assert content is None or content == key.encode() * 400
        cache.put(key, key.encode() * 400)


def test_processes_that_share_a_folder_never_see_halves(folder: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_put_and_get, args=(folder,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sum(path.stat().st_size for path in folder.iterdir()) <= LIMIT


WRITER = """
import sys
from pathlib import Path
from emulator.inference.prediction_cache import CachePlace, PredictionCache
cache = PredictionCache(CachePlace(Path(sys.argv[1]), 10**9))
number = 0
while True:
    cache.put("key", str(number % 10).encode() * 3_000_000)
    number += 1
    if number == 2:
        print("writing", flush=True)
"""


def test_a_writer_killed_in_the_middle_leaves_a_whole_content(folder: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    content = PredictionCache(CachePlace(folder, 10**9)).get("key")
    assert content is not None
    assert content == content[:1] * 3_000_000


def test_a_video_is_read_again_only_when_it_has_changed(tmp_path: Path) -> None:
    reads: list[None] = []
    video = tmp_path / "a.mp4"
    video.write_bytes(b"one")
    os.utime(video, (1_000_000, 1_000_000))
    digests = VideoDigests()
    first = digests.get(video, lambda: reads.append(None))
    assert digests.get(video, lambda: reads.append(None)) == first
    assert len(reads) == 1
    video.write_bytes(b"two")  # as long as before
    os.utime(video, (2_000_000, 2_000_000))
    second = digests.get(video)
    assert second.digest != first.digest
    (tmp_path / "new").write_bytes(b"one")
    os.utime(tmp_path / "new", (2_000_000, 2_000_000))
    (tmp_path / "new").replace(video)  # as old and as long as before, but another file
    assert digests.get(video).digest == first.digest


def test_a_video_that_was_just_written_is_read_each_time(tmp_path: Path) -> None:
    """Within the file system's coarse clock a second change would not show."""
    video = tmp_path / "a.mp4"
    video.write_bytes(b"one")
    in_an_hour = (time.time() + 3600,) * 2
    os.utime(video, in_an_hour)
    digests = VideoDigests()
    first = digests.get(video)
    video.write_bytes(b"two")
    os.utime(video, in_an_hour)
    assert digests.get(video).digest != first.digest


def test_a_download_is_known_by_its_name_whenever_it_was_used(tmp_path: Path) -> None:
    digests = VideoDigests(tmp_path)
    path = tmp_path / "version.mp4"
    path.write_bytes(b"one")
    first = digests.get(path)
    os.utime(path, (1_000_000, 1_000_000))  # as each use does
    assert digests.get(path) == first
    assert digests.stamp(path) == first.stamp


def test_a_digest_ends_when_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"one")

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        VideoDigests().get(tmp_path / "a.mp4", stop)


def test_the_module_imports_no_numpy() -> None:
    code = "import sys, emulator.inference.prediction_cache; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
