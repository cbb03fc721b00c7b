"""The XML API's multipart and resumable uploads, and HTML forms."""

import base64
import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage import transfer_manager

MIB = 1 << 20


def texts(response: httpx.Response, path: str) -> list[str]:
    """The texts of the elements on a path, namespaces left out."""
    root = ElementTree.fromstring(response.content)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return [element.text or "" for element in root.findall(path)]


def error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, texts(response, "Code")[0]


def complete(*parts: tuple[Any, str]) -> str:
    listed = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in parts
    )
    return f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"


class Upload:
    """A multipart upload of `a/b.bin`, begun."""

    def __init__(self, http: httpx.Client, bucket: str) -> None:
        self._http = http
        self.url = f"/{bucket}/a/b.bin"
        begun = http.post(f"{self.url}?uploads", headers={"content-type": "x/y", "x-goog-meta-a": "b"})
        self.id = texts(begun, "UploadId")[0]

    def put(self, number: Any, data: bytes, **headers: str) -> httpx.Response:
        parameters = {"partNumber": str(number), "uploadId": self.id}
        return self._http.put(self.url, params=parameters, content=data, headers=headers)

    def finish(self, body: str, **headers: str) -> httpx.Response:
        return self._http.post(self.url, params={"uploadId": self.id}, content=body, headers=headers)


@pytest.fixture
def upload(http: httpx.Client, folder: Path) -> Upload:
    return Upload(http, folder.name)


def drafts(folder: Path) -> int:
    return len(list((folder / ".vbe-tmp").iterdir()))


def test_parts_in_any_order_become_one_object(http: httpx.Client, folder: Path, upload: Upload) -> None:
    first, second, last = b"1" * 5 * MIB, b"2" * 5 * MIB, b"end"
    etags = {number: upload.put(number, data).headers["etag"] for number, data in [(900, last), (7, b"old")]}
    etags[2] = upload.put(2, first).headers["etag"]
    etags[7] = upload.put(7, second).headers["etag"]
    assert etags[2] == f'"{hashlib.md5(first).hexdigest()}"'
    listed = http.get(upload.url, params={"uploadId": upload.id, "max-parts": "2"})
    assert texts(listed, "Part/PartNumber") == ["2", "7"]
    assert texts(listed, "Part/Size") == [str(5 * MIB)] * 2
    assert (texts(listed, "NextPartNumberMarker"), texts(listed, "IsTruncated")) == (["7"], ["true"])
    rest = http.get(upload.url, params={"uploadId": upload.id, "part-number-marker": "7"})
    assert (texts(rest, "Part/ETag"), texts(rest, "IsTruncated")) == ([etags[900]], ["false"])
    assert texts(http.get(f"/{folder.name}?uploads&prefix=a/"), "Upload/UploadId") == [upload.id]
    body = complete(*sorted(etags.items()))
    finished = upload.finish(body)
    assert texts(finished, "Key") == ["a/b.bin"]
    assert (folder / "a" / "b.bin").read_bytes() == first + second + last
    resource = http.get(f"/storage/v1/b/{folder.name}/o/a%2Fb.bin").json()
    assert (resource["contentType"], resource["metadata"], "md5Hash" in resource) == (
        "x/y",
        {"a": "b"},
        False,
    )
    # A client that missed the answer asks again; nothing of the parts is left.
    assert upload.finish(body).content == finished.content
    assert drafts(folder) == 0
    assert texts(http.get(f"/{folder.name}?uploads"), "Upload/UploadId") == []


def test_parts_that_are_not_listed_do_not_count(folder: Path, upload: Upload) -> None:
    upload.put(1, b"first")
    etag = upload.put(2, b"second").headers["etag"]
    assert upload.finish(complete((2, etag.strip('"')))).status_code == 200
    assert (folder / "a" / "b.bin").read_bytes() == b"second"


