"""What is particular to the folder: traversal, links, folders in the way, full disks."""

import os
import random
import resource
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from emulator.storage import GcsUri, InvalidUri, LocalStore, ObjectNotFound, StorageError

NO_NAMES = ["", ".", "..", ".well-known/acme-challenge/a", "a\nb", "a\0b", "x" * 1025]
# What a folder cannot hold, or not beside the others.
ODD_NAMES = [
    "../secret",
    "../../etc/passwd",
    "a/../../secret",
    "./a",
    "a/./b",
    "a//b",
    "//",
    "/etc/passwd",
    "a/",
    "a",
    "a/b",
    "a/b/c",
    "folder/",
    "\u00e9" * 128,
    "x" * 256,
    "x" * 1024,
    ".vbe-tmp/a",
    ".vbe-names/61.o",
]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "root" / "bucket").mkdir(parents=True)
    return LocalStore(tmp_path / "root")


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def write(store: LocalStore, name: str, data: bytes = b"x") -> None:
    with store.write(GcsUri("bucket", name)) as file:
        file.write(data)


@pytest.mark.parametrize("name", NO_NAMES)
def test_name_that_no_object_can_have_is_refused(store: LocalStore, name: str) -> None:
    uri = GcsUri("bucket", name)
    with pytest.raises((InvalidUri, ObjectNotFound)):
        store.open_read(uri)
    with pytest.raises((InvalidUri, ObjectNotFound)):
        store.delete(uri)
    with pytest.raises(InvalidUri):
        write(store, name)
    assert files_below(store.root) == []


@pytest.mark.parametrize("name", ODD_NAMES)
def test_name_that_no_folder_can_hold_is_kept_beside_it(store: LocalStore, name: str) -> None:
    uri = GcsUri("bucket", name)
    before = {path: path.read_bytes() for path in files_below(store.root.parent)}
    with pytest.raises(ObjectNotFound, match="does not exist"):
        store.open_read(uri)
    write(store, name, b"data")
    with store.open_read(uri) as file, store.local_path(uri) as path:
        assert (file.read(), path.read_bytes()) == (b"data", b"data")
        assert path.resolve().is_relative_to(store.root.resolve() / "bucket")
    assert [(info.uri, info.size) for info in store.list("bucket")] == [(uri, 4)]
    assert [info.uri for info in store.list("bucket", name[:-1])] == [uri]
    store.check_writable(GcsUri("bucket", f"{name[:900]}/"))
    store.delete(uri)
    assert {path: path.read_bytes() for path in files_below(store.root.parent)} == before
    assert list(store.list("bucket")) == []


@pytest.mark.parametrize("seed", range(4))
def test_odd_names_stand_side_by_side_in_order(store: LocalStore, seed: int) -> None:
    names = [*ODD_NAMES, "b/c", "x" * 99, "x" * 100, "x" * 101, "x" * 200]
    random.Random(seed).shuffle(names)
    for name in names:
        write(store, name, name.encode())
    in_order = sorted(names, key=str.encode)
    assert [info.uri.object for info in store.list("bucket")] == in_order
    for name in names:
        with store.open_read(GcsUri("bucket", name)) as file:
            assert file.read() == name.encode()
        assert [info.uri.object for info in store.list("bucket", start=name)] == in_order[
            in_order.index(name) :
        ]
        assert [info.uri.object for info in store.list("bucket", name)] == [
            other for other in in_order if other.startswith(name)
        ]
    for name in names:
        store.delete(GcsUri("bucket", name))
        in_order.remove(name)
        assert [info.uri.object for info in store.list("bucket")] == in_order
    assert files_below(store.root) == []


def test_name_that_is_free_again_comes_back_into_the_folder(store: LocalStore) -> None:
    write(store, "a/b", b"inside")
    write(store, "a", b"aside")
    store.delete(GcsUri("bucket", "a/b"))
    write(store, "a", b"new")
    assert (store.root / "bucket" / "a").read_bytes() == b"new"
    assert files_below(store.root) == [store.root / "bucket" / "a"]


