"""The folder of downloaded videos: its size, and many processes at once."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from emulator.storage import StorageError
from emulator.storage.cache import FileCache

PROCESS = """
import sys, time
from pathlib import Path
from emulator.storage.cache import FileCache

folder, wait_s = Path(sys.argv[1]), float(sys.argv[2])

def fetch(file):
    with (folder.parent / "fetched").open("a") as log:
        log.write("x")
    time.sleep(wait_s)
    file.write(b"data")

print("ready", flush=True)
sys.stdin.readline()
with FileCache(folder, 1000).file("key", "a.mp4", 4, fetch, lambda: None) as path:
    print(path.read_text(), flush=True)
    sys.stdin.readline()
"""


def start_process(folder: Path, wait_s: float = 0.0) -> subprocess.Popen[str]:
    """A process that fetches or waits, shows what it got, and holds it until it reads a line."""
    command = [sys.executable, "-c", PROCESS, str(folder), str(wait_s)]
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=root
    )


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def writing(data: bytes) -> Callable[[BinaryIO], None]:
    def fetch(file: BinaryIO) -> None:
        file.write(data)

    return fetch


def never(_: BinaryIO) -> None:
    raise AssertionError("fetched again")


def use(cache: FileCache, key: str, size: int = 10, fetch: Callable[[BinaryIO], None] | None = None) -> None:
    with cache.file(key, f"{key}.mp4", size, fetch or writing(b"x" * size), lambda: None) as path:
        assert path.stat().st_size == size


def sizes(cache: FileCache) -> list[int]:
    return sorted(path.stat().st_size for path in cache.folder.iterdir() if path.name != ".lock")


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "cache", 35)


def test_file_is_fetched_once_and_keeps_its_ending(cache: FileCache) -> None:
    with cache.file("key", "folder.d/clip.mp4", 4, writing(b"data"), lambda: None) as path:
        assert path.read_bytes() == b"data"
        assert path.suffix == ".mp4"
    with cache.file("key", "folder.d/clip.mp4", 4, never, lambda: None) as again:
        assert again == path


@pytest.mark.parametrize(
    "name", ["clip", "folder.mp4/clip", "clip.", "clip.a b", "clip.part", "a.longer-than-a-suffix"]
)
def test_odd_endings_are_left_out(cache: FileCache, name: str) -> None:
    with cache.file("key", name, 4, writing(b"data"), lambda: None) as path:
        assert path.suffix == ""


def test_least_recently_used_goes_first(cache: FileCache) -> None:
    for key in ("a", "b", "c"):
        use(cache, key)
    use(cache, "a", fetch=never)
    use(cache, "d")
    for key in ("a", "c", "d"):
        use(cache, key, fetch=never)
    assert sizes(cache) == [10, 10, 10]
    with pytest.raises(AssertionError, match="fetched again"):
        use(cache, "b", fetch=never)


def test_file_in_use_stays(cache: FileCache) -> None:
    with cache.file("a", "a.mp4", 10, writing(b"a" * 10), lambda: None) as path:
        for key in ("b", "c", "d", "e"):
            use(cache, key)
        assert path.read_bytes() == b"a" * 10
        assert sum(sizes(cache)) <= cache.limit


def test_file_larger_than_the_whole_cache_works_and_goes(cache: FileCache) -> None:
    use(cache, "a")
    with cache.file("large", "large.mp4", 1000, writing(b"l" * 1000), lambda: None) as path:
        assert path.stat().st_size == 1000
        assert sizes(cache) == [1000]
    assert sizes(cache) == []


def test_cache_of_no_size_keeps_nothing(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "cache", 0)
    for _ in range(2):
        use(cache, "a")
        assert sizes(cache) == []


def test_failed_fetch_leaves_nothing(cache: FileCache) -> None:
    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise StorageError("the endpoint is gone")

    with pytest.raises(StorageError, match="the endpoint is gone"):
        use(cache, "a", fetch=fail)
    assert sizes(cache) == []
    use(cache, "a")


def test_wait_for_another_can_be_ended(cache: FileCache) -> None:
    class Stop(Exception):
        pass

    def check() -> None:
        raise Stop

    began, end = threading.Event(), threading.Event()

    def slowly(file: BinaryIO) -> None:
        began.set()
        end.wait(30)
        file.write(b"x" * 10)

    thread = threading.Thread(target=use, args=(cache, "a", 10, slowly))
    thread.start()
    began.wait(30)
    with pytest.raises(Stop), cache.file("a", "a.mp4", 10, never, check):
        pass
    end.set()
    thread.join()
    use(cache, "a", fetch=never)


def test_processes_share_one_download(tmp_path: Path) -> None:
    processes = [start_process(tmp_path / "cache", 0.3) for _ in range(3)]
    for process in processes:
        assert line_of(process) == "ready"
    for process in processes:
        go_on(process)
    # The others get it while the first still uses it.
    assert [line_of(process) for process in processes] == ["data"] * 3
    for process in processes:
        process.communicate("\n", timeout=30)
    assert (tmp_path / "fetched").read_text() == "x"


def test_killed_process_leaves_no_half_file_and_no_lock(tmp_path: Path) -> None:
    with start_process(tmp_path / "cache", 60) as process:
        assert line_of(process) == "ready"
        go_on(process)
        wait_for((tmp_path / "fetched").exists)
        process.kill()
    with start_process(tmp_path / "cache") as process:
        assert line_of(process) == "ready"
        go_on(process)
        assert line_of(process) == "data"
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / "fetched").read_text() == "xx"
    cache = FileCache(tmp_path / "cache", 0)
    use(cache, "another")
    assert sizes(cache) == [], "what nobody uses any more is evicted"


def test_many_threads_and_little_room(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "cache", 25)
    problems: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for turn in range(25):
                key = f"{(seed * 7 + turn) % 5}"
                with cache.file(key, "a.mp4", 10, writing(key.encode() * 10), lambda: None) as path:
                    assert path.read_bytes() == key.encode() * 10
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert sum(sizes(cache)) <= cache.limit


def test_unusable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/cache cannot be used.*data_dir"):
        use(FileCache(tmp_path / "file" / "cache", 100), "a")
