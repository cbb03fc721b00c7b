"""Cloud Storage's JSON API on the wire, where no client library would go."""

import base64
import gzip
import hashlib
import itertools
import json
import os
import socket
import threading
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import httpx
import pytest


def object_url(folder: Path, name: str, suffix: str = "") -> str:
    return f"/storage/v1/b/{folder.name}/o/{name.replace('/', '%2F')}{suffix}"


@pytest.fixture
def ten(folder: Path) -> Path:
    """A bucket with an object of ten bytes."""
    (folder / "a").mkdir()
    (folder / "a" / "ten").write_bytes(b"0123456789")
    return folder


@pytest.mark.parametrize(
    ("asked", "status", "body", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=-20", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=5-999", 206, b"56789", "bytes 5-9/10"),
        ("bytes=9-9", 206, b"9", "bytes 9-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=5-4", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        (f"bytes={'9' * 5000}-", 416, None, "bytes */10"),
        (f"bytes=5-{'9' * 5000}", 206, b"56789", "bytes 5-9/10"),
        (f"bytes=-{'9' * 5000}", 206, b"0123456789", "bytes 0-9/10"),
        (f"bytes={'0' * 5000}8-9", 206, b"89", "bytes 8-9/10"),
    ],
)
@pytest.mark.parametrize(
    "way",
    ["/storage/v1/b/{}/o/a%2Ften?alt=media", "/download/storage/v1/b/{}/o/a%2Ften?alt=media", "/{}/a/ten"],
)
def test_range(
    http: httpx.Client,
    ten: Path,
    way: str,
    asked: str,
    status: int,
    body: bytes | None,
    content_range: str | None,
) -> None:
    response = http.get(way.format(ten.name), headers={"range": asked})
    assert (response.status_code, response.headers.get("content-range")) == (status, content_range)
    assert body is None or response.content == body


def test_download_has_the_headers_that_clients_read(http: httpx.Client, ten: Path) -> None:
    resource = http.get(object_url(ten, "a/ten")).json()
    headers = http.get(f"/{ten.name}/a/ten").headers
    assert headers["x-goog-generation"] == resource["generation"]
    assert headers["x-goog-hash"] == f"crc32c={resource['crc32c']},md5={resource['md5Hash']}"
    assert headers["x-goog-stored-content-length"] == headers["content-length"] == "10"
    assert headers["accept-ranges"] == "bytes"
    head = http.head(object_url(ten, "a/ten", "?alt=media"))
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "10")
    cached = http.get(object_url(ten, "a/ten", "?alt=media"), headers={"if-none-match": headers["etag"]})
    assert (cached.status_code, cached.content) == (304, b"")


def test_download_of_a_file_that_is_replaced_is_one_version(http: httpx.Client, folder: Path) -> None:
    versions = [b"a" * 1000, b"b" * 50_000]
    checksums = {data: base64.b64encode(hashlib.md5(data).digest()).decode() for data in versions}
    (folder / "file").write_bytes(versions[0])
    stop = threading.Event()

    def replace_it() -> None:
        for data in itertools.cycle(versions):
            if stop.is_set():
                return
            (folder / ".new").write_bytes(data)
            (folder / ".new").replace(folder / "file")

    thread = threading.Thread(target=replace_it)
    thread.start()
    try:
        for _ in range(200):
            response = http.get(object_url(folder, "file", "?alt=media"))
            assert response.headers["x-goog-hash"].endswith(f"md5={checksums[response.content]}")
    finally:
        stop.set()
        thread.join()


def test_header_injection_through_metadata_is_harmless(http: httpx.Client, ten: Path) -> None:
    value = {"contentDisposition": "attachment\r\nx-evil: 1", "cacheControl": "nö-störe\ud800"}
    assert http.patch(object_url(ten, "a/ten"), content=json.dumps(value)).status_code == 200
    response = http.get(f"/{ten.name}/a/ten")
    assert response.status_code == 200
    assert "x-evil" not in response.headers
    assert response.content == b"0123456789"


