"""The console's routes: pages, files, and the links that other programs print."""

import re
from pathlib import Path

import httpx
import pytest

from emulator.app import Emulator
from emulator.config import Settings
from tests.control.project import Project, client_of, make_settings

CSP = (
    "default-src 'none'; script-src 'none'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:;"
    " connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'"
)
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
JOBS = "/console/projects/my-project/locations/us-central1/batch-predictions"


def assert_guarded(response: httpx.Response) -> None:
    policy = re.sub("'nonce-[A-Za-z0-9_-]{22}'", "'none'", response.headers["content-security-policy"])
    assert policy == CSP
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cross-origin-opener-policy"] == "same-origin"
    assert response.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/console", JOBS, f"{JOBS}/17/steps", "/console/storage/b/a%2Fb.jsonl"])
def test_every_page_is_the_same_document(http: httpx.Client, path: str) -> None:
    response = http.get(path)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert response.headers["cache-control"] == "no-cache"
    assert "{{" not in response.text
    assert_guarded(response)
    # Scripts have a nonce of the page's own: an object of a bucket, which has the same origin, is none.
    (nonce,) = re.findall('nonce="(.+?)"', response.text)
    assert f"script-src 'nonce-{nonce}';" in response.headers["content-security-policy"]
    assert nonce not in http.get(path).text


def static_of(http: httpx.Client) -> str:
    """Where the page says that the files are."""
    return http.get("/console").text.partition('src="')[2].partition("/main.js")[0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("main.js", "text/javascript; charset=utf-8"),
        ("console.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
        ("third_party/htm-preact.js", "text/javascript; charset=utf-8"),
        ("third_party/LICENSE-htm.txt", "text/plain; charset=utf-8"),
    ],
)
def test_files_never_change_under_their_address(http: httpx.Client, name: str, kind: str) -> None:
    response = http.get(f"{static_of(http)}/{name}")
    assert (response.status_code, response.headers["content-type"]) == (200, kind)
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert_guarded(response)


def test_files_of_another_version_are_not_kept(http: httpx.Client) -> None:
    response = http.get("/console/static/00000000/main.js")
    assert (response.status_code, response.headers["cache-control"]) == (200, "no-cache")


@pytest.mark.parametrize(
    "name", ["missing.js", "../console.py", "..%2fconsole.py", "%2e%2e/rest.py", "", "index.html"]
)
def test_nothing_but_the_files_is_served(http: httpx.Client, name: str) -> None:
    assert http.get(f"{static_of(http)}/{name}").status_code == 404


def test_root_leads_browsers_to_the_console_and_nobody_else(http: httpx.Client) -> None:
    response = http.get("/", headers=BROWSER)
    assert (response.status_code, response.headers["location"]) == (307, "/console")
    assert_guarded(response)
    assert http.get("/").json()["places"]["console"].endswith("/console")


@pytest.mark.parametrize(
    ("link", "page"),
    [
        (
            "/agent-platform/locations/l/batch-predictions/7?project=p",
            "projects/p/locations/l/batch-predictions/7",
        ),
        (
            "/ai/platform/locations/l/batch-predictions/7?project=12",
            "projects/12/locations/l/batch-predictions/7",
        ),
        (
            "/vertex-ai/locations/l/batch-predictions/7?project=p",
            "projects/p/locations/l/batch-predictions/7",
        ),
        ("/vertex-ai/batch-predictions?project=p", "projects/p/locations/-/batch-predictions"),
        ("/vertex-ai/batch-predictions", "projects/-/locations/-/batch-predictions"),
        (
            "/vertex-ai/batch-predictions?project=/%0a/evil",
            "projects/%2F%0A%2Fevil/locations/-/batch-predictions",
        ),
    ],
)
def test_links_of_other_programs_lead_to_the_console(http: httpx.Client, link: str, page: str) -> None:
    response = http.get(link)
    assert (response.status_code, response.headers["location"]) == (307, f"/console/{page}")
    assert_guarded(response)


def test_console_can_be_switched_off(tmp_path: Path) -> None:
    with Emulator(make_settings(tmp_path, console=False)) as emulator, client_of(emulator) as http:
        for path in ("/console", "/vertex-ai/batch-predictions"):
            assert http.get(path, headers=BROWSER).status_code == 404
        assert "console" not in http.get("/", headers=BROWSER).json()["places"]
        assert http.get("/_emulator/health").status_code == 200


def test_console_is_on_unless_it_is_switched_off() -> None:
    assert Settings().console is True


def test_scopes_count_what_there_is_by_project_and_location(project: Project) -> None:
    name = project.create()
    project.finish(name)
    number = name.split("/")[1]
    found = [scope for scope in project.control("GET", "scopes")["scopes"] if scope["number"] == number]
    assert found == [
        {"project": project.id, "number": number, "location": "us-central1", "jobs": 1, "models": 1}
    ]
