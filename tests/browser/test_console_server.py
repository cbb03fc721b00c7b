"""The console while its server goes and comes back, and where the reader's clock is wrong."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from emulator.app import Emulator
from tests.control.project import LOCATION, Project, client_of, make_settings


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    yield context
    context.close()


def test_server_that_stops_and_comes_back(context: BrowserContext, tmp_path: Path) -> None:
    page = context.new_page()
    settings = make_settings(tmp_path, grpc=False)
    with Emulator(settings) as emulator, client_of(emulator) as http:
        url = emulator.url
        project = Project(emulator, http, emulator.settings.buckets)
        project.finish(project.create(name="before"))
        page.goto(f"{url}/console/projects/{project.id}/locations/{LOCATION}/batch-predictions")
        expect(page.get_by_role("link", name="before")).to_be_visible()
    bar = page.get_by_role("alert")
    expect(bar).to_contain_text(
        f"No answer from {url.removeprefix('http://')}, trying again in", timeout=30_000
    )
    # What is on the screen stays.
    expect(page.get_by_role("link", name="before")).to_be_visible()

    port = int(url.rpartition(":")[2])
    with Emulator(make_settings(tmp_path, grpc=False, port=port)) as emulator, client_of(emulator) as http:
        expect(bar).to_have_count(0, timeout=30_000)
        project = Project(emulator, http, emulator.settings.buckets, project.id)
        project.create(name="after")
        page.get_by_role("button", name="1 new").click()
        expect(page.get_by_role("link", name="after")).to_be_visible()
        page.close()


def test_clock_of_the_reader_does_not_matter(
    context: BrowserContext, emulator: Emulator, project: Project
) -> None:
    page = context.new_page()
    project.pace("running=hold")
    project.create(name="just begun")
    page.clock.install(time=datetime(2040, 1, 1, tzinfo=UTC))
    page.goto(f"{emulator.url}/console/projects/{project.id}/locations/{LOCATION}/batch-predictions")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="just begun"))
    expect(row.get_by_text("Running 0/1")).to_be_visible()
    page.clock.run_for(3000)
    assert "h" not in row.get_by_role("cell").nth(6).inner_text()
