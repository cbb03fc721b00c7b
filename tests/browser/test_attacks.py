"""What pages of other sites try against the emulator, in a real browser."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from emulator.app import Emulator
from tests.browser.site import ADDRESS, FOREIGN_NAMES, REBOUND_NAME, Site
from tests.control.project import Project

FOREIGN = [ADDRESS, *FOREIGN_NAMES]
# Each settles, whatever the browser or the emulator makes of the request.
TRY = """async ([url, options]) => {
    try {
        const answer = await fetch(url, options);
        return {type: answer.type, status: answer.status, text: await answer.text()};
    } catch (error) { return {failed: true}; }
}"""
FRAME = """([url]) => new Promise(done => {
    const frame = document.createElement('iframe');
    frame.onload = () => setTimeout(done, 100);
    frame.src = url;
    document.body.append(frame);
})"""
PLANTED = """<script>fetch('/_emulator/pace', {method: 'PUT', body: '{"pace": "steps"}'})</script>"""


@pytest.fixture(autouse=True)
def unharmed(project: Project) -> Iterator[None]:
    """After each attack nothing has changed."""
    project.control("PUT", "pace", {"pace": "immediate"})
    before = project.call("GET", "/storage/v1/b/bucket/o")
    yield
    assert project.control("GET", "pace")["pace"] == "immediate"
    assert project.call("GET", "/storage/v1/b/bucket/o") == before
    assert [bucket["name"] for bucket in project.call("GET", "/storage/v1/b")["items"]] == ["bucket"]


@pytest.mark.parametrize("name", FOREIGN)
def test_page_cannot_call_any_surface(foreign_page: Page, emulator: Emulator, site: Site, name: str) -> None:
    foreign_page.goto(site.url(name))
    simple = {"method": "POST", "mode": "no-cors"}
    boundary = '--b\r\n\r\n{"name":"planted.html"}\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n--b--'
    attacks = [
        ("/_emulator/reset", {**simple, "body": '{"to": "empty"}'}),
        ("/storage/v1/b", {**simple, "body": '{"name": "planted-bucket"}'}),
        ("/upload/storage/v1/b/bucket/o?uploadType=media&name=planted.html", {**simple, "body": PLANTED}),
        (
            "/upload/storage/v1/b/bucket/o?uploadType=multipart",
            {**simple, "body": boundary, "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        ),
        ("/_emulator/pace", {"method": "PUT", "body": '{"pace": "steps"}'}),
        ("/storage/v1/b/bucket/o/a.mp4", {"method": "DELETE"}),
        ("/_emulator/info", {}),
        ("/bucket/a.mp4", {}),
        ("/v1/projects/p/locations/us-central1/batchPredictionJobs", {}),
    ]
    for path, options in attacks:
        answer = foreign_page.evaluate(TRY, [emulator.url + path, options])
        # Either the browser kept the answer to itself, or it let nothing through in the first place.
        assert answer.get("failed") or (answer["type"], answer["text"]) == ("opaque", ""), path


@pytest.mark.parametrize("name", FOREIGN)
def test_form_of_a_page_cannot_plant_an_object(
    foreign_page: Page, emulator: Emulator, site: Site, name: str
) -> None:
    """A form needs no script and no permission to send multipart/form-data anywhere."""
    target = f"{emulator.url}/upload/storage/v1/b/bucket/o?uploadType=multipart"
    site.pages["/form"] = (
        f'<form id=form method=post enctype=multipart/form-data action="{target}">'
        '<input name=metadata value=\'{"name": "planted.html", "contentType": "text/html"}\'>'
        "<textarea name=content></textarea></form>"
    )
    foreign_page.goto(site.url(name, "/form"))
    foreign_page.fill("textarea", PLANTED)
    with foreign_page.expect_navigation() as navigation:
        foreign_page.evaluate("document.getElementById('form').submit()")
    assert navigation.value is not None
    assert navigation.value.status == 403


@pytest.mark.parametrize("path", ["/_emulator/info", "/bucket/a.mp4", "/docs"])
def test_page_whose_name_was_pointed_here_reads_nothing(
    foreign_page: Page, emulator: Emulator, path: str
) -> None:
    """To the browser it is one site: it sends neither Origin nor Sec-Fetch-Site."""
    own = f"http://{REBOUND_NAME}:{emulator.url.rpartition(':')[2]}"
    # Any document of that name will do, the refusal itself too: its scripts are of the stranger's site.
    foreign_page.goto(f"{own}/lure")
    with foreign_page.expect_request(own + path) as request:
        answer = foreign_page.evaluate(TRY, [path, {}])
    assert answer["status"] == 403
    assert "allowed_hosts" in answer["text"]
    assert not {"origin", "sec-fetch-site"} & set(request.value.all_headers())
    for method, target, body in (
        ("PUT", "/_emulator/pace", '{"pace": "steps"}'),
        ("POST", "/storage/v1/b", '{"name": "planted-bucket"}'),
        ("DELETE", "/storage/v1/b/bucket/o/a.mp4", None),
    ):
        answer = foreign_page.evaluate(TRY, [target, {"method": method, "body": body}])
        assert answer["status"] == 403


def test_page_cannot_embed_the_emulator(foreign_page: Page, emulator: Emulator, site: Site) -> None:
    foreign_page.goto(site.url())
    answers = []
    foreign_page.on("response", lambda response: answers.append((response.url, response.status)))
    for path in ("/docs", "/bucket/a.mp4", "/_emulator/info"):
        foreign_page.evaluate(FRAME, [emulator.url + path])
    from_emulator = [status for url, status in answers if url.startswith(emulator.url)]
    assert from_emulator == [403, 403, 403]


def test_link_of_a_page_asks_before_it_leads_on(foreign_page: Page, emulator: Emulator, site: Site) -> None:
    site.pages["/link"] = f'<a href="{emulator.url}/docs">documentation</a>'
    foreign_page.goto(site.url("evil.example", "/link"))
    foreign_page.click("a")
    foreign_page.get_by_text("A page of another site leads here").wait_for()
    foreign_page.click("a")
    foreign_page.get_by_text("Vertex AI batch prediction emulator").first.wait_for()


@pytest.fixture
def planted(project: Project) -> Iterator[str]:
    """An object with a script; it got there by hand or by a program."""
    path = project.buckets / "bucket" / "planted.html"
    path.write_text(PLANTED + "<script>document.title = 'ran'</script><p>planted</p>")
    yield "planted.html"
    path.unlink()


@pytest.mark.parametrize(
    "path",
    [
        "/bucket/planted.html",
        "/storage/v1/b/bucket/o/planted.html?alt=media",
        "/download/storage/v1/b/bucket/o/planted.html?alt=media",
    ],
)
def test_script_in_an_object_does_not_run(
    planted: str, foreign_page: Page, emulator: Emulator, project: Project, path: str
) -> None:
    logged = []
    foreign_page.on("console", lambda message: logged.append(message.text))
    answer = foreign_page.goto(path)
    assert answer is not None
    assert answer.status == 200
    assert answer.headers["content-security-policy"] == "sandbox"
    assert answer.headers["x-content-type-options"] == "nosniff"
    foreign_page.get_by_text("planted").wait_for()
    assert foreign_page.title() != "ran"
    assert any("sandbox" in text for text in logged)
    assert project.control("GET", "pace")["pace"] == "immediate"


def test_bucket_s_cors_lets_a_page_read_a_video(
    foreign_page: Page, emulator: Emulator, site: Site, project: Project
) -> None:
    shop = site.url("evil.example", "")
    rule = {"origin": [shop], "method": ["GET"], "responseHeader": ["Range", "Content-Range"]}
    project.call("PATCH", "/storage/v1/b/bucket", {"cors": [rule]})
    url = f"{emulator.url}/bucket/a.mp4"
    ranged = {"headers": {"Range": "bytes=4-7", "X-Other": "1"}}
    try:
        foreign_page.goto(site.url("evil.example"))
        assert foreign_page.evaluate(TRY, [url, ranged]) == {"failed": True}
        del ranged["headers"]["X-Other"]
        answer = foreign_page.evaluate(TRY, [url, ranged])
        assert (answer["type"], answer["status"], answer["text"]) == ("cors", 206, "ftyp")
        assert foreign_page.evaluate(TRY, [url, {"method": "DELETE"}]) == {"failed": True}
        foreign_page.goto(site.url("intranet"))
        assert foreign_page.evaluate(TRY, [url, {}]) == {"failed": True}
    finally:
        project.call("PATCH", "/storage/v1/b/bucket", {"cors": None})


def test_own_page_calls_and_listens(page: Page) -> None:
    """What a page of the emulator needs: calls with a body, and the stream of events."""
    page.goto("/docs")
    page.get_by_text("Vertex AI batch prediction emulator").first.wait_for()
    put = {"method": "PUT", "body": json.dumps({"pace": "immediate"})}
    assert page.evaluate(TRY, ["/_emulator/pace", put])["status"] == 200
    opened = """() => new Promise((done, fail) => {
        const events = new EventSource('/_emulator/events');
        events.onopen = () => { events.close(); done(true); };
        events.onerror = fail;
    })"""
    assert page.evaluate(opened)
