"""Uploads on the wire: chunked bodies, cut connections, resumed sessions, multipart bodies of all kinds."""

import base64
import gzip
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

DATA = bytes(range(256)) * 5000  # 1.2 MiB
QUANTUM = 256 << 10


def chunks(data: bytes, size: int = 65_537) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def upload_url(folder: Path, kind: str, **parameters: str) -> httpx.URL:
    path = f"/upload/storage/v1/b/{folder.name}/o"
    return httpx.URL(path, params={"uploadType": kind, **parameters})


def start(http: httpx.Client, folder: Path, name: str = "object", **metadata: object) -> str:
    """Start a resumable upload; returns its address."""
    response = http.post(upload_url(folder, "resumable", name=name), json=metadata)
    assert (response.status_code, response.content) == (200, b"")
    return response.headers["location"]


def status(http: httpx.Client, url: str) -> httpx.Response:
    return http.put(url, headers={"content-range": "bytes */*"})


def send(
    http: httpx.Client, url: str, data: bytes, first: int, end: int, total: str | None = None
) -> httpx.Response:
    """Send a piece of a resumable upload."""
    content_range = f"bytes {first}-{end - 1}/{len(data) if total is None else total}"
    return http.put(url, content=data[first:end], headers={"content-range": content_range})


def files_below(folder: Path) -> list[str]:
    """Everything in a bucket's folder but its metadata."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and ".vbe-meta" not in path.parts
    ]


def test_simple_upload_with_chunked_transfer_encoding(http: httpx.Client, folder: Path) -> None:
    url = upload_url(folder, "media", name="a/b")
    response = http.post(url, content=chunks(DATA), headers={"content-type": "video/mp4"})
    assert response.request.headers["transfer-encoding"] == "chunked"
    resource = response.json()
    assert (resource["name"], resource["size"], resource["contentType"]) == ("a/b", "1280000", "video/mp4")
    assert resource["md5Hash"] == base64.b64encode(hashlib.md5(DATA).digest()).decode()
    assert (folder / "a" / "b").read_bytes() == DATA


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"x-goog-hash": "crc32c=AAAAAA=="}, "CRC32C"),
        ({"x-goog-hash": "crc32c=yZRlqg==,md5=AAAA"}, "MD5"),
        ({"content-md5": "AAAA"}, "MD5"),
    ],
)
def test_wrong_checksum_in_a_header_is_refused(
    http: httpx.Client, folder: Path, headers: dict[str, str], told: str
) -> None:
    response = http.post(upload_url(folder, "media", name="x"), content=b"hello world", headers=headers)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["errors"][0]["reason"]) == (400, 400, "invalid")
    assert f"Provided {told} hash" in error["message"]
    assert files_below(folder) == []


def test_right_checksum_in_a_header_is_taken(http: httpx.Client, folder: Path) -> None:
    headers = {"x-goog-hash": "crc32c=yZRlqg==,md5=XrY7u+Ae7tCTyyK7j1rNww=="}
    response = http.post(upload_url(folder, "media", name="x"), content=b"hello world", headers=headers)
    assert response.json()["crc32c"] == "yZRlqg=="


def multipart(metadata: dict[str, Any], data: bytes, newline: bytes = b"\r\n") -> bytes:
    lines = [
        b"--b=o",
        b"Content-Type: application/json; charset=UTF-8",
        b"",
        json.dumps(metadata).encode(),
        b"--b=o",
        b"Content-Type: video/quicktime",
        b"",
        data,
        b"--b=o--",
    ]
    return newline.join(lines) + newline


RELATED = {"content-type": 'multipart/related; boundary="b=o"'}
BOUNDARY_LOOKALIKE = b"\r\n--b=" + b"\r" * 5 + b"\n--b=O\r\n--" * 1000


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
@pytest.mark.parametrize("data", [b"", b"x", b"\r\n", DATA, BOUNDARY_LOOKALIKE], ids=len)
def test_multipart_upload(http: httpx.Client, folder: Path, newline: bytes, data: bytes) -> None:
    body = multipart({"name": "m", "metadata": {"k": "v"}}, data, newline)
    for content in (body, chunks(body), chunks(body, 7) if len(body) < 20_000 else chunks(body, 4099)):
        response = http.post(upload_url(folder, "multipart"), content=content, headers=RELATED)
        resource = response.json()
        assert (resource["contentType"], resource["metadata"]) == ("video/quicktime", {"k": "v"})
        assert (folder / "m").read_bytes() == data


def test_boundary_in_single_quotes_as_gcloud_sends_it(http: httpx.Client, folder: Path) -> None:
    body = multipart({"name": "m"}, b"data", b"\n").replace(b"b=o", b"===1==")
    headers = {"content-type": "multipart/related; boundary='===1=='"}
    response = http.post(upload_url(folder, "multipart"), content=body, headers=headers)
    assert (response.status_code, (folder / "m").read_bytes()) == (200, b"data")


def test_gzipped_multipart_upload(http: httpx.Client, folder: Path) -> None:
    headers = {**RELATED, "content-encoding": "gzip"}
    body = gzip.compress(multipart({"name": "m"}, DATA))
    assert http.post(upload_url(folder, "multipart"), content=body, headers=headers).status_code == 200
    assert (folder / "m").read_bytes() == DATA
    cut = http.post(upload_url(folder, "multipart", name="n"), content=body[:-9], headers=headers)
    assert (cut.status_code, files_below(folder)) == (400, ["m"])


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        ({"content-type": "multipart/related"}, multipart({"name": "m"}, b"x"), "boundary"),
        (RELATED, multipart({"name": "m"}, b"x")[:-9], "ends before its closing boundary"),
        (RELATED, b"", "ends before its closing boundary"),
        (RELATED, b"x" * (2 << 20), "does not begin with two parts"),
        (RELATED, multipart({}, b"x"), "Required parameter: name"),
        (RELATED, multipart({"name": 5}, b"x"), "Required parameter: name"),
        (RELATED, multipart({"name": ".."}, b"x"), "no object of that name"),
        (RELATED, multipart({"name": "m", "colour": "red"}, b"x"), "'colour' is not emulated"),
        (RELATED, multipart({"name": "m", "metadata": {"k": 1}}, b"x"), "metadata"),
        (RELATED, multipart({"name": "m"}, b"x").replace(b"{", b"["), "not JSON"),
        ({**RELATED, "content-encoding": "gzip"}, b"not gzip", "not gzip"),
    ],
)
def test_bad_multipart_upload_is_refused(
    http: httpx.Client, folder: Path, headers: dict[str, str], body: bytes, message: str
) -> None:
    response = http.post(upload_url(folder, "multipart"), content=body, headers=headers)
    assert response.status_code == (501 if "emulated" in message else 400)
    assert message in response.json()["error"]["message"]
    assert files_below(folder) == []


def test_resumable_upload_in_pieces(http: httpx.Client, folder: Path) -> None:
    url = start(http, folder, contentType="video/mp4", metadata={"k": "v"})
    assert "range" not in status(http, url).headers
    response = send(http, url, DATA, 0, 3 * QUANTUM, total="*")
    assert (response.status_code, response.headers["range"]) == (308, f"bytes=0-{3 * QUANTUM - 1}")
    assert files_below(folder) != ["object"]
    # Some of it is sent again, and more than a whole multiple of 256 KiB: the rest of that does not count.
    response = send(http, url, DATA, QUANTUM, 4 * QUANTUM + 77)
    assert (response.status_code, response.headers["range"]) == (308, f"bytes=0-{4 * QUANTUM - 1}")
    rest = {"content-range": f"bytes {4 * QUANTUM}-{len(DATA) - 1}/{len(DATA)}"}
    response = http.put(url, content=chunks(DATA[4 * QUANTUM :]), headers=rest)
    assert (response.status_code, response.json()["contentType"]) == (200, "video/mp4")
    assert (folder / "object").read_bytes() == DATA
    # A client that missed the answer asks, or sends the last piece again.
    assert status(http, url).json() == response.json()
    assert http.put(url, content=DATA[4 * QUANTUM :], headers=rest).json() == response.json()
    assert files_below(folder) == ["object"]


@pytest.mark.parametrize("total", ["*", "whole"])
def test_piece_that_is_too_short_is_refused_unless_it_is_the_last(
    http: httpx.Client, folder: Path, total: str
) -> None:
    url = start(http, folder)
    total = str(len(DATA)) if total == "whole" else total
    response = send(http, url, DATA, 0, QUANTUM - 1, total=total)
    assert response.status_code == 400
    assert "equal or greater than 262144, except for the final" in response.json()["error"]["message"]
    assert "range" not in status(http, url).headers
    assert send(http, url, DATA, 0, len(DATA)).status_code == 200


def test_bytes_sent_again_replace_those_that_a_cut_left(http: httpx.Client, folder: Path) -> None:
    url = start(http, folder)
    other = bytes(len(DATA))
    send(http, url, other, 0, QUANTUM + 99)
    kept = int(status(http, url).headers["range"].removeprefix("bytes=0-")) + 1
    assert kept == QUANTUM
    response = send(http, url, DATA, kept, len(DATA))
    whole = other[:kept] + DATA[kept:]
    assert (folder / "object").read_bytes() == whole
    assert response.json()["md5Hash"] == base64.b64encode(hashlib.md5(whole).digest()).decode()


@pytest.mark.parametrize("told", ["header at the beginning", "piece before"])
def test_size_that_changes_during_an_upload_is_refused(http: httpx.Client, folder: Path, told: str) -> None:
    if told == "piece before":
        url = start(http, folder)
        send(http, url, DATA, 0, QUANTUM)
    else:
        headers = {"x-upload-content-length": str(len(DATA))}
        url = http.post(upload_url(folder, "resumable", name="object"), headers=headers).headers["location"]
    sent = int(status(http, url).headers.get("range", "bytes=0--1").removeprefix("bytes=0-")) + 1
    for content_range in (f"bytes {sent}-{sent + 9}/{sent + 10}", f"bytes {sent}-*/*"):
        response = http.put(url, content=DATA[sent : sent + 10], headers={"content-range": content_range})
        assert response.status_code == 400, response.text
        assert f"{len(DATA)}" in response.json()["error"]["message"]
        assert "object" not in files_below(folder)
    assert send(http, url, DATA, sent, len(DATA)).status_code == 200
    assert (folder / "object").read_bytes() == DATA


def test_resumable_upload_of_unknown_size_ends_with_the_body(http: httpx.Client, folder: Path) -> None:
    url = start(http, folder)
    response = http.put(url, content=chunks(DATA), headers={"content-range": "bytes 0-*/*"})
    assert response.json()["size"] == str(len(DATA))
    url = start(http, folder)
    send(http, url, DATA, 0, QUANTUM, total="*")
    assert http.put(url, headers={"content-range": f"bytes */{QUANTUM}"}).json()["size"] == str(QUANTUM)
    assert http.put(start(http, folder), content=chunks(DATA)).json()["size"] == str(len(DATA))
    assert http.put(start(http, folder), headers={"content-range": "bytes */0"}).json()["size"] == "0"


@pytest.mark.parametrize("headers", [{}, {"content-range": "bytes 0-*/*"}])
@pytest.mark.parametrize("data", [b"", b"no", b"other bytes than before"])
def test_whole_object_in_one_request_replaces_what_came_in(
    http: httpx.Client, folder: Path, headers: dict[str, str], data: bytes
) -> None:
    url = start(http, folder)
    send(http, url, DATA, 0, QUANTUM, total="*")
    response = http.put(url, content=data, headers=headers)
    assert (response.status_code, (folder / "object").read_bytes()) == (200, data)
    assert response.json()["md5Hash"] == base64.b64encode(hashlib.md5(data).digest()).decode()


def test_go_s_client_gets_200_instead_of_308(http: httpx.Client, folder: Path) -> None:
    headers = {"content-range": f"bytes 0-{QUANTUM - 1}/*", "x-guploader-no-308": "yes"}
    response = http.put(start(http, folder), content=DATA[:QUANTUM], headers=headers)
    assert (response.status_code, response.headers["x-http-status-code-override"]) == (200, "308")
    assert response.headers["range"] == f"bytes=0-{QUANTUM - 1}"


@pytest.mark.parametrize(
    ("content_range", "code", "message"),
    [
        (
            "bytes 262145-262153/262154",
            503,
            "upload offset is 262145 byte(s), which exceeds already uploaded",
        ),
        ("bytes 262144-262153/262154", 400, "were 15 byte(s)"),
        ("bytes 262144-262174/262175", 400, "were 15 byte(s)"),
        ("bytes 262144-262158/262146", 400, "more than the 262146 announced"),
        ("bytes ten-24/100", 400, "Failed to parse Content-Range"),
        (f"bytes 10-24/{'9' * 5000}", 400, "Failed to parse Content-Range"),
    ],
)
def test_wrong_content_range_is_refused_and_the_upload_can_go_on(
    http: httpx.Client, folder: Path, content_range: str, code: int, message: str
) -> None:
    url = start(http, folder)
    send(http, url, DATA, 0, QUANTUM, total="*")
    piece = DATA[QUANTUM : QUANTUM + 15]
    response = http.put(url, content=piece, headers={"content-range": content_range})
    assert (response.status_code, "object" in files_below(folder)) == (code, False)
    assert message in response.json()["error"]["message"]
    size = int(status(http, url).headers["range"].removeprefix("bytes=0-")) + 1
    rest = {"content-range": f"bytes {size}-*/*"}
    assert http.put(url, content=DATA[size:], headers=rest).status_code == 200
    assert (folder / "object").read_bytes() == DATA


def test_upload_is_cancelled_or_unknown(http: httpx.Client, folder: Path) -> None:
    url = start(http, folder)
    http.put(url, content=b"x", headers={"content-range": "bytes 0-0/2"})
    assert http.delete(url).status_code == 499
    assert status(http, url).status_code == 404
    assert http.delete(url).status_code == 404
    assert files_below(folder) == []


def test_resumable_upload_checks_the_announced_checksum(http: httpx.Client, folder: Path) -> None:
    url = start(http, folder, crc32c="AAAAAA==")
    response = http.put(url, content=DATA)
    assert (response.status_code, files_below(folder)) == (400, [])
    response = http.put(start(http, folder), content=DATA, headers={"x-goog-hash": "crc32c=AAAAAA=="})
    assert (response.status_code, files_below(folder)) == (400, [])


def test_condition_is_looked_at_before_and_after_a_resumable_upload(http: httpx.Client, folder: Path) -> None:
    begin = upload_url(folder, "resumable", name="object", ifGenerationMatch="0")
    url = http.post(begin).headers["location"]
    (folder / "object").write_bytes(b"another was faster")
    assert http.post(begin).status_code == 412
    assert http.put(url, content=DATA).status_code == 412
    assert files_below(folder) == ["object"]
    assert (folder / "object").read_bytes() == b"another was faster"


def raw(http: httpx.Client) -> socket.socket:
    return socket.create_connection((http.base_url.host, http.base_url.port or 0), timeout=60)


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("chunked", [True, False])
def test_cut_connection_keeps_what_came_in_and_the_upload_resumes(
    http: httpx.Client, folder: Path, chunked: bool
) -> None:
    data = os.urandom(3 << 20)
    url = start(http, folder)
    target = urlsplit(url)
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(data)}"
    head = (
        f"PUT {target.path}?{target.query} HTTP/1.1\r\nHost: {target.netloc}\r\n{framing}\r\n"
        f"Content-Range: bytes 0-{len(data) - 1}/{len(data)}\r\n\r\n"
    )
    sent = 2_000_003
    body = b"%x\r\n" % len(data) + data[:sent] if chunked else data[:sent]
    with raw(http) as connection:
        connection.sendall(head.encode() + body)
    sent -= sent % QUANTUM  # what counts are whole multiples
    wait_for(lambda: status(http, url).headers.get("range") == f"bytes=0-{sent - 1}")
    assert "object" not in files_below(folder)
    rest = {"content-range": f"bytes {sent}-{len(data) - 1}/{len(data)}"}
    assert http.put(url, content=data[sent:], headers=rest).json()["size"] == str(len(data))
    assert (folder / "object").read_bytes() == data


def test_request_that_hangs_gives_way_to_the_one_that_resumes(http: httpx.Client, folder: Path) -> None:
    data = DATA * 3
    url = start(http, folder)
    target = urlsplit(url)
    head = (
        f"PUT {target.path}?{target.query} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n"
        f"Content-Range: bytes 0-{len(data) - 1}/{len(data)}\r\n\r\n"
    )
    with raw(http) as connection:
        connection.sendall(head.encode() + data[:2_000_000])
        wait_for(lambda: "range" in status(http, url).headers)
        assert http.put(url, content=data).status_code == 200
        connection.sendall(data[2_000_000:])
        answer = connection.recv(65536)
    # The object is there by now, and this request is about the same bytes.
    assert b"200 OK" in answer.splitlines()[0]
    assert (folder / "object").read_bytes() == data


@pytest.mark.parametrize("kind", ["media", "multipart"])
def test_cut_simple_upload_leaves_nothing(http: httpx.Client, folder: Path, kind: str) -> None:
    url = upload_url(folder, kind, name="object")
    head = (
        f"POST {url.raw_path.decode()} HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n"
        f"Content-Type: {RELATED['content-type']}\r\n\r\n"
    )
    with raw(http) as connection:
        connection.sendall(head.encode() + multipart({}, DATA * 2)[:-9])
        wait_for(lambda: files_below(folder))
    wait_for(lambda: files_below(folder) == [])


def test_refused_upload_leaves_the_connection_usable(http: httpx.Client, name: str) -> None:
    url = f"/upload/storage/v1/b/{name}/o?uploadType=media&name=x"
    for _ in range(2):
        response = http.post(url, content=chunks(DATA * 4))
        assert response.status_code == 404
        assert response.json()["error"]["message"] == "The specified bucket does not exist."
        assert http.get("/storage/v1/b").status_code == 200


@pytest.mark.parametrize(
    ("method", "query", "code", "message"),
    [
        ("POST", "name=x", 400, "Required parameter: uploadType"),
        ("POST", "uploadType=tus&name=x", 400, "Invalid upload type 'tus'"),
        ("POST", "uploadType=media", 400, "Required parameter: name"),
        ("POST", "uploadType=resumable&name=x", 400, "not JSON"),
        ("POST", "uploadType=media&name=..", 400, "no object of that name"),
        ("POST", "uploadType=media&name=x&ifGenerationMatch=one", 400, "ifGenerationMatch"),
        ("PATCH", "uploadType=media&name=x", 405, "use POST or PUT"),
        ("PUT", "upload_id=unknown", 404, "There is no upload 'unknown'"),
    ],
)
def test_bad_upload_is_refused(
    http: httpx.Client, folder: Path, method: str, query: str, code: int, message: str
) -> None:
    response = http.request(method, f"/upload/storage/v1/b/{folder.name}/o?{query}", content=b"x")
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (code, code)
    assert message in error["message"]
    assert files_below(folder) == []


def test_simple_upload_may_be_a_put(http: httpx.Client, folder: Path) -> None:
    assert http.put(upload_url(folder, "media", name="put"), content=DATA).json()["name"] == "put"
    body = multipart({"name": "m"}, DATA)
    assert http.put(upload_url(folder, "multipart"), content=body, headers=RELATED).status_code == 200
    assert (folder / "put").read_bytes() == (folder / "m").read_bytes() == DATA
