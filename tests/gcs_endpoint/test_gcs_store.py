"""What is special about buckets at an endpoint: the network, other writers, and the way to a local file.

What every store must do is in tests/storage/test_object_store.py.
"""

import gzip
import hashlib
import json
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emulator.config import Settings
from emulator.inference.prediction_cache import CachePlace, VideoDigests
from emulator.storage import (
    AccessDenied,
    GcsUri,
    ObjectNotFound,
    StorageError,
    StorageUnavailable,
    open_store,
)
from emulator.storage.gcs_client import ObjectChanged
from emulator.storage.gcs_store import GcsStore
from emulator.trust import prepare
from tests.gcs_endpoint.servers import (
    Answer,
    Proxy,
    Request,
    client_at,
    fake_gcs_server,
    free_port,
    proxy_to,
    store_at,
)

URI = GcsUri("bucket", "folder/clip.mp4")
PIECE = 4 << 20


@pytest.fixture
def proxy(endpoint: str) -> Iterator[Proxy]:
    """What stands before the endpoint, whose bucket is empty."""
    store = store_at(endpoint, Path("unused"))
    for info in list(store.list("bucket")):
        store.delete(info.uri)
    store.check_writable(GcsUri("bucket", ""))
    with proxy_to(endpoint) as proxy:
        yield proxy


@pytest.fixture
def store(proxy: Proxy, tmp_path: Path) -> GcsStore:
    """The store under test, on the far side of the proxy."""
    return store_at(proxy.url, tmp_path / "cache")


def put(store: GcsStore, data: bytes, uri: GcsUri = URI) -> None:
    with store.write(uri) as file:
        file.write(data)


def read(store: GcsStore, uri: GcsUri = URI) -> bytes:
    with store.open_read(uri) as file:
        return file.read()


def generation(endpoint: str) -> int:
    blob = client_at(endpoint).bucket(URI.bucket).get_blob(URI.object)
    return int(blob.generation)


def is_upload(request: Request) -> bool:
    return request.path.startswith("/upload/") and request.method in ("POST", "PUT")


def first_time(
    wanted: Callable[[Request], bool], instead: Callable[[Callable[[], Answer]], Answer]
) -> Callable[[Request, Callable[[], Answer]], Answer]:
    """Disturb the first request that is wanted, and no other."""
    left = [True]

    def disturb(request: Request, pass_on: Callable[[], Answer]) -> Answer:
        if left[0] and wanted(request):
            left[0] = False
            return instead(pass_on)
        return pass_on()

    return disturb


def lose(pass_on: Callable[[], Answer]) -> Answer:
    pass_on()
    return Answer(None)


# Writing


def test_new_object_is_written_on_condition_that_there_is_none(store: GcsStore, proxy: Proxy) -> None:
    put(store, b"data")
    (upload,) = filter(is_upload, proxy.requests)
    assert "ifGenerationMatch=0" in upload.path
    assert read(store) == b"data"


def test_lost_answer_to_an_upload_is_no_failure(store: GcsStore, proxy: Proxy, endpoint: str) -> None:
    proxy.disturb = first_time(is_upload, lose)
    put(store, b"data")
    assert read(store) == b"data"
    assert len([request for request in proxy.requests if is_upload(request)]) == 2
    written = generation(endpoint)
    put(store, b"data")
    assert generation(endpoint) == written, "the same bytes are not written again"


def test_upload_that_was_cut_is_made_again(store: GcsStore, proxy: Proxy) -> None:
    proxy.disturb = first_time(is_upload, lambda _: Answer(None))
    put(store, b"data")
    assert read(store) == b"data"


def test_upload_over_another_object_names_what_it_replaces(
    store: GcsStore, proxy: Proxy, endpoint: str
) -> None:
    put(store, b"old")
    old = generation(endpoint)
    put(store, b"new")
    assert f"ifGenerationMatch={old}" in proxy.requests[-1].path
    assert read(store) == b"new"


def test_writers_that_race_all_end_with_a_whole_object(store: GcsStore) -> None:
    problems: list[Exception] = []

    def write(letter: bytes) -> None:
        try:
            put(store, letter * 1000)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert read(store) in (b"a" * 1000, b"b" * 1000, b"c" * 1000)


