"""`make screenshots`: renew the pictures of docs/console.md, from a server with a few jobs."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, sync_playwright

from emulator.app import Emulator
from emulator.config import Settings
from emulator.factory import Truth, action_documentation_clip, documentation_clip, render
from emulator.factory.example import CODEC, SUFFIX
from tests.control.project import LOCATION, Project, client_of

FOLDER = Path(__file__).parents[2] / "docs" / "console"
_PROJECT = "my-project"
_JOBS = f"/console/projects/{_PROJECT}/locations/{LOCATION}/batch-predictions"


@dataclass(frozen=True)
class Shot:
    """A picture: its file, the address, what is done there, and how it is shown."""

    name: str
    path: str
    act: Callable[[Page], None] = lambda page: None  # noqa: ARG005
    scheme: Literal["light", "dark"] = "light"
    size: tuple[int, int] = (1200, 700)


def main() -> None:
    """Write every picture."""
    chromium = os.environ.get("EMULATOR_TEST_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        sys.exit("Chromium is missing; on Debian: apt-get install chromium.")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as data:
        settings = Settings(port=0, grpc=False, data_dir=Path(data), provider="cpu", workers=1)
        with Emulator(settings) as emulator, client_of(emulator) as http, sync_playwright() as playwright:
            shots = prepare(Project(emulator, http, settings.buckets, _PROJECT))
            browser = playwright.chromium.launch(executable_path=chromium, chromium_sandbox=os.geteuid() != 0)
            for shot in shots:
                take(browser, emulator.url, shot)
            browser.close()


def prepare(project: Project) -> list[Shot]:
    """Make the jobs that the pictures show."""
    bucket = project.buckets / "bucket"
    bucket.mkdir(parents=True)
    pets = f"pets{SUFFIX}"
    truth = render(documentation_clip(), bucket / pets, codec=CODEC)
    truth.write(bucket / pets)
    expect_otherwise(truth, bucket / "expected.jsonl")
    render(action_documentation_clip(), bucket / "sports.mp4")
    tracking, actions = "video-object-tracking", "video-action-recognition"
    project.finish(project.create(pets, model=tracking, name="cats-and-dogs", labels={"team": "pets"}))
    project.finish(project.create("sports.mp4", model=actions, name="swings-and-jumps"))
    project.finish(project.create("lost.mp4", model=tracking, name="nightly-0412", labels={"run": "nightly"}))
    half = project.create(pets, "lost.mp4", model=tracking, name="nightly-0413", labels={"run": "nightly"})
    project.finish(half)
    project.pace("pending=hold")
    project.create(pets, model=tracking, name="nightly-0414", labels={"run": "nightly"})
    project.pace("running=hold")
    running = project.create(pets, "sports.mp4", model=tracking, name="two-videos")
    project.wait(running, "RUNNING", held="true")
    project.pace("real")
    job = f"{_JOBS}/{half.rpartition('/')[2]}"
    return [
        Shot("list", _JOBS),
        Shot("list-dark", _JOBS, scheme="dark"),
        Shot("narrow", _JOBS, size=(360, 700)),
        Shot("form", f"{_JOBS}/create", fill, size=(1200, 860)),
        Shot("player", f"{job}/results/1?t=2.000s&track=2", size=(1200, 760)),
        Shot(
            "compare",
            f"{job}/results/1?t=2.000s&with=gs%3A%2F%2Fbucket%2Fexpected.jsonl",
            lambda page: page.get_by_text("1 matched, 2 missed, 2 extra").wait_for(),
            size=(1200, 760),
        ),
        Shot("job", f"{job}/errors", scheme="dark", size=(1200, 520)),
        Shot(
            "requests",
            "/console/requests",
            lambda page: page.locator("summary").first.click(),
            size=(1200, 560),
        ),
    ]


def expect_otherwise(truth: Truth, path: Path) -> None:
    """Write an expected file: a cat a little to the right, the dog as it is, and a bird."""
    cat, dog, _ = truth.object_tracking()
    moved = [{**frame, **{name: frame[name] + 0.08 for name in ("xMin", "xMax")}} for frame in cat["frames"]]
    corner = {"xMin": 0.44, "xMax": 0.56, "yMin": 0.08, "yMax": 0.24}
    bird = {"displayName": "bird", "timeSegmentStart": "1.500s", "timeSegmentEnd": "4.200s"}
    flight = [{"timeOffset": f"{tenth / 10:g}s", **corner} for tenth in range(15, 43)]
    line = {"video": "*", "prediction": [{**cat, "frames": moved}, dog, {**bird, "frames": flight}]}
    path.write_text(json.dumps(line) + "\n")


def fill(page: Page) -> None:
    page.get_by_label("Name", exact=True).fill("cats-and-dogs")
    page.get_by_label("Model name").select_option(label="video-object-tracking")
    page.get_by_label("Source path", exact=True).fill("gs://bucket/in-*.jsonl")
    page.get_by_label("Destination path", exact=True).fill("gs://results/pets")
    page.get_by_label("Confidence threshold").fill("0.5")
    page.get_by_role("heading", level=1).focus()
    page.evaluate("scrollTo(0, 0)")


def take(browser: Browser, url: str, shot: Shot) -> None:
    """Write one picture."""
    width, height = shot.size
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=shot.scheme)
    page.goto(f"{url}{shot.path}")
    page.get_by_role("heading", level=1).wait_for()
    page.get_by_text("Ready", exact=True).wait_for()
    page.wait_for_timeout(600)
    page.locator(".picture-loading").wait_for(state="detached")
    shot.act(page)
    page.wait_for_timeout(300)
    page.screenshot(path=FOLDER / f"{shot.name}.png")
    page.close()


if __name__ == "__main__":
    main()
