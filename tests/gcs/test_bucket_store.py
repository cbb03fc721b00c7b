"""What is kept of objects beside their bytes survives, never outlives the bytes, and is not seen."""

import hashlib
import json
import os
import threading
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from emulator.gcs.bucket_store import Buckets
from emulator.storage import BucketNotEmpty, BucketNotFound, GcsUri, LocalStore, NameTaken, ObjectNotFound
from emulator.storage.metadata import Attributes, Metadata, StoredObject

URI = GcsUri("bucket", "folder/object")
HELLO_MD5 = "XUFAKrxLKna5cZ2REBfFkg=="


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    (tmp_path / "bucket").mkdir()
    return LocalStore(tmp_path)


@pytest.fixture
def buckets(store: LocalStore) -> Buckets:
    return Buckets(store)


def anything(_: object) -> None:
    """The condition that always holds."""


def put(buckets: Buckets, data: bytes = b"hello", uri: GcsUri = URI, **attributes: object) -> StoredObject:
    draft = buckets.draft(uri.bucket)
    draft.append(data)
    return buckets.publish(draft, uri, attributes, anything)


def path_of(store: LocalStore, uri: GcsUri = URI) -> Path:
    return store.root / uri.bucket / uri.object


def visible(store: LocalStore) -> list[str]:
    return [info.uri.object for info in store.list("bucket")]


def test_metadata_survives_a_new_process(buckets: Buckets, store: LocalStore) -> None:
    stored = put(buckets, contentType="video/mp4", metadata={"k": "v"})
    buckets.update(URI, lambda old: {**old.attributes, "cacheControl": "no-store"})
    found = Buckets(LocalStore(store.root)).find(URI)
    assert found.attributes == {
        "contentType": "video/mp4",
        "metadata": {"k": "v"},
        "cacheControl": "no-store",
    }
    assert (found.generation, found.metageneration) == (stored.generation, 2)
    assert found.checksums
    assert found.checksums.md5 == HELLO_MD5


@pytest.mark.parametrize("change", ["bytes", "time", "moved in"])
def test_metadata_does_not_outlive_the_bytes(buckets: Buckets, store: LocalStore, change: str) -> None:
    stored = put(buckets, contentType="video/mp4")
    path = path_of(store)
    if change == "bytes":
        path.write_bytes(b"other")
    elif change == "time":
        os.utime(path, (1, 1))
    else:
        (store.root / "new").write_bytes(b"other")
        (store.root / "new").replace(path)
    found = buckets.find(URI)
    assert found.attributes == {}
    assert found.checksums is None
    assert found.generation != stored.generation
    assert buckets.with_checksums(found).checksums


def test_file_dropped_in_by_hand_is_complete(buckets: Buckets, store: LocalStore) -> None:
    (store.root / "bucket" / "dropped").write_bytes(b"hello")
    found = buckets.with_checksums(buckets.find(GcsUri("bucket", "dropped")))
    assert found.checksums
    assert (found.checksums.md5, found.checksums.crc32c) == (HELLO_MD5, "mnG7TA==")
    assert (found.metageneration, found.generation) == (
        1,
        path_of(store, found.uri).stat().st_mtime_ns // 1000,
    )


@pytest.mark.parametrize("time_s", [0, -5, 2**40])
def test_file_of_any_time_is_an_object(buckets: Buckets, store: LocalStore, time_s: int) -> None:
    put(buckets)
    os.utime(path_of(store), (time_s, time_s))
    assert buckets.find(URI).generation >= 1
    assert put(buckets).generation > buckets.find(URI).generation - 1


@pytest.mark.parametrize(
    "record", [b"", b"{", b"[]", b'{"versions": 5}', b'{"versions": {"%s": 5}}', b"\xff"]
)
def test_record_that_cannot_be_read_counts_as_none(
    buckets: Buckets, store: LocalStore, record: bytes
) -> None:
    version = put(buckets, contentType="video/mp4").version
    (file,) = store.metadata_folder("bucket").iterdir()
    file.write_bytes(record.replace(b"%s", version.encode()))
    assert buckets.find(URI).attributes == {}
    assert put(buckets, contentType="a/b").attributes == {"contentType": "a/b"}