def test_large_object_is_uploaded_and_read_in_pieces(store: GcsStore, proxy: Proxy) -> None:
    data = b"0123456789abcdef" * (3 * PIECE // 16) + b"end"
    with store.write(URI) as file:
        for start in range(0, len(data), 1 << 20):
            file.write(data[start : start + (1 << 20)])
    assert proxy.count("PUT", "upload_id=") == 1
    with store.open_read(URI) as file:
        assert [file.read(4), file.readline(), file.read()] == [data[:4], data[4:], b""]
    assert proxy.count("GET", "alt=media") == 4
    assert read(store) == data
    with store.local_path(URI) as path:
        assert path.read_bytes() == data


def test_empty_object(store: GcsStore) -> None:
    put(store, b"")
    assert read(store) == b""
    with store.local_path(URI) as path:
        assert path.read_bytes() == b""


def test_bucket_is_created_when_it_is_missing(store: GcsStore, endpoint: str) -> None:
    bucket = f"new-{time.time_ns()}"
    store.check_writable(GcsUri(bucket, "out/"))
    put(store, b"data", GcsUri(bucket, "out/a"))
    assert client_at(endpoint).bucket(bucket).blob("out/a").download_as_bytes() == b"data"
    other = f"other-{time.time_ns()}"
    put(store, b"data", GcsUri(other, "a"))
    assert client_at(endpoint).bucket(other).blob("a").download_as_bytes() == b"data"


# Reading


def test_local_file_is_downloaded_once(store: GcsStore, proxy: Proxy) -> None:
    put(store, b"data")
    for _ in range(3):
        with store.local_path(URI) as path:
            assert path.read_bytes() == b"data"
            assert path.suffix == ".mp4"
    assert proxy.count("GET", "alt=media") == 1


def test_replaced_object_is_seen(store: GcsStore, endpoint: str) -> None:
    put(store, b"old")
    with store.local_path(URI) as old:
        client_at(endpoint).bucket(URI.bucket).blob(URI.object).upload_from_string(b"new")
        with store.local_path(URI) as new:
            assert (old.read_bytes(), new.read_bytes()) == (b"old", b"new")


def test_a_version_is_read_once_for_its_digest(store: GcsStore, endpoint: str) -> None:
    reads: list[None] = []
    digests = VideoDigests(store.cache.folder)

    def digest() -> str:
        with store.local_path(URI) as path:
            return digests.get(path, lambda: reads.append(None)).digest

    put(store, b"old")
    assert digest() == digest() == hashlib.sha256(b"old").hexdigest()
    assert len(reads) == 1
    client_at(endpoint).bucket(URI.bucket).blob(URI.object).upload_from_string(b"new")
    assert digest() == digest() == hashlib.sha256(b"new").hexdigest()
    assert len(reads) == 2


def test_the_prediction_cache_knows_where_downloads_lie(tmp_path: Path, endpoint: str) -> None:
    store = open_store(Settings(data_dir=tmp_path, gcs_endpoint=endpoint))
    place = CachePlace.below(tmp_path, 1)
    assert isinstance(store, GcsStore)
    assert place is not None
    assert place.downloads == store.cache.folder


def replacing(endpoint: str, data: bytes) -> Callable[[Callable[[], Answer]], Answer]:
    def replace(pass_on: Callable[[], Answer]) -> Answer:
        answer = pass_on()
        client_at(endpoint).bucket(URI.bucket).blob(URI.object).upload_from_string(data)
        return answer

    return replace


def test_object_replaced_during_its_download_is_downloaded_anew(
    store: GcsStore, proxy: Proxy, endpoint: str
) -> None:
    put(store, b"a" * (PIECE + 10))
    new = b"b" * (PIECE + 10)
    proxy.disturb = first_time(lambda request: "alt=media" in request.path, replacing(endpoint, new))
    with store.local_path(URI) as path:
        assert path.read_bytes() == new


@pytest.mark.parametrize("what", ["replaced", "removed"])
def test_object_that_changes_while_it_is_streamed_is_an_error(
    store: GcsStore, endpoint: str, what: str
) -> None:
    put(store, b"a" * (PIECE + 10))
    with store.open_read(URI) as file:
        assert file.read(10) == b"a" * 10
        blob = client_at(endpoint).bucket(URI.bucket).blob(URI.object)
        if what == "removed":
            blob.delete()
        else:
            blob.upload_from_string(b"b" * (PIECE + 10))
        with pytest.raises(ObjectChanged, match=r"gs://bucket/folder/clip\.mp4 was replaced or removed"):
            file.read()


def test_damaged_download_is_noticed(store: GcsStore, proxy: Proxy) -> None:
    put(store, b"data")

    def damage(request: Request, pass_on: Callable[[], Answer]) -> Answer:
        answer = pass_on()
        return Answer(200, b"dara", answer.headers) if "alt=media" in request.path else answer

    proxy.disturb = damage
    with pytest.raises(StorageError, match="checksum"), store.local_path(URI):
        pass
    assert [path for path in store.cache.folder.iterdir() if path.stat().st_size] == []


def test_list_goes_through_all_pages(store: GcsStore, proxy: Proxy) -> None:
    names = [f"{number:03d}" for number in range(7)]
    for name in names:
        put(store, b"x", GcsUri("bucket", name))

    def shorten(request: Request, pass_on: Callable[[], Answer]) -> Answer:
        if request.method == "GET" and request.path.split("?")[0].endswith("/o"):
            joiner = "&" if "?" in request.path else "?"
            request.path += f"{joiner}maxResults=3"
        return pass_on()

    proxy.disturb = shorten
    assert [info.uri.object for info in store.list("bucket")] == names
    assert proxy.count("GET", "pageToken=") == 2


@pytest.mark.gcs_server
def test_placeholder_of_a_folder_is_no_object(tmp_path: Path) -> None:
    with fake_gcs_server() as url:
        bucket = client_at(url).create_bucket("bucket")
        for name in ("in/", "in/1.jsonl"):
            bucket.blob(name).upload_from_string(b"")
        found = store_at(url, tmp_path).glob(GcsUri("bucket", "in/*"))
    assert [info.uri.object for info in found] == ["in/1.jsonl"]


# What goes wrong


def test_missing_bucket_and_missing_object_are_told_apart(store: GcsStore, proxy: Proxy) -> None:
    put(store, b"data")
    with pytest.raises(ObjectNotFound, match=rf"gs://bucket/missing does not exist at {proxy.url}"):
        store.stat(GcsUri("bucket", "missing"))
    with pytest.raises(ObjectNotFound, match="there is no bucket no-such-bucket at"):
        store.stat(GcsUri("no-such-bucket", "missing"))


def test_deletion_whose_answer_was_lost_is_no_failure(store: GcsStore, proxy: Proxy) -> None:
    put(store, b"data")
    proxy.disturb = first_time(lambda request: request.method == "DELETE", lose)
    store.delete(URI)
    assert list(store.list("bucket")) == []


@pytest.mark.parametrize("status", [429, 500, 503, None])
def test_passing_trouble_is_sat_out(store: GcsStore, proxy: Proxy, status: int | None) -> None:
    put(store, b"data")
    proxy.disturb = first_time(lambda _: True, lambda _: Answer(status))
    assert read(store) == b"data"


def error_answer(status: int, message: str) -> Answer:
    body = {"error": {"code": status, "message": message}}
    return Answer(status, json.dumps(body).encode(), {"Content-Type": "application/json"})


@pytest.mark.parametrize("status", [401, 403])
def test_refused_access_is_told_at_once(store: GcsStore, proxy: Proxy, status: int) -> None:
    proxy.disturb = lambda _, __: error_answer(status, "not for you")
    with pytest.raises(AccessDenied, match=r"gs://bucket/folder.*no access for anonymous.*not for you"):
        store.stat(URI)
    with pytest.raises(AccessDenied):
        store.check_writable(GcsUri("bucket", ""))
    assert len(proxy.requests) == 2


def test_endpoint_that_is_no_cloud_storage(store: GcsStore, proxy: Proxy) -> None:
    proxy.disturb = lambda _, __: Answer(200, b"<html>Welcome</html>", {"Content-Type": "text/html"})
    with pytest.raises(StorageError, match=proxy.url):
        store.stat(URI)
    proxy.disturb = lambda _, __: Answer(200, b"{}", {"Content-Type": "application/json"})
    with pytest.raises(StorageError, match="does not speak Cloud Storage"):
        store.stat(URI)


def test_redirect_is_not_followed(store: GcsStore, proxy: Proxy, endpoint: str) -> None:
    with proxy_to(endpoint) as elsewhere:
        proxy.disturb = lambda _, __: Answer(302, b"", {"Location": f"{elsewhere.url}/storage/v1/b"})
        with pytest.raises(StorageError, match="elsewhere"):
            store.stat(URI)
        assert elsewhere.requests == []


def test_upload_is_not_sent_elsewhere(store: GcsStore, proxy: Proxy, endpoint: str) -> None:
    with proxy_to(endpoint) as elsewhere:
        proxy.disturb = lambda _, __: Answer(200, b"{}", {"Location": f"{elsewhere.url}/upload"})
        with pytest.raises(StorageError, match="-external-url"):
            put(store, b"x" * (9 << 20))
        assert elsewhere.requests == []


def test_endpoint_that_is_down_is_given_up_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emulator.storage.gcs_client._RETRY_S", 0.5)
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(StorageUnavailable, match=rf"{url} does not answer.*Start it, or name another"):
        store_at(url, tmp_path).stat(URI)


def test_plain_endpoint_that_is_taken_for_a_tls_one(proxy: Proxy, tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="write http://"):
        store_at(proxy.url.replace("http:", "https:"), tmp_path).stat(URI)


def test_missing_bundle_of_certificates_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    with pytest.raises(StorageUnavailable, match=r"missing\.pem"):
        store_at(f"https://127.0.0.1:{free_port()}", tmp_path).stat(URI)


# The real Cloud Storage: nothing is sent to it here.


def test_real_cloud_storage_is_used_with_default_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the environment points clients elsewhere."""
    account = prepare(tmp_path / "tls", []).account
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    client = pickle.loads(pickle.dumps(store_at("https://storage.googleapis.com", tmp_path))).client
    found = client.call(URI, lambda it: (it._connection.API_BASE_URL, it._credentials.service_account_email))
    assert found == ("https://storage.googleapis.com", json.loads(account.read_text())["client_email"])


def test_missing_default_credentials_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with pytest.raises(AccessDenied, match="no access for the Application Default Credentials"):
        store_at("https://storage.googleapis.com", tmp_path).stat(URI)


def test_real_buckets_are_never_made(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="the emulator makes no real ones"):
        store_at("https://storage.googleapis.com", tmp_path)._make_bucket("bucket")


# Stopping


class Stop(Exception):
    """What a caller that has to stop raises."""


def stop_at(call: int) -> Callable[[], None]:
    """A check that raises when it is called for that time."""
    calls = iter(range(1, call))

    def check() -> None:
        if next(calls, None) is None:
            raise Stop

    return check


def test_waiting_for_an_endpoint_can_be_interrupted(tmp_path: Path) -> None:
    store = store_at(f"http://127.0.0.1:{free_port()}", tmp_path).interruptible(stop_at(5))
    with pytest.raises(Stop):
        store.stat(URI)


def test_download_asks_whether_to_go_on(store: GcsStore) -> None:
    put(store, b"x" * (2 * PIECE))
    with pytest.raises(Stop), store.interruptible(stop_at(3)).local_path(URI):
        pass
    with store.local_path(URI) as path:
        assert path.stat().st_size == 2 * PIECE


def test_gzipped_object_is_unpacked(store: GcsStore, endpoint: str) -> None:
    data = b"a line\n" * 100_000
    blob = client_at(endpoint).bucket(URI.bucket).blob(URI.object)
    blob.content_encoding = "gzip"
    blob.upload_from_string(gzip.compress(data), content_type="video/mp4")
    assert read(store) == data
    with store.local_path(URI) as path:
        assert (path.suffix, path.read_bytes()) == (".mp4", data)
    assert not path.exists()