@pytest.mark.parametrize(
    ("listed", "code"),
    [
        ([(2, "{2}"), (1, "{1}")], "InvalidPartOrder"),
        ([(1, "{1}"), (1, "{1}")], "InvalidPartOrder"),
        ([(1, "{2}")], "InvalidPart"),
        ([(3, "{1}")], "InvalidPart"),
        ([(1, "{1}"), (2, "{2}")], "EntityTooSmall"),
        ([(0, "{1}")], "InvalidArgument"),
        ([(10001, "{1}")], "InvalidArgument"),
        ([("9" * 5000, "{1}")], "MalformedCompleteMultipartUploadRequest"),
        ([("one", "{1}")], "InvalidArgument"),
        ([("", "")], "InvalidArgument"),
        ([], "MalformedCompleteMultipartUploadRequest"),
        ([(number, "x") for number in range(1, 10_002)], "MalformedCompleteMultipartUploadRequest"),
    ],
)
def test_wrong_list_of_parts_is_refused_and_loses_nothing(
    folder: Path, upload: Upload, listed: list[tuple[Any, str]], code: str
) -> None:
    etags = {str(number): upload.put(number, b"small").headers["etag"] for number in (1, 2)}
    etags["2"] = upload.put(2, b"other").headers["etag"]
    body = complete(*listed)
    for number, etag in etags.items():
        body = body.replace(f"{{{number}}}", etag)
    assert error(upload.finish(body)) == (400, code)
    assert not (folder / "a").exists()
    assert upload.finish(complete((2, etags["2"]))).status_code == 200


LAUGHS = "".join(
    f'<!ENTITY l{number} "{f"&l{number - 1};" * 10}">' if number else '<!ENTITY l0 "ha">'
    for number in range(10)
)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (f"<!DOCTYPE x [{LAUGHS}]>{complete((1, '&l9;'))}", "MalformedCompleteMultipartUploadRequest"),
        (complete((1, "x" * 5000)), "MalformedCompleteMultipartUploadRequest"),
        ("<CompleteMultipartUpload><Part><ETag><b/>", "MalformedCompleteMultipartUploadRequest"),
        (" " * (5 * MIB), "EntityTooLarge"),
    ],
)
def test_hostile_list_of_parts_is_refused(upload: Upload, body: str, code: str) -> None:
    assert error(upload.finish(body)) == (400, code)


@pytest.mark.parametrize("number", ["0", "10001", "-1", "1.5", "", "9" * 5000, "\u0661"])
def test_number_of_a_part_is_checked(folder: Path, upload: Upload, number: str) -> None:
    assert error(upload.put(number, b"x")) == (400, "InvalidArgument")
    assert drafts(folder) == 0


def test_part_that_did_not_arrive_whole_is_refused(upload: Upload) -> None:
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    assert error(upload.put(1, b"data", **{"content-md5": wrong})) == (400, "BadDigest")
    assert upload.put(1, b"data", **{"x-goog-hash": "crc32c=rth90Q=="}).status_code == 200


def test_upload_that_is_unknown_or_aborted_is_said_so(
    http: httpx.Client, folder: Path, upload: Upload
) -> None:
    for url in (f"/{folder.name}/other", f"/{folder.name}/a/b.bin"):
        for method in ("GET", "POST", "DELETE", "PUT"):
            upload_id = upload.id if url.endswith("other") else "nothing"
            parameters = {"uploadId": upload_id, **({"partNumber": "1"} if method == "PUT" else {})}
            response = http.request(method, url, params=parameters, content=complete((1, "x")))
            assert error(response) == (404, "NoSuchUpload")
    assert error(http.put(upload.url, params={"partNumber": "1"}, content=b"x")) == (400, "InvalidArgument")
    upload.put(1, b"x")
    assert http.delete(upload.url, params={"uploadId": upload.id}).status_code == 204
    assert drafts(folder) == 0
    assert error(upload.put(1, b"x")) == error(upload.finish(complete((1, "x")))) == (404, "NoSuchUpload")
    assert not (folder / "a").exists()


def test_conditions_hold_when_an_upload_is_completed(folder: Path, upload: Upload) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "b.bin").write_bytes(b"old")
    body = complete((1, upload.put(1, b"new").headers["etag"]))
    refused = upload.finish(body, **{"x-goog-if-generation-match": "0"})
    assert error(refused) == (412, "PreconditionFailed")
    assert (folder / "a" / "b.bin").read_bytes() == b"old"
    assert upload.finish(body).status_code == 200


