"""Cloud Storage's XML API on the wire: objects, buckets, listings and errors."""

import base64
import gzip
import hashlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest


def texts(response: httpx.Response, path: str) -> list[str]:
    """The texts of the elements on a path, namespaces left out."""
    root = ElementTree.fromstring(response.content)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return [element.text or "" for element in root.findall(path)]


def error(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"].startswith("application/xml")
    assert len(texts(response, "Details")) == 1
    return response.status_code, texts(response, "Code")[0]


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def test_object_goes_up_comes_down_and_is_deleted(http: httpx.Client, folder: Path) -> None:
    url = f"/{folder.name}/a%20folder/%C3%BCn%2Bi.txt"
    headers = {"content-type": "text/plain", "cache-control": "no-store", "x-goog-meta-who": "me"}
    written = http.put(url, content=b"hello", headers=headers)
    assert (written.status_code, written.content) == (200, b"")
    assert written.headers["etag"] == f'"{hashlib.md5(b"hello").hexdigest()}"'
    assert f"md5={md5(b'hello')}" in written.headers["x-goog-hash"]
    assert (folder / "a folder" / "ün+i.txt").read_bytes() == b"hello"
    read = http.get(url)
    assert (read.status_code, read.content) == (200, b"hello")
    described = {name: read.headers[name] for name in ("etag", "x-goog-generation", "x-goog-hash")}
    assert described == {name: written.headers[name] for name in described}
    assert {name: read.headers[name] for name in headers} == headers
    head = http.head(url)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "5")
    resource = http.get(f"/storage/v1/b/{folder.name}/o/a%20folder%2F%C3%BCn%2Bi.txt").json()
    assert (resource["metadata"], resource["cacheControl"]) == ({"who": "me"}, "no-store")
    assert (http.delete(url).status_code, error(http.get(url))) == (204, (404, "NoSuchKey"))
    assert error(http.delete(url)) == (404, "NoSuchKey")


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"content-md5": md5(b"hello")}, 200, ""),
        ({"content-md5": md5(b"other")}, 400, "BadDigest"),
        ({"content-md5": "no digest"}, 400, "InvalidDigest"),
        ({"x-goog-hash": f"md5={md5(b'hello')}"}, 200, ""),
        ({"x-goog-hash": "crc32c=AAAAAA=="}, 400, "BadDigest"),
        ({"x-goog-hash": f"md5={md5(b'hello')},crc32c=AAAAAA=="}, 400, "BadDigest"),
        ({"x-goog-hash": f"crc32c=mnG7TA==,md5={md5(b'other')}"}, 400, "BadDigest"),
        ({"x-goog-hash": "crc32c=AAAA"}, 400, "InvalidDigest"),
        ({"x-goog-if-generation-match": "0"}, 412, "PreconditionFailed"),
        ({"x-goog-if-generation-match": "many"}, 400, "InvalidArgument"),
        ({"x-goog-if-metageneration-match": "1"}, 200, ""),
        ({"x-goog-if-metageneration-match": "7"}, 412, "PreconditionFailed"),
        ({"x-goog-content-length-range": "0,4"}, 400, "EntityTooLarge"),
        ({"x-goog-content-length-range": "6,9"}, 400, "EntityTooSmall"),
        ({"x-goog-content-length-range": "1,5"}, 200, ""),
        ({"x-goog-encryption-key": "AAAA"}, 400, "CustomerEncryptionKeyFormatIsInvalid"),
        ({"x-goog-acl": "public-read"}, 200, ""),
        ({"x-goog-acl": "everybody"}, 400, "InvalidArgument"),
        ({"x-goog-storage-class": "FAST"}, 400, "InvalidArgument"),
        ({"x-goog-custom-time": "soon"}, 400, "InvalidArgument"),
        ({"x-goog-meta-large": "x" * 9000}, 400, "MetadataTooLarge"),
    ],
)
def test_write_that_fails_keeps_the_old_object(
    http: httpx.Client, folder: Path, headers: dict[str, str], status: int, code: str
) -> None:
    url = f"/{folder.name}/a"
    assert http.put(url, content=b"old").status_code == 200
    response = http.put(url, content=b"hello", headers=headers)
    assert response.status_code == status, response.text
    assert (folder / "a").read_bytes() == (b"old" if code else b"hello")
    if code:
        assert error(response) == (status, code)


