"""A real Chromium, a real emulator, and a foreign web site.

`page` is a tab that must stay clean: the test fails if the page logs a warning or an error, throws, or asks
another origin than the emulator's for anything. `foreign_page` is a tab without these rules, for attacks.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from emulator.app import Emulator
from emulator.config import Settings
from tests.browser.site import RESOLVER_RULES, Site, serve_site
from tests.control.project import Project, client_of, make_settings

CHROMIUM_VARIABLE = "EMULATOR_TEST_CHROMIUM"
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_TIMEOUT_MS = 30_000
_AXE_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

Violations = Callable[[Page], list[str]]
"""What axe finds on a page, with the elements."""

# A condition that holds is seen at once; the limit is for busy machines.
expect.set_options(timeout=_TIMEOUT_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(folder):
            item.add_marker("browser")


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The browser's program; the test is skipped where there is none."""
    named = os.environ.get(CHROMIUM_VARIABLE)
    found = named or next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if found is None:
        pytest.skip(
            f"Chromium is missing; `make test-browser` installs it, or name it by {CHROMIUM_VARIABLE}"
        )
    return found


# Playwright runs an event loop in the test's thread. It ends with the module, so that tests elsewhere in the
# same process can run loops of their own.
@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    arguments = [f"--host-resolver-rules={RESOLVER_RULES}", "--no-proxy-server"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium_path, args=arguments, chromium_sandbox=os.geteuid() != 0
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """What the module's emulator is told to do; a module may have a fixture of its own of this name."""
    return make_settings(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def emulator(settings: Settings) -> Iterator[Emulator]:
    """A real emulator with a tiny model and the video gs://bucket/a.mp4."""
    with Emulator(settings) as emulator:
        yield emulator


@pytest.fixture
def project(emulator: Emulator) -> Iterator[Project]:
    """A project of the test's own, called over REST."""
    with client_of(emulator) as http:
        yield Project(emulator, http, emulator.settings.buckets)


@pytest.fixture
def context(browser: Browser, emulator: Emulator) -> Iterator[BrowserContext]:
    """A fresh browser profile, in which relative addresses are the emulator's."""
    context = browser.new_context(base_url=emulator.url)
    context.set_default_timeout(_TIMEOUT_MS)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, emulator: Emulator) -> Iterator[Page]:
    """A tab of the emulator's own pages, which must stay clean."""
    page = context.new_page()
    problems = watch(page, emulator.url)
    yield page
    assert not problems, "\n".join(problems)


@pytest.fixture
def open_page(context: BrowserContext, emulator: Emulator) -> Iterator[Page]:
    """As `page`, but the browser may note that the server answered with an error, or not at all."""
    page = context.new_page()
    problems = watch(page, emulator.url)
    yield page
    unclean = [one for one in problems if "Failed to load resource" not in one]
    assert not unclean, "\n".join(unclean)


@pytest.fixture
def foreign_page(context: BrowserContext) -> Page:
    """A tab for pages of other sites."""
    return context.new_page()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A foreign web site."""
    with serve_site() as site:
        yield site


def watch(page: Page, origin: str) -> list[str]:
    """Collect what a clean page does not do: log warnings and errors, throw, ask other origins."""
    problems: list[str] = []

    def on_request(url: str) -> None:
        if not url.startswith((f"{origin}/", "data:", "blob:")):
            problems.append(f"request to another origin: {url}")

    page.on(
        "console",
        lambda message: (
            problems.append(f"console {message.type}: {message.text}")
            if message.type in ("warning", "error")
            else None
        ),
    )
    page.on("pageerror", lambda error: problems.append(f"uncaught: {error}"))
    page.on("request", lambda request: on_request(request.url))
    return problems


@pytest.fixture(scope="session")
def violations() -> Violations:
    """Runs axe-core, which npm keeps in its cache."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is missing, which fetches axe-core; on Debian: apt-get install npm")
    folder = Path(__file__).parent
    cache = folder.parents[1] / ".cache" / "axe"
    program = cache / "node_modules" / "axe-core" / "axe.min.js"
    wanted = (folder / "package.json").read_text()
    if not program.exists() or (cache / "package.json").read_text() != wanted:
        cache.mkdir(parents=True, exist_ok=True)
        (cache / "package.json").write_text(wanted)
        subprocess.run([npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=cache, check=True)
    axe = program.read_text(encoding="utf-8")
    options = json.dumps({"runOnly": {"type": "tag", "values": _AXE_RULES}})

    def run(page: Page) -> list[str]:
        page.evaluate(axe)
        result = page.evaluate(f"() => axe.run(document, {options})")
        return [
            f"{one['id']}: {one['help']}: {[node['html'][:160] for node in one['nodes'][:3]]}"
            for one in result["violations"]
        ]

    return run
