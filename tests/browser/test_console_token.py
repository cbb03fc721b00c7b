"""The console of a server that asks for a token."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from emulator.config import Settings

TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder: Path = tmp_path_factory.mktemp("console-token")
    return Settings(port=0, data_dir=folder, bundled_models=False, workers=1, auth_token=TOKEN)


def test_session_that_ends_is_begun_again_in_place(open_page: Page, context: BrowserContext) -> None:
    page = open_page
    page.goto("/console/projects/p/locations/l/batch-predictions")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("No batch predictions in p / l yet.")).to_be_visible()
    context.clear_cookies()
    page.get_by_role("link", name="Models").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Token").fill("not-the-token")
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog.get_by_label("Token")).to_have_accessible_description(re.compile("not this emulator's"))
    dialog.get_by_label("Token").fill(TOKEN)
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog).to_have_count(0)
    expect(page.get_by_text("No models in p / l.")).to_be_visible()
