"""What every ObjectStore must do. A new implementation adds a parameter to `store`, not a file."""

import contextlib
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.storage import GcsUri, InvalidUri, LocalStore, ObjectNotFound, ObjectStore, Staged
from emulator.storage.routing_store import RoutingStore
from tests.gcs_endpoint.servers import another_emulator, fake_gcs_server, store_at


@pytest.fixture(scope="module")
def endpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of that kind."""
    if request.param == "another emulator":
        with another_emulator(tmp_path_factory.mktemp("data")) as url:
            yield url
    elif request.param == "fake-gcs-server":
        with fake_gcs_server() as url:
            yield url
    else:
        yield ""


@pytest.fixture
def store(request: pytest.FixtureRequest, endpoint: str, tmp_path: Path) -> ObjectStore:
    if endpoint:
        store = store_at(endpoint, tmp_path / "cache")
        for info in list(store.list("bucket")):
            store.delete(info.uri)
        return store
    local = LocalStore(tmp_path / "buckets")
    kind = request.node.callspec.params["endpoint"]
    return local if kind == "local" else RoutingStore((("b*", local),), LocalStore(tmp_path / "nothing"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "store" in metafunc.fixturenames:
        kinds = ["local", "routed", "another emulator"]
        fake = pytest.param("fake-gcs-server", marks=pytest.mark.gcs_server)
        metafunc.parametrize("endpoint", [*kinds, fake], indirect=True, scope="module")


def put(store: ObjectStore, uri: str, data: bytes = b"x") -> GcsUri:
    parsed = GcsUri.parse(uri)
    with store.write(parsed) as file:
        file.write(data)
    return parsed


def abandon(store: ObjectStore, uri: GcsUri) -> None:
    """Start writing an object and fail half-way."""
    with contextlib.suppress(RuntimeError), store.write(uri) as file:
        file.write(b"half")
        raise RuntimeError


def read(store: ObjectStore, uri: GcsUri) -> bytes:
    with store.open_read(uri) as file:
        return file.read()


def names(store: ObjectStore, prefix: str = "") -> list[str]:
    return [info.uri.object for info in store.list("bucket", prefix)]


def test_written_object_is_read_back(store: ObjectStore) -> None:
    uri = put(store, "gs://bucket/folder/clip é.mp4", b"\0\1\2" * 100_000)
    assert read(store, uri) == b"\0\1\2" * 100_000
    info = store.stat(uri)
    assert (info.uri, info.size) == (uri, 300_000)
    assert info.updated_us > 1_600_000_000_000_000


def test_write_replaces_an_object(store: ObjectStore) -> None:
    uri = put(store, "gs://bucket/a", b"old")
    put(store, "gs://bucket/a", b"new")
    assert read(store, uri) == b"new"


def test_object_is_invisible_until_complete(store: ObjectStore) -> None:
    uri = GcsUri.parse("gs://bucket/folder/a")
    with store.write(uri) as file:
        file.write(b"half")
        file.flush()
        assert names(store) == []
        with pytest.raises(ObjectNotFound):
            store.stat(uri)
    assert names(store) == ["folder/a"]


def test_failed_write_leaves_the_old_object(store: ObjectStore) -> None:
    uri = put(store, "gs://bucket/a", b"old")
    abandon(store, uri)
    assert read(store, uri) == b"old"


def test_failed_write_leaves_nothing(store: ObjectStore) -> None:
    abandon(store, GcsUri.parse("gs://bucket/folder/a"))
    assert names(store) == []
    put(store, "gs://bucket/folder", b"the name is still free")


def test_list_is_in_byte_order_and_by_prefix(store: ObjectStore) -> None:
    for name in ("a/b", "a-b", "a0", "a/a/c", "b", "é", "aa"):
        put(store, f"gs://bucket/{name}")
    assert names(store) == sorted(("a/b", "a-b", "a0", "a/a/c", "b", "é", "aa"), key=str.encode)
    assert names(store, "a/") == ["a/a/c", "a/b"]
    assert names(store, "a") == ["a-b", "a/a/c", "a/b", "a0", "aa"]
    assert names(store, "a/a/c") == ["a/a/c"]
    assert names(store, "a/../b") == []
    assert names(store, "/") == []
    assert names(store, "nothing") == []


def test_list_of_a_missing_bucket_is_empty(store: ObjectStore) -> None:
    assert list(store.list("no-such-bucket")) == []


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", ["a.jsonl", "b.jsonl"]),
        ("**", ["a.jsonl", "b.jsonl", "in/1.jsonl", "in/deep/12.jsonl", "in/deep/2.jsonl"]),
        ("in/*", ["in/1.jsonl"]),
        ("in/**", ["in/1.jsonl", "in/deep/12.jsonl", "in/deep/2.jsonl"]),
        ("**/*.jsonl", ["a.jsonl", "b.jsonl", "in/1.jsonl", "in/deep/12.jsonl", "in/deep/2.jsonl"]),
        ("in/deep/?.jsonl", ["in/deep/2.jsonl"]),
        ("[ab].jsonl", ["a.jsonl", "b.jsonl"]),
        ("[b-z].jsonl", ["b.jsonl"]),
        ("[!b].jsonl", ["a.jsonl"]),
        ("in*1.jsonl", []),
        ("a.jsonl", ["a.jsonl"]),
        ("a?jsonl/", []),
        ("missing", []),
    ],
)
def test_glob_follows_gsutil(store: ObjectStore, pattern: str, expected: list[str]) -> None:
    for name in ("a.jsonl", "b.jsonl", "in/1.jsonl", "in/deep/2.jsonl", "in/deep/12.jsonl"):
        put(store, f"gs://bucket/{name}")
    found = store.glob(GcsUri("bucket", pattern)) if not pattern.endswith("/") else []
    assert [info.uri.object for info in found] == expected


def test_glob_prefers_an_object_of_exactly_that_name(store: ObjectStore) -> None:
    put(store, "gs://bucket/clip[1].jsonl")
    put(store, "gs://bucket/clip1.jsonl")
    found = store.glob(GcsUri.parse("gs://bucket/clip[1].jsonl"))
    assert [info.uri.object for info in found] == ["clip[1].jsonl"]


def test_delete_removes_and_frees_the_folder_name(store: ObjectStore) -> None:
    uri = put(store, "gs://bucket/folder/deep/a")
    store.delete(uri)
    assert names(store) == []
    with pytest.raises(ObjectNotFound):
        store.delete(uri)
    put(store, "gs://bucket/folder")


def test_missing_object_is_not_found_and_named(store: ObjectStore) -> None:
    uri = GcsUri.parse("gs://bucket/missing.mp4")
    with pytest.raises(ObjectNotFound, match=r"gs://bucket/missing\.mp4"):
        store.open_read(uri)
    with pytest.raises(ObjectNotFound, match=r"gs://bucket/missing\.mp4"), store.local_path(uri):
        pass


def test_local_path_holds_the_bytes(store: ObjectStore) -> None:
    uri = put(store, "gs://bucket/a", b"data")
    with store.local_path(uri) as path:
        assert path.read_bytes() == b"data"


def test_store_survives_pickling(store: ObjectStore) -> None:
    uri = put(store, "gs://bucket/a", b"data")
    assert read(pickle.loads(pickle.dumps(store)), uri) == b"data"


def test_bucket_with_an_impossible_name_is_refused(store: ObjectStore) -> None:
    for bucket in ("..", "", "a/b", "UPPER"):
        with pytest.raises(InvalidUri):
            list(store.list(bucket))
        with pytest.raises(InvalidUri):
            store.stat(GcsUri(bucket, "x"))


# Staged bytes

PREFIX = GcsUri.parse_prefix("gs://bucket/out")


def stage(store: ObjectStore, name: str, data: bytes = b"x", group: str = "1") -> Staged:
    staged = Staged(PREFIX, group, name)
    with store.write_staged(staged) as file:
        file.write(data)
    return staged


def below(store: ObjectStore) -> list[str]:
    return names(store, "out/")


def test_staged_bytes_become_an_object_once(store: ObjectStore) -> None:
    staged, uri = stage(store, "a", b"new"), PREFIX / "1"
    assert below(store) == []
    assert store.list_staged(PREFIX, "1") == [staged]
    store.publish_staged(staged, uri)
    assert read(store, uri) == b"new"
    assert store.list_staged(PREFIX, "1") == []
    store.delete(uri)
    with pytest.raises(ObjectNotFound):
        store.publish_staged(staged, uri)
    assert below(store) == []


def test_staged_bytes_replace_an_object(store: ObjectStore) -> None:
    uri = put(store, "gs://bucket/out/1", b"old")
    store.publish_staged(stage(store, "a", b"new"), uri)
    assert read(store, uri) == b"new"


def test_staging_that_fails_leaves_nothing(store: ObjectStore) -> None:
    with contextlib.suppress(RuntimeError), store.write_staged(Staged(PREFIX, "1", "a")) as file:
        file.write(b"half")
        raise RuntimeError
    assert store.list_staged(PREFIX, "1") == []


def test_what_is_staged_is_told_by_group_and_discarded(store: ObjectStore) -> None:
    first, second, other = stage(store, "a"), stage(store, "b"), stage(store, "a", group="11")
    assert store.list_staged(PREFIX, "1") == [first, second]
    for staged in (first, first, other):
        store.discard_staged(staged)
    assert store.list_staged(PREFIX, "1") == [second]
    assert store.list_staged(PREFIX, "11") == []
    store.discard_staged(second)
