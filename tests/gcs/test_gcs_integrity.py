"""A checksum that a client sends is compared with the bytes, wherever it stands and however they come."""

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import httpx
import pytest

OLD, DATA = b"the old object", bytes(range(256)) * 2100
RIGHT = {
    "crc32c": base64.b64encode(google_crc32c.Checksum(DATA).digest()).decode(),
    "md5": base64.b64encode(hashlib.md5(DATA).digest()).decode(),
}
WRONG = {"crc32c": "AAAAAA==", "md5": "XrY7u+Ae7tCTyyK7j1rNww=="}
FIELDS = {"crc32c": "crc32c", "md5": "md5Hash"}
QUANTUM = 256 << 10

# Uploads DATA with a checksum in the metadata, or in headers of the request that begins or ends the upload.
Upload = Callable[[httpx.Client, str, dict[str, str], list[tuple[str, str]]], httpx.Response]


def media(
    http: httpx.Client, bucket: str, metadata: dict[str, str], headers: list[tuple[str, str]]
) -> httpx.Response:
    url = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name=x"
    return http.post(url, content=DATA, headers=headers)


def multipart(
    http: httpx.Client, bucket: str, metadata: dict[str, str], headers: list[tuple[str, str]]
) -> httpx.Response:
    head = f"--b\r\n\r\n{json.dumps({'name': 'x', **metadata})}\r\n--b\r\n\r\n".encode()
    url = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart"
    kind = ("content-type", "multipart/related; boundary=b")
    return http.post(url, content=head + DATA + b"\r\n--b--", headers=[kind, *headers])


def begin(http: httpx.Client, bucket: str, metadata: dict[str, str], headers: list[tuple[str, str]]) -> str:
    url = f"/upload/storage/v1/b/{bucket}/o?uploadType=resumable&name=x"
    return http.post(url, json=metadata, headers=headers).headers["location"]


def told_at_the_beginning(
    http: httpx.Client, bucket: str, metadata: dict[str, str], headers: list[tuple[str, str]]
) -> httpx.Response:
    return http.put(begin(http, bucket, metadata, headers), content=DATA)


def told_with_the_last_piece(
    http: httpx.Client, bucket: str, metadata: dict[str, str], headers: list[tuple[str, str]]
) -> httpx.Response:
    location = begin(http, bucket, metadata, [])
    first = {"content-range": f"bytes 0-{QUANTUM - 1}/*"}
    assert http.put(location, content=DATA[:QUANTUM], headers=first).status_code == 308
    rest = ("content-range", f"bytes {QUANTUM}-{len(DATA) - 1}/{len(DATA)}")
    return http.put(location, content=DATA[QUANTUM:], headers=[rest, *headers])


def told_with_bytes_sent_again(
    http: httpx.Client, bucket: str, metadata: dict[str, str], headers: list[tuple[str, str]]
) -> httpx.Response:
    location = begin(http, bucket, metadata, [])
    first = {"content-range": f"bytes 0-{len(DATA) - 1}/*"}
    again = ("content-range", f"bytes {QUANTUM}-{len(DATA) - 1}/{len(DATA)}")
    assert http.put(location, content=DATA, headers=first).status_code == 308
    return http.put(location, content=DATA[QUANTUM:], headers=[again, *headers])


UPLOADS = [media, multipart, told_at_the_beginning, told_with_the_last_piece, told_with_bytes_sent_again]


def headers_of(place: str, kind: str, values: dict[str, str]) -> list[tuple[str, str]]:
    other = "md5" if kind == "crc32c" else "crc32c"
    return {
        "x-goog-hash": [("x-goog-hash", f"{kind}={values[kind]}")],
        "second in x-goog-hash": [("x-goog-hash", f"{other}={RIGHT[other]}, {kind}={values[kind]}")],
        "first x-goog-hash of two": [
            ("x-goog-hash", f"{kind}={values[kind]}"),
            ("x-goog-hash", f"{other}={RIGHT[other]}"),
        ],
        "right one elsewhere": [
            ("x-goog-hash", f"{kind}={values[kind]}"),
            ("content-md5", RIGHT["md5"]),
        ],
        "content-md5": [("content-md5", values["md5"])],
        "metadata": [],
        "metadata beside a right header": [("x-goog-hash", f"{kind}={RIGHT[kind]}")],
    }[place]


PLACES = [
    *("x-goog-hash", "second in x-goog-hash", "first x-goog-hash of two", "right one elsewhere"),
    *("content-md5", "metadata", "metadata beside a right header"),
]


@pytest.mark.parametrize("kind", ["crc32c", "md5"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("upload", UPLOADS)
def test_checksum_is_verified(
    http: httpx.Client, folder: Path, upload: Upload, place: str, kind: str
) -> None:
    if "metadata" in place and upload is media:
        pytest.skip("a simple upload has no metadata")
    if place == "content-md5" and kind == "crc32c":
        pytest.skip("the header is of MD5")
    (folder / "x").write_bytes(OLD)
    for values in (WRONG, RIGHT):
        metadata = {FIELDS[kind]: values[kind]} if "metadata" in place else {}
        response = upload(http, folder.name, metadata, headers_of(place, kind, values))
        if values is WRONG:
            error = response.json()["error"]
            assert (response.status_code, error["errors"][0]["reason"]) == (400, "invalid")
            assert f'Provided {kind.upper()} hash "{values[kind]}" doesn\'t match' in error["message"]
            assert (folder / "x").read_bytes() == OLD
            assert list((folder / ".vbe-tmp").iterdir()) == []
        else:
            assert (response.status_code, response.json()[FIELDS[kind]]) == (200, values[kind])
            assert (folder / "x").read_bytes() == DATA