def test_urls_name_the_host_that_the_client_used(http: httpx.Client, ten: Path) -> None:
    headers = {"host": "storage.test:8443"}
    resource = http.get(object_url(ten, "a/ten"), headers=headers).json()
    path = f"/storage/v1/b/{ten.name}/o/a%2Ften"
    assert resource["selfLink"] == f"http://storage.test:8443{path}"
    generation = resource["generation"]
    assert (
        resource["mediaLink"] == f"http://storage.test:8443/download{path}?generation={generation}&alt=media"
    )
    begun = http.post(f"/upload/storage/v1/b/{ten.name}/o?uploadType=resumable&name=x", headers=headers)
    assert begun.headers["location"].startswith(f"http://storage.test:8443/upload/storage/v1/b/{ten.name}/o?")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("name", {"name": "a/ten"}),
        ("name,size", {"name": "a/ten", "size": "10"}),
        ("nothing", {}),
    ],
)
def test_partial_response(http: httpx.Client, ten: Path, fields: str, expected: dict[str, str]) -> None:
    assert http.get(object_url(ten, "a/ten"), params={"fields": fields}).json() == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("items(name,size)", {"items": [{"name": "a/ten", "size": "10"}]}),
        ("items/name,kind", {"items": [{"name": "a/ten"}], "kind": "storage#objects"}),
        ("prefixes,nextPageToken", {}),
        ("kind,items(*)/name", None),
        ("items(name", {"items": [{"name": "a/ten"}]}),
        (")", None),
    ],
)
def test_partial_listing(http: httpx.Client, ten: Path, fields: str, expected: Any) -> None:
    response = http.get(f"/storage/v1/b/{ten.name}/o", params={"fields": fields})
    if expected is None:
        assert (response.status_code, response.json()["error"]["errors"][0]["reason"]) == (400, "invalid")
    else:
        assert response.json() == expected


def test_pages_cover_everything_once(http: httpx.Client, folder: Path) -> None:
    names = [f"{letter}/{number}" for letter in "ab" for number in range(5)] + ["c", "d"]
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    for size in (1, 2, 3, 5, 12, 1000):
        found: list[str] = []
        token = ""
        while True:
            page = http.get(
                f"/storage/v1/b/{folder.name}/o", params={"maxResults": size, "pageToken": token}
            ).json()
            found += [item["name"] for item in page.get("items", [])]
            token = page.get("nextPageToken", "")
            if not token:
                break
            assert len(page["items"]) == size
        assert found == names


