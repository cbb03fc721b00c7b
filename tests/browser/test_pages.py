"""The emulator's own pages in a browser, and the rules that the tests' `page` keeps."""

import pytest
from playwright.sync_api import Page

from emulator.app import Emulator
from tests.browser.conftest import watch
from tests.browser.site import FOREIGN_NAMES, Site


def test_documentation_page_is_clean(page: Page) -> None:
    """/docs loads everything from the emulator itself and logs nothing."""
    page.goto("/docs")
    page.get_by_text("Vertex AI batch prediction emulator").first.wait_for()


@pytest.mark.parametrize("name", FOREIGN_NAMES)
def test_watched_page_tells_what_is_not_clean(
    foreign_page: Page, emulator: Emulator, site: Site, name: str
) -> None:
    site.pages["/loud"] = "<script>console.warn('a warning'); undefined_name()</script>"
    problems = watch(foreign_page, emulator.url)
    foreign_page.goto(site.url(name, "/loud"))
    assert problems[:3] == [
        f"request to another origin: {site.url(name, '/loud')}",
        "console warning: a warning",
        "uncaught: undefined_name is not defined",
    ]
