"""Which requests are the XML API's, and which stay with the emulator's other surfaces."""

import shutil
from pathlib import Path

import httpx
import pytest

from emulator.gcs.addressing import bucket_of_host

XML = "application/xml"
JSON = "application/json"


def surface(response: httpx.Response) -> str:
    return response.headers["content-type"].partition(";")[0]


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/nothing-here", {}),
        ("GET", "/nothing-here/a", {}),
        ("POST", "/nothing-here/a", {}),
        ("DELETE", "/projects/p/locations/l/models/1", {}),
        ("GET", "/projects/p/locations/us-central1/models", {"x-goog-api-client": "gl-python"}),
        (
            "GET",
            "/projects/p/locations/l/models",
            {"x-goog-user-project": "p", "x-goog-request-params": "a=b"},
        ),
        ("GET", "/v1beta1/nothing", {}),
        ("GET", "/v2beta1/projects/p/locations/l/models?pageSize=1", {}),
        ("PUT", "/v1beta1/projects/p/locations/l/models", {}),
        ("PUT", "/V1/upper-case", {}),
        ("PUT", "/_emulator/nothing", {}),
        ("GET", "/docs/nothing?alt=json", {}),
        ("POST", "/", {"x-goog-project-id": "p"}),
        ("GET", "/a", {"x-goog-date": "x"}),
    ],
)
def test_paths_of_others_keep_their_answers(
    http: httpx.Client, method: str, path: str, headers: dict[str, str]
) -> None:
    response = http.request(method, path, headers=headers)
    assert (response.status_code in (404, 405), surface(response)) == (True, JSON), response.text
    assert response.json()["error"]["code"] == response.status_code


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("PUT", "/nothing-here/a", {}),
        ("GET", "/nothing-here?list-type=2", {}),
        ("POST", "/nothing-here/a?uploads", {}),
        ("POST", "/nothing-here/a?uploadId=x", {}),
        ("GET", "/nothing-here/a?X-Goog-Algorithm=x", {}),
        ("GET", "/nothing-here/a?GoogleAccessId=x", {}),
        ("DELETE", "/nothing-here/a", {"x-goog-if-generation-match": "1"}),
        ("GET", "/nothing-here/a", {"x-goog-date": "x"}),
        ("GET", "/nothing-here", {"host": "storage.googleapis.com"}),
        ("GET", "/projects/p", {"host": "storage.googleapis.com:443"}),
        ("GET", "/a", {"host": "nothing-here.storage.googleapis.com"}),
    ],
)
def test_signs_of_the_xml_api_are_seen(
    http: httpx.Client, method: str, path: str, headers: dict[str, str]
) -> None:
    response = http.request(method, path, headers=headers, content=b"x" if method == "POST" else None)
    assert (response.status_code, surface(response)) == (404, XML)
    assert "<Code>NoSuchBucket</Code>" in response.text


@pytest.mark.parametrize("name", ["projects", "docs", "v1.example"])
def test_a_bucket_that_exists_is_reached_whatever_it_is_called(
    http: httpx.Client, folder: Path, name: str
) -> None:
    try:
        (folder / "a").write_bytes(b"mine")
        assert http.get(f"/{name}/a").content == b"mine"
        assert http.post(f"/{name}/b?uploads").status_code == 200
    finally:
        # The server is that of other tests, too: their paths begin with these names.
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    "path",
    [
        "v1/projects/p/locations/us-central1/models",
        "v1beta1/x",
        "_emulator/reset",
        "storage/v1/b",
        "upload/storage/v1/b/x/o",
        "batch/storage/v1",
        "b/x/o",
        "docs",
        "token",
        "a%20b",
    ],
)
def test_a_bucket_in_the_host_has_every_path(http: httpx.Client, folder: Path, path: str) -> None:
    headers = {"host": f"{folder.name}.storage.googleapis.com"}
    assert http.put(f"/{path}", content=b"mine", headers=headers).status_code == 200
    assert (folder / path.replace("%20", " ")).read_bytes() == b"mine"
    assert http.get(f"/{path}", headers=headers).content == b"mine"
    assert f"<Key>{path.replace('%20', ' ')}</Key>" in http.get("/", headers=headers).text


def test_json_api_and_admin_answer_under_googles_names(http: httpx.Client, folder: Path) -> None:
    headers = {"host": "storage.googleapis.com"}
    assert http.get(f"/storage/v1/b/{folder.name}", headers=headers).json()["name"] == folder.name
    assert http.get("/_emulator/health", headers=headers).json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("host", "bucket"),
    [
        ("my-bucket.storage.googleapis.com", "my-bucket"),
        ("my.bucket.storage.googleapis.com:443", "my.bucket"),
        ("MY-BUCKET.Storage.GoogleApis.com.", "my-bucket"),
        ("b.commondatastorage.googleapis.com", "b"),
        ("storage.googleapis.com", ""),
        ("us-central1-aiplatform.googleapis.com", ""),
        ("storage.googleapis.com.evil.test", ""),
        ("xstorage.googleapis.com", ""),
        ("127.0.0.1:8080", ""),
        ("", ""),
    ],
)
def test_bucket_of_a_host(host: str, bucket: str) -> None:
    assert bucket_of_host(host) == bucket