def test_object_that_a_customers_key_opens(http: httpx.Client, folder: Path) -> None:
    def headers(key: bytes, prefix: str = "x-goog-encryption-") -> dict[str, str]:
        digest = base64.b64encode(hashlib.sha256(key).digest()).decode()
        named = {"algorithm": "AES256", "key": base64.b64encode(key).decode(), "key-sha256": digest}
        return {f"{prefix}{name}": value for name, value in named.items()}

    url, right, wrong = f"/{folder.name}/a", headers(b"k" * 32), headers(b"w" * 32)
    assert http.put(url, content=b"hello", headers=right).status_code == 200
    assert http.get(url, headers=right).content == b"hello"
    assert error(http.get(url, headers=wrong)) == (400, "CustomerEncryptionKeyIsIncorrect")
    assert error(http.get(url)) == (400, "ResourceIsEncryptedWithCustomerEncryptionKey")
    copy = {"x-goog-copy-source": url}
    assert error(http.put(f"{url}b", headers=copy)) == (400, "ResourceIsEncryptedWithCustomerEncryptionKey")
    source = headers(b"k" * 32, "x-goog-copy-source-encryption-")
    assert http.put(f"{url}b", headers={**copy, **source}).status_code == 200
    assert http.get(f"{url}b").content == b"hello"


def test_gzipped_object_is_unpacked_for_who_cannot(http: httpx.Client, folder: Path) -> None:
    packed = gzip.compress(b"hello")
    assert (
        http.put(f"/{folder.name}/a", content=packed, headers={"content-encoding": "gzip"}).status_code == 200
    )
    assert (folder / "a").read_bytes() == packed
    for encoding in ("gzip", "identity"):
        assert http.get(f"/{folder.name}/a", headers={"accept-encoding": encoding}).content == b"hello"


def test_names_that_a_folder_cannot_hold(http: httpx.Client, folder: Path) -> None:
    names = ["my-folder/", "a", "a/b", "a//b"]
    for name in names:
        assert http.put(f"/{folder.name}/{name}", content=name.encode()).status_code == 200
    assert [http.get(f"/{folder.name}/{name}").text for name in names] == names
    assert sorted(texts(http.get(f"/{folder.name}"), "Contents/Key")) == sorted(names)
    for name in names:
        assert http.delete(f"/{folder.name}/{name}").status_code == 204


def test_two_headers_of_one_name_both_count(http: httpx.Client, folder: Path) -> None:
    hashes = [("x-goog-hash", f"md5={md5(b'other')}"), ("x-goog-hash", "crc32c=mnG7TA==")]
    assert error(http.put(f"/{folder.name}/a", content=b"hello", headers=hashes)) == (400, "BadDigest")


def test_conditions_of_reading_and_deleting(http: httpx.Client, folder: Path) -> None:
    url = f"/{folder.name}/a"
    written = http.put(url, content=b"hello").headers
    generation, etag = written["x-goog-generation"], written["etag"]
    assert http.get(url, headers={"if-none-match": etag}).status_code == 304
    assert http.get(url, headers={"if-match": etag}).content == b"hello"
    assert error(http.get(url, headers={"if-match": '"other"'})) == (412, "PreconditionFailed")
    assert error(http.get(url, params={"generation": "1"})) == (404, "NoSuchKey")
    wrong, right = ({"x-goog-if-generation-match": value} for value in ("1", generation))
    assert error(http.get(url, headers=wrong)) == (412, "PreconditionFailed")
    assert error(http.delete(url, headers=wrong)) == (412, "PreconditionFailed")
    assert http.delete(url, headers=right).status_code == 204


def test_range_behind_the_end_is_an_error_document(http: httpx.Client, folder: Path) -> None:
    (folder / "ten").write_bytes(b"0123456789")
    response = http.get(f"/{folder.name}/ten", headers={"range": "bytes=10-"})
    assert error(response) == (416, "InvalidRange")
    assert response.headers["content-range"] == "bytes */10"


def test_copy(http: httpx.Client, folder: Path) -> None:
    source = f"/{folder.name}/a%20b"
    generation = http.put(source, content=b"hello", headers={"x-goog-meta-who": "me"}).headers[
        "x-goog-generation"
    ]
    copied = http.put(f"/{folder.name}/c", headers={"x-goog-copy-source": source})
    assert texts(copied, "ETag") == [f'"{hashlib.md5(b"hello").hexdigest()}"']
    read = http.get(f"/{folder.name}/c")
    assert (read.content, read.headers["x-goog-meta-who"]) == (b"hello", "me")
    replaced = {"x-goog-metadata-directive": "REPLACE", "content-type": "text/x"}
    http.put(f"/{folder.name}/d", headers={"x-goog-copy-source": source[1:], **replaced})
    read = http.get(f"/{folder.name}/d")
    assert (read.headers["content-type"], "x-goog-meta-who" in read.headers) == ("text/x", False)
    for headers, expected in [
        ({"x-goog-if-generation-match": "0"}, (412, "PreconditionFailed")),
        ({"x-goog-copy-source-if-generation-match": "1"}, (412, "PreconditionFailed")),
        ({"x-goog-copy-source-generation": "1"}, (404, "NoSuchKey")),
        ({"x-goog-copy-source": f"/{folder.name}/none"}, (404, "NoSuchKey")),
        ({"x-goog-copy-source": "/no-such-bucket/a"}, (404, "NoSuchBucket")),
        ({"x-goog-copy-source": folder.name}, (400, "InvalidArgument")),
        ({"x-goog-copy-source": "/caf%E9/x"}, (400, "InvalidArgument")),
        ({"x-goog-metadata-directive": "MERGE"}, (400, "InvalidArgument")),
    ]:
        response = http.put(f"/{folder.name}/c", headers={"x-goog-copy-source": source, **headers})
        assert error(response) == expected
    right = {"x-goog-copy-source": source, "x-goog-copy-source-if-generation-match": generation}
    assert http.put(f"/{folder.name}/c", headers=right).status_code == 200