@pytest.mark.parametrize("size", [1, 2, 3])
def test_pages_go_on_after_an_object_that_ends_in_the_delimiter(
    http: httpx.Client, folder: Path, size: int
) -> None:
    for name in ("a_", "a_b", "a_b_c", "a_b_d", "a_c"):
        (folder / name).write_bytes(b"")
    found: list[str] = []
    parameters = {"prefix": "a_", "delimiter": "_", "maxResults": str(size)}
    while True:
        page = http.get(f"/storage/v1/b/{folder.name}/o", params=parameters).json()
        found += [item["name"] for item in page.get("items", [])] + page.get("prefixes", [])
        if "nextPageToken" not in page:
            break
        parameters["pageToken"] = page["nextPageToken"]
    assert sorted(found) == ["a_", "a_b", "a_b_", "a_c"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("prefix=..", []),
        ("prefix=a%00b", []),
        ("prefix=%2F", []),
        ("prefix=" + "x" * 400 + "%2F", []),
        ("prefix=" + "x%2F" * 4000, []),
        ("prefix=.vbe-meta%2F", []),
        ("prefix=a&delimiter=t", []),
        ("prefix=a/&delimiter=", ["a/ten"]),
        ("startOffset=a/tem", ["a/ten"]),
        ("startOffset=a/tf", []),
        ("endOffset=a/ten", []),
        ("endOffset=a/teo&versions=true&projection=full&includeFoldersAsPrefixes=true", ["a/ten"]),
        ("softDeleted=true", []),
        ("maxResults=0", ["a/ten"]),
    ],
)
def test_listing_with_odd_parameters(http: httpx.Client, ten: Path, query: str, expected: list[str]) -> None:
    response = http.get(f"/storage/v1/b/{ten.name}/o?{query}")
    assert response.status_code == 200
    assert [item["name"] for item in response.json().get("items", [])] == expected


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/storage/v1/b/{}/o?maxResults=many", 400, "invalid"),
        ("GET", "/storage/v1/b/{}/o?maxResults=-1", 400, "invalid"),
        ("GET", "/storage/v1/b/{}/o?pageToken=%C3%A4", 400, "invalid"),
        ("GET", "/storage/v1/b/{}/o?matchGlob=[z-a]", 400, "invalid"),
        ("GET", "/storage/v1/b/{}/o?matchGlob=" + "{a,b}" * 10, 400, "invalid"),
        ("GET", "/storage/v1/b/{}/o?matchGlob=" + "[" * 5000, 400, "invalid"),
        ("GET", "/storage/v1/b/{}/o?prefix=caf%E9", 400, "invalid"),
        ("GET", "/storage/v1/b/{}/o?%E9=x", 400, "invalid"),
        ("POST", "/upload/storage/v1/b/{}/o?uploadType=media&name=caf%E9", 400, "invalid"),
        ("POST", "/upload/storage/v1/b/{}/o?uploadType=multipart&name=caf%E9", 400, "invalid"),
        ("POST", "/upload/storage/v1/b/{}/o?uploadType=resumable&name=caf%E9", 400, "invalid"),
        ("GET", "/storage/v1/b/{}/o/a%2Ften?generation=1", 404, "notFound"),
        ("GET", "/storage/v1/b/{}/o/a/ten", 404, "notFound"),
        ("GET", "/storage/v1/b/{}/o/%FF", 400, "invalid"),
        ("DELETE", "/storage/v1/b/{}/o/", 405, "methodNotAllowed"),
        ("GET", "/storage/v1/b/..%2F..", 404, "notFound"),
        ("GET", "/storage/v1/b/No", 404, "notFound"),
        ("GET", "/storage/v1/nothing", 404, "notFound"),
        ("PUT", "/storage/v1/b/{}/o", 405, "methodNotAllowed"),
        ("POST", "/storage/v1/b", 400, "required"),
        ("POST", "/storage/v1/b/{}/o/x/compose", 400, "required"),
        ("POST", "/storage/v1/b/{}/o/a%2Ften/copyTo/b/{}/o/.well-known%2Facme-challenge%2Fx", 400, "invalid"),
        ("POST", "/storage/v1/b/{}/o/a%2Ften/copyTo/b/{}-2/o/b", 404, "notFound"),
        ("POST", "/storage/v1/b/{}/o/a%2Ften/acl", 400, "required"),
        ("PUT", "/storage/v1/b/{}/o/a%2Ften/iam", 501, "notImplemented"),
        ("POST", "/storage/v1/projects/p/hmacKeys", 501, "notImplemented"),
        ("POST", "/batch/storage/v1", 400, "invalid"),
    ],
)
def test_error_has_the_envelope_of_the_json_api(
    http: httpx.Client, ten: Path, method: str, path: str, status: int, reason: str
) -> None:
    response = http.request(method, path.replace("{}", ten.name))
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, status)
    assert error["errors"] == [
        error["errors"][0] | {"message": error["message"], "domain": "global", "reason": reason}
    ]


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"[" * 100_000, b" " * (11 << 20)], ids=len)
def test_body_that_is_no_json_object_is_refused(http: httpx.Client, ten: Path, body: bytes) -> None:
    response = http.patch(object_url(ten, "a/ten"), content=body)
    assert (response.status_code, response.json()["error"]["errors"][0]["reason"]) == (400, "invalid")
    assert http.get(object_url(ten, "a/ten")).json()["metageneration"] == "1"


