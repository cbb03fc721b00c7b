"""Every page and state of the console: axe finds nothing, 360 pixels are enough, and so are keys."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import Violations
from tests.control.project import LOCATION, Project, job_id

NARROW = {"width": 360, "height": 740}


@pytest.fixture
def jobs(project: Project) -> dict[str, str]:
    """A job of each kind, by name."""
    failed = project.create("missing.mp4", name="failed")
    half = project.create("a.mp4", "missing.mp4", name="half", labels={"team": "vision"})
    for name in (failed, half):
        project.finish(name)
    wanted = {"displayName": "dog", "timeSegmentStart": "0.100s", "timeSegmentEnd": "0.200s"}
    line = {"video": "*/a.mp4", "prediction": [wanted]}
    (project.buckets / "bucket" / f"{project.id}.jsonl").write_text(f"{json.dumps(line)}\nbroken\n")
    project.pace("pending=hold")
    held = project.create(name="held")
    cancelled = project.create(name="cancelled")
    project.call("POST", f"/v1/{cancelled}:cancel")
    return {"failed": failed, "half": half, "held": held, "cancelled": cancelled}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(
    context: BrowserContext, project: Project, jobs: dict[str, str], violations: Violations, scheme: Any
) -> None:
    page = context.new_page()
    page.emulate_media(color_scheme=scheme)
    found = {}
    for name, path in pages(project, jobs).items():
        page.goto(path)
        settle(page)
        found[name] = violations(page)
        for state, enter in STATES.get(name, {}).items():
            page.goto(path)
            settle(page)
            enter(page)
            page.wait_for_timeout(200)
            found[f"{name}, {state}"] = violations(page)
    assert [f"{name}: {one}" for name, these in found.items() for one in these] == []


def test_narrow_screens_need_no_sideways_scrolling(
    context: BrowserContext, project: Project, jobs: dict[str, str]
) -> None:
    page = context.new_page()
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    wide = {}
    for name, path in pages(project, jobs).items():
        page.goto(path)
        settle(page)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > NARROW["width"]:
            wide[name] = width
    assert wide == {}


def test_job_is_created_by_keys_alone(page: Page, project: Project) -> None:
    (project.buckets / "bucket" / "keys.jsonl").write_text(
        '{"content": "gs://bucket/a.mp4", "mimeType": "video/mp4"}\n'
    )
    page.goto(f"/console/projects/{project.id}/locations/{LOCATION}/batch-predictions")
    expect(page.get_by_text("No batch predictions in")).to_be_visible()
    press_until(page, "Tab", "Create")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="New batch prediction")).to_be_focused()
    press_until(page, "Tab", "Name")
    page.keyboard.type("by keys")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Model name")).to_be_focused()
    page.keyboard.type("Tiny")
    press_until(page, "Tab", "Source path")
    page.keyboard.type("gs://bucket/keys.jsonl")
    press_until(page, "Tab", "Destination path")
    page.keyboard.type("gs://bucket/keys")
    press_until(page, "Tab", "Create")
    page.keyboard.press("Enter")
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_contain_text("by keys")
    expect(heading).to_be_focused()
    press_until(page, "Tab", "JSON")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="JSON")).to_be_focused()


def press_until(page: Page, key: str, name: str) -> None:
    """Press a key until what has the focus is called so."""
    for _ in range(60):
        page.keyboard.press(key)
        if page.evaluate(_FOCUS_NAME) == name:
            return
    raise AssertionError(f"{name} is not reached by {key}")


_FOCUS_NAME = """() => {
    const element = document.activeElement;
    const label = element.labels?.[0]?.textContent ?? element.getAttribute("aria-label");
    return (label ?? element.textContent).trim();
}"""


def pages(project: Project, jobs: dict[str, str]) -> dict[str, str]:
    """The address of every page, by what it is."""
    place = f"/console/projects/{project.id}/locations/{LOCATION}"
    job = {name: f"{place}/batch-predictions/{job_id(full)}" for name, full in jobs.items()}
    compared = f"with=gs%3A%2F%2Fbucket%2F{project.id}.jsonl"
    return {
        "list": f"{place}/batch-predictions",
        "list of everywhere": f"/console/projects/{project.id}/locations/-/batch-predictions",
        "list without hits": f"{place}/batch-predictions?filter=display_name%3Dnone",
        "list with a bad filter": f"{place}/batch-predictions?filter=colour%3Dred",
        "empty list": f"/console/projects/empty/locations/{LOCATION}/batch-predictions",
        "form": f"{place}/batch-predictions/create",
        "held job": job["held"],
        "cancelled job": job["cancelled"],
        "failed job": f"{job['failed']}/errors",
        "results": job["half"],
        "player": f"{job['half']}/results/1",
        "player of a failed line": f"{job['half']}/results/2",
        "player without a line": f"{job['half']}/results/9",
        "player that compares": f"{job['half']}/results/1?{compared}",
        "player that cannot compare": f"{job['half']}/results/1?with=truth",
        "compare": f"{job['half']}/compare",
        "compared": f"{job['half']}/compare?{compared}",
        "compared with nothing": f"{job['half']}/compare?with=gs%3A%2F%2Fbucket%2Fnone",
        "details": f"{job['half']}/details",
        "steps": f"{job['half']}/steps",
        "errors": f"{job['half']}/errors",
        "no such job": f"{place}/batch-predictions/1",
        "models": f"{place}/models",
        "model": f"{place}/models/tiny",
        "buckets": "/console/storage",
        "bucket": "/console/storage/bucket",
        "empty folder": "/console/storage/bucket/none/",
        "requests": "/console/requests",
        "control": "/console/control",
        "about": "/console/about",
        "no such page": "/console/none",
    }


STATES: dict[str, dict[str, Callable[[Page], None]]] = {
    "list": {
        "selection": lambda page: page.get_by_label("Select all on this page").check(),
        "places": lambda page: page.get_by_role("button", name="Location").click(),
    },
    "form": {
        "mistakes": lambda page: page.get_by_role("button", name="Create", exact=True).click(),
        "more": lambda page: page.get_by_text("More", exact=True).click(),
        "browsing": lambda page: page.get_by_role("button", name="Browse for the source path").click(),
    },
    "held job": {
        "cancelling": lambda page: page.get_by_role("button", name="Cancel").click(),
        "JSON": lambda page: page.get_by_role("button", name="JSON").click(),
    },
    "player": {
        "what the model saw": lambda page: page.get_by_role("button", name="what the model saw").click(),
        "comparing": lambda page: page.get_by_role("button", name="Compare", exact=True).click(),
    },
    "compare": {"another job": lambda page: page.get_by_label("Another job").check()},
    "bucket": {"preview": lambda page: page.get_by_role("button", name=".mp4").first.click()},
    "requests": {"a call": lambda page: page.locator("summary").first.click()},
    "control": {"reset": lambda page: page.get_by_role("button", name="Reset").click()},
}


def settle(page: Page) -> None:
    """Wait until the page has loaded what it shows."""
    page.get_by_role("heading", level=1).wait_for()
    page.wait_for_load_state("load")
    expect(page.locator(".loading")).to_have_count(0)
    page.wait_for_timeout(350)  # what appears slowly has appeared
