"""Rust's object_store, by its Python bindings: a client of the XML API alone."""

import asyncio
import json
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, NotFoundError, PreconditionError
from obstore.store import GCSStore

MIB = 1 << 20


@pytest.fixture
def store(server: Any, folder: Path) -> GCSStore:
    """The test's own bucket."""
    key = {"gcs_base_url": server.url, "disable_oauth": True, "client_email": "", "private_key": ""}
    return GCSStore(
        folder.name,
        service_account_key=json.dumps({**key, "private_key_id": ""}),
        client_options={"allow_http": True},
    )


def test_object_is_put_got_listed_copied_and_deleted(store: GCSStore, folder: Path) -> None:
    name = "a folder/ünï+x.txt"
    written = obstore.put(store, name, b"hello", attributes={"Content-Type": "text/x", "who": "me"})
    assert (folder / name).read_bytes() == b"hello"
    got = obstore.get(store, name)
    assert (bytes(got.bytes()), got.attributes["Content-Type"], got.attributes["who"]) == (
        b"hello",
        "text/x",
        "me",
    )
    described = obstore.head(store, name)
    assert (described["size"], described["e_tag"]) == (5, written["e_tag"])
    assert bytes(obstore.get_range(store, name, start=1, end=3)) == b"el"
    assert [bytes(part) for part in obstore.get_ranges(store, name, starts=[0, 3], ends=[1, 5])] == [
        b"h",
        b"lo",
    ]
    obstore.copy(store, name, "copy")
    obstore.rename(store, "copy", "renamed")
    listed = obstore.list_with_delimiter(store)
    assert ([entry["path"] for entry in listed["objects"]], listed["common_prefixes"]) == (
        ["renamed"],
        ["a folder"],
    )
    entries = obstore.list(store).collect()
    assert {entry["path"]: entry["e_tag"] for entry in entries}[name] == written["e_tag"]
    obstore.delete(store, [name, "renamed"])
    assert obstore.list(store).collect() == []
    with pytest.raises((NotFoundError, FileNotFoundError)):
        obstore.head(store, name)


def test_many_objects_come_in_pages(store: GCSStore, folder: Path) -> None:
    for number in range(1100):
        (folder / f"{number:05}").touch()
    entries = obstore.list(store).collect()
    assert [entry["path"] for entry in entries] == [f"{number:05}" for number in range(1100)]
    assert len(obstore.list(store, offset="01000").collect()) == 99


def test_conditions(store: GCSStore) -> None:
    obstore.put(store, "a", b"first", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "a", b"second", mode="create")
    described = obstore.head(store, "a")
    obstore.put(store, "a", b"third", mode={"e_tag": described["e_tag"], "version": described["version"]})
    with pytest.raises(PreconditionError):
        obstore.put(store, "a", b"no", mode={"e_tag": described["e_tag"], "version": described["version"]})
    with pytest.raises(AlreadyExistsError):
        obstore.copy(store, "a", "a", overwrite=False)
    with pytest.raises(PreconditionError):
        obstore.get(store, "a", options={"if_match": described["e_tag"]})
    assert bytes(obstore.get(store, "a").bytes()) == b"third"


def test_large_object_goes_up_in_parts(store: GCSStore, folder: Path) -> None:
    data = bytes(range(256)) * (17 * MIB // 256)
    obstore.put(store, "a/large", data, use_multipart=True, chunk_size=5 * MIB, max_concurrency=4)
    assert (folder / "a" / "large").read_bytes() == data
    with obstore.open_writer(store, "streamed", buffer_size=5 * MIB) as writer:
        for start in range(0, len(data), MIB):
            writer.write(data[start : start + MIB])
    assert (folder / "streamed").read_bytes() == data


def test_signed_urls_are_not_needed_but_many_calls_at_once_are_fine(store: GCSStore) -> None:
    async def many() -> None:
        await asyncio.gather(*(obstore.put_async(store, f"n/{number}", b"x") for number in range(100)))

    asyncio.run(many())
    assert len(obstore.list(store, "n/").collect()) == 100
