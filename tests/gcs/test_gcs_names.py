"""Names that a folder cannot hold, on the wire: kept, listed by page, copied, composed, deleted."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

# `a` beside `a/b`, markers of folders, empty and dotted segments, long ones, names of hidden folders.
NAMES = [
    *("a", "a/", "a/b", "a/b/c", "a//b", "/a", "./x", "a/../b", "b/", "b/c", "..a/", "x" * 300, "é" * 512),
    *(".vbe-meta/x", "z/"),
]


@pytest.fixture
def filled(http: httpx.Client, folder: Path) -> str:
    """A bucket with an object of each name, whose content is the name."""
    for name in NAMES:
        url = f"/upload/storage/v1/b/{folder.name}/o?uploadType=media&name={quote(name, safe='')}"
        assert http.post(url, content=name.encode()).json()["name"] == name
    return folder.name


def path(bucket: str, name: str) -> str:
    return f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}"


def listed(http: httpx.Client, bucket: str, **parameters: str) -> tuple[list[str], list[str]]:
    """Names and prefixes of all pages."""
    names: list[str] = []
    prefixes: list[str] = []
    while True:
        page: Any = http.get(f"/storage/v1/b/{bucket}/o", params=parameters).json()
        names += [item["name"] for item in page.get("items", [])]
        prefixes += page.get("prefixes", [])
        if "nextPageToken" not in page:
            return names, prefixes
        parameters["pageToken"] = page["nextPageToken"]


def by_bytes(names: list[str]) -> list[str]:
    return sorted(names, key=str.encode)


@pytest.mark.parametrize("page_size", ["1", "2", "1000"])
def test_all_are_listed_in_order(http: httpx.Client, filled: str, page_size: str) -> None:
    assert listed(http, filled, maxResults=page_size)[0] == by_bytes(NAMES)
    for prefix in ("a", "a/", "a//", "x", "é", "."):
        expected = by_bytes([name for name in NAMES if name.startswith(prefix)])
        assert listed(http, filled, prefix=prefix, maxResults=page_size)[0] == expected
    names, prefixes = listed(http, filled, delimiter="/", maxResults=page_size)
    assert names == by_bytes([name for name in NAMES if "/" not in name])
    assert prefixes == by_bytes(list({name.partition("/")[0] + "/" for name in NAMES if "/" in name}))
    names, prefixes = listed(http, filled, delimiter="/", prefix="a/", maxResults=page_size)
    assert (names, prefixes) == (["a/", "a/b"], ["a/../", "a//", "a/b/"])


def test_trailing_delimiter_is_included_on_demand(http: httpx.Client, filled: str) -> None:
    names, prefixes = listed(http, filled, delimiter="/", prefix="b", includeTrailingDelimiter="true")
    assert (names, prefixes) == (["b/"], ["b/"])


def test_each_is_read_copied_moved_and_deleted(http: httpx.Client, filled: str) -> None:
    for name in NAMES:
        assert http.get(path(filled, name), params={"alt": "media"}).content == name.encode()
        copy = f"copies/{name}"[:500]
        copied = http.post(f"{path(filled, name)}/rewriteTo{path(filled, copy)[11:]}", json={})
        assert copied.json()["resource"]["size"] == str(len(name.encode()))
        assert http.get(path(filled, copy), params={"alt": "media"}).content == name.encode()
        assert http.delete(path(filled, copy)).status_code == 204
    body = {"sourceObjects": [{"name": name} for name in NAMES]}
    assert http.post(f"{path(filled, 'all/')}/compose", json=body).status_code == 200
    whole = http.get(path(filled, "all/"), params={"alt": "media"}).content
    assert whole == "".join(NAMES).encode()
    for name in ["all/", *NAMES]:
        patched = http.patch(path(filled, name), json={"metadata": {"k": "v"}}).json()
        assert patched["metadata"] == {"k": "v"}
        assert http.delete(path(filled, name)).status_code == 204
        assert http.get(path(filled, name)).status_code == 404
    assert listed(http, filled) == ([], [])
    assert http.delete(f"/storage/v1/b/{filled}").status_code == 204


def test_prefix_that_is_longer_than_a_name_does_not_list_it(http: httpx.Client, filled: str) -> None:
    assert listed(http, filled, prefix="zz") == ([], [])
    assert listed(http, filled, prefix="x" * 301) == ([], [])


def test_names_that_no_object_can_have_are_refused(http: httpx.Client, folder: Path) -> None:
    for name in ("x" * 1025, ".well-known/acme-challenge/x", "a\nb"):
        url = f"/upload/storage/v1/b/{folder.name}/o?uploadType=media&name={quote(name, safe='')}"
        assert http.post(url, content=b"x").status_code == 400