def test_node_leaves_out_the_prefix(http: httpx.Client, ten: Path) -> None:
    name = ten.name
    for path in ("/b", f"/b/{name}", f"/b/{name}/o?prefix=a", f"/b/{name}/o/a%2Ften", f"/b/{name}/o/nothing"):
        bare, full = http.get(path), http.get(f"/storage/v1{path}")
        assert (bare.status_code, bare.json()) == (full.status_code, full.json())
    assert http.get(f"/b/{name}/o/a%2Ften?alt=media").content == b"0123456789"
    assert (
        http.patch(f"/b/{name}/o/a%2Ften", json={"contentType": "text/x"}).json()["contentType"] == "text/x"
    )
    assert http.delete(f"/b/{name}/o/a%2Ften").status_code == 204
    assert http.get("/bucket-that-is-not/x").json()["error"]["status"] == "NOT_FOUND"


def test_java_s_way_to_patch(http: httpx.Client, ten: Path) -> None:
    headers = {"x-http-method-override": "PATCH", "content-encoding": "gzip"}
    body = gzip.compress(b'{"contentType": "text/x-java"}')
    response = http.post(object_url(ten, "a/ten"), content=body, headers=headers)
    assert (response.status_code, response.json()["contentType"]) == (200, "text/x-java")


def test_gzip_bomb_is_refused(http: httpx.Client, ten: Path) -> None:
    body = gzip.compress(b" " * (100 << 20))
    response = http.patch(object_url(ten, "a/ten"), content=body, headers={"content-encoding": "gzip"})
    assert response.status_code == 400


def test_plain_read_gives_errors_as_xml(http: httpx.Client, ten: Path) -> None:
    missing = http.get(f"/{ten.name}/missing")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/xml; charset=UTF-8")
    assert "<Code>NoSuchKey</Code>" in missing.text
    failed = http.get(f"/{ten.name}/a/ten", headers={"x-goog-if-generation-match": "1"})
    assert (failed.status_code, "<Code>PreconditionFailed</Code>" in failed.text) == (412, True)
    for path, headers in (("caf%E9", {}), ("a/ten", {"x-goog-if-generation-match": "many"})):
        refused = http.get(f"/{ten.name}/{path}", headers=headers)
        assert (refused.status_code, "<Code>InvalidArgument</Code>" in refused.text) == (400, True)
    # What is no bucket belongs to the other surfaces.
    assert "error" in http.get("/no-such-bucket/x").json()


def test_download_that_fails_has_its_message_as_text(http: httpx.Client, ten: Path) -> None:
    response = http.get(object_url(ten, "missing", "?alt=media"))
    assert (response.status_code, response.text) == (404, f"No such object: {ten.name}/missing")


def test_batch_answers_each_part(http: httpx.Client, ten: Path) -> None:
    path = object_url(ten, "a/ten")
    parts = [
        f"GET {path}?fields=name HTTP/1.1\r\n\r\n",
        f"PATCH http://elsewhere{path} HTTP/1.1\r\nContent-Type: application/json\r\n\r\n"
        '{"contentType":"text/new"}',
        f"GET {path}?alt=media HTTP/1.1\r\n\r\n",
        "GET /v1/projects HTTP/1.1\r\n\r\n",
        "nonsense",
        f"DELETE {path} HTTP/1.1\r\n\r\n",
        f"GET {path} HTTP/1.1\r\n\r\n",
    ]
    body = "".join(
        f"--x\r\nContent-Type: application/http\r\nContent-ID: <id+{number}>\r\n\r\n{part}\r\n"
        for number, part in enumerate(parts)
    )
    headers = {"content-type": "multipart/mixed; boundary=x"}
    response = http.post("/batch/storage/v1", content=f"{body}--x--".encode(), headers=headers)
    raw = f"content-type: {response.headers['content-type']}\r\n\r\n".encode() + response.content
    answers = [part.get_payload() for part in BytesParser().parsebytes(raw).get_payload()]  # type: ignore[union-attr]
    assert [str(answer).split()[1] for answer in answers] == ["200", "200", "400", "400", "400", "204", "404"]
    assert str(answers[0]).endswith('{"name":"a/ten"}')
    assert "<response-id+6>" in response.text


