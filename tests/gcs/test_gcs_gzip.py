"""Objects with `contentEncoding: gzip`: unpacked for a client that does not take gzip, and for jobs."""

import gzip
import io
import logging
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.gcs.bucket_store import Buckets
from emulator.storage import GcsUri, LocalStore, StorageError

TEXT = b'{"content": "gs://bucket/a.mp4"}\n' * 20_000
PACKED = gzip.compress(TEXT)
PLAIN = {"accept-encoding": "identity"}


def store_gzipped(http: httpx.Client, bucket: str, data: bytes, **parameters: str) -> dict[str, Any]:
    url = f"/upload/storage/v1/b/{bucket}/o"
    query = {"uploadType": "media", "name": "x", "contentEncoding": "gzip", **parameters}
    resource: dict[str, Any] = http.post(url, params=query, content=data).json()
    return resource


def raw(http: httpx.Client, path: str, headers: dict[str, str]) -> tuple[httpx.Response, bytes]:
    """The answer and its bytes as they came."""
    with http.stream("GET", path, headers=headers) as response:
        return response, b"".join(response.iter_raw())


@pytest.mark.parametrize("path", ["/storage/v1/b/{}/o/x?alt=media", "/{}/x"])
@pytest.mark.parametrize("accepts", ["gzip", "deflate, gzip;q=0.5", "*"])
def test_client_that_takes_gzip_gets_what_is_stored(
    http: httpx.Client, folder: Path, path: str, accepts: str
) -> None:
    resource = store_gzipped(http, folder.name, PACKED)
    assert (resource["contentEncoding"], resource["size"]) == ("gzip", str(len(PACKED)))
    response, data = raw(http, path.format(folder.name), {"accept-encoding": accepts})
    assert (response.headers["content-encoding"], data) == ("gzip", PACKED)
    response, data = raw(http, path.format(folder.name), {"accept-encoding": accepts, "range": "bytes=2-5"})
    assert (response.status_code, data) == (206, PACKED[2:6])
    assert "accept-encoding" in response.headers["vary"].lower()


@pytest.mark.parametrize("path", ["/storage/v1/b/{}/o/x?alt=media", "/{}/x"])
@pytest.mark.parametrize("accepts", ["identity", "gzip;q=0", "br"])
def test_other_client_gets_what_it_unpacks_to_and_never_a_range(
    http: httpx.Client, folder: Path, path: str, accepts: str
) -> None:
    store_gzipped(http, folder.name, PACKED)
    headers = {"accept-encoding": accepts, "range": "bytes=2-5"}
    response, data = raw(http, path.format(folder.name), headers)
    assert (response.status_code, data) == (200, TEXT)
    assert "content-encoding" not in response.headers
    assert response.headers["x-goog-stored-content-encoding"] == "gzip"
    assert response.headers["x-goog-stored-content-length"] == str(len(PACKED))


def test_object_that_forbids_it_or_is_no_gzip_is_sent_as_it_is(http: httpx.Client, folder: Path) -> None:
    store_gzipped(http, folder.name, b"no gzip")
    path = f"/storage/v1/b/{folder.name}/o/x"
    assert raw(http, f"{path}?alt=media", PLAIN)[1] == b"no gzip"
    store_gzipped(http, folder.name, PACKED)
    http.patch(path, json={"cacheControl": "public, no-transform"})
    response, data = raw(http, f"{path}?alt=media", PLAIN)
    assert (response.headers["content-encoding"], data) == ("gzip", PACKED)


def test_python_client_gets_both(bucket: Any) -> None:
    blob = bucket.blob("x")
    blob.content_encoding = "gzip"
    blob.upload_from_file(io.BytesIO(PACKED))
    assert blob.download_as_bytes() == TEXT
    assert blob.download_as_bytes(raw_download=True) == PACKED


def test_damaged_gzip_ends_the_download_and_not_the_server(
    http: httpx.Client, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    packed = gzip.compress(os.urandom(1 << 20))
    store_gzipped(http, folder.name, packed[: len(packed) // 2])
    with caplog.at_level(logging.ERROR), pytest.raises(httpx.RemoteProtocolError):
        raw(http, f"/storage/v1/b/{folder.name}/o/x?alt=media", PLAIN)
    assert "cannot be unpacked" in caplog.text
    assert http.get(f"/storage/v1/b/{folder.name}/o/x").status_code == 200


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    (tmp_path / "bucket").mkdir()
    return LocalStore(tmp_path)


def put(store: LocalStore, data: bytes, name: str = "x") -> GcsUri:
    buckets, uri = Buckets(store), GcsUri("bucket", name)
    draft = buckets.draft("bucket")
    draft.append(data)
    buckets.publish(draft, uri, {"contentEncoding": "gzip"}, lambda _: None)
    return uri


@pytest.mark.parametrize("name", ["x", "folder/"])
def test_jobs_read_what_an_object_unpacks_to(store: LocalStore, name: str) -> None:
    uri = put(store, PACKED, name)
    with store.open_read(uri) as file:
        assert file.readline() == TEXT.splitlines(keepends=True)[0]
        assert file.read() == TEXT.split(b"\n", 1)[1]
    with store.local_path(uri) as path:
        assert path.read_bytes() == TEXT
    assert not path.exists()
    with store.open_stored(uri) as file:
        assert file.read() == PACKED


def test_file_that_replaces_a_gzipped_object_is_not_unpacked(store: LocalStore) -> None:
    uri = put(store, PACKED)
    store.path_of(uri).path.write_bytes(b"plain")
    with store.open_read(uri) as file, store.local_path(uri) as path:
        assert (file.read(), path.read_bytes()) == (b"plain", b"plain")


@pytest.mark.parametrize(("data", "message"), [(PACKED[:-9], "cannot be unpacked"), (b"none", "cannot be")])
def test_what_cannot_be_unpacked_is_said(store: LocalStore, data: bytes, message: str) -> None:
    uri = put(store, data)
    with store.open_read(uri) as file, pytest.raises(StorageError, match=f"{uri}.*{message}"):
        file.read()
    with pytest.raises(StorageError, match=message), store.local_path(uri):
        pass
    assert list((store.root / "bucket" / ".vbe-tmp").iterdir()) == []


@pytest.mark.slow
def test_bomb_is_refused_before_it_fills_the_disk(store: LocalStore) -> None:
    uri = put(store, gzip.compress(bytes(400 << 20), 9))
    with pytest.raises(StorageError, match="200 times its size"), store.local_path(uri):
        pass
    assert list((store.root / "bucket" / ".vbe-tmp").iterdir()) == []
