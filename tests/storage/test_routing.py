"""Which bucket lies where, and which endpoints are refused."""

import pickle
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from emulator.app import CannotStart, Emulator
from emulator.config import SettingError, Settings
from emulator.storage import GcsUri, LocalStore, ObjectStore, open_store
from emulator.storage.gcs_store import GcsStore
from emulator.storage.routing_store import RoutingStore
from tests.gcs_endpoint.servers import free_port

FIRST, SECOND = "http://127.0.0.1:4443", "http://gcs:4443"


def place_of(store: ObjectStore, bucket: str) -> str:
    """Where a bucket lies: an endpoint's URL, or `local`."""
    if isinstance(store, RoutingStore):
        store = store._store_of(bucket)
    if isinstance(store, GcsStore):
        return store.endpoint.url
    assert isinstance(store, LocalStore)
    return "local"


def settings(tmp_path: Path, **values: Any) -> Settings:
    return Settings(data_dir=tmp_path, **values)


def test_buckets_are_local_unless_said_otherwise(tmp_path: Path) -> None:
    assert open_store(settings(tmp_path)) == LocalStore(tmp_path / "buckets")


def test_buckets_are_found_by_name_then_pattern_then_default(tmp_path: Path) -> None:
    buckets = {"videos-*": SECOND, "videos-old": "local", "results": "local", "v*": FIRST, "x?": "local"}
    store = open_store(settings(tmp_path, gcs_endpoint=FIRST, gcs_buckets=buckets))
    expected = {
        "videos-1": SECOND,
        "videos-old": "local",
        "results": "local",
        "results-2": FIRST,
        "vip": FIRST,
        "x1": "local",
        "x12": FIRST,
        "other": FIRST,
    }
    assert {bucket: place_of(store, bucket) for bucket in expected} == expected
    again = pickle.loads(pickle.dumps(store))
    assert {bucket: place_of(again, bucket) for bucket in expected} == expected


def test_buckets_of_one_store_are_not_in_another(tmp_path: Path) -> None:
    one, two = LocalStore(tmp_path / "one"), LocalStore(tmp_path / "two")
    store = RoutingStore((("one-*", one),), two)
    with store.write(GcsUri("one-a", "x")) as file:
        file.write(b"1")
    with store.write(GcsUri("two", "x")) as file:
        file.write(b"2")
    assert (tmp_path / "one/one-a/x").read_bytes() == b"1"
    assert (tmp_path / "two/two/x").read_bytes() == b"2"
    assert [info.uri.object for info in store.glob(GcsUri("one-a", "*"))] == ["x"]


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://storage.googleapis.com",
        "http://storage.googleapis.com",
        "https://STORAGE.googleapis.com:443/",
        "https://storage.googleapis.com.",
        "storage.googleapis.com",
        "https://storage.mtls.googleapis.com",
        "https://www.googleapis.com",
        "https://storage.me-central2.rep.googleapis.com",
        "https://storage-psc.p.googleapis.com",
        "https://storage.cloud.google.com",
    ],
)
@pytest.mark.parametrize("name", ["gcs_endpoint", "gcs_buckets"])
def test_google_itself_is_refused_unless_allowed(tmp_path: Path, endpoint: str, name: str) -> None:
    value: Any = endpoint if name == "gcs_endpoint" else {"b*": endpoint}
    with pytest.raises(SettingError, match=rf"(?is){name}.*googl.*--gcs-allow-google"):
        open_store(settings(tmp_path, **{name: value}))
    allowed = open_store(settings(tmp_path, **{name: value}, gcs_allow_google=True))
    assert ".goog" in place_of(allowed, "bucket")


@pytest.mark.parametrize("host", ["notgoogleapis.com", "googleapis.com.example", "googleapis.example"])
def test_hosts_that_only_look_like_google_are_not_google(tmp_path: Path, host: str) -> None:
    assert place_of(open_store(settings(tmp_path, gcs_endpoint=host)), "bucket") == f"http://{host}"


@pytest.mark.parametrize(
    ("endpoint", "complaint"),
    [
        ("ftp://host:1", "no http or https URL"),
        ("http://", "no http or https URL"),
        ("", "no http or https URL"),
        ("http://host:port", "no URL"),
        ("http://host:99999", "no URL"),
        ("http://host:1/storage/v1/", "more than scheme, host and port"),
        ("http://user:secret@host:1", "more than scheme, host and port"),
        ("http://host:1?x=y", "more than scheme, host and port"),
    ],
)
def test_what_is_no_endpoint_is_refused(tmp_path: Path, endpoint: str, complaint: str) -> None:
    with pytest.raises(SettingError, match=complaint):
        open_store(settings(tmp_path, gcs_endpoint=endpoint))


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("host:4443", "http://host:4443"),
        (" https://Host/ ", "https://host"),
        ("http://[::1]:4443", "http://[::1]:4443"),
        ("localhost:0", "http://localhost:0"),
    ],
)
def test_endpoint_is_read_leniently(tmp_path: Path, endpoint: str, expected: str) -> None:
    assert place_of(open_store(settings(tmp_path, gcs_endpoint=endpoint)), "bucket") == expected


@pytest.mark.parametrize(
    ("endpoint", "own"),
    [
        ("http://127.0.0.1:8080", True),
        ("localhost:8080", True),
        ("http://[::1]:8080/", True),
        (f"http://{socket.gethostname()}:8080", True),
        ("https://127.0.0.1:8443", True),
        ("http://127.0.0.1:8081", False),
        ("http://192.0.2.1:8080", False),
    ],
)
def test_server_does_not_call_itself(tmp_path: Path, endpoint: str, own: bool) -> None:
    store = open_store(settings(tmp_path, port=8080, tls=True, tls_port=8443, gcs_endpoint=endpoint))
    assert (place_of(store, "bucket") == "local") is own


@pytest.mark.parametrize("pattern", ["gs://videos", "videos/", "Videos", "", "[ab]"])
def test_what_is_no_pattern_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(SettingError, match="neither a bucket's name nor a pattern"):
        open_store(settings(tmp_path, gcs_buckets={pattern: FIRST}))


def test_missing_library_is_told_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.storage", None)
    with Emulator(settings(tmp_path, port=0, bundled_models=False, workers=1)):
        pass
    with (
        pytest.raises(CannotStart, match=r"pip install 'vertex-batch-emulator\[gcs\]'"),
        Emulator(settings(tmp_path, port=0, gcs_buckets={"b": FIRST})),
    ):
        pass


def test_refusal_is_told_at_start(tmp_path: Path) -> None:
    with (
        pytest.raises(CannotStart, match=r"gcs_endpoint.*--gcs-allow-google"),
        Emulator(settings(tmp_path, port=0, gcs_endpoint="https://storage.googleapis.com")),
    ):
        pass


def test_nothing_is_connected_to_at_start(tmp_path: Path) -> None:
    """The endpoint may come up later than the emulator."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    with Emulator(settings(tmp_path, port=0, bundled_models=False, workers=1, gcs_endpoint=endpoint)) as it:
        assert it.url
