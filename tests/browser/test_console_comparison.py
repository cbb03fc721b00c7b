"""Comparing: expected files, other jobs and the truth, on the job's page and on the player's."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from playwright.sync_api import Page, expect

from emulator.app import Emulator
from tests.browser.clips import WIDTH, answer, box, write_clip
from tests.control.project import LOCATION, Project, client_of, job_id

CLIP, OTHER = "compared.mp4", "compared-too.mp4"
SHIFT = 40 / WIDTH


def shifted(prediction: Any, by: float) -> Any:
    frames = [
        {**frame, "xMin": frame["xMin"] + by, "xMax": frame["xMax"] + by} for frame in prediction["frames"]
    ]
    return {**prediction, "frames": frames}


def later(label: str, start: float, end: float) -> Any:
    """A prediction of a small box in the corner."""
    times = [f"{start:g}s", f"{end:g}s"]
    corner = {"xMin": 0.02, "xMax": 0.12, "yMin": 0.8, "yMax": 0.95}
    frames = [{"timeOffset": time, **corner} for time in times]
    segment = {"timeSegmentStart": times[0], "timeSegmentEnd": times[1]}
    return {"id": "3", "displayName": label, **segment, "confidence": 0.6, "frames": frames}


FOUND = [answer(), later("extra", 0.5, 0.9)]
WANTED = [answer(), later("missed", 1.2, 1.6)]


def canned(project: Project, model: str, predictions: Any) -> None:
    lines = [{"video": "*", "prediction": predictions}]
    body = {"parent": project.parent, "modelId": model, "objective": "object_tracking", "lines": lines}
    project.control("POST", "canned", body)


@pytest.fixture(scope="module")
def compared(emulator: Emulator) -> Iterator[tuple[Project, str, str]]:
    """A job over two clips that finds FOUND, and one over the first that finds WANTED."""
    bucket = emulator.settings.buckets / "bucket"
    write_clip(bucket / "steady.mp4")
    for name in (CLIP, OTHER):
        (bucket / name).write_bytes((bucket / "steady.mp4").read_bytes())
    with client_of(emulator) as http:
        project = Project(emulator, http, emulator.settings.buckets)
        canned(project, "found", FOUND)
        canned(project, "wanted", WANTED)
        name = project.create(CLIP, OTHER, model="found")
        other = project.create(CLIP, model="wanted")
        for one in (name, other):
            project.finish(one)
        yield project, job_id(name), job_id(other)


def path(project: Project, job: str, rest: str) -> str:
    return f"/console/projects/{project.id}/locations/{LOCATION}/batch-predictions/{job}/{rest}"


def write(project: Project, name: str, text: str) -> str:
    (project.buckets / "bucket" / name).write_text(text)
    return f"gs://bucket/{name}"


def expected_line(video: str, predictions: Any) -> str:
    return json.dumps({"video": f"*/{video}", "prediction": predictions}) + "\n"


def ready(page: Page) -> None:
    expect(page.get_by_role("button", name="Next frame")).to_be_enabled()
    page.locator(".picture-loading").wait_for(state="detached")


def clock(page: Page, time: str) -> None:
    expect(page.get_by_role("slider", name="Time")).to_have_attribute("aria-valuenow", time)


def test_expected_file_is_uploaded_and_leads_to_the_differences(
    page: Page, compared: tuple[Project, str, str]
) -> None:
    project, job, _ = compared
    page.goto(path(project, job, ""))
    page.get_by_role("link", name="Compare", exact=True).click()
    page.get_by_label("An expected file").check()
    text = expected_line(CLIP, FOUND) + expected_line(OTHER, WANTED)
    page.get_by_label("Upload").set_input_files(
        {"name": "expected.jsonl", "mimeType": "application/json", "buffer": text.encode()}
    )
    expect(page.get_by_label("Expected file", exact=True)).to_have_value(
        re.compile(r"gs://console-uploads/\w+/expected\.jsonl")
    )
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_text("3 matched, 1 missed, 1 extra")).to_be_visible()
    rows = page.get_by_role("table", name="Results beside what is expected").get_by_role("row")
    expect(rows).to_have_count(3)
    page.get_by_label("Only differences").check()
    expect(rows).to_have_count(2)
    page.get_by_role("link", name="First difference").click()
    expect(page.get_by_role("heading", name=OTHER)).to_be_visible()
    ready(page)
    clock(page, "0.480")
    expect(page.get_by_text("1 matched, 1 missed, 1 extra")).to_be_visible()


def test_another_job_and_the_next_difference(page: Page, compared: tuple[Project, str, str]) -> None:
    project, job, other = compared
    page.goto(path(project, job, "results/1"))
    ready(page)
    page.get_by_role("button", name="Compare", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Another job").check()
    dialog.get_by_label("Job", exact=True).fill(other)
    dialog.get_by_role("button", name="Compare", exact=True).click()
    expect(dialog).to_have_count(0)
    expect(page.get_by_text("1 matched, 1 missed, 1 extra")).to_be_visible()
    assert parse_qs(urlsplit(page.url).query)["with"] == [other]
    rows = page.get_by_role("region", name="Predictions").get_by_role("row")
    expect(rows.nth(1)).to_contain_text("matched IoU 1.00")
    expect(rows.nth(2)).to_contain_text("extra")
    page.get_by_role("button", name="Next difference").click()
    clock(page, "0.480")
    page.get_by_role("group", name="Player").focus()
    page.keyboard.press("n")
    clock(page, "1.200")
    expect(page.get_by_role("list", name="Missed")).to_contain_text("missed")
    page.keyboard.press("Shift+N")
    clock(page, "0.480")
    page.get_by_label("Only differences").check()
    expect(rows).to_have_count(2)
    # Below its confidence an extra prediction is none.
    page.get_by_label("Threshold as a number").fill("0.7")
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 matched, 1 missed, 0 extra")).to_be_visible()
    page.get_by_role("button", name="Stop comparing").click()
    expect(page.get_by_text("Compared with")).to_have_count(0)


def test_next_difference_goes_on_to_other_lines(page: Page, compared: tuple[Project, str, str]) -> None:
    project, job, _ = compared
    text = expected_line(CLIP, FOUND) + expected_line(OTHER, WANTED)
    uri = write(project, "two-lines.jsonl", text)
    page.goto(path(project, job, f"results/1?with={quote(uri, safe='')}"))
    ready(page)
    expect(page.get_by_text("2 matched, 0 missed, 0 extra")).to_be_visible()
    page.get_by_role("button", name="Next difference").click()
    expect(page.get_by_role("heading", name=OTHER)).to_be_visible()
    ready(page)
    expect(page.get_by_text("1 matched, 1 missed, 1 extra")).to_be_visible()
    clock(page, "0.480")


_INK = """([x, y, w, h]) => {
    const canvas = document.querySelector(".picture canvas");
    const { width, height } = canvas;
    const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    const { data } = copy.getImageData(x, y, w, h);
    let [white, coloured] = [0, 0];
    for (let at = 0; at < data.length; at += 4) {
        if (data[at + 3] < 200) continue;
        const [r, g, b] = [data[at], data[at + 1], data[at + 2]];
        if (Math.min(r, g, b) > 230) white += 1;
        else if (Math.max(r, g, b) - Math.min(r, g, b) > 60) coloured += 1;
    }
    return { white, coloured };
}"""


def test_both_sides_are_drawn_and_told_apart(page: Page, compared: tuple[Project, str, str]) -> None:
    """The found box is a coloured line, the expected one white dots 40 pixels to the right."""
    project, job, _ = compared
    uri = write(project, "shifted.jsonl", expected_line(CLIP, [shifted(answer(), SHIFT)]))
    page.goto(path(project, job, f"results/1?t=1.000s&min=0.7&with={quote(uri, safe='')}"))
    ready(page)
    clock(page, "1.000")
    expect(page.get_by_role("list", name="Missed")).to_contain_text("it has IoU 0.1")
    left, top, right, bottom = box(1.0)
    middle = [top + 8, bottom - top - 16]
    edges = {"found": left, "expected": right + 40}
    ink = {name: page.evaluate(_INK, [round(x) - 2, middle[0], 4, middle[1]]) for name, x in edges.items()}
    assert ink["found"]["coloured"] > 40
    assert ink["found"]["white"] == 0
    assert ink["expected"]["coloured"] == 0
    # Dots: about three of seven pixels of a line that is two pixels wide.
    assert 15 < ink["expected"]["white"] < 60
    page.get_by_role("group", name="Player").focus()
    page.keyboard.press("e")
    page.wait_for_function(
        f"() => ({_INK})([{round(right + 40) - 2}, {middle[0]}, 4, {middle[1]}]).white === 0"
    )


def threshold_rows(page: Page) -> list[list[str]]:
    rows = page.get_by_role("table", name="Predictions from each confidence on").get_by_role("row")
    expect(rows).to_have_count(10)
    return [row.split() for row in rows.all_inner_texts()]


def test_table_of_thresholds_tells_the_best_and_chooses_one(
    page: Page, compared: tuple[Project, str, str]
) -> None:
    """Only the extra prediction has a confidence of 0.6."""
    project, job, _ = compared
    uri = write(
        project, "thresholds.jsonl", expected_line(CLIP, [answer()]) + expected_line(OTHER, [answer()])
    )
    page.goto(path(project, job, f"compare?with={quote(uri, safe='')}"))
    expect(page.get_by_text("2 matched, 0 missed, 2 extra")).to_be_visible()
    table = threshold_rows(page)
    assert table[0] == ["From", "Found", "Precision", "Recall", "F1"]
    assert table[6] == ["0.60", "4", "0.50", "1.00", "0.67"]
    assert table[7][-4:] == ["2", "1.00", "1.00", "1.00"]
    assert [row[0] for row in table if "best" in row] == ["0.90"]
    page.get_by_role("button", name="0.70").click()
    expect(page.get_by_text("2 matched, 0 missed, 0 extra")).to_be_visible()
    expect(page.get_by_role("button", name="0.70")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_label("Least confidence")).to_have_value("0.70")
    assert parse_qs(urlsplit(page.url).query)["min"] == ["0.70"]
    page.get_by_role("link", name=CLIP).click()
    ready(page)
    expect(page.get_by_label("Threshold as a number")).to_have_value("0.70")
    page.get_by_text("Thresholds", exact=True).click()
    assert threshold_rows(page)[6] == ["0.60", "2", "0.50", "1.00", "0.67"]
    page.get_by_role("button", name="0.60").click()
    expect(page.get_by_text("1 matched, 0 missed, 1 extra")).to_be_visible()
    expect(page.get_by_label("Threshold as a number")).to_have_value("0.60")
    expect(page.get_by_role("button", name="0.60")).to_have_attribute("aria-pressed", "true")


def test_truth_of_a_rendered_video(page: Page, compared: tuple[Project, str, str]) -> None:
    project, job, _ = compared
    members = {"duration": "2s", "cuts": [], "objectTracking": [answer()], "actionRecognition": []}
    write(project, f"{CLIP}.truth.jsonl", json.dumps({"truth": members}) + "\n")
    page.goto(path(project, job, "compare"))
    page.get_by_label("The truth").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_text("1 matched, 0 missed, 1 extra")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text=OTHER)).to_contain_text(
        f"there is no gs://bucket/{OTHER}.truth.jsonl"
    )


def test_what_cannot_be_compared_is_said_and_the_rest_stays(
    open_page: Page, compared: tuple[Project, str, str], project: Project
) -> None:
    page = open_page
    own, job, _ = compared
    prose = write(own, "prose.jsonl", "this is no JSON\n")
    page.goto(path(own, job, f"compare?with={quote(prose, safe='')}"))
    expect(page.get_by_role("alert")).to_contain_text("holds no line that says what is expected")
    page.get_by_label("Expected file", exact=True).fill("expected.jsonl")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_label("Expected file", exact=True)).to_have_accessible_description(
        re.compile("must begin with gs://")
    )
    whole = expected_line(CLIP, WANTED)
    half = write(own, "half.jsonl", whole + whole[:90])
    page.get_by_label("Expected file", exact=True).fill(half)
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_text(f"{half} line 2: it is no JSON object")).to_be_visible()
    expect(page.get_by_text("1 matched, 1 missed, 1 extra")).to_be_visible()
    # Of another job: other videos.
    strange = project.create("a.mp4")
    project.finish(strange)
    page.goto(path(own, job, f"results/1?with={job_id(strange)}"))
    expect(page.get_by_role("alert")).to_contain_text("has no line for this video and segment")
    expect(page.get_by_role("button", name="1 box")).to_be_visible()
    # A job that is deleted meanwhile.
    project.call("DELETE", f"/v1/{strange}")
    page.goto(path(own, job, f"compare?with={job_id(strange)}"))
    expect(page.get_by_role("alert")).to_contain_text("does not exist")


def test_hostile_labels_of_an_expected_file_are_text(page: Page, compared: tuple[Project, str, str]) -> None:
    project, job, _ = compared
    name = "<img src=x onerror=alert(1)> \u202ereversed " + "\U0001f600" * 60
    uri = write(project, "hostile.jsonl", expected_line(CLIP, [{**later("", 0.2, 0.4), "displayName": name}]))
    page.goto(path(project, job, f"results/1?with={quote(uri, safe='')}"))
    expect(page.get_by_role("list", name="Missed")).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.evaluate("document.querySelectorAll('main img').length") == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