@pytest.mark.parametrize("worker_type", [transfer_manager.THREAD, transfer_manager.PROCESS])
@pytest.mark.parametrize("checksum", ["auto", "md5", None])
def test_transfer_manager_uploads_chunks(
    server: Any,
    client: Any,
    bucket: Any,
    folder: Path,
    tmp_path: Path,
    worker_type: str,
    checksum: str | None,
) -> None:
    data = bytes(range(256)) * (11 * MIB // 256)
    (tmp_path / "large").write_bytes(data)
    blob = bucket.blob("a folder/lärge")
    blob.metadata = {"who": "me"}
    transfer_manager.upload_chunks_concurrently(
        str(tmp_path / "large"),
        blob,
        content_type="video/mp4",
        chunk_size=5 * MIB,
        worker_type=worker_type,
        checksum=checksum,
        max_workers=3,
    )
    assert (folder / "a folder" / "lärge").read_bytes() == data
    found = bucket.get_blob("a folder/lärge")
    assert (found.content_type, found.metadata) == ("video/mp4", {"who": "me"})
    transfer_manager.download_chunks_concurrently(
        found, str(tmp_path / "copy"), chunk_size=5 * MIB, worker_type=transfer_manager.THREAD
    )
    assert (tmp_path / "copy").read_bytes() == data


def test_resumable_session_of_the_xml_api(http: httpx.Client, folder: Path) -> None:
    url, start = f"/{folder.name}/a%20b", {"x-goog-resumable": "start", "content-type": "x/y"}
    begun = http.post(url, headers=start)
    location = begun.headers["location"]
    assert (begun.status_code, location.partition("?")[0]) == (
        201,
        f"{http.base_url}{url}".replace("//", "//", 1),
    )
    chunk = b"x" * (256 << 10)
    size = f"{len(chunk) + 3}"
    first = http.put(location, content=chunk, headers={"content-range": f"bytes 0-{len(chunk) - 1}/{size}"})
    assert (first.status_code, first.headers["range"]) == (308, f"bytes=0-{len(chunk) - 1}")
    asked = http.put(location, headers={"content-range": f"bytes */{size}"})
    assert asked.status_code == 308
    span = f"bytes {len(chunk)}-{len(chunk) + 2}/{size}"
    last = http.put(location, content=b"end", headers={"content-range": span})
    assert (last.status_code, last.content) == (200, b"")
    assert last.headers["x-goog-stored-content-length"] == size
    assert (folder / "a b").read_bytes() == chunk + b"end"
    cancelled = http.post(url, headers=start).headers["location"]
    assert http.delete(cancelled).status_code == 499
    assert error(http.put(cancelled, content=b"x"))[0] == 404
    assert error(http.post(url, headers={"x-goog-resumable": "stop"})) == (400, "InvalidArgument")


def form(fields: dict[str, str], file: bytes | None = b"hello", filename: str = "ä.txt") -> dict[str, Any]:
    files = {"file": (filename, file, "text/x")} if file is not None else {"other": ("", b"", "a/b")}
    return {"data": fields, "files": files}


def policy(conditions: list[Any], seconds: float = 86_400, **changes: Any) -> str:
    end = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return base64.b64encode(
        json.dumps({"expiration": end, "conditions": conditions, **changes}).encode()
    ).decode()


def test_form_with_a_policy_uploads(http: httpx.Client, folder: Path) -> None:
    fields = {
        "key": "up/${filename}",
        "Content-Type": "text/y",
        "x-goog-meta-who": "me",
        "success_action_status": "201",
    }
    conditions: list[Any] = [
        ["starts-with", "$key", "up/"],
        {"content-type": "text/y"},
        {"x-goog-meta-who": "me"},
    ]
    conditions += [
        ["content-length-range", 0, 5],
        ["eq", "$success_action_status", "201"],
        {"bucket": folder.name},
    ]
    response = http.post(
        f"/{folder.name}", **form({**fields, "policy": policy(conditions), "x-goog-signature": "00"})
    )
    assert (response.status_code, texts(response, "Key")) == (201, ["up/ä.txt"])
    assert (folder / "up" / "ä.txt").read_bytes() == b"hello"
    read = http.get(f"/{folder.name}/up/%C3%A4.txt")
    assert (read.headers["content-type"], read.headers["x-goog-meta-who"]) == ("text/y", "me")


def test_form_asks_for_its_answer(http: httpx.Client, folder: Path) -> None:
    signed = {
        "key": "a",
        "policy": policy([{"key": "a"}, ["starts-with", "$success_action_redirect", "http"]]),
    }
    redirect = {"success_action_redirect": "http://app.test/done?a=b"}
    response = http.post(f"/{folder.name}", **form({**signed, **redirect}))
    location = f"http://app.test/done?a=b&bucket={folder.name}&key=a&etag="
    assert (response.status_code, response.headers["location"].startswith(location)) == (303, True)
    plain = {"key": "b", "policy": policy([{"key": "b"}])}
    assert http.post(f"/{folder.name}", **form(plain)).status_code == 204


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({}, "InvalidPolicyDocument", "Missing policy"),
        ({"policy": "!"}, "InvalidPolicyDocument", "not JSON"),
        (
            {"policy": base64.b64encode(b"[" * 100_000).decode()[:100_000]},
            "InvalidPolicyDocument",
            "not JSON",
        ),
        ({"policy": base64.b64encode(b"[]").decode()}, "InvalidPolicyDocument", "no list|not a JSON object"),
        ({"policy": policy([{"key": "a"}], -1)}, "ExpiredToken", "expired"),
        ({"policy": policy([{"key": "a"}], expiration="soon")}, "InvalidPolicyDocument", "'soon'"),
        ({"policy": policy([{"key": "b"}])}, "InvalidPolicyDocument", "Invalid condition: .*\"b\".*'a'"),
        ({"policy": policy([["starts-with", "$key", "b"]])}, "InvalidPolicyDocument", "starts-with"),
        ({"policy": policy([["like", "$key", "b"]])}, "InvalidPolicyDocument", "like"),
        ({"policy": policy([{"key": "a"}, {"bucket": "other"}])}, "InvalidPolicyDocument", "other"),
        (
            {"policy": policy([{"key": "a"}, {"x-goog-random": "b"}]), "x-goog-random": "b"},
            "InvalidPolicyDocument",
            "x-goog-random",
        ),
        ({"policy": policy([{"key": "a"}]), "acl": "public"}, "InvalidPolicyDocument", "these fields: acl"),
        ({"policy": policy([{"key": "a"}, ["content-length-range", 0, 4]])}, "EntityTooLarge", "4"),
        ({"policy": policy([{"key": "a"}, ["content-length-range", 6, 9]])}, "EntityTooSmall", "6"),
        ({"policy": policy([{"key": ""}]), "key": ""}, "InvalidArgument", "key"),
        ({"policy": "x" * 200_000}, "MaxPostPreDataLengthExceeded", "131072"),
    ],
)
def test_form_that_does_not_fit_is_refused(
    http: httpx.Client, folder: Path, fields: dict[str, str], code: str, words: str
) -> None:
    response = http.post(f"/{folder.name}", **form({"key": "a", **fields}))
    assert error(response) == (400, code)
    assert re.search(words, texts(response, "Details")[0])
    assert not (folder / "a").exists()


