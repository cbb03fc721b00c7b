"""Pages of other sites are refused on every surface; programs notice nothing."""

import json
from typing import Any

import httpx
import pytest

from emulator.app import Emulator
from tests.guard.conftest import ORIGIN

JOBS = "/v1/projects/p/locations/us-central1/batchPredictionJobs"
SURFACES = [
    ("GET", "/_emulator/health"),
    ("POST", "/_emulator/reset"),
    ("GET", "/_emulator/snapshot"),
    ("GET", "/_emulator/events"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", JOBS),
    ("POST", JOBS),
    ("GET", JOBS.replace("v1", "v1beta1")),
    ("GET", "/storage/v1/b"),
    ("POST", "/storage/v1/b"),
    ("GET", "/storage/v1/b/bucket/o/page.html"),
    ("GET", "/b/bucket/o"),
    ("GET", "/download/storage/v1/b/bucket/o/page.html?alt=media"),
    ("POST", "/upload/storage/v1/b/bucket/o?uploadType=media&name=planted"),
    ("POST", "/batch/storage/v1"),
    ("GET", "/bucket/page.html"),
    ("GET", "/nothing/here"),
]
OWN_NAMES = ["localhost", "127.0.0.1", "127.0.0.7", "10.1.2.3", "[::1]", "a.localhost", "emulator.example"]
LOCAL_NAMES = [
    "emulator",
    "emulator.default.svc.cluster.local",
    "host.docker.internal",
    "us-central1-aiplatform.googleapis.com",
]
FOREIGN_NAMES = [
    "evil.example",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "emulator.dev",
    "127.1.evil",
]
FOREIGN_ORIGINS = [
    "null",
    "http://127.0.0.7",
    "http://10.1.2.3:8080",
    "http://intranet",
    "http://x.googleapis.com",
    "https://storage.googleapis.com",
    "http://localhost:1",
    "http://127.0.0.1",
    "https://localhost:3000",
    "http://localhost.evil.example:3000",
    "file://",
    "nonsense",
    "",
]


def page_of(origin: str | None, site: str | None = None) -> dict[str, str]:
    """What a browser sends for a page."""
    headers = {} if origin is None else {"origin": origin}
    return {**headers, **({"sec-fetch-site": site} if site else {})}


def refused(response: httpx.Response) -> Any:
    assert response.status_code == 403, response.text
    assert "access-control-allow-origin" not in response.headers
    error = response.json()["error"]
    assert error["status"] == "PERMISSION_DENIED"
    return error


@pytest.mark.parametrize(("method", "path"), SURFACES)
def test_page_of_another_site_is_refused_on_every_surface(http: httpx.Client, method: str, path: str) -> None:
    foreign = [page_of("http://127.0.0.7"), page_of(None, "cross-site"), page_of(None, "same-site")]
    for headers in [*foreign, {"host": "evil.example"}]:
        refused(http.request(method, path, headers=headers))
    assert http.get("/storage/v1/b/bucket/o/planted").status_code == 404


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
def test_origin_that_is_not_the_request_s_own_host_is_refused(http: httpx.Client, origin: str) -> None:
    error = refused(http.get("/_emulator/health", headers=page_of(origin)))
    assert "allowed_origins" in error["message"]
    assert origin in error["message"]


def test_rule_looks_at_scheme_port_and_site(http: httpx.Client, emulator: Emulator) -> None:
    own = emulator.url
    for headers in (
        page_of(own),
        page_of(own, "same-origin"),
        page_of(None, "none"),
        page_of(None, "same-origin"),
    ):
        assert http.get("/_emulator/health", headers=headers).status_code == 200
    # A form of an own page that hides its origin: the browser still says where it comes from.
    assert http.get("/_emulator/health", headers=page_of("null", "same-origin")).status_code == 200
    for headers in (
        page_of(own.replace("http:", "https:")),
        page_of(own, "cross-site"),
        page_of("null", "cross-site"),
        page_of("http://127.0.0.1:3000", "same-site"),
    ):
        refused(http.get("/_emulator/health", headers=headers))


@pytest.mark.parametrize("name", OWN_NAMES)
def test_own_page_under_any_own_name(http: httpx.Client, emulator: Emulator, name: str) -> None:
    host = f"{name}:{emulator.url.rpartition(':')[2]}"
    headers = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    assert http.post("/storage/v1/b", headers=headers, json={}).status_code == 400  # it has no name


@pytest.mark.parametrize("name", LOCAL_NAMES)
def test_name_of_the_local_network_is_for_programs(http: httpx.Client, name: str) -> None:
    """A stranger on the same network could give such a name to a page of theirs."""
    assert http.get(JOBS, headers={"host": f"{name}:8080"}).status_code == 200
    error = refused(http.get(JOBS, headers={"host": f"{name}:8080", "origin": f"http://{name}:8080"}))
    assert "allowed_hosts" in error["message"]


@pytest.mark.parametrize("name", FOREIGN_NAMES)
def test_name_that_a_stranger_can_have_is_refused(http: httpx.Client, name: str) -> None:
    """A page whose name was pointed here reads without Origin and Sec-Fetch-Site."""
    error = refused(http.get("/bucket/page.html", headers={"host": f"{name}:8080"}))
    assert name in error["message"]
    assert "allowed_hosts" in error["message"]


def test_listed_page_reads_and_writes(http: httpx.Client) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    answer = http.options("/storage/v1/b", headers={**page_of(ORIGIN, "cross-site"), **asked})
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-allow-methods"] == "POST"
    assert answer.headers["access-control-allow-headers"] == "content-type"
    answer = http.get(JOBS, headers=page_of(ORIGIN, "same-site"))
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "Origin" in answer.headers["vary"]


def test_preflight_of_another_page_grants_nothing(http: httpx.Client) -> None:
    asked = {**page_of("http://evil.example", "cross-site"), "access-control-request-method": "PUT"}
    for path in ("/_emulator/pace", JOBS, "/upload/storage/v1/b/bucket/o"):
        refused(http.options(path, headers=asked))
    # As Cloud Storage answers where nothing is granted.
    answer = http.options("/storage/v1/b/bucket/o/page.html", headers=asked)
    assert answer.status_code == 204
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_link_from_another_site_leads_to_a_page_that_asks(http: httpx.Client) -> None:
    visit = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "accept": "text/html,*/*"}
    answer = http.get("/docs?a=%22%3E%3Cscript%3E", headers=visit)
    # A visit sends no Origin, so the browser does not say whose link it was.
    assert answer.status_code == 403
    assert answer.headers["content-type"].startswith("text/html")
    assert 'href="/docs?a=%22%3E%3Cscript%3E"' in answer.text
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    answer = http.get(f"{http.base_url}//evil.example/x", headers=visit)
    assert 'href="/evil.example/x"' in answer.text