def test_crash_between_record_and_bytes_loses_neither(buckets: Buckets, store: LocalStore) -> None:
    old = put(buckets, contentType="old/old")
    new = StoredObject(
        replace(old.info, updated_us=old.info.updated_us + 9), attributes={"contentType": "new/new"}
    )
    Metadata(store).write([new, old])
    assert buckets.find(URI).attributes == {"contentType": "old/old"}
    path_of(store).write_bytes(b"hello")
    os.utime(path_of(store), ns=(new.info.updated_us * 1000,) * 2)
    assert buckets.find(URI).attributes == {"contentType": "new/new"}


def test_metadata_is_never_listed(buckets: Buckets, store: LocalStore) -> None:
    put(buckets, contentType="video/mp4")
    assert visible(store) == ["folder/object"]
    assert list(store.list("bucket", ".vbe-meta/")) == []
    assert list(store.metadata_folder("bucket").iterdir())
    assert [bucket.name for bucket in buckets.buckets()] == ["bucket"]


def test_delete_leaves_nothing_behind(buckets: Buckets, store: LocalStore) -> None:
    put(buckets, contentType="video/mp4")
    buckets.delete(URI, anything)
    assert [path for path in store.root.rglob("*") if path.is_file()] == []
    with pytest.raises(ObjectNotFound):
        buckets.delete(URI, anything)


def test_generations_grow_even_when_the_clock_goes_back(store: LocalStore) -> None:
    times = iter([2_000_000_000_000_000, 1_000_000_000_000_000, 1_000_000_000_000_000])
    buckets = Buckets(store, clock=lambda: next(times))
    generations = [put(buckets).generation for _ in range(3)]
    assert generations == [2_000_000_000_000_000 + number for number in range(3)]