def test_file_put_into_the_folder_comes_before_one_aside(store: LocalStore) -> None:
    write(store, "a", b"file")
    write(store, "a/b", b"aside")
    (store.root / "bucket" / "a").unlink()
    (store.root / "bucket" / "a").mkdir()
    (store.root / "bucket" / "a" / "b").write_bytes(b"by hand")
    with store.open_read(GcsUri("bucket", "a/b")) as file:
        assert file.read() == b"by hand"
    assert [info.uri.object for info in store.list("bucket")] == ["a/b"]
    store.delete(GcsUri("bucket", "a/b"))
    assert list(store.list("bucket")) == []


def test_markers_of_folders_match_no_wildcard(store: LocalStore) -> None:
    write(store, "in/", b"")
    write(store, "in/a.jsonl")
    assert [info.uri.object for info in store.glob(GcsUri("bucket", "in/**"))] == ["in/a.jsonl"]


def test_writers_of_a_name_and_of_one_below_it_both_succeed(store: LocalStore) -> None:
    for _ in range(20):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: write(store, name, name.encode()), ("a", "a/b", "a/b/c", "a")))
        assert [info.uri.object for info in store.list("bucket")] == ["a", "a/b", "a/b/c"]
        for name in ("a", "a/b", "a/b/c"):
            store.delete(GcsUri("bucket", name))