def set_cors(http: httpx.Client, *rules: dict[str, Any]) -> None:
    assert http.patch("/storage/v1/b/bucket", json={"cors": rules}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/bucket/page.html",
        "/storage/v1/b/bucket/o/page.html?alt=media",
        "/download/storage/v1/b/bucket/o/page.html?alt=media",
        "/storage/v1/b/bucket/o",
        "/b/bucket/o/page.html",
    ],
)
def test_bucket_s_cors_lets_a_page_read(http: httpx.Client, path: str) -> None:
    shop = "http://shop.example"
    rule = {
        "origin": [shop],
        "method": ["GET"],
        "responseHeader": ["Range", "Content-Range"],
        "maxAgeSeconds": 60,
    }
    set_cors(http, rule)
    asked = {"access-control-request-method": "GET", "access-control-request-headers": "range"}
    answer = http.options(path, headers={**page_of(shop, "cross-site"), **asked})
    assert answer.status_code == 204
    assert {name: value for name, value in answer.headers.items() if name.startswith("access-control")} == {
        "access-control-allow-origin": shop,
        "access-control-allow-methods": "GET,HEAD",
        "access-control-allow-headers": "Range,Content-Range",
        "access-control-max-age": "60",
    }
    answer = http.get(path, headers=page_of(shop, "cross-site"))
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == shop
    assert answer.headers["access-control-expose-headers"] == "Range,Content-Range"
    refused(http.get(path, headers=page_of("http://other.example", "cross-site")))
    # What a header asks for is not granted with the method.
    refused(http.get(path, headers={**page_of(shop), "x-http-method-override": "DELETE"}))
    asked["access-control-request-headers"] = "x-http-method-override"
    answer = http.options(path, headers={**page_of(shop, "cross-site"), **asked})
    assert "access-control-allow-origin" not in answer.headers


def test_bucket_s_cors_grants_reads_of_that_bucket_only(http: httpx.Client) -> None:
    set_cors(http, {"origin": ["*"], "method": ["*"], "responseHeader": ["*"]}, {"origin": 3})
    shop = page_of("http://shop.example", "cross-site")
    assert http.get("/bucket/page.html", headers=shop).status_code == 200
    for method, path in SURFACES:
        if "/bucket" not in path or method != "GET":
            refused(http.request(method, path, headers=shop))
    refused(http.delete("/storage/v1/b/bucket/o/page.html", headers=shop))
    set_cors(http)
    refused(http.get("/bucket/page.html", headers=shop))


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/storage%2Fv1/b/bucket/o/page.html", {}),
        ("/%62ucket/page.html", {}),
        ("/bucket/page.html", {"host": "other.storage.googleapis.com"}),
    ],
)
def test_cors_of_one_bucket_opens_no_other(http: httpx.Client, path: str, headers: dict[str, str]) -> None:
    """Whoever answers such a request may read another bucket."""
    set_cors(http, {"origin": ["*"], "method": ["*"]})
    refused(http.get(path, headers={**page_of("http://shop.example", "cross-site"), **headers}))
    set_cors(http)


def test_refused_reset_changes_nothing(http: httpx.Client) -> None:
    assert http.put("/_emulator/pace", json={"pace": "immediate"}).status_code == 200
    body = json.dumps({"to": "empty"})
    for headers in (
        page_of("http://127.0.0.7"),
        page_of("http://intranet"),
        page_of("http://x.googleapis.com"),
    ):
        refused(http.post("/_emulator/reset", headers=headers, content=body))
    assert http.get("/_emulator/pace").json()["pace"] == "immediate"
