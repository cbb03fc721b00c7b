"""No link leads out of the folder, even one that is swapped in between a look and the deed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from emulator.gcs.bucket_store import Buckets
from emulator.storage import GcsUri, InvalidUri, LocalStore, StorageError
from emulator.storage.confined import ConfinedPath, LeadsOut

TRIES = 300
SECRET = b"secret"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the root, as full as the bucket's own."""
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in ("object", "other"):
        (folder / name).write_bytes(SECRET)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "bucket" / "folder").mkdir(parents=True)
    (root / "bucket" / "folder" / "object").write_bytes(b"own")
    return root


@pytest.fixture
def untouched(outside: Path) -> Iterator[None]:
    """Afterwards nothing has changed outside."""
    yield
    assert sorted(path.name for path in outside.iterdir()) == ["object", "other"]
    assert {path.read_bytes() for path in outside.iterdir()} == {SECRET}


@contextmanager
def swapping(link: Path, inside: Path, outside: Path) -> Iterator[None]:
    """Meanwhile a link leads now inside, now outside."""
    link.symlink_to(inside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for target in (outside, inside):
                link.with_name("next").symlink_to(target)
                link.with_name("next").replace(link)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def read(store: LocalStore) -> None:
    with store.open_read(GcsUri("bucket", "folder/object")) as file:
        assert file.read() == b"own"


def read_by_path(store: LocalStore) -> None:
    with store.local_path(GcsUri("bucket", "folder/object")) as path:
        if path.is_relative_to("/proc"):
            assert path.read_bytes() == b"own"


def write(store: LocalStore) -> None:
    with store.write(GcsUri("bucket", "folder/written")) as file:
        file.write(b"own")


def delete(store: LocalStore) -> None:
    store.delete(GcsUri("bucket", "folder/other"))


def listed(store: LocalStore) -> None:
    assert not [info for info in store.list("bucket") if info.size == len(SECRET)]


def looked_at(store: LocalStore) -> None:
    assert store.stat(GcsUri("bucket", "folder/object")).size == len(b"own")


def uploaded(store: LocalStore) -> None:
    buckets = Buckets(store)
    draft = buckets.draft("bucket")
    try:
        draft.append(b"own")
        buckets.publish(draft, GcsUri("bucket", "folder/uploaded"), {}, lambda _: None)
    finally:
        draft.discard()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files have no path on this system")
def test_decoder_gets_what_was_checked(root: Path, outside: Path, untouched: None) -> None:
    store = LocalStore(root)
    with store.local_path(GcsUri("bucket", "folder/object")) as path:
        (root / "bucket" / "folder").rename(root / "bucket" / "aside")
        (root / "bucket" / "folder").symlink_to(outside)
        assert path.read_bytes() == b"own"
    with pytest.raises(InvalidUri), store.local_path(GcsUri("bucket", "folder/object")):
        pass


@pytest.mark.parametrize("deed", [read, read_by_path, write, delete, listed, looked_at, uploaded])
def test_swapped_folder_leads_nowhere(
    root: Path, outside: Path, untouched: None, deed: Callable[[LocalStore], None]
) -> None:
    store = LocalStore(root)
    (root / "bucket" / "folder").rename(root / "bucket" / "real")
    with swapping(root / "bucket" / "folder", root / "bucket" / "real", outside):
        for _ in range(TRIES):
            with suppress(StorageError, InvalidUri, OSError):
                deed(store)
    if deed is not delete:
        deed(store)


@pytest.mark.parametrize("deed", [write, uploaded])
@pytest.mark.parametrize("hidden", [".vbe-tmp", ".vbe-meta"])
def test_hidden_folder_that_is_a_link_leads_nowhere(
    root: Path, outside: Path, untouched: None, deed: Callable[[LocalStore], None], hidden: str
) -> None:
    (root / "bucket" / hidden).symlink_to(outside)
    with suppress(StorageError, InvalidUri):
        deed(LocalStore(root))


def test_folder_that_becomes_a_link_while_an_object_is_written(
    root: Path, outside: Path, untouched: None
) -> None:
    store, folder = LocalStore(root), root / "bucket" / "folder"
    writing = store.write(GcsUri("bucket", "folder/new"))
    writing.__enter__().write(b"own")
    folder.rename(root / "bucket" / "aside")
    folder.symlink_to(outside)
    with pytest.raises((StorageError, InvalidUri), match="leads out"):
        writing.__exit__(None, None, None)


def test_folder_that_becomes_a_link_during_an_upload(root: Path, outside: Path, untouched: None) -> None:
    buckets = Buckets(LocalStore(root))
    draft = buckets.draft("bucket")
    draft.append(b"one")
    (root / "bucket" / ".vbe-tmp").rename(root / "bucket" / "aside")
    (root / "bucket" / ".vbe-tmp").symlink_to(outside)
    with pytest.raises(StorageError):
        draft.append(b"two")
    with pytest.raises(StorageError):
        buckets.publish(draft, GcsUri("bucket", "new"), {}, lambda _: None)


def test_removed_bucket_takes_nothing_with_it(root: Path, outside: Path, untouched: None) -> None:
    store = LocalStore(root)
    (root / "bucket" / "folder" / "object").unlink()
    (root / "bucket" / ".vbe-meta").mkdir()
    (root / "bucket" / ".vbe-meta" / "link").symlink_to(outside)
    (root / "bucket" / ".vbe-tmp").symlink_to(outside)
    with suppress(StorageError):
        store.remove_bucket("bucket")


def test_leftovers_of_others_stay(root: Path, outside: Path, untouched: None) -> None:
    for path in outside.iterdir():
        os.utime(path, (0, 0))
    (root / "bucket" / ".vbe-tmp").symlink_to(outside)
    (root / "linked").symlink_to(outside.parent)
    (outside.parent / ".vbe-tmp").symlink_to(outside)
    LocalStore(root).remove_leftovers()


@pytest.mark.parametrize(
    ("target", "leads"),
    [
        ("object", "own"),
        ("../folder/object", "own"),
        ("./.././folder//object", "own"),
        ("{root}/bucket/folder/object", "own"),
        ("../../bucket/folder/object", "own"),
        ("../../../outside/object", "out"),
        ("../../../root/bucket/folder/object", "out"),
        ("{outside}/object", "out"),
        ("/", "out"),
        ("missing", "nowhere"),
        ("link", "nowhere"),
        ("object/x", "nowhere"),
    ],
)
def test_link_is_followed_as_far_as_it_stays_below(
    root: Path, outside: Path, untouched: None, target: str, leads: str
) -> None:
    (root / "bucket" / "folder" / "link").symlink_to(target.format(root=root, outside=outside))
    path = ConfinedPath(root) / "bucket/folder/link"
    if leads == "own":
        assert _content(path) == b"own"
        assert path.stat().st_size == len(b"own")
    else:
        with pytest.raises(LeadsOut if leads == "out" else OSError) as caught:
            _content(path)
        assert isinstance(caught.value, LeadsOut) == (leads == "out")
        assert not path.exists()
    path.unlink()
    assert (root / "bucket" / "folder" / "object").exists()


def test_named_pipe_hangs_nobody(root: Path) -> None:
    store = LocalStore(root)
    uri = GcsUri("bucket", "folder/object")
    Buckets(store).update(uri, lambda _: {"contentType": "text/plain"})
    (record,) = store.metadata_folder("bucket").iterdir()
    record.unlink()
    os.mkfifo(record)
    assert Buckets(store).find(uri).attributes == {}


def test_root_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    (root / "bucket" / "up").symlink_to(tmp_path / "alias" / "bucket" / "folder")
    (root / "bucket" / "real").symlink_to(root / "bucket" / "folder")
    path = ConfinedPath(tmp_path / "alias")
    assert (path / "bucket/up/object").stat().st_size == len(b"own")
    assert (path / "bucket/real/object").stat().st_size == len(b"own")


@pytest.mark.parametrize("name", ["..", ".", "", "a/../../b", "a//b", "/etc", "a\0b"])
def test_name_that_leads_upwards_is_none(root: Path, name: str) -> None:
    with pytest.raises(ValueError):
        ConfinedPath(root) / name


def test_nothing_stays_open(root: Path, outside: Path) -> None:
    store = LocalStore(root)
    (root / "bucket" / "out").symlink_to(outside)
    (root / "bucket" / "loop").symlink_to("loop")
    descriptors = Path("/proc/self/fd")
    before = len([*descriptors.iterdir()]) if descriptors.exists() else 0
    for _ in range(20):
        for name in ("folder/object", "out/object", "loop", "loop/x", "missing/x", "folder/object/x"):
            with suppress(StorageError, InvalidUri):
                store.open_read(GcsUri("bucket", name)).close()
        list(store.list("bucket"))
        next(store.list("bucket"))
    after = len([*descriptors.iterdir()]) if before else 0
    assert after <= before + 1


def _content(path: ConfinedPath) -> bytes:
    with path.open("rb") as file:
        return file.read()
