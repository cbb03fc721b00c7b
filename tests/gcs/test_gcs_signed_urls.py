"""Signed URLs that Google's client signs: the emulator checks when they expire, not who signed them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests


def used(method: str, url: str, **options: Any) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, timeout=30, **options)


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_signed_url_reads_writes_and_deletes(bucket: Any, folder: Path, account: Any, version: str) -> None:
    blob = bucket.blob("a folder/ünï+x.txt")

    def signed(method: str, **options: Any) -> str:
        lasts = timedelta(minutes=5)
        url: str = blob.generate_signed_url(
            lasts, method=method, version=version, credentials=account, **options
        )
        return url

    put = signed("PUT", content_type="text/x")
    assert used("PUT", put, data=b"hello", headers={"Content-Type": "text/x"}).status_code == 200
    assert (folder / "a folder" / "ünï+x.txt").read_bytes() == b"hello"
    read = used("GET", signed("GET", response_disposition="attachment; filename=x"))
    assert (read.content, read.headers["content-disposition"]) == (b"hello", "attachment; filename=x")
    assert used("HEAD", signed("HEAD")).headers["content-length"] == "5"
    started = used("POST", signed("RESUMABLE"), headers={"x-goog-resumable": "start"})
    assert started.status_code == 201
    assert used("PUT", started.headers["location"], data=b"more").status_code == 200
    assert (folder / "a folder" / "ünï+x.txt").read_bytes() == b"more"
    assert used("DELETE", signed("DELETE")).status_code == 204
    assert not blob.exists()


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_signed_url_of_a_bucket_lists(bucket: Any, folder: Path, account: Any, version: str) -> None:
    (folder / "a").write_bytes(b"x")
    url = bucket.generate_signed_url(timedelta(minutes=5), version=version, credentials=account)
    assert "<Key>a</Key>" in used("GET", url).text


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "HEAD"])
@pytest.mark.parametrize("version", ["v2", "v4"])
def test_expired_url_is_refused_and_changes_nothing(
    bucket: Any, folder: Path, account: Any, version: str, method: str, http: httpx.Client
) -> None:
    (folder / "a").write_bytes(b"old")
    url = bucket.blob("a").generate_signed_url(
        timedelta(minutes=5), method=method, version=version, credentials=account
    )
    end = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=1)
    if version == "v2":
        url = str(httpx.URL(url).copy_set_param("Expires", str(int(end.timestamp()))))
    else:
        date = (end - timedelta(minutes=5)).strftime("%Y%m%dT%H%M%SZ")
        url = str(httpx.URL(url).copy_set_param("X-Goog-Date", date))
    response = used(method, url, data=b"new")
    assert response.status_code == 400
    if method != "HEAD":
        assert "<Code>ExpiredToken</Code>" in response.text
        assert (
            f"The provided token has expired. Request signature expired at: {end.isoformat()}"
            in response.text
        )
    assert (folder / "a").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"X-Goog-Expires": "604801"}, "604800"),
        ({"X-Goog-Expires": "0"}, "from 1 to"),
        ({"X-Goog-Expires": "9" * 5000}, "from 1 to"),
        ({"X-Goog-Expires": "-5"}, "from 1 to"),
        ({"X-Goog-Expires": ""}, "x-goog-expires"),
        ({"X-Goog-Date": "yesterday"}, "yesterday"),
        ({"X-Goog-Date": "90001231T235959Z"}, "not valid before"),
        ({"X-Goog-Date": ""}, "x-goog-date"),
    ],
)
def test_times_that_cannot_be_read_are_refused(
    http: httpx.Client, folder: Path, parameters: dict[str, str], words: str
) -> None:
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    signed = {"X-Goog-Algorithm": "GOOG4-RSA-SHA256", "X-Goog-Date": now, "X-Goog-Expires": "60"}
    response = http.put(f"/{folder.name}/a", params={**signed, **parameters}, content=b"x")
    assert response.status_code == 400
    assert words in response.text
    assert http.put(f"/{folder.name}/a", params=signed, content=b"x").status_code == 200


@pytest.mark.parametrize("expires", ["many", "9" * 5000, "9" * 18])
def test_expiry_of_the_old_kind_that_cannot_be_read_is_refused(
    http: httpx.Client, folder: Path, expires: str
) -> None:
    signed = {"GoogleAccessId": "a@b", "Expires": expires, "Signature": "AA"}
    response = http.get(f"/{folder.name}/a", params=signed)
    assert (response.status_code, "seconds since 1970" in response.text) == (400, True)
