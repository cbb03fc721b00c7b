"""The player: boxes lie on what is in the picture, in every kind of file; steps, threshold, links, keys."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from emulator.app import Emulator
from tests.browser.clips import KINDS, LONG, answer, box, times_of, write_clip
from tests.control.project import LOCATION, Project, client_of, job_id

ORDER = list(KINDS)
STILLS = ("old.mp4", "hevc.mp4")
VISITOR = {
    "id": "2",
    "displayName": "visitor",
    "timeSegmentStart": "1s",
    "timeSegmentEnd": "1.400s",
    "confidence": 0.3,
    "frames": [
        {"timeOffset": "1s", "xMin": 0.7, "xMax": 0.9, "yMin": 0.7, "yMax": 0.9},
        {"timeOffset": "1.400s", "xMin": 0.7, "xMax": 0.9, "yMin": 0.7, "yMax": 0.9},
    ],
}


@pytest.fixture(scope="module")
def player(emulator: Emulator) -> str:
    """The address of the results of a job over every kind of clip."""
    for name in KINDS:
        write_clip(emulator.settings.buckets / "bucket" / name)
    with client_of(emulator) as http:
        project = Project(emulator, http, emulator.settings.buckets)
        line = {"video": "*", "prediction": [answer(), VISITOR]}
        body = {"parent": project.parent, "modelId": "truth", "objective": "object_tracking", "lines": [line]}
        project.control("POST", "canned", body)
        name = project.create(*ORDER, "missing.mp4", model="truth")
        project.finish(name)
    place = f"/console/projects/{project.id}/locations/{LOCATION}"
    return f"{place}/batch-predictions/{job_id(name)}"


def open_clip(page: Page, player: str, name: str, query: str = "") -> None:
    """Open the result of a clip and wait for its first picture."""
    page.goto(f"{player}/results/{ORDER.index(name) + 1}{query}")
    expect(page.get_by_role("button", name="Next frame")).to_be_enabled()
    page.locator(".picture-loading").wait_for(state="detached")


def shown(page: Page) -> Any:
    """The edges of the drawn box, of the box in the picture, and the time that the player tells."""
    return page.evaluate(_SHOWN)


_PLAYS_H264 = "document.createElement('video').canPlayType('video/mp4; codecs=\"avc1.42E01E\"') !== ''"
_TIME = "document.querySelector('[role=slider]').getAttribute('aria-valuenow')"
_SHOWN = """() => {
    const edges = (context, width, height, fits) => {
        const { data } = context.getImageData(0, 0, width, height);
        let [left, right] = [width, -1];
        for (let y = 70; y < 100; y++) for (let x = 0; x < width; x++) {
            const at = (y * width + x) * 4;
            if (fits(data[at], data[at + 1], data[at + 2], data[at + 3])) {
                left = Math.min(left, x);
                right = Math.max(right, x);
            }
        }
        return [left, right + 1];
    };
    const [video, canvas] = ["video", "canvas"].map((one) => document.querySelector(`.picture ${one}`));
    const { width, height } = canvas;
    const [drawn, copy] = [canvas, video.classList.contains("hidden") ? canvas : video].map((one) => {
        const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
        context.drawImage(one, 0, 0);
        return context;
    });
    const isBlue = (r, g, b, a) => a > 200 && b > 200 && r < 140 && g > 130 && g < 220;
    return {
        drawn: edges(drawn, width, height, isBlue),
        seen: edges(copy, width, height, (r, g, b) => r > 170 && g > 170 && b > 170),
        time: Number(document.querySelector("[role=slider]").getAttribute("aria-valuenow")),
        size: [width, height],
    };
}"""


def seek(page: Page, time: float) -> None:
    """Go to a time by the keys and the clock alone: a link within the page."""
    page.evaluate(
        """(time) => {
            const url = new URL(location.href);
            url.searchParams.set("t", `${time.toFixed(3)}s`);
            history.replaceState(null, "", url);
            dispatchEvent(new PopStateEvent("popstate"));
        }""",
        time,
    )


def frame_at(name: str, time: float) -> float:
    return max(one for one in times_of(name) if one <= time + 1e-6)


@pytest.mark.parametrize("name", [one for one in ORDER if one not in STILLS])
def test_boxes_lie_on_the_frame_they_belong_to(page: Page, player: str, name: str) -> None:
    open_clip(page, player, name, "?min=0.5")
    if KINDS[name][0] == "libx264" and not page.evaluate(_PLAYS_H264):
        pytest.skip("This Chromium plays no H.264; Debian's does.")
    wrong: list[tuple[Any, ...]] = []
    for time in [0.05 + 0.091 * number for number in range(20)]:
        seek(page, time)
        wanted = frame_at(name, time)
        try:
            page.wait_for_function(f"(time) => Math.abs({_TIME} - time) < 0.002", arg=wanted, timeout=10_000)
        except Exception:
            wrong.append((time, wanted, shown(page)["time"]))
            continue
        found = shown(page)
        left, _, right, _ = box(found["time"])
        edges = [*found["drawn"], *found["seen"]]
        # The line of the box is two pixels wide, half of it on either side.
        if any(abs(one - two) > 2.5 for one, two in zip(edges, [left, right] * 2, strict=True)):
            wrong.append((time, (left, right), found))
    assert wrong == []


@pytest.mark.parametrize("name", STILLS)
def test_what_the_browser_cannot_play_is_shown_as_stills(page: Page, player: str, name: str) -> None:
    open_clip(page, player, name, "?min=0.5")
    note = page.get_by_text("Shown as still pictures from the server")
    expect(note).to_contain_text("this browser cannot play")
    for number in range(20):
        found = shown(page)
        left, _, right, _ = box(found["time"])
        assert found["time"] == pytest.approx(number / 10, abs=0.021)
        assert found["drawn"] == pytest.approx([left, right], abs=2.5)
        page.get_by_role("button", name="Next frame").click()
        if number < 19:
            page.wait_for_function(_LATER, arg=found["time"])
    page.keyboard.press("Home")
    page.wait_for_function(f"{_TIME} < 0.01")


_LATER = f"(time) => {_TIME} - time > 0.001"
_EARLIER = f"(time) => {_TIME} - time < -0.001"


@pytest.fixture(scope="module")
def long_player(emulator: Emulator) -> str:
    """The address of the results of a job over clips of more than two hundred frames of every kind."""
    for name in LONG:
        write_clip(emulator.settings.buckets / "bucket" / name)
    with client_of(emulator) as http:
        project = Project(emulator, http, emulator.settings.buckets)
        line = {"video": "*", "prediction": []}
        body = {"parent": project.parent, "modelId": "none", "objective": "object_tracking", "lines": [line]}
        project.control("POST", "canned", body)
        name = project.create(*LONG, model="none")
        project.finish(name)
    place = f"/console/projects/{project.id}/locations/{LOCATION}"
    return f"{place}/batch-predictions/{job_id(name)}"


STEPS = 200
# Each press waits for its frame in the page: a step over the wire would take longer than the frame.
_WALK = """async ([key, steps]) => {
    const player = document.querySelector(".player");
    const slider = document.querySelector("[role=slider]");
    const now = () => Number(slider.getAttribute("aria-valuenow"));
    const seen = [now()];
    for (let step = 0; step < steps; step++) {
        const before = now();
        player.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
        const until = performance.now() + 20_000;
        while (now() === before && performance.now() < until) await new Promise((go) => setTimeout(go, 5));
        seen.push(now());
    }
    return seen;
}"""


def open_long(page: Page, long_player: str, name: str) -> None:
    page.goto(f"{long_player}/results/{list(LONG).index(name) + 1}")
    expect(page.get_by_role("button", name="Next frame")).to_be_enabled()
    page.locator(".picture-loading").wait_for(state="detached")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LONG if name.removeprefix("long-") not in STILLS])
def test_two_hundred_steps_show_each_frame_once(page: Page, long_player: str, name: str) -> None:
    open_long(page, long_player, name)
    if LONG[name][0] == "libx264" and not page.evaluate(_PLAYS_H264):
        pytest.skip("This Chromium plays no H.264; Debian's does.")
    times = times_of(name)[: STEPS + 1]
    assert page.evaluate(_WALK, ["ArrowRight", STEPS]) == pytest.approx(times, abs=0.001)
    assert page.evaluate(_WALK, ["ArrowLeft", STEPS]) == pytest.approx(times[::-1], abs=0.001)


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"long-{name}" for name in STILLS])
def test_two_hundred_stills_each_once(page: Page, long_player: str, name: str) -> None:
    open_long(page, long_player, name)
    expect(page.get_by_text("Shown as still pictures from the server")).to_be_visible()
    # The frame of the grid point, which is the nearest; frames come every 0.04 s.
    times = [number / 10 for number in range(STEPS + 1)]
    assert page.evaluate(_WALK, ["ArrowRight", STEPS]) == pytest.approx(times, abs=0.021)
    assert page.evaluate(_WALK, ["ArrowLeft", STEPS]) == pytest.approx(times[::-1], abs=0.021)


def test_threshold_narrows_list_and_boxes(page: Page, player: str) -> None:
    open_clip(page, player, "steady.mp4", "?t=1.200s")
    predictions = page.get_by_role("region", name="Predictions").get_by_role("button")
    expect(predictions).to_have_count(2)
    slider = page.get_by_role("slider", name="Time")
    expect(slider).to_have_attribute("aria-valuetext", "1.200 seconds, box, visitor")
    page.get_by_label("Threshold as a number").fill("0.5")
    page.keyboard.press("Enter")
    expect(predictions).to_have_count(1)
    expect(page.get_by_text("1 of 2")).to_be_visible()
    expect(slider).to_have_attribute("aria-valuetext", "1.200 seconds, box")
    expect(page).to_have_url(re.compile(r"min=0\.50"))


def test_an_address_that_has_moved_on_is_not_gone_back_to(page: Page, player: str) -> None:
    """What is drawn for an address may be drawn late, when the reader has already changed it again."""
    open_clip(page, player, "steady.mp4", "?t=1.200s")
    page.evaluate(
        """() => {
            history.replaceState(null, "", "?t=1.200s&min=0.20");
            dispatchEvent(new Event("console:moved"));
            history.replaceState(null, "", "?t=1.200s&min=0.50");
        }"""
    )
    expect(page.get_by_label("Threshold as a number")).to_have_value("0.50")
    expect(page.get_by_role("region", name="Predictions").get_by_role("button")).to_have_count(1)


def test_link_leads_to_the_moment(page: Page, player: str) -> None:
    open_clip(page, player, "steady.mp4", "?t=1.200s&track=2&min=0.2")
    expect(page.get_by_role("slider", name="Time")).to_have_attribute("aria-valuenow", "1.200")
    expect(page.get_by_role("button", name="2 visitor")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_label("Threshold as a number")).to_have_value("0.20")
    page.get_by_role("button", name="1 box").click()
    expect(page).to_have_url(re.compile("t=0.000s"))
    query = parse_qs(urlsplit(page.url).query)
    assert query == {"t": ["0.000s"], "track": ["1"], "min": ["0.20"]}


def test_keys_do_everything(page: Page, player: str) -> None:
    open_clip(page, player, "steady.mp4")
    slider = page.get_by_role("slider", name="Time")
    page.get_by_role("group", name="Player").focus()
    for key, time in [
        (".", "0.080"),  # the frame that is shown at 0.1 s
        (".", "0.200"),
        (",", "0.080"),
        ("]", "1.000"),
        ("[", "0.000"),
        ("Shift+ArrowRight", "1.000"),
        ("End", "1.960"),
        ("Home", "0.000"),
    ]:
        page.keyboard.press(key)
        expect(slider).to_have_attribute("aria-valuenow", time)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("button", name="2 visitor")).to_have_attribute("aria-pressed", "true")
    expect(slider).to_have_attribute("aria-valuenow", "1.000")
    page.keyboard.press("l")
    expect(page.get_by_role("button", name="Loop the chosen prediction")).to_have_attribute(
        "aria-pressed", "true"
    )
    page.keyboard.press("+")
    expect(page.get_by_label("Threshold as a number")).to_have_value("0.05")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    page.keyboard.press("s")
    expect(page.get_by_text("you asked for what the model saw")).to_be_visible()


def test_results_have_a_row_for_each_line(page: Page, player: str) -> None:
    page.goto(player)
    rows = page.get_by_role("table", name="Results").get_by_role("row")
    expect(rows).to_have_count(len(ORDER) + 2)
    expect(rows.nth(1)).to_contain_text("2 predictions: box, visitor")
    expect(rows.nth(1)).to_contain_text("0.90")
    expect(rows.last).to_contain_text("missing.mp4")
    rows.nth(1).get_by_role("link").click()
    expect(page.get_by_role("heading", name=ORDER[0])).to_be_focused()


def test_results_are_exported(page: Page, project: Project) -> None:
    name = project.create("b.mp4", "a.mp4")
    lines = [project.files(project.finish(name))[f"predictions_0000{number}.jsonl"] for number in (1, 2)]
    page.goto(player_of(project, name))
    for link, wanted in [("All results as JSON Lines", "".join(lines)), ("This table as CSV", None)]:
        with page.expect_download() as download:
            page.get_by_role("link", name=link).click()
        text = Path(download.value.path()).read_text()
        assert text == wanted or "2,gs://bucket/a.mp4,,,1,cat 1,0.9" in text


def player_of(project: Project, name: str) -> str:
    place = f"/console/projects/{project.id}/locations/{LOCATION}"
    return f"{place}/batch-predictions/{job_id(name)}"


def output_of(project: Project, name: str) -> Path:
    """The predictions file of a job that has ended."""
    directory = str(project.finish(name)["outputInfo"]["gcsOutputDirectory"])
    return project.buckets / directory.removeprefix("gs://") / "predictions_00001.jsonl"


def test_predictions_that_somebody_edited(page: Page, project: Project) -> None:
    name = project.create("a.mp4", "b.mp4")
    file = output_of(project, name)
    text = file.read_text()
    # No JSON any more, but still the line of its instance.
    file.write_text(text.replace('"frames":[', '"frames":[,'))
    page.goto(player_of(project, name))
    rows = page.get_by_role("table", name="Results").get_by_role("row")
    expect(rows.filter(has_text="b.mp4")).to_contain_text("1 prediction: cat")
    expect(page.get_by_text("is not as the emulator writes it")).to_be_visible()
    expect(rows.filter(has_text="a.mp4").first).to_contain_text("somebody may have edited or removed them")
    # JSON, but with values that no job writes.
    file.write_text(text.replace('"confidence":0.9', '"confidence":"<b>high</b>"').replace('"xMin":', '"x":'))
    page.goto(f"{player_of(project, name)}/results/1")
    expect(page.get_by_role("button", name="1 cat")).to_be_visible()
    expect(page.get_by_role("button", name="Next frame")).to_be_enabled()


@pytest.mark.slow
def test_result_of_200_mb_can_be_downloaded_alone(page: Page, project: Project) -> None:
    name = project.create("a.mp4")
    file = output_of(project, name)
    head, _, tail = file.read_text().partition('"prediction":[')
    with file.open("w") as written:
        written.write(f'{head}"prediction":[')
        for _ in range(200):
            written.write(" " * 1_000_000)
        written.write(tail)
    page.goto(f"{player_of(project, name)}/results/1")
    expect(page.get_by_text("which is too much for a page")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("link", name="Download it")).to_be_visible()
    expect(page.get_by_role("button", name="Next frame")).to_be_enabled()
    page.goto(f"{player_of(project, name)}/compare?with={job_id(name)}")
    expect(page.get_by_text("results of up to 64 MB are compared")).to_be_visible(timeout=60_000)


def test_video_that_is_gone_leaves_the_list(open_page: Page, emulator: Emulator, project: Project) -> None:
    video = emulator.settings.buckets / "bucket" / "gone.mp4"
    video.write_bytes((emulator.settings.buckets / "bucket" / "a.mp4").read_bytes())
    name = project.create("gone.mp4")
    project.finish(name)
    video.unlink()
    open_page.goto(
        f"/console/projects/{project.id}/locations/{LOCATION}/batch-predictions/{job_id(name)}/results/1"
    )
    expect(open_page.get_by_text("The video cannot be shown")).to_be_visible()
    expect(open_page.get_by_role("alert")).to_contain_text("gone.mp4")
    expect(open_page.get_by_role("button", name="1 cat")).to_be_visible()


def test_hostile_names_are_text(page: Page, project: Project) -> None:
    name = "<img src=x onerror=alert(1)> \u202ereversed " + "\U0001f600" * 128
    line = {"video": "*", "prediction": [{**answer(), "displayName": name}]}
    body = {"parent": project.parent, "modelId": "hostile", "objective": "object_tracking", "lines": [line]}
    project.control("POST", "canned", body)
    job = project.create("a.mp4", model="hostile")
    project.finish(job)
    page.goto(
        f"/console/projects/{project.id}/locations/{LOCATION}/batch-predictions/{job_id(job)}/results/1"
    )
    expect(page.get_by_role("button", name=re.compile("onerror"))).to_be_visible()
    assert page.evaluate("document.querySelectorAll('main img').length") == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
