"""What Google's Python client does with Cloud Storage, it does here."""

import datetime
import gzip
import io
import os
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.storage import transfer_manager

KIB_256 = 256 << 10
AWKWARD = "a folder/ünï+c%6fde #1?x=y&z.txt"


def names(blobs: Any) -> list[str]:
    return [blob.name for blob in blobs]


def test_bucket_is_created_changed_listed_and_deleted(client: Any, name: str) -> None:
    bucket = client.create_bucket(name, location="europe-west4")
    assert (bucket.location, bucket.location_type) == ("EUROPE-WEST4", "region")
    with pytest.raises(exceptions.Conflict):
        client.create_bucket(name)
    bucket.labels = {"team": "video"}
    bucket.patch()
    assert client.get_bucket(name).labels == {"team": "video"}
    assert client.get_bucket(name).metageneration == 2
    assert name in [entry.name for entry in client.list_buckets(prefix="bucket-")]
    assert len(list(client.list_buckets(prefix=name, page_size=1))) == 1
    bucket.delete()
    assert client.lookup_bucket(name) is None
    assert not bucket.exists()


def test_bucket_with_objects_is_not_deleted_unless_forced(bucket: Any) -> None:
    bucket.blob("a/b").upload_from_string("x")
    with pytest.raises(exceptions.Conflict, match="not empty"):
        bucket.delete()
    bucket.delete(force=True)
    assert not bucket.exists()


def test_wrong_bucket_name_is_refused(client: Any) -> None:
    with pytest.raises(exceptions.BadRequest, match="Invalid bucket name"):
        client.create_bucket("Not-A-Bucket")


@pytest.mark.parametrize("name_of_blob", ["plain.txt", AWKWARD, "deep/" * 20 + "x"])
@pytest.mark.parametrize("checksum", ["md5", "crc32c", None])
def test_string_goes_up_and_comes_down(bucket: Any, name_of_blob: str, checksum: str | None) -> None:
    blob = bucket.blob(name_of_blob)
    blob.metadata = {"who": "tést"}
    blob.upload_from_string("text ünd more", content_type="text/plain", checksum=checksum)
    found = bucket.get_blob(name_of_blob)
    assert (found.name, found.size, found.content_type) == (name_of_blob, 14, "text/plain")
    assert found.metadata == {"who": "tést"}
    assert (found.crc32c, found.md5_hash, found.generation) == (blob.crc32c, blob.md5_hash, blob.generation)
    for kind in ("md5", "crc32c"):
        assert found.download_as_bytes(checksum=kind).decode() == "text ünd more"


def test_object_is_the_file_in_the_folder(bucket: Any, folder: Path) -> None:
    bucket.blob("a/b.bin").upload_from_string(b"bytes")
    assert (folder / "a" / "b.bin").read_bytes() == b"bytes"
    (folder / "a" / "clip.mp4").write_bytes(b"dropped in")
    dropped = bucket.get_blob("a/clip.mp4")
    assert (dropped.content_type, dropped.size) == ("video/mp4", 10)
    assert dropped.download_as_bytes(checksum="md5") == b"dropped in"
    (folder / "a" / "b.bin").write_bytes(b"changed by hand")
    changed = bucket.get_blob("a/b.bin")
    assert changed.download_as_bytes(checksum="crc32c") == b"changed by hand"
    assert changed.size == 15


@pytest.mark.parametrize("size", [0, 1, KIB_256, 3 * KIB_256, 3 * KIB_256 + 5])
@pytest.mark.parametrize("size_is_known", [True, False])
def test_resumable_upload_in_chunks(bucket: Any, size: int, size_is_known: bool) -> None:
    data = os.urandom(size)
    blob = bucket.blob("chunked", chunk_size=KIB_256)
    blob.upload_from_file(
        io.BytesIO(data), size=size if size_is_known else None, content_type="video/mp4", checksum="crc32c"
    )
    found = bucket.get_blob("chunked")
    assert (found.size, found.content_type) == (size, "video/mp4")
    assert found.download_as_bytes(checksum="crc32c") == data


