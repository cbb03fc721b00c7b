"""Records of objects and buckets that somebody edited: one that cannot be read counts as none."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from emulator.gcs.bucket_store import Buckets
from emulator.storage import GcsUri, LocalStore

URI = GcsUri("bucket", "a.txt")
WRONG: tuple[Any, ...] = ("x", -5, 1.5, 10**30, [], {"a": 1}, True)
OBJECT = ("metageneration", "updatedUs", "attributes", "crc32c", "md5", "componentCount", "goneUs")
BUCKET = ("createdUs", "metageneration", "updatedUs", "attributes")


@pytest.fixture
def buckets(tmp_path: Path) -> Buckets:
    """A bucket with one object, both recorded."""
    buckets = Buckets(LocalStore(tmp_path))
    buckets.create_bucket("bucket", {"labels": {"a": "b"}})
    draft = buckets.draft("bucket")
    draft.append(b"content")
    buckets.publish(draft, URI, {"contentType": "text/plain"}, lambda _: None)
    return buckets


def record_of(folder: Path, *, bucket: bool = False) -> Path:
    records = folder / "bucket" / ".vbe-meta"
    return records / "bucket.json" if bucket else next(records.glob("?" * 64 + ".json"))


def edit(path: Path, change: dict[str, Any]) -> None:
    record = json.loads(path.read_text())
    for entry in record.get("versions", {"": record}).values():
        entry.update(change)
    path.write_text(json.dumps(record))


def assert_object_is_as_by_hand(buckets: Buckets) -> None:
    stored = buckets.find(URI)
    assert (stored.metageneration, stored.updated_us, stored.attributes) == (1, stored.generation, {})
    assert [info.uri for info in buckets.list("bucket")] == [URI]
    assert buckets.update(URI, lambda _: {"contentType": "text/html"}).metageneration == 2
    assert buckets.find(URI).attributes == {"contentType": "text/html"}


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@pytest.mark.parametrize("name", OBJECT)
def test_object_s_field_of_another_kind(buckets: Buckets, tmp_path: Path, name: str, wrong: Any) -> None:
    if (name, wrong) == ("attributes", {"a": 1}) or (name, wrong) == ("crc32c", []):
        wrong = 5
    edit(record_of(tmp_path), {name: wrong})
    assert_object_is_as_by_hand(buckets)


@pytest.mark.parametrize(
    "attributes",
    [
        {"contentType": 5},
        {"contentEncoding": ["gzip"]},
        {"metadata": "x"},
        {"metadata": {"a": 5}},
        {"acl": [5]},
        {"acl": [{"entity": "allUsers"}]},
        {"temporaryHold": "no"},
        {"retention": {"mode": "Locked"}},
        {"retention": {"mode": "Locked", "retainUntilTime": "tomorrow"}},
        {"customerEncryption": {"a": "b"}},
    ],
    ids=repr,
)
def test_object_s_attribute_of_another_kind(
    buckets: Buckets, tmp_path: Path, attributes: dict[str, Any]
) -> None:
    edit(record_of(tmp_path), {"attributes": attributes})
    assert_object_is_as_by_hand(buckets)


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@pytest.mark.parametrize("name", BUCKET)
def test_bucket_s_field_of_another_kind(buckets: Buckets, tmp_path: Path, name: str, wrong: Any) -> None:
    edit(record_of(tmp_path, bucket=True), {name: 5 if name == "attributes" else wrong})
    bucket = buckets.bucket("bucket")
    assert (bucket.metageneration, bucket.attributes) == (1, {})
    assert [found.name for found in buckets.buckets()] == ["bucket"]


@pytest.mark.parametrize(
    "attributes",
    [
        {"retentionPolicy": {"retentionPeriod": "x"}},
        {"softDeletePolicy": {"retentionDurationSeconds": "x"}},
        {"storageClass": {}},
        {"cors": ["x"]},
        {"defaultObjectAcl": {"a": 5}},
        {"iamConfiguration": True},
        {"iamPolicy": [5]},
        {"location": 5},
    ],
    ids=repr,
)
def test_bucket_s_attribute_of_another_kind(
    buckets: Buckets, tmp_path: Path, attributes: dict[str, Any]
) -> None:
    edit(record_of(tmp_path, bucket=True), {"attributes": attributes})
    bucket = buckets.bucket("bucket")
    assert (bucket.attributes, bucket.retention_us, bucket.object_defaults) == ({}, 0, {})


def test_named_pipe_that_somebody_holds_open(buckets: Buckets, tmp_path: Path) -> None:
    record = record_of(tmp_path)
    record.unlink()
    os.mkfifo(record)
    held = os.open(record, os.O_RDWR)
    try:
        assert_object_is_as_by_hand(buckets)
    finally:
        os.close(held)