def test_one_of_many_wins_a_name(buckets: Buckets, store: LocalStore) -> None:
    winners = []

    class Taken(Exception):
        pass

    def only_when_new(stored: StoredObject | None) -> None:
        if stored:
            raise Taken

    def compete(number: int) -> None:
        draft = buckets.draft("bucket")
        draft.append(b"%d" % number)
        try:
            buckets.publish(draft, URI, {}, only_when_new)
        except Taken:
            return
        winners.append(number)

    threads = [threading.Thread(target=compete, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = winners
    assert path_of(store).read_bytes() == b"%d" % winner
    assert list((store.root / "bucket" / ".vbe-tmp").iterdir()) == []


def test_read_only_bucket_is_read_all_the_same(buckets: Buckets, store: LocalStore) -> None:
    data = bytes(2 << 20)
    (store.root / "bucket" / "large").write_bytes(data)
    # A file where the folder should be: as root, permissions would not stop the record.
    store.metadata_folder("bucket").touch()
    found = buckets.find(GcsUri("bucket", "large"))
    assert found.checksums is None, "they are computed, and cannot be kept"
    computed = buckets.with_checksums(found).checksums
    assert computed is not None
    assert computed.md5 == b64encode(hashlib.md5(data).digest()).decode()
    assert buckets.find(GcsUri("bucket", "large")).checksums is None
    assert store.metadata_folder("bucket").read_bytes() == b""


def test_checksums_of_large_files_are_computed_once(buckets: Buckets, store: LocalStore) -> None:
    uri = GcsUri("bucket", "large")
    path_of(store, uri).write_bytes(bytes(2 << 20))
    computed = buckets.with_checksums(buckets.find(uri))
    assert buckets.find(uri) == computed


def test_checksums_are_those_of_the_version_that_was_looked_at(buckets: Buckets, store: LocalStore) -> None:
    path_of(store, uri := GcsUri("bucket", "dropped")).write_bytes(b"hello")
    found = buckets.find(uri)
    opened, file = buckets.open(uri)
    (store.root / "new").write_bytes(b"other bytes")
    (store.root / "new").replace(path_of(store, uri))
    with file:
        hashed = buckets.hashed(opened, file)
    assert hashed.checksums
    assert (hashed.size, hashed.checksums.md5) == (5, HELLO_MD5)
    assert buckets.with_checksums(found) == found


def test_bucket_is_created_and_deleted(buckets: Buckets, store: LocalStore) -> None:
    buckets.create_bucket("made", {"labels": {"a": "b"}})
    assert buckets.bucket("made").attributes == {"labels": {"a": "b"}}
    with pytest.raises(NameTaken):
        buckets.create_bucket("made", {})
    (store.root / "made" / "empty" / "folders").mkdir(parents=True)
    buckets.delete_bucket("made", lambda _: None)
    assert not (store.root / "made").exists()
    with pytest.raises(BucketNotFound):
        buckets.bucket("made")


@pytest.mark.parametrize("name", ["object", "folder/object", "not\nan object"])
def test_bucket_with_files_is_not_deleted(buckets: Buckets, store: LocalStore, name: str) -> None:
    buckets.create_bucket("made", {"labels": {"a": "b"}})
    path = store.root / "made" / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    with pytest.raises(BucketNotEmpty):
        buckets.delete_bucket("made", lambda _: None)
    assert path.exists()
    assert buckets.bucket("made").attributes == {"labels": {"a": "b"}}


def test_link_out_of_the_root_is_no_bucket(buckets: Buckets, store: LocalStore) -> None:
    (store.root / "linked").symlink_to("/etc")
    assert [bucket.name for bucket in buckets.buckets()] == ["bucket"]
    with pytest.raises(BucketNotFound):
        buckets.find(GcsUri("linked", "passwd"))


def test_bucket_deleted_during_an_upload_is_named(buckets: Buckets, store: LocalStore) -> None:
    draft = buckets.draft("bucket")
    buckets.delete_bucket("bucket", lambda _: None)
    with pytest.raises(BucketNotFound):
        draft.append(b"x")
    with pytest.raises(BucketNotFound):
        buckets.publish(draft, URI, {}, anything)
    assert not (store.root / "bucket").exists()


def test_bucket_deleted_while_an_upload_ends_is_gone_or_has_the_object(
    buckets: Buckets, store: LocalStore
) -> None:
    def outcome(call: Callable[[], object]) -> str:
        try:
            call()
        except (BucketNotFound, BucketNotEmpty) as error:
            return type(error).__name__
        return "done"

    uri = GcsUri("made", "folder/object")
    for _ in range(50):
        buckets.create_bucket("made", {"labels": {"a": "b"}})
        draft = buckets.draft("made")
        draft.append(b"x")
        calls = [
            partial(buckets.publish, draft, uri, {}, anything),
            partial(buckets.delete_bucket, "made", anything),
        ]
        with ThreadPoolExecutor(2) as pool:
            outcomes = list(pool.map(outcome, calls))
        if outcomes == ["BucketNotFound", "done"]:
            assert not (store.root / "made").exists()
        else:
            assert outcomes == ["done", "BucketNotEmpty"]
            assert buckets.bucket("made").attributes == {"labels": {"a": "b"}}
            buckets.delete(uri, anything)
            buckets.delete_bucket("made", anything)


@pytest.mark.parametrize("written", ["bytes", "attributes"])
def test_move_leaves_what_was_written_meanwhile(buckets: Buckets, written: str) -> None:
    put(buckets, b"old")
    destination = GcsUri("bucket", "moved")

    def write_now(source: StoredObject) -> Attributes:
        if written == "bytes":
            put(buckets, b"new")
        else:
            buckets.update(URI, lambda _: {"contentType": "new/new"})
        return source.attributes

    moved = buckets.move(URI, destination, anything, anything, write_now)
    assert (moved.uri, moved.size) == (destination, 3)
    left, file = buckets.open(URI)
    with file:
        assert (file.read(), left.attributes) == (
            (b"new", {}) if written == "bytes" else (b"old", {"contentType": "new/new"})
        )
    buckets.move(URI, destination, anything, anything)
    with pytest.raises(ObjectNotFound):
        buckets.find(URI)


def test_listing_starts_anywhere_and_shows_folders(buckets: Buckets, store: LocalStore) -> None:
    for name in ("a-", "a/1", "a/b/2", "a/b/3", "a/c/4", "b"):
        put(buckets, uri=GcsUri("bucket", name))

    def listed(prefix: str = "", start: str = "", *, shallow: bool = False) -> list[str]:
        return [info.uri.object for info in buckets.list("bucket", prefix, start=start, shallow=shallow)]

    everything = listed()
    for start in ("", "a", "a-", "a/", "a/1\0", "a/b/3", "a/b0", "a/c", "b", "c"):
        assert listed(start=start) == [name for name in everything if name >= start]
    assert listed(shallow=True) == ["a-", "a/1", "b"]
    assert listed("a/", shallow=True) == ["a/1", "a/b/2", "a/c/4"]
    assert listed("a/", "a/b/3", shallow=True) == ["a/b/3", "a/c/4"]


def test_record_is_json_that_a_person_can_read(buckets: Buckets, store: LocalStore) -> None:
    put(buckets, contentType="video/mp4")
    (file,) = store.metadata_folder("bucket").iterdir()
    assert json.loads(file.read_text())["name"] == "folder/object"