def test_large_file_goes_up_and_comes_down_in_ranges(bucket: Any, tmp_path: Path) -> None:
    data = os.urandom(9 << 20)
    (tmp_path / "up").write_bytes(data)
    bucket.blob("large").upload_from_filename(tmp_path / "up")  # resumable in one piece: over 8 MiB
    bucket.blob("large", chunk_size=1 << 20).download_to_filename(tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == data
    assert bucket.blob("large").download_as_bytes(start=5, end=9) == data[5:10]
    assert bucket.blob("large").download_as_bytes(start=len(data) - 3) == data[-3:]
    with pytest.raises(exceptions.RequestRangeNotSatisfiable):
        bucket.blob("large").download_as_bytes(start=len(data))


def test_wrong_checksum_is_refused(bucket: Any) -> None:
    blob = bucket.blob("wrong")
    blob.md5_hash = "1B2M2Y8AsgTpgAmY7PhCfg=="  # of nothing
    with pytest.raises(exceptions.BadRequest, match="doesn't match calculated MD5"):
        blob.upload_from_string("something", checksum=None)
    assert not blob.exists()


def test_blob_is_written_and_read_as_a_file(bucket: Any) -> None:
    with bucket.blob("lines").open("w", chunk_size=KIB_256) as file:
        for number in range(50_000):
            file.write(f"line {number}\n")
    with bucket.blob("lines").open("r", chunk_size=KIB_256) as file:
        lines = file.readlines()
    assert (len(lines), lines[-1]) == (50_000, "line 49999\n")
    with bucket.blob("lines").open("rb") as file:
        file.seek(7)
        assert file.read(6) == b"line 1"


def test_objects_are_listed(client: Any, bucket: Any) -> None:
    for entry in ("a/1", "a/2", "a/b/3", "a-", "b", "ä/x"):
        bucket.blob(entry).upload_from_string(entry)
    assert names(client.list_blobs(bucket)) == ["a-", "a/1", "a/2", "a/b/3", "b", "ä/x"]
    assert names(client.list_blobs(bucket, prefix="a/")) == ["a/1", "a/2", "a/b/3"]
    assert names(client.list_blobs(bucket, prefix="a", page_size=1)) == ["a-", "a/1", "a/2", "a/b/3"]
    assert names(client.list_blobs(bucket, start_offset="a/2", end_offset="b")) == ["a/2", "a/b/3"]
    assert names(client.list_blobs(bucket, match_glob="**/[12]")) == ["a/1", "a/2"]
    assert names(client.list_blobs(bucket, match_glob="{a-,b*}")) == ["a-", "b"]
    assert names(client.list_blobs(bucket, fields="items(name),nextPageToken", max_results=2)) == [
        "a-",
        "a/1",
    ]


@pytest.mark.parametrize("page_size", [1, 2, None])
def test_objects_are_listed_by_folder(client: Any, bucket: Any, page_size: int | None) -> None:
    for entry in ("a/1", "a/2", "a/b/3", "a/c/4", "a/c/5", "b"):
        bucket.blob(entry).upload_from_string(entry)
    for prefix, delimiter, items, prefixes in (
        ("", "/", ["b"], {"a/"}),
        ("a/", "/", ["a/1", "a/2"], {"a/b/", "a/c/"}),
        ("a", "/", [], {"a/"}),
        ("a/c", "/", [], {"a/c/"}),
        ("", "c/", ["a/1", "a/2", "a/b/3", "b"], {"a/c/"}),
    ):
        listing = client.list_blobs(bucket, prefix=prefix, delimiter=delimiter, page_size=page_size)
        assert (names(listing), listing.prefixes) == (items, prefixes)


def test_copy_rewrite_rename_and_compose(bucket: Any, client: Any, folder: Path) -> None:
    source = bucket.blob("source")
    source.metadata = {"k": "v"}
    source.upload_from_string("source ", content_type="text/csv")
    copy = bucket.copy_blob(source, bucket, "copy")
    assert (copy.metadata, copy.content_type, copy.crc32c) == ({"k": "v"}, "text/csv", source.crc32c)
    (folder.parent / f"{folder.name}-2").mkdir()
    target = client.bucket(f"{folder.name}-2").blob("rewritten")
    token, done, total = target.rewrite(source)
    assert (token, done, total) == (None, 7, 7)
    assert bucket.rename_blob(copy, "renamed").download_as_text() == "source "
    assert not copy.exists()
    composed = bucket.blob("composed")
    composed.content_type = "text/plain"
    composed.compose([source, bucket.blob("renamed"), source])
    found = bucket.get_blob("composed")
    assert (found.component_count, found.md5_hash, found.content_type) == (3, None, "text/plain")
    assert found.download_as_bytes(checksum="crc32c") == b"source " * 3
    with pytest.raises(exceptions.NotFound, match="missing"):
        composed.compose([source, bucket.blob("missing")])


def test_metadata_is_patched(bucket: Any) -> None:
    blob = bucket.blob("patched")
    blob.metadata = {"a": "1", "b": "2"}
    blob.upload_from_string("x")
    blob.metadata = {"a": None, "c": "3"}
    blob.cache_control = "no-store"
    blob.custom_time = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    blob.patch()
    found = bucket.get_blob("patched")
    assert found.metadata == {"b": "2", "c": "3"}
    assert (found.cache_control, found.custom_time) == ("no-store", blob.custom_time)
    assert (found.generation, found.metageneration) == (blob.generation, 2)
    assert found.updated > found.time_created
    found.content_type = "text/html"
    found.metadata = None
    found.update()
    again = bucket.get_blob("patched")
    assert (again.content_type, again.metadata, again.metageneration) == ("text/html", None, 3)


def test_preconditions(bucket: Any) -> None:
    blob = bucket.blob("guarded")
    blob.upload_from_string("1", if_generation_match=0)
    first = blob.generation
    with pytest.raises(exceptions.PreconditionFailed):
        blob.upload_from_string("2", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("guarded", chunk_size=KIB_256).upload_from_file(io.BytesIO(b"2"), if_generation_match=0)
    blob.upload_from_string("2", if_generation_match=first)
    assert blob.generation > first
    for wrong in (
        {"if_generation_match": first},
        {"if_metageneration_match": 2},
        {"if_generation_not_match": blob.generation},
    ):
        for call in (blob.delete, blob.patch, lambda **condition: blob.upload_from_string("3", **condition)):
            with pytest.raises(exceptions.PreconditionFailed):
                call(**wrong)
    with pytest.raises(exceptions.PreconditionFailed):
        blob.download_as_bytes(if_generation_match=first)
    with pytest.raises(exceptions.GoogleAPICallError) as caught:
        blob.reload(if_generation_not_match=blob.generation)
    assert caught.value.code == 304
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("copy").rewrite(blob, if_source_generation_match=first)
    assert blob.download_as_bytes(if_etag_match=blob.etag) == b"2"
    assert bucket.get_blob("guarded", generation=first) is None
    blob.delete(if_generation_match=blob.generation)
    with pytest.raises(exceptions.PreconditionFailed):
        blob.upload_from_string("4", if_generation_match=first)


def test_what_is_not_there_is_not_found(client: Any, bucket: Any, name: str) -> None:
    for missing in ("missing", "folder/", "a//b", "../secret", "x" * 300):
        blob = bucket.blob(missing)
        assert not blob.exists()
        for call in (blob.delete, blob.reload, blob.download_as_bytes):
            with pytest.raises(exceptions.NotFound):
                call()
    nowhere = client.bucket(f"{name}-nowhere")
    for call in (
        lambda: nowhere.blob("x").upload_from_string("x"),
        lambda: nowhere.blob("x", chunk_size=KIB_256).upload_from_file(io.BytesIO(b"x")),
        lambda: list(client.list_blobs(nowhere)),
        nowhere.blob("x").download_as_bytes,
    ):
        with pytest.raises(exceptions.NotFound, match=r"bucket does not exist"):
            call()


def test_batch(client: Any, bucket: Any) -> None:
    blobs = [bucket.blob(f"batched {number}/ü") for number in range(3)]
    for blob in blobs:
        blob.upload_from_string("x")
    with client.batch():
        for blob in blobs[:2]:
            blob.metadata = {"in": "batch"}
            blob.patch()
    assert blobs[0].metadata == {"in": "batch"}
    assert bucket.get_blob(blobs[1].name).metadata == {"in": "batch"}
    with client.batch():
        for blob in blobs:
            blob.delete()
    assert list(client.list_blobs(bucket)) == []
    with pytest.raises(exceptions.NotFound), client.batch():
        blobs[0].delete()


def test_gzipped_object_comes_back_unzipped(bucket: Any) -> None:
    blob = bucket.blob("zipped.txt")
    blob.content_encoding = "gzip"
    blob.upload_from_string(gzip.compress(b"text " * 1000), content_type="text/plain")
    assert bucket.get_blob("zipped.txt").content_encoding == "gzip"
    assert blob.download_as_bytes() == b"text " * 1000
    assert gzip.decompress(blob.download_as_bytes(raw_download=True)) == b"text " * 1000


def test_chunks_are_downloaded_by_many_workers(bucket: Any, tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    bucket.blob("parts").upload_from_string(data)
    transfer_manager.download_chunks_concurrently(
        bucket.get_blob("parts"),
        tmp_path / "parts",
        chunk_size=1 << 20,
        worker_type=transfer_manager.THREAD,
        max_workers=3,
    )
    assert (tmp_path / "parts").read_bytes() == data


def test_soft_features(client: Any, bucket: Any) -> None:
    assert bucket.test_iam_permissions(["storage.objects.get"]) == ["storage.objects.get"]
    assert set(bucket.get_iam_policy()) == {
        "roles/storage.legacyBucketOwner",
        "roles/storage.legacyBucketReader",
    }
    assert list(bucket.list_notifications()) == []
    assert list(client.list_hmac_keys()) == []
    with pytest.raises(exceptions.MethodNotImplemented, match="Notifications"):
        bucket.notification(topic_name="topic").create()
