"""Methods that a header names, addresses behind a proxy, and when a bucket was made."""

from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest

from emulator.app import Emulator
from emulator.config import Settings

FORM = {"content-type": "application/x-www-form-urlencoded", "x-http-method-override": "GET"}
PROXY = {"x-forwarded-proto": "https", "x-forwarded-host": "storage.example.com"}


def test_parameters_of_a_list_may_be_posted_as_a_form(http: httpx.Client, folder: Path) -> None:
    for name in ("a1", "a2", "b"):
        (folder / name).touch()
    url = f"/storage/v1/b/{folder.name}/o?maxResults=1"
    page = http.post(url, content=urlencode({"prefix": "a", "alt": "json"}), headers=FORM).json()
    assert ([item["name"] for item in page["items"]], "nextPageToken" in page) == (["a1"], True)
    assert http.post(url.partition("?")[0], content=b"prefix=%FF", headers=FORM).status_code == 400


@pytest.mark.parametrize(
    ("method", "status"), [("DELETE", 204), ("delete", 204), ("PATCH", 200), ("GET", 200)]
)
def test_method_override_counts_for_a_post_only(
    http: httpx.Client, folder: Path, method: str, status: int
) -> None:
    (folder / "x").touch()
    path = f"/storage/v1/b/{folder.name}/o/x"
    override = {"x-http-method-override": method}
    assert http.get(path, headers=override).json()["name"] == "x"
    assert http.post(path, headers=override).status_code == status
    assert (folder / "x").exists() == (status == 200)


def test_vertex_takes_the_override_and_the_form(tmp_path: Path) -> None:
    settings = Settings(port=0, data_dir=tmp_path, bundled_models=False, workers=1, grpc=False)
    place = "/v1/projects/p/locations/us-central1/batchPredictionJobs"
    with Emulator(settings) as emulator, httpx.Client(base_url=emulator.url, trust_env=False) as http:
        body = urlencode({"filter": 'display_name="r"', "pageSize": "0", "alt": "json"})
        assert (http.post(place, content=body, headers=FORM).json()) == {}
        refused = http.post(place, content=urlencode({"filter": "nonsense("}), headers=FORM)
        assert refused.status_code == 400
        deleted = http.post(f"{place}/1", headers={"x-http-method-override": "DELETE"})
        assert (deleted.status_code, deleted.json()["error"]["status"]) == (404, "NOT_FOUND")
        assert http.get(f"{place}/1", headers={"x-http-method-override": "DELETE"}).status_code == 404


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        (PROXY, "https://storage.example.com"),
        ({**PROXY, "x-forwarded-host": "one.example.com, two"}, "https://one.example.com"),
        ({**PROXY, "x-forwarded-port": "8443"}, "https://storage.example.com:8443"),
        ({**PROXY, "x-forwarded-port": "443"}, "https://storage.example.com"),
        ({**PROXY, "x-forwarded-prefix": "/gcs/"}, "https://storage.example.com/gcs"),
        ({"x-forwarded-host": "[::1]:9000"}, "http://[::1]:9000"),
        ({"x-forwarded-host": "evil/../x"}, ""),
        ({"x-forwarded-proto": "javascript"}, ""),
    ],
)
def test_all_addresses_are_those_that_the_client_reaches(
    http: httpx.Client, folder: Path, headers: dict[str, str], base: str
) -> None:
    base = base or str(http.base_url).rstrip("/")
    (folder / "x").touch()
    bucket = f"/storage/v1/b/{folder.name}"
    found = http.get(f"{bucket}/o/x?projection=full", headers=headers).json()
    links = [found["selfLink"], found["mediaLink"], found["acl"][0]["selfLink"]]
    links.append(http.get(bucket, headers=headers).json()["selfLink"])
    links.append(http.get(f"{bucket}/o", headers=headers).json()["items"][0]["selfLink"])
    links.append(
        http.post(f"/upload{bucket}/o?uploadType=resumable&name=y", headers=headers).headers["location"]
    )
    assert [link for link in links if not link.startswith(f"{base}/")] == []


def test_creation_time_of_a_bucket_does_not_move(http: httpx.Client, folder: Path) -> None:
    path = f"/storage/v1/b/{folder.name}"
    created = http.get(path).json()["timeCreated"]
    for name in ("a", "b"):
        (folder / name).touch()
        (folder / f"{name}-folder").mkdir()
    assert http.get(path).json()["timeCreated"] == created
    listed = {bucket["name"]: bucket for bucket in http.get("/storage/v1/b").json()["items"]}
    assert listed[folder.name]["timeCreated"] == created


@pytest.mark.parametrize("prefix", ["gs://out/" + "x" * 980, "gs://out/.well-known/acme-challenge/x"])
def test_output_prefix_that_cannot_be_written_is_refused_at_creation(tmp_path: Path, prefix: str) -> None:
    settings = Settings(port=0, data_dir=tmp_path, workers=1, grpc=False)
    place = "/v1/projects/p/locations/us-central1"
    job = {
        "displayName": "j",
        "model": f"{place[4:]}/models/video-object-tracking",
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://in/in.jsonl"]}},
        "outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": prefix}},
    }
    with Emulator(settings) as emulator, httpx.Client(base_url=emulator.url, trust_env=False) as http:
        response = http.post(f"{place}/batchPredictionJobs", json=job)
        assert response.status_code == 400
        assert "output_uri_prefix" in response.text
        assert http.get(f"{place}/batchPredictionJobs").json() == {}
