"""How fast the console is in a real Chromium: a list of 20,000 jobs, and the player of a 3-hour video.

The jobs are of a seed: ended, as they would be after months. Goal: first paint within a second. The video
has 1,000 tracks of 100 boxes each. Goals: it opens within 2 s, the timeline follows every move of the
pointer, and playing for ten minutes takes no more memory than one minute (`--minutes`).
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
from clips import CACHE
from measure import arguments, median, report
from playwright.sync_api import Browser, Page, expect, sync_playwright

from emulator.app import Emulator
from emulator.config import Settings

JOBS = 20_000
PARENT = "projects/my-project/locations/us-central1"
HOURS_S, FPS, SIZE = 3 * 3600, 5, (64, 36)
TRACKS, BOXES = 1_000, 100
PLACE = "/console/projects/my-project/locations/us-central1/batch-predictions"
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"


def write_seed(folder: Path) -> None:
    with (folder / "jobs.jsonl").open("w") as file:
        for number in range(JOBS):
            job = {
                "displayName": f"job {number}",
                "model": f"{PARENT}/models/video-object-tracking",
                "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://bucket/in.jsonl"]}},
                "outputConfig": {
                    "predictionsFormat": "jsonl",
                    "gcsDestination": {"outputUriPrefix": "gs://bucket/out"},
                },
                "labels": {"run": str(number % 100)},
                "state": "JOB_STATE_FAILED" if number % 1000 == 7 else "JOB_STATE_SUCCEEDED",
                "completionStats": {"successfulCount": "1"},
                "createTime": created(number),
            }
            file.write(json.dumps({"parent": PARENT, "batchPredictionJob": job}) + "\n")


def created(number: int) -> str:
    return f"2026-01-{1 + number // 1000:02}T00:{number % 1000 // 60:02}:{number % 60:02}Z"


@contextmanager
def server() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as seed, tempfile.TemporaryDirectory() as data:
        write_seed(Path(seed))
        settings = Settings(port=0, grpc=False, data_dir=Path(data), seed_dir=Path(seed), workers=1)
        with Emulator(settings) as emulator:
            yield emulator.url


def opened(page: Page, url: str) -> tuple[float, float]:
    """Seconds to the first paint, and to fifty rows."""
    began = time.perf_counter()
    page.goto(url)
    expect(page.get_by_role("row")).to_have_count(51)
    rows = time.perf_counter() - began
    return float(page.evaluate(PAINT)), rows


def filtered(page: Page) -> float:
    """Seconds from a click on Failed, twenty of all jobs, to these."""
    began = time.perf_counter()
    page.get_by_role("button", name="Failed").click()
    expect(page.get_by_role("row")).to_have_count(21)
    return time.perf_counter() - began


def three_hours() -> Path:
    """A video of three hours, kept from one run to the next."""
    path = CACHE / f"console-{HOURS_S}-{FPS}.webm"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.webm")
        with av.open(str(part), "w") as file:
            options = {"deadline": "realtime", "cpu-used": "8"}
            stream: Any = file.add_stream("libvpx", rate=FPS, options=options)
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
            for number in range(HOURS_S * FPS):
                shade = np.full((SIZE[1], SIZE[0], 3), number % 200 + 20, np.uint8)
                file.mux(stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
            file.mux(stream.encode())
        part.rename(path)
    return path


def tracks() -> list[dict[str, Any]]:
    """A hundred thousand boxes, ten a second, evenly over the three hours."""
    return [
        {
            "id": str(number % 8 + 1),
            "displayName": f"label {number % 8}",
            "confidence": 0.5 + number % 50 / 100,
            "frames": [
                box(number * HOURS_S // TRACKS * 10 + moment, moment / BOXES) for moment in range(BOXES)
            ],
        }
        for number in range(TRACKS)
    ]


def box(tenths: int, part: float) -> dict[str, Any]:
    left = 0.1 + 0.6 * part
    time_offset = f"{tenths / 10:.1f}s"
    return {"timeOffset": time_offset, "xMin": left, "xMax": left + 0.2, "yMin": 0.3, "yMax": 0.6}


@contextmanager
def long_job() -> Iterator[str]:
    """The player's page of a job over the video."""
    with tempfile.TemporaryDirectory() as data:
        settings = Settings(port=0, grpc=False, data_dir=Path(data), workers=1, bundled_models=False)
        bucket = settings.buckets / "bucket"
        bucket.mkdir(parents=True)
        shutil.copyfile(three_hours(), bucket / "long.webm")  # no link leads out of a bucket
        line = {"content": "gs://bucket/long.webm", "mimeType": "video/mp4"}
        (bucket / "in.jsonl").write_text(json.dumps(line) + "\n")
        with Emulator(settings) as emulator, httpx.Client(base_url=emulator.url, trust_env=False) as http:
            yield f"{emulator.url}{PLACE}/{run(http)}/results/1"