def test_form_without_a_file_or_an_end_is_refused(http: httpx.Client, folder: Path) -> None:
    fields = {"key": "a", "policy": policy([{"key": "a"}])}
    assert error(http.post(f"/{folder.name}", **form(fields, None))) == (400, "InvalidArgument")
    headers = {"content-type": "multipart/form-data; boundary=x"}
    for body in (b"", b"--x", b"no form", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n'):
        assert error(http.post(f"/{folder.name}", content=body, headers=headers)) == (400, "InvalidArgument")
    headers = {"content-type": "multipart/form-data"}
    assert error(http.post(f"/{folder.name}", content=b"", headers=headers)) == (400, "InvalidArgument")


def test_policy_that_googles_client_signs(
    server: Any, http: httpx.Client, folder: Path, account: Any
) -> None:
    client = storage.Client(project="p", credentials=AnonymousCredentials())
    signed = client.generate_signed_post_policy_v4(
        folder.name,
        "a/b",
        expiration=timedelta(minutes=5),
        conditions=[["content-length-range", 0, 100]],
        fields={"x-goog-meta-who": "me"},
        credentials=account,
    )
    assert http.post(f"/{folder.name}/", **form(signed["fields"])).status_code == 204
    assert (folder / "a" / "b").read_bytes() == b"hello"