def test_signed_answers_have_the_headers_that_the_url_asks_for(http: httpx.Client, folder: Path) -> None:
    (folder / "a").write_bytes(b"x")
    asked = {
        "response-content-type": "text/x",
        "response-content-disposition": "attachment\r\nx-evil: 1",
    }
    headers = http.get(f"/{folder.name}/a", params=asked).headers
    assert headers["content-type"] == "text/x"
    assert (headers["content-disposition"], "x-evil" in headers) == ("attachment  x-evil: 1", False)


def test_bucket_is_created_found_and_deleted(http: httpx.Client, name: str) -> None:
    body = (
        "<CreateBucketConfiguration xmlns='http://x/'><LocationConstraint>europe-west4</LocationConstraint>"
    )
    body += "<StorageClass>NEARLINE</StorageClass></CreateBucketConfiguration>"
    assert http.head(f"/{name}", headers={"x-goog-project-id": "p"}).status_code == 404
    assert http.put(f"/{name}", content=body).status_code == 200
    assert http.head(f"/{name}").status_code == 200
    assert texts(http.get(f"/{name}?location"), ".") == ["EUROPE-WEST4"]
    assert http.get(f"/storage/v1/b/{name}").json()["storageClass"] == "NEARLINE"
    assert error(http.put(f"/{name}")) == (409, "BucketAlreadyOwnedByYou")
    assert http.put(f"/{name}/a", content=b"x").status_code == 200
    assert error(http.delete(f"/{name}")) == (409, "BucketNotEmpty")
    listed = http.get("/", headers={"x-goog-project-id": "p"})
    assert name in texts(listed, "Buckets/Bucket/Name")
    http.delete(f"/{name}/a")
    assert http.delete(f"/{name}").status_code == 204
    assert error(http.get(f"/{name}", headers={"x-goog-date": "x"})) == (404, "NoSuchBucket")


@pytest.fixture
def seven(folder: Path) -> Path:
    """A bucket with seven objects."""
    for name in ("a", "b/1", "b/2", "c/1", "d", "e&<f>", "z"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("asked", "keys", "prefixes"),
    [
        ({}, ["a", "b/1", "b/2", "c/1", "d", "e&<f>", "z"], []),
        ({"delimiter": "/"}, ["a", "d", "e&<f>", "z"], ["b/", "c/"]),
        ({"prefix": "b/"}, ["b/1", "b/2"], []),
        ({"prefix": "b/", "delimiter": "/"}, ["b/1", "b/2"], []),
        ({"prefix": "x"}, [], []),
    ],
)
def test_listing_is_the_same_in_both_forms_and_pages(
    http: httpx.Client, seven: Path, asked: dict[str, str], keys: list[str], prefixes: list[str], size: int
) -> None:
    for first, following, answered in [
        ({}, "marker", "NextMarker"),
        ({"list-type": "2"}, "continuation-token", "NextContinuationToken"),
    ]:
        found: tuple[list[str], list[str]] = ([], [])
        page: dict[str, str] = {}
        while True:
            parameters = {**asked, **first, **page, "max-keys": str(size)}
            response = http.get(f"/{seven.name}", params=parameters)
            found[0].extend(texts(response, "Contents/Key"))
            found[1].extend(texts(response, "CommonPrefixes/Prefix"))
            if texts(response, "IsTruncated") == ["false"]:
                break
            page = {following: texts(response, answered)[0]}
        assert found == (keys, prefixes)