def run(http: httpx.Client) -> str:
    """Run the job; its id."""
    lines = [{"video": "*", "prediction": tracks()}]
    made = {"parent": PARENT, "modelId": "long", "objective": "object_tracking", "lines": lines}
    http.post("/_emulator/canned", json=made, timeout=120).raise_for_status()
    body = {
        "displayName": "three hours",
        "model": f"{PARENT}/models/long",
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://bucket/in.jsonl"]}},
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": "gs://bucket/out"},
        },
    }
    created = http.post(f"/v1/{PARENT}/batchPredictionJobs", json=body, timeout=60).raise_for_status().json()
    number = str(created["name"]).rpartition("/")[2]
    http.get(f"/_emulator/jobs/{number}/wait", params={"timeout": 60}, timeout=90).raise_for_status()
    return number


def open_player(page: Page, url: str) -> float:
    """Seconds until the first picture and all predictions are there."""
    began = time.perf_counter()
    page.goto(url)
    expect(page.get_by_text("1,000 of 1,000")).to_be_visible()
    page.locator(".picture-loading").wait_for(state="detached")
    return time.perf_counter() - began


def panned(page: Page) -> tuple[float, float]:
    """The moves of a pointer over the timeline that were drawn, of each that was made; and the longest that
    the page did not answer, in seconds."""
    for _ in range(5):
        page.get_by_role("button", name="Zoom in").click()
    place = page.locator(".lane-area canvas").bounding_box()
    assert place is not None
    page.evaluate(WATCH)
    left, y = place["x"] + 40, place["y"] + 60
    page.mouse.move(left, y)
    page.mouse.down()
    for step in range(MOVES):
        page.mouse.move(left + step * (place["width"] - 80) / MOVES, y)
    page.mouse.up()
    seen = page.evaluate("window.seen")
    return seen["moves"] / MOVES, seen["longest"] / 1000


MOVES = 200
WATCH = """() => {
    window.seen = { moves: 0, longest: 0 };
    const canvas = document.querySelector(".lane-area canvas");
    canvas.addEventListener("pointermove", () => (window.seen.moves += 1));
    let last = performance.now();
    setInterval(() => {
        const now = performance.now();
        window.seen.longest = Math.max(window.seen.longest, now - last);
        last = now;
    }, 0);
}"""


def played(page: Page, minutes: int) -> list[float]:
    """Megabytes that the page holds after each minute of play."""
    session = page.context.new_cdp_session(page)
    page.get_by_role("button", name="Play", exact=True).click()
    found = []
    for _ in range(minutes):
        page.wait_for_timeout(60_000)
        session.send("HeapProfiler.collectGarbage")
        found.append(float(session.send("Runtime.getHeapUsage")["usedSize"]) / 2**20)
    return found


def long_video(browser: Browser, rounds: int, minutes: int) -> list[dict[str, object]]:
    opens, moves, longest = [], [], []
    held: list[float] = []
    with long_job() as url:
        for number in range(rounds):
            page = browser.new_page()
            opens.append(open_player(page, url))
            share, silent = panned(page)
            moves.append(share)
            longest.append(silent)
            if number == rounds - 1:
                held = played(page, minutes)
            page.close()
    return [
        {"what": "3 hours, 100,000 boxes: opened", "median": 1000 * median(opens), "unit": "ms"},
        {"what": "timeline dragged: moves drawn", "median": 100 * median(moves), "unit": "%"},
        {"what": "timeline dragged: longest silence", "median": 1000 * median(longest), "unit": "ms"},
        {"what": "memory after 1 minute of play", "median": held[0], "unit": "MB"},
        {"what": f"memory after {minutes} minutes of play", "median": held[-1], "unit": "MB"},
    ]


def many_jobs(browser: Browser, rounds: int) -> list[dict[str, object]]:
    samples: dict[str, list[float]] = {"first paint": [], "50 rows shown": [], "filtered to 20": []}
    with server() as url:
        for _ in range(rounds):
            page = browser.new_page()
            figures = (*opened(page, f"{url}{PLACE}"), filtered(page))
            for values, figure in zip(samples.values(), figures, strict=True):
                values.append(figure)
            page.close()
    return [
        {"what": f"{JOBS:,} jobs: {name}", "median": 1000 * median(values), "unit": "ms"}
        for name, values in samples.items()
    ]


def main() -> None:
    options = arguments(__doc__, minutes=(10, "how long the 3-hour video plays"))
    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), chromium_sandbox=os.geteuid() != 0
        )
        rows = [*many_jobs(browser, options.rounds), *long_video(browser, options.rounds, options.minutes)]
        browser.close()
    report("The console", rows, options.json)


if __name__ == "__main__":
    main()
