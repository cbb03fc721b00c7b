"""Signing in, in a real browser."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from emulator.app import Emulator
from emulator.config import Settings
from tests.browser.conftest import Violations
from tests.browser.site import Site

TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder: Path = tmp_path_factory.mktemp("token")
    return Settings(port=0, data_dir=folder, bundled_models=False, workers=1, auth_token=TOKEN)


def test_browser_signs_in_by_the_form(foreign_page: Page, emulator: Emulator, site: Site) -> None:
    page = foreign_page
    answer = page.goto("/docs")
    assert answer is not None
    assert answer.status == 401
    page.get_by_label("Token").fill("not-the-token")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("That token is not this emulator's.")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("Vertex AI batch prediction emulator").first.wait_for()
    assert page.url.endswith("/docs")
    assert page.evaluate("document.cookie") == ""
    assert page.evaluate("fetch('/_emulator/info').then(answer => answer.status)") == 200
    page.goto(site.url("evil.example"))
    blocked = "url => fetch(url, {credentials: 'include'}).then(() => 'read', () => 'blocked')"
    assert page.evaluate(blocked, f"{emulator.url}/_emulator/info") == "blocked"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_form_is_for_everybody(context: BrowserContext, violations: Violations, scheme: Any) -> None:
    page = context.new_page()
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme=scheme)
    page.goto("/console")
    assert violations(page) == []
    # By keys: the field has the focus, and Enter sends the form.
    page.keyboard.type("not-the-token")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Batch predictions", exact=True)).to_be_visible()