def test_link_in_the_place_of_names_aside_is_not_followed(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (store.root / "bucket" / ".vbe-names").symlink_to(tmp_path / "outside")
    with pytest.raises(InvalidUri, match="symbolic link"):
        write(store, "a/")
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("link", ["file", "folder", "dangling"])
def test_link_that_leaves_the_root_is_refused(store: LocalStore, tmp_path: Path, link: str) -> None:
    bucket = store.root / "bucket"
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a").write_text("secret")
    (bucket / "file").symlink_to(tmp_path / "secret")
    (bucket / "folder").symlink_to(tmp_path / "outside")
    (bucket / "dangling").symlink_to(tmp_path / "new")
    name = "folder/a" if link == "folder" else link
    with pytest.raises(InvalidUri, match="symbolic link"):
        store.open_read(GcsUri("bucket", name))
    with pytest.raises(InvalidUri, match="symbolic link"):
        write(store, name)
    assert list(store.list("bucket")) == []
    assert not (tmp_path / "new").exists()


def test_link_within_the_root_is_followed_without_looping(store: LocalStore) -> None:
    write(store, "videos/a", b"data")
    (store.root / "bucket" / "alias").symlink_to("videos/a")
    (store.root / "bucket" / "videos" / "up").symlink_to("..")
    with store.open_read(GcsUri("bucket", "alias")) as file:
        assert file.read() == b"data"
    assert [info.uri.object for info in store.list("bucket")] == ["alias", "videos/a"]


@pytest.mark.parametrize("target", ["odd", "x" * 300, "nothing"], ids=["loop", "long name", "nothing"])
def test_link_that_leads_nowhere_is_no_object_and_hides_none(store: LocalStore, target: str) -> None:
    write(store, "a")
    (store.root / "bucket" / "odd").symlink_to(target)
    assert [info.uri.object for info in store.list("bucket")] == ["a"]
    assert list(store.list("bucket", "odd/")) == []
    assert [info.uri.object for info in store.glob(GcsUri("bucket", "*"))] == ["a"]
    for name in ("odd", "odd/b"):
        with pytest.raises(ObjectNotFound, match="does not exist"):
            store.open_read(GcsUri("bucket", name))
    for name in ("odd/b", "odd/b/c"):
        with pytest.raises(StorageError, match=r"odd/.* cannot be written"):
            write(store, name)


def test_folders_deeper_than_any_name_are_passed_over(store: LocalStore) -> None:
    write(store, "/".join(["d"] * 500))
    deepest = store.root.joinpath("bucket", *["e"] * 600)
    deepest.mkdir(parents=True)
    (deepest / "file").touch()
    assert [info.uri.object.count("/") for info in store.list("bucket")] == [499]


def test_file_dropped_in_by_hand_is_an_object(store: LocalStore) -> None:
    (store.root / "bucket" / "dropped.mp4").write_bytes(b"data")
    assert [(info.uri.object, info.size) for info in store.list("bucket")] == [("dropped.mp4", 4)]


def test_folder_is_not_an_object(store: LocalStore) -> None:
    write(store, "folder/a")
    with pytest.raises(ObjectNotFound, match=r"is a folder.*folder/\*"):
        store.open_read(GcsUri("bucket", "folder"))


def test_object_is_not_a_folder(store: LocalStore) -> None:
    write(store, "a")
    with pytest.raises(ObjectNotFound):
        store.open_read(GcsUri("bucket", "a/b"))
    store.check_writable(GcsUri("bucket", "a/b/"))


def test_pipe_is_not_an_object_and_does_not_hang(store: LocalStore) -> None:
    os.mkfifo(store.root / "bucket" / "pipe")
    with pytest.raises(ObjectNotFound, match="not a regular file"):
        store.open_read(GcsUri("bucket", "pipe"))
    assert list(store.list("bucket")) == []


def test_names_that_are_no_object_names_are_not_listed(store: LocalStore) -> None:
    (store.root / "bucket" / "line\nbreak").write_text("x")
    Path(os.fsdecode(os.fsencode(store.root / "bucket") + b"/\xff")).touch()
    assert list(store.list("bucket")) == []


def test_missing_root_and_bucket_are_created_by_a_write(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "not" / "yet")
    store.check_writable(GcsUri.parse_prefix("gs://bucket/out"))
    write(store, "out/a")
    assert (tmp_path / "not" / "yet" / "bucket" / "out" / "a").read_bytes() == b"x"


def test_leftovers_of_killed_writers_are_removed_when_old(store: LocalStore) -> None:
    folder = store.root / "bucket" / ".vbe-tmp"
    folder.mkdir()
    (folder / "old").write_text("x")
    (folder / "young").write_text("x")
    os.utime(folder / "old", (1, 1))
    store.remove_leftovers()
    assert [path.name for path in folder.iterdir()] == ["young"]
    assert list(store.list("bucket")) == []


def test_concurrent_writes_and_deletes_do_not_disturb_each_other(store: LocalStore) -> None:
    failures: list[BaseException] = []

    def churn(number: int) -> None:
        try:
            for _ in range(100):
                write(store, f"shared/deep/{number}")
                store.delete(GcsUri("bucket", f"shared/deep/{number}"))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=churn, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert list(store.list("bucket")) == []


WRITE_TOO_MUCH = """
import sys
from pathlib import Path
from emulator.storage import GcsUri, LocalStore, StorageError
store = LocalStore(Path(sys.argv[1]))
try:
    with store.write(GcsUri("bucket", "out/big")) as file:
        for _ in range(64):
            file.write(bytes(65536))
except StorageError as error:
    print(error)
"""


def test_file_size_limit_is_named_and_leaves_nothing(store: LocalStore) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITE_TOO_MUCH, str(store.root)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    )
    assert "gs://bucket/out/big cannot be written" in done.stdout
    assert files_below(store.root) == []
    assert [path.name for path in (store.root / "bucket").iterdir()] == [".vbe-tmp"]


def test_full_disk_is_named_and_leaves_nothing(store: LocalStore) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-Urm", "true"], check=False).returncode:
        pytest.skip("needs `unshare -Urm` to mount a small file system")
    script = (
        f"mount -t tmpfs -o size=1m tmpfs {store.root} && {sys.executable} -c '{WRITE_TOO_MUCH}' {store.root}"
        f" && find {store.root} -type f"
    )
    done = subprocess.run([unshare, "-Urm", "sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"gs://bucket/out/big cannot be written below {store.root}: the disk is full; free some space."
    ]