def test_listing_tells_what_it_was_asked_and_describes_objects(http: httpx.Client, seven: Path) -> None:
    asked = {"list-type": "2", "start-after": "b/2", "max-keys": "2", "encoding-type": "url"}
    response = http.get(f"/{seven.name}/", params=asked)
    shown = ("Name", "StartAfter", "MaxKeys", "KeyCount", "IsTruncated", "EncodingType")
    told = {name: texts(response, name)[0] for name in shown}
    assert told == dict(zip(shown, (seven.name, "b/2", "2", "2", "true", "url"), strict=True))
    head = http.head(f"/{seven.name}/d").headers
    entry = {name: texts(response, f"Contents/{name}")[1] for name in ("Key", "ETag", "Size", "Generation")}
    described = {"ETag": head["etag"], "Size": "1", "Generation": head["x-goog-generation"]}
    assert entry == {"Key": "d", **described}
    assert (
        texts(http.get(f"/{seven.name}", params={"encoding-type": "url"}), "Contents/Key")[5] == "e%26%3Cf%3E"
    )
    nothing = http.get(f"/{seven.name}", params={"max-keys": "0"})
    assert (texts(nothing, "Contents"), texts(nothing, "IsTruncated")) == ([], ["false"])


def test_name_that_xml_cannot_hold_does_not_break_the_list(http: httpx.Client, folder: Path) -> None:
    assert http.put(f"/{folder.name}/a%01%1Fb", content=b"x").status_code == 200
    assert texts(http.get(f"/{folder.name}"), "Contents/Key") == ["a\ufffd\ufffdb"]
    encoded = http.get(f"/{folder.name}", params={"encoding-type": "url"})
    assert texts(encoded, "Contents/Key") == ["a%01%1Fb"]
    assert http.get(f"/{folder.name}/a%01%1Fb").content == b"x"


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/{}?max-keys=many", (400, "InvalidArgument")),
        ("GET", "/{}?max-keys=-1", (400, "InvalidArgument")),
        ("GET", "/{}?list-type=3", (400, "InvalidArgument")),
        ("GET", "/{}?encoding-type=base64", (400, "InvalidArgument")),
        ("GET", "/{}?list-type=2&continuation-token=%C3%A4", (400, "InvalidArgument")),
        ("GET", "/{}?prefix=caf%E9", (400, "InvalidArgument")),
        ("GET", "/{}/caf%E9", (400, "InvalidArgument")),
        ("PUT", "/{}/a%0Ab", (400, "InvalidArgument")),
        ("PUT", "/{}/a%00b", (400, "InvalidArgument")),
        ("PUT", "/{}/" + "x" * 1025, (400, "InvalidArgument")),
        ("GET", "/{}?acl", (501, "NotImplemented")),
        ("GET", "/{}?versions", (501, "NotImplemented")),
        ("PUT", "/{}?lifecycle", (501, "NotImplemented")),
        ("PUT", "/{}/a?acl", (501, "NotImplemented")),
        ("PUT", "/{}/a?compose", (501, "NotImplemented")),
        ("POST", "/{}?delete", (501, "NotImplemented")),
        ("POST", "/{}/a", (405, "MethodNotAllowed")),
        ("PATCH", "/{}/a", (405, "MethodNotAllowed")),
        ("POST", "/{}", (405, "MethodNotAllowed")),
    ],
)
def test_what_is_wrong_or_missing_is_said_as_xml(
    http: httpx.Client, folder: Path, method: str, path: str, expected: tuple[int, str]
) -> None:
    response = http.request(method, path.format(folder.name))
    assert error(response) == expected
    assert texts(response, "Details")[0]
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == []


LAUGHS = "".join(
    f'<!ENTITY l{number} "{f"&l{number - 1};" * 10}">' if number else '<!ENTITY l0 "ha">'
    for number in range(10)
)


@pytest.mark.parametrize(
    "body",
    [
        f"<!DOCTYPE x [{LAUGHS}]><CreateBucketConfiguration>&l9;</CreateBucketConfiguration>",
        "<!DOCTYPE x SYSTEM 'file:///etc/passwd'><CreateBucketConfiguration/>",
        "<CreateBucketConfiguration>&unknown;</CreateBucketConfiguration>",
        "<CreateBucketConfiguration>",
        "no XML at all",
        "<?xml version='1.0' encoding='nothing'?><CreateBucketConfiguration/>",
        "<Other/>",
        "<a>" * 100_000,
        f"<CreateBucketConfiguration><StorageClass>{'x' * 5000}</StorageClass></CreateBucketConfiguration>",
        "<CreateBucketConfiguration><LocationConstraint><b/></LocationConstraint></CreateBucketConfiguration>",
        "\0",
    ],
)
def test_hostile_documents_are_refused(http: httpx.Client, name: str, body: str) -> None:
    assert error(http.put(f"/{name}", content=body)) == (400, "MalformedXML")
    assert http.get(f"/storage/v1/b/{name}").status_code == 404


def test_a_body_of_100_mb_is_refused_within_bounds(http: httpx.Client, name: str) -> None:
    def body() -> Any:
        yield b"<CreateBucketConfiguration>"
        for _ in range(100):
            yield b" " * (1 << 20)

    assert error(http.put(f"/{name}", content=body())) == (400, "EntityTooLarge")