@pytest.mark.parametrize(
    "content_id", [b"<1\xbe", b"<1>\x8d\n.", b"\xbc1>", b"\xed\xbf\xbf <1>", "<ü>".encode(), b"<a\n b>"]
)
def test_batch_keeps_a_content_id_of_any_bytes(http: httpx.Client, ten: Path, content_id: bytes) -> None:
    call = b"GET /storage/v1/b/%b HTTP/1.1\r\n\r\n" % ten.name.encode()
    part = b"--x\r\nContent-Type: application/http\r\nContent-ID: %b\r\n\r\n%b\r\n--x--" % (content_id, call)
    headers = {"content-type": "multipart/mixed; boundary=x"}
    response = http.post("/batch/storage/v1", content=part, headers=headers)
    assert response.status_code == 200, response.text
    (line,) = [line for line in response.content.split(b"\r\n") if line.startswith(b"content-id: ")]
    word = content_id.split(b"\n")[0].removeprefix(b"<").split()[0]
    assert word in line


@pytest.mark.parametrize(
    "kind", ["multipart/form-data; boundary=x", "text/plain", "multipart/mixed; boundary=x", None]
)
def test_multipart_upload_is_multipart_related(http: httpx.Client, ten: Path, kind: str | None) -> None:
    """A form of any web page can send the other kinds."""
    body = b'--x\r\n\r\n{"name": "planted.html"}\r\n--x\r\nContent-Type: text/html\r\n\r\n<p>\r\n--x--'
    url = f"/upload/storage/v1/b/{ten.name}/o?uploadType=multipart"
    response = http.post(url, content=body, headers={"content-type": kind} if kind else {})
    assert response.status_code == 400
    assert "multipart/related" in response.text
    assert not (ten / "planted.html").exists()
    response = http.post(url, content=body, headers={"content-type": "Multipart/Related; boundary=x"})
    assert response.json()["contentType"] == "text/html"


@pytest.mark.parametrize(
    "path", ["/{0}/a/ten", "/storage/v1/b/{0}/o", "/storage/v1/b/{0}/o/none", "/storage/v1/b"]
)
def test_nothing_that_storage_sends_can_run(http: httpx.Client, ten: Path, path: str) -> None:
    response = http.get(path.format(ten.name))
    assert response.headers["content-security-policy"] == "sandbox"
    assert response.headers["x-content-type-options"] == "nosniff"


def test_move_is_a_rename(http: httpx.Client, ten: Path) -> None:
    response = http.post(object_url(ten, "a/ten", "/moveTo/o/b%2Feleven"))
    assert response.json()["name"] == "b/eleven"
    assert [str(path.relative_to(ten)) for path in ten.glob("[!.]*/*")] == ["b/eleven"]


def test_file_that_shrinks_during_a_download_ends_the_connection(http: httpx.Client, folder: Path) -> None:
    (folder / "big").write_bytes(bytes(64 << 20))
    with socket.create_connection((http.base_url.host, http.base_url.port or 0), timeout=60) as connection:
        connection.sendall(f"GET /{folder.name}/big HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        connection.recv(1)
        os.truncate(folder / "big", 1 << 20)
        received = 1
        while data := connection.recv(1 << 20):
            received += len(data)
    assert received < 64 << 20
    assert http.get("/storage/v1/b").status_code == 200


def test_client_that_leaves_a_download_frees_the_file(http: httpx.Client, folder: Path) -> None:
    (folder / "big").write_bytes(bytes(64 << 20))
    address = (http.base_url.host, http.base_url.port or 0)
    for _ in range(20):
        with socket.create_connection(address, timeout=60) as connection:
            connection.sendall(f"GET /{folder.name}/big HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            connection.recv(1)
    assert http.get("/storage/v1/b").status_code == 200
