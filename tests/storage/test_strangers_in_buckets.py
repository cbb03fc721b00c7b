"""What strangers put into a bucket's folder: it is no object, it hangs nobody, and hides nothing."""

import os
import socket
from pathlib import Path

import pytest

from emulator.gcs.bucket_store import Buckets
from emulator.storage import GcsUri, LocalStore, ObjectNotFound


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A bucket with one object, among strangers."""
    bucket = tmp_path / "bucket"
    (bucket / "folder").mkdir(parents=True)
    (bucket / "folder" / "good").write_text("good")
    os.mkfifo(bucket / "folder" / "pipe")
    (bucket / "folder" / "zero").symlink_to("/dev/zero")
    (bucket / "folder" / "nowhere").symlink_to("missing")
    (bucket / "folder" / "loop").symlink_to("loop")
    (bucket / "folder" / "above").symlink_to("..")
    (bucket / "folder" / os.fsdecode(b"caf\xe9")).write_text("x")
    (bucket / "folder" / "a\nb").write_text("x")
    here = Path.cwd()
    os.chdir(bucket / "folder")  # the path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket")
    finally:
        os.chdir(here)
    os.mkfifo(tmp_path / "pipe-bucket")
    (tmp_path / "link-bucket").symlink_to("link-bucket")
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    return LocalStore(tmp_path)


def test_only_objects_are_listed(store: LocalStore) -> None:
    assert list(store.buckets()) == ["bucket"]
    assert [info.uri.object for info in store.list("bucket")] == ["folder/good"]
    assert [info.uri.object for info in store.glob(GcsUri("bucket", "folder/*"))] == ["folder/good"]


@pytest.mark.parametrize("name", ["pipe", "zero", "nowhere", "loop", "above", "socket"])
def test_what_is_no_object_is_not_found(store: LocalStore, name: str) -> None:
    uri = GcsUri("bucket", f"folder/{name}")
    with pytest.raises(ObjectNotFound if name != "zero" else Exception, match="folder/"):
        store.open_read(uri)
    with pytest.raises(ObjectNotFound if name != "zero" else Exception, match="folder/"):
        store.stat(uri)


@pytest.mark.parametrize("stranger", ["pipe", "nested", "folder", "large"])
def test_a_record_that_cannot_be_read_counts_as_none(store: LocalStore, stranger: str) -> None:
    buckets = Buckets(store)
    uri = GcsUri("bucket", "folder/good")
    buckets.update(uri, lambda _: {"contentType": "text/plain"})
    (record,) = store.metadata_folder("bucket").iterdir()
    record.unlink()
    own = store.metadata_folder("bucket") / "bucket.json"
    for path in (record, own):
        if stranger == "pipe":
            os.mkfifo(path)
        elif stranger == "folder":
            path.mkdir()
        else:
            path.write_text("[" * 100_000 if stranger == "nested" else " " * (5 << 20))
    assert buckets.find(uri).attributes == {}
    assert buckets.bucket("bucket").metageneration == 1
    assert [buckets.describe(info).size for info in buckets.list("bucket")] == [4]
